"""Training on a tiny model: the tokens, the head, the seam with TRL, crash and resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from redpencil import demos
from redpencil.checkers import PythonChecker
from redpencil.engine.export import export_adapter, export_model
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import (
    ALIAS,
    ON_BOARD,
    load_adapter,
    load_base,
    load_model,
    load_tokenizer,
    resolve_adapter,
)
from redpencil.env import EditRules
from redpencil.errors import UsageError
from redpencil.files import read_jsonl
from redpencil.policy import ModelPolicy
from redpencil.recipes import GrpoRecipe, SftRecipe, Validation
from redpencil.repair import repair, repair_task
from redpencil.tasks import load
from redpencil.train import credit, validation
from redpencil.train import grpo as grpo_module
from redpencil.train.grpo import train_grpo
from redpencil.train.head import score_only_labels
from redpencil.train.loop import last_checkpoint, mixed_precision
from redpencil.train.sft import train_sft
from redpencil.train.tokens import foreign, trace_tokens
from redpencil.train.validation import Validator
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


@pytest.mark.parametrize("padded", [slice(0, 0), slice(30, None), slice(0, 10)])
def test_the_head_scores_only_labels_and_as_the_full_head_would(
    tiny_model: Path, padded: slice
) -> None:
    model: Any = load_base(str(tiny_model), torch.float32)[0]
    ids = torch.randint(1, 300, (2, 40))
    shown = torch.ones_like(ids)
    shown[0, padded] = 0
    labels = ids.clone()
    labels[:, :25] = -100
    labels[0, 30:] = -100
    full = torch.nn.functional.cross_entropy(
        model(input_ids=ids, attention_mask=shown)
        .logits[:, :-1]
        .reshape(-1, model.config.vocab_size),
        labels[:, 1:].reshape(-1),
    )
    full.backward()
    wanted = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    score_only_labels(model)
    output = model(input_ids=ids, attention_mask=shown, labels=labels, fused_lm_head=True)
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
    assert report.steps == report.sequences
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


def test_the_validator_lets_the_model_play_as_it_stands(
    tiny_model: Path, start: Path, variants: list[demos.Broken]
) -> None:
    validator = Validator(Validation(limit=2), str(tiny_model), "coe", CHECKER, seed=0)
    model = load_adapter(load_base(str(tiny_model), torch.float32)[0], start)
    assert validator.solved_rate(model) == 0.0
    assert [trace.task.split for trace in validator.demos()] == ["validation"] * 2
    with pytest.raises(UsageError, match="no split"):
        Validator(Validation(tasks="builtin:dev"), str(tiny_model), "coe", CHECKER, seed=0)


def test_a_validation_plays_by_the_method_that_is_trained(
    tiny_model: Path, variants: list[demos.Broken], traces: list[Trace], tmp_path: Path
) -> None:
    validator = Validator(Validation(limit=2), str(tiny_model), "direct", CHECKER, seed=0)
    assert [trace.method for trace in validator.demos()] == ["direct"] * 2
    forgetful = Validation(limit=1, rules=EditRules(history=False))
    (alone,) = Validator(forgetful, str(tiny_model), "coe", CHECKER, seed=0).demos()
    assert [turn.observation.fresh for turn in alone.turns[1:]] == [True] * (len(alone.turns) - 1)
    answers = demos.demonstrate(variants[:1], CHECKER, method="direct")
    mixed = [*traces[:1], *(made for made in answers if isinstance(made, Trace))]
    recipe = SftRecipe(model=str(tiny_model), validation=Validation())
    with pytest.raises(UsageError, match="the traces are of: coe, direct"):
        train_sft(mixed, recipe, tmp_path)


@pytest.fixture(scope="module")
def start(tiny_model: Path, traces: list[Trace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter far enough from none."""
    return sft(tiny_model, traces, tmp_path_factory.mktemp("sft"), learning_rate=5e-3)


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
        merged: Any = load_base(str(tmp_path / "merged"), torch.float32)[0]
        assert torch.allclose(merged(input_ids=ids).logits, wanted, atol=0.05)
        plain: Any = load_base(str(tiny_model), torch.float32)[0]
        assert not torch.allclose(plain(input_ids=ids).logits, wanted, atol=0.05)
    with pytest.raises(UsageError, match="is there already"):
        export_adapter(start, tmp_path / "merged")
    with pytest.raises(UsageError, match=r"adapter_config\.json is missing"):
        export_adapter(tmp_path, tmp_path / "other")
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "merged"}


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


