"""The local engine: a transformers model whose KV cache outlives the turn.

Every linear layer runs on packed tokens of shape (1, T), whichever sequences they belong to, so
nothing is padded; attention alone is told apart by sequence. Each sequence owns one row of the
cache, which grows by what is new: the last sampled token and the next observation.

Dimension suffixes: R rows of the cache, B sequences of a step, T packed tokens, H key-value heads,
G query heads a key-value head, D head size, L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from redpencil.engine import Capability, Sample, Sampling
from redpencil.engine.grammar import Grammars, forbid
from redpencil.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ATTENTION = "redpencil_packed"
PREFILL_TOKENS = 1024
"""Packed tokens of one prefill step: enough to keep the matrices busy, few enough to stay small."""
LENGTH_STEP = 256
"""Positions by which the cache grows."""


class LocalEngine:
    """Samples from a causal transformers model of the Llama kind, on CPU or CUDA.

    The engine's model has weights of its own; `sync` takes over those of a model in training, its
    LoRA merged.
    """

    capabilities: frozenset[Capability] = frozenset(
        {"ids", "logprobs", "fork", "lora_sync", "grammar"}
    )

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: int = 2048
    ) -> None:
        """Take over `model`, which from now on attends through this engine's cache.

        Args:
            context: most tokens of a sequence.

        Raises:
            UsageError: the model's attention is of a kind that the engine does not know.
        """
        _check_attention(model)
        model.config._attn_implementation = ATTENTION
        self._model: Any = model.eval().requires_grad_(False)
        self._tokenizer: Any = tokenizer
        self._context: int = min(context, model.config.max_position_embeddings)
        self._stop_ids = _stop_ids(model, tokenizer)
        self._cache = _Cache(model)
        self._pending: dict[int, list[int]] = {}

    @cached_property
    def _grammars(self) -> Grammars:
        return Grammars(self._tokenizer, self._model.config.vocab_size)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode_chat(self, message: str) -> list[int]:
        if not self._tokenizer.chat_template:
            raise UsageError("this model has no chat template, so it cannot be asked directly")
        return self.encode(
            self._tokenizer.apply_chat_template(
                [{"role": "user", "content": message}], add_generation_prompt=True, tokenize=False
            )
        )

    def open(self) -> int:
        row = self._cache.take_row()
        self._pending[row] = []
        return row

    @torch.inference_mode()
    def fork(self, handle: int) -> int:
        row = self.open()
        self._cache.copy(handle, row)
        self._pending[row] = list(self._pending[handle])
        return row

    def room(self, handle: int) -> int:
        return self._context - self._length(handle)

    def append(self, handle: int, ids: Sequence[int]) -> None:
        if len(ids) > self.room(handle):
            raise UsageError(f"a sequence of this engine has at most {self._context} tokens")
        self._pending[handle].extend(ids)

    def close(self, handle: int) -> None:
        if self._pending.pop(handle, None) is not None:
            self._cache.free_row(handle)

    @torch.inference_mode()
    def sample(self, requests: Sequence[tuple[int, Sampling]]) -> list[Sample]:
        drafts = [
            _Draft(
                handle,
                sampling,
                Random(f"{sampling.seed}:{self._length(handle)}"),
                None if sampling.grammar is None else self._grammars.begin(sampling.grammar),
            )
            for handle, sampling in requests
        ]
        logits_BV = self._prefill([draft.row for draft in drafts])
        growing = drafts
        while growing:
            for draft, (token, logprob) in zip(growing, _draw(logits_BV, growing), strict=True):
                draft.ids.append(token)
                draft.logprobs.append(logprob)
                if draft.matcher is not None:
                    draft.matcher.consume_token(token)
                self._pending[draft.row].append(token)
            growing = [draft for draft in growing if not self._done(draft)]
            if growing:
                logits_BV = self._forward(
                    [draft.row for draft in growing],
                    [self._take_pending(draft.row) for draft in growing],
                )
        return [
            Sample(tuple(draft.ids), tuple(draft.logprobs), self._decode(draft.ids))
            for draft in drafts
        ]

    @torch.inference_mode()
    def sync(self, source: Any) -> None:
        """Take over the weights of a PEFT model on the same base, its active LoRA merged in."""
        modules = dict(self._model.named_modules())
        for name, module in source.base_model.model.named_modules():
            if hasattr(module, "get_delta_weight"):
                base = module.get_base_layer().weight
                delta = sum(module.get_delta_weight(adapter) for adapter in module.active_adapters)
                modules[name].weight.copy_(base.float() + delta)

    def _length(self, row: int) -> int:
        return self._cache.lengths[row] + len(self._pending[row])

    def _take_pending(self, row: int) -> list[int]:
        ids, self._pending[row] = self._pending[row], []
        return ids

    def _done(self, draft: _Draft) -> bool:
        return (
            draft.ids[-1] in self._stop_ids
            or len(draft.ids) >= draft.sampling.max_tokens
            or draft.sampling.complete(self._decode(draft.ids))
        )

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _prefill(self, rows: Sequence[int]) -> torch.Tensor:
        """Compute what is pending; equal beginnings of new sequences are computed once."""
        chunks = {row: self._take_pending(row) for row in rows}
        leaders: dict[tuple[int, ...], int] = {}
        leader_of = {
            row: row if self._cache.lengths[row] else leaders.setdefault(tuple(chunks[row]), row)
            for row in rows
        }
        leading = [row for row in rows if leader_of[row] == row]
        logits: dict[int, torch.Tensor] = {}
        batch: list[int] = []
        for index, row in enumerate(leading):
            batch.append(row)
            tokens = sum(len(chunks[member]) for member in batch)
            following = leading[index + 1] if index + 1 < len(leading) else None
            if following is None or tokens + len(chunks[following]) > PREFILL_TOKENS:
                computed = self._forward(batch, [chunks[member] for member in batch])
                logits.update(zip(batch, computed, strict=True))
                batch = []
        for row in rows:
            if leader_of[row] != row:
                self._cache.copy(leader_of[row], row)
        return torch.stack([logits[leader_of[row]] for row in rows]) if rows else torch.empty(0)

    def _forward(self, rows: Sequence[int], chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append each chunk to its row; logits (B, V) in float32 after each chunk's last token."""
        plan = self._cache.plan(rows, [len(chunk) for chunk in chunks])
        device = self._cache.device
        ids_T = torch.tensor([[token for chunk in chunks for token in chunk]], device=device)
        hidden_TE = self._model.model(
            input_ids=ids_T, position_ids=plan.positions[None], use_cache=False, plan=plan
        ).last_hidden_state[0]
        self._cache.advance(plan)
        logits: torch.Tensor = self._model.get_output_embeddings()(hidden_TE[plan.last])
        return logits.float()


