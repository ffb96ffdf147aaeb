"""A transformers model with its KV cache outside, for many sequences at once.

Every linear layer runs on packed tokens of shape (1, T), whichever sequences they belong to, so
nothing is padded; attention alone is told apart by sequence. What several sequences begin with is
attended to by all their queries in one product.

Dimension suffixes: R rows of the cache, N tokens of as many rows, T packed tokens, H key-value
heads, G query heads a key-value head, Q query heads, D head size, S positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from redpencil.engine.cache import BLOCK, Beginning, Cache, Chunk, Ones, Pair

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "redpencil_packed"
FAMILIES = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma3_text"})
"""Model types whose logits are the head's output, and whose attention is full or by window."""
_FEW = {torch.float32: range(5, 49), torch.bfloat16: range(2, 49)}
"""So many tokens are better multiplied from the right: two to three times as fast in float32, up to
one and a half in bfloat16."""
_IDLE = 2048
"""So many positions of idle rows between two are computed along rather than told apart."""
_Places: TypeAlias = slice | torch.Tensor
"""A slice where they are consecutive: it copies nothing."""


class PackedModel:
    """Contexts of a model, each a row of the cache that grows by what is new."""

    partial_copies = True

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        model.config._attn_implementation = ATTENTION
        self.model: Any = model.eval().requires_grad_(False)
        if model.device.type == "cpu":
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
        return logits.to(torch.float32, memory_format=torch.contiguous_format)


class _Linear(torch.nn.Linear):
    """A linear layer that multiplies its weights by a few tokens, not the tokens by its weights."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        tokens = input.numel() // self.in_features
        if tokens not in _FEW.get(input.dtype, ()):
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
    """Neighbouring rows that each go on by one token, and that reach into the same block."""

    ones: _Places
    """Which of the step's."""
    rows: slice
    places: _Places
    """Where their rows are among these; a slice of all if none between them is idle."""
    block: int
    length: int
    """How much of the block the longest of them has."""
    positions: slice
    """Where the scores of these positions are."""


class _Together(NamedTuple):
    """Rows with the same beginning that each go on by one token."""

    ones: _Places
    """Which of the step's."""
    beginning: Beginning


