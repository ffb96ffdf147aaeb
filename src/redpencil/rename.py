"""Other local names for a correct program, so that more is learnt of it than its lines by heart."""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from random import Random

import msgspec

from redpencil.types import Task

_WORD = re.compile(r"[^\W\d]\w*")


def local_names(tasks: Iterable[Task]) -> list[str]:
    """The local names in the tasks' solutions: one that many programs use is there as often."""
    return sorted(name for task in tasks for name in _locals(task))


def renamed(task: Task, names: Sequence[str], rng: Random) -> Task:
    """The task with a solution whose local names are others, each a random one of `names`.

    A name that tests, keywords, attributes or strings mention stays, for they may mean it; so does
    one that none is left for.
    """
    program = task.solution or ""
    taken = {*_WORD.findall(" ".join((program, task.setup, *task.tests, *task.hidden_tests)))}
    other: dict[str, str] = {}
    for name in sorted(_locals(task)):
        free = [each for each in names if each not in taken]
        if free:
            other[name] = rng.choice(free)
            taken.add(other[name])
    return msgspec.structs.replace(task, solution=_replaced(program, other))


def _locals(task: Task) -> set[str]:
    """The names of a solution that can be others without anybody else noticing.

    None of one that is not Python, which its own tests will tell.
    """
    try:
        tree = ast.parse(task.solution or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    bound: set[str] = set()
    fixed = {*dir(builtins), "self", "cls"}
    fixed.update(_WORD.findall(" ".join((task.setup, *task.tests, *task.hidden_tests))))
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Store()) | ast.Name(ctx=ast.Del()):
                bound.add(node.id)
            case ast.arg():
                bound.add(node.arg)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                fixed.add(node.name)
            case ast.alias():
                fixed.update(_WORD.findall(f"{node.name} {node.asname or ''}"))
            case ast.Global() | ast.Nonlocal():
                fixed.update(node.names)
            case ast.Attribute():
                fixed.add(node.attr)
            case ast.keyword(arg=str(name)):
                fixed.add(name)
            case ast.JoinedStr() | ast.Constant(value=str()):
                fixed.update(_WORD.findall(ast.unparse(node)))
    return {name for name in bound - fixed if not name.startswith("_")}


def _replaced(program: str, other: dict[str, str]) -> str:
    """The program with other names, all else of it to the letter."""
    lines = program.split("\n")
    for row, start, end, name in reversed(list(_tokens(program))):
        if name in other:
            lines[row] = lines[row][:start] + other[name] + lines[row][end:]
    return "\n".join(lines)


def _tokens(program: str) -> Iterator[tuple[int, int, int, str]]:
    """Where the program's names stand: line and columns, from 0, in order."""
    for token in tokenize.generate_tokens(io.StringIO(program).readline):
        if token.type == tokenize.NAME:
            yield token.start[0] - 1, token.start[1], token.end[1], token.string
