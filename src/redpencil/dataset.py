"""A set of demonstrations in a file, made task by task, and the card that says what is in it.

`demos.jsonl` holds the traces, `demos.json` the numbers, `demos.card.md` the numbers in words.
Until all are there, `demos.partial.jsonl` holds a line for each task that is done, so that what
was interrupted goes on with the next task, and comes to the same files to the byte.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from redpencil import provenance
from redpencil.checkers import Checker, judge
from redpencil.corrupt import Kinds
from redpencil.demos import Breaker, Broken, Drop, Order, demonstrate, donors
from redpencil.env import EditRules
from redpencil.errors import UsageError
from redpencil.files import (
    append_jsonl,
    atomic_write,
    claim,
    each_jsonl,
    read_json,
    write_json,
    write_jsonl,
)
from redpencil.parallel import Threads, Workers
from redpencil.rename import local_names
from redpencil.sameness import edit_distance
from redpencil.tasks.overlap import disjoint
from redpencil.types import Task, Trace, Value

CountTokens = Callable[[Sequence[str]], int]
"""How many tokens the texts have, each encoded on its own."""

OnTask = Callable[[int, bool], None]
"""Told how many demonstrations each task gave, and whether they were made just now or found."""

Item = TypeVar("Item")

Count = Annotated[int, msgspec.Meta(ge=1)]

_BATCH = 4096


class DemosRecipe(Value, frozen=True):
    """How to make demonstrations."""

    tasks: str = "builtin:train"
    """The task source."""
    per_task: Count = 3
    """Most demonstrations of a task."""
    method: Literal["coe", "in-place", "direct", "reasoning"] = "coe"
    """By editing, each line written at once or in its place, or the solution as one answer, at once
    or after what is wrong in words; the same programs are broken for all."""
    order: Literal["direct", "inverse", "both"] = "direct"
    """With `both` every other one is made in each order."""
    corruptions: tuple[Count, Count] = (1, 5)
    """Least and most corruptions of a program."""
    kinds: Kinds = "all"
    stumbles: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Chance that a turn is a bad command, which is shown and not taught."""
    renamed: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Chance that a solution gets other local names before it is broken."""
    history: bool = True
    """Whether all pages stay in the context, or the latest alone."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    """Seconds that one run of the tests has: MBPP's solutions take a hundredth of it, and programs
    that hang would else take most of the time there is."""


class Plan(DemosRecipe, frozen=True, kw_only=True):
    """What a set of demonstrations is made of."""

    tasks_sha256: str
    """Of the tasks themselves, so that none can change in between."""
    against_sha256: str | None = None
    """Of tasks of other sources whose problems must not be inside, if there are any."""
    seed: int = 0
    tokenizer: str | None = None
    """The model whose tokens are counted; None counts none."""


class TaskDemos(Value, frozen=True):
    """All that is made of one task."""

    task: str
    traces: tuple[Trace, ...]
    drops: dict[Drop, int]


class DemoSet(NamedTuple, Generic[Item]):
    """A set of demonstrations that can be made."""

    plan: Value
    """What it is made of."""
    facts: dict[str, str]
    """What the card says of the plan."""
    items: Mapping[str, Item]
    """What those of each task are made of, by the task's id."""
    make: Callable[[Item], TaskDemos]
    """Makes those of a task, replayed; they depend on its item alone."""
    overlapping: dict[str, str]
    """Tasks left out, each with the task of another split or source that is the same problem."""


