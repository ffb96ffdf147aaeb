"""A Ray cluster's machines as workers.

Ray's actors do the work, each a process on some machine. The items stay here, and are handed out
one by one: one whose actor dies goes to another, and a new actor takes the dead one's place as soon
as the cluster has room for it.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import length_hint
from typing import Any, TypeVar

from redpencil.errors import ClusterError, MissingDependency
from redpencil.parallel.crew import Crew
from redpencil.provenance import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_STORE_BYTES = 100 << 20
"""Of shared memory that a local Ray sets aside: what we send and get is small."""


@contextmanager
def joined() -> Iterator[Cluster]:
    """Join the Ray cluster at $RAY_ADDRESS, or start one on this machine where it names none.

    At the end it is left, or stopped.

    Raises:
        MissingDependency: Ray is not installed.
        ClusterError: there is no cluster at that address, or none could be started.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingDependency("a cluster is reached by Ray: pip install 'redpencil[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    address = os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = {
        "num_cpus": usable_cores(),
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
    }
    try:
        ray.init(
            address or "local",
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **({} if address else own),
        )
    except Exception as error:  # whatever it is, the cause lies with the cluster
        where = f"no Ray cluster at RAY_ADDRESS={address}" if address else "Ray does not start here"
        reason = str(error).strip().partition("\n")[0]
        raise ClusterError(f"{where}: {reason}") from error
    try:
        found = ray.cluster_resources()
        yield Cluster(address or "", int(found.get("CPU", 0)), int(found.get("GPU", 0)))
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process has joined, see `joined`."""

    address: str
    """Empty where it was started for this process alone."""
    cpus: int
    gpus: int

    def __str__(self) -> str:
        where = f"Ray cluster at {self.address}" if self.address else "Ray started on this machine"
        return f"{where}: {self.cpus} CPUs, {self.gpus} GPUs"

    def in_order(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """See `Workers`; an actor for each CPU. What is under way ends when the iterator does.

        Raises:
            ClusterError: actors died again and again over the same item.
        """
        ended: dict[int, Result] = {}
        asked = 0
        actors = max(1, min(self.cpus, length_hint(items, self.cpus)))
        crew = Crew(lambda: function, actors, {"num_cpus": 1})
        with closing(crew.results(items)) as results:
            for number, result in results:
                ended[number] = result
                while asked in ended:
                    yield ended.pop(asked)
                    asked += 1

    def as_they_end(
        self,
        prepare: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        at_once: int,
    ) -> Iterator[Result]:
        """The results of what `prepare` gives, each as soon as there is one.

        There is an actor for each GPU, and for each CPU where there is no GPU. Each of them calls
        `prepare` once, then what it gave from up to `at_once` threads. Closing the iterator ends
        what is under way.

        Raises:
            ClusterError: actors died again and again over the same item, or as they started.
        """
        needs = {"num_cpus": 1, "num_gpus": 1} if self.gpus else {"num_cpus": 1}
        actors = max(1, min(self.gpus or self.cpus, len(items)))
        crew = Crew(prepare, actors, needs, min(at_once, math.ceil(len(items) / actors)))
        with closing(crew.results(items)) as results:
            for _, result in results:
                yield result
