"""A program under other local names is the same program."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from redpencil import demos
from redpencil.checkers import PythonChecker
from redpencil.rename import local_names, renamed
from redpencil.sameness import shape
from redpencil.tasks import load
from redpencil.types import Task

CHECKER = PythonChecker()
NAMES = ["alpha", "beta", "gamma", "delta"]


def of(task: Task, solution: str) -> Task:
    return msgspec.structs.replace(task, solution=solution)


def test_problems_on_board_are_the_same_and_pass_under_other_names() -> None:
    tasks = load("builtin:validation").tasks
    names = local_names(tasks)
    changed = 0
    for task in tasks:
        other = renamed(task, names, Random(0))
        assert other == renamed(task, names, Random(0))
        assert shape(other.solution or "") == shape(task.solution or "")
        assert CHECKER.check(other.solution or "", other).solved, other.solution
        changed += other.solution != task.solution
    assert changed > 0.9 * len(tasks)


def test_all_else_stays_to_the_letter(double: Task) -> None:
    task = of(
        double,
        "def double(n):  # n is a number\n\n    twice = (n +\n        n)\n    return twice\n",
    )
    solution = renamed(task, ["alpha"], Random(0)).solution
    assert solution == (
        "def double(alpha):  # n is a number\n\n    twice = (alpha +\n        alpha)\n"
        "    return twice\n"
    )  # No name is left for the second.


@pytest.mark.parametrize(
    ("program", "free"),
    [
        ("def double(n, m=2):\n    return n * m\n", {"n", "m"}),
        ("import os as system\ndef double(n):\n    system.x = n\n", {"n"}),
        ("def double(n):\n    return dict(n=n)\n", set()),
        ("def double(n):\n    node.n = n\n", set()),
        ("def double(n):\n    return f'{n}'\n", set()),
        ("def double(n):\n    return '{n}'.format(**locals())\n", set()),
        ("def double(list):\n    return list\n", set()),
        ("def double(self, _n):\n    return _n\n", set()),
        ("def double(n):\n    def inner():\n        return n\n    return inner\n", {"n"}),
        ("def double(n):\n    return [x for x, y in n if (z := y)]\n", {"n", "x", "y", "z"}),
        ("total = 0\ndef double():\n    global total\n    del total\n", set()),
    ],
)
def test_names_that_others_refer_to_are_kept(double: Task, program: str, free: set[str]) -> None:
    task = of(double, program)
    assert set(local_names([task])) == free
    solution = renamed(task, NAMES, Random(1)).solution or ""
    assert shape(solution) == shape(program)
    assert (solution != program) == bool(free)


def test_names_of_the_tests_are_neither_changed_nor_given(double: Task) -> None:
    task = msgspec.structs.replace(double, tests=("assert double(n=2) == alpha",))
    assert local_names([task]) == []
    task = msgspec.structs.replace(double, tests=("assert double(2) == alpha",))
    assert renamed(task, ["alpha"], Random(0)) == task


def test_a_name_is_given_once(double: Task) -> None:
    task = of(double, "def double(a, b):\n    return a + b\n")
    assert renamed(task, ["x", "x"], Random(0)).solution == "def double(x, b):\n    return x + b\n"


def test_demonstrations_are_of_programs_under_both_names() -> None:
    tasks = load("builtin:validation").tasks[:6]
    plain = [draws(task, 0.0) for task in tasks]
    mixed = [draws(task, 0.5) for task in tasks]
    kept = other = 0
    for before, after in zip(plain, mixed, strict=True):
        for one, two in zip(before, after, strict=True):
            same = one.task.solution == two.task.solution
            kept, other = kept + same, other + (not same)
            assert (one == two) == same
            assert shape(one.task.solution or "") == shape(two.task.solution or "")
    assert kept > 5 < other
    played = list(demos.demonstrate([item for items in mixed for item in items], CHECKER))
    assert not any(isinstance(trace, demos.Drop) for trace in played)


def draws(task: Task, share: float) -> list[demos.Broken]:
    names = ["alpha", "beta", "gamma", "delta", "omega", "kappa"]
    breaker = demos.Breaker(task, (1, 1), 0, [], CHECKER, "bugs", names=names, renamed=share)
    return [broken for variant in range(4) if (broken := breaker.draw(variant)) is not None]
