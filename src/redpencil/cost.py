"""What a recipe costs: tokens, operations, memory and hours, from the model's sizes alone.

Counted is what the models do: products of matrices, as everybody counts them, a multiplication
and an addition being two operations. Not counted: running the programs, loading, the optimiser's
step, padding, the memory of activations. How it is done:

* Forward, two operations a weight and token, and four a query, key, layer and channel in
  attention (Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022, appendix B). Attention is
  causal, so that a sequence of T tokens has T (T + 1) / 2 such pairs.
* Backward through frozen weights takes two operations a weight and token and not four, as only
  the inputs' gradients are wanted; LoRA's own few weights take four (Hu et al. 2021).
* The head scores the model's own tokens only. In training it is computed twice (`train.head`).
* What the traces of one program begin with is computed once: by the engine for all of them, in
  training for those whose gradients are computed together.
* Sampling keeps every sequence's keys and values: each token goes through the model once. Tokens
  shown are read many at once, at the speed of computing. Tokens written come one at a time for all
  sequences together, and each time the weights and the cache have to be read: what takes longer,
  reading or computing, counts (Pope et al. 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from redpencil.errors import UsageError
from redpencil.recipes import Dimensions, Recipe, Workload
from redpencil.types import Value

_BF16 = 2
_AT_ONCE = 32
"""Sequences sampled at once, as is assumed of any machine; engines go by the memory they find."""
_ADAPTER = 16
"""Bytes of a trained weight: itself, its gradient and Adam's two moments, in float32."""


class Hardware(Value, frozen=True):
    """A machine, and how much of it is assumed to be put to use."""

    name: str
    flops: float
    """Peak of bfloat16 products, operations a second."""
    bandwidth: float
    """Peak of reading memory, bytes a second."""
    utilisation: float
    """Share of the one peak reached where many tokens are computed at once."""
    reading: float
    """Share of the other reached where tokens are written one at a time."""


HARDWARE = {
    "cpu-2-core": Hardware("2 CPU cores", 0.4e12, 20e9, 0.6, 0.5),
    "a100-80gb": Hardware("A100 80GB", 312e12, 2.04e12, 0.35, 0.4),
    "h100-80gb": Hardware("H100 80GB", 989e12, 3.35e12, 0.35, 0.4),
}
"""Peaks are those of the data sheets and, for the CPU, of two cores that do 64 bfloat16 operations
a cycle at 3 GHz. The shares are assumed, the CPU's as `docs/scaling.md` says."""


class Stage(NamedTuple):
    """A part of the pipeline and what it takes."""

    name: str
    tokens: float
    """That go through the model."""
    written: float
    """Of these, the tokens that it samples, one at a time."""
    flops: float
    writing_flops: float
    """Of these, the operations of sampling."""
    read: float
    """Bytes read while sampling."""
    memory: float
    """Bytes of weights, adapter with optimiser, and cache."""

    def seconds(self, hardware: Hardware) -> float:
        """Seconds on one such machine."""
        speed = hardware.flops * hardware.utilisation
        reading = self.read / (hardware.bandwidth * hardware.reading)
        return (self.flops - self.writing_flops) / speed + max(self.writing_flops / speed, reading)


def cost(recipe: Recipe) -> list[Stage]:
    """What each stage of a recipe takes.

    Raises:
        UsageError: the recipe does not say how large the model is, or how much there is to do.
    """
    if recipe.dimensions is None or recipe.workload is None:
        lacking = "dimensions" if recipe.dimensions is None else "workload"
        raise UsageError(f"a recipe without [{lacking}] has no cost: see those that come along")
    return [
        _fine_tuning(recipe, recipe.dimensions, recipe.workload),
        *_reinforcement(recipe, recipe.dimensions, recipe.workload),
        _evaluation(recipe, recipe.dimensions, recipe.workload),
    ]


def parameters(sizes: Dimensions) -> int:
    """All weights of a model."""
    embeddings = sizes.vocabulary * sizes.hidden * (1 if sizes.tied else 2)
    norms = (2 * sizes.layers + 1) * sizes.hidden
    biases = sizes.layers * (sizes.heads + 2 * sizes.kv_heads) * sizes.head_size * sizes.qkv_bias
    return sizes.layers * _layer(sizes) + embeddings + norms + biases


def adapter_parameters(sizes: Dimensions, rank: int) -> int:
    """The weights of a LoRA on all linear layers but the head."""
    return sizes.layers * rank * sum(rows + columns for rows, columns in _matrices(sizes))


def forward(sizes: Dimensions, tokens: float, pairs: float, scored: float) -> float:
    """Operations of a forward pass without an adapter.

    Args:
        pairs: of queries and the keys that each attends to.
        scored: tokens that the head is computed for.
    """
    weights = 2 * tokens * sizes.layers * _layer(sizes)
    attention = 4 * pairs * sizes.layers * sizes.heads * sizes.head_size
    return weights + attention + 2 * scored * sizes.hidden * sizes.vocabulary


