"""Drawing tokens from logits.

Dimension suffixes: B sequences of a step, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from redpencil.engine import Sampling


class Drawn(NamedTuple):
    """A token, and its log-probability at temperature 1."""

    token: int
    logprob: float


def draw(
    logits_BV: torch.Tensor,
    total_B: torch.Tensor,
    samplings: Sequence[Sampling],
    uniform: Sequence[float],
) -> list[Drawn]:
    """One token for each sequence.

    Args:
        logits_BV: minus infinity where a token is forbidden.
        total_B: logarithm of the sum of the exponentials of them all, before any is forbidden.
        uniform: a number in [0, 1) for each sequence, which settles its draw.
    """
    tokens_B = logits_BV.argmax(-1)
    warm = [index for index, sampling in enumerate(samplings) if sampling.temperature > 0]
    if warm:
        chosen = [samplings[index] for index in warm]

        def column(values: Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=logits_BV.device)[:, None]

        probs = (logits_BV[warm] / column([s.temperature for s in chosen])).softmax(-1)
        asking = [place for place, s in enumerate(chosen) if s.top_k or s.top_p < 1]
        # none but these: sorting rounds anew, and no draw is to depend on its neighbours
        if asking:
            probs[asking] = _likeliest(probs[asking], [chosen[place] for place in asking])
        # searchsorted over the running sum: torch.multinomial is many times slower on a CPU
        sums = probs.cumsum(-1)
        drawn = torch.searchsorted(sums, column([uniform[i] for i in warm]) * sums[:, -1:])
        tokens_B[warm] = drawn[:, 0].clamp_(max=logits_BV.shape[-1] - 1)
    logprobs = logits_BV.gather(1, tokens_B[:, None])[:, 0] - total_B
    return [Drawn(*pair) for pair in zip(tokens_B.tolist(), logprobs.tolist(), strict=True)]


def _likeliest(probs: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    """Zero all but the `top_k` likeliest, and of these all but those that reach `top_p`."""
    ordered, order = probs.sort(-1, descending=True)
    top_k = torch.tensor([[s.top_k or probs.shape[-1]] for s in samplings], device=probs.device)
    top_p = torch.tensor([[s.top_p] for s in samplings], device=probs.device)
    places = torch.arange(probs.shape[-1], device=probs.device)
    ordered = ordered.masked_fill(places >= top_k, 0.0)
    ordered = ordered / ordered.sum(-1, keepdim=True)
    beyond = ordered.cumsum(-1) - ordered > top_p
    return probs.scatter(-1, order, ordered.masked_fill(beyond, 0.0))
