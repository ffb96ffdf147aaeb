"""Supervised fine-tuning on demonstrations: LoRA, loss on the model's own tokens alone."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec
import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import SFTConfig, SFTTrainer

from redpencil.checkers import PythonChecker
from redpencil.engine.weights import adapter_sha256, load_adapter, load_base
from redpencil.env import Method
from redpencil.errors import UsageError
from redpencil.files import sha256
from redpencil.recipes import SftRecipe, Validation
from redpencil.train import processes
from redpencil.train.head import score_only_labels
from redpencil.train.loop import (
    SOLVED_RATE,
    Cardless,
    Journal,
    Progress,
    begin,
    mixed_precision,
    new_adapter,
    save_trained,
    saving,
    train,
    trainer_arguments,
)
from redpencil.train.tokens import Tokens, foreign, trace_tokens
from redpencil.train.validation import Validator
from redpencil.types import Trace, Value

IGNORED = -100
"""The label of a token that the loss is not on."""
_NOTHING = {"input_ids": [0], "labels": [IGNORED]}
"""A row that teaches nothing."""
_SORTED_BATCHES = 8
"""So many batches' worth of traces are sorted by length before they are cut into batches."""


class SftReport(Value, frozen=True):
    """What a fine-tuning came to."""

    sequences: int
    """One a trace, or one a turn where only the latest page is kept."""
    left_out: int
    """Sequences longer than the context."""
    tokens: int
    """Tokens seen, over all epochs."""
    action_tokens: int
    """Of these, the tokens that the loss is on."""
    steps: int
    """Steps taken: fewer than there are where validation ended the training."""
    best_step: int | None
    """The step whose adapter is kept; None where that is the last, nothing being validated."""
    solved_rate: float | None
    """What that adapter solved in validation, 0 to 1."""


