"""Corruptions break programs; demonstrations mend them, and only what mends is kept."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpencil import demos, editor
from redpencil.checkers import PythonChecker, judge
from redpencil.corrupt import CORRUPTIONS, corrupt
from redpencil.env import Method
from redpencil.errors import SandboxError, UsageError
from redpencil.sameness import normalised
from redpencil.tasks import load
from redpencil.train.tokens import trace_tokens
from redpencil.types import Page, Status, Task, Trace, Verdict

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
    made = demos.demonstrate(variants, CHECKER, order=order)
    traces = [trace for trace in made if isinstance(trace, Trace)]
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
        return [trace for trace in made if isinstance(trace, Trace)]

    traces = play(0)
    assert len(traces) >= 8
    assert all(trace.solved and trace.end == "exit" for trace in traces)
    bad = [turn for trace in traces for turn in trace.turns if turn.given]
    idle = [turn for turn in bad if turn.edit and turn.edit.text in turn.observation.page]
    assert len(bad) > len(idle) > 0
    assert not any(trace.turns[-1].given for trace in traces)
    for trace in traces:
        (mine,) = trace_tokens(trace, Letters())
        learned = "".join(map(chr, itertools.compress(mine.ids, mine.is_action)))
        assert learned == "".join(f"{turn.action}\n" for turn in trace.turns if not turn.given)
    assert play(0) == traces
    assert play(1) != traces


class Letters:
    """A tokenizer whose tokens are letters, and no others."""

    bos_token_id = None

    def encode(
        self, text: str, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> list[int]:
        return [ord(letter) for letter in text]


def test_an_answer_in_place_of_edits_is_the_solution_to_the_same_programs() -> None:
    tasks = load("builtin:validation").tasks[:4]
    variants = list(demos.broken_variants(tasks, 1, (1, 2), 0, CHECKER))
    edits = list(demos.demonstrate(variants, CHECKER))
    answers = list(demos.demonstrate(variants, CHECKER, method="direct"))
    assert len(edits) == len(answers) == len(variants) > 0
    for edited, answered in zip(edits, answers, strict=True):
        assert isinstance(edited, Trace)
        assert isinstance(answered, Trace)
        assert answered.task == edited.task
        assert (answered.method, answered.policy) == ("direct", "demo:answer")
        assert answered.solved
        (turn,) = answered.turns
        assert turn.action == f"```python\n{edited.task.solution}```"


def test_reasoning_says_what_is_wrong_and_then_answers() -> None:
    tasks = load("builtin:validation").tasks[:4]
    variants = list(demos.broken_variants(tasks, 1, (1, 3), 0, CHECKER))
    answers = demos.demonstrate(variants, CHECKER, method="direct")
    reasoned = demos.demonstrate(variants, CHECKER, method="reasoning")
    for answered, thought in zip(answers, reasoned, strict=True):
        assert isinstance(answered, Trace)
        assert isinstance(thought, Trace)
        assert (thought.method, thought.task) == ("reasoning", answered.task)
        said, program = thought.turns[0].action.split("\n\n", 1)
        assert said.startswith(("Line ", "After line "))
        assert program == answered.turns[0].action


@pytest.mark.parametrize("method", ["coe", "in-place", "direct", "reasoning"])
def test_what_is_not_broken_is_no_demonstration(method: Method) -> None:
    task = load("builtin:validation").tasks[0]
    right = demos.Broken(msgspec.structs.replace(task, program=task.solution), (), ())
    assert list(demos.demonstrate([right], CHECKER, method=method)) == [demos.Drop.UNMENDED]


def test_words_say_what_the_edits_do() -> None:
    page = ("def f(n):", "    print(n)", "    n -= 1", "", "    return m")
    target = (
        "import math",
        "def f(n):",
        "    n -= 1",
        "",
        "    n = abs(n)",
        "    return n",
        "    #",
    )
    assert demos.in_words(page, target) == [
        "After line 0, `import math` is missing.",
        "Line 2, `    print(n)`, does not belong there.",
        "Line 5, `    return m`, should be `    n = abs(n)`.",
        "After line 5, `    return n` is missing.",
        "After line 5, `    #` is missing.",
    ]
    assert demos.in_words(("a", "b", "c", "d"), ("x", "d")) == [
        "Line 1, `a`, should be `x`.",
        "Line 2, `b`, does not belong there.",
        "Line 3, `c`, does not belong there.",
    ]


LINES = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=6).map(tuple)


@given(LINES, LINES)
def test_there_is_a_sentence_for_each_edit(page: Page, target: Page) -> None:
    assert len(demos.in_words(page, target)) == len(demos.difference(page, target))


def test_broken_programs_depend_on_task_and_seed_alone() -> None:
    tasks = load("builtin:validation").tasks[:4]
    lines = demos.donors(tasks)

    def programs(some: tuple[Task, ...], seed: int) -> list[str | None]:
        found = demos.broken_variants(some, 1, (1, 2), seed, CHECKER, lines=lines)
        return [broken.task.program for broken in found]

    assert programs(tasks, 0) == programs(tasks, 0)
    assert programs(tasks[2:], 0) == programs(tasks, 0)[2:]
    assert programs(tasks, 1) != programs(tasks, 0)


def test_no_program_of_a_task_is_drawn_twice(double: Task) -> None:
    task = msgspec.structs.replace(double, program=None)
    breaker = demos.Breaker(task, (1, 1), 0, DONORS, CHECKER)
    drawn = [broken for variant in range(80) if (broken := breaker.draw(variant))]
    programs = [normalised(broken.task.program or "") for broken in drawn]
    assert len(set(programs)) == len(programs) > 20
    assert normalised(task.solution or "") not in programs
    assert breaker.drops[demos.Drop.DUPLICATE] > 20


def test_what_the_machinery_fails_at_is_no_verdict_on_a_program(double: Task) -> None:
    class Dead:
        def check(self, text: str, task: Task) -> Verdict:
            return Verdict(Status.INFRA_ERROR, 0, 2, "no process left", 0.0, "none")

    variant = demos.Broken(double, (), ())
    with pytest.raises(SandboxError, match="no process left"):
        list(demos.demonstrate([variant], Dead()))
    blank = msgspec.structs.replace(double, program=None)
    with pytest.raises(SandboxError, match="no process left"):
        list(demos.broken_variants([blank], 1, (1, 1), 0, Dead()))


def test_programs_that_came_broken_are_mended_if_the_solution_is_known(double: Task) -> None:
    for order in ("direct", "inverse"):
        (trace,) = demos.demonstrate([demos.Broken(double, (), ())], CHECKER, order=order)
        assert isinstance(trace, Trace)
        assert trace.turns[0].action == "### REPL 2 >>>    return n * 2"
    unknown = demos.Broken(msgspec.structs.replace(double, solution=None), (), ())
    with pytest.raises(UsageError, match="no solution to demonstrate"):
        list(demos.demonstrate([unknown], CHECKER))


def test_a_mixture_is_drawn_by_weight_and_seed(double: Task) -> None:
    groups = [
        [
            demos.Broken(msgspec.structs.replace(double, id=f"{kind}{n}"), (), ())
            for n in range(count)
        ]
        for kind, count in (("a", 50), ("b", 3))
    ]
    mixed = demos.mixture(groups, [3, 1], 400, seed=1)
    ids = [broken.task.id for broken in mixed]
    assert 260 < sum(task_id[0] == "a" for task_id in ids) < 340
    # Each group is gone through whole before any of it comes again.
    assert len({task_id for task_id in ids if task_id[0] == "a"}) == 50
    from_b = [task_id for task_id in ids if task_id[0] == "b"]
    assert max(from_b.count(f"b{n}") for n in range(3)) - min(map(from_b.count, set(from_b))) <= 1
    assert demos.mixture(groups, [3, 1], 400, seed=1) == mixed
    assert demos.mixture(groups, [3, 1], 400, seed=2) != mixed
    with pytest.raises(UsageError, match="2 sources of tasks need as many weights"):
        demos.mixture(groups, [1], 4, seed=0)


def test_a_broken_program_says_how_it_fails() -> None:
    tasks = load("builtin:train").tasks[:4]
    broken = [one.task for one in demos.broken_variants(tasks, 3, (1, 3), 0, CHECKER)]
    assert len({task.fault for task in broken}) > 2
    for task in broken:
        assert task.fault == judge(CHECKER, task.program or "", task).fault


def test_some_programs_are_left_intact(double: Task) -> None:
    numbered = [msgspec.structs.replace(double, id=f"t{n}", fault="NameError") for n in range(200)]
    broken = [demos.Broken(task, ("misspell",), ()) for task in numbered]
    drawn = list(demos.some_intact(broken, 0.25, 1, CHECKER))
    assert [one.task.id for one in drawn] == [task.id for task in numbered]
    intact = [one for one in drawn if one.task.program == double.solution]
    assert 30 < len(intact) < 70
    assert all(not one.corruptions and not one.task.fault for one in intact)
    assert [one for one in drawn if one not in intact] == [
        one for one, now in zip(broken, drawn, strict=True) if now not in intact
    ]
    assert drawn == list(demos.some_intact(broken, 0.25, 1, CHECKER))
    assert list(demos.some_intact(broken, 0, 1, CHECKER)) == broken


@pytest.mark.parametrize("solution", [None, "def double(n):\n    return n + 3\n"])
def test_what_has_no_right_solution_cannot_be_left_intact(
    solution: str | None, double: Task
) -> None:
    task = msgspec.structs.replace(double, solution=solution)
    broken = [demos.Broken(task, ("misspell",), ())]
    assert list(demos.some_intact(broken, 1, 0, CHECKER)) == broken
