"""Corrections: what a model did in vain, and from there what a teacher does.

Demonstrations show no page that only a model's own mistakes lead to, nor what to do after a command
that changed nothing. So its failed traces are cut before or after a turn drawn by chance, and a
`Teacher` goes on from the page that was left: the model's commands are given, the teacher's are
learned (DAgger: Ross, Gordon and Bagnell 2011, section 3).
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

from redpencil.checkers import Checker
from redpencil.dataset import Count, DemoSet, TaskDemos
from redpencil.demos import Broken, Drop, demonstrate
from redpencil.env import EditRules
from redpencil.errors import UsageError
from redpencil.tasks.overlap import disjoint
from redpencil.tasks.traces import begun, open_places
from redpencil.types import Task, Trace, Value


class Plan(Value, frozen=True, kw_only=True):
    """What a set of corrections is made of."""

    traces_sha256: str
    """Of what the model did."""
    against_sha256: str
    """Of the tasks that must not be inside."""
    cuts: Count = 1
    """Most corrections of a trace."""
    history: bool = True
    """Whether all pages stay in the context, or the latest alone."""
    timeout: float = 0.5
    """Seconds that one run of the tests has."""
    seed: int = 0
    tokenizer: str | None = None
    """The model whose tokens are counted; None counts none."""


def correction_set(
    plan: Plan, traces: Sequence[Trace], others: Sequence[Task], checker: Checker
) -> DemoSet[list[Trace]]:
    """The corrections of failed traces by a plan.

    Args:
        others: tasks that must not be inside; the traces of the same problems are left out.

    Raises:
        UsageError: a trace is not of `coe`, or none can be corrected.
    """
    if strange := next((trace for trace in traces if trace.method != "coe"), None):
        raise UsageError(
            f"{strange.task.id}: only --method coe can be corrected, not {strange.method}"
        )
    if not any(map(open_places, traces)):
        raise UsageError(f"none of the {len(traces)} traces failed: there is nothing to correct")
    _, overlapping = disjoint((trace.task for trace in traces), others)
    left_out = {task.id: other.id for task, other in overlapping}
    by_task: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        if trace.task.id not in left_out:
            by_task[trace.task.id].append(trace)
    return DemoSet(
        plan,
        {
            "traces": f"sha256 `{plan.traces_sha256[:16]}`",
            "corrections of a trace": f"at most {plan.cuts}",
            "seed": str(plan.seed),
            "time limit of a run": f"{plan.timeout:g} s",
            "tokens are those of": plan.tokenizer or "no --tokenizer",
        },
        by_task,
        partial(_of_task, plan=plan, checker=checker),
        left_out,
    )


def _of_task(traces: Sequence[Trace], plan: Plan, checker: Checker) -> TaskDemos:
    if traces[0].task.solution is None:
        return TaskDemos(traces[0].task.id, (), {Drop.NO_SOLUTION: 1})
    made: dict[tuple[Task, tuple[str, ...]], Trace] = {}
    drops: Counter[Drop] = Counter()
    rules = EditRules(history=plan.history)
    for trace in traces:
        for item in correct(trace, checker, cuts=plan.cuts, seed=plan.seed, rules=rules):
            if isinstance(item, Drop):
                drops[item] += 1
                continue
            # Several traces of a program may have been cut where they are still the same.
            said = item.task, tuple(turn.action for turn in item.turns)
            drops[Drop.DUPLICATE] += said in made
            made.setdefault(said, item)
    return TaskDemos(traces[0].task.id, tuple(made.values()), dict(+drops))


def correct(
    trace: Trace, checker: Checker, *, cuts: int = 1, seed: int = 0, rules: EditRules | None = None
) -> Iterator[Trace | Drop]:
    """Cut a failed trace and let a teacher go on: a trace for each cut, none for a solved one.

    Args:
        cuts: at how many places it is cut, at most; before anything was done is one of them.
        seed: of the places.
        rules: of the teacher's episodes; what the model did counts against no limit.

    Raises:
        UsageError: the task has no solution.
        SandboxError: the checker could not judge a page.
    """
    places = open_places(trace)
    rng = random.Random(f"{seed}:{trace.seed}:{trace.task.id}:{trace.task.program}")
    cut = sorted(rng.sample(places, min(cuts, len(places))))
    left = [Broken(begun(trace, place), trace.corruptions, ()) for place in cut]
    return demonstrate(left, checker, seed=trace.seed, rules=rules, checkers=1)
