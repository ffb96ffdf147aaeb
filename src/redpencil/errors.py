"""Everything redpencil raises on purpose.

RedpencilError
├── ParseError          text that is not one command of the editing language
├── ApplyError          a command that the current page cannot take
├── DataError           a file, line or field that is not what it should be
├── UsageError          a request that cannot be met as asked; says what to do instead
│   └── MissingDependency   an optional package is absent; names the command that adds it
├── EngineError         a model could not be sampled from, after all retries
├── SandboxError        the machinery that runs programs failed (never the program itself)
└── ClusterError        the machines that work was given to failed (never the work itself)

The command line prints any of them as one line and exits with code 2.
"""

from __future__ import annotations


class RedpencilError(Exception):
    """Root of all errors that redpencil raises on purpose."""


class ParseError(RedpencilError):
    """The text is not one command of the editing language."""


class ApplyError(RedpencilError):
    """The command is well formed, but the current page cannot take it."""


class DataError(RedpencilError):
    """A file is not what it should be; the message names the file, line or field."""


class UsageError(RedpencilError):
    """The request cannot be met as asked; the message says what to do instead."""


class MissingDependency(UsageError):
    """An optional package is not installed; the message names the command that adds it."""


class EngineError(RedpencilError):
    """A model could not be sampled from, which says nothing about the model."""


class SandboxError(RedpencilError):
    """The machinery that runs programs failed, which says nothing about the program."""


class ClusterError(RedpencilError):
    """The machines that work was given to failed, which says nothing about the work."""
