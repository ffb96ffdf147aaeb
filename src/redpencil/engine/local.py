"""The local engine: a transformers model whose contexts outlive the turn.

Sequences join and leave at every token: one step computes what is new in all of them, be it the
token just sampled or a page of a hundred, and draws for each that has nothing more to compute.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import torch

from redpencil.engine import Capability, Sample, Sampling
from redpencil.engine.cache import bytes_per_token, decoder_config
from redpencil.engine.chat import encode, shown
from redpencil.engine.draw import Drawn, draw
from redpencil.engine.general import GeneralModel, require_history
from redpencil.engine.grammar import Grammars, forbid
from redpencil.engine.memory import available
from redpencil.engine.packed import FAMILIES, PackedModel
from redpencil.errors import EngineError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STEP_TOKENS = 1024
"""Most tokens of one step: enough to keep the matrices busy, few enough to stay small."""
MOST_SEQUENCES = 256
_WORTH_COPYING = 16
"""A beginning of so many tokens is copied from another sequence rather than computed again."""


class Contexts(Protocol):
    """A model, and what it has computed of each row's sequence."""

    @property
    def model(self) -> Any: ...
    @property
    def lengths(self) -> list[int]: ...
    @property
    def partial_copies(self) -> bool: ...
    def copy(self, source: int, target: int, length: int) -> None: ...
    def clear(self, row: int) -> None: ...
    def forward(self, rows: Sequence[int], chunks: Sequence[Sequence[int]]) -> torch.Tensor: ...


class LocalEngine:
    """Samples from a causal transformers model, on CPU or CUDA.

    The engine's model has weights of its own; `sync` takes over those of a model in training, its
    LoRA merged.
    """

    capabilities: frozenset[Capability] = frozenset(
        {"ids", "logprobs", "fork", "lora_sync", "grammar"}
    )

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        context: int = 2048,
        capacity: int | None = None,
    ) -> None:
        """Take over `model`, which from now on attends through this engine's cache.

        Args:
            context: most tokens of a sequence.
            capacity: most sequences at once; by default as many as half of the free memory holds.

        Raises:
            UsageError: there is not memory enough for one sequence, or the model cannot keep
                sequences apart.
        """
        self._tokenizer: Any = tokenizer
        longest = getattr(decoder_config(model), "max_position_embeddings", None)
        self._context: int = min(context, longest or context)
        packed = _is_packable(model)
        if not packed:
            require_history(model)
        self.capacity = capacity or _affordable(model, self._context)
        self._contexts: Contexts = (
            PackedModel(model, self.capacity) if packed else GeneralModel(model, self.capacity)
        )
        self._stop_ids = _stop_ids(model, tokenizer)
        self._free = list(range(self.capacity))
        self._ids: dict[int, array[int]] = {}
        self._drafts: dict[int, _Draft] = {}

    @cached_property
    def _grammars(self) -> Grammars:
        return Grammars(self._tokenizer, decoder_config(self._contexts.model).vocab_size)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without any special token."""
        return encode(self._tokenizer, text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def open(self) -> int:
        if not self._free:
            raise UsageError(f"this engine holds {self.capacity} sequences: close one first")
        row = heapq.heappop(self._free)
        self._ids[row] = array("l")
        return row

    def fork(self, handle: int) -> int:
        """A new sequence with the same context, which is computed once."""
        row = self.open()
        self._ids[row] = self._ids[handle][:]
        return row

    def show(self, handle: int, text: str, *, chat: bool = False) -> tuple[int, ...]:
        ids = shown(self._tokenizer, text, self._ids[handle], chat=chat)
        self.append(handle, ids)
        return tuple(ids)

    def append(self, handle: int, ids: Iterable[int]) -> None:
        """Put ids at the sequence's end; they are computed when an action is sampled after them."""
        self._ids[handle].extend(ids)

    def begin(self, handle: int, sampling: Sampling) -> None:
        self._drafts[handle] = _Draft(
            sampling,
            Random(f"{sampling.seed}:{len(self._ids[handle])}"),
            None if sampling.grammar is None else self._grammars.begin(sampling.grammar),
        )

    @torch.inference_mode()
    def step(self) -> list[tuple[int, Sample | EngineError | None]]:
        full = [row for row, draft in self._drafts.items() if not self._fits(row, draft)]
        ended: list[tuple[int, Sample | EngineError | None]] = [(row, None) for row in full]
        for row in full:
            del self._drafts[row]
        if self._drafts:
            work = self._work()
            logits_BV = self._contexts.forward(
                [row for row, _ in work], [chunk for _, chunk in work]
            )
            whole = [place for place, (row, _) in enumerate(work) if not self._pending(row)]
            rows = [work[place][0] for place in whole]
            for row, drawn in zip(rows, self._draw(logits_BV[whole], rows), strict=True):
                self._ids[row].append(drawn.token)
                if self._take(self._drafts[row], drawn):
                    ended.append((row, self._drafts.pop(row).outcome(self)))
        return ended

    def sample(self, requests: Sequence[tuple[int, Sampling]]) -> list[Sample | None]:
        """Begin an action for each sequence and wait for all of them."""
        for handle, sampling in requests:
            self.begin(handle, sampling)
        samples: dict[int, Any] = {}
        while len(samples) < len(requests):
            samples.update(self.step())
        return [samples[handle] for handle, _ in requests]

    def close(self, handle: int) -> None:
        if self._ids.pop(handle, None) is not None:
            self._drafts.pop(handle, None)
            self._contexts.clear(handle)
            heapq.heappush(self._free, handle)

    @torch.inference_mode()
    def sync(self, source: Any) -> None:
        """Take over the weights of a PEFT model on the same base, its active LoRA merged in.

        What was computed of open sequences is computed anew when they go on.

        Raises:
            UsageError: its adapter changes the model by more than LoRA's products of matrices.
        """
        for adapter in source.active_adapters:
            if beyond := _beyond_lora(source.peft_config[adapter]):
                raise UsageError(
                    f"an adapter with {', '.join(beyond)} cannot be sampled from while it is "
                    "trained: train one of plain LoRA"
                )
        modules = dict(self._contexts.model.named_modules())
        for name, module in source.base_model.model.named_modules():
            if hasattr(module, "get_delta_weight"):
                base = module.get_base_layer().weight
                delta = sum(module.get_delta_weight(adapter) for adapter in module.active_adapters)
                modules[name].weight.copy_(base.float() + delta)
        for row in self._ids:
            self._contexts.clear(row)

    def _fits(self, row: int, draft: _Draft) -> bool:
        missing = draft.sampling.max_tokens - len(draft.ids)
        return len(self._ids[row]) + missing <= self._context

    def _pending(self, row: int) -> Sequence[int]:
        return self._ids[row][self._contexts.lengths[row] :]

    def _work(self) -> list[tuple[int, Sequence[int]]]:
        """What the next step computes of which row.

        A new sequence whose beginning another has computed takes it over; one whose beginning
        another is about to compute waits for it.
        """
        lengths = self._contexts.lengths
        computed = {row: lengths[row] for row in self._ids if lengths[row]}
        under_way = {row: len(self._ids[row]) for row in self._drafts if lengths[row]}
        work: list[tuple[int, Sequence[int]]] = []
        room = STEP_TOKENS
        for row in self._drafts:
            if not room:
                break
            if not lengths[row]:
                there, source = self._longest_beginning(row, computed)
                coming, _ = self._longest_beginning(row, under_way)
                if coming >= there + _WORTH_COPYING:
                    continue
                if there >= _WORTH_COPYING:
                    self._contexts.copy(source, row, there)
                under_way[row] = len(self._ids[row])
            chunk = self._pending(row)[:room]
            if chunk:
                work.append((row, chunk))
                room -= len(chunk)
        return work

    def _longest_beginning(self, row: int, others: Mapping[int, int]) -> tuple[int, int]:
        """How much of a row can be copied from another, and from which.

        Args:
            others: how long each of them is when it is copied from.
        """
        lengths = ((self._shared(row, other, length), other) for other, length in others.items())
        return max(lengths, default=(0, row))

    def _shared(self, row: int, other: int, length: int) -> int:
        """How much of a row can be copied from another; at least one token is left to compute."""
        mine, theirs = self._ids[row], self._ids[other]
        limit = min(len(mine) - 1, length)
        shared = bisect_left(range(limit), True, key=lambda n: mine[: n + 1] != theirs[: n + 1])
        return shared if shared == length or self._contexts.partial_copies else 0

    def _draw(self, logits_BV: torch.Tensor, rows: Sequence[int]) -> list[Drawn]:
        drafts = [self._drafts[row] for row in rows]
        total_B = logits_BV.logsumexp(-1)
        forbid(logits_BV, [draft.matcher for draft in drafts])
        return draw(
            logits_BV,
            total_B,
            [draft.sampling for draft in drafts],
            [draft.random.random() for draft in drafts],
        )

    def _take(self, draft: _Draft, drawn: Drawn) -> bool:
        """Add a token to a draft; whether the action is done."""
        draft.ids.append(drawn.token)
        draft.logprobs.append(drawn.logprob)
        if draft.matcher is not None:
            draft.matcher.consume_token(drawn.token)
        return (
            drawn.token in self._stop_ids
            or len(draft.ids) >= draft.sampling.max_tokens
            or bool(draft.error)
            or draft.sampling.complete(self.decode(draft.ids))
        )


