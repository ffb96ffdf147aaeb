"""The problems on board: plain functions and classes, each stated and shown by its docstring.

They are written the way a user's own module would be (no annotations, nothing imported but the
standard library) and are read by the same loader, `redpencil.tasks.doctests`, which never imports
them. Of each problem's examples the first three are shown to the policy; the others are hidden.
"""
