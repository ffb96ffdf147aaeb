"""Decoding the plain values that come out of the sandbox. Nothing here trusts what it reads."""

from __future__ import annotations

from typing import Any


class Opaque:
    """A value that is not plain data: equal to nothing, not even to itself."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{self.kind} object>"


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
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a tagged value: {tag}") from error


def shorten(value: object, limit: int = 80) -> str:
    """A value's repr, its middle left out where it is long."""
    text = repr(value)
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


_DECODERS: dict[str, Any] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*map(float.fromhex, parts)),
    "list": lambda items: [decode(item) for item in items],
    "tuple": lambda items: tuple(decode(item) for item in items),
    "set": lambda items: {decode(item) for item in items},
    "frozenset": lambda items: frozenset(decode(item) for item in items),
    "dict": lambda pairs: {decode(key): decode(item) for key, item in pairs},
    "opaque": lambda kind: Opaque(str(kind)),
}