@dataclass
class _Draft:
    """An action being sampled."""

    row: int
    sampling: Sampling
    random: Random
    matcher: Any | None
    """Of the grammar, at the end of what is drafted."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def _draw(logits_BV: torch.Tensor, drafts: Sequence[_Draft]) -> list[tuple[int, float]]:
    """One token for each draft, with its log-probability at temperature 1."""
    logprobs_BV = logits_BV - logits_BV.logsumexp(-1, keepdim=True)
    forbid(logits_BV, [draft.matcher for draft in drafts])
    tokens_B = logits_BV.argmax(-1)
    warm = [index for index, draft in enumerate(drafts) if draft.sampling.temperature > 0]
    if warm:
        sampling = [drafts[index].sampling for index in warm]
        uniform = [drafts[index].random.random() for index in warm]

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=logits_BV.device)[:, None]

        probs = (logits_BV[warm] / column([s.temperature for s in sampling])).softmax(-1)
        if any(s.top_p < 1 for s in sampling):
            probs = _nucleus(probs, column([s.top_p for s in sampling]))
        # searchsorted over the running sum: torch.multinomial is many times slower on a CPU
        sums = probs.cumsum(-1)
        drawn = torch.searchsorted(sums, column(uniform) * sums[:, -1:])
        tokens_B[warm] = drawn[:, 0].clamp_(max=logits_BV.shape[-1] - 1)
    chosen = logprobs_BV.gather(1, tokens_B[:, None])[:, 0]
    return list(zip(tokens_B.tolist(), chosen.tolist(), strict=True))


def _nucleus(probs: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero all but the likeliest tokens that together reach `top_p`."""
    ordered, order = probs.sort(-1, descending=True)
    beyond = ordered.cumsum(-1) - ordered > top_p
    return probs.scatter(-1, order, ordered.masked_fill(beyond, 0.0))


