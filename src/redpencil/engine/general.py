"""The slower path for models whose attention the packed one does not know: one cache a sequence."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from redpencil.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_KEEP_THEIR_STATE = {"recurrent_gemma"}


def require_history(model: PreTrainedModel) -> None:
    """Refuse a model that does not take the cache of a sequence from whoever calls it.

    Without one it would see the last token alone, or, as those that keep their state to
    themselves, what another sequence left there.

    Raises:
        UsageError: the model is such a one.
    """
    taken = inspect.signature(model.forward).parameters
    if "past_key_values" not in taken or model.config.model_type in _KEEP_THEIR_STATE:
        raise UsageError(
            f"{model.config.model_type}: this architecture cannot go on with a sequence from its "
            "keys and values, which the local engine needs: take another model, or a server"
        )


class GeneralModel:
    """Contexts of any causal model of transformers, each computed by itself."""

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.lengths = [0] * rows
        """Positions computed of each row."""
        self._caches: list[Any] = [None] * rows
        layers = DynamicCache(config=model.config).layers
        self.partial_copies = all(type(layer) is DynamicLayer for layer in layers)
        """Some caches, such as those of sliding windows, cannot be cut."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Make the first `length` positions of one row those of another too."""
        self._caches[target] = copy.deepcopy(self._caches[source])
        if length < self.lengths[source]:
            self._caches[target].crop(length - self.lengths[source])
        self.lengths[target] = length

    def clear(self, row: int) -> None:
        """Forget a row."""
        self._caches[row] = None
        self.lengths[row] = 0

    def forward(self, rows: Sequence[int], chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append each chunk to its row; logits (N, V) in float32 after each chunk's last token."""
        return torch.stack(
            [self._forward(row, chunk) for row, chunk in zip(rows, chunks, strict=True)]
        )

    def _forward(self, row: int, chunk: Sequence[int]) -> torch.Tensor:
        if self._caches[row] is None:
            self._caches[row] = DynamicCache(config=self.model.config)
        output = self.model(
            input_ids=torch.tensor([list(chunk)], device=self.model.device),
            past_key_values=self._caches[row],
            use_cache=True,
            logits_to_keep=1,
        )
        self.lengths[row] += len(chunk)
        logits: torch.Tensor = output.logits[0, -1].float()
        return logits
