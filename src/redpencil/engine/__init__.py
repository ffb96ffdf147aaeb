"""Engines: where a model's tokens come from, with the context kept across turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from redpencil.errors import EngineError

Capability = Literal["ids", "logprobs", "fork", "lora_sync", "grammar"]
"""`ids`: shows exact token ids. `logprobs`: and their log-probabilities. `fork`: computes an equal
beginning once. `lora_sync`: takes over the weights of a model in training. `grammar`: samples by
one."""


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
    top_k: int = 0
    """Draws from so many of the likeliest tokens; 0 draws from all."""


class Sample(NamedTuple):
    """One action as sampled; engines that do not show ids or log-probabilities leave them empty."""

    ids: tuple[int, ...]
    """The whole last token is kept, even where it runs past the action's end."""
    logprobs: tuple[float, ...]
    """Of each id under the model at temperature 1, whatever a grammar forbade."""
    text: str


class Engine(Protocol):
    """Many sequences that a model continues at once; handles stay valid until closed."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def capacity(self) -> int:
        """How many sequences can be open at once."""

    def open(self) -> int:
        """A new empty sequence."""

    def fork(self, handle: int) -> int:
        """A new sequence with the same context, computed once where `fork` is declared."""

    def show(self, handle: int, text: str, *, chat: bool = False) -> tuple[int, ...]:
        """Put text that the model did not write at the sequence's end.

        Args:
            chat: put it there as a user's message in the model's chat template.

        Returns:
            Its token ids, where the engine shows any.
        """

    def begin(self, handle: int, sampling: Sampling) -> None:
        """Begin to sample an action, which will be appended to the sequence.

        Raises:
            EngineError: nothing can be sampled by this grammar.
        """

    def step(self) -> list[tuple[int, Sample | EngineError | None]]:
        """Go on with all actions that were begun, for a moment; those that ended meanwhile.

        None stands for an action that the sequence has no room for.
        """

    def close(self, handle: int) -> None:
        """Free the sequence, in the middle of an action too."""

    def sync(self, source: Any) -> None:
        """Take over the weights of a model in training, for what is computed from now on.

        Raises:
            UsageError: the engine does not declare `lora_sync`, or cannot take over such weights.
        """
