"""A step of fine-tuning, forward and backward: ours, the full head's, TRL's.

    python benchmarks/sft.py [--batch N] [--steps N] [--json FILE]

All three train the same LoRA on the same batches of demonstrations. Ours scores the model's own
tokens only, in the weights' precision, and needs no mask for the padding. The full head scores
every token and leaves out in the loss what is not the model's own. TRL's is its fused head with
PEFT's layers as they come. Beside the speed stand the loss and the gradients of the first batch in
float32, which have to be the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head

from contenders import MODEL
from redpencil import provenance
from redpencil.checkers import PythonChecker
from redpencil.demos import broken_variants, demonstrate
from redpencil.engine.weights import load_base, load_tokenizer
from redpencil.recipes import Lora
from redpencil.tasks import load
from redpencil.train.head import score_only_labels
from redpencil.train.loop import new_adapter
from redpencil.train.sft import padded_batch
from redpencil.train.tokens import trace_tokens
from redpencil.types import Trace
from rollout import apart, record

Batch = dict[str, torch.Tensor]


def batches(size: int, count: int) -> list[Batch]:
    """Batches of demonstrations on board, each of traces of about one length."""
    tasks = load("builtin:train").tasks[: 2 * size * count]
    made = demonstrate(broken_variants(tasks, 1, (1, 3), 0, PythonChecker()), PythonChecker())
    traces = [trace for trace in made if isinstance(trace, Trace)]
    tokenizer = load_tokenizer(MODEL)
    sequences = (tokens for trace in traces for tokens in trace_tokens(trace, tokenizer))
    examples = sorted(sequences, key=lambda tokens: len(tokens.ids))
    chosen = examples[len(examples) // 2 - size * count // 2 :][: size * count]
    return [
        padded_batch(chosen[start : start + size], tokenizer.pad_token_id)
        for start in range(0, len(chosen), size)
    ]


def ours(model: Any) -> Callable[[Batch], torch.Tensor]:
    """As `redpencil sft` does it."""
    tuned = new_adapter(model, Lora(), seed=0)
    score_only_labels(tuned.get_base_model())
    return lambda batch: tuned(**batch, fused_lm_head=True).loss


def full_head(model: Any) -> Callable[[Batch], torch.Tensor]:
    """Every token scored, as a language model in transformers does it."""
    tuned = new_adapter(model, Lora(), seed=0)
    return lambda batch: tuned(**batch).loss


def trl(model: Any) -> Callable[[Batch], torch.Tensor]:
    """TRL's fused head on PEFT's layers."""
    lora = Lora()
    torch.manual_seed(0)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    tuned = get_peft_model(model, config)
    add_fused_lm_head(tuned.get_base_model())
    return lambda batch: tuned(**batch, fused_lm_head=True).loss


CONTENDERS = {"trl": trl, "full_head": full_head, "ours": ours}


class Measured(NamedTuple):
    """One contender's run."""

    tokens_per_second: float
    loss: float
    gradients: torch.Tensor
    """Of the first batch in float32, all of the adapter's in a row."""


def measure(name: str, work: list[Batch], threads: int) -> Measured:
    """Time the batches in bfloat16 after one of them as a warm-up; then one in float32."""
    torch.set_num_threads(threads)
    model, loss_of = _prepared(name, torch.bfloat16)
    _step(model, loss_of, work[-1])
    started = time.perf_counter()
    for batch in work:
        _step(model, loss_of, batch)
    seconds = time.perf_counter() - started
    tokens = sum(int(batch["attention_mask"].sum()) for batch in work)
    model, loss_of = _prepared(name, torch.float32)
    loss = loss_of(work[0])
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return Measured(
        tokens / seconds, loss.item(), torch.cat([gradient.flatten() for gradient in gradients])
    )


def _prepared(name: str, dtype: torch.dtype) -> tuple[Any, Callable[[Batch], torch.Tensor]]:
    model: Any = load_base(MODEL, dtype)[0]
    loss_of = CONTENDERS[name](model)
    generator = torch.Generator().manual_seed(0)
    for key, weight in model.named_parameters():
        if "lora_B" in key:  # begins as nought, where its partner has no gradient
            weight.data.normal_(std=0.01, generator=generator)
    return model, loss_of


def _step(model: Any, loss_of: Callable[[Batch], torch.Tensor], batch: Batch) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    model.zero_grad()


def main() -> None:
    """Measure, print as ratios, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=provenance.usable_cores())
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    work = batches(arguments.batch, arguments.steps)
    lengths = [batch["input_ids"].shape[1] for batch in work]
    scored = sum(int((batch["labels"] != -100).sum()) for batch in work)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in work)
    print(
        f"{provenance.machine()}; {arguments.threads} threads; {MODEL}; {len(work)} batches of "
        f"{arguments.batch}, {min(lengths)} to {max(lengths)} tokens wide; "
        f"{scored / tokens:.0%} of the tokens are the model's own"
    )
    found = {name: apart(measure, name, work, arguments.threads) for name in CONTENDERS}
    truth = found["full_head"]
    for name, measured in found.items():
        apart_by = (measured.gradients - truth.gradients).norm() / truth.gradients.norm()
        print(
            f"{name:<10} {measured.tokens_per_second:7.0f} tokens/s  "
            f"{measured.tokens_per_second / truth.tokens_per_second:5.2f} x the full head  "
            f"float32: loss {measured.loss:.6f}, gradients {apart_by.item():.1e} apart"
        )
    if arguments.json:
        numbers = {
            "tokens_per_second": {name: m.tokens_per_second for name, m in found.items()},
            "losses": {name: measured.loss for name, measured in found.items()},
        }
        record(arguments.json, arguments.threads, numbers)


if __name__ == "__main__":
    main()
