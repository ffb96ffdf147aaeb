"""redpencil: small language models that think by editing.

After "Replacing thinking with tool usage enables reasoning in small language models"
(arXiv 2507.05065). Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
