"""Programs a second: in this process, `python -I` a program, and our sandbox, side by side.

python benchmarks/sandbox.py [--programs N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from redpencil import provenance
from redpencil.sandbox import run

PROGRAM = "def double(n):\n    return n * 2\n"
TESTS = ("assert double(2) == 4", "assert double(5) == 10", "assert double(0) == 0")
WHOLE = PROGRAM + "\n".join(TESTS)


def in_process() -> None:
    """The untrusted program in this very process: no protection at all."""
    exec(compile(WHOLE, "<program>", "exec"), {})


def plain_subprocess() -> None:
    """A fresh interpreter that believes what the program's exit code says."""
    subprocess.run([sys.executable, "-I", "-c", WHOLE], check=True, env={})


def ours() -> None:
    """Our sandbox: verdict made outside, group killed as a whole."""
    assert run(PROGRAM, TESTS).solved


def fork_limit() -> None:
    """A bare fork, exit and wait: no sandbox that forks can be faster."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def rate(program: Callable[[], None], count: int, workers: int = 1) -> float:
    """Runs a second of `program`, in `workers` threads."""
    program()
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda _: program(), range(count)))
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure, print as ratios, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=200, help="runs of each (default 200)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    count, cores = arguments.programs, provenance.usable_cores()
    per_second = {
        "fork_limit": rate(fork_limit, count),
        "in_process": rate(in_process, count),
        "subprocess": rate(plain_subprocess, count),
        "rlimits": rate(ours, count),
        "rlimits_all_cores": rate(ours, count, cores),
    }
    print(provenance.machine())
    for name, value in per_second.items():
        ratio = value / per_second["subprocess"]
        print(f"{name:<20} {value:10.0f} programs a second   {ratio:8.2f} x `python -I`")
    if arguments.json:
        arguments.json.write_text(json.dumps({"per_second": per_second}, indent=2) + "\n")


if __name__ == "__main__":
    main()
