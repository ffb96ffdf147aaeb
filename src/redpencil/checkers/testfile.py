"""Reading a user's file of tests: plain asserts, plain functions, or whatever pytest runs."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from redpencil.errors import DataError, MissingDependency
from redpencil.files import read_python

# The program lives in the namespace that tests run in; here it also becomes a module.
_AS_MODULE = """
def make_program_a_module(name, values=globals()):
    import sys, types
    class Program(types.ModuleType):
        def __getattr__(self, attribute):
            if attribute in values:
                return values[attribute]
            raise AttributeError(f"module {{name!r}} has no attribute {{attribute!r}}")
        def __setattr__(self, attribute, value):
            values[attribute] = value
        def __delattr__(self, attribute):
            del values[attribute]
    sys.modules[name] = Program(name)
make_program_a_module({name!r})
"""
_RUN_PYTEST = """
def run_pytest(source):
    import os, sys, pytest
    failures, file = {{}}, "test_program.py"
    class Reader:
        def pytest_runtest_logreport(self, report):
            if report.failed:
                name = report.nodeid.split("::", 1)[1].split("[")[0]
                failures.setdefault(name, complaint(report.longrepr))
        def pytest_collectreport(self, report):
            if report.failed:
                failures[""] = complaint(report.longrepr)
    def complaint(shown):
        crash = getattr(shown, "reprcrash", None)
        return str(crash.message if crash else shown).strip().removeprefix("AssertionError: ")
    with open(file, "w") as written:
        written.write(source)
    sys.dont_write_bytecode = True
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-q", "--rootdir=.", "-p", "no:cacheprovider", "-p", "no:faulthandler", file]
    pytest.main(options, plugins=[Reader()])
    return failures
failures = run_pytest({source!r})
def run_test(name):
    for key in ("", name):
        assert key not in failures, failures[key]
"""


def read_tests(path: Path, program_name: str) -> tuple[tuple[str, ...], str]:
    """The tests of a file, and the setup to run before them.

    Where every assert stands at the top level or in a plain function `test_...` without arguments,
    each is a test of its own (or each function is, if it does more than assert), which the sandbox
    can judge from outside. A file with fixtures, parametrize, test classes or anything else of
    pytest's or unittest's is run by pytest, inside the sandbox, each function being one test.

    Args:
        program_name: the program's module name, such as `shop` for `shop.py`.

    Raises:
        DataError: the file is missing, is not Python, or has no tests.
        MissingDependency: it needs pytest, which is not installed.
    """
    source, tree = read_python(path)
    if any(_needs_pytest(node) for node in tree.body):
        tests, setup = _pytest_tests(source, tree, program_name)
    else:
        tests, setup = _plain_tests(tree, program_name)
    if not tests:
        raise DataError(f"no tests in {path}: write asserts, or functions test_...() with asserts")
    return tuple(tests), setup


def _needs_pytest(node: ast.stmt) -> bool:
    match node:
        case ast.FunctionDef(name=name, args=arguments, decorator_list=decorators):
            takes = arguments.args or arguments.posonlyargs or arguments.kwonlyargs
            return name.startswith("test") and bool(takes or decorators)
        case ast.ClassDef():
            return any(_class_tests(node))
        case ast.Import(names=names):
            return any(alias.name.split(".")[0] == "pytest" for alias in names)
        case ast.ImportFrom(module=module):
            return (module or "").split(".")[0] == "pytest"
    return isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test")


def _plain_tests(tree: ast.Module, program_name: str) -> tuple[list[str], str]:
    tests: list[str] = []
    setup: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assert):
            tests.append(ast.unparse(node))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            tests += _function_tests(node)
        elif not _takes_plain_names(node, program_name):
            setup.append(ast.unparse(node))
    if any(_imports(node, program_name) for node in ast.walk(tree)):
        setup.insert(0, _AS_MODULE.format(name=program_name))
    return tests, "\n".join(setup)


def _function_tests(node: ast.FunctionDef) -> list[str]:
    body = [
        statement
        for statement in node.body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]
    if body and all(isinstance(statement, ast.Assert) for statement in body):
        return [ast.unparse(statement) for statement in body]
    return [f"{ast.unparse(node)}\n{node.name}()"]


def _takes_plain_names(node: ast.AST, program_name: str) -> bool:
    """Whether the statement imports names of the program under those very names."""
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == program_name
        and all(alias.asname is None and alias.name != "*" for alias in node.names)
    )


def _imports(node: ast.AST, program_name: str) -> bool:
    """Whether the statement imports the program otherwise."""
    if isinstance(node, ast.Import):
        return any(alias.name == program_name for alias in node.names)
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == program_name
        and not _takes_plain_names(node, program_name)
    )


def _pytest_tests(source: str, tree: ast.Module, program_name: str) -> tuple[list[str], str]:
    if importlib.util.find_spec("pytest") is None:
        raise MissingDependency("these tests need pytest: pip install pytest")
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, functions) and node.name.startswith("test"):
            names.append(node.name)
        elif isinstance(node, ast.ClassDef):
            names += _class_tests(node)
    setup = _AS_MODULE.format(name=program_name) + _RUN_PYTEST.format(source=source)
    return [f"run_test({name!r})" for name in names], setup


def _class_tests(node: ast.ClassDef) -> Iterator[str]:
    """Names of the tests in a class of pytest's or unittest's kind."""
    of_unittest = any(ast.unparse(base).endswith("TestCase") for base in node.bases)
    if not (of_unittest or node.name.startswith("Test")):
        return
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith(
            "test"
        ):
            yield f"{node.name}::{inner.name}"
