"""What redpencil prints: progress bars, tables, diffs, messages."""

from __future__ import annotations

import difflib
import io
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.syntax import Syntax
from rich.table import Column, Table
from rich.text import Text

from redpencil import editor, tables
from redpencil.cost import Hardware, Stage
from redpencil.dataset import OnTask, Summary
from redpencil.evaluate import Chosen
from redpencil.faults import Summary as FaultSummary
from redpencil.rollout import OnTrace
from redpencil.sandbox.trial import Trial
from redpencil.types import Trace

# Ids, labels and paths are anyone's: what is in brackets or between colons is printed as it is.
console = Console(highlight=False, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)


class Advance(Protocol):
    """Marks one more piece of work done."""

    def __call__(self, note: str, made: bool = True) -> None:
        """Advance a bar by one.

        Args:
            note: stands beside the bar.
            made: just now; what was found done says nothing of the time left.
        """


@contextmanager
def progress(what: str, total: int | None, shown_on: Console | None = None) -> Iterator[Advance]:
    """A progress bar with time left; calling what it gives advances it by one."""
    with _bar(shown_on or console) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(note: str, made: bool = True) -> None:
            bar.tasks[0].completed += not made  # `update` would take it for speed
            bar.update(task, advance=made, note=note)

        yield advance


@contextmanager
def demos_progress(tasks: int) -> Iterator[OnTask]:
    """A bar that counts tasks, told for each how many demonstrations it gave."""
    count = 0
    with progress("Tasks demonstrated", tasks) as advance:

        def on_task(demos: int, made: bool) -> None:
            nonlocal count
            count += demos
            advance(f"{count:,} demonstrations", made)

        yield on_task


@contextmanager
def training_progress(what: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A progress bar for trainings, which say themselves how far they are."""
    with _bar(console) as bar:
        task = bar.add_task(what, total=None, note="starting")

        def update(done: int, total: int, metrics: dict[str, float]) -> None:
            reinforced = "reward" in metrics
            wanted = ("reward", "solved_rate") if reinforced else ("loss", "eval_solved_rate")
            shown = [name for name in wanted if name in metrics]
            note = "  ".join(f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in shown)
            bar.update(task, completed=done, total=total, note=note)

        yield update


@contextmanager
def solved_progress(what: str, total: int) -> Iterator[OnTrace]:
    """A bar that counts traces, and those of them that are solved; then what errors there were."""
    solved = tokens = 0
    errors: list[str] = []
    started = time.perf_counter()
    with progress(what, total) as advance:

        def on_trace(trace: Trace, sampled: bool) -> None:
            nonlocal solved, tokens
            solved += trace.solved
            tokens += sum(turn.tokens for turn in trace.turns) if sampled else 0
            errors.extend([trace.error] if trace.error else [])
            seconds = time.perf_counter() - started
            rate = f", {tokens / seconds:.0f} tokens/s" if tokens else ""
            advance(f"{solved} solved{rate}", sampled)

        yield on_trace
    if errors:
        message = (
            f"{len(errors)} of {total} traces ended in an error, such as: {errors[-1]}\n"
            "The same command makes them anew."
        )
        console.print(message, soft_wrap=True)


def show_remarks(chosen: Chosen) -> None:
    """What is out of the ordinary in the programs that are played."""
    for remark in chosen.remarks:
        console.print(remark, style="dim", soft_wrap=True)


def show_table(table: tables.Table) -> None:
    """A table of text, and below it what its columns mean."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(table.headings):
        style = "bold" if place == table.bold else None
        shown.add_column(heading, justify="right" if place else "left", style=style)
    for row in table.rows:
        shown.add_row(*row)
    if not console.is_terminal:  # into a file or a pipe whole, however wide
        shown.width = console.measure(shown, options=console.options.update(max_width=1000)).maximum
    console.print(shown, crop=False)
    if table.note:
        console.print(f"{table.note}\n", style="dim", soft_wrap=not console.is_terminal)


def cost_table(stages: Sequence[Stage], machines: Sequence[Hardware]) -> Table:
    """What each stage of a recipe takes, and the time of it on each machine."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("tokens", "written", "PFLOP", "memory"):
        table.add_column(heading, justify="right")
    for machine in machines:
        table.add_column(machine.name, justify="right")

    def row(name: str, parts: Sequence[Stage]) -> list[str]:
        seconds = (sum(part.seconds(machine) for part in parts) for machine in machines)
        return [
            name,
            _short(sum(part.tokens for part in parts)),
            _short(sum(part.written for part in parts)),
            _short(sum(part.flops for part in parts) / 1e15),
            f"{max(part.memory for part in parts) / 1e9:.1f} GB",
            *map(_duration, seconds),
        ]

    for stage in stages:
        table.add_row(*row(stage.name, [stage]))
    table.add_row(*row("in all", stages), style="bold")
    return table


def assumptions(machine: Hardware) -> str:
    """What a machine is taken to do, in a line."""
    return (
        f"{machine.name}: {machine.flops / 1e12:g} TFLOP/s used to {machine.utilisation:.0%}, "
        f"{machine.bandwidth / 1e9:g} GB/s read to {machine.reading:.0%}"
    )


def faults_table(summary: FaultSummary) -> Table:
    """What became of the programs that a model wrote."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row(Text("sampled", "bold"), str(summary.sampled))
    table.add_row("solved", str(summary.solved))
    table.add_row("fail hidden tests only", str(summary.only_hidden))
    table.add_row("no program, or no end to it", str(summary.unfinished))
    table.add_row("errors", str(summary.errors))
    table.add_row("duplicates", str(summary.duplicates))
    kept = Text.assemble(("kept", "bold"), f", of {summary.tasks} tasks")
    table.add_row(kept, str(summary.kept))
    for fault, count in summary.faults.items():
        table.add_row(f"  {fault.replace('_', ' ')}", str(count))
    if summary.mean_edit_distance is not None:
        table.add_row("mean edit distance to the solution", f"{summary.mean_edit_distance:.1f}")
    return table


def demos_summary(summary: Summary) -> str:
    """What a set of demonstrations holds, in a few lines."""
    turns = ", ".join(f"{count} of {length}" for length, count in summary.turns.items())
    common = sorted(summary.corruptions.items(), key=lambda item: -item[1])
    corruptions = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in common)
    drops = ", ".join(f"{drop.replace('_', ' ')} {count}" for drop, count in summary.drops.items())
    tokens = "" if summary.tokens is None else f", {summary.tokens:,} tokens"
    return (
        f"{summary.demos} demonstrations of {summary.tasks} tasks{tokens}; "
        f"mean edit distance {summary.mean_edit_distance:.1f} characters\n"
        f"turns: {turns}\ncorruptions: {corruptions or 'none'}\nleft out: {drops or 'nothing'}"
    )


