"""Demonstrations: traces in which a scripted teacher mends corrupted programs (paper, SFT data).

Two orders. `inverse` is the paper's: the corruptions are undone last one first, which now and then
writes a line that is itself still broken. `direct` compares the broken page with the solution and
mends it from the top, so that every line written is a line of the correct program.
"""

from __future__ import annotations

import difflib
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from redpencil import corrupt, editor
from redpencil.checkers import Checker
from redpencil.env import EditEnv, EditRules
from redpencil.errors import UsageError
from redpencil.policy import ScriptedPolicy
from redpencil.rollout import Episode, rollout
from redpencil.types import Edit, Page, Status, Task, Trace, Value

Order = Literal["direct", "inverse"]

_ATTEMPTS = 10
_CHUNK = 64


class Broken(Value, frozen=True):
    """A task whose program has been corrupted, and how to mend it."""

    task: Task
    corruptions: tuple[str, ...]
    mending: tuple[Edit, ...]
    """The corruptions' inverses, in the order that undoes them."""


class Summary(Value, frozen=True):
    """What a set of demonstrations holds."""

    demos: int
    dropped: int
    """Attempts thrown away: not broken at the start, not solved at the end, or not playable."""
    tasks: int
    corruptions: dict[str, int]
    """How often each corruption was applied."""
    turns: dict[int, int]
    """How many demonstrations have so many turns."""
    mean_edit_distance: float
    """Mean Levenshtein distance in characters from the broken to the correct program."""


def donors(tasks: Iterable[Task]) -> list[str]:
    """Lines that corruptions may put into other programs: all but definitions and imports."""
    lines = {
        line.strip()
        for task in tasks
        for line in (task.solution or "").split("\n")
        if line.strip() and not line.lstrip().startswith(("def ", "class ", "import ", "from "))
    }
    return sorted(lines)


def break_task(
    task: Task,
    rng: random.Random,
    count: int,
    lines: Sequence[str],
    checker: Checker,
    kinds: corrupt.Kinds = "all",
) -> Broken | None:
    """Corrupt the task's solution until its visible tests no longer pass; None if they always do.

    Raises:
        UsageError: the task has no solution to corrupt.
    """
    if task.solution is None:
        raise UsageError(f"task {task.id} has no solution to corrupt")
    solution = editor.load_page(task.solution)
    for _ in range(_ATTEMPTS):
        page, mending, names = corrupt.corrupt(solution, count, rng, lines, kinds)
        broken = msgspec.structs.replace(task, program=editor.page_text(page))
        verdict = checker.check(editor.page_text(page), task)
        if verdict.status not in (Status.PASSED, Status.INFRA_ERROR):
            return Broken(broken, names, mending)
    return None


def broken_variants(
    tasks: Sequence[Task],
    per_task: int,
    counts: tuple[int, int],
    seed: int,
    checker: Checker,
    *,
    lines: Sequence[str] | None = None,
    kinds: corrupt.Kinds = "all",
) -> Iterator[Broken]:
    """Different broken programs, up to `per_task` of each task.

    Each has from `counts[0]` to `counts[1]` corruptions.

    What is made of a task depends on its id, the seed and the donor lines alone, not on the other
    tasks asked for. A task that already has a program keeps it, once.
    """
    lines = donors(tasks) if lines is None else lines
    made: set[Task] = set()
    for variant in range(per_task):
        for task in tasks:
            if task.program is not None:
                if variant == 0:
                    yield Broken(task, (), ())
                continue
            rng = random.Random(f"{seed}:{task.id}:{variant}")
            broken = break_task(task, rng, rng.randint(*counts), lines, checker, kinds)
            if broken is not None and broken.task not in made:
                made.add(broken.task)
                yield broken


def script(broken: Broken, order: Order) -> list[str]:
    """The teacher's commands, EXIT included, though the tests may pass before the last edit."""
    edits: Sequence[Edit] = broken.mending
    if order == "direct":
        assert broken.task.program is not None
        assert broken.task.solution is not None
        page = editor.load_page(broken.task.program)
        edits = difference(page, editor.load_page(broken.task.solution))
    return [*(editor.format_edit(edit) for edit in edits), editor.format_edit(Edit("EXIT"))]


def difference(page: Page, target: Page) -> list[Edit]:
    """Edits that turn `page` into `target`, from the top; each writes a whole line of `target`."""
    edits: list[Edit] = []
    matcher = difflib.SequenceMatcher(None, page, target, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            continue
        # Everything above is already mended, so the block begins at the target's line c + 1.
        common = min(b - a, d - c)
        for offset in range(common):
            edits.append(Edit("REPL", c + offset + 1, target[c + offset]))
        for offset in range(common, d - c):
            edits.append(Edit("ADDL", c + offset + 1, target[c + offset]))
        edits += [Edit("DELL", c + common + 1)] * (b - a - common)
    return edits


def demonstrate(
    variants: Iterable[Broken],
    checker: Checker,
    *,
    order: Order = "direct",
    rules: EditRules | None = None,
) -> Iterator[Trace | None]:
    """Replay the teacher's commands in the environment, a trace for each variant, in order.

    None stands for a variant dropped: one that was not broken at the start and solved at the end,
    or in which a command could not be played.
    """
    source = iter(variants)
    while chunk := {broken.task: broken for broken in itertools.islice(source, _CHUNK)}:
        commands = {task: script(broken, order) for task, broken in chunk.items()}
        teacher = ScriptedPolicy(commands.__getitem__, f"demo:{order}", exit_on_pass=True)
        episodes = [
            Episode(EditEnv(task, checker, rules), corruptions=broken.corruptions)
            for task, broken in chunk.items()
        ]
        traces = {trace.task: trace for trace in rollout(episodes, teacher, concurrency=_CHUNK)}
        for task in chunk:
            yield traces[task] if _is_demo(traces[task]) else None


def edit_distance(before: str, after: str) -> int:
    """Levenshtein distance in characters between two programs, tabs and line ends normalised."""
    from rapidfuzz.distance import Levenshtein

    texts = (editor.page_text(editor.load_page(text)) for text in (before, after))
    return Levenshtein.distance(*texts)


def summarise(traces: Sequence[Trace], dropped: int) -> Summary:
    """Count what a set of demonstrations holds."""
    corruptions = Counter(name for trace in traces for name in trace.corruptions)
    turns = Counter(len(trace.turns) for trace in traces)
    distances = [edit_distance(t.task.program or "", t.task.solution or "") for t in traces]
    return Summary(
        demos=len(traces),
        dropped=dropped,
        tasks=len({trace.task.id for trace in traces}),
        corruptions=dict(sorted(corruptions.items())),
        turns=dict(sorted(turns.items())),
        mean_edit_distance=sum(distances) / len(distances) if distances else 0.0,
    )


def _is_demo(trace: Trace) -> bool:
    edited = len(trace.turns) > 1
    return edited and trace.solved and trace.end == "exit" and not any(t.error for t in trace.turns)
