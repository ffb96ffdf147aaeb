"""Trainings that are killed for good, in processes of their own, and begun again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from redpencil.files import read_jsonl
from redpencil.types import Trace
from trained import weights

Run = Callable[..., subprocess.CompletedProcess[str]]
Begin = Callable[[Path], subprocess.Popen[bytes]]

FLOAT32 = {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
"""In bfloat16 sums depend on what else is computed at the time."""


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(
        f"model = '{tiny_model}'\n"
        "[sft]\nbatch = 2\ncontext = 1024\ncheckpoint_every = 1\n"
        "[grpo]\ntasks = ['builtin:validation']\nsteps = 4\ntasks_per_step = 1\ngroup = 2\n"
        "rules.max_turns = 2\ncontext = 1024\ncheckpoint_every = 1\n"
    )
    return path


def begin(command: str, recipe: Path, *words: object) -> Begin:
    """Begins the training whose options these are, in a folder."""

    def begun(out: Path) -> subprocess.Popen[bytes]:
        options = ["--recipe", recipe, *words, "--out", out]
        return subprocess.Popen(
            [sys.executable, "-m", "redpencil", command, *map(str, options)],
            env={**os.environ, **FLOAT32},
            start_new_session=True,
        )

    return begun


def end(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(timeout=300) == 0


def kill_after(process: subprocess.Popen[bytes], sign: Path) -> None:
    """Kill a process, and all that it started, as soon as a file is there."""
    deadline = time.monotonic() + 300
    while not sign.exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL


def assert_same_after_kills(training: Begin, folder: Path) -> None:
    straight, killed = folder / "straight", folder / "killed"
    end(training(straight))
    kill_after(training(killed), killed / "run.json")
    kill_after(training(killed), killed / "checkpoint-2" / "trainer_state.json")
    assert not (killed / "adapter").exists()
    end(training(killed))
    wanted, found = weights(straight / "adapter"), weights(killed / "adapter")
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def sampled(folder: Path) -> list[tuple[object, ...]]:
    return [
        (trace.task, trace.seed, [(turn.action_ids, turn.logprobs) for turn in trace.turns])
        for trace in read_jsonl(folder / "traces.jsonl", Trace)
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_trainings_end_with_the_weights_of_those_that_were_not(
    redpencil: Run, recipe: Path, tmp_path: Path
) -> None:
    demos = tmp_path / "demos.jsonl"
    redpencil("demos", "--tasks", "builtin:validation", "--per-task", 1, "--out", demos)
    fine_tuning = begin("sft", recipe, "--demos", demos)
    assert_same_after_kills(fine_tuning, tmp_path / "sft")
    adapter = tmp_path / "sft" / "straight" / "adapter"
    reinforcement = begin("rl", recipe, "--adapter", adapter)
    assert_same_after_kills(reinforcement, tmp_path / "rl")
    straight, killed = (sampled(tmp_path / "rl" / name) for name in ("straight", "killed"))
    assert killed == straight
    assert len(straight) == 8
