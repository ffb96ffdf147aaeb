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
from enum import StrEnum
from functools import partial
from typing import Literal

import msgspec

from redpencil import corrupt, editor, rename
from redpencil.checkers import Checker, judge
from redpencil.env import EDITS, PASS_MESSAGE, EditRules, Method, fenced, repairing
from redpencil.errors import SandboxError, UsageError
from redpencil.parallel import Threads
from redpencil.policy import Action, Answer, FunctionPolicy, ScriptedPolicy
from redpencil.rollout import Episode, rollout
from redpencil.sameness import normalised
from redpencil.types import Edit, Observation, Page, Status, Task, Trace, Value

Order = Literal["direct", "inverse"]

_ATTEMPTS = 10
_CHUNK = 64


class Drop(StrEnum):
    """Why something that was drawn became no demonstration."""

    DUPLICATE = "duplicate"
    """But for spacing and comments it is a program of the task that was drawn before; or a
    correction that another trace gave rise to."""
    UNNOTICED = "unnoticed"
    """The visible tests still pass."""
    UNMENDED = "unmended"
    """The teacher's commands could not be played, or did not solve the task."""
    NO_SOLUTION = "no_solution"
    """The task has no solution, or one that does not pass its tests; counted once a task."""


class Broken(Value, frozen=True):
    """A task whose program has been corrupted, and how to mend it."""

    task: Task
    corruptions: tuple[str, ...]
    mending: tuple[Edit, ...]
    """The corruptions' inverses, in the order that undoes them."""


def donors(tasks: Iterable[Task]) -> list[str]:
    """Lines that corruptions may put into other programs: all but definitions and imports."""
    lines = {
        line.strip()
        for task in tasks
        for line in (task.solution or "").split("\n")
        if line.strip() and not line.lstrip().startswith(("def ", "class ", "import ", "from "))
    }
    return sorted(lines)


class Breaker:
    """Draws broken programs of one task, never one that it has drawn before."""

    def __init__(
        self,
        task: Task,
        counts: tuple[int, int],
        seed: int,
        lines: Sequence[str],
        checker: Checker,
        kinds: corrupt.Kinds = "all",
        *,
        names: Sequence[str] = (),
        renamed: float = 0.0,
    ) -> None:
        """Nothing is drawn yet.

        Args:
            counts: least and most corruptions of a program.
            lines: what corruptions may put in, see `donors`.
            names: the local names of programs of this kind, see `rename.local_names`.
            renamed: the chance that the solution gets others of them before it is broken.

        Raises:
            UsageError: the task has neither a program nor a solution to corrupt.
        """
        if task.program is None and task.solution is None:
            raise UsageError(f"task {task.id} has no solution to corrupt")
        self.drops: Counter[Drop] = Counter()
        """What was drawn in vain; something else was drawn in its place, a few times."""
        self._task = task
        self._counts = counts
        self._seed = seed
        self._lines = lines
        self._checker = checker
        self._kinds = kinds
        self._names = names
        self._renamed = renamed
        self._known = {normalised(task.solution or "")}

    def draw(self, variant: int) -> Broken | None:
        """The broken program of a number; None where the tests always pass.

        It depends on those drawn before. A task that has a program already gives that, once.

        Raises:
            SandboxError: the checker could not judge a program.
        """
        if self._task.program is not None:
            return Broken(self._task, (), ()) if variant == 0 else None
        task = self._correct(variant)
        solution = editor.load_page(task.solution or "")
        rng = random.Random(f"{self._seed}:{self._task.id}:{variant}")
        count = rng.randint(*self._counts)
        for _ in range(_ATTEMPTS):
            page, mending, names = corrupt.corrupt(solution, count, rng, self._lines, self._kinds)
            program = editor.page_text(page)
            code = normalised(program)
            if code in self._known:
                self.drops[Drop.DUPLICATE] += 1
                continue
            self._known.add(code)
            verdict = judge(self._checker, program, task)
            if verdict.status is not Status.PASSED:
                broken = msgspec.structs.replace(task, program=program, fault=verdict.fault)
                return Broken(broken, names, mending)
            self.drops[Drop.UNNOTICED] += 1
        return None

    def _correct(self, variant: int) -> Task:
        """The task, whose solution may have got other names.

        By chances of their own, so that the corruptions of all other variants are what they were.
        """
        rng = random.Random(f"{self._seed}:{self._task.id}:{variant}:names")
        if rng.random() < self._renamed:
            return rename.renamed(self._task, self._names, rng)
        return self._task


