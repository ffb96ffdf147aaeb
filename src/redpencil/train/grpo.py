"""GRPO with rewards per turn (paper, RLVR), on TRL's trainer.

TRL samples through `rollout_func`, masks what the environment wrote, and takes advantages of
shape (B, T). Here the rollout is ours, and so is the credit (`sampling`): `_PerTurnTrainer`
replaces the advantages that TRL computes from one number a trace by those of a credit rule.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler, split_tensor_dict

from redpencil.checkers import Checker
from redpencil.demos import Broken
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import adapter_sha256, load_adapter, load_base
from redpencil.env import EDITS
from redpencil.errors import MissingDependency, UsageError
from redpencil.files import read_jsonl, sha256, write_jsonl
from redpencil.recipes import GrpoRecipe
from redpencil.results import TRACES
from redpencil.train import processes
from redpencil.train.head import score_only_labels
from redpencil.train.loop import (
    SOLVED_RATE,
    Cardless,
    Journal,
    Progress,
    begin,
    last_checkpoint,
    mixed_precision,
    save_trained,
    saving,
    train,
    trainer_arguments,
)
from redpencil.train.metrics import NIL
from redpencil.train.rows import score_rows
from redpencil.train.sampling import GroupSampler
from redpencil.train.validation import Validator
from redpencil.train.vllm import STOP, VllmEngine
from redpencil.types import Trace


def train_grpo(
    variants: Sequence[Broken],
    adapter: Path,
    recipe: GrpoRecipe,
    checker: Checker,
    folder: Path,
    progress: Progress = lambda done, total, metrics: None,
    *,
    command: str = "",
) -> Path:
    """Train the adapter on further and save it as `folder/adapter`; returns where it lies.

    Every trace sampled is appended to `folder/traces.jsonl`. Checkpoints lie in `folder`; a call
    with the same arguments goes on from the newest. With a validation the adapter saved is the one
    that solved most in it after a step; before the first one, too, it is told what is solved.

    Args:
        command: the command that makes the run again, for its record.

    Raises:
        UsageError: there is too little to train on, no such model or adapter, or the folder holds
            another run; or a vLLM server is to serve several processes.
        MissingDependency: vLLM is asked for and not installed.
    """
    _require_possible(variants, recipe)
    model, tokenizer = load_base(recipe.model)
    inputs = {"programs": sha256(variants), "adapter": adapter_sha256(adapter)}
    sampling = GroupSampler(variants, recipe, checker, folder)
    if recipe.vllm == "off":
        sampler, _ = load_base(recipe.model)
        sampling.use(LocalEngine(sampler, tokenizer, recipe.context))
    dataset = Dataset.from_list([{"prompt": str(index)} for index in range(len(variants))])
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    trainer = _PerTurnTrainer(
        model=mixed_precision(load_adapter(model, adapter, trainable=True)),
        reward_funcs=_trace_reward,
        args=_arguments(recipe, folder, bf16=model.dtype == torch.bfloat16),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=tokenizer,
        rollout_func=sampling,
        callbacks=[Journal(folder, progress)],
    )
    if recipe.validation is not None:
        trainer.validator = Validator(
            recipe.validation,
            recipe.model,
            recipe.method,
            checker,
            recipe.seed,
            context=recipe.context,
            decoding=recipe.decoding,
        )
        trainer.add_callback(EarlyStoppingCallback(recipe.validation.patience))
    trainer.remove_callback(PrinterCallback)
    if recipe.vllm != "off":
        sampling.use(VllmEngine(trainer.vllm_generation, tokenizer, recipe.context))
    score_only_labels(trainer.model.get_base_model(), recipe.temperature)
    begin(folder, recipe, inputs, command)
    checkpoint = last_checkpoint(folder)
    earlier = _traces_before(folder, checkpoint, recipe.tasks_per_step * recipe.group)
    if processes.is_first():
        write_jsonl(folder / TRACES, earlier)
    sampling.recall(earlier)
    train(trainer, folder)
    return save_trained(trainer, folder, recipe.model)


def _require_possible(variants: Sequence[Broken], recipe: GrpoRecipe) -> None:
    """Refuse what cannot be trained, before anything is loaded."""
    if not variants:
        raise UsageError("no broken program to train on")
    processes.require_whole_weights("sampling by the model that is trained")
    if recipe.vllm == "server" and processes.count() > 1:
        raise UsageError(
            f"--vllm server is for one process, not {processes.count()}: TRL asks the server for "
            "all processes together, whose episodes end at different times; take --vllm colocate"
        )
    if recipe.vllm != "off" and importlib.util.find_spec("vllm") is None:
        raise MissingDependency("sampling by vLLM needs it and a GPU: pip install 'trl[vllm]'")
    if recipe.vllm != "off" and recipe.method != "coe":
        raise UsageError(
            f"vLLM samples one line a turn: leave out --vllm, or --method {recipe.method}"
        )
    if recipe.decoding != "free" and (recipe.vllm != "off" or recipe.method not in EDITS):
        raise UsageError(
            f"--decoding {recipe.decoding} is for edits by the local engine: leave it out, or "
            "--vllm and --method"
        )
    if not recipe.rules.history:
        raise UsageError("a trace is trained on as one sequence, so it has to keep its history")
    if recipe.warmup_steps + recipe.decay_steps > recipe.steps:
        raise UsageError(
            f"{recipe.steps} steps are fewer than {recipe.warmup_steps} in which the rate rises "
            f"and {recipe.decay_steps} in which it falls: take more (--steps)"
        )
    if len(variants) < recipe.tasks_per_step:
        raise UsageError(
            f"{len(variants)} broken programs are fewer than a step's {recipe.tasks_per_step}: "
            "take fewer a step (--tasks-per-step), or more tasks"
        )


def _arguments(recipe: GrpoRecipe, folder: Path, *, bf16: bool) -> GRPOConfig:
    own = processes.share(recipe.tasks_per_step, "tasks_per_step") * recipe.group
    at_once = max(n for n in range(1, recipe.traces_per_backward + 1) if own % n == 0)
    return GRPOConfig(
        **trainer_arguments(folder, recipe.seed, bf16),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=own // at_once,
        steps_per_generation=own // at_once,
        num_generations=recipe.group,
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": recipe.decay_steps},
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=1.0,
        beta=recipe.kl,
        epsilon=recipe.clip,
        temperature=recipe.temperature,
        disable_dropout=True,  # the sampler has none
        loss_type="dapo",
        max_completion_length=recipe.context,
        per_device_eval_batch_size=recipe.group,
        # Not of a run that goes on: it would count against the patience once more.
        eval_on_start=recipe.validation is not None and last_checkpoint(folder) is None,
        shuffle_dataset=True,
        **saving(recipe.checkpoint_every, recipe.validation),
        **_vllm_arguments(recipe),
    )


def _vllm_arguments(recipe: GrpoRecipe) -> dict[str, Any]:
    if recipe.vllm == "off":
        return {}
    return {
        "use_vllm": True,
        "vllm_mode": recipe.vllm,
        "vllm_max_model_length": recipe.context,
        "generation_kwargs": STOP,
    }


def _traces_before(folder: Path, checkpoint: Path | None, batch: int) -> list[Trace]:
    """The traces of the steps up to a checkpoint; later ones are about to be sampled again."""
    path = folder / TRACES
    steps = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    return read_jsonl(path, Trace, torn_tail=True)[: steps * batch] if path.exists() else []


def _trace_reward(
    completions: Sequence[str], trace_reward: Sequence[float | None], **_: Any
) -> list[float | None]:
    """For TRL's log: the sum of a trace's rewards, which the rollout has worked out."""
    return list(trace_reward)


class _Passes(RepeatSampler):  # type: ignore[misc]
    """TRL's order of the tasks, in which each pass is shuffled by the seed and its own number.

    TRL shuffles a pass by what the passes before it left of the generator, so that a run which
    goes on after the first pass would see the order of the first again.
    """

    steps_done: Callable[[], int]

    def __iter__(self) -> Iterator[int]:
        number = self.steps_done() // (self.num_samples // self.batch_size)
        self.generator.manual_seed(self.seed * 1_000_003 + number)
        order: Iterator[int] = super().__iter__()
        return order


class _PerTurnTrainer(Cardless, GRPOTrainer):  # type: ignore[misc]
    """GRPO whose advantages are per token, from the credit rule that the rollout applied.

    Only the model's own tokens are scored: the environment's are masked in the loss all the same,
    and the head is a good part of the cost.
    """

    action_mask: torch.Tensor
    """(B, T) of the completions to be scored next: 1 for each token that the model sampled."""
    scored_logps: torch.Tensor
    """(B, T) of the completions scored last."""
    validator: Validator | None = None
    control: Any
    _buffered_inputs: Any

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """What is solved of held-out programs, greedily; TRL would sample and reward."""
        assert self.validator is not None
        model = self.accelerator.unwrap_model(self.model)
        metrics = {SOLVED_RATE: self.validator.solved_rate(model)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _get_train_sampler(self, dataset: Dataset | None = None) -> RepeatSampler:
        plain = super()._get_train_sampler(dataset)
        passes = _Passes(
            plain.data_source,
            plain.mini_repeat_count,
            plain.batch_size,
            plain.repeat_count,
            seed=plain.seed,
        )
        passes.steps_done = lambda: self.state.global_step
        return passes

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """The part of a step's traces that is to be computed on next.

        TRL would shuffle them first, and so tear apart the traces of one program, whose beginning
        is computed once for those that are together.
        """
        parts = self.args.steps_per_generation
        if self._step % parts == 0 or self._buffered_inputs is None:
            sampled = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(sampled, parts)
        prepared: dict[str, Any] = self._buffered_inputs[self._step % parts]
        return prepared

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        sampling = self.rollout_func
        assert isinstance(sampling, GroupSampler)
        width = output["completion_ids"].shape[1]
        advantages = output["advantages"].new_zeros(len(sampling.advantages), width)
        for row, values in zip(advantages, sampling.advantages, strict=True):
            row[: len(values)] = torch.tensor(values)
        output["advantages"] = advantages
        for name, value in sampling.metrics.items():
            self._metrics["train"][name].append(value)
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if not self.beta and self.accelerator.num_processes == 1:  # else TRL gathers row by row
            inputs = _teaching(inputs)
            if not len(inputs["advantages"]):
                return _no_loss(model)
        self.action_mask = inputs["tool_mask"] * inputs["completion_mask"]  # TRL pads with 1
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        sampled = self.action_mask == 1
        if "sampling_per_token_logps" in inputs and self.temperature == 1 and sampled.any():
            gaps = (self.scored_logps - inputs["sampling_per_token_logps"])[sampled].abs()
            self._metrics["train"]["logprob_gap"].append(gaps.mean().item())
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Log-probabilities and entropies (B, T) of the completions, 0 where it is not theirs."""
        labels = torch.full_like(input_ids, -100)
        labels[:, -logits_to_keep:] = input_ids[:, -logits_to_keep:].masked_fill(
            self.action_mask == 0, -100
        )
        size = batch_size or len(input_ids)
        lots = [slice(start, start + size) for start in range(0, len(input_ids), size)]
        with self.accelerator.autocast():
            scored = [
                score_rows(
                    model,
                    input_ids[rows],
                    attention_mask[rows],
                    labels[rows],
                    at_once=self.accelerator.num_processes > 1,
                )
                for rows in lots
            ]
        logps, entropies = (
            torch.cat(values)[:, -logits_to_keep:] for values in zip(*scored, strict=True)
        )
        self.scored_logps = logps.detach()
        return logps, entropies, None


def _teaching(inputs: dict[str, Any]) -> dict[str, Any]:
    """Of a batch the rows with any advantage: without a KL term no other has a gradient."""
    rows = (inputs["advantages"].abs() > NIL).any(dim=1)
    return {
        name: value[rows]
        if isinstance(value, torch.Tensor) and value.dim() and len(value) == len(rows)
        else value
        for name, value in inputs.items()
    }


def _no_loss(model: Any) -> torch.Tensor:
    """0, with a gradient of 0, which the trainer asks for where there is nothing to learn from."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.stack([weight.sum() for weight in weights]).sum() * 0
