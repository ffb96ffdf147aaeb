"""QuixBugs, 40 classic algorithms with a bug on one line each (Lin et al. 2017), from a folder.

The folder is a clone of the repository: `python_programs/NAME.py` are broken, the same files in
`correct_python_programs/` are not, and `json_testcases/NAME.json` has a case a line.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from redpencil.errors import DataError, UsageError
from redpencil.files import numbered_jsonl, read_python
from redpencil.sandbox import can_be_hidden
from redpencil.tasks.cases import asserted, call
from redpencil.tasks.humaneval import VISIBLE
from redpencil.tasks.source import TaskSet, counted, tidy
from redpencil.types import Task

PROGRAMS, SOLUTIONS, CASES = "python_programs", "correct_python_programs", "json_testcases"


def quixbugs(folder: Path) -> TaskSet:
    """The bugs that have JSON test cases, all in the split `test`; the first three cases visible.

    The others are programs on graphs, whose tests build objects. Cases that the repository's own
    tests skip, since the correct program takes too long for them, are left out.

    Raises:
        DataError: a file is missing or not what it should be.
        UsageError: there is no such folder.
    """
    if not (folder / PROGRAMS).is_dir():
        raise UsageError(f"no folder {folder / PROGRAMS}: name a clone of the QuixBugs repository")
    tasks, on_graphs, skipped = [], 0, 0
    for path in sorted((folder / PROGRAMS).glob("*.py")):
        if path.stem in ("__init__", "node") or path.stem.endswith("_test"):
            continue
        if (folder / CASES / f"{path.stem}.json").exists():
            task, slow = _task(folder, path.stem)
            tasks.append(task)
            skipped += slow
        else:
            on_graphs += 1
    summary = (
        f"{counted(len(tasks), 'QuixBugs program')}; "
        f"{on_graphs} on graphs left out (no JSON test cases), {counted(skipped, 'slow case')} too"
    )
    return TaskSet(tuple(tasks), summary)


def _task(folder: Path, name: str) -> tuple[Task, int]:
    """The task of a program, and how many of its cases are skipped."""
    program, words = _code(folder / PROGRAMS / f"{name}.py")
    solution, _ = _code(folder / SOLUTIONS / f"{name}.py")
    function = _function(solution, name, folder / SOLUTIONS / f"{name}.py")
    path = folder / CASES / f"{name}.json"
    # The one argument of a function need not be in a list.
    cases = [
        (given if isinstance(given, list) else [given], expected)
        for _, (given, expected) in numbered_jsonl(path, tuple[Any, Any])
    ]
    slow = list(_skipped(folder / "python_testcases" / f"test_{name}.py"))
    tests = [_test(function, *case) for case in cases if case[0] not in slow]
    if not tests:
        raise DataError(f"{path} has no test case to run")
    hidden = [test for test in tests[VISIBLE:] if can_be_hidden(test, solution)]
    task = Task(
        id=f"quixbugs/{name}",
        prompt=words or name.replace("_", " "),
        program=program,
        solution=solution,
        tests=tuple(test for test in tests if test not in hidden),
        hidden_tests=tuple(hidden),
        setup="",
        split="test",
    )
    return task, len(cases) - len(tests)


def _code(path: Path) -> tuple[str, str]:
    """The code of a file, and the words on it, which stand at the end of a broken program's.

    At the end of a correct program's there are other solutions.
    """
    text, tree = read_python(path)
    lines: list[str | None] = list(text.split("\n"))
    words = ""
    for node in tree.body:
        match node:
            case ast.Expr(ast.Constant(str() as said)):
                words = words or inspect.cleandoc(said)
                first, last = node.lineno - 1, node.end_lineno or node.lineno
                lines[first:last] = [None] * (last - first)
    told = takewhile(lambda line: not line.startswith("Example"), words.split("\n"))
    return (
        tidy("\n".join(line for line in lines if line is not None)),
        "\n".join(line.rstrip() for line in told if line.strip()),
    )


def _function(code: str, name: str, path: Path) -> ast.FunctionDef:
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise DataError(f"{path} does not define the function {name!r}")


def _test(function: ast.FunctionDef, given: list[Any], expected: Any) -> str:
    """The case as an assert, as the repository's own tests compare: JSON does not tell all.

    A generator is gone through; where the solution makes pairs, inner lists are tuples; and where
    it takes an `epsilon`, the result may be off by as much.
    """
    called = call(function.name, given)
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function)):
        called = f"list({called})"
    parameters = [parameter.arg for parameter in function.args.args]
    bounds = dict(zip(parameters, given, strict=False))
    if isinstance(expected, list) and _makes_tuples(function):
        expected = [tuple(item) if isinstance(item, list) else item for item in expected]
    return asserted(called, expected, within=bounds.get("epsilon"))


def _makes_tuples(function: ast.FunctionDef) -> bool:
    """Whether a function hands tuples to another, or returns them."""
    handed = [node.args for node in ast.walk(function) if isinstance(node, ast.Call)]
    returned = [[node.value] for node in ast.walk(function) if isinstance(node, ast.Return)]
    return any(isinstance(node, ast.Tuple) for nodes in handed + returned for node in nodes)


def _skipped(path: Path) -> Iterator[Any]:
    """The inputs for which the repository's tests say `if input_data == ...: pytest.skip(...)`."""
    if not path.exists():
        return
    for node in ast.walk(read_python(path)[1]):
        if isinstance(node, ast.If) and "pytest.skip" in ast.unparse(node.body[0]):
            for inner in ast.walk(node.test):
                if isinstance(inner, ast.Compare) and isinstance(inner.ops[0], ast.Eq):
                    try:
                        yield ast.literal_eval(inner.comparators[0])
                    except ValueError:
                        continue