@dataclass(frozen=True)
class _Plan:
    """Where the packed tokens of one step belong."""

    cache: _Cache
    rows: list[int]
    counts: list[int]
    positions: torch.Tensor
    """(T,) position of each token in its own sequence."""
    last: torch.Tensor
    """(B,) index of each chunk's last token among the packed."""


class _Cache:
    """Keys (R, H, D, L) and values (R, H, L, D) of each layer, and how many are in each row.

    Keys lie transposed so that both of attention's products read the cache without a copy.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        self.lengths: list[int] = []
        self.device = model.device
        self._dtype = model.dtype
        self._layers = config.num_hidden_layers
        self._heads = config.num_key_value_heads
        size = getattr(config, "head_dim", None)
        self._head_size = size or config.hidden_size // config.num_attention_heads
        self._free: list[int] = []
        self._positions = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def take_row(self) -> int:
        if not self._free:
            rows = len(self.lengths)
            self._free = list(range(rows, max(2 * rows, 4)))[::-1]
            self.lengths += [0] * len(self._free)
            self._resize(self._positions)
        row = self._free.pop()
        self.lengths[row] = 0
        return row

    def free_row(self, row: int) -> None:
        self._free.append(row)

    def copy(self, source: int, target: int) -> None:
        length = self.lengths[source]
        for keys, values in zip(self.keys, self.values, strict=True):
            keys[target, :, :, :length] = keys[source, :, :, :length]
            values[target, :, :length] = values[source, :, :length]
        self.lengths[target] = length

    def plan(self, rows: Sequence[int], counts: Sequence[int]) -> _Plan:
        ends = [self.lengths[row] + count for row, count in zip(rows, counts, strict=True)]
        if max(ends) > self._positions:
            self._resize(-(-max(ends) // LENGTH_STEP) * LENGTH_STEP)
        positions = [
            position
            for row, end in zip(rows, ends, strict=True)
            for position in range(self.lengths[row], end)
        ]
        return _Plan(
            self,
            list(rows),
            list(counts),
            torch.tensor(positions, device=self.device),
            torch.tensor(counts, device=self.device).cumsum(0) - 1,
        )

    def advance(self, plan: _Plan) -> None:
        for row, count in zip(plan.rows, plan.counts, strict=True):
            self.lengths[row] += count

    def _resize(self, positions: int) -> None:
        rows, heads, size = len(self.lengths), self._heads, self._head_size
        like = {"dtype": self._dtype, "device": self.device}
        old_keys, old_values = self.keys, self.values
        self.keys = [torch.zeros(rows, heads, size, positions, **like) for _ in range(self._layers)]
        self.values = [
            torch.zeros(rows, heads, positions, size, **like) for _ in range(self._layers)
        ]
        for new, old in zip(self.keys, old_keys, strict=False):
            new[: len(old), :, :, : old.shape[3]] = old
        for new, old in zip(self.values, old_values, strict=False):
            new[: len(old), :, : old.shape[2]] = old
        self._positions = positions


def _packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    plan: _Plan,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of packed tokens (1, heads, T, D), each over its own sequence's cache."""
    layer: Any = module.layer_idx
    keys_RHDL, values_RHLD = plan.cache.keys[layer], plan.cache.values[layer]
    attend = _attend_one if max(plan.counts) == 1 else _attend_ragged
    out = attend(plan, keys_RHDL, values_RHLD, query[0] * scaling, key[0], value[0])
    return out, None