LOGGED = """
    reward reward_turn_1 reward_turn_2 solved_rate malformed_rate noop_rate turns errors
    idle_groups always_solved_groups never_solved_groups replaced_groups resting_tasks
    entropy kl clip_ratio/region_mean sandbox_seconds decode_seconds rollout_seconds
"""


def uneven(group: credit.Group) -> credit.Advantages:
    """A random model is always wrong: let every second trace count as better all the same."""
    return [[(-1.0) ** index] * len(trace) for index, trace in enumerate(group)]


@pytest.fixture
def _uneven_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(credit.RULES, "paper", uneven)


def grpo(
    tiny_model: Path,
    variants: list[demos.Broken],
    adapter: Path,
    folder: Path,
    steps: int = 2,
    **changes: Any,
) -> Path:
    recipe = GrpoRecipe(
        model=str(tiny_model),
        steps=steps,
        group=2,
        traces_per_backward=2,
        learning_rate=1e-3,
        context=1024,
        checkpoint_every=1,
        rules=EditRules(max_turns=2),
        **{"tasks_per_step": 2, **changes},
    )
    return train_grpo(variants, adapter, recipe, CHECKER, folder)


@pytest.mark.usefixtures("_uneven_credit")
def test_grpo_trains_on_the_tokens_sampled_and_goes_on_after_a_crash(
    tiny_model: Path, start: Path, variants: list[demos.Broken], tmp_path: Path
) -> None:
    trained = grpo(tiny_model, variants, start, tmp_path / "grpo")
    played = read_jsonl(tmp_path / "grpo" / "traces.jsonl", Trace)
    assert len(played) == 8
    for group in range(0, 8, 2):
        assert played[group].task == played[group + 1].task
    rows = read_jsonl(tmp_path / "grpo" / "metrics.jsonl", dict[str, float])
    assert set(LOGGED.split()) <= set(rows[0])
    assert rows[0]["reward"] == pytest.approx(rows[0]["reward_turn_1"] + rows[0]["reward_turn_2"])
    assert rows[0]["never_solved_groups"] == 1.0
    assert rows[0]["decode_seconds"] > 0 < rows[0]["sandbox_seconds"]
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


class Seen:
    """A trainer at work, and the batches that it took the loss of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trainer: Any = None
        self.batches: list[dict[str, Any]] = []
        self._loss = grpo_module._PerTurnTrainer._compute_loss

        def spy(trainer: Any, model: Any, inputs: Any) -> Any:
            self.trainer = trainer
            self.batches.append({n: v for n, v in inputs.items() if isinstance(v, torch.Tensor)})
            return self._loss(trainer, model, inputs)

        monkeypatch.setattr(grpo_module._PerTurnTrainer, "_compute_loss", spy)

    def gradient(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Of the trainer's loss to all that is trained, as one vector."""
        return self.gradient_of(self._loss(self.trainer, self.trainer.model, inputs))

    def gradient_of(self, loss: torch.Tensor) -> torch.Tensor:
        trained = [weight for weight in self.trainer.model.parameters() if weight.requires_grad]
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, trained)])


@pytest.fixture(scope="module")
def seen(
    tiny_model: Path,
    start: Path,
    variants: list[demos.Broken],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Seen, list[Trace]]:
    """A step seen at work, and its traces."""
    folder = tmp_path_factory.mktemp("seen")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(credit.RULES, "paper", uneven)
        seen = Seen(monkeypatch)
        grpo(tiny_model, variants, start, folder, steps=1, kl=0.5)
    return seen, read_jsonl(folder / "traces.jsonl", Trace)


