"""The benchmark of rollouts runs, and writes the numbers that documents and readers look for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from redpencil.files import read_json

ROLLOUT = Path(__file__).parents[1] / "benchmarks" / "rollout.py"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_rollout_measures_contenders_side_by_side(tmp_path: Path) -> None:
    names = ["reencode", "padded_cache", "packed_bf16", "packed_fp32", "constrained"]
    file = tmp_path / "numbers.json"
    small = ["--trajectories", "2", "--turns", "2", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, str(ROLLOUT), *small, "--only", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    numbers = read_json(file, dict[str, Any])
    rates = numbers["trajectories_per_minute"]
    assert set(rates) == {"compute_limit", *names}
    assert all(0 < rate <= 1.2 * rates["compute_limit"] for rate in rates.values())
    assert set(numbers["peak_mib"]) == set(names)
    assert numbers["per_turn_ratio_40_10"] > 0
    assert 0 < numbers["grammar_share"] < 1
    assert 0 < numbers["decode_tokens_per_second"] < numbers["prefill_tokens_per_second"]
    assert "a turn of 40 costs" in done.stdout
    assert {"machine", "threads", "versions", "git_commit", "command"} <= set(numbers)
