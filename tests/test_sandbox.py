"""The sandbox: verdicts made outside, whatever the program does inside."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redpencil.errors import UsageError
from redpencil.sandbox import Limits, default, run
from redpencil.sandbox.inside.child import encode
from redpencil.sandbox.split import split
from redpencil.sandbox.values import Opaque, decode
from redpencil.types import Status

TESTS = ("assert f(1) == 2", "assert f(2) == 3")
RIGHT = "def f(x):\n    return x + 1\n"
QUICK = Limits(wall=0.5)


def test_tests_that_draw_at_random_draw_the_same_in_every_run() -> None:
    setup = "from random import randrange"
    tests = ["assert f(randrange(10**9)) == 0"]
    details = {run("def f(x):\n    return x\n", tests, setup=setup).detail for _ in range(3)}
    assert len(details) == 1


def test_a_right_program_passes() -> None:
    verdict = run(RIGHT, TESTS, hidden_tests=["assert f(0) == 1"])
    assert verdict.status is Status.PASSED
    assert verdict.solved
    assert (verdict.passed, verdict.total) == (2, 2)
    assert (verdict.hidden_passed, verdict.hidden_total) == (1, 1)
    assert verdict.detail == ""
    assert verdict.rung == default().rung
    assert verdict.inside == 0


@pytest.mark.parametrize(
    ("program", "status", "detail"),
    [
        ("def f(x) return", Status.CRASHED, "SyntaxError: expected ':' (line 1)"),
        ("def f(x):\n    return y\n", Status.FAILED, "name 'y' is not defined (line 2)"),
        ("def f(x):\n    return x", Status.FAILED, "f(1) returned 1, expected 2"),
        ("x = 1\n\n1 / 0", Status.CRASHED, "ZeroDivisionError: division by zero (line 3)"),
        ("def f(x):\n    return 'a' * 500", Status.FAILED, " ... "),
        ("while True: pass", Status.TIMED_OUT, "timed out after 0.5 s"),
        ("def f(x):\n    while True: pass", Status.TIMED_OUT, "timed out after 0.5 s in f(1)"),
        ("def f(x):\n    return [0] * 10**10", Status.OUT_OF_MEMORY, "MemoryError"),
        ("", Status.FAILED, "name 'f' is not defined"),
        ("def f(x): return 10 ** 5000", Status.FAILED, "f(1) returned <int with a number too long"),
    ],
)
def test_feedback_as_a_person_would_want_it(program: str, status: Status, detail: str) -> None:
    verdict = run(program, TESTS, QUICK)
    assert verdict.status is status
    assert detail in verdict.detail
    assert len(verdict.detail) < 400
    assert not verdict.solved


def test_hidden_tests_decide_but_say_nothing() -> None:
    verdict = run(RIGHT, TESTS, hidden_tests=["assert f(0) == 'secret'"])
    assert verdict.status is Status.PASSED
    assert not verdict.solved
    assert "secret" not in str(verdict)
    hanging = "def f(x):\n    while x == 0: pass\n    return x + 1\n"
    verdict = run(hanging, TESTS, QUICK, hidden_tests=["assert f(0) == 1"])
    assert verdict.status is Status.PASSED
    assert not verdict.solved


def test_runs_see_neither_each_other_nor_our_environment() -> None:
    os.environ["REDPENCIL_SECRET"] = "value"
    program = "import os\ndef f(x): return [sorted(os.environ), os.listdir('.')]"
    leave = "open('left', 'w').write('x')\n" + program
    expected = "assert f(1)[1] == []"
    assert run(leave, ["assert f(1)[1] == ['left']"]).solved
    assert run(program, [expected]).solved
    assert run(program, ["assert 'REDPENCIL_SECRET' not in f(1)[0]"]).solved


def test_a_hidden_test_that_cannot_be_split_is_never_sent() -> None:
    reader = (
        "import gc, sys\n"
        "def f(x):\n"
        "    found, frame = [], sys._getframe(0)\n"
        "    while frame:\n"
        "        found += [repr(frame.f_locals)]\n"
        "        for code in gc.get_objects() + [frame.f_code]:\n"
        "            found += [repr(getattr(code, 'co_consts', ''))]\n"
        "        frame = frame.f_back\n"
        "    return any('emases nepo' in text[::-1] for text in found)\n"
    )
    hidden = "for word in ['open sesame']:\n    assert f(1) != word"
    verdict = run(reader, ["assert f(1) == False"], hidden_tests=[hidden])
    assert verdict.status is Status.PASSED
    assert (verdict.hidden_passed, verdict.hidden_total, verdict.inside) == (0, 1, 0)
    assert not verdict.solved


def test_many_threads_may_run_programs_at_once() -> None:
    programs = [f"def f(x):\n    return x + {n}\n" for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda program: run(program, TESTS), programs))
    assert [verdict.solved for verdict in verdicts] == [n == 1 for n in range(12)]


def test_no_descriptor_is_left_open() -> None:
    run(RIGHT, TESTS)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for program in (RIGHT, "import os; os._exit(0)", "def f(x) return"):
        run(program, TESTS)
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after == before


def test_no_tests_is_an_error() -> None:
    with pytest.raises(UsageError, match="no tests"):
        run(RIGHT, [])


@pytest.mark.parametrize(
    ("test", "inside"),
    [
        ("assert f(1) == 2", False),
        ("assert not f(-1)", False),
        ("assert f(1) is not None", False),
        ("import math\nassert math.isclose(f(1), 2.0, rel_tol=1e-9)", False),
        ("assert abs(f(1) - 2) < 1e-6", False),
        ("assert sorted([f(1), f(0)]) == [1, 2]", False),
        ("assert [f(x) for x in (1, 2)] == [2, 3]", False),
        ("x = f(1)\ny = f(x)\nassert y == 3", False),
        ("assert f(1) in (2, 3) and f(2) > 1", False),
        ("assert all(f(x) in (2, 3) for x in (1, 2))", True),
        ("assert sum(f(x) for x in (1, 2)) == 5", False),
        ("assert f(1) - 2 == 0", False),
        ("assert [f(x) - x for x in (1, 2)] == [1, 1]", True),
        ("assert 2 ** f(1) == 4", True),
        ("ok = f(1) == 2\nassert ok", True),
        ("assert all(f(x) == x + 1 for x in (1, 2))", True),
        ("assert all([f(a) == b for a, b in [(1, 2), (2, 3)]])", True),
        ("assert (f(1) == 2 if f else 0)", True),
        ("assert [f(1) == 2, f(2) == 3][0]", True),
        ("assert f(1).__eq__(2)", True),
        ("assert hasattr(f(1), 'real')", True),
        ("import operator\nassert operator.eq(f(1), 2)", True),
        ("import math\nassert math.factorial(f(1)) == 2", True),
        ("assert f(1) in range(10)", True),
        ("assert sum(range(f(1))) == 1", True),
        ("assert f(1) % 2 == 0", True),
        ("assert isinstance(f(1), type(f(2)))", True),
        ("assert isinstance(f(1), int)", False),
        ("assert f(1) == f(1)", True),
        ("for x in range(3):\n    assert f(x) == x + 1", True),
        ("def check(g):\n    assert g(1) == 2\ncheck(f)", True),
    ],
)
def test_every_shape_of_test_is_judged(test: str, inside: bool) -> None:
    assert split(test).inside is inside
    right = run(RIGHT, [test])
    assert right.solved
    assert right.inside == inside
    if not any(shape in test for shape in ("== f(1)", "__eq__", "type(f(2))")):
        assert not run("def f(x):\n    return None\n", [test]).solved or "not f" in test


def test_a_program_may_define_a_name_that_is_a_builtin() -> None:
    assert run("def sum(a, b):\n    return a * b\n", ["assert sum(2, 5) == 10"]).solved
    assert not run("def sum(a, b):\n    return a\n", ["assert sum(2, 5) == 10"]).solved


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("class math:\n    isclose = lambda *a, **k: True", "assert math.isclose(f(1), 3.25)"),
        (
            "def abs(x): return 0\nclass E:\n    __sub__ = lambda s, o: 0",
            "assert abs(f(1) - 3) < 1",
        ),
        ("def all(x): return True", "assert all([f(1)])"),
        ("class set:\n    __eq__ = lambda s, o: True", "assert set([f(1)]) == {4, 5}"),
        ('"""\ndef len(x):\n"""', "assert len(f(1)) == 3"),
    ],
)
def test_a_program_does_not_choose_its_judge(program: str, test: str) -> None:
    verdict = run(program + "\ndef f(x): return 0\n", [test])
    assert not verdict.solved
    assert verdict.inside == 0


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f():\n    yield 0\n    yield 1", "assert list(f()) == [0, 1]"),
        ("def f():\n    yield 0\n    yield 1", "assert f() != [0, 1]"),
        ("def f(): return {'a': 1}.items()", "assert sorted(f()) == [('a', 1)]"),
        ("import collections\ndef f(): return collections.deque([1])", "assert list(f()) == [1]"),
        ("def f(): return map(str, [1, 2])", "assert ','.join(f()) == '1,2'"),
        ("def f(): return iter(())", "assert f()"),
        ("def f(): return {}.keys()", "assert not f()"),
        ("def f(): return 10 ** 5000", "assert f() > 10 ** 4999"),
        ("def f(): return range(3)", "assert f() == range(3)"),
        ("def f(): return bytearray(b'x')", "assert isinstance(f(), bytearray) or f() == b'x'"),
        ("def f(): return '\\ud800'", "assert f() == '\\ud800'"),
        ("def f(): return None", "assert f() is None or f().x == 3"),
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            "@dataclass\nclass P:\n    x: int = 1\ndef f(): return P().x",
            "assert f() == 1",
        ),
        (
            "import pickle\nclass P: x = 1\ndef f(): return pickle.loads(pickle.dumps(P())).x",
            "assert f() == 1",
        ),
        (
            "def f():\n    v = []\n    for _ in range(90): v = [v]\n    return v",
            "assert f()[0] == " + "[" * 90 + "]" * 90,
        ),
        ("class B(bytes):\n    __bytes__ = None\ndef f(): return B(b'x')", "assert f() == b'x'"),
    ],
)
def test_right_programs_are_judged_right(program: str, test: str) -> None:
    verdict = run(program, [test])
    assert verdict.solved, verdict.detail


HASHABLE = """
def hashable(base):
    return type("Own", (base,), {"__hash__": lambda self: 7, "__eq__": lambda self, other: True})
