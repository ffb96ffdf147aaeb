"""Reinforcing a tiny model: the seam with TRL, crash and resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from made import trace
from redpencil import demos
from redpencil.checkers import PythonChecker
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import adapter_sha256, default_dtype, load_adapter, load_base
from redpencil.env import EditRules
from redpencil.errors import SandboxError, UsageError
from redpencil.files import read_json, read_jsonl, sha256
from redpencil.recipes import GrpoRecipe, Validation
from redpencil.runs import Run
from redpencil.train import credit, validation
from redpencil.train import grpo as grpo_module
from redpencil.train.grpo import train_grpo
from redpencil.train.head import score_only_labels
from redpencil.train.loop import mixed_precision
from redpencil.train.sampling import _row
from redpencil.types import Trace
from trained import uneven, weights

CHECKER = PythonChecker()


LOGGED = """
    reward reward_turn_1 reward_turn_2 solved_rate malformed_rate noop_rate turns errors
    idle_groups always_solved_groups never_solved_groups replaced_groups resting_tasks
    logprob_gap entropy kl clip_ratio/region_mean sandbox_seconds decode_seconds rollout_seconds
"""

ROUNDING = 1e-4 if default_dtype() == torch.float32 else 2e-3
"""What a log-probability may differ by that is computed another way."""


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


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def back_to_the_first_step(folder: Path) -> None:
    """What a run of two steps leaves that is killed in the second."""
    shutil.rmtree(folder / "adapter")
    shutil.rmtree(folder / "checkpoint-2")


@pytest.mark.usefixtures("_uneven_credit")
def test_grpo_trains_on_the_tokens_sampled_and_goes_on_after_a_crash(
    tiny_model: Path, start: Path, variants: list[demos.Broken], tmp_path: Path
) -> None:
    trained = grpo(tiny_model, variants, start, tmp_path / "grpo")
    played = read_jsonl(tmp_path / "grpo" / "traces.jsonl", Trace)
    assert len(played) == 8
    for group in range(0, 8, 2):
        assert played[group].task == played[group + 1].task
    assert not (tmp_path / "grpo" / "README.md").exists()
    rows = read_jsonl(tmp_path / "grpo" / "metrics.jsonl", dict[str, float])
    assert set(LOGGED.split()) <= set(rows[0])
    assert rows[0]["reward"] == pytest.approx(rows[0]["reward_turn_1"] + rows[0]["reward_turn_2"])
    assert rows[0]["never_solved_groups"] == 1.0
    assert rows[0]["decode_seconds"] > 0 < rows[0]["sandbox_seconds"]
    assert all(row["logprob_gap"] < ROUNDING for row in rows if "logprob_gap" in row)
    after = weights(trained)
    files = sorted((tmp_path / "grpo").glob("checkpoint-*"))
    shutil.rmtree(trained)
    assert_same(weights(grpo(tiny_model, variants, start, tmp_path / "grpo")), after)
    assert read_jsonl(tmp_path / "grpo" / "traces.jsonl", Trace) == played
    assert sorted((tmp_path / "grpo").glob("checkpoint-*")) == files, "it had ended"
    assert any(not torch.equal(tensor, after[name]) for name, tensor in weights(start).items())

    torn = tmp_path / "torn"
    grpo(tiny_model, variants, start, torn)
    shutil.rmtree(torn / "adapter")
    (torn / "checkpoint-2" / "trainer_state.json").unlink()  # killed while it was written
    with (torn / "traces.jsonl").open("a") as file:
        file.write('{"task": torn')
    assert_same(weights(grpo(tiny_model, variants, start, torn)), after)
    assert len(read_jsonl(torn / "traces.jsonl", Trace)) == 8
    run = read_json(torn / "run.json", Run)
    assert msgspec.convert(run.settings, GrpoRecipe).learning_rate == 1e-3
    assert run.inputs == {"programs": sha256(variants), "adapter": adapter_sha256(start)}
    with pytest.raises(UsageError, match="programs: "):
        grpo(tiny_model, variants[::-1], start, torn)


def test_a_sampler_that_is_left_behind_shows(
    tiny_model: Path,
    start: Path,
    variants: list[demos.Broken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LocalEngine, "sync", lambda engine, source: None)
    grpo(tiny_model, variants, start, tmp_path, steps=1)
    row, _ = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    assert row["logprob_gap"] > 10 * ROUNDING


def test_dropout_of_the_adapter_is_not_trained_through(
    tiny_model: Path, start: Path, variants: list[demos.Broken], tmp_path: Path
) -> None:
    dropping = shutil.copytree(start, tmp_path / "start")
    config = json.loads((dropping / "adapter_config.json").read_text())
    (dropping / "adapter_config.json").write_text(json.dumps(config | {"lora_dropout": 0.5}))
    grpo(tiny_model, variants, dropping, tmp_path / "grpo", steps=1)
    row, _ = read_jsonl(tmp_path / "grpo" / "metrics.jsonl", dict[str, float])
    assert row["logprob_gap"] < ROUNDING


def test_a_pass_has_its_own_order_whichever_step_it_is_taken_up_in() -> None:
    def order(step: int) -> list[int]:
        passes = grpo_module._Passes(range(10), 1, 2, 1, seed=3)
        passes.steps_done = lambda: step
        return list(passes)

    assert order(0) == order(4)
    assert order(5) == order(9) != order(0)
    assert sorted(order(5)) == list(range(10))


def test_what_a_fault_ended_counts_for_no_term_of_the_loss() -> None:
    ids: dict[str, Any] = {"observation_ids": (1, 2), "action_ids": (3,)}
    whole = trace([0.0, 1.0])
    turns = tuple(msgspec.structs.replace(turn, **ids) for turn in whole.turns)
    whole = msgspec.structs.replace(whole, turns=turns)
    assert _row(whole, 0).mask == [1, 0, 0, 1]
    assert _row(msgspec.structs.replace(whole, end="error"), 0).mask == [0, 0, 0, 0]


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
    """A step at a temperature of 0.6 seen at work, and its traces."""
    folder = tmp_path_factory.mktemp("seen")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(credit.RULES, "paper", uneven)
        seen = Seen(monkeypatch)
        grpo(tiny_model, variants, start, folder, steps=1, kl=0.5, temperature=0.6)
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
    assert rows == wanted  # in their order: traces of one program stay together
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
        logits = trainer.model(input_ids=ids, attention_mask=shown).logits.float() / 0.6
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
def test_traces_that_teach_nothing_cost_nothing_and_change_nothing(
    tiny_model: Path,
    start: Path,
    variants: list[demos.Broken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = Seen(monkeypatch)
    grpo(tiny_model, variants, start, tmp_path, steps=1, kl=0.0)
    scored: list[int] = []
    score_rows = grpo_module.score_rows

    def counting(model: Any, ids: torch.Tensor, *rest: torch.Tensor, at_once: bool) -> Any:
        scored.append(len(ids))
        return score_rows(model, ids, *rest, at_once=at_once)

    monkeypatch.setattr(grpo_module, "score_rows", counting)
    batch = {**seen.batches[0], "advantages": seen.batches[0]["advantages"].clone()}
    batch["advantages"][0] = 0
    gradient = seen.gradient(batch)
    with monkeypatch.context() as plain:
        plain.setattr(grpo_module, "_teaching", lambda inputs: inputs)
        wanted = seen.gradient(batch)
    assert gradient.any()
    assert (gradient - wanted).norm() < 0.02 * wanted.norm()  # where bfloat16 is the precision
    batch["advantages"].zero_()
    assert not seen.gradient(batch).any()
    assert scored == [1, 2]


def test_a_step_in_which_nothing_teaches_is_logged_and_changes_nothing(
    tiny_model: Path,
    start: Path,
    variants: list[demos.Broken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        credit.RULES, "paper", lambda group: [[1e-9] * len(trace) for trace in group]
    )
    trained = grpo(tiny_model, variants, start, tmp_path, steps=1, kl=0.0)
    row, *_ = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    assert row["idle_groups"] == 1
    assert row["grad_norm"] == 0
    assert "entropy" not in row  # there is no token that it would be of
    assert_same(weights(start), weights(trained))


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
    grpo(tiny_model, variants, start, folder)
    moved = tmp_path / "moved"
    shutil.copytree(folder / "checkpoint-1", moved)
    back_to_the_first_step(folder)
    seen = Seen(monkeypatch)
    grpo(tiny_model, variants, start, folder)
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
    grpo(tiny_model, variants, start, folder, **changes)
    back_to_the_first_step(folder)
    grpo(tiny_model, variants, start, folder, **changes)
    assert [trace.task for trace in read_jsonl(folder / "traces.jsonl", Trace)] == straight


@pytest.mark.usefixtures("_uneven_credit")
def test_validation_keeps_the_adapter_that_solves_most_and_tells_what_was_solved_before(
    tiny_model: Path,
    start: Path,
    variants: list[demos.Broken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is solved is made up, since a model so small solves nothing; all else is real."""
    rates = iter([0.2, 0.3, 0.1])

    def solved(traces: Iterable[bool]) -> float:
        assert len(list(traces)) == 2
        return next(rates)

    monkeypatch.setattr(validation, "fmean", solved)
    asked = Validation(every=1, patience=1, limit=2)
    kept = weights(grpo(tiny_model, variants, start, tmp_path, steps=4, validation=asked))
    rows = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    found = [(row["step"], row["eval_solved_rate"]) for row in rows if "eval_solved_rate" in row]
    assert found == [(0, 0.2), (1, 0.3), (2, 0.1)]
    best, last = weights(tmp_path / "checkpoint-1"), weights(tmp_path / "checkpoint-2")
    assert all(torch.equal(kept[name], best[name]) for name in best)
    assert any(not torch.equal(kept[name], last[name]) for name in last)


