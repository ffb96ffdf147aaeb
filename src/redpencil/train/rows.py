"""The rows of a step, scored with no more computed than need be.

TRL pads prompts on the left and completions on the right, all as far as the longest of a step.
Here rows are padded on the right alone, as far as the longest of those scored together; and what
traces of one program begin with is computed once, after which nothing is padded at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from redpencil.engine.cache import decoder_config
from redpencil.engine.packed import FAMILIES

_FEW = 16
"""Tokens of padding that cost less than rows of their own."""
_TOGETHER = 512
"""Tokens after a common beginning that are computed end to end: as long as they are few, passing
over each other's keys costs little beside the products with the weights."""


def score_rows(
    model: Any, ids: torch.Tensor, shown: torch.Tensor, labels: torch.Tensor, *, at_once: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies (B, T) of the labelled tokens, 0 of all others.

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
        lots: Iterable[_Lot] = [_side_by_side(range(len(ids)), lengths)]
    else:
        lots = _lots(model, ids.gather(1, kept), labels.gather(1, kept), lengths)
    for lot in lots:
        columns = kept[lot.rows, lot.places]
        output = model(
            input_ids=ids[lot.rows, columns],
            labels=labels[lot.rows, columns],
            fused_lm_head=True,
            **lot.context,
        )
        where = (lot.rows.expand_as(columns)[:, 1:], columns[:, 1:])
        logps = logps.index_put(where, output.log_probs)
        entropies = entropies.index_put(where, output.entropy)
    return logps, entropies


class _Lot(NamedTuple):
    """Tokens to be scored together, by the row and place of each in rows padded on the right."""

    rows: torch.Tensor
    """(B, 1) or (1, T)."""
    places: torch.Tensor
    """(B, T) or (1, T)."""
    context: dict[str, Any]
    """What the model is told of their surroundings."""


def _lots(
    model: Any, ids: torch.Tensor, labels: torch.Tensor, lengths: torch.Tensor
) -> Iterator[_Lot]:
    """The rows in lots; traces of one program share what they begin with.

    Args:
        ids: (B, T), padded on the right only, as `labels` (B, T) are.
        lengths: (B,)
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for row, first in enumerate((labels != -100).int().argmax(1).tolist()):
        # The last token before the first label is each row's own: the label is read off it.
        alike.setdefault(tuple(ids[row, : max(first - 1, 0)].tolist()), []).append(row)
    config = decoder_config(model)
    single: list[int] = []
    for beginning, rows in alike.items():
        if len(rows) == 1 or not beginning or config.model_type not in FAMILIES:
            single += rows
            continue
        cache = DynamicCache()
        model(input_ids=ids[rows[:1], : len(beginning)], past_key_values=cache, logits_to_keep=1)
        for lot in _up_to(_TOGETHER, {row: int(lengths[row]) - len(beginning) for row in rows}):
            yield _end_to_end(lot, lengths, cache, config)
    for lot in _of_about_one_length({row: int(lengths[row]) for row in single}):
        yield _side_by_side(lot, lengths)


def _side_by_side(rows: Sequence[int], lengths: torch.Tensor) -> _Lot:
    """Whole rows, padded on the right as far as the longest."""
    chosen = torch.tensor(rows, device=lengths.device)[:, None]
    places = torch.arange(int(lengths[chosen].max()), device=lengths.device)
    shown = (places < lengths[chosen]).long()
    return _Lot(chosen, places.expand_as(shown), {"attention_mask": shown})


def _end_to_end(
    rows: Sequence[int], lengths: torch.Tensor, beginning: DynamicCache, config: Any
) -> _Lot:
    """What rows have after their common beginning, in one row, each blind to the others.

    Gradients of all of them flow back into the beginning.
    """
    begun = beginning.get_seq_length()
    chosen = torch.tensor(rows, device=lengths.device)
    own = lengths[chosen] - begun
    row = chosen.repeat_interleave(own)
    starts = (own.cumsum(0) - own).repeat_interleave(own)
    place = torch.arange(len(row), device=row.device) - starts + begun
    keys = torch.cat([torch.arange(begun, device=row.device), place])
    distance = place[:, None] - keys
    seen = distance >= 0
    seen[:, begun:] &= row[:, None] == row

    masks = {}
    for kind in _kinds_of_attention(config):
        window = config.sliding_window if kind == "sliding_attention" else None
        masks[kind] = (seen if window is None else seen & (distance < window))[None, None]
    return _Lot(
        row[None],
        place[None],
        {
            "attention_mask": masks if len(masks) > 1 else next(iter(masks.values())),
            "position_ids": place[None],
            # One of its own, to which the model adds what it computes.
            "past_key_values": DynamicCache(
                (layer.keys, layer.values) for layer in beginning.layers
            ),
        },
    )


def _kinds_of_attention(config: Any) -> set[str]:
    """What the layers of a packable model attend to; one mask for each kind is what they take."""
    match config.model_type:
        case "llama":
            return {"full_attention"}
        case "mistral":
            return {"sliding_attention"}
    return set(config.layer_types)


def _up_to(most: int, lengths: Mapping[int, int]) -> list[list[int]]:
    """Rows, by their lengths, in lots of at most so many tokens; a longer row is one by itself."""
    lots: list[list[int]] = []
    taken = 0
    for row, length in lengths.items():
        if not lots or taken + length > most:
            lots.append([])
            taken = 0
        lots[-1].append(row)
        taken += length
    return lots


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