List, Set, Dict, Bytes = map(hashable, (list, set, dict, bytearray))
def f(): return """


@pytest.mark.parametrize(
    ("value", "test", "holds"),
    [
        ("{List([1]): 2}", "assert len(f()) == 1", True),
        ("{List([1]): 2}", "assert list(f()) == [[1]]", True),
        ("{(List([1]), 2)}", "assert sorted(f()) == [([1], 2)]", True),
        ("frozenset([Set([1])])", "assert list(f()) == [{1}]", True),
        ("{Dict(a=1)}", "assert list(f()) == [{'a': 1}]", True),
        ("{Bytes(b'x'): List([3])}", "assert list(f()) == [b'x']", True),
        ("{List([List([1])]), 5}", "assert len(f()) == 2", True),
        ("{List([1]): 2}", "assert list(f()) == [[2]]", False),
        ("{List([1]): 2}", "assert f() == {7: 2}", False),
        ("{List([1])}", "assert f() == {(1,)}", False),
        ("{List([1])}", "assert 7 in f()", False),
        ("{(List([1]), 2): 3}", "assert f() == {(7, 2): 3}", False),
    ],
)
def test_what_a_program_made_hashable_may_be_a_key(value: str, test: str, holds: bool) -> None:
    verdict = run(HASHABLE + value, [test])
    assert verdict.status is (Status.PASSED if holds else Status.FAILED), verdict.detail
    assert verdict.inside == 0


def test_a_surrogate_in_a_message_does_no_harm() -> None:
    verdict = run("def f(x): raise ValueError('\\ud800\\x1b[2J')", TESTS)
    assert verdict.detail == "f(1) raised ValueError: \\ud800\\x1b[2J (line 1)"


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        ("1", "1.0", True),
        ("True", "1", True),
        ("(1, 2)", "[1, 2]", False),
        ("{1, 2}", "{2, 1}", True),
        ("float('nan')", "float('nan')", False),
        ("b'x'", "'x'", False),
        ("__import__('collections').Counter('aab')", "{'a': 2, 'b': 1}", True),
        ("__import__('collections').OrderedDict(a=1)", "{'a': 1}", True),
        ("10**30", "10**30", True),
        ("object()", "None", False),
    ],
)
def test_values_compare_as_python_compares_them(value: str, expected: str, equal: bool) -> None:
    verdict = run(f"def f():\n    return {value}\n", [f"assert f() == {expected}"])
    assert verdict.inside == 0
    assert verdict.solved is equal


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(), max_size=4)
        | st.sets(st.integers() | st.text(), max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
@example(complex(-0.0, -0.0))
def test_plain_values_come_out_as_they_went_in(value: Any) -> None:
    decoded = decode(json.loads(encode(value)))
    assert decoded == value
    assert repr(decoded) == repr(value) or isinstance(value, set | frozenset | dict | list | tuple)
    assert type(decoded) is type(value)


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(), st.lists, max_leaves=5))
def test_decoding_trusts_nothing(forged: Any) -> None:
    for tag in ("int", "float", "list", "set", "dict", "complex", "bytes", "nonsense"):
        try:
            decode({tag: forged})
        except ValueError:
            continue


def test_objects_equal_nothing() -> None:
    value = decode(json.loads(encode(object())))
    assert isinstance(value, Opaque)
    assert value != value
    assert [value] != [Opaque("object")]
