"""Decoding the plain values that come out of the sandbox. Nothing here trusts what it reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Opaque:
    """A value that is not plain data: equal to nothing, not even to itself."""

    def __init__(self, kind: str) -> None:
        self.kind = kind[:_KIND_LENGTH]

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{self.kind} object>"


class Items(Opaque):
    """What an iterator gave: no list, but it can be gone through."""

    def __init__(self, kind: str, items: list[Any]) -> None:
        super().__init__(kind)
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


class Collection(Items):
    """What a queue or a view of a dictionary held."""

    def __len__(self) -> int:
        return len(self._items)

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._items[::-1])


def decode(encoded: Any) -> Any:
    """The value of one tagged JSON form, as `child.encode` writes it.

    Raises:
        ValueError: it is not such a form.
    """
    if encoded is None or isinstance(encoded, bool | str):
        return encoded
    if not isinstance(encoded, dict) or len(encoded) != 1:
        raise ValueError("not a tagged value")
    ((tag, content),) = encoded.items()
    try:
        return _DECODERS[tag](content)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a tagged value: {tag}") from error


def shorten(value: object, limit: int = 80) -> str:
    """A value's repr, its middle left out where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than some thousand digits
        text = f"<{type(value).__name__} with a number too long to show>"
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


_KIND_LENGTH = 60
_MANY = 1000
_MOST_OF_ONE_HASH = 64


def _spread(items: list[Any]) -> list[Any]:
    """The items, unless they were made to have one hash, with which sets of them take for ever.

    Raises:
        ValueError: more than a few different ones share a hash.
    """
    if len(items) < _MANY:
        return items
    groups: dict[int, list[Any]] = {}
    for item in items:
        try:
            group = groups.setdefault(hash(item), [])
        except TypeError:
            continue
        if item not in group:
            group.append(item)
        if len(group) > _MOST_OF_ONE_HASH:
            raise ValueError("values made to collide")
    return items


def _decode_all(encoded: Any) -> list[Any]:
    if not isinstance(encoded, list):
        raise ValueError("not a list of values")
    return _spread([decode(item) for item in encoded])


def _decode_keys(encoded: Any) -> list[Any]:
    return [_as_key(item) for item in _decode_all(encoded)]


def _as_key(value: Any) -> Any:
    """The value as a set or a dictionary takes it.

    A program's own kind of list may be hashable, but comes out as a list, which is not. Hashed by
    identity, it is the same key as no other, whatever the program says that it equals.
    """
    kind = type(value)
    if kind is tuple:
        return tuple(map(_as_key, value))
    return _HASHABLE[kind](value) if kind in _HASHABLE else value


_HASHABLE: dict[type, Any] = {
    base: type(base.__name__, (base,), {"__hash__": object.__hash__})
    for base in (list, set, dict, bytearray)
}


def _decode_pairs(encoded: Any) -> dict[Any, Any]:
    keys, values = zip(*(pair["tuple"] for pair in encoded), strict=True) if encoded else ((), ())
    return dict(zip(_decode_keys(list(keys)), map(decode, values), strict=True))


_DECODERS: dict[str, Any] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda parts: range(*map(decode, parts)),
    "items": lambda parts: Items(str(parts[0]), _decode_all(parts[1])),
    "collection": lambda parts: Collection(str(parts[0]), _decode_all(parts[1])),
    "complex": lambda parts: complex(*map(float.fromhex, parts)),
    "list": _decode_all,
    "tuple": lambda items: tuple(_decode_all(items)),
    "set": lambda items: set(_decode_keys(items)),
    "frozenset": lambda items: frozenset(_decode_keys(items)),
    "dict": _decode_pairs,
    "opaque": lambda kind: Opaque(str(kind)),
}
