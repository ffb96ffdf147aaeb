"""The numbers that sum up an evaluation, from its traces."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TypeVar, get_args

import msgspec

from redpencil.editor import page_text
from redpencil.files import read_json, read_jsonl
from redpencil.sameness import edit_distance
from redpencil.statistics import bootstrap_interval, pass_at_k
from redpencil.tasks import tasks_sha256
from redpencil.types import End, Task, Trace, Turn, Value

RESULTS = "results.json"
TRACES = "traces.jsonl"

PASS_AT = (1, 4, 10, 100)
"""The k of pass@k, as far as there are samples."""
_FIRST_MARK = 8

Key = TypeVar("Key")


class Score(Value, frozen=True):
    """The share solved among some of the traces."""

    n: int
    """How many broken programs they are of."""
    traces: int
    pass_at_1: float
    """Mean over programs of the share of these traces that end solved, 0 to 1."""
    ci95: tuple[float, float]
    """95% bootstrap interval of `pass_at_1` over problems."""


class PassAt(Value, frozen=True):
    """pass@k: the chance that at least one of k traces of a program is solved."""

    k: int
    samples: int
    """The n of the unbiased estimate: traces taken of each program."""
    value: float
    """Mean over programs, 0 to 1."""
    ci95: tuple[float, float]
    """95% bootstrap interval over problems, each with all of its programs."""


class Origin(Value, frozen=True):
    """What was measured, and with what: all of the results that the traces do not say."""

    method: str
    """How programs are repaired, such as `coe` or `direct`; see `redpencil.env`."""
    tasks: str
    """The task source, such as `builtin:test`."""
    base_model: str
    adapter: str | None
    seed: int
    command: str
    """The command that makes these numbers again."""
    versions: dict[str, str]
    machine: str
    git_commit: str
    adapter_sha256: str | None = None
    """Of the adapter's weights and configuration; None too in results of before this was noted."""
    dtype: str | None = None
    """What the model computed in, such as `float32`; None if it ran elsewhere, or not noted."""
    model_sha256: str | None = None
    """Of a base model that lay in a folder; one that goes by a name has a version."""


class Results(Origin, frozen=True, kw_only=True):
    """What `redpencil eval` writes to `results.json`.

    Evaluated again with the same weights, greedily and in fp32, all but the fields whose names
    begin with `seconds` are the same to the byte.
    """

    tasks_sha256: str
    """Of the broken programs played, as tasks: by it one knows what exactly was measured on."""
    n: int
    """How many broken programs."""
    samples: int
    """Traces per program."""
    pass_at_1: float
    """Mean over programs of the share of samples that end solved, 0 to 1."""
    ci95: tuple[float, float]
    """95% bootstrap interval of `pass_at_1` over problems."""
    pass_at: tuple[PassAt, ...]
    """For each k of `PASS_AT` that there are samples for."""
    errors: int
    """Traces that ended in a fault of the infrastructure; they count as unsolved."""
    solved_by_turn: tuple[float, ...]
    """Share of traces in which all tests passed for the first time in turn 1, 1 to 2, 1 to 3..."""
    solved_by_tokens: dict[int, float] | None
    """The same for the tokens generated until then, at powers of 2; None where none are shown."""
    malformed_rate: float
    """Share of actions that are no command the page can take."""
    unparsed_rate: float
    """Share of actions that are no command of the language at all."""
    noop_rate: float
    """Share of actions that are well formed, are not EXIT, and leave the page as it was."""
    repetition_rate: float
    """Share of actions that their trace has already taken on an identical page."""
    mean_turns: float
    mean_tokens: float | None
    """Generated tokens per trace; None where the engine does not show them."""
    tokens_per_solved: float | None
    """Generated tokens of all traces for each that is solved; None where none is, or none shown."""
    mean_edit_distance: float | None
    """Characters between the broken program and the final page, over solved traces; else None."""
    by_corruptions: dict[int, Score]
    """By the number of corruptions that broke the program, of those that were broken so."""
    by_fault: dict[str, Score]
    """By how the program fails, of those whose task says so; most programs first."""
    by_end: dict[End, Score]
    """By how the episode ended."""
    seconds: float
    """Wall time spent sampling and checking."""
    seconds_per_solved: float | None
    """Of it, for each trace that is solved; None where none is."""
    outcomes: dict[str, int] = msgspec.field(default_factory=dict)
    """Of each broken program, as `program_key` calls it, how many of the `samples` are solved.

    By them evaluations are compared without their traces; empty in results of before they were
    noted.
    """


