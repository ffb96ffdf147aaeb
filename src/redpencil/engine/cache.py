"""Keys and values of many sequences; what several of them begin with is held once.

Dimension suffixes: R rows, N tokens of as many rows, T packed tokens, H key-value heads, D head
size, S positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 256
"""Positions of one block of the cache."""


class Pair(NamedTuple):
    """Keys and values, of shape (H, S, D) for one row, (R, H, S, D) for all."""

    keys: torch.Tensor
    values: torch.Tensor


class Beginning(NamedTuple):
    """What several rows begin with."""

    length: int
    layers: list[Pair]


class Ones(NamedTuple):
    """Rows that each go on by one token, in the same block of the cache."""

    block: int
    tokens: torch.Tensor
    """(N,) where their tokens are among the packed."""
    rows: torch.Tensor
    offsets: torch.Tensor
    """(N,) where they belong in the block."""


class Chunk(NamedTuple):
    """Several tokens of one row."""

    row: int
    tokens: slice
    start: int
    end: int


class Cache:
    """Rows, each with what is its own after a beginning that others may have too.

    What is their own lies in blocks for each layer: cut by position, not by row, so that a product
    over neighbouring rows reads whole blocks, which no layer below has to copy first, and sequences
    grow without being moved. In memory a number of the keys has its positions side by side, a
    position of the values its numbers: products with a query, and with its shares, read both in
    order. There are blocks for the rows that have been in use since the cache was empty, which may
    be far fewer than there are.
    """

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        self.device = model.device
        self.dtype = model.dtype
        self.lengths = [0] * rows
        """Positions of each row, those of its beginning included."""
        self.beginnings: list[Beginning | None] = [None] * rows
        self.blocks: list[list[Pair]] = [[] for _ in range(model.config.num_hidden_layers)]
        self._rows = 0
        self._shape = (heads(model), head_size(model))

    def begun(self, row: int) -> int:
        """How long a row's beginning is."""
        beginning = self.beginnings[row]
        return beginning.length if beginning else 0

    def reserve(self, rows: Sequence[int], ends: Sequence[int]) -> None:
        """Have blocks for these rows as far as these positions."""
        self._grow(
            max(rows) + 1,
            max(end - self.begun(row) for row, end in zip(rows, ends, strict=True)),
        )

    def copy(self, source: int, target: int, length: int) -> None:
        """Let a row begin with the first `length` positions of another.

        They are held once for both, unless they are but a part of what the other begins with.
        """
        if self.begun(source) > length:
            self._grow(target + 1, length)
            for layer in range(len(self.blocks)):
                self._put(layer, target, 0, self.read(layer, source, length))
        else:
            if self.begun(source) < length:
                self._set_apart(source, length)
            self.beginnings[target] = self.beginnings[source]
        self.lengths[target] = length

    def clear(self, row: int) -> None:
        """Forget a row."""
        self.lengths[row] = 0
        self.beginnings[row] = None
        if not any(self.lengths):
            self._rows = 0
        self._trim()

    def read(self, layer: int, row: int, end: int) -> Pair:
        """A row up to a position."""
        beginning = self.beginnings[row]
        parts = [beginning.layers[layer]] if beginning else []
        own = max(-(-(end - self.begun(row)) // BLOCK), 0)
        parts += [Pair(keys[row], values[row]) for keys, values in self.blocks[layer][:own]]
        return Pair(*(torch.cat(several, dim=1)[:, :end] for several in zip(*parts, strict=True)))

    def write(self, layer: int, ones: Sequence[Ones], chunks: Sequence[Chunk], new: Pair) -> None:
        """Put what is new of the packed tokens, (H, T, D), where it belongs."""
        for index, tokens, rows, offsets in ones:
            for block, packed in zip(self.blocks[layer][index], new, strict=True):
                block[rows, :, offsets] = packed[:, tokens].transpose(0, 1)
        for chunk in chunks:
            own = chunk.start - self.begun(chunk.row)
            self._put(layer, chunk.row, own, _part(new, chunk.tokens))

    def _set_apart(self, row: int, length: int) -> None:
        """Make a row's first positions its beginning; what follows moves to the front."""
        layers = []
        for layer in range(len(self.blocks)):
            whole = self.read(layer, row, self.lengths[row])
            layers.append(Pair(*(part.clone() for part in _part(whole, slice(length)))))
            self._put(layer, row, 0, _part(whole, slice(length, None)))
        self.beginnings[row] = Beginning(length, layers)
        self._trim()

    def _put(self, layer: int, row: int, start: int, new: Pair) -> None:
        """Write a row's own positions from `start`."""
        done = 0
        while done < new.keys.shape[1]:
            index, offset = divmod(start + done, BLOCK)
            fits = _part(new, slice(done, done + BLOCK - offset))
            for block, part in zip(self.blocks[layer][index], fits, strict=True):
                block[row, :, offset : offset + part.shape[1]] = part
            done += fits.keys.shape[1]

    def _trim(self) -> None:
        """Keep no more blocks than the rows need for what is their own."""
        own = max(length - self.begun(row) for row, length in enumerate(self.lengths))
        for blocks in self.blocks:
            del blocks[-(-own // BLOCK) :]

    def _grow(self, rows: int, positions: int) -> None:
        """Have blocks of so many rows for so many positions."""
        if rows > self._rows:
            # Twice as many, since all that is there has to be moved.
            self._rows = min(len(self.lengths), max(rows, 2 * self._rows))
        for blocks in self.blocks:
            for index, block in enumerate(blocks):
                if len(block.keys) < self._rows:
                    blocks[index] = self._block()
                    for new, old in zip(blocks[index], block, strict=True):
                        new[: len(old)] = old
            while len(blocks) * BLOCK < positions:
                blocks.append(self._block())

    def _block(self) -> Pair:
        """Zeros, which masked positions need: a weight of 0 would not undo a NaN."""
        heads, size = self._shape
        keys = self._zeros(self._rows, heads, size, BLOCK).transpose(2, 3)
        return Pair(keys, self._zeros(self._rows, heads, BLOCK, size))

    def _zeros(self, *shape: int) -> torch.Tensor:
        if self.device.type != "cpu":
            return torch.zeros(shape, dtype=self.dtype, device=self.device)
        # numpy's zeros take up memory only where they are written to, so that rows which do not
        # reach as far as the longest cost nothing there.
        size = int(np.prod(shape)) * self.dtype.itemsize
        return torch.from_numpy(np.zeros(size, np.uint8)).view(self.dtype).view(shape)


def _part(pair: Pair, positions: slice) -> Pair:
    return Pair(pair.keys[:, positions], pair.values[:, positions])


def bytes_per_token(model: PreTrainedModel) -> int:
    """Memory that one position of one sequence takes."""
    layers: int = decoder_config(model).num_hidden_layers
    return 2 * layers * heads(model) * head_size(model) * int(model.dtype.itemsize)


def decoder_config(model: PreTrainedModel) -> Any:
    """What a model's configuration says of its text, which some keep apart from that of images."""
    return model.config.get_text_config(decoder=True)


def heads(model: PreTrainedModel) -> int:
    """Key-value heads of a layer."""
    config = decoder_config(model)
    count: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return count


def head_size(model: PreTrainedModel) -> int:
    """Numbers in a key or value of one head."""
    config = decoder_config(model)
    size: int | None = getattr(config, "head_dim", None)
    return size or int(config.hidden_size // config.num_attention_heads)
