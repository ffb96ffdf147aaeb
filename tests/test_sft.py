"""Fine-tuning a tiny model: the head, the tokens, validation, crash and resume."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from redpencil import demos
from redpencil.checkers import PythonChecker
from redpencil.engine.weights import (
    load_adapter,
    load_base,
    load_tokenizer,
)
from redpencil.env import EditRules, Method
from redpencil.errors import SandboxError, UsageError
from redpencil.files import read_json, read_jsonl, sha256
from redpencil.policy import ModelPolicy
from redpencil.recipes import SftRecipe, Validation
from redpencil.rollout import Episode, rollout
from redpencil.runs import Run
from redpencil.train import validation
from redpencil.train.loop import last_checkpoint
from redpencil.train.sft import _order, padded_batch, train_sft
from redpencil.train.tokens import Tokens, foreign, trace_tokens
from redpencil.train.validation import Validator
from redpencil.types import Status, Trace, Verdict
from trained import sft, weights

CHECKER = PythonChecker()


def test_sft_learns_logs_and_saves_an_adapter(
    tiny_model: Path, traces: list[Trace], tmp_path: Path
) -> None:
    adapter = sft(tiny_model, traces, tmp_path, learning_rate=2e-2, warmup_share=1 / 3)
    rows = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    rates = [row["learning_rate"] for row in rows if "learning_rate" in row]
    cosine = [1e-2 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert rates == pytest.approx([0, 1e-2, *cosine])
    assert list((tmp_path / "tensorboard").iterdir())
    assert not (tmp_path / "README.md").exists()  # TRL's, which says nothing of this model
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    targets = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    assert len(targets) > 1
    assert targets == sorted(targets)  # else its digest would differ from one process to the next


def test_the_loss_is_on_the_tokens_of_actions_and_on_no_padding() -> None:
    """Which is told by its place: what it is filled with may be a token of an action."""
    long = Tokens([5, 6, 7, 8], [False, True, False, True])
    short = Tokens([9, 6], [False, True])
    batch = padded_batch([long, short], pad_id=6)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 6, 6, 6]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, -100, 8], [-100, 6, -100, -100]]


def test_what_another_model_sampled_is_encoded_anew(tiny_model: Path, traces: list[Trace]) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    turns = [msgspec.structs.replace(turn, action_ids=(1, 2)) for turn in traces[0].turns]
    sampled = msgspec.structs.replace(traces[0], policy="another", turns=tuple(turns))
    assert trace_tokens(sampled, tokenizer) != trace_tokens(traces[0], tokenizer)
    assert trace_tokens(foreign(sampled), tokenizer) == trace_tokens(traces[0], tokenizer)


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
    run = read_json(folder / "run.json", Run)
    assert msgspec.convert(run.settings, SftRecipe).checkpoint_every == 2
    assert run.inputs == {"demonstrations": sha256(traces)}
    with pytest.raises(UsageError, match=r"seed: 0 there, 1 now"):
        sft(tiny_model, traces, folder, seed=1)


def loss_of_actions(tiny_model: Path, adapter: Path, traces: list[Trace]) -> float:
    """Mean cross entropy of the tokens of actions, by the model's plain forward pass."""
    model, tokenizer = load_base(str(tiny_model), torch.float32)
    model = load_adapter(model, adapter)
    losses = []
    for trace in traces:
        ((ids, is_action),) = trace_tokens(trace, tokenizer)
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
        losses.append(loss[torch.tensor(is_action[1:])])
    return torch.cat(losses).mean().item()


def test_sft_trains_an_adapter_further(
    tiny_model: Path, start: Path, traces: list[Trace], tmp_path: Path
) -> None:
    recipe = SftRecipe(model=str(tiny_model), context=1024, learning_rate=1e-9)
    train_sft(traces, recipe, tmp_path, adapter=start)
    row, _ = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    assert row["loss"] == pytest.approx(loss_of_actions(tiny_model, start, traces), rel=1e-3)
    before, after = weights(start), weights(tmp_path / "adapter")
    assert before.keys() == after.keys()
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    with pytest.raises(UsageError, match=r"adapter_config\.json is missing"):
        train_sft(traces, recipe, tmp_path / "other", adapter=tmp_path)