@dataclass
class _Draft:
    """An action being sampled."""

    sampling: Sampling
    random: Random
    matcher: Any | None
    """Of the grammar, at the end of what is drafted."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def error(self) -> str:
        """Why the grammar cannot be followed any further; empty while it can."""
        return "" if self.matcher is None else self.matcher.get_error()

    def outcome(self, engine: LocalEngine) -> Sample | EngineError:
        if self.error:
            return EngineError(f"the grammar could not be followed: {self.error}")
        return Sample(tuple(self.ids), tuple(self.logprobs), engine.decode(self.ids))


def _beyond_lora(config: Any) -> list[str]:
    """The settings of an adapter that have it change more than a product of matrices can."""
    names = ("bias", "lora_bias", "modules_to_save", "trainable_token_indices", "use_dora")
    return [name for name in names if (getattr(config, name) or "none") != "none"]


def _is_packable(model: PreTrainedModel) -> bool:
    config = model.config
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    return config.model_type in FAMILIES and not any(getattr(config, cap, None) for cap in caps)


def _affordable(model: PreTrainedModel, context: int) -> int:
    """How many sequences half of the free memory holds when all are as long as they may be."""
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
    else:
        free = available()
    needed = context * bytes_per_token(model)
    if free < 2 * needed:
        raise UsageError(
            f"not memory enough: one sequence of {context} tokens takes {needed / 2**20:.0f} MiB, "
            "and at most half of what is free is used; give a smaller context"
        )
    return min(MOST_SEQUENCES, free // 2 // needed)


def _stop_ids(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    end = model.generation_config.eos_token_id if model.generation_config else None
    ends = end if isinstance(end, list) else [end, tokenizer.eos_token_id]
    return frozenset(token for token in ends if token is not None)
