"""Trained weights in a form for others: an adapter in bfloat16, or a model that needs none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from redpencil.engine.weights import load_model, require_torch, resolve_adapter
from redpencil.errors import UsageError
from redpencil.files import share

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


def export_adapter(adapter: Path, out: Path) -> None:
    """Write an adapter's weights in bfloat16, half the size of those trained.

    Raises:
        UsageError: the folder holds no adapter, or `out` cannot be written.
    """
    require_torch()
    import torch
    from safetensors.torch import load_file, save_file

    folder = resolve_adapter(adapter)
    with _new_folder(out) as target:
        weights = load_file(folder / _WEIGHTS)
        rounded = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
        save_file(rounded, target / _WEIGHTS, metadata={"format": "pt"})
        shutil.copyfile(folder / _CONFIG, target / _CONFIG)


def export_model(name: str, adapter: Path, out: Path) -> None:
    """Write a model with an adapter merged into it, in bfloat16, for transformers to load.

    Raises:
        UsageError: there is no such model or adapter, or `out` cannot be written.
    """
    require_torch()
    import torch

    model, tokenizer = load_model(name, adapter, torch.bfloat16)
    with _new_folder(out) as target:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which appears as `out` when it is full."""
    if out.exists():
        raise UsageError(f"{out} is there already: choose another place")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=".export-") as temporary:
            target = Path(temporary) / out.name
            target.mkdir()
            yield target
            share(target)
            target.rename(out)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
