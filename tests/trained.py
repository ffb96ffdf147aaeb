"""Trainings of the tiny model that several tests begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from redpencil.recipes import SftRecipe
from redpencil.train import credit
from redpencil.train.sft import train_sft
from redpencil.types import Trace


def sft(tiny_model: Path, traces: list[Trace], folder: Path, **changes: Any) -> Path:
    recipe = SftRecipe(
        model=str(tiny_model), batch=2, epochs=2, context=1024, checkpoint_every=2, **changes
    )
    report = train_sft(traces, recipe, folder)
    assert report.steps == report.sequences
    assert 0 < report.action_tokens < report.tokens
    return folder / "adapter"


def uneven(group: credit.Group) -> credit.Advantages:
    """A random model is always wrong: let every second trace count as better all the same."""
    return [[(-1.0) ** index] * len(trace) for index, trace in enumerate(group)]


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return load_file(adapter / "adapter_model.safetensors")
