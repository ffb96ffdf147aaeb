"""Tasks from doctests: any function or class whose docstring says what it does and shows it.

Files are read, never imported or run. A task's solution is the definition without its docstring,
after the imports, constants and helpers of the same module that it depends on.
"""

from __future__ import annotations

import ast
import doctest
import inspect
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from redpencil.errors import UsageError
from redpencil.files import read_python
from redpencil.tasks.source import TaskSet, counted, split_of, tidy
from redpencil.types import Split, Task

VISIBLE = 3
"""Of a problem on board the policy sees this many examples; the others are hidden tests."""

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def builtin(split: Split | None = None) -> TaskSet:
    """The problems on board, or those of one split."""
    folder = Path(__file__).parent.parent / "problems"
    found = _from_files(sorted(folder.glob("[a-z]*.py")), folder, "builtin", VISIBLE)
    tasks = [task for task in found.tasks if split in (None, task.split)]
    sizes = Counter(task.split for task in tasks)
    parts = ", ".join(f"{sizes[name]} {name}" for name in ("train", "validation", "test"))
    return TaskSet(tuple(tasks), f"{counted(len(tasks), 'problem')} on board ({parts})")


def from_path(path: Path) -> TaskSet:
    """The tasks of a module or, recursively, of a folder; every example is a visible test.

    Raises:
        UsageError: there is no such file or folder.
        DataError: a file is not Python; the message names it and the line.
    """
    if path.is_dir():
        return _from_files(_own_files(path), path, path.resolve().name)
    if not path.is_file():
        raise UsageError(f"no file or folder {path}")
    return _from_files([path], path.parent, path.stem)


def _own_files(root: Path) -> list[Path]:
    """The Python files in a folder, but for hidden folders and virtual environments.

    A folder is read once, by its own name rather than a link's.
    """
    files: list[Path] = []
    seen: set[Path] = set()
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if not (path / "pyvenv.cfg").exists():
                    (waiting.append if path.is_symlink() else waiting.appendleft)(path)
            elif path.suffix == ".py":
                files.append(path)
    return sorted(files)


@dataclass
class _Tally:
    """What was met on the way, for the summary."""

    without_examples: int = 0
    skipped_examples: int = 0


def _from_files(files: list[Path], root: Path, name: str, visible: int | None = None) -> TaskSet:
    tally = _Tally()
    tasks = []
    for file in files:
        module = ".".join(file.relative_to(root).with_suffix("").parts)
        prefix = name if module == name else f"{name}/{module}"
        tasks += _from_module(_Module(*read_python(file)), prefix, visible, tally)
    summary = (
        f"{counted(len(tasks), 'task')} from {counted(len(files), 'file')}; "
        f"{counted(tally.without_examples, 'definition')} without usable examples, "
        f"{counted(tally.skipped_examples, 'example')} skipped (no plain value expected)"
    )
    return TaskSet(tuple(tasks), summary)


def _from_module(module: _Module, prefix: str, visible: int | None, tally: _Tally) -> list[Task]:
    tasks = []
    # Of several definitions of one name the last counts, as it does for whoever imports it.
    definitions = {node.name: node for node in module.tree.body if isinstance(node, _Definition)}
    for node in definitions.values():
        docstring = ast.get_docstring(node) or ""
        prompt, tests, skipped = _read_docstring(docstring)
        tally.skipped_examples += skipped
        if not prompt or not tests:
            tally.without_examples += 1
            continue
        task_id = f"{prefix}.{node.name}"
        tasks.append(
            Task(
                id=task_id,
                prompt=prompt,
                program=None,
                solution=tidy(module.slice(node, tests)),
                tests=tuple(tests[:visible]),
                hidden_tests=tuple(tests[visible:]) if visible else (),
                setup="",
                split=split_of(task_id),
            )
        )
    return tasks


