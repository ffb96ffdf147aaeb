"""DebugBench, bugs that a model put into answers to LeetCode's problems (Tian et al. 2024).

From the hub, or from a folder that holds `eval.json`. The data set is judged by LeetCode's own
server; here the tests are the examples that a problem gives, so only bugs are taken whose examples
are calls with plain values: in Python, of the level `easy`.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from collections import Counter
from pathlib import Path

import msgspec

from redpencil.tasks.cases import asserted, call
from redpencil.tasks.hub import Dataset
from redpencil.tasks.source import TaskSet, counted, tidy
from redpencil.types import Task

DATASET = Dataset("DebugBench", "Rtian/DebugBench")
FILE = "eval.json"
TOLERANCE = 1e-5
"""LeetCode takes a number that is as close as this."""

# What LeetCode imports before an answer, the names of the modules and what is in them.
_PRELUDE = (
    "collections typing functools itertools heapq bisect math string operator re random copy "
    "datetime sys"
)
_EXAMPLE = re.compile(
    r"Input:\s*(?P<given>.*?)\s*Output:\s*(?P<expected>.*?)\s*((Explanation|Note)\b.*)?", re.DOTALL
)
_ANY = re.compile(r"\b(in any order|any (one )?of them|any (valid|possible|such))\b", re.IGNORECASE)
_CONSTANTS = {"true": True, "false": False, "null": None}


class _Bug(msgspec.Struct, frozen=True):
    slug: str
    subtype: str
    language: str
    level: str
    question: str
    examples: list[str]
    solution: str
    buggy_code: str


class _LeftOut(Exception):
    """Why no test can be made of a bug's examples."""


def debugbench(folder: Path | None = None) -> TaskSet:
    """DebugBench's easy bugs in Python, all in the split `test`; every test is a visible example.

    Args:
        folder: where the file lies; else the hub.

    Raises:
        DataError: the file is missing or not what it should be.
        UsageError: there is no such folder, or none is named and the hub cannot be reached.
    """
    tasks: list[Task] = []
    left_out: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for _, bug in DATASET.rows("test", FILE, folder, _Bug, "debugbench:FOLDER"):
        if bug.language.casefold() not in ("python3", "python") or bug.level != "easy":
            continue
        name = f"debugbench/{bug.slug}#{bug.subtype.replace(' ', '-')}"
        named[name] += 1
        try:
            tasks.append(_task(bug, name if named[name] == 1 else f"{name}/{named[name]}"))
        except _LeftOut as reason:
            left_out[str(reason)] += 1
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    summary = f"{counted(len(tasks), 'DebugBench bug')} (Python, easy); left out: {reasons or 0}"
    return TaskSet(tuple(tasks), summary)


def _task(bug: _Bug, name: str) -> Task:
    if _ANY.search(bug.question):
        raise _LeftOut("with more than one right answer")
    try:
        tree = ast.parse(bug.solution)
    except (SyntaxError, ValueError):
        raise _LeftOut("whose solution is not Python") from None
    tests = [_test(example, tree) for example in bug.examples]
    if not tests:
        raise _LeftOut("without examples")
    imports = "".join(f"{line}\n" for line in _imports(tree))
    return Task(
        id=name,
        prompt=bug.question.strip(),
        program=tidy(imports + bug.buggy_code),
        solution=tidy(imports + bug.solution),
        tests=tuple(tests),
        hidden_tests=(),
        setup="",
        split="test",
    )


def _test(example: str, tree: ast.Module) -> str:
    """The example as an assert."""
    given, expected = _read_example(example)
    called = call(f"Solution().{_method(tree, list(given))}", given.values())
    return asserted(called, expected, within=TOLERANCE if isinstance(expected, float) else None)


def _read_example(example: str) -> tuple[dict[str, object], object]:
    """What is given, by name, and expected in `Input: x = [1,2], y = true`, `Output: 3`."""
    if found := _EXAMPLE.fullmatch(example.strip()):
        try:
            given = ast.parse(f"_({found['given']})", mode="eval").body
            expected = _value(ast.parse(found["expected"], mode="eval").body)
            match given:
                case ast.Call(args=[], keywords=[_, *_] as keywords):
                    return {str(word.arg): _value(word.value) for word in keywords}, expected
        except (SyntaxError, ValueError, TypeError):
            pass
    raise _LeftOut("with examples that are no plain calls")


def _value(node: ast.expr) -> object:
    """The plain value of a JSON literal that was parsed as Python."""
    match node:
        case ast.Name(name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.List(elements):
            return [_value(element) for element in elements]
    return ast.literal_eval(node)


def _method(tree: ast.Module, parameters: list[str]) -> str:
    """The method of `Solution` that takes these parameters, and returns something."""
    fitting = [
        method
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Solution"
        for method in node.body
        if isinstance(method, ast.FunctionDef)
        and [argument.arg for argument in method.args.args[1:]] == parameters
    ]
    match fitting:
        case [ast.FunctionDef(returns=ast.Constant(None))]:
            raise _LeftOut("that work in place")
        case [method]:
            return method.name
    raise _LeftOut("with examples that are no plain calls")


def _imports(tree: ast.Module) -> list[str]:
    """The imports of LeetCode's that the code needs, in one order.

    Only what the solution names is imported, for the broken program too, so that the two differ
    in nothing but the bug.
    """
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names -= _bound(tree) | set(dir(builtins))
    lines = []
    for module in _PRELUDE.split():
        if module in names:
            lines.append(f"import {module}")
            names.discard(module)
        if used := names & _public(module):
            lines.append(f"from {module} import {', '.join(sorted(used))}")
            names -= used
    if names:
        raise _LeftOut("that need classes of LeetCode's")
    return lines


def _public(module: str) -> set[str]:
    found = importlib.import_module(module)
    everything = [name for name in dir(found) if not name.startswith("_")]
    return set(getattr(found, "__all__", everything))


def _bound(tree: ast.Module) -> set[str]:
    """The names that the code binds anywhere."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(name, ctx=ast.Store()) | ast.arg(name):
                bound.add(name)
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                bound |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
    return bound
