"""The command line: parse, call one function, print.

Exit codes: 0 done (or repaired, or all tests passed), 1 not repaired or not passed, 2 an error
of use, 130 interrupted. Commands import what they need when they run, so that `--help` is quick.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Annotated, NoReturn

import typer

import redpencil
from redpencil.cli import ablation, data, files, recipes, results, sandbox, traces, training
from redpencil.errors import RedpencilError

app = typer.Typer(
    name="redpencil",
    help="Small language models that think by editing: one command a turn, on a page that runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(training.quickstart)
app.command()(recipes.recipes)
app.command()(recipes.cost)
app.command()(data.tasks)
app.command()(files.check)
app.command()(data.demos)
app.command()(data.corrections)
app.command()(data.faults)
app.command()(training.thoughts)
app.command()(training.sft)
app.command()(training.rl)
app.command()(training.export)
app.command()(ablation.ablate)
app.command("eval")(traces.evaluate)
app.command()(traces.rollout)
app.command()(traces.play)
app.command()(results.compare)
app.command()(results.report)
app.command()(files.repair)

sandbox_app = typer.Typer(help="The sandbox that programs run in.", no_args_is_help=True)
sandbox_app.command()(sandbox.check)
app.add_typer(sandbox_app, name="sandbox")


def main() -> None:
    """Run the command line; an error of ours or of the system is one line and exit code 2."""
    # What the libraries below us are going to change is news for us, not for whoever runs this.
    warnings.filterwarnings("ignore", category=FutureWarning)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except (RedpencilError, OSError) as error:
        from redpencil.terminal import fail

        fail(_reason(error))
        sys.exit(2)
    except _Interrupted:
        print("\ninterrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)


class _Interrupted(BaseException):
    """Ctrl-C; not a KeyboardInterrupt, which Typer would turn into exit code 1."""


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise _Interrupted


def _reason(error: Exception) -> str:
    """What an error says, without the number that the system's errors begin with."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"redpencil {redpencil.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Small language models that think by editing: one command a turn, on a page that runs."""
