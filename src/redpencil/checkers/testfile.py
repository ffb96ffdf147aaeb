"""Reading a user's file of tests: plain asserts, plain functions, or whatever pytest runs.

They are run in a namespace of their own (`Program.imported_as` of the sandbox), in which the
program's names are there unless the file puts others in their place, and may be imported too.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

from redpencil.errors import DataError, MissingDependency
from redpencil.files import read_python

_RUN_PYTEST = """
def run_pytest(source, known):
    import os, sys, pytest
    failures, passed, missing, file = {{}}, set(), [], "test_program.py"
    class Reader:
        def pytest_runtest_logreport(self, report):
            name = report.nodeid.split("::", 1)[1].split("[")[0]
            if report.failed:
                failures.setdefault(name, complaint(report.longrepr))
            elif skipped_by_program(report):
                failures.setdefault(name, "the program skips it")
            elif report.skipped or report.when == "call":
                passed.add(name)
        def pytest_exception_interact(self, call, report):
            cause = call.excinfo.value.__cause__
            if report.when == "collect" and isinstance(cause, ModuleNotFoundError):
                missing.append(cause)
        def pytest_collectreport(self, report):
            if report.failed or report.skipped:
                failures[""] = complaint(report.longrepr)
    def skipped_by_program(report):
        return report.skipped and "<program>" in str(report.longrepr)
    def complaint(shown):
        if isinstance(shown, tuple):  # of what is skipped: where, and why
            return shown[-1]
        crash = getattr(shown, "reprcrash", None)
        return str(crash.message if crash else shown).strip().removeprefix("AssertionError: ")
    with open(file, "w") as written:
        written.write(source)
    sys.dont_write_bytecode = True
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-q", "-s", "--rootdir=.", "-p", "no:cacheprovider", "-p", "no:faulthandler", file]
    code = pytest.main(options, plugins=[Reader()])
    if missing:
        raise missing[0]
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        failures.setdefault("", f"pytest ended early, with exit code {{int(code)}}")
    for name in failures.keys() - {{"", *known}}:
        failures.setdefault("", f"{{name}}: {{failures[name]}}")
    return failures, passed
failures, passed = run_pytest({source!r}, {known!r})
def run_test(name):
    for key in ("", name):
        assert key not in failures, failures[key]
    assert name in passed, "pytest did not run it"
"""
_COMPOUND = ast.If | ast.Try | ast.With | ast.For | ast.While
_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
_FIXTURES = [
    "setup_module",
    "setup_function",
    "teardown_module",
    "teardown_function",
    "setUpModule",
    "tearDownModule",
]


def read_tests(path: Path) -> tuple[tuple[str, ...], str]:
    """The tests of a file, and the setup to run before them.

    Where every assert stands at the top level or in a plain function `test_...` without arguments,
    each is a test of its own, which the sandbox can judge from outside; so is each function that
    does more than assert, and each loop and the like around asserts, judged inside. What stands
    before a test runs before it; what follows the last does not run. A file with fixtures,
    parametrize, test classes or anything else of pytest's or unittest's is run by pytest, inside
    the sandbox, each function being one test; a failure that pytest finds anywhere else fails them
    all.

    Raises:
        DataError: the file is missing, is not Python, or has no tests.
        MissingDependency: it needs pytest, which is not installed.
    """
    source, tree = read_python(path)
    classes = {node.name: node for node in _at_top(tree.body) if isinstance(node, ast.ClassDef)}
    if any(_needs_pytest(node, classes) for node in tree.body):
        tests, setup = _pytest_tests(source, tree, classes)
    else:
        tests, setup = _plain_tests(tree)
    if not tests:
        raise DataError(f"no tests in {path}: write asserts, or functions test_...() with asserts")
    return tuple(tests), setup


def _needs_pytest(node: ast.stmt, classes: Mapping[str, ast.ClassDef]) -> bool:
    match node:
        case ast.FunctionDef(name=name, args=arguments, decorator_list=decorators):
            takes = arguments.args or arguments.posonlyargs or arguments.kwonlyargs
            return name in _FIXTURES or (_is_test(node) and bool(takes or decorators))
        case ast.ClassDef():
            return any(_class_tests(node, classes))
        case ast.Import(names=names):
            return any(alias.name.split(".")[0] == "pytest" for alias in names)
        case ast.ImportFrom(module=module):
            return (module or "").split(".")[0] == "pytest"
        case ast.AsyncFunctionDef():
            return _is_test(node)
    inner = _at_top([node]) if isinstance(node, _COMPOUND) else ()
    return any(_is_test(part) or _needs_pytest(part, classes) for part in inner)


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, _FUNCTION) and node.name.startswith("test")


def _at_top(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body that bind names of the same namespace, those within `if`s too."""
    for node in body:
        if isinstance(node, _COMPOUND):
            for part in (node, *getattr(node, "handlers", ())):
                for field in ("body", "orelse", "finalbody"):
                    yield from _at_top(getattr(part, field, ()))
        else:
            yield node