def sampled(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """True for each token (B, T) that the model sampled."""
    return (batch["completion_mask"] * batch["tool_mask"]) == 1


def test_the_mask_is_1_for_exactly_what_was_sampled(seen: tuple[Seen, list[Trace]]) -> None:
    """And advantages, of shape (B, T) as TRL's loss takes them, are 0 elsewhere."""
    rows = []
    for batch in seen[0].batches:
        own = sampled(batch)
        assert batch["advantages"].shape == own.shape
        assert (batch["advantages"][~own] == 0).all()
        assert (batch["advantages"][own].abs() == 1).all()
        written = (batch["completion_mask"] == 1) & ~own
        rows += [
            (ids[mine].tolist(), ids[theirs].tolist())
            for ids, mine, theirs in zip(batch["completion_ids"], own, written, strict=True)
        ]
    wanted = [
        (
            [token for turn in trace.turns for token in turn.action_ids],
            [token for turn in trace.turns[1:] for token in turn.observation_ids],
        )
        for trace in seen[1]
    ]
    assert sorted(rows) == sorted(wanted)
    assert all(observations for _, observations in wanted)


def test_the_gradient_is_that_of_the_sampled_tokens_and_no_others(
    seen: tuple[Seen, list[Trace]],
) -> None:
    """Against the definition, by the model's plain forward pass over all tokens."""
    trainer, batch = seen[0].trainer, seen[0].batches[0]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    shown = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].shape[1]
    with trainer.accelerator.autocast():
        logits = trainer.model(input_ids=ids, attention_mask=shown).logits.float()
    scores = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[:, -width:, 0]
    ratio = (scores - scores.detach()).exp()
    gap = batch["ref_per_token_logps"] - scores
    per_token = -ratio * batch["advantages"] + 0.5 * (gap.exp() - gap - 1)
    loss = per_token[sampled(batch)].sum() / batch["num_items_in_batch"]
    wanted = seen[0].gradient_of(loss)
    error = (seen[0].gradient(batch) - wanted).norm() / wanted.norm()
    assert error < 0.02  # where bfloat16 is the machine's precision


def test_nothing_of_what_the_environment_wrote_reaches_the_gradient(
    seen: tuple[Seen, list[Trace]],
) -> None:
    gradient_of, batch = seen[0].gradient, seen[0].batches[0]
    gradient = gradient_of(batch)
    assert torch.equal(gradient_of(batch), gradient)
    written = (batch["completion_mask"] == 1) & ~sampled(batch)
    spoilt = dict(batch)
    for name in ("advantages", "ref_per_token_logps"):
        spoilt[name] = batch[name].masked_fill(written, -3.0)
    assert torch.equal(gradient_of(spoilt), gradient)

    def with_page_at_the_end(token: int) -> dict[str, torch.Tensor]:
        tails = {"completion_ids": token, "completion_mask": 1}
        return {
            name: torch.nn.functional.pad(value, (0, 5), value=tails.get(name, 0))
            if value.dim() == 2 and not name.startswith("prompt")
            else value
            for name, value in batch.items()
        }

    assert torch.equal(gradient_of(with_page_at_the_end(7)), gradient_of(with_page_at_the_end(8)))

    leaky = {**spoilt, "tool_mask": batch["tool_mask"].clone()}
    leaky["tool_mask"][tuple(written.nonzero()[0])] = 1  # a mask that is wrong by one token
    assert not torch.equal(gradient_of(leaky), gradient)