def _attend_one(
    plan: _Plan,
    keys_RHDL: torch.Tensor,
    values_RHLD: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> torch.Tensor:
    """One new token for each sequence, all in one product over the rows' common span."""
    heads, size = key.shape[0], key.shape[2]
    rows = torch.tensor(plan.rows, device=query.device)
    keys_RHDL[rows, :, :, plan.positions] = key.transpose(0, 1)
    values_RHLD[rows, :, plan.positions] = value.transpose(0, 1)
    first, last = min(plan.rows), max(plan.rows) + 1
    span = int(plan.positions.max()) + 1
    # The query heads of a key-value head are folded together: one product, no repeated keys.
    query_BHGD = query.transpose(0, 1).reshape(len(plan.rows), heads, -1, size)
    query_RHGD = query.new_zeros(last - first, *query_BHGD.shape[1:])
    query_RHGD[rows - first] = query_BHGD
    ends = torch.zeros(last - first, dtype=torch.long, device=query.device)
    ends[rows - first] = plan.positions
    hidden = torch.arange(span, device=query.device)[None] > ends[:, None]
    scores = query_RHGD @ keys_RHDL[first:last, :, :, :span]
    scores.masked_fill_(hidden[:, None, None], float("-inf"))
    weights = scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    out_RHGD = weights @ values_RHLD[first:last, :, :span]
    return out_RHGD[rows - first].reshape(1, len(plan.rows), -1, size)


def _attend_ragged(
    plan: _Plan,
    keys_RHDL: torch.Tensor,
    values_RHLD: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> torch.Tensor:
    """Chunks of any length, one product a sequence."""
    heads, size = key.shape[0], key.shape[2]
    groups = query.shape[0] // heads
    outs, start = [], 0
    for row, count in zip(plan.rows, plan.counts, strict=True):
        chunk = slice(start, start + count)
        past, end = plan.cache.lengths[row], plan.cache.lengths[row] + count
        keys_RHDL[row, :, :, past:end] = key[:, chunk].transpose(1, 2)
        values_RHLD[row, :, past:end] = value[:, chunk]
        folded = query[:, chunk].reshape(heads, groups * count, size)
        scores = (folded @ keys_RHDL[row, :, :, :end]).view(heads, groups, count, end)
        future = torch.ones(count, count, dtype=torch.bool, device=query.device).triu_(1)
        scores[..., past:].masked_fill_(future, float("-inf"))
        weights = scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
        out = weights.view(heads, groups * count, end) @ values_RHLD[row, :, :end]
        outs.append(out.view(heads * groups, count, size))
        start += count
    return torch.cat(outs, dim=1).transpose(0, 1)[None].contiguous()


def _no_mask(*_: object, **__: object) -> None:
    """The packed attention masks by itself."""


def _check_attention(model: PreTrainedModel) -> None:
    config = model.config
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    softcap = getattr(config, "attn_logit_softcapping", None)
    if layer_types != {"full_attention"} or softcap or not hasattr(model, "model"):
        raise UsageError(
            f"the local engine does not know the attention of {config.model_type!r} models yet; "
            "use one of the Llama, SmolLM2, Qwen2, Qwen2.5 or Qwen3 families"
        )


def _stop_ids(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    end = model.generation_config.eos_token_id if model.generation_config else None
    ends = end if isinstance(end, list) else [end, tokenizer.eos_token_id]
    return frozenset(token for token in ends if token is not None)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, _no_mask)