def _plain_tests(tree: ast.Module) -> tuple[list[str], str]:
    tests: list[str] = []
    functions: list[str] = []
    setup: list[ast.stmt] = []
    waiting: list[ast.stmt] = []
    """What has to run before the next test."""
    own = {node.name for node in tree.body if isinstance(node, _FUNCTION) and _is_test(node)}
    body = [node for node in tree.body if not _is_call_of(node, own)]
    named = {part.id for node in body for part in _names(node)}
    for node in body:
        if isinstance(node, ast.FunctionDef) and _is_test(node):
            functions += _function_tests(node)
            if node.name in named:
                waiting.append(node)
        elif any(isinstance(part, ast.Assert) for part in _at_top([node])):
            if not tests:
                setup, waiting = waiting, []
            tests.append(_source([*waiting, node]))
            waiting = []
        else:
            waiting.append(node)
    if not tests:
        setup, waiting = waiting, []
    if functions and waiting:
        functions[0] = f"{_source(waiting)}\n{functions[0]}"
    return tests + functions, _source(setup)


def _is_call_of(node: ast.stmt, functions: Container[str]) -> bool:
    """Whether it only calls one of the functions, as a file does that is to be run as a script."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=[], keywords=[])):
            return name in functions
    return False


def _names(node: ast.stmt) -> Iterator[ast.Name]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Name))


def _source(statements: Iterable[ast.stmt]) -> str:
    return "\n".join(map(ast.unparse, statements))


def _function_tests(node: ast.FunctionDef) -> list[str]:
    body = [
        statement
        for statement in node.body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]
    if body and all(isinstance(statement, ast.Assert) for statement in body):
        return [ast.unparse(statement) for statement in body]
    return [f"{ast.unparse(node)}\n{node.name}()"]


def _pytest_tests(
    source: str, tree: ast.Module, classes: Mapping[str, ast.ClassDef]
) -> tuple[list[str], str]:
    if importlib.util.find_spec("pytest") is None:
        raise MissingDependency("these tests need pytest: pip install pytest")
    names: dict[str, None] = {}
    for node in _at_top(tree.body):
        if isinstance(node, _FUNCTION) and _is_test(node):
            names[node.name] = None
        elif isinstance(node, ast.ClassDef):
            names.update(dict.fromkeys(_class_tests(node, classes)))
    setup = _RUN_PYTEST.format(source=source, known=list(names))
    return [f"run_test({name!r})" for name in names], setup


def _class_tests(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], within: str = ""
) -> Iterator[str]:
    """Names of the tests in a class of pytest's or unittest's kind, inherited ones too."""
    lineage = list(_lineage(node, classes))
    bases = (ast.unparse(base) for ancestor in lineage for base in ancestor.bases)
    if not (node.name.startswith("Test") or any(base.endswith("TestCase") for base in bases)):
        return
    name = f"{within}{node.name}::"
    for ancestor in lineage:
        for inner in ancestor.body:
            if isinstance(inner, _FUNCTION) and _is_test(inner):
                yield name + inner.name
            elif isinstance(inner, ast.ClassDef):
                yield from _class_tests(inner, classes, name)


def _lineage(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], below: frozenset[str] = frozenset()
) -> Iterator[ast.ClassDef]:
    """A class and those of its ancestors that the same file defines."""
    yield node
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes and base.id not in below:
            yield from _lineage(classes[base.id], classes, below | {node.name})
