"""Reading recipes: by name or by path, with nothing unknown in them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from redpencil.errors import UsageError
from redpencil.recipes.values import Recipe

FOLDER = Path(__file__).parent
_SHARED = ("model", "seed")
"""Stand at the top of a file, for all sections that take them."""


def names() -> list[str]:
    """The recipes that come with redpencil."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str) -> Recipe:
    """A recipe by its name, or from a path that ends in `.toml`.

    Raises:
        UsageError: there is no such recipe, or something in it is unknown or does not fit; the
            message names the file and the key.
    """
    path = _find(name)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    for complaint in _unknown(table, Recipe):
        raise UsageError(f"{path}: {complaint}")
    shared = {key: table[key] for key in _SHARED if key in table}
    for name_of_section in ("sft", "grpo"):
        section = table.setdefault(name_of_section, {})
        if isinstance(section, dict):
            section.update(shared)
    try:
        recipe = msgspec.convert(table, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {str(error).replace('`$.', '`')}") from error
    ranges = [part.corruptions for part in (recipe.demos, recipe.grpo, recipe.eval)]
    ranges += [part.validation.corruptions for part in (recipe.sft, recipe.grpo) if part.validation]
    for least, most in ranges:
        if least > most:
            raise UsageError(f"{path}: corruptions are [least, most], found [{least}, {most}]")
    sources, weights = recipe.grpo.tasks, recipe.grpo.weights
    if len(weights) not in (0, len(sources)):
        raise UsageError(f"{path}: {len(sources)} of `grpo.tasks`, {len(weights)} `grpo.weights`")
    return recipe


def _find(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    if name in names():
        return FOLDER / f"{name}.toml"
    near = difflib.get_close_matches(name, names(), 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}"
    raise UsageError(f"no recipe {name!r}; {hint} (a file of your own ends in .toml)")


def _unknown(table: dict[str, Any], type: Any, section: str = "") -> Iterator[str]:
    """A complaint for each key that the type has no field for, deeper tables' included."""
    fields = {field.name: field.type for field in msgspec.structs.fields(type)}
    if section:
        fields = {name: kind for name, kind in fields.items() if name not in _SHARED}
    for key, value in table.items():
        place = f"{section}.{key}" if section else key
        if key not in fields:
            yield f"unknown key {place!r}; {_hint(key, list(fields), section)}"
        elif isinstance(value, dict):
            for kind in (fields[key], *get_args(fields[key])):
                if isinstance(kind, msgspec.StructMeta):
                    yield from _unknown(value, kind, place)


def _hint(key: str, known: list[str], section: str) -> str:
    if section and key in _SHARED:
        return f"{key} stands once, above all sections"
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
