"""The command that tries the sandbox."""

from __future__ import annotations

import typer


def check() -> None:
    """Try every rung of isolation on this machine; exit code 1 where programs cannot be kept in."""
    from rich.text import Text

    from redpencil import terminal
    from redpencil.sandbox import RUNG_VARIABLE, Rung
    from redpencil.sandbox.trial import try_out

    with terminal.console.status("trying"):
        trials = list(try_out())
    terminal.console.print(terminal.trials_table(trials))
    for trial in trials:
        if trial.complaint:
            terminal.console.print(f"{trial.rung.value}: {trial.complaint}")
    best = next((trial.rung for trial in trials if not trial.complaint), None)
    if best in (None, Rung.RLIMITS):
        terminal.console.print(
            "Programs cannot be kept in here: redpencil runs none unless asked to with "
            f"{RUNG_VARIABLE}={Rung.RLIMITS.value}, which keeps accidents in, but no attacker."
        )
        raise typer.Exit(1)
    terminal.console.print(Text.assemble("Programs run on the rung ", (best.value, "bold"), "."))
