"""Training on a tiny model: the tokens, the head, the seam with TRL, crash and resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from redpencil import demos
from redpencil.checkers import PythonChecker
from redpencil.engine.weights import load_base
from redpencil.env import EditRules
from redpencil.errors import UsageError
from redpencil.files import read_jsonl
from redpencil.recipes import GrpoRecipe, SftRecipe
from redpencil.tasks import load
from redpencil.train import credit
from redpencil.train.grpo import train_grpo
from redpencil.train.head import score_only_labels
from redpencil.train.loop import last_checkpoint
from redpencil.train.sft import train_sft
from redpencil.types import Trace

CHECKER = PythonChecker()


@pytest.fixture(scope="module")
def variants() -> list[demos.Broken]:
    tasks = load("builtin:validation").tasks[:6]
    return list(demos.broken_variants(tasks, 1, (1, 1), 0, CHECKER))


@pytest.fixture(scope="module")
def traces(variants: list[demos.Broken]) -> list[Trace]:
    return [made for made in demos.demonstrate(variants, CHECKER) if isinstance(made, Trace)]


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(adapter / "adapter_model.safetensors")


def test_the_head_scores_only_labels_and_as_the_full_head_would(tiny_model: Path) -> None:
    model: Any = load_base(str(tiny_model), torch.float32)[0]
    ids = torch.randint(1, 300, (2, 40))
    labels = ids.clone()
    labels[:, :25] = -100
    labels[0, 30:] = -100
    full = torch.nn.functional.cross_entropy(
        model(input_ids=ids).logits[:, :-1].reshape(-1, model.config.vocab_size),
        labels[:, 1:].reshape(-1),
    )
    full.backward()
    wanted = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    score_only_labels(model)
    output = model(input_ids=ids, labels=labels, fused_lm_head=True)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(full.item(), abs=1e-5)
    assert (output.log_probs[labels[:, 1:] == -100] == 0).all()
    for name, weight in model.named_parameters():
        assert torch.allclose(weight.grad, wanted[name], atol=1e-5), name


def sft(tiny_model: Path, traces: list[Trace], folder: Path, **changes: Any) -> Path:
    recipe = SftRecipe(
        model=str(tiny_model), batch=2, epochs=2, context=1024, checkpoint_every=2, **changes
    )
    report = train_sft(traces, recipe, folder)
    assert report.steps == report.traces
    assert 0 < report.action_tokens < report.tokens
    return folder / "adapter"


def test_sft_learns_logs_and_saves_an_adapter(
    tiny_model: Path, traces: list[Trace], tmp_path: Path
) -> None:
    adapter = sft(tiny_model, traces, tmp_path, learning_rate=5e-3)
    rows = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    assert list((tmp_path / "tensorboard").iterdir())
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_sft_goes_on_from_its_last_whole_checkpoint(
    tiny_model: Path, traces: list[Trace], tmp_path: Path
) -> None:
    straight = weights(sft(tiny_model, traces, tmp_path / "straight"))
    folder = tmp_path / "torn"
    sft(tiny_model, traces, folder)
    newest = last_checkpoint(folder)
    assert newest is not None
    (newest / "trainer_state.json").unlink()  # killed while it was written
    earlier = last_checkpoint(folder)
    assert earlier is not None
    assert earlier != newest
    shutil.rmtree(folder / "adapter")
    resumed = weights(sft(tiny_model, traces, folder))
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name
    steps = [row["step"] for row in read_jsonl(folder / "metrics.jsonl", dict[str, float])]
    assert steps == sorted(steps)


@pytest.fixture
def _uneven_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model is always wrong: let every second trace count as better all the same."""

    def rule(rewards: credit.Rewards) -> credit.Advantages:
        return [[(-1.0) ** index] * len(trace) for index, trace in enumerate(rewards)]

    monkeypatch.setitem(credit.RULES, "paper", rule)


def grpo(
    tiny_model: Path, variants: list[demos.Broken], adapter: Path, folder: Path, steps: int = 2
) -> Path:
    recipe = GrpoRecipe(
        model=str(tiny_model),
        steps=steps,
        tasks_per_step=2,
        group=2,
        traces_per_backward=2,
        learning_rate=1e-3,
        context=1024,
        checkpoint_every=1,
        rules=EditRules(max_turns=2),
    )
    return train_grpo(variants, adapter, recipe, CHECKER, folder)


@pytest.mark.usefixtures("_uneven_credit")
def test_grpo_trains_on_the_tokens_sampled_and_goes_on_after_a_crash(
    tiny_model: Path, traces: list[Trace], variants: list[demos.Broken], tmp_path: Path
) -> None:
    start = sft(tiny_model, traces, tmp_path / "sft")
    trained = grpo(tiny_model, variants, start, tmp_path / "grpo")
    sampled = read_jsonl(tmp_path / "grpo" / "traces.jsonl", Trace)
    assert len(sampled) == 8
    for group in range(0, 8, 2):
        assert sampled[group].task == sampled[group + 1].task
    rows = read_jsonl(tmp_path / "grpo" / "metrics.jsonl", dict[str, float])
    assert {"reward", "solved_rate", "malformed_rate", "turns", "kl"} <= set(rows[0])
    after = weights(trained)
    assert any(not torch.equal(tensor, after[name]) for name, tensor in weights(start).items())

    torn = tmp_path / "torn"
    grpo(tiny_model, variants, start, torn, steps=1)
    shutil.rmtree(torn / "adapter")
    with (torn / "traces.jsonl").open("a") as file:
        file.write('{"task": torn')
    resumed = weights(grpo(tiny_model, variants, start, torn))
    assert len(read_jsonl(torn / "traces.jsonl", Trace)) == 8
    for name, tensor in after.items():
        assert torch.equal(tensor, resumed[name]), name


def test_grpo_hands_trl_advantages_per_token(
    tiny_model: Path,
    traces: list[Trace],
    variants: list[demos.Broken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The seam: TRL's loss takes advantages (B, T) and masks what the environment wrote."""
    from redpencil.train import grpo as module

    seen: list[dict[str, torch.Tensor]] = []
    original = module._PerTurnTrainer._compute_loss

    def spy(self: Any, model: Any, inputs: Any) -> Any:
        seen.append({name: inputs[name].clone() for name in ("advantages", "tool_mask")})
        return original(self, model, inputs)

    monkeypatch.setattr(module._PerTurnTrainer, "_compute_loss", spy)
    start = sft(tiny_model, traces, tmp_path / "sft")
    grpo(tiny_model, variants, start, tmp_path / "grpo", steps=1)
    assert seen
    for inputs in seen:
        assert inputs["advantages"].shape == inputs["tool_mask"].shape
        assert (inputs["advantages"][inputs["tool_mask"] == 0] == 0).all()
    assert any(inputs["tool_mask"].min() == 0 for inputs in seen)


def test_wrong_requests_say_what_to_do(
    tiny_model: Path, traces: list[Trace], variants: list[demos.Broken], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no demonstration fits"):
        train_sft(traces, SftRecipe(model=str(tiny_model), context=10), tmp_path)
    with pytest.raises(UsageError, match="no credit rule 'best'; the rules are paper, outcome"):
        train_grpo(variants, tmp_path, GrpoRecipe(credit="best"), CHECKER, tmp_path)
    with pytest.raises(UsageError, match="no broken program"):
        train_grpo([], tmp_path, GrpoRecipe(), CHECKER, tmp_path)