def train_sft(
    traces: Sequence[Trace],
    recipe: SftRecipe,
    folder: Path,
    progress: Progress = lambda done, total, metrics: None,
    adapter: Path | None = None,
    *,
    command: str = "",
) -> SftReport:
    """Train a new adapter, or one that there is, on traces and save it as `folder/adapter`.

    Checkpoints lie in `folder`; a call with the same arguments goes on from the newest. With a
    validation, the adapter saved is the one that solved most in it.

    Args:
        command: the command that makes the run again, for its record.

    Raises:
        UsageError: no trace fits into the context, there is no such model or adapter, there is a
            validation and the traces are of several methods, or the folder holds another run.
    """
    if recipe.validation is not None:
        processes.require_whole_weights("validation")
    model, tokenizer = load_base(recipe.model)
    readable = [t if t.policy == recipe.model else foreign(t) for t in traces]
    examples = [tokens for trace in readable for tokens in trace_tokens(trace, tokenizer)]
    fitting = [example for example in examples if len(example.ids) <= recipe.context]
    if not examples:
        raise UsageError("there is no demonstration to train on")
    if not fitting:
        raise UsageError("no demonstration fits into the context: raise `context` or make others")
    inputs = {"demonstrations": sha256(traces)}
    if adapter is not None:
        inputs["adapter"] = adapter_sha256(adapter)
    order = _order([len(example.ids) for example in fitting], recipe)
    if not order:
        few = f"{recipe.epochs:g} epochs of {len(fitting)} demonstrations"
        raise UsageError(f"{few} are less than one: raise --epochs")
    rows = [_row(fitting[index]) for index in order]
    if processes.count() > 1:  # who could not share a last step of less than a batch
        rows += [_NOTHING] * (-len(rows) % recipe.batch)
    dataset = Dataset.from_list(rows)
    steps = math.ceil(len(order) / recipe.batch)
    validator = None
    held_out: list[Tokens] = []
    if recipe.validation is not None:
        method = _only_method(traces)
        validator = Validator(
            _as_taught(recipe.validation, traces),
            recipe.model,
            method,
            PythonChecker(),
            recipe.seed,
            context=recipe.context,
        )
        shown = [t for trace in validator.demos() for t in trace_tokens(trace, tokenizer)]
        held_out = [tokens for tokens in shown if len(tokens.ids) <= recipe.context]
        if not held_out:
            raise UsageError(
                f"no demonstration of {recipe.validation.tasks} fits into the context: raise "
                "`context` or validate on other tasks"
            )
    arguments = SFTConfig(
        **trainer_arguments(folder, recipe.seed, model.dtype == torch.bfloat16),
        per_device_train_batch_size=processes.share(recipe.batch, "a batch of"),
        per_device_eval_batch_size=processes.share(recipe.batch, "a batch of"),
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(recipe.warmup_share * steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        **saving(recipe.checkpoint_every, recipe.validation),
    )
    if adapter is None:
        trained = new_adapter(model, recipe.lora, recipe.seed)
    else:
        trained = mixed_precision(load_adapter(model, adapter, trainable=True))
    trainer = _Trainer(
        model=trained,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=Dataset.from_list([_row(example) for example in held_out]) or None,
        processing_class=tokenizer,
        data_collator=partial(_padded, pad_id=tokenizer.pad_token_id or 0),
        callbacks=[Journal(folder, progress)],
    )
    if recipe.validation is not None:
        trainer.validator = validator
        trainer.add_callback(EarlyStoppingCallback(recipe.validation.patience))
    trainer.remove_callback(PrinterCallback)
    score_only_labels(trainer.model.get_base_model())
    begin(folder, recipe, inputs, command)
    train(trainer, folder)
    save_trained(trainer, folder, recipe.model)
    seen = order[: trainer.state.global_step * recipe.batch]
    return SftReport(
        sequences=len(fitting),
        left_out=len(examples) - len(fitting),
        tokens=sum(len(fitting[index].ids) for index in seen),
        action_tokens=sum(sum(fitting[index].is_action) for index in seen),
        steps=trainer.state.global_step,
        best_step=trainer.state.best_global_step if validator else None,
        solved_rate=trainer.state.best_metric if validator else None,
    )


def _only_method(traces: Sequence[Trace]) -> Method:
    """The method that all traces are of, by which a validation has to play."""
    methods = {trace.method for trace in traces}
    for method in get_args(Method):
        if methods == {method}:
            return method  # type: ignore[no-any-return]
    found = ", ".join(sorted(methods))
    raise UsageError(f"a validation plays by one method of repair, and the traces are of: {found}")


def _as_taught(validation: Validation, traces: Sequence[Trace]) -> Validation:
    """The validation with the kind of context that the traces teach: all pages, or the latest."""
    history = not any(turn.observation.fresh for trace in traces for turn in trace.turns)
    rules = msgspec.structs.replace(validation.rules, history=history)
    return msgspec.structs.replace(validation, rules=rules)


class _Trainer(Cardless, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, whose evaluations tell the loss and what is solved."""

    validator: Validator | None = None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        output = super().evaluation_loop(*args, **kwargs)
        if self.validator is not None:
            model = self.accelerator.unwrap_model(self.model)
            output.metrics[SOLVED_RATE] = self.validator.solved_rate(model)
        return output


def _order(lengths: Sequence[int], recipe: SftRecipe) -> list[int]:
    """The traces of all epochs in training order: batches of about one length, shuffled.

    Settled beforehand and by the seed alone, so that a resumed run meets the same batches.
    """
    rng = random.Random(recipe.seed)
    order: list[int] = []
    total = round(recipe.epochs * len(lengths))
    rest: list[int] = []
    while len(order) + len(rest) < total:
        shuffled = rest + rng.sample(range(len(lengths)), len(lengths))
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), _SORTED_BATCHES * recipe.batch):
            pool = shuffled[start : start + _SORTED_BATCHES * recipe.batch]
            pool.sort(key=lambda index: lengths[index])
            batches += [pool[at : at + recipe.batch] for at in range(0, len(pool), recipe.batch)]
        rng.shuffle(batches)
        order += [index for batch in batches if len(batch) == recipe.batch for index in batch]
        # A batch that is not full would shift all that follow it.
        rest = [index for batch in batches if len(batch) < recipe.batch for index in batch]
    return (order + rest)[:total]


def _row(example: Tokens) -> dict[str, list[int]]:
    labels = [
        token if mine else IGNORED
        for token, mine in zip(example.ids, example.is_action, strict=True)
    ]
    return {"input_ids": example.ids, "labels": labels}


def padded_batch(examples: Sequence[Tokens], pad_id: int) -> dict[str, torch.Tensor]:
    """Traces as one batch (B, T), padded on the right: ids, labels, and what is no padding."""
    return _padded([_row(example) for example in examples], pad_id)


def _padded(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)

    def filled(values: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([row + [filler] * (width - len(row)) for row in values])

    ids = [row["input_ids"] for row in rows]
    return {
        "input_ids": filled(ids, pad_id),
        "attention_mask": filled([[1] * len(row) for row in ids], 0),
        "labels": filled([row["labels"] for row in rows], IGNORED),
    }
