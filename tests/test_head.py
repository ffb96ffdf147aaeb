"""What training scores: the labelled tokens alone, and exactly as the whole model would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from redpencil.engine.weights import load_base
from redpencil.errors import UsageError
from redpencil.train.head import score_only_labels


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("padded", [slice(0, 0), slice(30, None), slice(0, 10)])
def test_the_head_scores_only_labels_and_as_the_full_head_would(
    tiny_model: Path, padded: slice, temperature: float
) -> None:
    model: Any = load_base(str(tiny_model), torch.float32)[0]
    ids = torch.randint(1, 300, (2, 40))
    shown = torch.ones_like(ids)
    shown[0, padded] = 0
    labels = ids.clone()
    labels[:, :25] = -100
    labels[0, 30:] = -100
    logits = model(input_ids=ids, attention_mask=shown).logits[:, :-1] / temperature
    full = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), labels[:, 1:], reduction="none"
    )
    loss = full.sum() / (labels[:, 1:] != -100).sum()
    loss.backward()
    wanted = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    score_only_labels(model, temperature)
    output = model(input_ids=ids, attention_mask=shown, labels=labels, fused_lm_head=True)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(loss.item(), abs=1e-5)
    assert torch.allclose(output.log_probs, -full, atol=1e-5)
    assert (output.log_probs[labels[:, 1:] == -100] == 0).all()
    for name, weight in model.named_parameters():
        assert torch.allclose(weight.grad, wanted[name], atol=1e-5), name


def test_a_model_that_does_more_to_its_logits_is_refused(tiny_model: Path) -> None:
    model: Any = load_base(str(tiny_model), torch.float32)[0]
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(UsageError, match=r"llama models cannot.*final_logit_softcapping"):
        score_only_labels(model)
    model.config.final_logit_softcapping = None
    model.lm_head.bias = torch.nn.Parameter(torch.ones(model.config.vocab_size))
    with pytest.raises(UsageError, match="a bias"):
        score_only_labels(model)
