"""Ray actors that do the same work, and the items that they have in hand.

What is waited for are futures, not Ray's own objects: `ray.get` and `ray.wait` swallow whatever a
signal's handler raises, unless it is a KeyboardInterrupt.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redpencil.errors import ClusterError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 16
"""How many items for each place may end before the oldest one does."""
_ATTEMPTS = 3


@dataclass
class _Job(Generic[Item]):
    """An item, and how many actors died that had it."""

    number: int
    item: Item
    deaths: int = 0


class _Worker:
    """What an actor is."""

    def begin(self, prepare: Callable[[], Callable[[Any], Any]], folder: str) -> None:
        """Get ready to work, in the folder of that name where this machine has it too."""
        with suppress(OSError):
            os.chdir(folder)
        self._work = prepare()

    def work(self, item: Any) -> Any:
        return self._work(item)


class Crew(Generic[Item, Result]):
    """So many actors, and as many again where some die."""

    def __init__(
        self,
        prepare: Callable[[], Callable[[Item], Result]],
        actors: int,
        needs: Mapping[str, int],
        at_once: int = 1,
    ) -> None:
        """Nothing is started yet.

        Args:
            prepare: called once by each actor, gives what is done with an item.
            actors: how many there are to be, as the cluster has room for them.
            needs: the resources that each holds, by Ray's names.
            at_once: items that each has in hand, every one in a thread of its own.
        """
        self._prepare: Any = prepare
        self._count = actors
        self._at_once = at_once
        self._options = {**needs, "max_concurrency": at_once}
        self._actors: set[Any] = set()
        self._starting: dict[Future[None], Any] = {}
        self._places: deque[Any] = deque()
        """Each actor as often as it can take one more item."""
        self._working: dict[Future[Result], tuple[Any, _Job[Item]]] = {}
        self._again: deque[_Job[Item]] = deque()
        self._stillborn = 0

    def results(self, items: Iterable[Item]) -> Generator[tuple[int, Result], None, None]:
        """Each item's number, from 0, and result, when it ends; to be had once.

        Raises:
            ClusterError: actors died again and again over the same item, or as they started.
        """
        import ray

        jobs = (_Job(number, item) for number, item in enumerate(items))
        self._prepare = ray.put(self._prepare)
        try:
            for _ in range(self._count):
                self._hire()
            following = next(jobs, None)
            while following or self._again or self._working:
                while self._places and (self._again or (following and self._is_near(following))):
                    if self._again:
                        self._give(self._again.popleft())
                    elif following:
                        self._give(following)
                        following = next(jobs, None)
                awaited: list[Future[Any]] = [*self._starting, *self._working]
                done, _ = wait(awaited, return_when=FIRST_COMPLETED)
                for future in done:
                    if future in self._starting:
                        self._welcome(future)
                    else:
                        yield from self._take(future)
        finally:
            if ray.is_initialized():  # else they are gone, and Ray would be started anew
                for actor in self._actors:
                    ray.kill(actor)

    def _hire(self) -> None:
        import ray

        actor = ray.remote(_Worker).options(**self._options).remote()
        self._actors.add(actor)
        self._starting[actor.begin.remote(self._prepare, os.getcwd()).future()] = actor

    def _dismiss(self, actor: Any) -> None:
        """Do without an actor that is dead, or out of reach."""
        import ray

        self._actors.discard(actor)
        self._places = deque(place for place in self._places if place != actor)
        ray.kill(actor)

    def _welcome(self, future: Future[None]) -> None:
        actor = self._starting.pop(future)
        if fault := _fault(future):
            self._dismiss(actor)
            self._stillborn += 1
            if self._stillborn == _ATTEMPTS:
                raise ClusterError(
                    f"{_ATTEMPTS} workers died as they started ({fault}): is redpencil installed "
                    "on every machine, and memory enough for the model?"
                )
            self._hire()
        else:
            self._stillborn = 0
            self._places.extend([actor] * self._at_once)

    def _is_near(self, job: _Job[Item]) -> bool:
        """Whether it may be begun although the oldest item under way has not ended."""
        oldest = min((held.number for _, held in self._working.values()), default=job.number)
        return job.number - oldest < _AHEAD * self._count * self._at_once

    def _give(self, job: _Job[Item]) -> None:
        actor = self._places.popleft()
        self._working[actor.work.remote(job.item).future()] = actor, job

    def _take(self, future: Future[Result]) -> Iterator[tuple[int, Result]]:
        actor, job = self._working.pop(future)
        if fault := _fault(future):
            if actor in self._actors:
                self._dismiss(actor)
                self._hire()
            job.deaths += 1
            if job.deaths == _ATTEMPTS:
                raise ClusterError(f"{_ATTEMPTS} workers died over the same work ({fault})")
            self._again.append(job)
        else:
            self._places.append(actor)
            yield job.number, future.result()


def _fault(future: Future[Any]) -> str:
    """Why the cluster failed to do a call, empty where it did it; what the call raised is raised.

    The work's own errors arrive wrapped, theirs inside.
    """
    from ray.exceptions import RayError, RayTaskError

    error = future.exception()
    if isinstance(error, RayTaskError):
        raise error.cause if isinstance(error.cause, Exception) else error
    if error is not None and not isinstance(error, RayError):
        raise error
    return " ".join(str(error).split()) if error else ""
