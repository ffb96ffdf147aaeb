"""Commands that make data: tasks and demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redpencil.cli.options import Corruptions, Kinds, RecipeFile, Seed, Source, corruption_range
from redpencil.errors import UsageError

if TYPE_CHECKING:
    from redpencil.tasks import TaskSet


def tasks(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Write the tasks as JSON lines.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run the solutions; exit code 1 where one fails.")
    ] = False,
) -> None:
    """List the tasks of a source, export them, or check them."""
    from redpencil.files import write_jsonl
    from redpencil.tasks import load
    from redpencil.terminal import console

    found = load(source)
    if check:
        _check_solutions(found)
    elif out is None:
        for task in found.tasks:
            first_line = task.prompt.split("\n")[0]
            console.print(f"{task.id}  [dim]{task.split}[/]  ", end="", soft_wrap=True)
            console.print(first_line, markup=False, soft_wrap=True)
    else:
        write_jsonl(out, found.tasks)
    console.print(found.summary, style="bold", soft_wrap=True)


def _check_solutions(found: TaskSet) -> None:
    from redpencil.checkers import PythonChecker
    from redpencil.tasks import verified
    from redpencil.terminal import console

    kept, left_out = verified(found.tasks, PythonChecker().check)
    for task, verdict in left_out:
        hidden = "" if verdict.detail else "a hidden test fails"
        console.print(f"{task.id}: {verdict.detail or hidden}", markup=False, soft_wrap=True)
    console.print(f"{len(kept)} of {len(found.tasks)} pass their own tests.", style="bold")
    if left_out:
        raise typer.Exit(1)


def demos(
    source: Annotated[str, typer.Option("--tasks", help="Task source with solutions.")],
    out: Annotated[Path, typer.Option(help="File of traces to write (JSON lines).")],
    recipe: RecipeFile = None,
    per_task: Annotated[int, typer.Option(min=1, help="Demonstrations of each task.")] = 3,
    order: Annotated[
        Literal["direct", "inverse"],
        typer.Option(help="Only write correct lines, or undo the corruptions as the paper does."),
    ] = "direct",
    corruptions: Corruptions = "1-5",
    kinds: Kinds = "all",
    stumbles: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Chance that a turn is a bad command, which is shown and not taught.",
        ),
    ] = 0.0,
    seed: Seed = 0,
) -> None:
    """Make demonstrations: corrupted programs and the commands that mend them, replayed."""
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.demos import broken_variants, demonstrate, summarise
    from redpencil.files import write_jsonl
    from redpencil.tasks import load

    found = load(source)
    terminal.console.print(found.summary, style="dim", soft_wrap=True)
    checker = PythonChecker()
    variants = broken_variants(
        found.tasks, per_task, corruption_range(corruptions), seed, checker, kinds=kinds
    )
    kept, dropped = [], 0
    with terminal.progress("Demonstrations", len(found.tasks) * per_task) as advance:
        for trace in demonstrate(variants, checker, order=order, stumbles=stumbles, seed=seed):
            advance("")
            if trace is None:
                dropped += 1
            else:
                kept.append(trace)
    if not kept:
        raise UsageError(f"no demonstration could be made of {source}")
    write_jsonl(out, kept)
    terminal.console.print(terminal.demos_summary(summarise(kept, dropped)))