def summarise(traces: Sequence[Trace], origin: Origin, seconds: float) -> Results:
    """The numbers of an evaluation.

    Args:
        traces: at least one, and as many of each program.
        seconds: wall time that they took.
    """
    outcomes = _outcomes(traces)
    turns = [turn for trace in traces for turn in trace.commands]
    solved = [trace for trace in traces if trace.solved]
    tokens = _tokens(turns)
    pass_at = _pass_at(traces, origin.seed)
    corruptions = _scores(traces, lambda trace: len(trace.corruptions), origin.seed)
    faults = _scores(traces, lambda trace: trace.task.fault, origin.seed)
    ends = _scores(traces, lambda trace: trace.end, origin.seed)
    return Results(
        **msgspec.structs.asdict(origin),
        tasks_sha256=tasks_sha256(list(dict.fromkeys(trace.task for trace in traces))),
        n=len(outcomes),
        samples=pass_at[0].samples,
        pass_at_1=pass_at[0].value,
        ci95=pass_at[0].ci95,
        pass_at=pass_at,
        errors=sum(trace.end == "error" for trace in traces),
        solved_by_turn=_solved_by_turn(traces),
        solved_by_tokens=_solved_by_tokens(traces) if tokens else None,
        malformed_rate=_share([bool(turn.error) for turn in turns]),
        unparsed_rate=_share([bool(turn.error) and turn.edit is None for turn in turns]),
        noop_rate=_share([noop for trace in traces for noop in noops(trace)]),
        repetition_rate=_share([repeated for trace in traces for repeated in _repetitions(trace)]),
        mean_turns=len(turns) / len(traces),
        mean_tokens=tokens / len(traces) if tokens else None,
        tokens_per_solved=tokens / len(solved) if tokens and solved else None,
        mean_edit_distance=fmean(map(_distance, solved)) if solved else None,
        by_corruptions=dict(sorted(corruptions.items())),
        by_fault=dict(sorted(faults.items(), key=lambda item: (-item[1].n, item[0]))),
        by_end={end: ends[end] for end in get_args(End) if end in ends},
        seconds=round(seconds, 1),
        seconds_per_solved=round(seconds / len(solved), 2) if solved else None,
        outcomes=outcomes,
    )


def program_key(task: Task) -> str:
    """What a task's broken program goes by: the task's id, `#` and the beginning of a digest."""
    return f"{task.id}#{hashlib.sha256((task.program or '').encode()).hexdigest()[:8]}"


def problem_of(name: str) -> str:
    """The problem that a task, or a program by its key, is of: its name up to the first `#`."""
    return name.partition("#")[0]


def read_results(path: Path) -> Results:
    """The results in a file or in an evaluation's folder.

    Where they are of before `outcomes` were noted, the traces in the folder, if any, tell these.

    Raises:
        DataError: a file is missing, or not what it should be (line named).
    """
    if path.is_file():
        return read_json(path, Results)
    results, traces = read_json(path / RESULTS, Results), path / TRACES
    if results.outcomes or not traces.exists():
        return results
    return msgspec.structs.replace(results, outcomes=_outcomes(read_jsonl(traces, Trace)))


def read_evaluation(folder: Path) -> tuple[Results, list[Trace]]:
    """The results and traces of an evaluation's folder.

    Raises:
        DataError: a file is missing, or not what it should be (line named).
    """
    return read_results(folder), read_jsonl(folder / TRACES, Trace)


