"""Corrections: what a model did in vain, and from there what a teacher does.

Demonstrations show no page that only a model's own mistakes lead to, nor what to do after a command
that changed nothing. So its failed traces are cut before or after a turn drawn by chance, and a
`Teacher` goes on from the page that was left: the model's commands are given, the teacher's are
learned (DAgger: Ross, Gordon and Bagnell 2011, section 3).
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from redpencil.checkers import Checker
from redpencil.dataset import Card, Count, CountTokens, SetPlan, TaskDemos, write_set
from redpencil.demos import Broken, Drop, Teacher, demonstration
from redpencil.env import EditRules, repairing
from redpencil.errors import UsageError
from redpencil.parallel import Workers
from redpencil.policy import FunctionPolicy
from redpencil.rollout import Episode, rollout
from redpencil.tasks.overlap import disjoint
from redpencil.types import Status, Task, Trace


class Plan(SetPlan, frozen=True, kw_only=True):
    """What a set of corrections is made of."""

    traces_sha256: str
    """Of what the model did."""
    cuts: Count = 1
    """Most corrections of a trace."""
    history: bool = True
    """Whether all pages stay in the context, or the latest alone."""
    timeout: float = 0.5
    """Seconds that one run of the tests has."""
    seed: int = 0
    tokenizer: str | None = None
    """The model whose tokens are counted; None counts none."""

    @property
    def facts(self) -> dict[str, str]:
        return {
            "traces": f"sha256 `{self.traces_sha256[:16]}`",
            "corrections of a trace": f"at most {self.cuts}",
            "seed": str(self.seed),
            "time limit of a run": f"{self.timeout:g} s",
            "tokens are those of": self.tokenizer or "no --tokenizer",
        }


def traces_sha256(traces: Sequence[Trace]) -> str:
    """A digest of traces, in their order."""
    digest = hashlib.sha256()
    for trace in traces:
        digest.update(msgspec.json.encode(trace))
    return digest.hexdigest()


def write_corrections(
    path: Path,
    plan: Plan,
    traces: Sequence[Trace],
    others: Sequence[Task],
    checker: Checker,
    *,
    workers: Workers | None = None,
    count_tokens: CountTokens | None = None,
    command: str = "",
    on_task: Callable[[int], None] = lambda demos: None,
) -> Card[Plan]:
    """Write the corrections of failed traces, and their card beside them.

    Args:
        path: of the corrections; the other files lie beside it, as for `dataset.write_demos`.
        others: tasks that must not be inside; the traces of the same problems are left out.
        workers: do the tasks; None is a thread for each core.
        count_tokens: counts those of the plan's tokenizer.
        on_task: told how many corrections each task gave, those made earlier too.

    Raises:
        UsageError: a trace is not of editing or its task has no solution, the file holds something
            else, or there is nothing to correct.
        SandboxError: the checker could not judge a page.
        ClusterError: the workers' machines failed.
    """
    if strange := next((trace for trace in traces if trace.method != "coe"), None):
        raise UsageError(f"{strange.task.id}: editing alone can be corrected, not {strange.method}")
    _, overlapping = disjoint((trace.task for trace in traces), others)
    left_out = {task.id: other.id for task, other in overlapping}
    by_task: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        if trace.task.id not in left_out:
            by_task[trace.task.id].append(trace)
    return write_set(
        path,
        plan,
        Card[Plan],
        by_task,
        partial(_of_task, plan=plan, checker=checker),
        overlapping=left_out,
        workers=workers,
        count_tokens=count_tokens,
        command=command,
        on_task=on_task,
    )


def _of_task(traces: Sequence[Trace], plan: Plan, checker: Checker) -> TaskDemos:
    made: list[Trace] = []
    drops: Counter[Drop] = Counter()
    rules = EditRules(history=plan.history)
    for trace in traces:
        for item in correct(trace, checker, cuts=plan.cuts, seed=plan.seed, rules=rules):
            if isinstance(item, Trace):
                made.append(item)
            else:
                drops[item] += 1
    return TaskDemos(traces[0].task.id, tuple(made), dict(drops))


def correct(
    trace: Trace, checker: Checker, *, cuts: int = 1, seed: int = 0, rules: EditRules | None = None
) -> Iterator[Trace | Drop]:
    """Cut a failed trace and let a teacher go on: a trace for each cut, none for a solved one.

    Args:
        cuts: at how many places it is cut, at most; the first is before anything was done.
        seed: of the turns.

    Raises:
        UsageError: the task has no solution.
        SandboxError: the checker could not judge a page.
    """
    rules = rules or EditRules()
    commands = [turn.action for turn in trace.turns]
    rng = random.Random(f"{seed}:{trace.seed}:{trace.task.id}:{trace.task.program}")
    places = _places(trace)
    for place in sorted(rng.sample(places, min(cuts, len(places)))):

        def teacher(task: Task, seed: int, first: list[str] = commands[:place]) -> Teacher:
            return Teacher(Broken(task, (), ()), "direct", first=first)

        env = repairing("coe", trace.task, checker, rules)
        episode = Episode(env, trace.seed, trace.corruptions)
        policy = FunctionPolicy(teacher, "demo:correction")
        for played in rollout([episode], policy, checkers=1):
            yield demonstration(played)


def _places(trace: Trace) -> list[int]:
    """After how many of its turns it is open what comes next."""
    if trace.solved or trace.end == "error":
        return []
    after = [
        number
        for number, turn in enumerate(trace.turns, 1)
        if turn.verdict.status is not Status.PASSED
        and (turn.edit is None or turn.edit.command != "EXIT")
    ]
    return [0, *after]
