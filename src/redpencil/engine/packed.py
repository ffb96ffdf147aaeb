"""A transformers model with its KV cache outside, for many sequences at once.

Every linear layer runs on packed tokens of shape (1, T), whichever sequences they belong to, so
nothing is padded; attention alone is told apart by sequence. What several sequences begin with is
attended to by all their queries in one product, and joined with what each has of its own.

Dimension suffixes: R rows of the cache, N tokens of as many rows, T packed tokens, H key-value
heads, G query heads a key-value head, Q query heads, D head size, S positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from redpencil.engine.cache import BLOCK, Beginning, Cache, Chunk, Ones

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "redpencil_packed"
FAMILIES = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma3_text"})
"""Model types whose logits are the head's output, and whose attention is full or by window."""
_FEW = range(5, 49)
"""So many tokens are better multiplied from the right: two to three times as fast in float32."""
_IDLE = 2048
"""So many positions of idle rows between two are computed along rather than told apart."""


class PackedModel:
    """Contexts of a model, each a row of the cache that grows by what is new."""

    partial_copies = True

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        model.config._attn_implementation = ATTENTION
        self.model: Any = model.eval().requires_grad_(False)
        if model.device.type == "cpu" and model.dtype == torch.float32:
            for module in model.modules():
                if type(module) is torch.nn.Linear:
                    module.__class__ = _Linear
        self._cache = Cache(model, rows)

    @property
    def lengths(self) -> list[int]:
        """Positions computed of each row."""
        return self._cache.lengths

    def copy(self, source: int, target: int, length: int) -> None:
        """Make the first `length` positions of one row those of another too."""
        self._cache.copy(source, target, length)

    def clear(self, row: int) -> None:
        """Forget a row."""
        self._cache.clear(row)

    def forward(self, rows: Sequence[int], chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append each chunk to its row; logits (N, V) in float32 after each chunk's last token."""
        starts = [self.lengths[row] for row in rows]
        counts = [len(chunk) for chunk in chunks]
        step = _Step(self._cache, list(rows), starts, counts)
        self._cache.reserve(rows, step.ends)
        ids_T = torch.tensor([token for chunk in chunks for token in chunk])
        hidden_TE = self.model.model(
            input_ids=ids_T[None].to(self._cache.device),
            position_ids=step.positions_T[None],
            use_cache=False,
            step=step,
        ).last_hidden_state[0]
        for row, end in zip(rows, step.ends, strict=True):
            self.lengths[row] = end
        logits: torch.Tensor = self.model.get_output_embeddings()(hidden_TE[step.last])
        return logits.float()


class _Linear(torch.nn.Linear):
    """A linear layer that multiplies its weights by a few tokens, not the tokens by its weights."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        tokens = input.numel() // self.in_features
        if tokens not in _FEW:
            return super().forward(input)
        product = (self.weight @ input.reshape(tokens, -1).t()).t()
        shaped = product.view(*input.shape[:-1], -1)
        return shaped if self.bias is None else shaped + self.bias


class _One(NamedTuple):
    """A row that goes on by one token."""

    row: int
    token: int
    """Where it is among the packed."""
    position: int
    beginning: Beginning | None
    own: int
    """Its position after the beginning."""


class _Run(NamedTuple):
    """Neighbouring rows that each go on by one token."""

    rows: slice
    longest: int
    """How many positions after its beginning the longest of them has."""
    tokens: torch.Tensor
    """Where their tokens are among the packed."""
    places: torch.Tensor
    """Where their rows are in the run."""
    ends: torch.Tensor
    """(N,) position of each row's token after its beginning."""


class _Together(NamedTuple):
    """Rows with the same beginning that each go on by one token."""

    beginning: Beginning
    tokens: torch.Tensor
    """Where their tokens are among the packed."""
    positions: torch.Tensor
    """(N,)"""


@dataclass
class _Step:
    """Where the packed tokens of one forward pass belong."""

    cache: Cache
    rows: list[int]
    starts: list[int]
    counts: list[int]
    masks: dict[tuple[str, int, int | None], torch.Tensor] = field(default_factory=dict)

    @cached_property
    def ends(self) -> list[int]:
        return [start + count for start, count in zip(self.starts, self.counts, strict=True)]

    @cached_property
    def positions_T(self) -> torch.Tensor:
        spans = zip(self.starts, self.ends, strict=True)
        return self._tensor(position for start, end in spans for position in range(start, end))

    @cached_property
    def last(self) -> torch.Tensor:
        """Index of each chunk's last token among the packed."""
        return self._tensor(self.counts).cumsum(0) - 1

    @cached_property
    def ones(self) -> list[_One]:
        steps = zip(self.last.tolist(), self.rows, self.starts, self.counts, strict=True)
        return [
            _One(row, token, start, self.cache.beginnings[row], start - self.cache.begun(row))
            for token, row, start, count in steps
            if count == 1
        ]

    @cached_property
    def places(self) -> list[Ones]:
        places = []
        for block in sorted({one.own // BLOCK for one in self.ones}):
            inside = [one for one in self.ones if one.own // BLOCK == block]
            tokens = self._tensor(one.token for one in inside)
            rows = self._tensor(one.row for one in inside)
            places.append(
                Ones(block, tokens, rows, self._tensor(one.own % BLOCK for one in inside))
            )
        return places

    @cached_property
    def runs(self) -> list[_Run]:
        longest = max((one.own for one in self.ones), default=0) + 1
        groups: list[list[_One]] = []
        for one in sorted(self.ones):
            if groups and (one.row - groups[-1][-1].row - 1) * longest <= _IDLE:
                groups[-1].append(one)
            else:
                groups.append([one])
        return [self._run(group) for group in groups]

    def _run(self, group: list[_One]) -> _Run:
        first, last = group[0].row, group[-1].row + 1
        places = self._tensor(one.row - first for one in group)
        ends = places.new_zeros(last - first)
        ends[places] = self._tensor(one.own for one in group)
        longest = max(one.own for one in group) + 1
        tokens = self._tensor(one.token for one in group)
        return _Run(slice(first, last), longest, tokens, places, ends)

    @cached_property
    def together(self) -> list[_Together]:
        groups: dict[int, tuple[Beginning, list[_One]]] = {}
        for one in self.ones:
            if one.beginning is not None:
                groups.setdefault(id(one.beginning), (one.beginning, []))[1].append(one)
        return [
            _Together(
                beginning,
                self._tensor(one.token for one in ones),
                self._tensor(one.position for one in ones),
            )
            for beginning, ones in groups.values()
        ]

    @cached_property
    def chunks(self) -> list[Chunk]:
        chunks, token = [], 0
        for row, start, count in zip(self.rows, self.starts, self.counts, strict=True):
            if count > 1:
                chunks.append(Chunk(row, slice(token, token + count), start, start + count))
            token += count
        return chunks

    def run_mask(self, index: int, window: int | None) -> torch.Tensor:
        """(N, 1, 1, S): what is added to the scores of a run's tokens."""
        if ("run", index, window) not in self.masks:
            run = self.runs[index]
            mask = self._mask(run.ends, run.longest, window, float("-inf"))
            self.masks["run", index, window] = mask[:, None, None]
        return self.masks["run", index, window]

    def beginning_mask(self, index: int, window: int, groups: int) -> torch.Tensor:
        """(G * N, S): what is added to the scores of tokens after the same beginning.

        A window may have left it all behind: it then counts for nothing, which -inf would not give.
        """
        if ("beginning", index, window) not in self.masks:
            together = self.together[index]
            least = torch.finfo(self.cache.dtype).min
            mask = self._mask(together.positions, together.beginning.length, window, least)
            self.masks["beginning", index, window] = mask.repeat(groups, 1)
        return self.masks["beginning", index, window]

    def chunk_mask(self, index: int, window: int | None, groups: int) -> torch.Tensor:
        """(G * T, S): what is added to the scores of a chunk's tokens, query head by query head."""
        if ("chunk", index, window) not in self.masks:
            chunk = self.chunks[index]
            queries = torch.arange(chunk.start, chunk.end, device=self.cache.device)
            mask = self._mask(queries, chunk.end, window, float("-inf"))
            self.masks["chunk", index, window] = mask.repeat(groups, 1)
        return self.masks["chunk", index, window]

    def _mask(
        self, queries: torch.Tensor, keys: int, window: int | None, hidden: float
    ) -> torch.Tensor:
        distance = queries[:, None] - torch.arange(keys, device=self.cache.device)
        beyond = distance < 0 if window is None else (distance < 0) | (distance >= window)
        mask = torch.zeros(beyond.shape, dtype=self.cache.dtype, device=self.cache.device)
        return mask.masked_fill_(beyond, hidden)

    def _tensor(self, values: Iterable[int]) -> torch.Tensor:
        return torch.tensor(list(values), device=self.cache.device)


def _packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    step: _Step,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of packed tokens (1, Q, T, D), each over its own sequence's cache."""
    layer: Any = module.layer_idx
    step.cache.write(layer, step.places, step.chunks, torch.cat([key, value]))
    groups = query.shape[1] // key.shape[1]
    query_QTD = query[0]
    out_TQD = torch.empty_like(query_QTD.transpose(0, 1))
    weight_TQ = query_QTD.new_empty(out_TQD.shape[:2], dtype=torch.float32)
    for index, run in enumerate(step.runs):
        out_TQD[run.tokens], weight_TQ[run.tokens] = _attend_run(
            run,
            step.cache.blocks[layer],
            query_QTD[:, run.tokens] * scaling,
            step.run_mask(index, sliding_window),
        )
    for index, together in enumerate(step.together):
        mask = None
        if sliding_window is not None:
            mask = step.beginning_mask(index, sliding_window, groups)
        tokens = together.tokens
        begun = together.beginning.layers[layer]
        out, weight = _attend_beginning(begun, query_QTD[:, tokens] * scaling, mask)
        share = torch.sigmoid(weight - weight_TQ[tokens])[..., None].to(out.dtype)
        out_TQD[tokens] = torch.lerp(out_TQD[tokens], out, share)
    for index, chunk in enumerate(step.chunks):
        out_TQD[chunk.tokens] = _attend_chunk(
            step.cache.read(layer, chunk.row, chunk.end),
            query_QTD[:, chunk.tokens],
            step.chunk_mask(index, sliding_window, groups),
            scaling,
        )
    return out_TQD[None], None


def _attend_chunk(
    row_2HSD: torch.Tensor, query_QTD: torch.Tensor, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Several tokens of one row: (T, Q, D)."""
    # The query heads of a key-value head are folded together, as if they were more tokens.
    folded = query_QTD.reshape(1, row_2HSD.shape[1], -1, query_QTD.shape[-1])
    keys, values = row_2HSD[:, None]
    attended = scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scaling)
    return attended.reshape(query_QTD.shape).transpose(0, 1)


def _attend_run(
    run: _Run, blocks: list[torch.Tensor], query_QND: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token for each row, in one product a block: (N, Q, D), and the weight (N, Q) of it all.

    The weight is the logarithm of the sum of the scores' exponentials.
    """
    _, _, heads, _, size = blocks[0].shape
    # The query heads of a key-value head are folded together: one product, no repeated keys.
    folded = query_QND.transpose(0, 1).reshape(len(run.tokens), heads, -1, size)
    query_RHGD = folded.new_zeros(len(run.ends), *folded.shape[1:])
    query_RHGD[run.places] = folded
    reached = [
        block[:, run.rows, :, : run.longest - start]
        for start, block in zip(range(0, run.longest, BLOCK), blocks, strict=False)
    ]
    scores = torch.cat([query_RHGD @ keys.transpose(2, 3) for keys, _ in reached], dim=-1) + mask
    shares = scores.softmax(-1)
    out_RHGD = torch.zeros_like(query_RHGD, dtype=torch.float32)
    for (_, values), part in zip(reached, torch.split(shares, BLOCK, dim=-1), strict=True):
        out_RHGD += part @ values
    out = out_RHGD[run.places].flatten(1, 2).to(query_QND.dtype)
    return out, _weight(scores, shares)[run.places].flatten(1)


def _attend_beginning(
    begun_2HSD: torch.Tensor, query_QND: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token for each of some rows over what they all begin with, as `_attend_run` has it."""
    keys, values = begun_2HSD
    scores = query_QND.reshape(len(keys), -1, keys.shape[-1]) @ keys.transpose(1, 2)
    if mask is not None:
        scores = scores + mask
    shares = scores.softmax(-1)
    out = (shares @ values).view(query_QND.shape).transpose(0, 1)
    return out, _weight(scores, shares).view(query_QND.shape[:2]).t()


def _weight(scores: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Logarithm of the sum of the scores' exponentials, whose shares are known: score - log(share).

    Of the largest, by which nothing is lost; a third of the time that `logsumexp` takes.
    """
    return scores.amax(-1).float() - shares.amax(-1).float().log()


def _no_mask(*_: object, **__: object) -> None:
    """The packed attention masks by itself."""


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, _no_mask)
