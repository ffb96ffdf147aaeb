"""Who plays the episodes of a plan: its policy in this process, or one in each of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread

from redpencil.errors import UsageError
from redpencil.evaluate import ASKING, Asking, Plan, make_policy, on_this_machine
from redpencil.parallel import Cluster
from redpencil.policy import Policy
from redpencil.rollout import CONCURRENCY, Episode, EpisodeKey, Play, episode_key, rollout
from redpencil.types import Trace


def players(plan: Plan, cluster: Cluster | None = None, asking: Asking = ASKING) -> Play:
    """What plays the episodes of a plan.

    Args:
        cluster: on whose machines to play; each worker there loads the model. None plays here.

    Raises:
        UsageError: there is no such model, adapter or server; limits of a server but none; or a
            server and a cluster.
        MissingDependency: a package is missing; the message names the command that adds it.
    """
    if cluster is None:
        return partial(rollout, policy=make_policy(plan, asking))
    if plan.server is not None or asking != ASKING:
        raise UsageError(
            "--server and --workers ray: the model runs on its server, which one machine can ask"
        )
    prepare = partial(_player, on_this_machine(plan))
    return partial(cluster.as_they_end, prepare, at_once=CONCURRENCY)


class Player:
    """Plays each episode that it is called with; all that are under way are one rollout.

    It is to be called from many threads at once, so that an engine's batch is never emptied to be
    filled again.
    """

    def __init__(self, policy: Policy) -> None:
        """Nothing is played yet."""
        self._policy = policy
        self._arrived: SimpleQueue[tuple[Episode, Future[Trace]]] = SimpleQueue()
        self._playing: dict[EpisodeKey, Future[Trace]] = {}
        Thread(target=self._play, daemon=True).start()

    def __call__(self, episode: Episode) -> Trace:
        """The episode's trace; raises what the rollout raises, in which it takes part."""
        trace: Future[Trace] = Future()
        self._arrived.put((episode, trace))
        return trace.result()

    def _play(self) -> None:
        while True:
            try:
                for trace in rollout(self._arrivals(), self._policy):
                    self._playing.pop(episode_key(trace.task, trace.seed)).set_result(trace)
            except Exception as error:
                for waiting in self._playing.values():
                    waiting.set_exception(error)
                self._playing.clear()

    def _arrivals(self) -> Iterator[Episode | None]:
        """Episodes as they are asked for; waits for one while there is none to go on with."""
        while True:
            try:
                episode, trace = self._arrived.get(block=not self._playing)
            except Empty:
                yield None
            else:
                self._playing[episode_key(episode.env.task, episode.seed)] = trace
                yield episode


def _player(plan: Plan) -> Callable[[Episode], Trace]:
    return Player(make_policy(plan))