class Summary(Value, frozen=True):
    """What a set of demonstrations holds."""

    demos: int
    tasks: int
    """How many tasks they are of."""
    drops: dict[Drop, int]
    """Draws thrown away, by why. A duplicate, or one that no test notices, is drawn again."""
    orders: dict[str, int]
    """How many were made in which order."""
    corruptions: dict[str, int]
    """How often each corruption was applied."""
    turns: dict[int, int]
    """How many demonstrations have so many turns."""
    mean_edit_distance: float
    """Mean Levenshtein distance in characters from the broken to the correct program."""
    median_edit_distance: float
    characters: int
    """Of all that the model would be shown, and of all that it would write."""
    action_characters: int
    """Of these, what it is to learn to write: commands that are given are not."""
    tokens: int | None
    """As `characters`, in tokens; None where they were not counted."""
    shared_programs: int
    """Demonstrations whose broken program, spacing apart, is that of another task too; kept."""


class Card(Value, frozen=True):
    """`demos.json`: a set of demonstrations, and how it was made."""

    summary: Summary
    plan: dict[str, Any]
    overlapping: dict[str, str]
    """Tasks left out, each with the task of another split or source that is the same problem."""
    sha256: str
    """Of the file of traces."""
    command: str
    versions: dict[str, str]
    git_commit: str


class Tally:
    """Counts what a set of demonstrations holds, one trace at a time."""

    def __init__(self, count_tokens: CountTokens | None = None) -> None:
        self.drops: Counter[Drop] = Counter()
        self._count_tokens = count_tokens
        self._tokens = self._characters = self._action_characters = 0
        self._tasks: Counter[str] = Counter()
        self._orders: Counter[str] = Counter()
        self._corruptions: Counter[str] = Counter()
        self._turns: Counter[int] = Counter()
        self._distances: list[int] = []
        self._owners: dict[bytes, set[str]] = {}
        self._programs: list[bytes] = []
        self._texts: list[str] = []

    def add(self, trace: Trace) -> None:
        """Count a demonstration."""
        program = trace.task.program or ""
        self._tasks[trace.task.id] += 1
        self._orders[trace.policy.removeprefix("demo:")] += 1
        self._corruptions.update(trace.corruptions)
        self._turns[len(trace.turns)] += 1
        self._distances.append(edit_distance(program, trace.task.solution or ""))
        mark = hashlib.sha256("".join(program.split()).encode("utf-8", "replace")).digest()[:8]
        self._owners.setdefault(mark, set()).add(trace.task.id)
        self._programs.append(mark)
        for turn in trace.turns:
            said = f"{turn.action}\n"
            self._characters += len(turn.observation.text) + len(said)
            self._action_characters += 0 if turn.given else len(said)
            self._texts += (turn.observation.text, said)
        if len(self._texts) > _BATCH:
            self._count_texts()

    def summary(self) -> Summary:
        """What was counted."""
        self._count_texts()
        return Summary(
            demos=sum(self._tasks.values()),
            tasks=len(self._tasks),
            drops={drop: self.drops[drop] for drop in Drop if self.drops[drop]},
            orders=dict(sorted(self._orders.items())),
            corruptions=dict(sorted(self._corruptions.items())),
            turns=dict(sorted(self._turns.items())),
            mean_edit_distance=round(fmean(self._distances or [0]), 2),
            median_edit_distance=median(self._distances or [0]),
            characters=self._characters,
            action_characters=self._action_characters,
            tokens=None if self._count_tokens is None else self._tokens,
            shared_programs=sum(len(self._owners[mark]) > 1 for mark in self._programs),
        )

    def _count_texts(self) -> None:
        if self._count_tokens is not None and self._texts:
            self._tokens += self._count_tokens(self._texts)
        self._texts.clear()


