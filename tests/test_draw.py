"""Draws of tokens: as likely as they are to be, and each row's own."""

from __future__ import annotations

import pytest
import torch

from redpencil.engine import Sampling
from redpencil.engine.draw import draw


def sampling(temperature: float, top_p: float = 1.0, top_k: int = 0) -> Sampling:
    return Sampling(temperature, top_p, 1, 0, lambda text: True, top_k=top_k)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_the_temperature_makes_them_likely(temperature: float) -> None:
    count = 1000
    logits = torch.tensor([[2.0, 0.0, -torch.inf, 1.5, -1.0]])
    free = torch.tensor([[2.0, 0.0, 3.0, 1.5, -1.0]])
    drawn = draw(
        logits.expand(count, -1),
        free.logsumexp(-1).expand(count),
        [sampling(temperature)] * count,
        [(place + 0.5) / count for place in range(count)],
    )
    times = torch.tensor([token for token, _ in drawn]).bincount(minlength=5)
    assert torch.allclose(times / count, (logits[0] / temperature).softmax(-1), atol=1 / count)
    logprobs = (free[0] - free.logsumexp(-1)).tolist()
    assert all(logprob == logprobs[token] for token, logprob in drawn)


def test_rows_of_all_kinds_draw_together_what_each_draws_alone() -> None:
    """Even where the last bit of a probability decides, as it does at the edges between tokens."""
    samplings = [
        sampling(1.0),
        sampling(0.0),
        sampling(0.5),
        sampling(1.0, top_p=0.8),
        sampling(2.0, top_k=5),
        sampling(0.7, top_p=0.9, top_k=20),
    ]
    torch.manual_seed(0)
    logits = 2 * torch.randn(len(samplings), 200)
    totals = logits.logsumexp(-1)
    edges = logits[0].softmax(-1).cumsum(-1)[:-1].tolist()
    for uniform in edges:
        together = draw(logits, totals, samplings, [uniform] * len(samplings))
        alone = [
            draw(logits[row : row + 1], totals[row : row + 1], [own], [uniform])[0]
            for row, own in enumerate(samplings)
        ]
        assert together == alone
