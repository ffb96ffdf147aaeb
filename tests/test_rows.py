"""The rows of a step: the same numbers, however they are padded, batched and shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from families import FAMILIES, random_model
from redpencil.engine.packed import PackedModel
from redpencil.engine.weights import load_base
from redpencil.errors import UsageError
from redpencil.train import rows
from redpencil.train.head import score_only_labels
from redpencil.train.rows import score_rows


@pytest.mark.parametrize("at_once", [True, False])
def test_rows_score_the_same_however_they_are_padded_and_batched(
    tiny_model: Path, at_once: bool
) -> None:
    model: Any = load_base(str(tiny_model), torch.float32)[0]
    score_only_labels(model)
    spans = [(0, 40), (9, 40), (3, 12), (0, 33), (20, 40)]
    ids = torch.randint(1, 300, (len(spans), 40))
    shown, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (begin, end) in enumerate(spans):
        shown[row, begin:end] = 1
        labels[row, begin + 5 : end] = ids[row, begin + 5 : end]
    for chosen in ([0], [1, 2], [0, 1, 2, 3, 4]):
        parts = ids[chosen], shown[chosen], labels[chosen]
        log_probs, entropies = score_rows(model, *parts, at_once=at_once)
        assert (log_probs[labels[chosen] == -100] == 0).all()
        assert (entropies[labels[chosen] == -100] == 0).all()
        for place, row in enumerate(chosen):
            begin, end = spans[row]
            alone = model(input_ids=ids[row : row + 1, begin:end]).logits[0].log_softmax(-1)
            places = torch.arange(4, end - begin - 1)
            wanted = alone[places, ids[row, begin + 5 : end]]
            assert torch.allclose(log_probs[place, begin + 5 : end], wanted, atol=1e-5)
            entropy = -(alone.exp() * alone).sum(-1)[places]
            assert torch.allclose(entropies[place, begin + 5 : end], entropy, atol=1e-4)


@pytest.mark.parametrize(("together", "computed"), [(512, [55]), (45, [14, 41])])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_rows_begin_with_alike_is_computed_once_and_gives_the_same_gradient(
    family: str,
    together: int,
    computed: list[int],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "_TOGETHER", together)
    tiny: Any = load_base(str(tiny_model), torch.float32)[0]
    model = random_model(family, tiny.config)
    kind = FAMILIES[family][0]
    try:
        score_only_labels(model)
    except UsageError:
        assert kind is not PackedModel
        return
    ids = torch.randint(5, 300, (6, 90))
    ids[1, 10:60] = ids[0, :50]
    ids[2, 30:80] = ids[0, :50]
    shown, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (begin, first, end) in enumerate(
        [(0, 50, 90), (10, 60, 70), (30, 80, 82), (0, 20, 35), (7, 40, 90)]
    ):
        shown[row, begin:end] = 1
        labels[row, first:end:2] = ids[row, first:end:2]
    shown[5, :20] = 1  # nothing of it is scored
    sizes: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _, arguments: sizes.append(arguments[0].numel())
    )
    found = []
    for at_once in (True, False):
        sizes.clear()
        model.zero_grad()
        log_probs, entropies = score_rows(model, ids, shown, labels, at_once=at_once)
        (log_probs * torch.linspace(-1, 1, 90)).sum().backward()
        gradients = (weight.grad for weight in model.parameters())
        gradient = torch.cat([each.flatten() for each in gradients if each is not None])
        found.append((log_probs.detach(), entropies, gradient))
    for whole, shared in zip(*found, strict=True):
        assert (whole - shared).norm() < 1e-5 * whole.norm()
    if kind is PackedModel:  # the beginning has 49, which no row computes again
        assert sorted(sizes) == sorted([2 * 35, 49, 83, *computed])