def test_every_sampled_token_counts(seen: tuple[Seen, list[Trace]]) -> None:
    gradient_of, batch = seen[0].gradient, seen[0].batches[0]
    gradient = gradient_of(batch)
    places = sampled(batch).nonzero().tolist()
    for place in [*places[:: len(places) // 8], places[-1]]:
        for name, change in (("completion_ids", 1), ("advantages", 1.0), ("tool_mask", -1)):
            changed = {**batch, name: batch[name].clone()}
            changed[name][tuple(place)] += change
            assert not torch.equal(gradient_of(changed), gradient), (name, place)


@pytest.mark.usefixtures("_uneven_credit")
def test_the_reference_is_the_sft_policy_without_a_second_copy_of_the_weights(
    tiny_model: Path,
    start: Path,
    variants: list[demos.Broken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the second step, which follows a crash, when the adapter has moved."""
    folder = tmp_path / "grpo"
    grpo(tiny_model, variants, start, folder, steps=1)
    moved = tmp_path / "moved"
    shutil.copytree(folder / "adapter", moved)
    shutil.rmtree(folder / "adapter")
    seen = Seen(monkeypatch)
    grpo(tiny_model, variants, start, folder, steps=2)
    trainer, batch = seen.trainer, seen.batches[0]

    def scored(adapter: Path | None) -> torch.Tensor:
        model: Any = load_base(str(tiny_model))[0]
        score_only_labels(model)
        if adapter is not None:
            model = mixed_precision(load_adapter(model, adapter))
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        trainer.action_mask = batch["tool_mask"]
        with torch.no_grad():
            scores: torch.Tensor = trainer._get_per_token_logps_and_entropies(
                model, ids, mask, batch["completion_ids"].shape[1]
            )[0]
        return scores

    def distance(adapter: Path | None) -> float:
        gaps = scored(adapter) - batch["ref_per_token_logps"]
        return float(gaps[sampled(batch)].abs().max())

    assert distance(start) < 1e-4
    assert distance(None) > 1e-2
    assert distance(moved) > 1e-2

    assert trainer.ref_model is None
    weights = dict(trainer.model.named_parameters())
    base: Any = load_base(str(tiny_model))[0]
    frozen = [weight for name, weight in weights.items() if "lora_" not in name]
    assert sum(weight.numel() for weight in frozen) == base.num_parameters()
    trained = {name for name, weight in weights.items() if weight.requires_grad}
    assert trained == {name for name in weights if ".default." in name}


def test_tasks_rest_alike_in_a_run_that_goes_on_after_a_crash(
    tiny_model: Path, start: Path, variants: list[demos.Broken], tmp_path: Path
) -> None:
    """A pass is one step of four of the six tasks; a random model solves none of them."""
    changes: dict[str, Any] = {"tasks_per_step": 4, "rest_after": 1}
    grpo(tiny_model, variants, start, tmp_path / "straight", **changes)
    straight = [t.task for t in read_jsonl(tmp_path / "straight" / "traces.jsonl", Trace)]
    assert straight[::2] == straight[1::2]
    assert {broken.task for broken in variants} - set(straight[:8]) <= set(straight[8:])
    rows = read_jsonl(tmp_path / "straight" / "metrics.jsonl", dict[str, float])
    assert [row["resting_tasks"] for row in rows[:2]] == [0, 4]
    assert rows[1]["replaced_groups"] > 0

    folder = tmp_path / "torn"
    grpo(tiny_model, variants, start, folder, steps=1, **changes)
    shutil.rmtree(folder / "adapter")
    grpo(tiny_model, variants, start, folder, **changes)
    assert [trace.task for trace in read_jsonl(folder / "traces.jsonl", Trace)] == straight


def test_wrong_requests_say_what_to_do(
    tiny_model: Path, traces: list[Trace], variants: list[demos.Broken], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no demonstration fits"):
        train_sft(traces, SftRecipe(model=str(tiny_model), context=10), tmp_path)
    rules = "the rules are paper, outcome, returns, page-groups"
    with pytest.raises(UsageError, match=f"no credit rule 'best'; {rules}"):
        train_grpo(variants, tmp_path, GrpoRecipe(credit="best"), CHECKER, tmp_path)
    with pytest.raises(UsageError, match="no broken program"):
        train_grpo([], tmp_path, GrpoRecipe(), CHECKER, tmp_path)
    forgetful = GrpoRecipe(rules=EditRules(history=False))
    with pytest.raises(UsageError, match="it has to keep its history"):
        train_grpo(variants, tmp_path, forgetful, CHECKER, tmp_path)
    with pytest.raises(UsageError, match="6 broken programs are fewer than a step's 7"):
        train_grpo(variants, tmp_path, GrpoRecipe(tasks_per_step=7), CHECKER, tmp_path)
