"""Where work runs: in threads of this process, or on the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from redpencil.parallel.cluster import Cluster, joined
from redpencil.parallel.threads import Threads

__all__ = ["Cluster", "Threads", "Workers", "joined"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Protocol):
    """Do the same work with many items, several at once."""

    def in_order(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """The function's results for the items, in the items' order.

        Workers run ahead of what was asked for, but not for ever. Closing the iterator drops what
        was not begun. What the function raises is raised here.
        """