def trials_table(trials: Sequence[Trial]) -> Table:
    """What each rung of the sandbox was found to hold."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for trial in trials:
        table.add_column(trial.rung.value, justify="center")
    for name in dict.fromkeys(name for trial in trials for name in trial.held):
        marks = {None: Text("-", "dim"), True: Text("yes", "green"), False: Text("no", "yellow")}
        table.add_row(name, *(marks[trial.held.get(name)] for trial in trials))
    return table


def diff(before: str, after: str, name: str) -> str:
    """A unified diff of a file's text, which `patch` applies; lines end at line feeds alone."""
    lines = difflib.unified_diff(
        list(io.StringIO(before)), list(io.StringIO(after)), name, name, "broken", "repaired"
    )
    ended = (
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
    return "".join(ended)


def show_diff(text: str) -> None:
    """Print a diff: coloured on a terminal, elsewhere to the byte."""
    if console.is_terminal:
        coloured = Syntax("", "diff", theme="ansi_dark", background_color="default").highlight(text)
        console.print(coloured, end="", soft_wrap=True)
    else:
        sys.stdout.buffer.write(text.encode())


def show_page(text: str) -> None:
    """What a model would be shown, to the letter."""
    console.print(text, end="", soft_wrap=True)


def ask_command() -> str | None:
    """One command from the keyboard, `### ` being put before it; None at the end of input."""
    try:
        said = console.input(Text(editor.MARK, "bold red"))
        return editor.MARK + said.removeprefix(editor.MARK)
    except EOFError:
        console.print()
        return None


def outcome(trace: Trace) -> Text:
    """How an episode went, in a line."""
    turns = f"{len(trace.turns)} turn{'s' * (len(trace.turns) != 1)}"
    if trace.end == "error":
        return Text.assemble(("error", "red"), f" after {turns}: {trace.error}")
    word = ("solved", "green") if trace.solved else ("not solved", "red")
    return Text.assemble(word, f" in {turns}, reward {trace.reward:g}")


def fail(message: str) -> None:
    """Print an error as one line on standard error."""
    errors.print(Text.assemble(("error: ", "bold red"), message.replace("\n", " ")), soft_wrap=True)


def _short(number: float) -> str:
    """Three digits or so: `0.42`, `17`, `3.1M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"


def _duration(seconds: float) -> str:
    """`4.1 s`, `12 min`, `1,480 h`."""
    sizes = ((3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((size for size in sizes if seconds >= size[0]), sizes[-1])
    number = seconds / size
    return f"{number:.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"


def _bar(shown_on: Console) -> Progress:
    """A bar that gives way where the terminal is narrow; in the end time left is time taken.

    However long a step takes, the time left is told: it is reckoned from all of them.
    """
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        TextColumn("[dim]{task.fields[note]}"),
        console=shown_on,
        speed_estimate_period=math.inf,
    )