def test_validation_keeps_the_adapter_that_solves_most_and_ends_the_training_early(
    tiny_model: Path, traces: list[Trace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is solved is made up, since a model so small solves nothing; all else is real."""
    played: list[int] = []
    rates = iter([0.1, 0.3, 0.3, 0.2, 0.9])

    def solved(traces: Iterable[bool]) -> float:
        played.append(len(list(traces)))
        return next(rates)

    monkeypatch.setattr(validation, "fmean", solved)
    recipe = SftRecipe(
        model=str(tiny_model),
        batch=1,
        epochs=3,
        context=1024,
        learning_rate=5e-3,
        validation=Validation(every=2, patience=2, limit=3),
    )
    report = train_sft(traces, recipe, tmp_path)
    assert (report.best_step, report.solved_rate, report.steps) == (4, 0.3, 8)
    assert played == [3] * 4
    rows = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    found = [(row["step"], row["eval_solved_rate"]) for row in rows if "eval_solved_rate" in row]
    assert found == [(2, 0.1), (4, 0.3), (6, 0.3), (8, 0.2)]
    assert all(row["eval_loss"] > 0 for row in rows if "eval_solved_rate" in row)
    kept = weights(tmp_path / "adapter")
    best = weights(tmp_path / "checkpoint-4")
    last = weights(tmp_path / "checkpoint-8")
    assert all(torch.equal(kept[name], best[name]) for name in best)
    assert any(not torch.equal(kept[name], last[name]) for name in last)

    shutil.rmtree(tmp_path / "adapter")  # killed when it had ended; 0.9 would be next
    again = train_sft(traces, recipe, tmp_path)
    assert (again.best_step, again.solved_rate, again.steps) == (4, 0.3, 8)
    assert len(played) == 4
    assert all(torch.equal(weights(tmp_path / "adapter")[name], best[name]) for name in best)

    moved = tmp_path.rename(tmp_path.with_name("moved"))
    train_sft(traces, recipe, moved)
    assert all(torch.equal(weights(moved / "adapter")[name], best[name]) for name in best)
    shutil.rmtree(moved / "checkpoint-4")
    with pytest.raises(UsageError, match="checkpoint-4 is gone"):
        train_sft(traces, recipe, moved)
    assert all(torch.equal(weights(moved / "adapter")[name], best[name]) for name in best)


def test_the_validator_lets_the_model_play_as_it_stands(
    tiny_model: Path, start: Path, variants: list[demos.Broken]
) -> None:
    validator = validating(tiny_model, Validation(limit=2))
    model = load_adapter(load_base(str(tiny_model), torch.float32)[0], start)
    assert validator.solved_rate(model) == 0.0
    assert [trace.task.split for trace in validator.demos()] == ["validation"] * 2
    with pytest.raises(UsageError, match="no split"):
        validating(tiny_model, Validation(tasks="builtin:dev"))


def test_a_fault_of_the_machinery_is_no_result_of_a_validation(
    tiny_model: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = validating(tiny_model, Validation(limit=2))
    model = load_adapter(load_base(str(tiny_model), torch.float32)[0], start)
    dead = Verdict(Status.INFRA_ERROR, 0, 1, "no process", 0.0, "full")
    monkeypatch.setattr(PythonChecker, "check", lambda *_: dead)
    with pytest.raises(SandboxError, match="cannot validate: no process"):
        validator.solved_rate(model)


def validating(model: Path, recipe: Validation, method: Method = "coe") -> Validator:
    return Validator(recipe, str(model), method, CHECKER, seed=0, context=1024)


def test_a_validation_plays_by_the_method_that_is_trained(
    tiny_model: Path, variants: list[demos.Broken], traces: list[Trace], tmp_path: Path
) -> None:
    validator = validating(tiny_model, Validation(limit=2), "direct")
    assert [trace.method for trace in validator.demos()] == ["direct"] * 2
    forgetful = Validation(limit=1, rules=EditRules(history=False))
    (alone,) = validating(tiny_model, forgetful).demos()
    assert [turn.observation.fresh for turn in alone.turns[1:]] == [True] * (len(alone.turns) - 1)
    answers = demos.demonstrate(variants[:1], CHECKER, method="direct")
    mixed = [*traces[:1], *(made for made in answers if isinstance(made, Trace))]
    recipe = SftRecipe(model=str(tiny_model), validation=Validation())
    with pytest.raises(UsageError, match="the traces are of: coe, direct"):
        train_sft(mixed, recipe, tmp_path)
    assert not (tmp_path / "run.json").exists(), "what was refused is not begun"


def test_a_validation_shows_the_kind_of_context_that_is_taught(
    tiny_model: Path, variants: list[demos.Broken], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = EditRules(history=False)
    taught = demos.demonstrate(variants[:2], CHECKER, rules=rules)
    seen: list[bool] = []

    def spy(episodes: Iterable[Episode], *args: ModelPolicy) -> Iterator[Trace]:
        for trace in rollout(episodes, *args):
            seen.append(trace.turns[0].observation.fresh or trace.turns[-1].observation.fresh)
            yield trace

    monkeypatch.setattr(validation, "rollout", spy)
    recipe = SftRecipe(
        model=str(tiny_model), batch=2, validation=Validation(limit=1, rules=EditRules(max_turns=2))
    )
    train_sft([made for made in taught if isinstance(made, Trace)], recipe, tmp_path)
    assert all(seen)
    assert seen


def test_what_does_not_fit_into_the_context_is_no_training(
    tiny_model: Path, traces: list[Trace], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="there is no demonstration"):
        train_sft([], SftRecipe(model=str(tiny_model)), tmp_path)
    few = min(len(trace_tokens(t, load_tokenizer(str(tiny_model)))[0].ids) for t in traces)
    short = SftRecipe(model=str(tiny_model), context=few, validation=Validation(limit=1))
    with pytest.raises(UsageError, match="no demonstration of builtin:validation fits"):
        train_sft(traces, short, tmp_path)
    with pytest.raises(UsageError, match="no demonstration fits"):
        train_sft(traces, SftRecipe(model=str(tiny_model), context=10), tmp_path)
    with pytest.raises(UsageError, match="less than one: raise --epochs"):
        train_sft(traces, SftRecipe(model=str(tiny_model), epochs=1e-3), tmp_path)


@pytest.mark.parametrize("epochs", [1.0, 2.0, 2.5])
def test_batches_are_of_one_length_in_every_epoch_and_each_trace_comes_as_often(
    epochs: float,
) -> None:
    lengths = [10, 500] * 4 * 5 + [10] * 3
    order = _order(lengths, SftRecipe(batch=4, epochs=epochs))
    assert len(order) == round(epochs * len(lengths))
    times = Counter(order)
    assert {times[index] for index in range(len(lengths))} <= {int(epochs), math.ceil(epochs)}
    batches = [order[at : at + 4] for at in range(0, len(order), 4)]
    mixed = [batch for batch in batches if len({lengths[index] for index in batch}) > 1]
    # At most one of each pool that is sorted, where the shorter ones end.
    assert len(mixed) <= math.ceil(len(batches) / 8) + 1
