"""Commands about recipes: which there are, and what one costs."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from redpencil.errors import UsageError


def recipes() -> None:
    """List the recipes that come with redpencil."""
    from rich.text import Text

    from redpencil.recipes import names, read
    from redpencil.recipes.files import FOLDER
    from redpencil.terminal import console

    width = max(map(len, names()))
    for name in names():
        about = Text(read(name).about, "dim")
        console.print(f"{name:<{width}} ", about, soft_wrap=True)
    console.print(f"They lie in {FOLDER}; copy one to change it.", soft_wrap=True)


def cost(
    recipe: Annotated[str, typer.Argument(metavar="NAME|FILE", help="The recipe.")],
    hardware: Annotated[
        list[str] | None,
        typer.Option(help="cpu-2-core, a100-80gb or h100-80gb; may be given more than once."),
    ] = None,
    peak: Annotated[float | None, typer.Option(min=0.001, help="Its TFLOP/s in bfloat16.")] = None,
    bandwidth: Annotated[float | None, typer.Option(min=0.1, help="Its memory's GB/s.")] = None,
    utilisation: Annotated[
        float | None, typer.Option(min=0.001, max=1.0, help="Share of the peak put to use.")
    ] = None,
    reading: Annotated[
        float | None, typer.Option(min=0.001, max=1.0, help="Share of the bandwidth put to use.")
    ] = None,
) -> None:
    """Reckon tokens, operations, memory and hours of a recipe; nothing is run."""
    from redpencil.cost import HARDWARE, parameters
    from redpencil.cost import cost as reckon
    from redpencil.recipes import read
    from redpencil.terminal import assumptions, console, cost_table

    chosen = hardware or ["cpu-2-core", "h100-80gb"]
    for name in chosen:
        if name not in HARDWARE:
            raise UsageError(f"no hardware {name!r}; known are {', '.join(HARDWARE)}")
    stated = {
        "flops": peak and peak * 1e12,
        "bandwidth": bandwidth and bandwidth * 1e9,
        "utilisation": utilisation,
        "reading": reading,
    }
    changes = {name: value for name, value in stated.items() if value is not None}
    if changes and len(chosen) > 1:
        raise UsageError("--peak and the like describe one machine: name one with --hardware")
    machines = [msgspec.structs.replace(HARDWARE[name], **changes) for name in chosen]
    what = read(recipe)
    stages = reckon(what)
    assert what.dimensions is not None
    console.print(f"{what.model}, {parameters(what.dimensions) / 1e6:,.0f}M parameters\n")
    console.print(cost_table(stages, machines))
    console.print("\nAssumed, one machine each; programs, padding, activations are not counted:")
    for machine in machines:
        console.print(assumptions(machine), style="dim")
