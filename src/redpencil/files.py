"""Reading and writing files so that nothing is lost and every complaint names its place."""

from __future__ import annotations

import ast
import codecs
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from redpencil.errors import DataError, UsageError
from redpencil.types import Value

T = TypeVar("T")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` whole when the block ends well, and not at all otherwise.

    One that was there keeps its mode, and a link goes on leading to it.

    Raises:
        UsageError: the folder cannot be written, or the disk is full.
    """
    temporary: str | None = None
    path = path.resolve()
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write one value as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def read_json(path: Path, type: type[T]) -> T:
    """Read one value of `type`.

    Raises:
        DataError: the file is missing, is not JSON, or does not fit `type`.
    """
    return _decode(_read_bytes(path), type, str(path))


def write_jsonl(path: Path, values: Iterable[object]) -> int:
    """Write one value a line, atomically; returns how many."""
    count = 0
    with atomic_write(path) as file:
        for value in values:
            file.write(msgspec.json.encode(value) + b"\n")
            count += 1
    return count


def share(folder: Path) -> None:
    """Give a folder's files the modes that it has itself, where a library made them its owner's."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.iterdir():
        path.chmod(mode)


def append_jsonl(path: Path, values: Iterable[object]) -> None:
    """Append one value a line in a single write, so that a crash tears at most the last line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(value) + b"\n" for value in values))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def require_appendable(path: Path, type: type[T]) -> None:
    """Make sure that values of `type` can be appended to a file, before they are worked for.

    Raises:
        DataError: the file holds something else; names the line.
        UsageError: it cannot be written.
    """
    append_jsonl(path, [])
    for _ in each_jsonl(path, type):
        pass


def read_jsonl(path: Path, type: type[T], *, torn_tail: bool = False) -> list[T]:
    """Read a file of one value of `type` a line; blank lines are skipped.

    With `torn_tail`, a last line without its line end (a writer was killed) is cut from the file.

    Raises:
        DataError: names the file, the line and the field that do not fit.
    """
    return list(each_jsonl(path, type, torn_tail=torn_tail))


def each_jsonl(path: Path, type: type[T], *, torn_tail: bool = False) -> Iterator[T]:
    """As `read_jsonl`, one value at a time, for files that are better not held in memory."""
    return (value for _, value in numbered_jsonl(path, type, torn_tail=torn_tail))


def numbered_jsonl(
    path: Path, type: type[T], *, torn_tail: bool = False
) -> Iterator[tuple[int, T]]:
    """As `each_jsonl`, each value with the number of its line, for those who find fault with it."""
    try:
        with path.open("r+b" if torn_tail else "rb") as file:
            for number, line in enumerate(file, 1):
                if torn_tail and not line.endswith(b"\n"):
                    file.truncate(file.tell() - len(line))
                elif line.strip():
                    yield number, _decode(line, type, f"{path}, line {number}")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def sha256(values: Iterable[object]) -> str:
    """The digest of values, by their JSON."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(msgspec.json.encode(value) + b"\n")
    return digest.hexdigest()


def claim(path: Path, plan: Value, *others: Path) -> None:
    """Write down, beside a file that is made bit by bit, what it is made of.

    Whoever goes on with the file then knows that it is theirs.

    Args:
        others: what else holds something of what is made, and is gone on with.

    Raises:
        UsageError: the file is made of something else, or nobody knows of what, or its name leaves
            none for what lies beside it.
    """
    if path.suffix != ".jsonl":
        raise UsageError(f"{path} is to hold JSON lines: give it a name that ends in .jsonl")
    beside = path.with_suffix(".plan.json")
    if beside.exists():
        now = msgspec.json.decode(msgspec.json.encode(plan))
        if differing := first_difference(read_json(beside, dict[str, Any]), now):
            there = ", ".join(file.name for file in (path, *others, beside) if file.exists())
            raise UsageError(
                f"{path} holds traces of something else ({differing}): choose another place, or "
                f"delete {there}"
            )
    for file in (path, *others):
        if file.exists() and not beside.exists():
            raise UsageError(f"{file} is there already, and not ours to go on with: choose another")
    write_json(beside, plan)


def first_difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """What two settings, as JSON has them, differ in first, by its dotted name; empty if alike."""
    return next(_differences(then, now), "")


def read_python(path: Path) -> tuple[str, ast.Module]:
    """The text of a Python file, line ends normalised, and its syntax tree.

    Raises:
        DataError: the file is missing or is not Python; the message names the line.
    """
    try:
        text = _read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
        return text, ast.parse(text)
    except SyntaxError as error:
        where = f"{path}, line {error.lineno}" if error.lineno else str(path)
        raise DataError(f"{where}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        why = str(error) or "it is nested too deeply"
        raise DataError(f"{path} is not Python: {why}") from error


def _differences(then: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then | now:
            yield from _differences(then.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif then != now:
        yield f"{name}: {then} there, {now} now"


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _decode(data: bytes, type: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: {error}") from error
