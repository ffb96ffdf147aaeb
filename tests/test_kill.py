"""Runs that are killed for good, in processes of their own, and begun again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import torch

from redpencil.engine.weights import adapter_sha256
from redpencil.files import read_jsonl, write_jsonl
from redpencil.types import Trace
from trained import weights

Run = Callable[..., subprocess.CompletedProcess[str]]
Begin = Callable[[Path], subprocess.Popen[bytes]]

FLOAT32 = {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
"""In bfloat16 sums depend on what else is computed at the time."""


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    """Of trainings whose every step is kept; what a random model earns is not all alike."""
    path = tmp_path / "mine.toml"
    path.write_text(
        f"model = '{tiny_model}'\n"
        "[sft]\nbatch = 2\ncontext = 1024\ncheckpoint_every = 1\n"
        "[grpo]\ntasks = ['builtin:validation']\nsteps = 4\ntasks_per_step = 1\ngroup = 2\n"
        "rules.max_turns = 2\ncontext = 1024\ncheckpoint_every = 1\n"
        "decoding = 'well-formed'\nrules.reward.noop = -0.5\nlearning_rate = 1e-3\n"
    )
    return path


def begin(command: str, recipe: Path, *words: object) -> Begin:
    """Begins the run whose options these are, in a folder."""

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
        (trace.task, trace.seed, [turn.action_ids for turn in trace.turns])
        for trace in read_jsonl(folder / "traces.jsonl", Trace)
    ]


def logprobs(folder: Path) -> list[float]:
    """Of all tokens sampled. What is computed together depends on when a page's tests end, and
    shows in their rounding.
    """
    traces = read_jsonl(folder / "traces.jsonl", Trace)
    return [p for trace in traces for turn in trace.turns for p in turn.logprobs]


def assert_same_samples(straight: Path, killed: Path) -> None:
    assert sampled(killed) == sampled(straight)
    assert logprobs(straight)
    assert logprobs(killed) == pytest.approx(logprobs(straight), rel=0, abs=1e-5)


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
    straight = tmp_path / "rl" / "straight"
    assert_same_samples(straight, tmp_path / "rl" / "killed")
    assert len(sampled(straight)) == 8
    assert adapter_sha256(straight / "adapter") != adapter_sha256(adapter)


KILLS = 4


def size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def kill_on_the_way(process: subprocess.Popen[bytes], file: Path, whole: int, rng: Random) -> bool:
    """Kill a process a moment after its file has grown by some part of what it will be.

    Returns whether there was anything left to kill.
    """
    wanted = size(file) + rng.uniform(0, whole / KILLS)
    while size(file) < wanted and process.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait(timeout=60)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def made(folder: Path) -> list[object]:
    """What a run makes: demonstrations, or an adapter and losses."""
    if (folder / "demos.jsonl").exists():
        # A file that was killed while it was written stays behind, hidden, under a name of its own.
        return [
            (folder / "demos.jsonl").read_bytes(),
            *sorted(path.name for path in folder.glob("[!.]*")),
        ]
    rows = read_jsonl(folder / "metrics.jsonl", dict[str, float])
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    return [adapter_sha256(folder / "adapter"), *losses]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("command", "words", "file"),
    [
        ("demos", "--tasks builtin:validation --per-task 16", "demos.partial.jsonl"),
        ("sft", "--epochs 8 --demos", "metrics.jsonl"),
        ("rl", "--steps 8 --adapter", "traces.jsonl"),
    ],
    ids=["demos", "sft", "rl"],
)
def test_wherever_it_is_killed_a_run_ends_as_if_it_had_not_been(
    recipe: Path,
    start: Path,
    traces: list[Trace],
    tmp_path: Path,
    command: str,
    words: str,
    file: str,
) -> None:
    write_jsonl(tmp_path / "demos.jsonl", traces)
    given = {"sft": [tmp_path / "demos.jsonl"], "rl": [start]}.get(command, [])
    name = "demos.jsonl" if command == "demos" else ""
    run = begin(command, recipe, *words.split(), *given)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    end(run(straight / name))
    whole, rng = size(straight / (name or file)), Random(command)
    kills = [kill_on_the_way(run(killed / name), killed / file, whole, rng) for _ in range(KILLS)]
    assert any(kills)
    end(run(killed / name))
    assert made(killed) == made(straight)
    if command == "rl":
        assert_same_samples(straight, killed)