def make_demos(
    task: Task, plan: Plan, lines: Sequence[str], names: Sequence[str], checker: Checker
) -> TaskDemos:
    """The demonstrations of one task, replayed; they depend on the arguments alone.

    Args:
        lines: what corruptions may put in, see `demos.donors`.
        names: what local names may become, see `rename.local_names`.

    Raises:
        SandboxError: the checker could not judge a program.
    """
    if task.solution is None or not judge(checker, task.solution, task).solved:
        return TaskDemos(task.id, (), {Drop.NO_SOLUTION: 1})
    breaker = Breaker(
        task,
        plan.corruptions,
        plan.seed,
        lines,
        checker,
        plan.kinds,
        names=names,
        renamed=plan.renamed,
    )
    drawn = [breaker.draw(variant) for variant in range(plan.per_task)]
    orders: tuple[Order, ...] = ("direct", "inverse") if plan.order == "both" else (plan.order,)
    traces: list[Trace] = []
    for place, order in enumerate(orders):
        variants: list[Broken] = [item for item in drawn[place :: len(orders)] if item is not None]
        played = demonstrate(
            variants,
            checker,
            method=plan.method,
            order=order,
            stumbles=plan.stumbles,
            seed=plan.seed,
            rules=EditRules(history=plan.history),
            checkers=1,
        )
        for made in played:
            if isinstance(made, Trace):
                traces.append(made)
            else:
                breaker.drops[made] += 1
    return TaskDemos(task.id, tuple(traces), dict(breaker.drops))


def demo_set(
    plan: Plan, tasks: Sequence[Task], others: Sequence[Task], checker: Checker
) -> DemoSet[Task]:
    """The demonstrations of tasks by a plan.

    Args:
        others: tasks that must not be inside; a task that is the same problem is left out.
    """
    kept, overlapping = disjoint(tasks, others)
    return DemoSet(
        plan,
        {
            "tasks": f"`{plan.tasks}`, sha256 `{plan.tasks_sha256[:16]}`",
            "method": f"`{plan.method}`",
            "corruptions a program": "{} to {}, `{}`".format(*plan.corruptions, plan.kinds),
            "seed": str(plan.seed),
            "time limit of a run": f"{plan.timeout:g} s",
            "tokens are those of": plan.tokenizer or "no --tokenizer",
        },
        {task.id: task for task in kept},
        partial(
            make_demos,
            plan=plan,
            lines=donors(kept),
            names=local_names(kept) if plan.renamed else (),
            checker=checker,
        ),
        {task.id: other.id for task, other in overlapping},
    )


def write_demos(
    path: Path,
    demos: DemoSet[Item],
    *,
    workers: Workers | None = None,
    count_tokens: CountTokens | None = None,
    command: str = "",
    on_task: OnTask = lambda demos, made: None,
) -> Card:
    """Make a set of demonstrations, and their card beside them.

    Args:
        path: of the traces; the other files lie beside it.
        workers: do the tasks, which changes nothing but the time it takes; None is a thread for
            each core.
        count_tokens: counts those of the plan's tokenizer.

    Raises:
        UsageError: the file holds something else or was changed, or no demonstration can be made.
        SandboxError: the checker could not judge a program.
        ClusterError: the workers' machines failed.
    """
    pieces, card_path = path.with_suffix(".partial.jsonl"), path.with_suffix(".json")
    claim(path, demos.plan, pieces, card_path)
    if finished := card_of(path):
        pieces.unlink(missing_ok=True)
        return finished
    done = {piece.task: len(piece.traces) for piece in _pieces(pieces)}
    for count in done.values():
        on_task(count, False)
    missing = [item for task, item in demos.items.items() if task not in done]
    for piece in (workers or Threads()).in_order(demos.make, missing):
        append_jsonl(pieces, [piece])
        done[piece.task] = len(piece.traces)
        on_task(len(piece.traces), True)
    if not any(done.values()):
        drops: Counter[Drop] = Counter()
        for piece in _pieces(pieces):
            drops.update(piece.drops)
        pieces.unlink(missing_ok=True)
        path.with_suffix(".plan.json").unlink()
        left_out = _left_out(drops, demos.overlapping).items()
        reasons = "; ".join(f"{why}: {count}" for why, count in left_out if count) or "no tasks"
        raise UsageError(f"no demonstration could be made for {path} ({reasons})")
    tally = Tally(count_tokens)
    write_jsonl(path, _counted(_pieces(pieces), tally))
    card = Card(
        summary=tally.summary(),
        plan=msgspec.to_builtins(demos.plan),
        overlapping=demos.overlapping,
        sha256=_sha256(path),
        command=command,
        versions=provenance.versions(),
        git_commit=provenance.git_commit(),
    )
    with atomic_write(path.with_suffix(".card.md")) as file:
        file.write(card_text(card, demos.facts, path.name).encode())
    write_json(path.with_suffix(".json"), card)
    pieces.unlink()
    return card


