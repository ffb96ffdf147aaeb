"""The command that measures what a choice is worth."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redpencil.cli.options import given_command
from redpencil.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from redpencil.ablate import Row


def ablate(
    axes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[AXIS]...",
            help="What to vary: order, context, decoding, credit, noop; default all of them.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/ablation"),
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="What is run with each value of an axis.")
    ] = "quickstart",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each value, seeded 0, 1, 2...")] = 3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to run, and stop.")
    ] = False,
) -> None:
    """Measure what a choice is worth: a recipe's pipeline with each value of it, and seeds.

    The same command again goes on where it stopped; what two runs have in common is done once.
    """
    from rich.text import Text

    from redpencil.ablate import AXES, cost
    from redpencil.ablate import ablate as run
    from redpencil.recipes import read
    from redpencil.tasks.source import counted
    from redpencil.terminal import console

    chosen = list(dict.fromkeys(axes or AXES))
    for axis in chosen:
        if axis not in AXES:
            close = difflib.get_close_matches(axis, AXES, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(AXES)}"
            raise UsageError(f"nothing called {axis!r} to vary; {hint}")
    what = read(recipe)
    for axis in chosen:
        values = ", ".join(AXES[axis].values)
        about = f" ({values}): {AXES[axis].about}"
        console.print(Text.assemble((axis, "bold"), about), soft_wrap=True)
    needed = cost(what, chosen, range(seeds))
    console.print(
        f"From nothing this takes {needed.fine_tunings} fine-tunings, {needed.reinforcements} "
        f"trainings by GRPO and {needed.evaluations} evaluations; `redpencil cost {recipe}` "
        "reckons what each takes.",
        soft_wrap=True,
    )
    if not dry_run:
        found = run(what, chosen, range(seeds), out, command=given_command())
        console.print(_table(found.rows))
        if errors := sum(row.errors for row in found.rows):
            console.print(
                f"{counted(errors, 'episode')} ended by a fault of the machinery and counted as "
                "unsolved; the same command plays them again.",
                style="yellow",
                soft_wrap=True,
            )
        console.print(f"The numbers are in {out}.", soft_wrap=True)


def _table(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("")
    for heading in ("tasks", "solved", "95% interval", "difference", "95% interval", "p"):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [row.axis, row.value, str(row.tasks), f"{row.solved:.1%}", _interval(row.ci95)]
        against = row.against_first
        if against is not None:
            interval = "{:+.1%} - {:+.1%}".format(*against.ci95)
            cells += [f"{against.difference:+.1%}", interval, f"{against.p_value:.3f}"]
        table.add_row(*cells)
    return table


def _interval(bounds: tuple[float, float]) -> str:
    return "{:.1%} - {:.1%}".format(*bounds)
