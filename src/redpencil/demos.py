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
from redpencil.env import PASS_MESSAGE, EditEnv, EditRules
from redpencil.errors import UsageError
from redpencil.policy import Action, FunctionPolicy
from redpencil.rollout import Episode, rollout
from redpencil.types import Edit, Observation, Page, Status, Task, Trace, Value

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


class Teacher:
    """Mends a broken program, and stumbles now and then so that getting up can be learned.

    A stumble is a command that leaves the page as it is or breaks it further, as models write
    them. It is given, not taught: the loss is on what follows it alone.
    """

    def __init__(self, broken: Broken, order: Order, stumbles: float = 0.0, seed: int = 0) -> None:
        """Make a teacher for one episode.

        Args:
            stumbles: the chance of a stumble in each turn before the tests pass.
        """
        self._order = order
        self._stumbles = stumbles
        self._solution = editor.load_page(broken.task.solution or "")
        page = editor.load_page(broken.task.program or "")
        self._todo = self._plan(page) if order == "direct" else list(broken.mending)
        self._rng = random.Random(f"{seed}:{broken.task.id}:{broken.task.program}")

    def __call__(self, observation: Observation) -> Action:
        """The next command: EXIT as soon as the visible tests pass, before the last edit or not."""
        if observation.text.endswith(f"\n{PASS_MESSAGE}\n") or not self._todo:
            return Action(editor.format_edit(Edit("EXIT")))
        if observation.page and self._rng.random() < self._stumbles:
            return self._stumble(observation.page)
        return Action(editor.format_edit(self._todo.pop(0)))

    def _stumble(self, page: Page) -> Action:
        edit = _bad_edit(page, self._rng)
        after = editor.apply(page, edit)
        if self._order == "direct":
            self._todo = self._plan(after)
        elif after != page:
            self._todo.insert(0, editor.invert(page, edit))
        return Action(editor.format_edit(edit), given=True)

    def _plan(self, page: Page) -> list[Edit]:
        return difference(page, self._solution)


def _bad_edit(page: Page, rng: random.Random) -> Edit:
    """Half of the time a line written again as it is, else a corruption of the page."""
    if rng.random() < 0.5:
        name = rng.choice(corrupt.names_of("all"))
        edit = corrupt.CORRUPTIONS[name](page, rng, page)
        if edit is not None:
            return edit
    line = rng.randrange(len(page))
    return Edit("REPL", line + 1, page[line])


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
    stumbles: float = 0.0,
    seed: int = 0,
    rules: EditRules | None = None,
) -> Iterator[Trace | None]:
    """Let a teacher mend them in the environment: a trace for each variant, in order.

    None stands for a variant dropped: one that was not broken at the start and solved at the end,
    or in which a command could not be played.
    """
    source = iter(variants)
    while chunk := {broken.task: broken for broken in itertools.islice(source, _CHUNK)}:

        def opening(task: Task, seed: int, chunk: dict[Task, Broken] = chunk) -> Teacher:
            return Teacher(chunk[task], order, stumbles, seed)

        episodes = [
            Episode(EditEnv(task, checker, rules), seed, broken.corruptions)
            for task, broken in chunk.items()
        ]
        policy = FunctionPolicy(opening, f"demo:{order}")
        traces = {trace.task: trace for trace in rollout(episodes, policy, concurrency=_CHUNK)}
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