def training(sizes: Dimensions, tokens: float, pairs: float, scored: float, rank: int) -> float:
    """Operations of a forward and a backward pass that train a LoRA; arguments as in `forward`.

    Three times the forward pass in attention, twice in frozen weights, three times in the head:
    twice forward, once backward.
    """
    weights = 4 * tokens * sizes.layers * _layer(sizes)
    adapter = 6 * tokens * adapter_parameters(sizes, rank)
    attention = 12 * pairs * sizes.layers * sizes.heads * sizes.head_size
    return weights + adapter + attention + 6 * scored * sizes.hidden * sizes.vocabulary


def cache_bytes(sizes: Dimensions) -> int:
    """Bytes of a token's keys and values in all layers."""
    return 2 * sizes.layers * sizes.kv_heads * sizes.head_size * _BF16


def trace_tokens(work: Workload, turns: float) -> float:
    """Mean tokens of a trace of so many turns."""
    return work.first_tokens + turns * work.action_tokens + (turns - 1) * work.later_tokens


def _fine_tuning(recipe: Recipe, sizes: Dimensions, work: Workload) -> Stage:
    traces = work.demos * recipe.sft.epochs
    length = trace_tokens(work, work.demo_turns)
    scored = work.demo_turns * work.action_tokens
    flops = traces * training(sizes, length, _causal(length), scored, recipe.sft.lora.rank)
    memory = _BF16 * parameters(sizes) + _adapter_bytes(recipe, sizes)
    return Stage("SFT", traces * length, 0, flops, 0, 0, memory)


def _reinforcement(recipe: Recipe, sizes: Dimensions, work: Workload) -> list[Stage]:
    grpo = recipe.grpo
    together = grpo.tasks_per_step * grpo.group
    traces = grpo.steps * together
    work = msgspec.structs.replace(work, turns=work.grpo_turns or work.turns)
    tokens, pairs = _computed(work, work.turns, min(grpo.group, grpo.traces_per_backward))
    scored = work.turns * work.action_tokens
    weights, adapter = _BF16 * parameters(sizes), _adapter_bytes(recipe, sizes)
    sampling = _sampling("GRPO: sampling", sizes, work, traces, grpo.group, together)
    held = sampling.memory + weights + adapter  # the trainer's own copy beside the sampler's
    again = traces * forward(sizes, tokens, pairs, scored) if grpo.kl else 0.0
    update = traces * training(sizes, tokens, pairs, scored, recipe.sft.lora.rank)
    return [
        sampling._replace(memory=held),
        Stage("GRPO: reference", traces * tokens if grpo.kl else 0, 0, again, 0, 0, held),
        Stage("GRPO: update", traces * tokens, 0, update, 0, 0, held),
    ]


def _evaluation(recipe: Recipe, sizes: Dimensions, work: Workload) -> Stage:
    samples = recipe.eval.samples
    return _sampling("evaluation", sizes, work, work.eval_programs * samples, samples)


def _sampling(
    name: str,
    sizes: Dimensions,
    work: Workload,
    traces: int,
    group: int,
    together: int = _AT_ONCE,
) -> Stage:
    """So many traces, in groups of one program each, at most `together` of them at a time."""
    at_once = min(together, _AT_ONCE, traces)
    length = trace_tokens(work, work.turns)
    tokens, pairs = _computed(work, work.turns, group)
    written = work.turns * work.action_tokens
    context = (work.first_tokens + length) / 2
    flops = forward(sizes, tokens, pairs, written)
    writing = forward(sizes, written, written * context, written)
    weights, cache = _BF16 * parameters(sizes), cache_bytes(sizes)
    read = written * (weights / at_once + cache * context)
    return Stage(
        name,
        tokens=traces * tokens,
        written=traces * written,
        flops=traces * flops,
        writing_flops=traces * writing,
        read=traces * read,
        memory=weights + at_once * length * cache,
    )


def _computed(work: Workload, turns: float, group: int) -> tuple[float, float]:
    """Mean tokens of a trace that go through the model, and pairs of these and what they see."""
    length, others = trace_tokens(work, turns), 1 - 1 / group
    first = work.first_tokens
    return length - others * first, _causal(length) - others * _causal(first)


def _matrices(sizes: Dimensions) -> list[tuple[int, int]]:
    """Inputs and outputs of each linear layer in a block."""
    hidden, inner = sizes.hidden, sizes.intermediate
    queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size
    attention = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    return [*attention, (hidden, inner), (hidden, inner), (inner, hidden)]


def _layer(sizes: Dimensions) -> int:
    return sum(rows * columns for rows, columns in _matrices(sizes))


def _adapter_bytes(recipe: Recipe, sizes: Dimensions) -> int:
    return _ADAPTER * adapter_parameters(sizes, recipe.sft.lora.rank)


def _causal(length: float) -> float:
    return length * (length + 1) / 2
