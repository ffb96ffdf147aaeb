"""Many episodes at once, into traces: the only loop over turns in the project."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from redpencil.env import Env, Step
from redpencil.errors import SandboxError
from redpencil.policy import Action, Policy
from redpencil.types import End, Observation, Trace, Turn


@dataclass(frozen=True)
class Episode:
    """An episode to play: its environment, its seed, and how its program was broken."""

    env: Env
    seed: int = 0
    corruptions: tuple[str, ...] = ()


def rollout(
    episodes: Iterable[Episode],
    policy: Policy,
    *,
    concurrency: int = 16,
    checkers: int = 2,
) -> Iterator[Trace]:
    """Play episodes with a policy and yield each trace when its episode ends.

    Up to `concurrency` episodes are under way: the policy acts for all of them as one batch, then
    `checkers` threads run their programs. A fault of the infrastructure ends its own episode with
    an error on the trace; the others go on.
    """
    source = iter(episodes)
    active: list[_Play] = []
    with ThreadPoolExecutor(max_workers=checkers) as pool:
        try:
            while True:
                room = concurrency - len(active)
                fresh = [_Play(episode, policy) for episode in itertools.islice(source, room)]
                active += fresh
                if not active:
                    return
                list(pool.map(_Play.reset, fresh))
                acting = [play for play in active if play.end is None]
                actions = policy.act([(play.session, play.observation) for play in acting])
                list(pool.map(_Play.take, acting, actions))
                ended = [play for play in active if play.end is not None]
                active = [play for play in active if play.end is None]
                for play in ended:
                    yield play.trace()
        finally:
            for play in active:
                play.session.close()


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
            self._finish("error", str(fault))

    def take(self, action: Action | None) -> None:
        if action is None:
            self._cut_short()
            return
        try:
            step = self._episode.env.step(action.text)
        except SandboxError as fault:
            self._finish("error", str(fault))
            return
        self._turns.append(_turn(self.observation, action, step))
        self.observation = step.observation
        if step.end is not None:
            self._finish(step.end)

    def trace(self) -> Trace:
        assert self.end is not None
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

    def _cut_short(self) -> None:
        if self._turns:
            last = self._turns[-1]
            reward = last.reward + self._episode.env.cut_short()
            self._turns[-1] = msgspec.structs.replace(last, reward=reward)
        self._finish("truncated")

    def _finish(self, end: End, error: str = "") -> None:
        self.end = end
        self._error = error
        self.session.close()


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
    )
