"""Tiny models of every family, with random weights."""

from __future__ import annotations

from typing import Any

import torch

from redpencil.engine.general import GeneralModel
from redpencil.engine.packed import PackedModel

LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
SHAPE = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "eos_token_id",
    "bos_token_id",
    "pad_token_id",
]
VISION = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
WINDOW = {"sliding_window": 24, "head_dim": 8}
FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (PackedModel, {"rope_parameters": LLAMA_3_ROPE}),
    "qwen2": (
        PackedModel,
        {
            "use_sliding_window": True,
            "sliding_window": 24,
            "layer_types": ["full_attention", "sliding_attention"],
        },
    ),
    "qwen3": (PackedModel, {"head_dim": 16}),
    "mistral": (PackedModel, WINDOW),
    "gemma3_text": (
        PackedModel,
        {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "gemma2": (GeneralModel, WINDOW),
    "phi3": (GeneralModel, {}),
    "gpt2": (GeneralModel, {}),
    "opt": (GeneralModel, {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "gpt_neox": (GeneralModel, {}),
    "bloom": (GeneralModel, {}),
    "gemma3": (GeneralModel, WINDOW),
}


def random_model(family: str, tiny: Any, attention: str | None = None) -> Any:
    """A model of a family in the shape of the tiny one, always with the same weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    usual = AutoConfig.for_model(family)
    text = usual.get_text_config(decoder=True)
    fields = {name: getattr(tiny, name) for name in SHAPE if hasattr(text, name)}
    fields |= FAMILIES[family][1]
    if text is not usual:
        fields = {"text_config": fields, "vision_config": VISION}
    config = AutoConfig.for_model(family, **fields)
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    # Far from their small beginnings, so that a wrong mask or position shows.
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model
