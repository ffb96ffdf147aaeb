"""Corruptions break programs; demonstrations mend them, and only what mends is kept."""

from __future__ import annotations

import itertools
import random

import pytest

from redpencil import demos, editor
from redpencil.checkers import PythonChecker
from redpencil.corrupt import CORRUPTIONS, corrupt
from redpencil.tasks import load
from redpencil.train.tokens import trace_tokens
from redpencil.types import Page, Task, Trace

CHECKER = PythonChecker()
DONORS = ["total += 1", "return None"]
PAGE = editor.load_page(
    "def f(items, limit):\n"
    "    total = 0\n"
    "    for item in items:\n"
    "        if item < limit and total != 7:\n"
    "            total += max(item, 1)\n"
    "    return total\n"
)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_applies_changes_the_page_and_can_be_undone(name: str) -> None:
    changed = 0
    for seed in range(40):
        edit = CORRUPTIONS[name](PAGE, random.Random(seed), DONORS)
        if edit is None:
            continue
        broken = editor.apply(PAGE, edit)
        changed += broken != PAGE
        assert editor.apply(broken, editor.invert(PAGE, edit)) == PAGE
    assert changed > 10


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("page", [(), ("",), ("x",), ("'unclosed (",), ("\tdef f(a, b", "   ")])
def test_corruptions_take_any_page(name: str, page: Page) -> None:
    for seed in range(10):
        edit = CORRUPTIONS[name](page, random.Random(seed), DONORS)
        if edit is not None:
            editor.apply(page, edit)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_mending_in_order_restores_the_program(count: int) -> None:
    for seed in range(20):
        page, mending, names = corrupt(PAGE, count, random.Random(seed), DONORS)
        assert len(mending) == len(names) <= count
        for edit in mending:
            page = editor.apply(page, edit)
        assert page == PAGE


def test_the_difference_writes_only_lines_of_the_target() -> None:
    for seed in range(60):
        broken, _, _ = corrupt(PAGE, 4, random.Random(seed), DONORS)
        page = broken
        for edit in demos.difference(broken, PAGE):
            page = editor.apply(page, edit)
            if edit.command in ("ADDL", "REPL", "REPW"):
                assert page[edit.line - 1] in PAGE
        assert page == PAGE


@pytest.mark.parametrize("order", ["direct", "inverse"])
def test_demonstrations_are_broken_first_and_solved_last(order: demos.Order) -> None:
    tasks = load("builtin:validation").tasks[:6]
    variants = list(demos.broken_variants(tasks, 2, (1, 3), 0, CHECKER))
    traces = [t for t in demos.demonstrate(variants, CHECKER, order=order) if t is not None]
    assert len(traces) >= 8
    for trace in traces:
        assert trace.solved
        assert trace.end == "exit"
        assert trace.turns[-1].action == "### EXIT"
        assert len(trace.turns) > 1
        assert sum(turn.reward for turn in trace.turns) == 1.0
        assert trace.corruptions
        assert not CHECKER.check(trace.task.program or "", trace.task).solved


@pytest.mark.parametrize("order", ["direct", "inverse"])
def test_stumbles_are_mended_and_not_learned(order: demos.Order) -> None:
    tasks = load("builtin:validation").tasks[:6]
    variants = list(demos.broken_variants(tasks, 2, (1, 2), 0, CHECKER))

    def play(seed: int) -> list[Trace]:
        made = demos.demonstrate(variants, CHECKER, order=order, stumbles=0.4, seed=seed)
        return [trace for trace in made if trace is not None]

    traces = play(0)
    assert len(traces) >= 8
    assert all(trace.solved and trace.end == "exit" for trace in traces)
    given = [(t, turn) for t in traces for turn in t.turns if turn.given]
    idle = [turn for t, turn in given if turn.edit and turn.edit.text in turn.observation.page]
    assert len(given) > len(idle) > 0
    assert not any(trace.turns[-1].given for trace in traces)
    for trace in traces:
        mine = trace_tokens(trace, lambda text: [ord(letter) for letter in text])
        learned = "".join(map(chr, itertools.compress(mine.ids, mine.is_action)))
        assert learned == "".join(f"{turn.action}\n" for turn in trace.turns if not turn.given)
    assert play(0) == traces
    assert play(1) != traces


def test_broken_programs_depend_on_task_and_seed_alone() -> None:
    tasks = load("builtin:validation").tasks[:4]
    lines = demos.donors(tasks)

    def programs(some: tuple[Task, ...], seed: int) -> list[str | None]:
        found = demos.broken_variants(some, 1, (1, 2), seed, CHECKER, lines=lines)
        return [broken.task.program for broken in found]

    assert programs(tasks, 0) == programs(tasks, 0)
    assert programs(tasks[2:], 0) == programs(tasks, 0)[2:]
    assert programs(tasks, 1) != programs(tasks, 0)


def test_the_summary_counts() -> None:
    tasks = load("builtin:validation").tasks[:3]
    variants = list(demos.broken_variants(tasks, 1, (1, 1), 0, CHECKER))
    traces = [t for t in demos.demonstrate(variants, CHECKER) if t is not None]
    summary = demos.summarise(traces, dropped=2)
    assert summary.demos == len(traces)
    assert summary.dropped == 2
    assert sum(summary.corruptions.values()) == len(traces)
    assert sum(summary.turns.values()) == len(traces)
    assert summary.mean_edit_distance > 0
    assert demos.edit_distance("abc\n", "abd\r\n") == 1
