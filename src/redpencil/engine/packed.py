"""A transformers model with its KV cache outside, for many sequences at once.

Every linear layer runs on packed tokens of shape (1, T), whichever sequences they belong to, so
nothing is padded; attention alone is told apart by sequence.

Dimension suffixes: R rows of the cache, N neighbouring rows, T packed tokens, H key-value heads,
G query heads a key-value head, D head size, S positions of a sequence, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "redpencil_packed"
FAMILIES = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma3_text"})
"""Model types whose logits are the head's output, and whose attention is full or by window."""
BLOCK = 256
"""Positions of one block of the cache."""
_FEW = range(5, 49)
"""So many tokens are better multiplied from the right: two to three times as fast in float32."""
_GAP = 2
"""So many idle rows between two are computed along rather than told apart."""


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
        self.lengths = [0] * rows
        """Positions computed of each row."""
        self._cache = _Cache(model, rows)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make the first `length` positions of one row those of another too."""
        self._cache.grow(target + 1, length)
        self._cache.copy(source, target, length)
        self.lengths[target] = length

    def clear(self, row: int) -> None:
        """Forget a row."""
        self.lengths[row] = 0
        self._cache.shrink(max(self.lengths))

    def forward(self, rows: Sequence[int], chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append each chunk to its row; logits (N, V) in float32 after each chunk's last token."""
        starts = [self.lengths[row] for row in rows]
        counts = [len(chunk) for chunk in chunks]
        step = _Step(self._cache, list(rows), starts, counts)
        self._cache.grow(max(rows) + 1, max(step.ends))
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


def decoder_config(model: PreTrainedModel) -> Any:
    """What a model's configuration says of its text, which some keep apart from that of images."""
    return model.config.get_text_config(decoder=True)


def bytes_per_token(model: PreTrainedModel) -> int:
    """Memory that one position of one sequence takes."""
    layers: int = decoder_config(model).num_hidden_layers
    return 2 * layers * _heads(model) * _head_size(model) * int(model.dtype.itemsize)


class _Run(NamedTuple):
    """Neighbouring rows that each go on by one token."""

    first: int
    last: int
    """One past the last row."""
    blocks: int
    """How many blocks of the cache the longest of them reaches into."""
    tokens: torch.Tensor
    """Where their tokens are among the packed."""
    places: torch.Tensor
    """Where their rows are in the run."""
    ends: torch.Tensor
    """(N,) position of each row's token."""


class _Chunk(NamedTuple):
    """Several tokens of one row."""

    row: int
    tokens: slice
    start: int
    end: int