@pytest.mark.usefixtures("_uneven_credit")
def test_going_on_is_not_held_against_the_patience_and_warms_up_no_second_time(
    tiny_model: Path,
    start: Path,
    variants: list[demos.Broken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = iter([0.1, 0.3, 0.2, 0.4, 0.5, 0.1])
    monkeypatch.setattr(validation, "fmean", lambda traces: (list(traces), next(rates))[1])
    asked = Validation(every=1, patience=1, limit=2)
    changes: dict[str, Any] = {"steps": 5, "validation": asked, "warmup_steps": 2, "decay_steps": 3}
    grpo(tiny_model, variants, start, tmp_path, **changes)
    back_to_the_first_step(tmp_path)
    grpo(tiny_model, variants, start, tmp_path, **changes)
    rows = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    found = [(row["step"], row["eval_solved_rate"]) for row in rows if "eval_solved_rate" in row]
    assert found == [(0, 0.1), (1, 0.3), (2, 0.4), (3, 0.5), (4, 0.1)]
    risen_and_fallen = [row["learning_rate"] for row in rows if "learning_rate" in row]
    assert risen_and_fallen == pytest.approx([0, 0.5e-3, 1e-3, 0.75e-3])


@pytest.mark.usefixtures("_uneven_credit")
def test_log_probabilities_that_an_engine_does_not_give_are_worked_out(
    tiny_model: Path,
    start: Path,
    variants: list[demos.Broken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = weights(grpo(tiny_model, variants, start, tmp_path / "told", steps=1))
    without = LocalEngine.capabilities - {"logprobs"}
    monkeypatch.setattr(LocalEngine, "capabilities", without)
    worked_out = weights(grpo(tiny_model, variants, start, tmp_path / "worked-out", steps=1))
    assert any(not torch.equal(told[name], weights(start)[name]) for name in told)
    for name in told:
        assert torch.allclose(told[name], worked_out[name], atol=1e-5), name


def test_begun_anew_before_the_first_checkpoint_it_is_logged_once(
    tiny_model: Path, start: Path, variants: list[demos.Broken], tmp_path: Path
) -> None:
    asked = Validation(every=1, patience=1, limit=2)
    for _ in range(2):
        grpo(tiny_model, variants, start, tmp_path, steps=1, validation=asked)
        for folder in (*tmp_path.glob("checkpoint-*"), tmp_path / "adapter"):
            shutil.rmtree(folder)
    rows = read_jsonl(tmp_path / "metrics.jsonl", dict[str, float])
    assert [row["step"] for row in rows if "eval_solved_rate" in row] == [0, 1]


@pytest.mark.usefixtures("_uneven_credit")
def test_a_program_too_long_for_the_context_teaches_nothing_and_stops_nothing(
    tiny_model: Path, start: Path, variants: list[demos.Broken], tmp_path: Path
) -> None:
    task = variants[0].task
    long = msgspec.structs.replace(task, program="# too long\n" * 900 + (task.program or ""))
    too_long = msgspec.structs.replace(variants[0], task=long)
    grpo(tiny_model, [too_long, variants[1]], start, tmp_path / "one", steps=1)
    ends = [trace.end for trace in read_jsonl(tmp_path / "one" / "traces.jsonl", Trace)]
    assert ends.count("cut_short") == 2
    (row, *_) = read_jsonl(tmp_path / "one" / "metrics.jsonl", dict[str, float])
    assert row["grad_norm"] > 0
    with pytest.raises(SandboxError, match="no first page fits into the context"):
        grpo(tiny_model, [too_long], start, tmp_path / "all", steps=1, tasks_per_step=1)


def test_wrong_requests_say_what_to_do(variants: list[demos.Broken], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no broken program"):
        train_grpo([], tmp_path, GrpoRecipe(), CHECKER, tmp_path)
    forgetful = GrpoRecipe(rules=EditRules(history=False))
    with pytest.raises(UsageError, match="it has to keep its history"):
        train_grpo(variants, tmp_path, forgetful, CHECKER, tmp_path)
    held = GrpoRecipe(method="direct", decoding="well-formed")
    with pytest.raises(UsageError, match="--decoding well-formed is for edits"):
        train_grpo(variants, tmp_path, held, CHECKER, tmp_path)
    hasty = GrpoRecipe(steps=7, warmup_steps=3, decay_steps=5)
    with pytest.raises(UsageError, match=r"7 steps are fewer than 3 in which .* and 5 in"):
        train_grpo(variants, tmp_path, hasty, CHECKER, tmp_path)
    with pytest.raises(UsageError, match="6 broken programs are fewer than a step's 7"):
        train_grpo(variants, tmp_path, GrpoRecipe(tasks_per_step=7), CHECKER, tmp_path)
