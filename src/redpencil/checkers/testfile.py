"""Reading a user's file of tests: plain asserts, or plain pytest functions."""

from __future__ import annotations

import ast
from pathlib import Path

from redpencil.errors import DataError
from redpencil.files import read_python


def read_tests(path: Path, program_name: str) -> tuple[tuple[str, ...], str]:
    """The tests of a file, and the setup to run before them.

    Every assert at the top level is a test, and so is every function `test_...` without
    arguments; one whose body is nothing but asserts is as many tests as it has asserts. All other
    statements are setup, but for imports of the program itself, whose names the tests share.

    Args:
        program_name: the program's module name, such as `shop` for `shop.py`.

    Raises:
        DataError: the file is missing, is not Python, has no tests, or uses pytest's fixtures,
            parametrize or test classes; the message names the line.
    """
    _, tree = read_python(path)
    tests: list[str] = []
    setup: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assert):
            tests.append(ast.unparse(node))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            tests += _function_tests(node, path)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            raise DataError(
                f"{path}, line {node.lineno}: test classes are not supported; "
                "write plain functions test_...()"
            )
        elif not _imports(node, program_name):
            setup.append(ast.unparse(node))
    if not tests:
        raise DataError(f"no tests in {path}: write asserts, or functions test_...() with asserts")
    return tuple(tests), "\n".join(setup)


def _function_tests(node: ast.FunctionDef, path: Path) -> list[str]:
    arguments = node.args
    if arguments.args or arguments.posonlyargs or arguments.kwonlyargs or node.decorator_list:
        raise DataError(
            f"{path}, line {node.lineno}: {node.name} uses fixtures, parametrize or another "
            "decorator, which are not supported; write a plain function without arguments"
        )
    body = [
        statement
        for statement in node.body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]
    if body and all(isinstance(statement, ast.Assert) for statement in body):
        return [ast.unparse(statement) for statement in body]
    return [f"{ast.unparse(node)}\n{node.name}()"]


def _imports(node: ast.stmt, program_name: str) -> bool:
    """Whether the statement only imports the program under test."""
    if isinstance(node, ast.ImportFrom):
        return node.module == program_name
    return isinstance(node, ast.Import) and all(
        alias.name == program_name and alias.asname is None for alias in node.names
    )