@dataclass
class _Step:
    """Where the packed tokens of one forward pass belong."""

    cache: _Cache
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
        positions = [position for start, end in spans for position in range(start, end)]
        return torch.tensor(positions, device=self.cache.device)

    @cached_property
    def last(self) -> torch.Tensor:
        """Index of each chunk's last token among the packed."""
        return torch.tensor(self.counts, device=self.cache.device).cumsum(0) - 1

    @cached_property
    def ones(self) -> list[tuple[int, int, int]]:
        """Token, row and position where a row goes on by one token."""
        steps = zip(self.last.tolist(), self.rows, self.starts, self.counts, strict=True)
        return [(token, row, start) for token, row, start, count in steps if count == 1]

    @cached_property
    def places(self) -> list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Of rows that go on by one token, for each block: the tokens, their rows and offsets."""
        places = []
        for block in sorted({start // BLOCK for _, _, start in self.ones}):
            inside = [one for one in self.ones if one[2] // BLOCK == block]
            tokens, rows, starts = torch.tensor(inside, device=self.cache.device).unbind(1)
            places.append((block, tokens, rows, starts % BLOCK))
        return places

    @cached_property
    def runs(self) -> list[_Run]:
        ones = sorted((row, token, start) for token, row, start in self.ones)
        groups: list[list[tuple[int, int, int]]] = []
        for one in ones:
            if groups and one[0] - groups[-1][-1][0] <= _GAP + 1:
                groups[-1].append(one)
            else:
                groups.append([one])
        return [self._run(group) for group in groups]

    def _run(self, group: list[tuple[int, int, int]]) -> _Run:
        rows, tokens, starts = torch.tensor(group, device=self.cache.device).unbind(1)
        first, last = group[0][0], group[-1][0] + 1
        ends = starts.new_zeros(last - first)
        ends[rows - first] = starts
        blocks = max(start for _, _, start in group) // BLOCK + 1
        return _Run(first, last, blocks, tokens, rows - first, ends)

    @cached_property
    def chunks(self) -> list[_Chunk]:
        chunks, token = [], 0
        for row, start, count in zip(self.rows, self.starts, self.counts, strict=True):
            if count > 1:
                chunks.append(_Chunk(row, slice(token, token + count), start, start + count))
            token += count
        return chunks

    def run_mask(self, index: int, window: int | None) -> torch.Tensor:
        """(N, 1, 1, S): what is added to the scores of a run's tokens."""
        if ("run", index, window) not in self.masks:
            run = self.runs[index]
            places = torch.arange(run.blocks * BLOCK, device=self.cache.device)
            mask = self._mask(run.ends, places, window)
            self.masks["run", index, window] = mask[:, None, None]
        return self.masks["run", index, window]

    def chunk_mask(self, index: int, window: int | None, groups: int) -> torch.Tensor:
        """(G * T, S): what is added to the scores of a chunk's tokens, query head by query head."""
        if ("chunk", index, window) not in self.masks:
            chunk = self.chunks[index]
            places = torch.arange(chunk.end, device=self.cache.device)
            mask = self._mask(places[chunk.start :], places, window)
            self.masks["chunk", index, window] = mask.repeat(groups, 1)
        return self.masks["chunk", index, window]

    def _mask(self, queries: torch.Tensor, keys: torch.Tensor, window: int | None) -> torch.Tensor:
        distance = queries[:, None] - keys
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        mask = torch.zeros(hidden.shape, dtype=self.cache.dtype, device=self.cache.device)
        return mask.masked_fill_(hidden, float("-inf"))


