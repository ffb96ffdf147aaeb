"""How much memory the engine may count on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from redpencil.engine import local
from redpencil.engine.local import MOST_SEQUENCES, LocalEngine
from redpencil.engine.memory import available
from redpencil.engine.weights import load_model
from redpencil.errors import UsageError

VERSIONS = {
    2: ("", "memory.max", "memory.current", "inactive_file"),
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def container(root: Path, version: int, limit: str) -> Path:
    """What a container with 1,000 bytes in use, 300 of them a cache of files, finds mounted."""
    folder, most, used, reclaimable = VERSIONS[version]
    (root / folder).mkdir(exist_ok=True)
    (root / folder / most).write_text(f"{limit}\n")
    (root / folder / used).write_text("1000\n")
    (root / folder / "memory.stat").write_text(f"anon 700\n{reclaimable} 300\n")
    return root


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("limit", "left"), [("5000", 4300), ("600", 0)])
def test_a_containers_limit_counts(version: int, limit: str, left: int, tmp_path: Path) -> None:
    assert available(container(tmp_path, version, limit)) == left


@pytest.mark.parametrize(("version", "limit"), [(2, "max"), (1, str(2**63 - 4096))])
def test_without_a_limit_it_is_what_the_machine_has(
    version: int, limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=12345))
    assert available(container(tmp_path, version, limit)) == 12345
    assert available(tmp_path / "none") == 12345


@pytest.mark.parametrize(
    ("sequences", "capacity"), [(2, 1), (21.9, 10), (2 * MOST_SEQUENCES + 9, MOST_SEQUENCES)]
)
def test_an_engine_holds_as_many_sequences_as_half_of_the_free_memory(
    sequences: float, capacity: int, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_model(str(tiny_model), dtype=torch.float32)
    one = 1024 * 2 * 2 * 2 * 8 * 4  # tokens, layers, keys and values, heads, numbers, bytes
    monkeypatch.setattr(local, "available", lambda: int(sequences * one))
    assert LocalEngine(model, tokenizer, context=1024).capacity == capacity


def test_a_context_that_memory_is_too_small_for_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_model(str(tiny_model), dtype=torch.float32)
    model.config.max_position_embeddings = 2**14
    monkeypatch.setattr(local, "available", lambda: 2 * 2**22 - 1)
    with pytest.raises(UsageError, match=r"16384 tokens takes 4 MiB.*give a smaller context"):
        LocalEngine(model, tokenizer, context=2**14)
    assert LocalEngine(model, tokenizer, context=2**13).capacity == 1
