"""Many episodes at once, into traces: the only loop over turns in the project."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import msgspec

from redpencil.env import Env, Step
from redpencil.errors import EngineError, SandboxError
from redpencil.files import append_jsonl, read_jsonl, write_jsonl
from redpencil.policy import Action, Outcome, Policy, Session
from redpencil.provenance import usable_cores
from redpencil.types import End, Observation, Task, Trace, Turn

CONCURRENCY = 32
"""Episodes under way at once where neither the caller nor the policy has a limit."""

OnTrace = Callable[[Trace, bool], None]
"""Told of each trace, and whether it was sampled just now or found in the file."""


_END = object()
_PATIENCE = 0.02
"""Seconds after which an episode that had not come yet is asked for again."""


@dataclass(frozen=True)
class Episode:
    """An episode to play: its environment, its seed, and how its program was broken."""

    env: Env
    seed: int = 0
    corruptions: tuple[str, ...] = ()


Play = Callable[[Sequence[Episode]], Iterator[Trace]]
"""Plays episodes and gives each one's trace when it ends: `rollout` with its policy filled in."""


def rollout(
    episodes: Iterable[Episode | None],
    policy: Policy,
    *,
    concurrency: int | None = None,
    checkers: int | None = None,
) -> Iterator[Trace]:
    """Play episodes with a policy and yield each trace when its episode ends.

    None waits for another: while the policy acts in some, threads run the programs of others. A
    fault of the infrastructure ends its own episode with an error on the trace; the others go on.
    Closing the iterator ends all that are under way.

    Args:
        episodes: None stands for one that has not come yet; what is under way goes on.
        concurrency: most episodes under way; by default as many as the policy can hold.
        checkers: threads that run programs; by default one for each core, two at least.
    """
    source = iter(episodes)
    limits = [most for most in (concurrency, policy.capacity) if most is not None]
    limit = min(limits, default=CONCURRENCY)
    acting: dict[Session, _Play] = {}
    checking: dict[Future[None], _Play] = {}
    exhausted = False
    with ThreadPoolExecutor(checkers or max(2, usable_cores())) as pool:
        try:
            while True:
                patience = None
                while not exhausted and len(acting) + len(checking) < limit:
                    episode = next(source, _END)
                    exhausted = episode is _END
                    if not isinstance(episode, Episode):
                        patience = None if exhausted else _PATIENCE
                        break
                    play = _Play(episode, policy)
                    checking[pool.submit(play.reset)] = play
                if exhausted and not acting and not checking:
                    return
                checked, _ = wait(
                    checking, timeout=0 if acting else patience, return_when=FIRST_COMPLETED
                )
                for future in checked:
                    play = checking[future]
                    future.result()
                    play.begin(policy)
                    del checking[future]
                    if play.end is None:
                        acting[play.session] = play
                    else:
                        yield play.trace()
                for session, outcome in policy.step() if acting else ():
                    play = acting.pop(session)
                    checking[pool.submit(play.take, outcome)] = play
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for play in (*acting.values(), *checking.values()):
                play.session.close()


def rollout_to_file(
    path: Path,
    episodes: Sequence[Episode],
    play: Play,
    *,
    on_trace: OnTrace = lambda trace, sampled: None,
) -> list[Trace]:
    """Play episodes, each of another task, program or seed, and write their traces to a file.

    Traces are appended as they end, so what was interrupted goes on where it was; traces that a
    fault of the infrastructure ended are made anew. In the end the file holds these episodes alone,
    in a fixed order.
    """
    found = read_jsonl(path, Trace, torn_tail=True) if path.exists() else []
    asked = {episode_key(episode.env.task, episode.seed): episode for episode in episodes}
    traces = {
        key: trace
        for trace in found
        if trace.end != "error" and (key := episode_key(trace.task, trace.seed)) in asked
    }
    for trace in traces.values():
        on_trace(trace, False)
    for trace in play([episode for key, episode in asked.items() if key not in traces]):
        append_jsonl(path, [trace])
        traces[episode_key(trace.task, trace.seed)] = trace
        on_trace(trace, True)
    ordered = [traces[key] for key in sorted(traces)]
    write_jsonl(path, ordered)
    return ordered


EpisodeKey = tuple[str, str, tuple[str, ...], int]


def episode_key(task: Task, seed: int) -> EpisodeKey:
    """What sets an episode apart from those played with it: task, program, what is given, seed."""
    return task.id, task.program or "", task.given, seed


class _Play:
    """One episode under way."""

    def __init__(self, episode: Episode, policy: Policy) -> None:
        self.end: End | None = None
        self.observation = Observation("", ())
        self.session = policy.open(episode.env, episode.seed)
        self._episode = episode
        self._policy = policy.name
        self._turns: list[Turn] = []
        self._error = ""

    def reset(self) -> None:
        try:
            self.observation = self._episode.env.reset()
        except SandboxError as fault:
            self._fail(fault)

    def begin(self, policy: Policy) -> None:
        """Let the policy act, unless the episode is over."""
        if self.end is None:
            try:
                policy.begin(self.session, self.observation)
            except EngineError as fault:
                self._fail(fault)

    def take(self, outcome: Outcome) -> None:
        if outcome is None:
            self._cut_short()
        elif isinstance(outcome, EngineError):
            self._fail(outcome)
        else:
            self._act(outcome)

    def trace(self) -> Trace:
        """The episode's trace; its session is closed."""
        assert self.end is not None
        self.session.close()
        return Trace(
            task=self._episode.env.task,
            method=self._episode.env.method,
            policy=self._policy,
            seed=self._episode.seed,
            turns=tuple(self._turns),
            final=self.observation,
            end=self.end,
            solved=self.end != "error" and bool(self._turns) and self._turns[-1].verdict.solved,
            corruptions=self._episode.corruptions,
            error=self._error,
        )

    def _act(self, action: Action) -> None:
        try:
            step = self._episode.env.step(action.text)
        except SandboxError as fault:
            self._fail(fault)
            return
        self._turns.append(_turn(self.observation, action, step))
        self.observation = step.observation
        self.end = step.end

    def _cut_short(self) -> None:
        if self._turns:
            last = self._turns[-1]
            reward = last.reward + self._episode.env.cut_short()
            self._turns[-1] = msgspec.structs.replace(last, reward=reward)
        self.end = "cut_short"

    def _fail(self, fault: EngineError | SandboxError) -> None:
        self.end = "error"
        self._error = str(fault)


def _turn(observation: Observation, action: Action, step: Step) -> Turn:
    return Turn(
        observation=observation,
        action=action.text,
        edit=step.edit,
        error=step.error,
        verdict=step.verdict,
        reward=step.reward,
        observation_ids=action.observation_ids,
        action_ids=action.action_ids,
        logprobs=action.logprobs,
        given=action.given,
        discarded=action.discarded,
        half=step.half,
    )
