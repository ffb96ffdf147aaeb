"""Constrained decoding: which tokens a grammar allows next, by llguidance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from redpencil.errors import EngineError, MissingDependency

_KEPT = 256
"""So many grammars stay compiled: drafts of one turn share theirs, and a page may be seen often."""


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
        self._compiled = lru_cache(_KEPT)(self._compile)

    def begin(self, grammar: str) -> Any:
        """A matcher at the start of a text.

        Raises:
            EngineError: the grammar is not one in Lark's syntax, or too large.
        """
        return self._compiled(grammar).deep_copy()

    def _compile(self, grammar: str) -> Any:
        matcher = self._matcher(self._tokens, self._matcher.grammar_from_lark(grammar))
        if matcher.is_error():
            raise EngineError(f"not a grammar: {matcher.get_error()}")
        return matcher


def forbid(logits_BV: torch.Tensor, matchers: Sequence[Any | None]) -> None:
    """Set to minus infinity, in place, what a row's grammar does not allow next."""
    if all(matcher is None for matcher in matchers):
        return
    rows, vocabulary = logits_BV.shape
    words = np.full((rows, -(-vocabulary // 32)), np.iinfo(np.uint32).max, dtype=np.uint32)
    for row, matcher in enumerate(matchers):
        if matcher is not None:
            matcher.unsafe_compute_mask_ptr(words[row].ctypes.data, words[row].nbytes)
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :vocabulary]
    logits_BV.masked_fill_(torch.from_numpy(bits == 0).to(logits_BV.device), float("-inf"))
