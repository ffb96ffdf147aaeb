"""Reading and writing files so that nothing is lost and every complaint names its place."""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from redpencil.errors import DataError, UsageError

T = TypeVar("T")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` whole when the block ends well, and not at all otherwise.

    Raises:
        UsageError: the folder cannot be written, or the disk is full.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
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


def read_jsonl(path: Path, type: type[T], *, torn_tail: bool = False) -> list[T]:
    """Read a file of one value of `type` a line; blank lines are skipped.

    With `torn_tail`, a last line without its line end (a writer was killed) is cut from the file.

    Raises:
        DataError: names the file, the line and the field that do not fit.
    """
    data = _read_bytes(path)
    if torn_tail and data and not data.endswith(b"\n"):
        data = data[: data.rfind(b"\n") + 1]
        os.truncate(path, len(data))
    return [
        _decode(line, type, f"{path}, line {number}")
        for number, line in enumerate(data.split(b"\n"), 1)
        if line.strip()
    ]


def read_python(path: Path) -> tuple[str, ast.Module]:
    """The text of a Python file, line ends normalised, and its syntax tree.

    Raises:
        DataError: the file is missing or is not Python; the message names the line.
    """
    try:
        text = _read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
        return text, ast.parse(text)
    except SyntaxError as error:
        raise DataError(f"{path}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:
        raise DataError(f"{path} is not Python: {error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _decode(data: bytes, type: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: {error}") from error
