"""Shared by the tests: a tiny model with random weights, a task, and traces made of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redpencil.errors import SandboxError
from redpencil.sandbox import RUNG_VARIABLE, Rung, Sandbox
from redpencil.types import Task

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Run programs with resource limits alone where this machine has no better rung."""
    with Sandbox(workers=1) as sandbox:
        try:
            _ = sandbox.rung
        except SandboxError as error:
            print(f"tests run with resource limits only: {error}", file=sys.stderr)
            os.environ.setdefault(RUNG_VARIABLE, Rung.RLIMITS.value)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Llama of two thin layers with random weights and a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = (ROOT / "src" / "redpencil" / "problems" / "lists.py").read_text()
    tokenizer.train_from_iterator([text], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", bos_token="<end>"
    )
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=fast.eos_token_id,
        bos_token_id=fast.bos_token_id,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-model")
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture
def double() -> Task:
    """A function that should double its argument and adds one instead."""
    return Task(
        id="test/double",
        prompt="Return twice the number.",
        program="def double(n):\n    return n + 1\n",
        solution="def double(n):\n    return n * 2\n",
        tests=("assert double(2) == 4", "assert double(5) == 10"),
        hidden_tests=("assert double(0) == 0",),
        setup="",
        split="train",
    )


@pytest.fixture(scope="session")
def redpencil() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the real command line in a real process."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "redpencil", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=110,
            cwd=cwd,
            check=False,
        )

    return run
