"""What both trainings share: LoRA, logs, checkpoints that survive a kill, the adapter saved."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import DistributedType
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState, TrainingArguments

from redpencil.errors import UsageError
from redpencil.files import append_jsonl, atomic_write, read_jsonl, share, write_jsonl
from redpencil.recipes import Lora, Validation
from redpencil.runs import claim_run
from redpencil.train import ADAPTER, METRICS, processes
from redpencil.types import Value

Progress = Callable[[int, int, dict[str, float]], None]
"""Told after each optimiser step: steps done, steps in all, and the newest metrics."""

SOLVED_RATE = "eval_solved_rate"
"""What a validation tells: the share that is solved."""
_STATE = "trainer_state.json"
"""The last file of a checkpoint that is written."""


def begin(folder: Path, recipe: Value, inputs: Mapping[str, str], command: str) -> None:
    """Claim the folder of a training, or go on with the one that it holds.

    Raises:
        UsageError: it holds another.
    """
    if processes.is_first():
        claim_run(folder, recipe, inputs, command=command)


def new_adapter(model: Any, lora: Lora, seed: int) -> Any:
    """The model with a fresh LoRA on all of its linear layers but the head."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return mixed_precision(get_peft_model(model, config))


def mixed_precision(model: Any) -> Any:
    """Let autocast alone settle the precision that the adapter computes in.

    PEFT casts each layer's input to the adapter's float32 first, which only costs time where
    autocast casts it back: without, a step on a CPU is half as long again.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    if model.dtype == torch.bfloat16:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False
    return model


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / _STATE).read_bytes())
            whole.append((int(checkpoint.name.removeprefix("checkpoint-")), checkpoint))
        except (OSError, ValueError):
            continue
    return max(whole)[1] if whole else None


def train(trainer: Any, folder: Path) -> None:
    """Train on from the newest checkpoint; a training that has ended stays as it ended.

    Raises:
        UsageError: the best checkpoint so far is gone.
    """
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None:
        _find_best(checkpoint)
        state = TrainerState.load_from_json(str(checkpoint / _STATE))
        if _has_ended(state):
            trainer.state = state
            if state.best_model_checkpoint is None:
                trainer._load_from_checkpoint(str(checkpoint))
            else:
                trainer._load_best_model()
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _find_best(checkpoint: Path) -> None:
    """Correct where a checkpoint says that the best one lies: the folder may have been moved.

    The trainer would train on without, and keep the last adapter for the best.
    """
    path = checkpoint / _STATE
    state = json.loads(path.read_bytes())  # which may hold NaN
    if state["best_model_checkpoint"] is None:
        return
    best = checkpoint.parent / Path(state["best_model_checkpoint"]).name
    if not best.is_dir():
        raise UsageError(
            f"{best} is gone, whose adapter solved most so far: name another folder with --out"
        )
    if state["best_model_checkpoint"] != str(best):
        state["best_model_checkpoint"] = str(best)
        with atomic_write(path) as file:
            file.write(json.dumps(state, indent=2).encode())


def _has_ended(state: TrainerState) -> bool:
    """Whether all steps are taken, or validation ended it early."""
    if state.global_step >= state.max_steps:
        return True
    stopping: Any = state.stateful_callbacks.get(EarlyStoppingCallback.__name__)
    if stopping is None:
        return False
    waited = stopping["attributes"]["early_stopping_patience_counter"]
    return bool(waited >= stopping["args"]["early_stopping_patience"])


def save_trained(trainer: Any, folder: Path, base_model: str) -> Path:
    """Save the adapter that a trainer has trained; all its processes wait until it is there."""
    accelerator = trainer.accelerator
    sharded = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    weights = accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if accelerator.is_main_process:
        save_adapter(accelerator.unwrap_model(trainer.model), folder, base_model, weights)
    accelerator.wait_for_everyone()
    return folder / ADAPTER


def save_adapter(model: Any, folder: Path, base_model: str, weights: Any = None) -> Path:
    """Save the model's trained adapter as `folder/adapter`, which appears whole or not at all.

    Args:
        weights: the model's state, where it does not lie in the model itself.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_model
    if isinstance(config.target_modules, set):
        # In an order that differs from process to process, and the adapter's digest with it.
        config.target_modules = sorted(config.target_modules)
    target, temporary = folder / ADAPTER, folder / f".{ADAPTER}.partial"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        model.save_pretrained(
            temporary,
            selected_adapters=["default"],
            save_embedding_layers=False,
            state_dict=weights,
        )
        (temporary / "README.md").unlink(missing_ok=True)
        share(temporary)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror or error}") from error
    return target


class Cardless:
    """A trainer that leaves TRL's card of the model unwritten.

    It knows neither the base model nor the data, both of which are in `run.json`.
    """

    def create_model_card(self, *_: Any, **__: Any) -> None: ...


class Journal(TrainerCallback):  # type: ignore[misc]
    """Writes each log line to `metrics.jsonl` and reports progress; a resumed run goes on in it.

    Of several processes only the first does.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._file = folder / METRICS
        self._progress = progress
        self._newest: dict[str, float] = {}

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero and self._file.exists():
            kept = read_jsonl(self._file, dict[str, float], torn_tail=True)
            # Without a checkpoint it begins anew, and is validated before the first step again.
            done = [row for row in kept if row["step"] <= state.global_step > 0]
            write_jsonl(self._file, done)

    def on_log(
        self, args: TrainingArguments, state: Any, control: Any, logs: Any = None, **_: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        numbers = {
            name: float(number)
            for name, number in (logs or {}).items()
            if isinstance(number, int | float) and math.isfinite(number)
        }
        self._newest.update(numbers)
        append_jsonl(self._file, [{"step": float(state.global_step), **numbers}])
        self._progress(state.global_step, state.max_steps, self._newest)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self._progress(state.global_step, state.max_steps, self._newest)


def saving(every: int, validation: Validation | None) -> dict[str, Any]:
    """Arguments of a trainer: when checkpoints are written and what is kept of them.

    Args:
        every: steps between checkpoints where there is no validation; with one they are written
            as often as it is made.
    """
    if validation is None:
        return {"save_steps": every}
    return {
        "eval_strategy": "steps",
        "eval_steps": validation.every,
        "save_steps": validation.every,
        "load_best_model_at_end": True,
        "metric_for_best_model": SOLVED_RATE,
        "greater_is_better": True,
        "prediction_loss_only": True,
        "restore_callback_states_from_checkpoint": True,
    }


def trainer_arguments(folder: Path, seed: int, dtype_is_bf16: bool) -> dict[str, Any]:
    """Arguments that both trainers take alike."""
    import torch

    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    return {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": dtype_is_bf16,
        "fp16": False,
        "activation_checkpointing": False,
        "logging_steps": 1,
        "logging_first_step": True,
        "report_to": ["tensorboard"],
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_total_limit": 2,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "remove_unused_columns": False,
    }
