"""A step of GRPO as the rollout sees it: groups of traces, and their credit (paper, RLVR)."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer

from redpencil.checkers import Checker
from redpencil.demos import Broken
from redpencil.engine import Engine
from redpencil.env import repairing
from redpencil.errors import SandboxError, UsageError
from redpencil.files import append_jsonl
from redpencil.policy import Policy
from redpencil.recipes import GrpoRecipe
from redpencil.results import TRACES
from redpencil.rollout import Episode, rollout
from redpencil.train import credit
from redpencil.train.curriculum import Curriculum
from redpencil.train.metrics import TimedChecker, TimedPolicy, group_metrics, trace_metrics
from redpencil.types import Trace


class GroupSampler:
    """The rollout function: samples the step's traces and works out their credit."""

    def __init__(
        self,
        variants: Sequence[Broken],
        recipe: GrpoRecipe,
        checker: Checker,
        folder: Path,
    ) -> None:
        self.advantages: list[list[float]] = []
        self.metrics: dict[str, float] = {}
        self._variants = variants
        self._recipe = recipe
        self._checker = checker
        self._traces = folder / TRACES
        tasks = [broken.task for broken in variants]
        self._curriculum = Curriculum(
            tasks,
            recipe.rest_after,
            recipe.rest_passes * math.ceil(len(set(tasks)) / recipe.tasks_per_step),
            recipe.seed,
        )

    def recall(self, traces: Sequence[Trace]) -> None:
        """Take note of the traces of earlier steps, in order."""
        for number, group in enumerate(self._groups(traces)):
            self._curriculum.record(group, number // self._recipe.tasks_per_step)

    def use(self, engine: Engine) -> None:
        """Sample through this engine.

        Raises:
            UsageError: it lacks what training needs.
        """
        missing = {"ids", "lora_sync"} - engine.capabilities
        if missing:
            raise UsageError(
                f"training needs an engine with {', '.join(sorted(missing))}: "
                "use the local engine or vLLM"
            )
        self._engine = engine

    def __call__(self, prompts: Sequence[str], trainer: GRPOTrainer) -> dict[str, Any]:
        started = time.perf_counter()
        self._engine.sync(trainer.accelerator.unwrap_model(trainer.model))
        step = trainer.state.global_step
        proposed = gather_object([int(prompt) for prompt in prompts[:: self._recipe.group]])
        resting = self._curriculum.resting(step)
        chosen = self._curriculum.choose(proposed, step)
        checker = TimedChecker(self._checker)
        policy = TimedPolicy(
            self._engine,
            self._recipe.model,
            temperature=self._recipe.temperature,
            decoding=self._recipe.decoding,
        )
        own = _stretch(len(prompts), trainer.accelerator.process_index)
        indices = [index for index in chosen for _ in range(self._recipe.group)]
        first_seed = (self._recipe.seed * 1_000_003 + step) * len(indices)
        traces = self._sample(indices[own], first_seed + own.start, policy, checker)
        everyones = gather_object(traces)
        _require_turns(everyones, step)
        if trainer.accelerator.is_main_process:
            append_jsonl(self._traces, everyones)
        groups = self._groups(everyones)
        for group in groups:
            self._curriculum.record(group, step)
        rule = credit.RULES[self._recipe.credit]
        credited = [credit.of_traces(rule, group) for group in groups]
        advantages = [of_trace for of_group in credited for of_trace in of_group]
        self.advantages = [
            credit.per_token(values, _turn_lengths(trace))
            for trace, values in zip(traces, advantages[own], strict=True)
        ]
        self.metrics = {
            **trace_metrics(everyones, self._recipe.rules.max_turns),
            **group_metrics(groups, credited),
            "replaced_groups": sum(map(operator.ne, proposed, chosen)) / len(chosen),
            "resting_tasks": resting,
            "sandbox_seconds": sum(checker.seconds),
            "decode_seconds": policy.seconds,
            "rollout_seconds": time.perf_counter() - started,
        }
        rows = [_row(trace, trainer.processing_class.eos_token_id) for trace in traces]
        trainer.action_mask = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row.mask) for row in rows], batch_first=True
        ).to(trainer.accelerator.device)
        told = "logprobs" in self._engine.capabilities  # else TRL works them out itself
        return {
            "prompt_ids": [row.prompt for row in rows],
            "completion_ids": [row.completion for row in rows],
            "env_mask": [row.mask for row in rows],
            "logprobs": [row.logprobs for row in rows] if told else None,
            "trace_reward": [None if trace.end == "error" else trace.reward for trace in traces],
        }

    def _groups(self, traces: Sequence[Trace]) -> list[Sequence[Trace]]:
        size = self._recipe.group
        return [traces[start : start + size] for start in range(0, len(traces), size)]

    def _sample(
        self, indices: Sequence[int], first_seed: int, policy: Policy, checker: Checker
    ) -> list[Trace]:
        """A trace for each index, in order; seeds differ by step and by place in the batch."""
        episodes = self._episodes(indices, first_seed, checker)
        by_seed = {trace.seed: trace for trace in rollout(episodes, policy)}
        return [by_seed[first_seed + place] for place in range(len(indices))]

    def _episodes(
        self, indices: Sequence[int], first_seed: int, checker: Checker
    ) -> Iterator[Episode]:
        for place, index in enumerate(indices):
            broken = self._variants[index]
            env = repairing(self._recipe.method, broken.task, checker, self._recipe.rules)
            yield Episode(env, first_seed + place, broken.corruptions)


class _Row(NamedTuple):
    """Ids of a trace's first observation, and of what followed, which the mask and the
    log-probabilities go with: 1 for each token that the model sampled and that counts.
    """

    prompt: list[int]
    completion: list[int]
    mask: list[int]
    logprobs: list[float]


def _require_turns(traces: Sequence[Trace], step: int) -> None:
    """Some traces may have no turn, which teaches nothing; if none has any, something is wrong."""
    if not any(trace.turns for trace in traces if trace.end != "error"):
        faults = [trace.error for trace in traces if trace.error]
        reason = faults[0] if faults else "no first page fits into the context"
        raise SandboxError(f"nothing could be sampled in step {step + 1}: {reason}")


def _row(trace: Trace, filler: int) -> _Row:
    """A trace as TRL takes it; one without a turn is a token that nobody sampled."""
    if not trace.turns:
        return _Row([filler], [filler], [0], [0.0])
    counts = 0 if trace.end == "error" else 1  # not even a KL term is to count what a fault ended
    first, *later = trace.turns
    row = _Row(
        list(first.observation_ids),
        list(first.action_ids),
        [counts] * len(first.action_ids),
        list(first.logprobs),
    )
    for turn in later:
        shown = len(turn.observation_ids)
        row.completion.extend(turn.observation_ids + turn.action_ids)
        row.mask.extend([0] * shown + [counts] * len(turn.action_ids))
        row.logprobs.extend([0.0] * shown + list(turn.logprobs))
    return row


def _turn_lengths(trace: Trace) -> list[tuple[int, int]]:
    """For each turn the tokens of its action, and of the observation that follows it."""
    shown = [len(turn.observation_ids) for turn in trace.turns]
    said = [len(turn.action_ids) for turn in trace.turns]
    return list(zip(said, [*shown[1:], 0], strict=False))


def _stretch(length: int, index: int) -> slice:
    """What is a process's own of a list that they share, each so many items."""
    return slice(index * length, (index + 1) * length)