def broken_variants(
    tasks: Sequence[Task],
    per_task: int,
    counts: tuple[int, int],
    seed: int,
    checker: Checker,
    *,
    lines: Sequence[str] | None = None,
    kinds: corrupt.Kinds = "all",
    renamed: float = 0.0,
) -> Iterator[Broken]:
    """Different broken programs, up to `per_task` of each task.

    Each has from `counts[0]` to `counts[1]` corruptions.

    What is made of a task depends on its id, the seed and the donor lines alone, not on the other
    tasks asked for, but for the names that a solution gets. A task that already has a program keeps
    it, once.

    Args:
        lines: what corruptions may put in; by default what `donors` finds in the tasks.
        renamed: the chance that a solution gets other local names, of the tasks', before it is
            broken.

    Raises:
        UsageError: a task has no solution to corrupt.
        SandboxError: the checker could not judge a program.
    """
    lines = donors(tasks) if lines is None else lines
    names = rename.local_names(tasks) if renamed else ()
    breakers = [
        Breaker(task, counts, seed, lines, checker, kinds, names=names, renamed=renamed)
        for task in tasks
    ]
    for variant in range(per_task):
        draw = partial(Breaker.draw, variant=variant)
        for broken in Threads().in_order(draw, breakers):
            if broken is not None:
                yield broken


def mixture(
    groups: Sequence[Sequence[Broken]], weights: Sequence[float], count: int, seed: int
) -> list[Broken]:
    """Broken programs drawn from groups by weight, each group in turn shuffled and gone through.

    Args:
        weights: of each group; what counts is their ratio.
        count: how many are drawn.

    Raises:
        UsageError: there is not one positive weight for each group, or a group is empty.
    """
    if len(weights) != len(groups) or not all(weight > 0 for weight in weights):
        raise UsageError(f"{len(groups)} sources of tasks need as many weights, all above 0")
    if not all(groups):
        raise UsageError("a source of tasks to mix gave no broken program")
    rng = random.Random(f"{seed}:mixture")
    decks = [_endless(group, rng) for group in groups]
    return [next(deck) for deck in rng.choices(decks, weights, k=count)]


def some_intact(
    variants: Iterable[Broken], share: float, seed: int, checker: Checker
) -> Iterator[Broken]:
    """Broken programs, some of them as they were before: right, so that there is nothing to mend.

    Args:
        share: the chance of each, if its task has a solution that passes every test.

    Raises:
        SandboxError: the checker could not judge a solution.
    """
    rng = random.Random(f"{seed}:intact")
    for broken in variants:
        chosen, solution = rng.random() < share, broken.task.solution
        if chosen and solution is not None and judge(checker, solution, broken.task).solved:
            task = msgspec.structs.replace(broken.task, program=solution, fault="", given=())
            yield Broken(task, (), ())
        else:
            yield broken


def _endless(group: Sequence[Broken], rng: random.Random) -> Iterator[Broken]:
    while True:
        yield from rng.sample(group, len(group))


class Teacher:
    """Mends a broken program, and stumbles now and then so that getting up can be learned.

    A stumble is a command that leaves the page as it is or breaks it further, as models write
    them. It is given, not taught: the loss is on what follows it alone.
    """

    def __init__(
        self,
        broken: Broken,
        order: Order,
        stumbles: float = 0.0,
        seed: int = 0,
        *,
        thorough: bool = False,
    ) -> None:
        """Make a teacher for one episode.

        A program that came broken has no corruptions to undo: it is mended in the direct order.

        Args:
            stumbles: the chance of a stumble in each turn before the tests pass.
            thorough: goes on while there is anything to write, though the visible tests pass.

        Raises:
            UsageError: it came broken, and the task has no solution.
        """
        if broken.task.solution is None:
            raise UsageError(f"task {broken.task.id} has no solution to demonstrate")
        self._solution = editor.load_page(broken.task.solution)
        self._direct = order == "direct" or not broken.mending
        self._stumbles = stumbles
        self._thorough = thorough
        self._todo = None if self._direct else list(broken.mending)
        """What is left to write; None where that has to be seen from the page."""
        self._rng = random.Random(f"{seed}:{broken.task.id}:{broken.task.program}")

    def __call__(self, observation: Observation) -> Action:
        """The next command: EXIT as soon as the visible tests pass, unless it is thorough."""
        if self._todo is None:
            self._todo = difference(observation.page, self._solution)
        passed = observation.text.endswith(f"\n{PASS_MESSAGE}\n")
        if not self._todo or (passed and not self._thorough):
            return Action(editor.format_edit(Edit("EXIT")))
        if observation.page and self._rng.random() < self._stumbles:
            return self._stumble(observation.page, self._todo)
        return Action(editor.format_edit(self._todo.pop(0)))

    def _stumble(self, page: Page, todo: list[Edit]) -> Action:
        edit = _bad_edit(page, self._rng)
        if self._direct:
            self._todo = None
        elif editor.apply(page, edit) != page:
            todo.insert(0, editor.invert(page, edit))
        return Action(editor.format_edit(edit), given=True)


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
    for a, b, c, d in _differing(page, target):
        # Everything above is already mended, so the block begins at the target's line c + 1.
        common = min(b - a, d - c)
        for offset in range(common):
            edits.append(Edit("REPL", c + offset + 1, target[c + offset]))
        for offset in range(common, d - c):
            edits.append(Edit("ADDL", c + offset + 1, target[c + offset]))
        edits += [Edit("DELL", c + common + 1)] * (b - a - common)
    return edits


