"""Commands for a person's own files: a program and its tests."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redpencil.cli.options import (
    Adapter,
    Candidates,
    Decoding,
    MaxTurns,
    Model,
    Tests,
    Timeout,
)
from redpencil.errors import UsageError

if TYPE_CHECKING:
    from redpencil.checkers import PythonChecker
    from redpencil.env import Method


def check(
    program: Annotated[Path, typer.Argument(help="The program, a Python file.")],
    tests: Tests,
    timeout: Timeout = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Run one program against a file of tests; exit code 0 only when all pass."""
    import msgspec
    from rich.text import Text

    from redpencil.checkers import judge
    from redpencil.checkers.testfile import read_tests
    from redpencil.repair import repair_task
    from redpencil.terminal import console

    task = repair_task(_program(program), *read_tests(tests))
    with _files_checker(timeout, program.stem) as checker:
        verdict = judge(checker, task.program or "", task)
    if as_json:
        fields = ("status", "passed", "total", "detail", "seconds", "rung", "inside")
        sys.stdout.buffer.write(
            msgspec.json.encode({name: getattr(verdict, name) for name in fields}) + b"\n"
        )
    else:
        colour = "green" if verdict.solved else "red"
        inside = f", {verdict.inside} judged inside" if verdict.inside else ""
        console.print(
            Text(verdict.status.value.replace("_", " "), colour),
            f"{verdict.passed} of {verdict.total} tests pass ({verdict.seconds:.2f} s{inside})",
            sep=": ",
        )
        if verdict.detail:
            console.print(verdict.detail, soft_wrap=True)
    raise typer.Exit(0 if verdict.solved else 1)


def repair(
    file: Annotated[Path, typer.Argument(help="The broken program, a Python file.")],
    tests: Tests,
    adapter: Adapter = None,
    model: Model = "smollm2-135m",
    prompt: Annotated[str | None, typer.Option(help="What the program should do.")] = None,
    method: Annotated[
        Literal["coe", "in-place", "direct", "both"],
        typer.Option(
            help="What the adapter was taught: to edit, each line written at once (coe) or in its "
            "place, or to write the whole program anew; both: coe and direct, in turn."
        ),
    ] = "coe",
    attempts: Annotated[
        int, typer.Option(min=1, help="The first of each method greedy, others sampled.")
    ] = 4,
    max_turns: MaxTurns = 10,
    timeout: Timeout = 10.0,
    decoding: Decoding = "free",
    candidates: Candidates = 8,
    write: Annotated[bool, typer.Option("--write", help="Write the repair to the file.")] = False,
) -> None:
    """Repair a program so that it passes tests, and print a diff."""
    from redpencil import terminal
    from redpencil.checkers.testfile import read_tests
    from redpencil.editor import file_text
    from redpencil.engine.weights import load_model
    from redpencil.files import atomic_write
    from redpencil.repair import DEFAULT_PROMPT, repair_task, require_broken
    from redpencil.repair import repair as run

    methods: list[Method] = ["coe", "direct"] if method == "both" else [method]
    if decoding != "free" and "direct" in methods:
        raise UsageError("--decoding: only edits have a grammar")
    text = _program(file)
    task = repair_task(text, *read_tests(tests), prompt or DEFAULT_PROMPT)
    with _files_checker(timeout, file.stem) as checker:
        require_broken(task, checker)
        weights = load_model(model, adapter or _default_adapter(model))
        from redpencil.engine.local import LocalEngine
        from redpencil.policy import ModelPolicy

        engine = LocalEngine(*weights)
        policies = (
            ModelPolicy(
                engine,
                model,
                temperature=0.0 if attempt < len(methods) else 0.8,
                decoding=decoding,
                candidates=candidates,
            )
            for attempt in range(attempts)
        )
        with terminal.progress("Repair", attempts, terminal.errors) as advance:
            for trace in run(task, policies, checker, methods=methods, max_turns=max_turns):
                advance("repaired" if trace.solved else "not yet")
    if not trace.solved:
        terminal.errors.print(f"Not repaired in {attempts} attempts: try more with --attempts.")
        raise typer.Exit(1)
    repaired = file_text(trace.final.page, text)
    terminal.show_diff(terminal.diff(text, repaired, str(file)))
    if write:
        with atomic_write(file) as target:
            target.write(repaired.encode())
        terminal.errors.print(f"Written to {file}.", soft_wrap=True)


def _default_adapter(model: str) -> Path | None:
    """The adapter on board, for the model that it is for."""
    from redpencil.engine.weights import ALIAS, ON_BOARD

    return Path(ON_BOARD) if model == ALIAS else None


def _program(path: Path) -> str:
    """The text of a Python file, which may well be broken, with its byte-order mark if any."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a Python file: it is not UTF-8 text") from error


@contextlib.contextmanager
def _files_checker(timeout: float, module: str) -> Iterator[PythonChecker]:
    """A checker for a person's own files, which may import what is installed beside redpencil."""
    import sysconfig

    from redpencil.checkers import PythonChecker
    from redpencil.sandbox import Limits, Sandbox, rung_asked_for

    packages = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    with Sandbox(rung_asked_for(), workers=1, packages=list(packages)) as sandbox:
        yield PythonChecker(Limits(wall=timeout), sandbox, trusting=True, imported_as=module)
