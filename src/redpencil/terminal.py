"""What redpencil prints: progress bars, tables, diffs, messages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from redpencil import editor
from redpencil.dataset import Summary
from redpencil.evaluate import Results
from redpencil.faults import Summary as FaultSummary
from redpencil.sandbox.trial import Trial
from redpencil.types import Trace

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

Advance = Callable[[str], None]
"""Marks one more piece of work done, with a note to stand beside the bar."""


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Advance]:
    """A progress bar with time left; calling what it gives advances it by one."""
    with _bar() as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(note: str) -> None:
            bar.update(task, advance=1, note=note)

        yield advance


@contextmanager
def training_progress(what: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A progress bar for trainings, which say themselves how far they are."""
    with _bar() as bar:
        task = bar.add_task(what, total=None, note="starting")

        def update(done: int, total: int, metrics: dict[str, float]) -> None:
            wanted = ("reward", "solved_rate") if "reward" in metrics else ("loss",)
            shown = [name for name in wanted if name in metrics]
            note = "  ".join(f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in shown)
            bar.update(task, completed=done, total=total, note=note)

        yield update


@contextmanager
def solved_progress(what: str, total: int) -> Iterator[Callable[[Trace], None]]:
    """A bar that counts traces, and those of them that are solved; then what errors there were."""
    solved = 0
    errors: list[str] = []
    with progress(what, total) as advance:

        def on_trace(trace: Trace) -> None:
            nonlocal solved
            solved += trace.solved
            errors.extend([trace.error] if trace.error else [])
            advance(f"{solved} solved")

        yield on_trace
    if errors:
        message = (
            f"{len(errors)} of {total} traces ended in an error, such as: {errors[-1]}\n"
            "The same command makes them anew."
        )
        console.print(message, markup=False, soft_wrap=True)


def results_table(rows: Sequence[tuple[str, Results]]) -> Table:
    """Evaluations side by side."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("solved", "95% interval", "malformed", "turns", "tokens", "seconds"):
        table.add_column(heading, justify="right")
    for label, results in rows:
        low, high = results.ci95
        table.add_row(
            label,
            f"{results.pass_at_1:.1%}",
            f"{low:.1%} - {high:.1%}",
            f"{results.malformed_rate:.1%}",
            f"{results.mean_turns:.1f}",
            "-" if results.mean_tokens is None else f"{results.mean_tokens:.0f}",
            f"{results.seconds:.0f}",
        )
    return table


def faults_table(summary: FaultSummary) -> Table:
    """What became of the programs that a model wrote."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("[bold]sampled[/]", str(summary.sampled))
    table.add_row("solved", str(summary.solved))
    table.add_row("fail hidden tests only", str(summary.only_hidden))
    table.add_row("no program, or no end to it", str(summary.unfinished))
    table.add_row("errors", str(summary.errors))
    table.add_row("duplicates", str(summary.duplicates))
    table.add_row(f"[bold]kept[/], of {summary.tasks} tasks", str(summary.kept))
    for fault, count in summary.faults.items():
        table.add_row(f"  {escape(fault.replace('_', ' '))}", str(count))
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
        f"turns: {turns}\ncorruptions: {corruptions}\nleft out: {drops or 'nothing'}"
    )


def trials_table(trials: Sequence[Trial]) -> Table:
    """What each rung of the sandbox was found to hold."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for trial in trials:
        table.add_column(trial.rung.value, justify="center")
    for name in dict.fromkeys(name for trial in trials for name in trial.held):
        marks = {None: "[dim]-[/]", True: "[green]yes[/]", False: "[yellow]no[/]"}
        table.add_row(name, *(marks[trial.held.get(name)] for trial in trials))
    return table


def diff(before: str, after: str, name: str) -> Syntax:
    """A unified diff, coloured."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"{name} (broken)",
        f"{name} (repaired)",
    )
    return Syntax(
        "".join(lines).rstrip("\n"), "diff", theme="ansi_dark", background_color="default"
    )


def show_page(text: str) -> None:
    """What a model would be shown, to the letter."""
    console.print(text, markup=False, end="", soft_wrap=True)


def ask_command() -> str | None:
    """One command from the keyboard, `### ` being put before it; None at the end of input."""
    try:
        return editor.MARK + console.input(f"[bold red]{editor.MARK}[/]").removeprefix(editor.MARK)
    except EOFError:
        console.print()
        return None


def outcome(trace: Trace) -> str:
    """How an episode went, in a line."""
    turns = f"{len(trace.turns)} turn{'s' * (len(trace.turns) != 1)}"
    if trace.end == "error":
        return f"[red]error[/] after {turns}: {trace.error}"
    word = "[green]solved[/]" if trace.solved else "[red]not solved[/]"
    return f"{word} in {turns}, reward {trace.reward:g}"


def fail(message: str) -> None:
    """Print an error as one line on standard error."""
    errors.print(Text.assemble(("error: ", "bold red"), message.replace("\n", " ")), soft_wrap=True)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )
