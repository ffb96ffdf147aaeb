"""What a run was begun with: `run.json` in its folder, from which its numbers can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from redpencil import provenance
from redpencil.errors import UsageError
from redpencil.files import first_difference, read_json, write_json
from redpencil.types import Value

RUN = "run.json"


class Run(Value, frozen=True):
    """The content of `run.json`."""

    settings: dict[str, Any]
    inputs: dict[str, str]
    """SHA-256 of what the run was given, by what it is, such as `demonstrations`."""
    command: str
    """The command that makes the run again."""
    versions: dict[str, str]
    machine: str
    git_commit: str


Made = TypeVar("Made", bound=Value)


def as_made(value: Made, path: Path) -> Made:
    """Something that is only looked at again, as its file says how it was made.

    Args:
        value: has `command`, `versions`, `machine` and `git_commit` of today.
        path: of the file that it was written to, if there is one.
    """
    before = read_json(path, dict[str, Any]) if path.exists() else {}
    kept = before.keys() & {"command", "versions", "machine", "git_commit"}
    return msgspec.structs.replace(value, **{name: before[name] for name in kept})


def claim_run(
    folder: Path, settings: Value, inputs: Mapping[str, str] | None = None, *, command: str = ""
) -> bool:
    """Write down what a run is begun with; returns whether the folder holds that run already.

    Raises:
        UsageError: it holds another run, or cannot be written.
    """
    path = folder / RUN
    run = Run(
        settings=msgspec.json.decode(msgspec.json.encode(settings)),
        inputs=dict(inputs or {}),
        command=command,
        versions=provenance.versions(),
        machine=provenance.machine(),
        git_commit=provenance.git_commit(),
    )
    if not path.exists():
        write_json(path, run)
        return False
    before = read_json(path, Run)
    then, now = before.settings | before.inputs, run.settings | run.inputs
    if differing := first_difference(then, now):
        # A digest does not say which option made it another.
        begun = f", begun by `{before.command}`" if before.command else ""
        raise UsageError(
            f"{folder} holds a run with other settings ({differing}){begun}: "
            "name another folder with --out, or delete it"
        )
    return True
