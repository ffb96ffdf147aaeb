"""What stands beside a progress bar: how much is done, how well, and how long the rest takes."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
from rich.console import Console

from made import Act, episode
from redpencil import terminal

TRACE = episode("x", Act("### DELL 1", "", tokens=30), Act("### EXIT", "", tokens=20))
SOLVED = msgspec.structs.replace(TRACE, solved=True)


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(terminal, "time", SimpleNamespace(perf_counter=clock))
    return clock


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Console:
    """A console that keeps what is shown on it, of a bar how it stood at its end."""
    console = Console(record=True, width=120, force_terminal=False, get_time=clock)
    monkeypatch.setattr(terminal, "console", console)
    return console


def beside_the_bar(console: Console) -> str:
    """What was shown last, the bar itself left out."""
    words = console.export_text().splitlines()[-1].split()
    return " ".join(word for word in words if word.strip("━╸╺"))


@pytest.mark.parametrize(
    ("pace", "rate_and_time_left"),
    [(5, "0:00:10 2 solved, 10 tokens/s"), (50, "0:01:40 2 solved, 1 tokens/s")],
)
def test_a_bar_tells_what_is_solved_how_fast_and_the_time_left(
    console: Console, clock: Clock, pace: float, rate_and_time_left: str
) -> None:
    with terminal.solved_progress("Sample", 5) as on_trace:
        for trace in (SOLVED, TRACE, SOLVED):
            clock.now += pace
            on_trace(trace, True)
    assert beside_the_bar(console) == f"Sample 3/5 {rate_and_time_left}"


def test_what_was_found_done_is_not_taken_for_speed(console: Console, clock: Clock) -> None:
    with terminal.solved_progress("Sample", 12) as on_trace:
        for _ in range(8):
            on_trace(SOLVED, False)
        for _ in range(2):
            clock.now += 5
            on_trace(TRACE, True)
    assert beside_the_bar(console) == "Sample 10/12 0:00:10 8 solved, 10 tokens/s"
    with terminal.demos_progress(9) as on_task:
        on_task(1000, False)
        for _ in range(2):
            clock.now += 60
            on_task(500, True)
    assert beside_the_bar(console) == "Tasks demonstrated 3/9 0:06:00 2,000 demonstrations"


def test_in_the_end_the_time_taken_stands_there(console: Console, clock: Clock) -> None:
    with terminal.solved_progress("Sample", 2) as on_trace:
        on_trace(SOLVED, False)
        clock.now += 7
        on_trace(TRACE, True)
    assert beside_the_bar(console).startswith("Sample 2/2 0:00:07 ")
    with terminal.solved_progress("Sample", 1) as on_trace:
        on_trace(SOLVED, False)
    assert beside_the_bar(console) == "Sample 1/1 0:00:00 1 solved"


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"reward": -0.5, "solved_rate": 0.25, "loss": 9.0}, "reward -0.500 solved rate 0.250"),
        ({"loss": 1.5}, "loss 1.500"),
        ({"loss": 1.5, "eval_solved_rate": 0.5}, "loss 1.500 eval solved rate 0.500"),
    ],
)
def test_a_training_that_goes_on_tells_its_metrics_and_the_time_left(
    console: Console, clock: Clock, metrics: dict[str, float], shown: str
) -> None:
    with terminal.training_progress("Train") as update:
        for steps in (51, 52, 53):
            clock.now += 90
            update(steps, 100, metrics)
    assert beside_the_bar(console) == f"Train 53/100 1:10:30 {shown}"
