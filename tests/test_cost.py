"""The cost model, held to what transformers builds and to what torch counts."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config
from typer.testing import CliRunner

from conftest import ROOT
from redpencil import cost
from redpencil.cli import app
from redpencil.errors import UsageError
from redpencil.recipes import Dimensions, Lora, Recipe, names, read
from redpencil.train.head import score_only_labels
from redpencil.train.loop import new_adapter

SIZES = Dimensions(
    layers=8, hidden=64, intermediate=160, heads=4, kv_heads=2, head_size=16, vocabulary=500,
    tied=True,
)  # fmt: skip
BATCH, LENGTH, SCORED, RANK = 3, 50, 7, 8
PUBLISHED = {
    "quickstart": 134_515_008,
    "in-place": 134_515_008,
    "smollm2-135m": 134_515_008,
    "paper-llama-3.2-1b": 1_235_814_400,
    "paper-llama-3.2-3b": 3_212_749_824,
    "paper-llama-3.1-8b": 8_030_261_248,
    "qwen": 494_032_768,
}
"""Parameters as the models' safetensors files have them."""


def build(sizes: Dimensions) -> Any:
    family = Qwen2Config if sizes.qkv_bias else LlamaConfig
    config = family(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_size,
        tie_word_embeddings=sizes.tied,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager")


@pytest.mark.parametrize("name", names())
def test_parameters_are_those_that_transformers_makes_and_that_are_published(name: str) -> None:
    sizes = read(name).dimensions
    assert sizes is not None
    with torch.device("meta"):
        model = build(sizes)
    assert cost.parameters(sizes) == model.num_parameters() == PUBLISHED[name]


@pytest.fixture
def model() -> Any:
    model = new_adapter(build(SIZES), Lora(rank=RANK), seed=0)
    score_only_labels(model.get_base_model())
    return model


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(SIZES.vocabulary, (BATCH, LENGTH))
    labels = ids.clone()
    labels[:, :-SCORED] = -100
    return {"input_ids": ids, "labels": labels}


# Eager attention computes what the mask hides, too.
COUNTED = {"tokens": BATCH * LENGTH, "pairs": BATCH * LENGTH**2, "scored": BATCH * SCORED}


def test_training_takes_what_torch_counts(model: Any, batch: dict[str, torch.Tensor]) -> None:
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert cost.adapter_parameters(SIZES, RANK) == trained
    with FlopCounterMode(display=False) as counter:
        model(**batch, fused_lm_head=True).loss.backward()
    counted = counter.get_total_flops()
    assert cost.training(SIZES, **COUNTED, rank=RANK) == pytest.approx(counted, rel=0.03)


def test_a_forward_pass_takes_what_torch_counts(model: Any, batch: dict[str, torch.Tensor]) -> None:
    with FlopCounterMode(display=False) as counter, model.disable_adapter(), torch.no_grad():
        model(**batch, fused_lm_head=True)
    assert cost.forward(SIZES, **COUNTED) == pytest.approx(counter.get_total_flops(), rel=0.001)


def test_a_cache_holds_what_is_reckoned(model: Any, batch: dict[str, torch.Tensor]) -> None:
    cache = model(batch["input_ids"][:1], use_cache=True).past_key_values
    numbers = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert cost.cache_bytes(SIZES) * LENGTH == 2 * numbers


def test_larger_models_and_more_work_cost_more() -> None:
    machine = cost.HARDWARE["h100-80gb"]

    def seconds(name: str) -> float:
        return sum(stage.seconds(machine) for stage in cost.cost(read(name)))

    sizes = ("1b", "3b", "8b")
    family = [f"paper-llama-3.{1 if size == '8b' else 2}-{size}" for size in sizes]
    assert sorted(family, key=seconds) == family
    recipe = read(family[0])
    grpo, work = recipe.grpo, recipe.workload
    assert work is not None
    assert grpo.group == 4 <= grpo.traces_per_backward
    sft, sampling, reference, update, _ = cost.cost(recipe)
    assert sampling.tokens == reference.tokens == update.tokens
    alone = work.first_tokens * (1 - 1 / 4)  # of the four traces of a program three have it given
    traces = 4 * grpo.tasks_per_step * grpo.steps
    assert sampling.tokens == traces * (cost.trace_tokens(work, work.turns) - alone)
    assert 0 < sampling.written < sampling.tokens
    assert reference.flops < update.flops
    assert sft.written == 0
    # Written alone, a token takes all the weights' reading; what is shown is only computed.
    assert sampling.seconds(machine) > sampling.flops / (machine.flops * machine.utilisation)


def test_traces_that_reinforcement_ends_sooner_cost_less_in_it_alone() -> None:
    recipe = read("in-place")
    work = recipe.workload
    assert work is not None
    assert work.grpo_turns is not None
    _, sampling, _, update, evaluation = cost.cost(recipe)
    alone = work.first_tokens * (1 - 1 / recipe.grpo.group)
    first = cost.trace_tokens(work, work.grpo_turns) - alone
    assert sampling.tokens == update.tokens == pytest.approx(24 * 256 * first)
    assert evaluation.tokens == work.eval_programs * cost.trace_tokens(work, work.turns)


def test_the_papers_demonstrations_have_about_the_papers_tokens() -> None:
    sft = cost.cost(read("paper-llama-3.2-1b"))[0]
    assert sft.tokens == pytest.approx(19.7e6, rel=0.3)


def test_a_recipe_without_sizes_says_so() -> None:
    with pytest.raises(UsageError, match=r"without \[dimensions\] has no cost"):
        cost.cost(Recipe("mine"))


def test_the_page_on_scaling_shows_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    shown = re.findall(r"\$ redpencil cost (\S+)\n(.*?)\n```", page, re.DOTALL)
    assert shown
    for name, table in shown:
        printed = CliRunner().invoke(app, ["cost", name]).stdout
        assert [line.rstrip() for line in printed.strip().splitlines()] == [
            line.rstrip() for line in table.splitlines()
        ]
    for name in names():
        printed = CliRunner().invoke(app, ["cost", name]).stdout
        total = re.split(r" {2,}", re.search(r"in all.*", printed)[0].rstrip())
        row = re.search(rf"^\| `{re.escape(name)}` \|.*", page, re.MULTILINE)[0]
        assert row.split(" | ")[2:] == [total[1], *total[3:-1], f"{total[-1]} |"]
