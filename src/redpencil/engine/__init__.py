"""Token engines: where a model's tokens come from, with the context kept across turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

Capability = Literal["ids", "logprobs", "fork", "lora_sync", "grammar"]


class Sampling(NamedTuple):
    """How to sample one action."""

    temperature: float
    """0 takes the likeliest token."""
    top_p: float
    max_tokens: int
    seed: int
    """With the position in the context it settles every draw, whatever else is in the batch."""
    complete: Callable[[str], bool]
    """Says of the text so far whether the action is done."""
    grammar: str | None = None
    """What the action has to be, in Lark's syntax; None lets it be anything."""


class Sample(NamedTuple):
    """One action as sampled."""

    ids: tuple[int, ...]
    """The whole last token is kept, even where it runs past the action's end."""
    logprobs: tuple[float, ...]
    """Of each id under the model at temperature 1, whatever a grammar forbade."""
    text: str


class Engine(Protocol):
    """Sequences of tokens that a model continues; handles stay valid until closed."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without any special token."""

    def encode_chat(self, message: str) -> list[int]:
        """Ids of a user's message in the model's chat template, up to where it answers."""

    def open(self) -> int:
        """A new empty sequence."""

    def fork(self, handle: int) -> int:
        """A new sequence with the same context, which is computed once."""

    def room(self, handle: int) -> int:
        """How many more tokens the sequence can take."""

    def append(self, handle: int, ids: Sequence[int]) -> None:
        """Put ids at the sequence's end."""

    def sample(self, requests: Sequence[tuple[int, Sampling]]) -> list[Sample]:
        """Sample an action for each sequence, in one batch, and append it."""

    def close(self, handle: int) -> None:
        """Free the sequence."""
