"""A language-model head that scores only the tokens asked for.

TRL's trainers call `model(..., labels=..., fused_lm_head=True)` and read log-probabilities where
the label is not -100. TRL's own head skips the other positions on GPUs alone; on a CPU it scores
them all, in float32. Ours skips them everywhere: actions are about 15% of a trace's tokens.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from trl.trainer.utils import FusedCausalLMOutput

from redpencil.engine.cache import decoder_config
from redpencil.errors import UsageError

_AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""What a configuration calls that which some models do to the head's output."""
TILE = 512
"""Tokens scored at once; a tile's logits are computed again in the backward pass, not kept."""


def score_only_labels(model: Any, temperature: float = 1.0) -> None:
    """Replace TRL's fused head on a (base, not PEFT) causal model by one that skips ignored labels.

    Args:
        temperature: the logits are divided by it.

    Raises:
        UsageError: the model's logits are not its head's products alone.
    """
    config = decoder_config(model)
    further = [name for name in _AFTER_THE_HEAD if getattr(config, name, None) not in (None, 1)]
    if model.get_output_embeddings().bias is not None:
        further.append("a bias")
    if further:
        raise UsageError(
            f"{config.model_type} models cannot be trained here: their logits are more than the "
            f"head's products ({', '.join(further)}); take another family, such as Llama or Qwen"
        )
    plain_forward = type(model).forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return plain_forward(self, *args, **kwargs)
        labels = kwargs.pop("labels")[:, 1:]
        kwargs.pop("num_items_in_batch", None)
        shown = kwargs.get("attention_mask")
        if isinstance(shown, torch.Tensor) and shown.dim() == 2 and bool(shown[:, 0].all()):
            # Padded on the right, where nothing that counts looks: causal attention without a
            # mask is the same, and on a CPU its backward pass takes two thirds of the time.
            kwargs["attention_mask"] = None
        hidden = self.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state[:, :-1]
        mask = labels != -100
        return _score(self.get_output_embeddings().weight, hidden, labels, mask, temperature)

    model.forward = types.MethodType(forward, model)


def _score(
    weight: torch.Tensor,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    temperature: float,
) -> FusedCausalLMOutput:
    tiles = [
        checkpoint(_score_tile, weight, part, wanted, temperature, use_reentrant=False)
        for part, wanted in zip(
            torch.split(hidden[mask], TILE), torch.split(labels[mask], TILE), strict=True
        )
    ]
    scored = [torch.cat(parts) for parts in zip(*tiles, strict=True)]

    def spread(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(mask.shape).masked_scatter(mask, values)

    log_probs, entropy, is_top1 = (spread(values) for values in scored)
    return FusedCausalLMOutput(
        loss=-log_probs.sum() / mask.sum().clamp(min=1),
        log_probs=log_probs,
        entropy=entropy,
        is_top1=is_top1,
        label_mask=mask,
    )


def _score_tile(
    weight: torch.Tensor, hidden: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits = (hidden @ weight.T).float() / temperature
    normaliser = logits.logsumexp(-1)
    log_probs = logits.gather(1, labels[:, None])[:, 0] - normaliser
    with torch.no_grad():
        entropy = normaliser - (logits.softmax(-1) * logits).sum(-1)
        is_top1 = logits.argmax(-1) == labels
    return log_probs, entropy, is_top1
