"""The whole pipeline of a recipe in a row, from tasks to report; unless told otherwise, small.

Started again, it goes on with the first stage that is not done.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal, get_args

from rich.text import Text

from redpencil import pipeline, tables, terminal
from redpencil.checkers import Checker, PythonChecker
from redpencil.compare import Measured
from redpencil.env import Method
from redpencil.files import read_json, read_jsonl, write_jsonl
from redpencil.recipes import Recipe, read
from redpencil.report.entries import NAMES
from redpencil.results import RESULTS, Results
from redpencil.runs import claim_run
from redpencil.tasks import load
from redpencil.types import Task

_Section = Literal["demos", "grpo", "eval"]


def quickstart(folder: Path, recipe: Recipe | None = None, *, command: str = "") -> Path:
    """Run all stages of a recipe that are not done yet; returns the report's path.

    Args:
        recipe: else the one named `quickstart`.
        command: the command that makes the run again, for its record.

    Raises:
        UsageError: the folder holds a run of another recipe, or cannot be written, or the recipe
            is not one of editing.
        MissingDependency: the packages for training are not installed.
    """
    from redpencil.engine.weights import require_torch

    require_torch()
    recipe = recipe or read("quickstart")
    pipeline.require_coherent(recipe, reinforced=True)
    run = _Run(folder, recipe, command)
    run.claim()
    started = time.perf_counter()
    run.make_tasks()
    demonstrations = run.make_demos()
    run.evaluate("direct", "direct", None)
    run.evaluate("base", recipe.demos.method, None)
    sft = run.train_sft(demonstrations)
    run.evaluate("sft", recipe.demos.method, sft)
    grpo = run.train_grpo(sft)
    run.evaluate("grpo", recipe.demos.method, grpo)
    report = run.report()
    run.conclude(report, time.perf_counter() - started)
    return report


class _Run:
    """One run's folder and the stages that fill it."""

    def __init__(self, folder: Path, recipe: Recipe, command: str) -> None:
        self.folder = folder
        self.recipe = recipe
        self.command = command
        self.checker: Checker = PythonChecker()

    def claim(self) -> None:
        if claim_run(self.folder, self.recipe, command=self.command):
            terminal.console.print(f"Going on with the run in {self.folder}.", soft_wrap=True)

    def make_tasks(self) -> None:
        for section in get_args(_Section):
            for path, source in self._files(section).items():
                if not path.exists():
                    found = load(source)
                    terminal.console.print(Text("Tasks", "bold"), f" {section}: {found.summary}")
                    write_jsonl(path, found.tasks)

    def make_demos(self) -> Path:
        (tasks,) = self._tasks("demos")
        return pipeline.make_demos(self.recipe, tasks, self.folder / "demos.jsonl", self.command)

    def train_sft(self, demonstrations: Path) -> Path:
        return pipeline.fine_tune(self.recipe, demonstrations, self.folder / "sft", self.command)

    def train_grpo(self, start: Path) -> Path:
        found, folder = self._tasks("grpo"), self.folder / "grpo"
        return pipeline.reinforce(self.recipe, found, start, self.checker, folder, self.command)

    def evaluate(self, label: str, method: Method, adapter: Path | None) -> None:
        (tasks,), folder = self._tasks("eval"), self.folder / "eval" / label
        title = f"Evaluate: {NAMES[label]}"
        pipeline.evaluate_on(
            self.recipe, tasks, method, adapter, self.checker, folder, title, self.command
        )

    def report(self) -> Path:
        from redpencil.report import from_folder, write

        entries, curves = from_folder(self.folder)
        path = self.folder / "report.html"
        write(path, "redpencil quickstart", entries, curves)
        return path

    def conclude(self, report: Path, seconds: float) -> None:
        measured = [
            Measured(name, read_json(self.folder / "eval" / label / RESULTS, Results))
            for label, name in NAMES.items()
        ]
        terminal.console.print()
        terminal.show_table(tables.at_a_glance(measured))
        terminal.console.print(
            f"\n{measured[0].results.n} broken programs of {self.recipe.eval.tasks}, for "
            f"{self.recipe.model} to mend; {seconds / 60:.1f} minutes.\n"
            "Read the traces:",
            Text(str(report), "bold"),
            soft_wrap=True,
        )

    def _tasks(self, section: _Section) -> list[list[Task]]:
        """Those of each source of a section."""
        return [read_jsonl(path, Task) for path in self._files(section)]

    def _files(self, section: _Section) -> dict[Path, str]:
        """Where the tasks of each of its sources lie."""
        tasks: str | tuple[str, ...] = getattr(self.recipe, section).tasks
        sources = [tasks] if isinstance(tasks, str) else tasks
        names = [section, *(f"{section}-{number}" for number in range(2, len(sources) + 1))]
        paths = [self.folder / "tasks" / f"{name}.jsonl" for name in names]
        return dict(zip(paths, sources, strict=True))
