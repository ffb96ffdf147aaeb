"""What every source gives, and what several of them share."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from redpencil import editor
from redpencil.types import Split, Task


@dataclass(frozen=True)
class TaskSet:
    """Tasks, and one line on what was loaded, handled and left out."""

    tasks: tuple[Task, ...]
    summary: str


def tasks_sha256(tasks: Sequence[Task]) -> str:
    """A digest of tasks, in whatever order they come, by which to know them again."""
    ordered = sorted(tasks, key=lambda task: (task.id, task.program or ""))
    return hashlib.sha256(msgspec.json.encode(ordered)).hexdigest()


def split_of(task_id: str) -> Split:
    """The split of a task by its id alone (70/10/20), so that no later addition reshuffles."""
    bucket = int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:8], "big") % 100
    return "train" if bucket < 70 else "validation" if bucket < 80 else "test"


def tidy(code: str) -> str:
    """Code as it comes onto a page: line ends and tabs normalised, no blank or trailing space.

    Where dropping blank lines or trailing space would change what the code means, inside a string
    of several lines for one, or where nobody can tell since it does not parse, they stay.
    """
    page = editor.load_page(code)
    compact = editor.page_text(tuple(line.rstrip() for line in page if line.strip()))
    plain = editor.page_text(page)
    return compact if _same_program(plain, compact) else plain


def counted(number: int, one: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {one}{'' if number == 1 else 's'}"


def _same_program(left: str, right: str) -> bool:
    try:
        return ast.dump(ast.parse(left)) == ast.dump(ast.parse(right))
    except (SyntaxError, ValueError):
        return False