def card_of(path: Path) -> Card | None:
    """The card of a finished file of demonstrations; None where one of the two is missing.

    Raises:
        UsageError: the file is no longer what its card says.
    """
    card_path = path.with_suffix(".json")
    if not card_path.exists() or not path.exists():
        return None
    card = read_json(card_path, Card)
    if _sha256(path) != card.sha256:
        raise UsageError(
            f"{path} is no longer what its card says: delete {card_path.name}, and the same "
            "command makes both anew"
        )
    return card


def card_text(card: Card, made_of: Mapping[str, str], name: str) -> str:
    """The card in Markdown.

    Args:
        made_of: what there is to say of the plan.
        name: of the file of traces.
    """
    summary = card.summary
    tokens = "not counted" if summary.tokens is None else f"{summary.tokens:,}"
    facts = {
        "demonstrations": f"{summary.demos:,} of {summary.tasks:,} tasks",
        "orders": ", ".join(f"{order} {count:,}" for order, count in summary.orders.items()),
        "edit distance": f"mean {summary.mean_edit_distance:.2f}, "
        f"median {summary.median_edit_distance:g} characters",
        "characters": f"{summary.characters:,}, of them {summary.action_characters:,} to learn",
        "tokens": tokens,
        "same broken program in two tasks": f"{summary.shared_programs:,} demonstrations, kept",
        **made_of,
        "sha256": f"`{card.sha256}`",
        "made by": f"`{card.command}`",
        "versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        "commit": card.git_commit or "not known",
    }
    parts = [
        f"# Demonstrations in {name}",
        "Broken programs and what mends them, one trace a line; each was played in the "
        "environment, is broken at its start and passes every test at its end.",
        _table(("", ""), facts),
        "## Left out",
        _table(("why", "how many"), _left_out(summary.drops, card.overlapping)),
        "## Turns of a demonstration, a closing EXIT included",
        _table(("turns", "demonstrations"), summary.turns),
        "## Corruptions applied",
        _table(("corruption", "times"), summary.corruptions),
    ]
    if card.overlapping:
        pairs = "; ".join(f"{task} is {other}" for task, other in card.overlapping.items())
        parts += [
            "## The same problem in another split or source",
            f"By words or by solution: {pairs}.",
        ]
    return "\n\n".join(parts) + "\n"


_DROPS = {
    Drop.DUPLICATE: "draws that repeat another of their task",
    Drop.UNNOTICED: "draws that the tests do not notice",
    Drop.UNMENDED: "demonstrations that could not be played to a solution",
    Drop.NO_SOLUTION: "tasks whose own solution fails or is missing",
}


def _left_out(drops: Mapping[Drop, int], overlapping: Mapping[str, str]) -> dict[str, int]:
    """How much was left out, by why."""
    return {
        **{_DROPS[drop]: count for drop, count in drops.items()},
        "tasks that are a problem of another split or source": len(overlapping),
    }


def _table(head: tuple[str, str], rows: Mapping[str, object] | Mapping[int, object]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    for name, value in rows.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)


def _pieces(path: Path) -> Iterator[TaskDemos]:
    return each_jsonl(path, TaskDemos, torn_tail=True) if path.exists() else iter(())


def _counted(pieces: Iterator[TaskDemos], tally: Tally) -> Iterator[Trace]:
    for piece in pieces:
        tally.drops.update(piece.drops)
        for trace in piece.traces:
            tally.add(trace)
            yield trace


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
