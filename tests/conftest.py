"""Shared by the tests: a tiny model with random weights, a task, and traces made of it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from made import BROKEN, RIGHT, TESTS
from redpencil.checkers import PythonChecker
from redpencil.demos import Broken, broken_variants, demonstrate
from redpencil.sandbox import RUNG_VARIABLE, Rung
from redpencil.tasks import load
from redpencil.types import Task, Trace

if TYPE_CHECKING:
    from redpencil.engine.local import LocalEngine

ROOT = Path(__file__).parent.parent


@cache
def missing(rung: Rung) -> str:
    """What this machine's kernel lacks for a rung, empty where it has everything.

    Nothing of ours is asked, so that no fault of ours can pass for a kernel's.
    """
    if rung is Rung.RLIMITS:
        return ""
    if sys.platform != "linux":
        return "Linux"
    libc = ctypes.CDLL(None, use_errno=True)
    create_ruleset, version = 444, 1
    if libc.syscall(create_ruleset, None, ctypes.c_size_t(0), version) < 1:
        return "Landlock"
    set_seccomp, filter_mode = 22, 2
    libc.prctl(set_seccomp, filter_mode, None, 0, 0)
    if ctypes.get_errno() != errno.EFAULT:  # as for a filter that lies nowhere
        return "seccomp"
    unshare = shutil.which("unshare")
    if rung is Rung.FULL and unshare is not None:
        kinds = "--user --map-root-user --mount --pid --fork --net --ipc --uts --cgroup"
        mount = "mount -t tmpfs none /tmp"
        tried = subprocess.run([unshare, *kinds.split(), *mount.split()], capture_output=True)
        if tried.returncode != 0:
            return f"namespaces ({tried.stderr.decode().strip()})"
    return ""


def pytest_configure() -> None:
    """Set what the processes of tests take over.

    Programs run with resource limits alone where the kernel has no more to offer. Arithmetic takes
    one thread: tests run beside one another, and threads that wait for a core burn another.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if lacking := missing(Rung.NO_NAMESPACE):
        print(f"tests run with resource limits only: the kernel lacks {lacking}", file=sys.stderr)
        os.environ.setdefault(RUNG_VARIABLE, Rung.RLIMITS.value)


@pytest.fixture(scope="module", params=list(Rung))
def rung(request: pytest.FixtureRequest) -> Rung:
    """Every rung in turn that this machine's kernel has the means for."""
    return _had(request.param)


@pytest.fixture(scope="session")
def full() -> Rung:
    """The rung `full`, where this machine's kernel has the means for it."""
    return _had(Rung.FULL)


@pytest.fixture(scope="session")
def rungs() -> list[Rung]:
    """All the rungs that this machine's kernel has the means for."""
    return [rung for rung in Rung if not missing(rung)]


def _had(rung: Rung) -> Rung:
    if lacking := missing(rung):
        pytest.skip(f"{rung.value}: the kernel lacks {lacking}")
    return rung


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
    fast.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
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
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has set is not for these servers."""
    for name in ("REDPENCIL_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def engine(tiny_model: Path) -> LocalEngine:
    """The local engine with the tiny model in float32."""
    import torch

    from redpencil.engine.local import LocalEngine
    from redpencil.engine.weights import load_model

    return LocalEngine(*load_model(str(tiny_model), dtype=torch.float32))


@pytest.fixture(scope="session")
def variants() -> list[Broken]:
    """Broken programs of six problems."""
    tasks = load("builtin:validation").tasks[:6]
    return list(broken_variants(tasks, 1, (1, 1), 0, PythonChecker()))


@pytest.fixture(scope="session")
def traces(variants: list[Broken]) -> list[Trace]:
    """A demonstration of each."""
    made = demonstrate(variants, PythonChecker())
    return [trace for trace in made if isinstance(trace, Trace)]


@pytest.fixture(scope="session")
def start(tiny_model: Path, traces: list[Trace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny model, far enough from none."""
    from trained import sft

    return sft(tiny_model, traces, tmp_path_factory.mktemp("sft"), learning_rate=5e-3)


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


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a broken program, what it should be, and its tests."""
    (tmp_path / "shop.py").write_text(BROKEN)
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "tests.py").write_text(TESTS)
    return tmp_path


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
