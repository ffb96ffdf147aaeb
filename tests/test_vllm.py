"""vLLM through TRL, as far as it can be held to without a GPU: the seam, and what is sent."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from redpencil.checkers import PythonChecker
from redpencil.demos import Broken
from redpencil.engine import Sampling
from redpencil.engine.weights import load_base
from redpencil.env import EditEnv, EditRules, Method
from redpencil.errors import MissingDependency, UsageError
from redpencil.files import read_jsonl
from redpencil.policy import ModelPolicy
from redpencil.recipes import GrpoRecipe
from redpencil.results import TRACES
from redpencil.rollout import Episode, rollout
from redpencil.train import credit
from redpencil.train.grpo import train_grpo
from redpencil.train.vllm import STOP, VllmEngine
from redpencil.types import Task, Trace
from trained import uneven, weights


class Generation:
    """What vLLM does, by a tiny model: sample up to a line's end, ids and log-probabilities."""

    max_completion_length = 0
    temperature = 1.0
    top_p = 1.0

    def __init__(self, model: Any, processing_class: Any, **_: Any) -> None:
        self.batches: list[list[list[int]]] = []
        self.model, self.tokenizer = model, processing_class

    def generate(
        self, prompts: list[list[int]], images: None, num_generations: int
    ) -> tuple[Any, list[list[int]], list[list[list[float]]], Any]:
        assert images is None
        assert num_generations == 1
        self.batches.append([list(prompt) for prompt in prompts])
        completions = [self._complete(list(prompt)) for prompt in prompts]
        return prompts, [ids for ids, _ in completions], [tops for _, tops in completions], None

    def _complete(self, prompt: list[int]) -> tuple[list[int], list[list[float]]]:
        ids: list[int] = []
        tops: list[list[float]] = []
        while len(ids) < self.max_completion_length and "\n" not in self.tokenizer.decode(ids):
            with torch.inference_mode():
                scores = self.model(torch.tensor([prompt + ids])).logits[0, -1].log_softmax(-1)
            ids.append(int(scores.argmax()))
            tops.append([float(scores[ids[-1]])])
        return ids, tops


@pytest.fixture
def generation(tiny_model: Path) -> Generation:
    return Generation(*load_base(str(tiny_model), torch.float32))


def test_trls_class_is_as_expected() -> None:
    from trl.generation.vllm_generation import VLLMGeneration

    parameters = inspect.signature(VLLMGeneration.generate).parameters
    assert {"prompts", "images", "num_generations"} <= set(parameters)
    made_with = inspect.signature(VLLMGeneration.__init__).parameters
    assert {"temperature", "top_p", "max_completion_length", "generation_kwargs"} <= set(made_with)
    source = inspect.getsource(VLLMGeneration)
    for name in ("temperature", "top_p", "max_completion_length"):
        assert f"= self.{name}\n" in source, f"{name} is read anew for each batch"


def test_a_trace_holds_what_was_sampled(generation: Generation, double: Task) -> None:
    engine = VllmEngine(generation, generation.tokenizer, context=1024)
    env = EditEnv(double, PythonChecker(), EditRules(max_turns=3))
    (trace,) = rollout([Episode(env)], ModelPolicy(engine, "tiny"))
    assert len(trace.turns) == 3
    context: list[int] = []
    for turn, (sent,) in zip(trace.turns, generation.batches, strict=True):
        context += turn.observation_ids
        assert sent == context
        assert len(turn.logprobs) == len(turn.action_ids) > 0
        context += turn.action_ids


def test_all_that_was_begun_is_one_batch(generation: Generation) -> None:
    engine = VllmEngine(generation, generation.tokenizer, context=64)
    sampling = Sampling(1.0, 1.0, 4, 0, lambda text: "\n" in text)
    handles = [engine.open() for _ in range(3)]
    for handle, text in zip(handles, ["x = 1", "y", "z = 3\n" * 60], strict=True):
        engine.show(handle, text)
        engine.begin(handle, sampling)
    ended = dict(engine.step())
    assert ended[handles[2]] is None
    assert ended[handles[0]] is not None
    assert [len(batch) for batch in generation.batches] == [2]
    assert engine.step() == []


def test_other_settings_than_vllm_was_started_with_are_refused(generation: Generation) -> None:
    engine = VllmEngine(generation, generation.tokenizer, context=64)
    with pytest.raises(UsageError, match="another temperature"):
        engine.begin(engine.open(), Sampling(0.5, 1.0, 4, 0, lambda text: True))


def test_training_samples_through_it_and_hands_it_the_weights_of_each_step(
    tiny_model: Path, start: Path, double: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Started] = []

    class Started(Generation):
        def __init__(self, model: Any, processing_class: Any, **settings: Any) -> None:
            super().__init__(model, processing_class)
            self.settings = settings
            self.temperature = settings["temperature"]
            self.synced: list[int] = []
            started.append(self)

        def sync_weights(self) -> None:
            self.synced.append(len(self.batches))

    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: object())
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Started)
    monkeypatch.setitem(credit.RULES, "paper", uneven)
    recipe = GrpoRecipe(
        model=str(tiny_model),
        vllm="colocate",
        temperature=0.7,
        steps=2,
        tasks_per_step=1,
        group=2,
        context=1024,
        rules=EditRules(max_turns=2),
    )
    trained = train_grpo([Broken(double, (), ())], start, recipe, PythonChecker(), tmp_path)
    (vllm,) = started
    assert vllm.settings["mode"] == "colocate"
    assert vllm.settings["temperature"] == 0.7
    assert vllm.settings["max_model_length"] == 1024
    assert vllm.settings["generation_kwargs"] == STOP
    assert vllm.synced == [0, len(vllm.batches) // 2]
    first, *_ = read_jsonl(tmp_path / TRACES, Trace)
    assert vllm.batches[0][0] == list(first.turns[0].observation_ids)
    before, after = weights(start), weights(trained)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_without_vllm_the_error_says_how_to_get_it(double: Task, tmp_path: Path) -> None:
    recipe = GrpoRecipe(vllm="colocate")
    with pytest.raises(MissingDependency, match=r"pip install 'trl\[vllm\]'"):
        train_grpo([Broken(double, (), ())], tmp_path, recipe, PythonChecker(), tmp_path)


@pytest.mark.parametrize("method", ["in-place", "direct"])
def test_vllm_is_refused_what_it_cannot_sample(
    double: Task, tmp_path: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its actions end at their first line end."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    recipe = GrpoRecipe(vllm="colocate", method=method)
    with pytest.raises(UsageError, match=f"leave out --vllm, or --method {method}"):
        train_grpo([Broken(double, (), ())], tmp_path, recipe, PythonChecker(), tmp_path)


def test_a_vllm_server_is_refused_to_several_processes(
    double: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"one process, not 2.*--vllm colocate"):
        train_grpo(
            [Broken(double, (), ())], tmp_path, GrpoRecipe(vllm="server"), PythonChecker(), tmp_path
        )