def _outcomes(traces: Iterable[Trace]) -> dict[str, int]:
    return {program: sum(solved) for program, solved in sorted(_by_program(traces).items())}


def _by_program(traces: Iterable[Trace]) -> dict[str, list[bool]]:
    """Which of the traces of each broken program are solved."""
    found: dict[str, list[bool]] = {}
    for trace in traces:
        found.setdefault(program_key(trace.task), []).append(trace.solved)
    return found


def _pass_at(traces: Sequence[Trace], seed: int) -> tuple[PassAt, ...]:
    tried = _by_program(traces)
    problems = list(map(problem_of, tried))
    samples = min(map(len, tried.values()))
    table = []
    for k in PASS_AT:
        if k <= samples:
            chances = [pass_at_k(len(solved), sum(solved), k) for solved in tried.values()]
            interval = bootstrap_interval(chances, seed, problems)
            table.append(PassAt(k, samples, fmean(chances), interval))
    return tuple(table)


def _scores(traces: Sequence[Trace], key: Callable[[Trace], Key], seed: int) -> dict[Key, Score]:
    """The score of the traces with each key; those whose key is 0 or empty are left out."""
    groups: defaultdict[Key, list[Trace]] = defaultdict(list)
    for trace in traces:
        if found := key(trace):
            groups[found].append(trace)
    scores = {}
    for found, group in groups.items():
        tried = _by_program(group)
        shares = list(map(fmean, tried.values()))
        interval = bootstrap_interval(shares, seed, list(map(problem_of, tried)))
        scores[found] = Score(len(shares), len(group), fmean(shares), interval)
    return scores


def _solved_by_turn(traces: Sequence[Trace]) -> tuple[float, ...]:
    firsts = list(map(_turns_to_solve, traces))
    longest = max(len(trace.commands) for trace in traces)
    return tuple(
        _share([first is not None and first <= turn for first in firsts])
        for turn in range(1, longest + 1)
    )


def _solved_by_tokens(traces: Sequence[Trace]) -> dict[int, float]:
    spent = [
        None if (first := _turns_to_solve(trace)) is None else _tokens(trace.commands[:first])
        for trace in traces
    ]
    longest = max(_tokens(trace.turns) for trace in traces)
    marks = [_FIRST_MARK]
    while marks[-1] < longest:
        marks.append(2 * marks[-1])
    return {
        mark: _share([tokens is not None and tokens <= mark for tokens in spent]) for mark in marks
    }


def _turns_to_solve(trace: Trace) -> int | None:
    """The command, from 1, after which all tests passed for the first time."""
    if trace.end == "error":
        return None
    passes = (place for place, turn in enumerate(trace.commands, 1) if turn.verdict.solved)
    return next(passes, None)


def noops(trace: Trace) -> list[bool]:
    """Of each command: whether it is well formed, is not EXIT, and leaves the page as it was."""
    commands = trace.commands
    pages = [*(turn.observation.page for turn in commands), trace.final.page]
    return [
        not turn.error and (turn.edit is None or turn.edit.command != "EXIT") and before == after
        for turn, (before, after) in zip(commands, pairwise(pages), strict=True)
    ]


def _repetitions(trace: Trace) -> list[bool]:
    """Of each command: whether the trace has taken it before on an identical page."""
    acts = [(turn.observation.page, turn.action) for turn in trace.commands]
    return [act in acts[:place] for place, act in enumerate(acts)]


def _distance(trace: Trace) -> int:
    return edit_distance(trace.task.program or "", page_text(trace.final.page))


def _tokens(turns: Sequence[Turn]) -> int:
    return sum(turn.tokens for turn in turns)


def _share(cases: Sequence[bool]) -> float:
    """The share that is true; 0 of none."""
    return sum(cases) / max(len(cases), 1)
