"""Threads of this process as workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from redpencil.provenance import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 16


@dataclass(frozen=True)
class Threads:
    """So many threads, one for each core unless told otherwise."""

    count: int = usable_cores()

    def in_order(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """See `Workers`; closing the iterator also waits for what was begun."""
        ahead: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self.count) as pool:
            try:
                for item in items:
                    ahead.append(pool.submit(function, item))
                    if len(ahead) > _AHEAD * self.count:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()
