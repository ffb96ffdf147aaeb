"""Several processes that train together do what one does, and only the first of them writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from redpencil.checkers import PythonChecker
from redpencil.demos import Broken
from redpencil.errors import UsageError
from redpencil.files import read_jsonl, write_jsonl
from redpencil.recipes import GrpoRecipe, SftRecipe, Validation
from redpencil.recipes.files import FOLDER
from redpencil.train import processes
from redpencil.train.grpo import train_grpo
from redpencil.train.sft import train_sft
from redpencil.types import Task, Trace

Run = Callable[..., subprocess.CompletedProcess[str]]

CONFIGS = sorted((FOLDER / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_takes_its_files(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.distributed_type.value == {
        "ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED",
    }[path.stem]  # fmt: skip
    known = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    arguments, _, _ = _validate_launch_command(known)
    for table, prefix in ((config.fsdp_config, "fsdp"), (config.deepspeed_config, "")):
        for key, value in table.items():
            assert key.startswith(prefix)
            assert getattr(arguments, key) == value


def test_what_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes.share(8, "a batch of") == 4
    with pytest.raises(UsageError, match="a batch of 3 cannot be shared by 2 processes"):
        processes.share(3, "a batch of")


def test_what_samples_needs_the_weights_whole(
    double: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match=r"sampling by the model.* launch with ddp\.yaml"):
        train_grpo([Broken(double, (), ())], tmp_path, GrpoRecipe(), PythonChecker(), tmp_path)
    with pytest.raises(UsageError, match="validation needs the whole model in each process"):
        train_sft([], SftRecipe(validation=Validation()), tmp_path)


def launch(count: int, *arguments: object) -> str:
    """Runs redpencil in so many processes, in float32, so that the sums agree to the digits."""
    words = [sys.executable, "-m"]
    if count > 1:
        config = FOLDER / "accelerate" / "ddp.yaml"
        words += ["accelerate.commands.launch", "--config_file", str(config)]
        words += ["--num_processes", str(count), "-m"]
    done = subprocess.run(
        [*words, "redpencil", *map(str, arguments)],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def recipe(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "mine.toml"
    path.write_text(
        f"model = '{tiny_model}'\n"
        "[sft]\nbatch = 6\nepochs = 2\nlearning_rate = 3e-2\ncontext = 1024\n"
        "[grpo]\ntasks = ['builtin:validation']\nsteps = 2\ntasks_per_step = 2\ngroup = 4\n"
        "traces_per_backward = 2\nrules.max_turns = 2\ncontext = 1024\nkl = 0.1\n"
        "decoding = 'well-formed'\nrules.reward.noop = -0.5\nlearning_rate = 1e-3\n"
    )
    return path


@pytest.fixture(scope="module")
def demos(redpencil: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "demos.jsonl"
    redpencil("demos", "--tasks", "builtin:validation", "--per-task", 1, "--out", path)
    # Of these four fit; twice, they make one batch and two traces, which are the first process's.
    write_jsonl(path, read_jsonl(path, Trace)[:9])
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_fine_tune_as_one_does(recipe: Path, demos: Path, tmp_path: Path) -> None:
    def losses(count: int) -> list[float]:
        out = tmp_path / f"sft-{count}"
        said = launch(count, "sft", "--recipe", recipe, "--demos", demos, "--out", out)
        assert said.count("The adapter is in") == 1
        assert "2 steps on" in said
        assert (out / "adapter" / "adapter_model.safetensors").exists()
        rows = read_jsonl(out / "metrics.jsonl", dict[str, float])
        assert [row["step"] for row in rows if "loss" in row] == [1, 2]
        return [row["loss"] for row in rows if "loss" in row]

    one, two = losses(1), losses(2)
    assert abs(one[0] - one[1]) > 0.01
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_reinforce_as_one_does(recipe: Path, demos: Path, tmp_path: Path) -> None:
    launch(1, "sft", "--recipe", recipe, "--demos", demos, "--out", tmp_path)

    def reinforced(count: int) -> tuple[list[tuple[object, ...]], list[float]]:
        out = tmp_path / f"rl-{count}"
        launch(count, "rl", "--recipe", recipe, "--adapter", tmp_path / "adapter", "--out", out)
        traces = read_jsonl(out / "traces.jsonl", Trace)
        rows = read_jsonl(out / "metrics.jsonl", dict[str, float])
        sampled = [
            (trace.task.id, trace.seed, *[turn.action for turn in trace.turns]) for trace in traces
        ]
        updates = [row[name] for row in rows if "loss" in row for name in ("loss", "grad_norm")]
        return sampled, updates

    (one, updates), (two, same) = reinforced(1), reinforced(2)
    assert len(one) == 16
    assert two == one
    assert len(updates) == 4
    assert min(updates[1::2]) > 1e-3
    assert same == pytest.approx(updates, rel=1e-4)
