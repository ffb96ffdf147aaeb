"""Adapters: exported, merged, and the one on board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from redpencil.checkers import PythonChecker
from redpencil.engine.export import export_adapter, export_model
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import (
    ALIAS,
    ON_BOARD,
    load_adapter,
    load_base,
    load_model,
    resolve_adapter,
)
from redpencil.errors import UsageError
from redpencil.policy import ModelPolicy
from redpencil.repair import repair, repair_task
from trained import weights

CHECKER = PythonChecker()


def test_an_adapter_is_exported_at_half_its_size_or_merged_into_its_model(
    tiny_model: Path, start: Path, tmp_path: Path
) -> None:
    export_adapter(start, tmp_path / "deep" / "small")
    small = weights(tmp_path / "deep" / "small")
    for name, tensor in weights(start).items():
        assert torch.equal(small[name], tensor.to(torch.bfloat16)), name
    ids = torch.arange(1, 30)[None]
    with torch.inference_mode():
        tuned = load_adapter(load_base(str(tiny_model), torch.float32)[0], start)
        wanted = tuned(input_ids=ids).logits
        rounded: Any = load_model(str(tiny_model), tmp_path / "deep" / "small", torch.float32)[0]
        assert torch.allclose(rounded(input_ids=ids).logits, wanted, atol=0.05)
        export_model(str(tiny_model), start, tmp_path / "merged")
        stored = load_file(tmp_path / "merged" / "model.safetensors")
        assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
        merged: Any = load_base(str(tmp_path / "merged"), torch.float32)[0]
        assert torch.allclose(merged(input_ids=ids).logits, wanted, atol=0.05)
        plain: Any = load_base(str(tiny_model), torch.float32)[0]
        assert not torch.allclose(plain(input_ids=ids).logits, wanted, atol=0.05)
    (tmp_path / "plain").touch()
    for folder in (tmp_path / "deep" / "small", tmp_path / "merged"):
        modes = {path.stat().st_mode for path in folder.iterdir()}
        assert modes == {(tmp_path / "plain").stat().st_mode}
    with pytest.raises(UsageError, match="is there already"):
        export_adapter(start, tmp_path / "merged")
    with pytest.raises(UsageError, match=r"adapter_config\.json is missing"):
        export_adapter(tmp_path, tmp_path / "other")
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "merged", "plain"}


def test_the_adapter_on_board_is_small_and_for_the_alias() -> None:
    folder = resolve_adapter(Path(ON_BOARD))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12_000_000
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (ALIAS, 16)
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.bfloat16}


@pytest.mark.slow
def test_the_adapter_on_board_mends_a_forgotten_return() -> None:
    program = """\
def total(prices, discount):
    result = 0
    for price in prices:
        result += price
    result * (100 - discount) / 100
"""
    tests = ["assert total([10, 20], 50) == 15", "assert total([100], 0) == 100"]
    engine = LocalEngine(*load_model(ALIAS, Path(ON_BOARD)))
    policy = ModelPolicy(engine, ALIAS, temperature=0.0)
    (trace,) = repair(repair_task(program, tests), [policy], CHECKER)
    assert trace.solved
