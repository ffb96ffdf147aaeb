"""Several processes that train together, as `accelerate launch` starts them.

They share each step's traces; the first of them writes all files and speaks to the terminal.
"""

from __future__ import annotations

import os

from redpencil.engine.weights import sharded
from redpencil.errors import UsageError


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def require_whole_weights(who: str) -> None:
    """Refuse weights in pieces to what computes with all of them in one process.

    Raises:
        UsageError: the processes hold the weights in pieces (FSDP).
    """
    if sharded():
        raise UsageError(
            f"{who} needs the whole model in each process, and FSDP leaves it in pieces: launch "
            "with ddp.yaml or deepspeed.yaml"
        )


def share(number: int, what: str) -> int:
    """A process's share of `number` things.

    Raises:
        UsageError: they cannot be shared out evenly.
    """
    if number % count():
        raise UsageError(
            f"{what} {number} cannot be shared by {count()} processes: take a multiple"
        )
    return number // count()
