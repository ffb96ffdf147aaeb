"""Sampling by vLLM as TRL's trainer runs it, in its own process (colocate) or beside it (server).

TRL hands vLLM the weights after each step of training; vLLM's prefix cache holds the contexts
from turn to turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from redpencil.engine import Capability, Sample, Sampling
from redpencil.engine.chat import encode
from redpencil.errors import EngineError, UsageError

STOP = {"stop": ["\n"], "include_stop_str_in_output": True}
"""What vLLM is to be told once, when it is started: an action is one line, its end kept."""


class Generation(Protocol):
    """What of TRL's `VLLMGeneration` is used."""

    max_completion_length: int
    temperature: float
    top_p: float

    def generate(
        self, prompts: list[list[int]], images: None, num_generations: int
    ) -> tuple[Any, list[list[int]], list[list[list[float]]], Any]:
        """Prompts again, ids, and for each id the log-probabilities that were asked for."""


class VllmEngine:
    """An engine whose every step is one batch of all actions that were begun.

    Draws are settled by vLLM, not by a sampling's seed, and its log-probabilities are those at the
    sampling's temperature, which TRL asks it for.
    """

    capabilities: frozenset[Capability] = frozenset({"ids", "logprobs", "fork", "lora_sync"})

    capacity = 1024

    def __init__(self, generation: Generation, tokenizer: Any, context: int) -> None:
        """Sample through `generation`, which was started with `STOP`.

        Args:
            context: most tokens of a sequence.
        """
        self._generation = generation
        self._tokenizer = tokenizer
        self._context = context
        self._sequences: dict[int, list[int]] = {}
        self._begun: dict[int, Sampling] = {}
        self._opened = 0

    def open(self) -> int:
        self._opened += 1
        self._sequences[self._opened] = []
        return self._opened

    def fork(self, handle: int) -> int:
        fork = self.open()
        self._sequences[fork] = self._sequences[handle][:]
        return fork

    def show(self, handle: int, text: str, *, chat: bool = False) -> tuple[int, ...]:
        if chat:
            raise UsageError("vLLM is only used for editing, which needs no chat template")
        ids = encode(self._tokenizer, text, begins=not self._sequences[handle])
        self._sequences[handle].extend(ids)
        return tuple(ids)

    def begin(self, handle: int, sampling: Sampling) -> None:
        generation = self._generation
        if (sampling.temperature, sampling.top_p) != (generation.temperature, generation.top_p):
            raise UsageError("vLLM was started with another temperature or top_p than is asked for")
        self._begun[handle] = sampling

    def step(self) -> list[tuple[int, Sample | EngineError | None]]:
        begun, self._begun = self._begun, {}
        full = [
            handle
            for handle, sampling in begun.items()
            if len(self._sequences[handle]) + sampling.max_tokens > self._context
        ]
        going = [handle for handle in begun if handle not in full]
        return [*((handle, None) for handle in full), *self._generate(going, begun)]

    def close(self, handle: int) -> None:
        self._sequences.pop(handle, None)
        self._begun.pop(handle, None)

    def sync(self, source: Any) -> None:
        """Nothing: TRL hands vLLM the weights before it asks for a step's rollout."""

    def _generate(
        self, handles: list[int], begun: dict[int, Sampling]
    ) -> Iterable[tuple[int, Sample]]:
        if not handles:
            return []
        self._generation.max_completion_length = max(begun[h].max_tokens for h in handles)
        _, all_ids, all_logprobs, _ = self._generation.generate(
            prompts=[self._sequences[handle] for handle in handles], images=None, num_generations=1
        )
        samples = []
        for handle, ids, logprobs in zip(handles, all_ids, all_logprobs, strict=True):
            self._sequences[handle].extend(ids)
            text = self._tokenizer.decode(ids, skip_special_tokens=True)
            samples.append((handle, Sample(tuple(ids), tuple(top[0] for top in logprobs), text)))
        return samples
