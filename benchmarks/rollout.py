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
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from contenders import CONTENDERS, MODEL, OWN, Shape, short_turns, workload
from redpencil import editor, provenance
from redpencil.engine import Sampling
from redpencil.engine.chat import encode
from redpencil.engine.grammar import Grammars, forbid
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import load_base
from redpencil.files import write_json
from redpencil.tasks import load
from redpencil.types import Page


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
