"""A language-model head that scores only the tokens asked for.

TRL's trainers call `model(..., labels=..., fused_lm_head=True)` and read log-probabilities where
the label is not -100. TRL's own head skips the other positions on GPUs alone; on a CPU it scores
them all, in float32. Ours skips them everywhere: actions are about 15% of a trace's tokens.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from trl.trainer.utils import FusedCausalLMOutput

from redpencil.engine.cache import decoder_config
from redpencil.engine.packed import FAMILIES
from redpencil.errors import UsageError

_AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""What a configuration calls that which some models do to the head's output."""
_FEW = 16
"""Tokens of padding that cost less than rows of their own."""
TILE = 512
"""Tokens scored at once; a tile's logits are computed again in the backward pass, not kept."""


def score_only_labels(model: Any, temperature: float = 1.0) -> None:
    """Replace TRL's fused head on a (base, not PEFT) causal model by one that skips ignored labels.

    Args:
        temperature: the logits are divided by it.

    Raises:
        UsageError: the model's logits are not its head's products alone.
    """
    config = decoder_config(model)
    further = [name for name in _AFTER_THE_HEAD if getattr(config, name, None) not in (None, 1)]
    if model.get_output_embeddings().bias is not None:
        further.append("a bias")
    if further:
        raise UsageError(
            f"{config.model_type} models cannot be trained here: their logits are more than the "
            f"head's products ({', '.join(further)}); take another family, such as Llama or Qwen"
        )
    plain_forward = type(model).forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return plain_forward(self, *args, **kwargs)
        labels = kwargs.pop("labels")[:, 1:]
        kwargs.pop("num_items_in_batch", None)
        shown = kwargs.get("attention_mask")
        if shown is not None and bool(shown[:, 0].all()):
            # Padded on the right, where nothing that counts looks: causal attention without a
            # mask is the same, and on a CPU its backward pass takes two thirds of the time.
            kwargs["attention_mask"] = None
        hidden = self.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state[:, :-1]
        mask = labels != -100
        return _score(self.get_output_embeddings().weight, hidden, labels, mask, temperature)

    model.forward = types.MethodType(forward, model)


def score_rows(
    model: Any, ids: torch.Tensor, shown: torch.Tensor, labels: torch.Tensor, *, at_once: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies (B, T) of the labelled tokens, 0 of all others.

    TRL pads prompts on the left and completions on the right, all as far as the longest of a step.
    Here the rows are padded on the right alone, as far as the longest of those scored together, and
    what rows begin with alike, as traces of one program do, is computed once for all of them.

    Args:
        model: one whose head is `score_only_labels`.
        ids: (B, T), of which `shown` (B, T) is 1 where it is not padding.
        labels: (B, T), -100 for what is not to be scored.
        at_once: score all rows together, as processes do that have to run the model equally often,
            instead of those of about one length.
    """
    lengths = shown.sum(1)
    kept = shown.sort(dim=1, descending=True, stable=True).indices
    logps, entropies = (torch.zeros(ids.shape, device=ids.device) for _ in range(2))
    if at_once:
        lots: Iterable[_Lot] = [_Lot(list(range(len(ids))), None)]
    else:
        lots = _lots(model, ids.gather(1, kept), labels.gather(1, kept), lengths.tolist())
    for lot in lots:
        rows = torch.tensor(lot.rows, device=ids.device)
        begun = lot.beginning.get_seq_length() if lot.beginning else 0
        places = kept[rows, begun : int(lengths[rows].max())]
        output = model(
            input_ids=ids[rows].gather(1, places),
            attention_mask=shown[rows].gather(1, places),
            labels=labels[rows].gather(1, places),
            past_key_values=lot.beginning and _for_each(lot.beginning, len(rows)),
            fused_lm_head=True,
        )
        where = (rows[:, None], places[:, 1:])
        logps = logps.index_put(where, output.log_probs)
        entropies = entropies.index_put(where, output.entropy)
    return logps, entropies


class _Lot(NamedTuple):
    """Rows to be scored together."""

    rows: list[int]
    beginning: DynamicCache | None
    """Keys and values of what all of them begin with, where there is such a thing."""


def _lots(
    model: Any, ids: torch.Tensor, labels: torch.Tensor, lengths: Sequence[int]
) -> Iterator[_Lot]:
    """The rows in lots of about one length; traces of one program share what they begin with.

    Args:
        ids: (B, T), padded on the right only, as `labels` (B, T) are.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for row, first in enumerate((labels != -100).int().argmax(1).tolist()):
        # The last token before the first label is each row's own: the label is read off it.
        alike.setdefault(tuple(ids[row, : max(first - 1, 0)].tolist()), []).append(row)
    cached = decoder_config(model).model_type in FAMILIES
    single = []
    for beginning, rows in alike.items():
        if len(rows) == 1 or not beginning or not cached:
            single += rows
            continue
        cache = DynamicCache()
        model(input_ids=ids[rows[:1], : len(beginning)], past_key_values=cache, logits_to_keep=1)
        own = {row: lengths[row] - len(beginning) for row in rows}
        for lot in _of_about_one_length(own):
            yield _Lot(lot, cache)
    for lot in _of_about_one_length({row: lengths[row] for row in single}):
        yield _Lot(lot, None)


def _for_each(cache: DynamicCache, rows: int) -> DynamicCache:
    """The cache of one row as that of so many; gradients of them all flow back into it."""
    return DynamicCache(
        (layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1))
        for layer in cache.layers
    )


def _of_about_one_length(lengths: Mapping[int, int]) -> list[list[int]]:
    """Rows, by their lengths, in lots: padding makes none longer by more than a quarter, or a few.

    A lot of few tokens costs as much as one of some more.
    """
    lots: list[list[int]] = []
    longest = 0
    for row in sorted(lengths, key=lengths.__getitem__, reverse=True):
        if not lots or longest - lengths[row] > max(longest / 5, _FEW):
            lots.append([])
            longest = lengths[row]
        lots[-1].append(row)
    return lots


def _score(
    weight: torch.Tensor,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    temperature: float,
) -> FusedCausalLMOutput:
    tiles = [
        checkpoint(_score_tile, weight, part, wanted, temperature, use_reentrant=False)
        for part, wanted in zip(
            torch.split(hidden[mask], TILE), torch.split(labels[mask], TILE), strict=True
        )
    ]
    scored = [torch.cat(parts) for parts in zip(*tiles, strict=True)]

    def spread(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(mask.shape).masked_scatter(mask, values)

    log_probs, entropy, is_top1 = (spread(values) for values in scored)
    return FusedCausalLMOutput(
        loss=-log_probs.sum() / mask.sum().clamp(min=1),
        log_probs=log_probs,
        entropy=entropy,
        is_top1=is_top1,
        label_mask=mask,
    )


def _score_tile(
    weight: torch.Tensor, hidden: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits = (hidden @ weight.T).float() / temperature
    normaliser = logits.logsumexp(-1)
    log_probs = logits.gather(1, labels[:, None])[:, 0] - normaliser
    with torch.no_grad():
        entropy = normaliser - (logits.softmax(-1) * logits).sum(-1)
        is_top1 = logits.argmax(-1) == labels
    return log_probs, entropy, is_top1
