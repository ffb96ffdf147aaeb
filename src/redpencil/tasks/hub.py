"""Data sets on the hub, or the files of one in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from redpencil.errors import DataError, MissingDependency, UsageError
from redpencil.files import numbered_jsonl, read_json

T = TypeVar("T")


@dataclass(frozen=True)
class Dataset:
    """A data set on the hub."""

    title: str
    name: str
    """Its id on the hub."""
    config: str | None = None

    def rows(
        self, split: str, file: str, folder: Path | None, type: type[T], instead: str
    ) -> Iterator[tuple[str, T]]:
        """The rows of a split, each after where it was found, such as `a/test.jsonl, line 3`.

        Args:
            file: the split's file in a folder: an object a line, or one array of objects.
            folder: where the file lies; None fetches from the hub.
            type: a msgspec struct with the fields that are used; other fields are passed over.
            instead: how to name a folder, for whoever cannot reach the hub.

        Raises:
            DataError: a file is missing or not what it should be.
            MissingDependency: there is no folder, and no package to reach the hub with.
            UsageError: there is no such folder, or the hub cannot be reached.
        """
        if folder is None:
            yield from self._fetched(split, type, f"name a folder with its {file}: {instead}")
        elif not folder.is_dir():
            raise UsageError(f"no folder {folder} with {self.title}'s files ({file})")
        else:
            yield from _read(folder / file, type)

    def _fetched(self, split: str, type: type[T], otherwise: str) -> Iterator[tuple[str, T]]:
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise MissingDependency(
                f"{self.title} from the hub needs the package 'datasets': "
                f"pip install 'redpencil[train]'; or {otherwise}"
            ) from error
        try:
            found: Any = load_dataset(self.name, self.config, split=split)
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"{self.title} cannot be fetched from the hub ({error.__class__.__name__}); "
                f"{otherwise}"
            ) from error
        for number, row in enumerate(found, 1):
            where = f"{self.name} on the hub, row {number}"
            try:
                yield where, msgspec.convert(dict(row), type)
            except msgspec.ValidationError as error:
                raise DataError(f"{where}: {error}") from error


def _read(path: Path, type: type[T]) -> Iterator[tuple[str, T]]:
    if _holds_array(path):
        rows = read_json(path, list[type])  # type: ignore[valid-type]
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
    else:
        numbered = numbered_jsonl(path, type)
        yield from ((f"{path}, line {number}", row) for number, row in numbered)


def _holds_array(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] == b"["
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