@dataclass
class _Step:
    """Where the packed tokens of one forward pass belong."""

    cache: Cache
    rows: list[int]
    starts: list[int]
    counts: list[int]
    masks: dict[tuple[int | None, int | None], torch.Tensor] = field(default_factory=dict)
    """Those made so far, by chunk (None: of all that go on by one token) and window."""

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
        """By row."""
        steps = zip(self.last.tolist(), self.rows, self.starts, self.counts, strict=True)
        return sorted(
            _One(row, token, start, self.cache.beginnings[row], start - self.cache.begun(row))
            for token, row, start, count in steps
            if count == 1
        )

    @cached_property
    def tokens(self) -> torch.Tensor:
        """(N,) where those that go on by one are among the packed."""
        return self._tensor(one.token for one in self.ones)

    @cached_property
    def begun(self) -> int:
        """How long the longest of their beginnings is."""
        return max((one.position - one.own for one in self.ones), default=0)

    @cached_property
    def longest(self) -> int:
        """How many positions after its beginning the longest of them has."""
        return max((one.own + 1 for one in self.ones), default=0)

    @cached_property
    def written(self) -> list[Ones]:
        """Where they belong in the cache."""
        written = []
        for block in sorted({one.own // BLOCK for one in self.ones}):
            inside = [one for one in self.ones if one.own // BLOCK == block]
            tokens = self._tensor(one.token for one in inside)
            rows = self._tensor(one.row for one in inside)
            offsets = self._tensor(one.own % BLOCK for one in inside)
            written.append(Ones(block, tokens, rows, offsets))
        return written

    @cached_property
    def runs(self) -> list[_Run]:
        runs: list[_Run] = []
        for block in range(-(-self.longest // BLOCK)):
            start = block * BLOCK
            reaching = [place for place, one in enumerate(self.ones) if one.own >= start]
            length = min(self.longest - start, BLOCK)
            runs += [self._run(group, block) for group in self._neighbours(reaching, length)]
        return runs

    def _neighbours(self, ones: list[int], length: int) -> list[list[int]]:
        """Those between which few rows are idle."""
        groups: list[list[int]] = []
        for place in ones:
            row = self.ones[place].row
            if groups and (row - self.ones[groups[-1][-1]].row - 1) * length <= _IDLE:
                groups[-1].append(place)
            else:
                groups.append([place])
        return groups

    def _run(self, group: list[int], block: int) -> _Run:
        first, last = (self.ones[group[end]].row for end in (0, -1))
        rows = slice(first, last + 1)
        places = self._places(self.ones[place].row - first for place in group)
        start = block * BLOCK
        length = min(max(self.ones[place].own for place in group) + 1 - start, BLOCK)
        positions = slice(self.begun + start, self.begun + start + length)
        return _Run(self._places(group), rows, places, block, length, positions)

    @cached_property
    def together(self) -> list[_Together]:
        groups: dict[int, tuple[Beginning, list[int]]] = {}
        for place, one in enumerate(self.ones):
            if one.beginning is not None:
                groups.setdefault(id(one.beginning), (one.beginning, []))[1].append(place)
        return [_Together(self._places(ones), beginning) for beginning, ones in groups.values()]

    @cached_property
    def chunks(self) -> list[Chunk]:
        chunks, token = [], 0
        for row, start, count in zip(self.rows, self.starts, self.counts, strict=True):
            if count > 1:
                chunks.append(Chunk(row, slice(token, token + count), start, start + count))
            token += count
        return chunks

    def ones_mask(self, window: int | None) -> torch.Tensor:
        """(N, 1, 1, S): what is added to the scores of those that go on by one token.

        Positions of beginnings come first, then those that are the rows' own.
        """
        if (None, window) not in self.masks:
            ends = self._tensor(one.position for one in self.ones)[:, None]
            begun = ends - self._tensor(one.own for one in self.ones)[:, None]
            beginnings = torch.arange(self.begun, device=self.cache.device)
            own = begun + torch.arange(self.longest, device=self.cache.device)
            nowhere = ends + 1
            positions = torch.cat([beginnings.where(beginnings < begun, nowhere), own], dim=1)
            self.masks[None, window] = self._mask(ends - positions, window)[:, None, None]
        return self.masks[None, window]

    def chunk_mask(self, index: int, window: int | None, groups: int) -> torch.Tensor:
        """(G * T, S): what is added to the scores of a chunk's tokens, query head by query head."""
        if (index, window) not in self.masks:
            chunk = self.chunks[index]
            queries = torch.arange(chunk.start, chunk.end, device=self.cache.device)
            distance = queries[:, None] - torch.arange(chunk.end, device=self.cache.device)
            self.masks[index, window] = self._mask(distance, window).repeat(groups, 1)
        return self.masks[index, window]

    def _mask(self, distance: torch.Tensor, window: int | None) -> torch.Tensor:
        """-inf where a key is further ahead or behind than a query may look, else 0."""
        beyond = distance < 0 if window is None else (distance < 0) | (distance >= window)
        mask = torch.zeros(beyond.shape, dtype=self.cache.dtype, device=self.cache.device)
        return mask.masked_fill_(beyond, float("-inf"))

    def _places(self, values: Iterable[int]) -> _Places:
        places = list(values)
        if places == list(range(places[0], places[-1] + 1)):
            return slice(places[0], places[-1] + 1)
        return self._tensor(places)

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
    step.cache.write(layer, step.written, step.chunks, Pair(key[0], value[0]))
    groups = query.shape[1] // key.shape[1]
    query_QTD = query[0]
    out_TQD = torch.empty_like(query_QTD.transpose(0, 1))
    if step.ones:
        out_TQD[step.tokens] = _attend_ones(
            step, layer, query_QTD[:, step.tokens] * scaling, step.ones_mask(sliding_window)
        )
    for index, chunk in enumerate(step.chunks):
        out_TQD[chunk.tokens] = _attend_chunk(
            step.cache.read(layer, chunk.row, chunk.end),
            query_QTD[:, chunk.tokens],
            step.chunk_mask(index, sliding_window, groups),
            scaling,
        )
    return out_TQD[None], None


def _attend_chunk(
    row: Pair, query_QTD: torch.Tensor, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Several tokens of one row: (T, Q, D)."""
    # The query heads of a key-value head are folded together, as if they were more tokens.
    folded = query_QTD.reshape(1, len(row.keys), -1, query_QTD.shape[-1])
    keys, values = row.keys[None], row.values[None]
    attended = scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scaling)
    return attended.reshape(query_QTD.shape).transpose(0, 1)


def _attend_ones(
    step: _Step, layer: int, query_QND: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """One token for each of some rows: (N, Q, D)."""
    blocks = step.cache.blocks[layer]
    heads = blocks[0].keys.shape[1]
    groups, size = len(query_QND) // heads, query_QND.shape[-1]
    # The query heads of a key-value head are folded together: one product, no repeated keys.
    query_NHGD = query_QND.transpose(0, 1).reshape(-1, heads, groups, size)
    scores_NHGS = mask.expand(*query_NHGD.shape[:3], -1).clone()
    for ones, beginning in step.together:
        scores = _by_head(query_NHGD[ones]) @ beginning.layers[layer].keys.transpose(1, 2)
        scores_NHGS[ones, :, :, : beginning.length] += _by_token(scores, groups)
    for run in step.runs:
        keys = blocks[run.block].keys[run.rows, :, : run.length]
        scores = _by_row(query_NHGD, run) @ keys.transpose(2, 3)
        scores_NHGS[run.ones, :, :, run.positions] += scores[run.places]
    shares_NHGS = scores_NHGS.softmax(-1)
    out_NHGD = torch.zeros_like(query_NHGD, dtype=torch.float32)
    for ones, beginning in step.together:
        shares = _by_head(shares_NHGS[ones, :, :, : beginning.length])
        out_NHGD[ones] += _by_token(shares @ beginning.layers[layer].values, groups)
    for run in step.runs:
        values = blocks[run.block].values[run.rows, :, : run.length]
        shares = _by_row(shares_NHGS[..., run.positions], run)
        out_NHGD[run.ones] += (shares @ values)[run.places]
    return out_NHGD.flatten(1, 2).to(query_QND.dtype)


def _by_row(of_ones: torch.Tensor, run: _Run) -> torch.Tensor:
    """From (N, H, G, S) to (R, H, G, S), of a run's rows; zeros for those that are idle."""
    if isinstance(run.places, slice):
        return of_ones[run.ones]
    rows = of_ones.new_zeros(run.rows.stop - run.rows.start, *of_ones.shape[1:])
    rows[run.places] = of_ones[run.ones]
    return rows


def _by_head(of_tokens: torch.Tensor) -> torch.Tensor:
    """From (N, H, G, S) to (H, N * G, S): one product for all tokens."""
    return of_tokens.transpose(0, 1).flatten(1, 2)


def _by_token(of_heads: torch.Tensor, groups: int) -> torch.Tensor:
    """And back."""
    return of_heads.view(len(of_heads), -1, groups, of_heads.shape[-1]).transpose(0, 1)


def _no_mask(*_: object, **__: object) -> None:
    """The packed attention masks by itself."""


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, _no_mask)
