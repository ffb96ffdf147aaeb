"""Constrained decoding: which tokens a grammar allows next, by llguidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from redpencil.errors import EngineError, MissingDependency


class Grammars:
    """Grammars over one tokenizer's tokens."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        """Prepare the tokenizer's tokens.

        Args:
            vocabulary: width of the model's logits, at least the tokenizer's size.

        Raises:
            MissingDependency: llguidance is not installed.
        """
        try:
            import llguidance
            import llguidance.hf
        except ImportError as error:
            raise MissingDependency(
                "constrained decoding needs llguidance: pip install 'redpencil[train]'"
            ) from error
        self._matcher = llguidance.LLMatcher
        self._tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary)

    def begin(self, grammar: str) -> Any:
        """A matcher at the start of a text.

        Raises:
            EngineError: the grammar is not one in Lark's syntax, or too large.
        """
        matcher = self._matcher(self._tokens, self._matcher.grammar_from_lark(grammar))
        if matcher.is_error():
            raise EngineError(f"not a grammar: {matcher.get_error()}")
        return matcher


def forbid(logits_BV: torch.Tensor, matchers: Sequence[Any | None]) -> None:
    """Set to minus infinity, in place, what a row's grammar does not allow next."""
    rows = [row for row, matcher in enumerate(matchers) if matcher is not None]
    if not rows:
        return
    vocabulary = logits_BV.shape[1]
    words = np.zeros((len(rows), -(-vocabulary // 32)), dtype=np.uint32)
    for index, row in enumerate(rows):
        matchers[row].unsafe_compute_mask_ptr(words[index].ctypes.data, words[index].nbytes)  # type: ignore[union-attr]
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :vocabulary]
    forbidden = torch.from_numpy(bits == 0).to(logits_BV.device)
    logits_BV[rows] = logits_BV[rows].masked_fill(forbidden, float("-inf"))