def in_words(page: Page, target: Page) -> list[str]:
    """What `difference` does, a sentence an edit; line numbers are those of `page`."""
    said: list[str] = []
    for a, b, c, d in _differing(page, target):
        for old, new in zip(range(a, b), range(c, d), strict=False):
            said.append(f"Line {old + 1}, `{page[old]}`, should be `{target[new]}`.")
        for new in range(c + b - a, d):
            said.append(f"After line {b}, `{target[new]}` is missing.")
        for old in range(a + d - c, b):
            said.append(f"Line {old + 1}, `{page[old]}`, does not belong there.")
    return said


def _differing(page: Page, target: Page) -> list[tuple[int, int, int, int]]:
    """Where lines `a` to `b` of the page stand for lines `c` to `d` of the target, from 0."""
    matcher = difflib.SequenceMatcher(None, page, target, autojunk=False)
    return [(a, b, c, d) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]


def demonstrate(
    variants: Iterable[Broken],
    checker: Checker,
    *,
    method: Method = "coe",
    order: Order = "direct",
    stumbles: float = 0.0,
    seed: int = 0,
    rules: EditRules | None = None,
    checkers: int = 2,
) -> Iterator[Trace | Drop]:
    """Let a teacher mend them in the environment: a trace for each variant, in order.

    By the methods of editing a `Teacher` edits; by any other the task's solution is the answer, by
    `reasoning` after words that say what to change.

    Only what is broken at the start and solved at the end, by commands that could all be played,
    is a demonstration. How long the checks took is left out, so that the same variants always give
    the same traces.

    Args:
        checkers: threads that check pages.

    Raises:
        SandboxError: the checker could not judge a page.
    """
    rules = rules or EditRules()
    source = iter(variants)
    while chunk := {broken.task: broken for broken in itertools.islice(source, _CHUNK)}:

        def editing(task: Task, seed: int, chunk: dict[Task, Broken] = chunk) -> Answer:
            teacher = Teacher(chunk[task], order, stumbles, seed)
            return _in_halves(teacher) if method == "in-place" else teacher

        episodes = [
            Episode(repairing(method, task, checker, rules), seed, broken.corruptions)
            for task, broken in chunk.items()
        ]
        if method in EDITS:
            policy = FunctionPolicy(editing, f"demo:{order}")
        else:
            policy = ScriptedPolicy(partial(_answers, method), "demo:answer")
        played = rollout(episodes, policy, concurrency=_CHUNK, checkers=checkers)
        traces = {trace.task: trace for trace in played}
        for task in chunk:
            yield _demonstration(traces[task])


def _in_halves(teacher: Answer) -> Answer:
    """A teacher whose ADDL and REPL name a line first, and write it when they are asked to."""
    rest: list[Action] = []

    def answer(observation: Observation) -> Action | None:
        if rest:
            return rest.pop()
        action = teacher(observation)
        if action is None:
            return None
        edit = editor.parse(action.text)
        if edit.command == "REPW":
            line = editor.apply(observation.page, edit)[edit.line - 1]
            edit = Edit("REPL", edit.line, line)
        if edit.command not in ("ADDL", "REPL"):
            return action
        rest.append(action._replace(text=f"\n{edit.text}"))
        return action._replace(text=f"{editor.MARK}{edit.command} {edit.line}")

    return answer


def _answers(method: Method, task: Task) -> list[str]:
    solution = task.solution or ""
    answer = fenced(solution)
    if method == "reasoning":
        page = editor.load_page(task.program or "")
        said = " ".join(in_words(page, editor.load_page(solution)))
        answer = f"{said}\n\n{answer}"
    return [answer]


def _demonstration(trace: Trace) -> Trace | Drop:
    """A teacher's trace as a demonstration, without the time that it took, if it is one.

    Raises:
        SandboxError: a fault of the infrastructure ended it.
    """
    if trace.end == "error":
        raise SandboxError(trace.error)
    shown = trace.turns[0].observation.text
    passed = shown.rstrip("\n").endswith(f"\n{PASS_MESSAGE}")
    failed = any(turn.error for turn in trace.turns if not turn.given)
    if passed or failed or not trace.solved or trace.end not in ("exit", "solved"):
        return Drop.UNMENDED
    turns = (
        msgspec.structs.replace(turn, verdict=msgspec.structs.replace(turn.verdict, seconds=0.0))
        for turn in trace.turns
    )
    return msgspec.structs.replace(trace, turns=tuple(turns))
