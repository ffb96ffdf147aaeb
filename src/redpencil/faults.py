"""Faults: programs that a model wrote for a task and that fail its tests (paper, evaluation).

They are harder to mend than corrupted programs, and what a repairer meets in earnest. A fault is a
task like any other, so that whatever takes tasks takes a file of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median

import msgspec

from redpencil import editor, provenance
from redpencil.checkers import Checker
from redpencil.env import WriteEnv, finished_program
from redpencil.evaluate import Plan, Settled, one_spare, others, settle
from redpencil.files import claim, write_json, write_jsonl
from redpencil.rollout import Episode, OnTrace, Play, rollout_to_file
from redpencil.runs import as_made
from redpencil.sameness import edit_distance, normalised
from redpencil.types import Status, Task, Trace, Value


class Summary(Value, frozen=True):
    """What became of the programs that were sampled; all but `sampled` and the distances add up."""

    sampled: int
    solved: int
    """They pass every test."""
    only_hidden: int
    """They pass the visible tests and fail a hidden one: there is nothing to show a repairer."""
    unfinished: int
    """There is no program in the answer, or no end to it."""
    errors: int
    """Ended in a fault of the infrastructure; the same command makes them anew."""
    duplicates: int
    """They fail, and but for spacing and comments are a fault of the task already."""
    kept: int
    tasks: int
    """How many tasks the faults are of."""
    faults: dict[str, int]
    """How often each kind of failure was kept, most frequent first."""
    mean_edit_distance: float | None
    """Mean Levenshtein distance in characters to the solution; None where there is none."""
    median_edit_distance: float | None


class Record(Value, frozen=True):
    """What `redpencil faults` writes beside the faults: numbers, and how they were made."""

    summary: Summary
    plan: Settled
    command: str
    versions: dict[str, str]
    machine: str
    git_commit: str


def sample_faults(
    path: Path,
    plan: Plan,
    tasks: Sequence[Task],
    examples: Sequence[Task],
    play: Play,
    checker: Checker,
    *,
    command: str = "",
    on_trace: OnTrace = lambda trace, sampled: None,
) -> Record:
    """Have `play` write `plan.samples` programs for each task, and keep those that fail.

    The faults go to `path` (`faults.jsonl`), each a task; all that was sampled goes to
    `faults.traces.jsonl` and the numbers to `faults.json`. Traces are appended as they end, so what
    was interrupted goes on where it was.

    Args:
        tasks: a program or a solution that they have is not shown.
        examples: solved tasks, of which `plan.shots` are shown, settled by the seed.

    Raises:
        UsageError: the file holds something else, be it of other tasks or of an adapter that has
            changed since, or there are too few examples.
    """
    solved = [task for task in examples if task.solution is not None]
    drawn = random.Random(plan.seed).sample(solved, min(plan.shots + 1, len(solved)))
    shown = one_spare(drawn, plan.shots)
    blank = [msgspec.structs.replace(task, program=None, fault="") for task in tasks]
    settled = settle(plan, blank[: plan.limit], shown)
    sampled = path.with_suffix(".traces.jsonl")
    claim(path, settled, sampled)
    episodes = [
        Episode(WriteEnv(task, checker, others(shown, task, plan.shots)), seed)
        for task in blank[: plan.limit]
        for seed in range(plan.seed, plan.seed + plan.samples)
    ]
    anew = False

    def note(trace: Trace, played: bool) -> None:
        nonlocal anew
        anew = anew or played
        on_trace(trace, played)

    traces = rollout_to_file(sampled, episodes, play, on_trace=note)
    faults, summary = select_faults(traces, plan.seed)
    write_jsonl(path, faults)
    record = Record(
        summary=summary,
        plan=settled,
        command=command,
        versions=provenance.versions(),
        machine=provenance.machine(),
        git_commit=provenance.git_commit(),
    )
    if not anew:
        record = as_made(record, path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), record)
    return record


def select_faults(traces: Iterable[Trace], first_seed: int = 0) -> tuple[list[Task], Summary]:
    """The different programs among traces of `WriteEnv` that fail visible tests, as tasks."""
    faults: list[Task] = []
    known: set[tuple[str, str]] = set()
    fates: Counter[str] = Counter()
    for trace in traces:
        page = finished_program(trace.turns[0].action) if trace.turns else None
        if trace.end == "error":
            fates["errors"] += 1
        elif not page:
            fates["unfinished"] += 1
        elif trace.turns[0].verdict.status is Status.PASSED:
            fates["solved" if trace.solved else "only_hidden"] += 1
        elif (code := (trace.task.id, normalised(editor.page_text(page)))) in known:
            fates["duplicates"] += 1
        else:
            known.add(code)
            faults.append(
                msgspec.structs.replace(
                    trace.task,
                    id=f"{trace.task.id}#{trace.seed - first_seed}",
                    program=editor.page_text(page),
                    fault=trace.turns[0].verdict.fault,
                )
            )
    distances = [
        edit_distance(task.program or "", task.solution)
        for task in faults
        if task.solution is not None
    ]
    return faults, Summary(
        sampled=fates.total() + len(faults),
        solved=fates["solved"],
        only_hidden=fates["only_hidden"],
        unfinished=fates["unfinished"],
        errors=fates["errors"],
        duplicates=fates["duplicates"],
        kept=len(faults),
        tasks=len({task_id for task_id, _ in known}),
        faults=dict(Counter(task.fault for task in faults).most_common()),
        mean_edit_distance=round(fmean(distances), 2) if distances else None,
        median_edit_distance=median(distances) if distances else None,
    )