def _read_docstring(docstring: str) -> tuple[str, list[str], int]:
    """The words before the first example, a test for each usable example, how many are not."""
    try:
        pieces = doctest.DocTestParser().parse(inspect.cleandoc(docstring))
    except ValueError:  # inconsistent indentation: no examples that doctest itself could run
        return "", [], 0
    words = pieces[0] if pieces and isinstance(pieces[0], str) else ""
    prompt = " ".join(words.split())
    tests: list[str] = []
    statements: list[str] = []
    skipped = 0
    for piece in pieces:
        if not isinstance(piece, doctest.Example):
            continue
        source, want = piece.source.strip(), piece.want.strip()
        if not want and not piece.exc_msg and not piece.options and _is_statement(source):
            statements.append(source)
            continue
        if not piece.options and (assertion := _assertion(source, want)) is not None:
            tests.append("\n".join([*statements, assertion]))
        else:
            skipped += 1
        if not piece.exc_msg and not piece.options.get(doctest.SKIP) and _acts(source, statements):
            statements.append(source)
    return prompt, tests, skipped


def _assertion(source: str, want: str) -> str | None:
    """The example as an assert, where what it wants is a plain value."""
    try:
        value = ast.literal_eval(want)
        expression = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    if isinstance(expression, ast.Call) and ast.unparse(expression.func) == "print":
        return None  # what it prints is not its value
    if "#" in source:
        source = ast.unparse(expression)  # without a comment, which would swallow the comparison
    if not isinstance(expression, ast.Call | ast.Name | ast.Attribute | ast.Subscript):
        if value is True:
            return f"assert {source}"
        source = f"({source})"
    operator = "is" if value is None or isinstance(value, bool) else "=="
    return f"assert {source} {operator} {want}"


def _acts(source: str, statements: Iterable[str]) -> bool:
    """Whether an example may change what statements before it have made: it calls with that."""
    made = {
        node.id
        for statement in statements
        for node in ast.walk(ast.parse(statement))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return _is_statement(source) and any(
        isinstance(call, ast.Call)
        and any(isinstance(name, ast.Name) and name.id in made for name in ast.walk(call))
        for call in ast.walk(ast.parse(source))
    )


def _is_statement(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


class _Module:
    """A parsed file, from which definitions are cut out with all that they depend on."""

    def __init__(self, text: str, tree: ast.Module) -> None:
        self.tree = tree
        self._lines = text.split("\n")
        self._always = [node for node in tree.body if _provides_unseen(node)]
        self._providers: dict[str, list[ast.stmt]] = {}
        for node in tree.body:
            for name in _provided_names(node):
                self._providers.setdefault(name, []).append(node)

    def slice(self, definition: _Definition, tests: Iterable[str]) -> str:
        """The definition with all that it and its tests need, as in the file; no docstrings."""
        needed: list[ast.stmt] = []
        waiting: list[ast.AST] = [definition, *self._always, *map(ast.parse, tests)]
        while waiting:
            node = waiting.pop()
            if node in needed:
                continue
            if isinstance(node, ast.stmt):
                needed.append(node)
            for inner in ast.walk(node):
                if isinstance(inner, ast.Name):
                    waiting += self._providers.get(inner.id, [])
        ordered = [node for node in self.tree.body if node in needed]
        return "\n".join(self._source(node) for node in ordered)

    def _source(self, node: ast.stmt) -> str:
        """The statement's lines, decorators included, docstring and the space after it cut."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        dropped: set[int] = set()
        for inner in ast.walk(node):
            # A body must keep a statement, and a docstring on the line of its `def` stays.
            if isinstance(inner, _Definition) and len(inner.body) > 1:
                expression = inner.body[0]
                if ast.get_docstring(inner) is None or expression.lineno == inner.lineno:
                    continue
                last = expression.end_lineno or expression.lineno
                dropped |= set(range(expression.lineno, last + 1))
        numbers = range(first, (node.end_lineno or first) + 1)
        return "\n".join(self._lines[number - 1] for number in numbers if number not in dropped)


def _provides_unseen(node: ast.stmt) -> bool:
    """Whether the statement does something that no name tells: `__future__`, a star import."""
    return isinstance(node, ast.ImportFrom) and (
        node.module == "__future__" or any(alias.name == "*" for alias in node.names)
    )


def _provided_names(node: ast.stmt) -> set[str]:
    """The names that a statement binds or changes, within `try`, `if` and the like too."""
    if isinstance(node, _Definition):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    names = {
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store | ast.Del)
    }
    for inner in ast.iter_child_nodes(node):
        statements = [inner] if isinstance(inner, ast.stmt) else []
        if isinstance(inner, ast.ExceptHandler):
            statements = inner.body
        for statement in statements:
            names |= _provided_names(statement)
    return names