class _Cache:
    """Keys and values of each layer in blocks of shape (R, H, BLOCK, D).

    Cut by position, not by row: a product over neighbouring rows then reads whole blocks, which
    no layer below has to copy first, and sequences grow without being moved. There are blocks for
    the rows that have been in use since the cache was empty, which may be far fewer than there are.
    """

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        self.device = model.device
        self.dtype = model.dtype
        self._most = rows
        self._rows = 0
        self._shape = (_heads(model), BLOCK, _head_size(model))
        layers = model.config.num_hidden_layers
        self.keys: list[list[torch.Tensor]] = [[] for _ in range(layers)]
        self.values: list[list[torch.Tensor]] = [[] for _ in range(layers)]

    def grow(self, rows: int, positions: int) -> None:
        """Have blocks of so many rows for so many positions."""
        if rows > self._rows:
            # Twice as many, since all that is there has to be moved.
            self._rows = min(self._most, max(rows, 2 * self._rows))
        for blocks in (*self.keys, *self.values):
            for index, block in enumerate(blocks):
                if len(block) < self._rows:
                    blocks[index] = self._block()
                    blocks[index][: len(block)] = block
            while len(blocks) * BLOCK < positions:
                blocks.append(self._block())

    def shrink(self, positions: int) -> None:
        """Keep no more blocks than so many positions need."""
        if not positions:
            self._rows = 0
        for blocks in (*self.keys, *self.values):
            del blocks[-(-positions // BLOCK) :]

    def copy(self, source: int, target: int, length: int) -> None:
        for blocks in (*self.keys, *self.values):
            for start in range(0, length, BLOCK):
                block, count = blocks[start // BLOCK], min(length - start, BLOCK)
                block[target, :, :count] = block[source, :, :count]

    def write(self, blocks: list[torch.Tensor], step: _Step, new_HTD: torch.Tensor) -> None:
        """Put a layer's new keys, or its new values, where they belong."""
        for index, tokens, rows, offsets in step.places:
            blocks[index][rows, :, offsets] = new_HTD[:, tokens].transpose(0, 1)
        for chunk in step.chunks:
            position, token = chunk.start, chunk.tokens.start
            while position < chunk.end:
                index, offset = divmod(position, BLOCK)
                count = min(BLOCK - offset, chunk.end - position)
                new = new_HTD[:, token : token + count]
                blocks[index][chunk.row, :, offset : offset + count] = new
                position, token = position + count, token + count

    def _block(self) -> torch.Tensor:
        """Zeros, which masked positions need: a weight of 0 would not undo a NaN."""
        shape = (self._rows, *self._shape)
        if self.device.type != "cpu":
            return torch.zeros(shape, dtype=self.dtype, device=self.device)
        # numpy's zeros take up memory only where they are written to, so that rows which do not
        # reach as far as the longest cost nothing there.
        size = int(np.prod(shape)) * self.dtype.itemsize
        return torch.from_numpy(np.zeros(size, np.uint8)).view(self.dtype).view(shape)


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
    """Attention of packed tokens (1, heads, T, D), each over its own sequence's cache."""
    layer: Any = module.layer_idx
    keys, values = step.cache.keys[layer], step.cache.values[layer]
    step.cache.write(keys, step, key[0])
    step.cache.write(values, step, value[0])
    out = torch.empty_like(query[0].transpose(0, 1))
    for index, run in enumerate(step.runs):
        mask = step.run_mask(index, sliding_window)
        out[run.tokens] = _attend_run(run, keys, values, query[0][:, run.tokens] * scaling, mask)
    for index, chunk in enumerate(step.chunks):
        mask = step.chunk_mask(index, sliding_window, query.shape[1] // key.shape[1])
        out[chunk.tokens] = _attend_chunk(
            chunk, keys, values, query[0][:, chunk.tokens], mask, scaling
        )
    return out[None], None


def _attend_chunk(
    chunk: _Chunk,
    keys: list[torch.Tensor],
    values: list[torch.Tensor],
    query: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Several tokens of one row: (T, heads, D)."""
    # The query heads of a key-value head are folded together, as if they were more tokens.
    folded = query.reshape(1, keys[0].shape[1], -1, query.shape[-1])
    attended = scaled_dot_product_attention(
        folded, _row(keys, chunk), _row(values, chunk), attn_mask=mask, scale=scaling
    )
    return attended.reshape(query.shape).transpose(0, 1)


def _row(blocks: list[torch.Tensor], chunk: _Chunk) -> torch.Tensor:
    """(1, H, S, D): what the cache holds of a chunk's row, up to the chunk's end."""
    reached = blocks[: -(-chunk.end // BLOCK)]
    return torch.cat([block[chunk.row] for block in reached], dim=1)[None, :, : chunk.end]


def _attend_run(
    run: _Run,
    keys: list[torch.Tensor],
    values: list[torch.Tensor],
    query: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """One token for each row, in one product a block: (tokens, heads, D)."""
    heads, size = keys[0].shape[1], keys[0].shape[3]
    # The query heads of a key-value head are folded together: one product, no repeated keys.
    folded = query.transpose(0, 1).reshape(len(run.tokens), heads, -1, size)
    query_NHGD = folded.new_zeros(run.last - run.first, *folded.shape[1:])
    query_NHGD[run.places] = folded
    rows = slice(run.first, run.last)
    scores = torch.cat(
        [query_NHGD @ block[rows].transpose(2, 3) for block in keys[: run.blocks]], dim=-1
    )
    weights = (scores + mask).softmax(-1)
    out_NHGD = torch.zeros_like(query_NHGD, dtype=torch.float32)
    for block, part in zip(values, torch.split(weights, BLOCK, dim=-1), strict=False):
        out_NHGD += part @ block[rows]
    return out_NHGD[run.places].reshape(len(run.tokens), -1, size).to(query.dtype)


def _no_mask(*_: object, **__: object) -> None:
    """The packed attention masks by itself."""


def _heads(model: PreTrainedModel) -> int:
    config = decoder_config(model)
    heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return heads


def _head_size(model: PreTrainedModel) -> int:
    config = decoder_config(model)
    size: int | None = getattr(config, "head_dim", None)
    return size or int(config.hidden_size // config.num_attention_heads)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, _no_mask)
