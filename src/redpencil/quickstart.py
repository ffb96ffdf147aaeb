"""The whole pipeline of a recipe in a row, from tasks to report; unless told otherwise, small.

Each stage leaves a file or folder that says it is done; started again, the quickstart goes on with
the first stage that is not, and that stage from its own last checkpoint.
"""

from __future__ import annotations

import itertools
import shlex
import time
from pathlib import Path
from typing import Literal, get_args

import msgspec

from redpencil import demos, provenance, terminal
from redpencil.checkers import Checker, PythonChecker
from redpencil.dataset import Plan as DemosPlan
from redpencil.dataset import tasks_sha256, write_demos
from redpencil.env import Method
from redpencil.errors import UsageError
from redpencil.evaluate import RESULTS, Plan, Results, evaluate, make_policy
from redpencil.files import read_json, read_jsonl, write_json, write_jsonl
from redpencil.recipes import Recipe, read
from redpencil.report.entries import NAMES
from redpencil.sandbox import Limits
from redpencil.tasks import load, load_other_splits
from redpencil.types import Task, Trace, Value

_Section = Literal["demos", "grpo", "eval"]


class _RunRecord(Value, frozen=True):
    """`run.json`: what the run's numbers were made with."""

    recipe: Recipe
    command: str
    versions: dict[str, str]
    machine: str
    git_commit: str


def quickstart(folder: Path, recipe: Recipe | None = None, *, command: str = "") -> Path:
    """Run all stages of a recipe that are not done yet; returns the report's path.

    Args:
        recipe: else the one named `quickstart`.
        command: the command that makes the run again, for its record.

    Raises:
        UsageError: the folder holds a run of another recipe, or cannot be written.
        MissingDependency: the packages for training are not installed.
    """
    from redpencil.engine.weights import require_torch

    require_torch()
    run = _Run(folder, recipe or read("quickstart"))
    run.claim(command)
    started = time.perf_counter()
    run.make_tasks()
    run.make_demos()
    run.evaluate("direct", "direct", None)
    run.evaluate("base", "coe", None)
    sft = run.train_sft()
    run.evaluate("sft", "coe", sft)
    grpo = run.train_grpo(sft)
    run.evaluate("grpo", "coe", grpo)
    report = run.report()
    run.conclude(report, time.perf_counter() - started)
    return report


class _Run:
    """One run's folder and the stages that fill it."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.recipe = recipe
        self.checker: Checker = PythonChecker()

    def claim(self, command: str) -> None:
        path = self.folder / "run.json"
        if path.exists():
            if read_json(path, _RunRecord).recipe != self.recipe:
                raise UsageError(
                    f"{self.folder} holds a run with other settings: "
                    "name another folder with --out, or delete it"
                )
            terminal.console.print(f"Going on with the run in {self.folder}.")
            return
        record = _RunRecord(
            recipe=self.recipe,
            command=command,
            versions=provenance.versions(),
            machine=provenance.machine(),
            git_commit=provenance.git_commit(),
        )
        write_json(path, record)

    def make_tasks(self) -> None:
        for section in get_args(_Section):
            path = self._tasks(section)
            if not path.exists():
                found = load(getattr(self.recipe, section).tasks)
                terminal.console.print(f"[bold]Tasks[/]  {section}: {found.summary}")
                write_jsonl(path, found.tasks)

    def make_demos(self) -> None:
        if (self.folder / "demos.json").exists():
            return
        recipe = self.recipe.demos
        tasks = read_jsonl(self._tasks("demos"), Task)
        plan = DemosPlan(
            **msgspec.structs.asdict(recipe),
            tasks_sha256=tasks_sha256(tasks),
            seed=self.recipe.seed,
        )
        with terminal.demos_progress(len(tasks)) as on_task:
            card = write_demos(
                self.folder / "demos.jsonl",
                plan,
                tasks,
                load_other_splits(recipe.tasks),
                PythonChecker(Limits(wall=recipe.timeout)),
                on_task=on_task,
            )
        terminal.console.print(terminal.demos_summary(card.summary), style="dim")

    def evaluate(self, label: str, method: Method, adapter: Path | None) -> Results:
        folder = self.folder / "eval" / label
        if (folder / RESULTS).exists():
            return read_json(folder / RESULTS, Results)
        recipe = self.recipe.eval
        plan = Plan(
            method=method,
            tasks=recipe.tasks,
            base_model=self.recipe.model,
            adapter=str(adapter) if adapter else None,
            samples=recipe.samples,
            temperature=recipe.temperature,
            constrained=recipe.constrained and method == "coe",
            rules=recipe.rules,
            limit=recipe.limit,
            variants=recipe.variants,
            corruptions=recipe.corruptions,
            kinds=recipe.kinds,
            seed=self.recipe.seed,
        )
        broken = self._broken("eval", recipe.variants, plan.seed, recipe.limit)
        policy = make_policy(plan)
        title, total = f"Evaluate: {NAMES[label]}", len(broken) * plan.samples
        with terminal.solved_progress(title, total) as on_trace:
            return evaluate(
                plan,
                broken,
                policy,
                self.checker,
                folder,
                command=eval_command(plan, self.folder / "eval" / label),
                on_trace=on_trace,
            )

    def train_sft(self) -> Path:
        folder = self.folder / "sft"
        if not (folder / "adapter").exists():
            from redpencil.train.sft import train_sft

            traces = read_jsonl(self.folder / "demos.jsonl", Trace)
            with terminal.training_progress("Fine-tune on them (SFT)") as update:
                train_sft(traces, self.recipe.sft, folder, update)
        return folder / "adapter"

    def train_grpo(self, start: Path) -> Path:
        folder = self.folder / "grpo"
        if not (folder / "adapter").exists():
            from redpencil.train.grpo import train_grpo

            variants = self._broken("grpo", 1, self.recipe.seed + 1)
            with terminal.training_progress("Reinforce (GRPO)") as update:
                train_grpo(variants, start, self.recipe.grpo, self.checker, folder, update)
        return folder / "adapter"

    def report(self) -> Path:
        from redpencil.report import from_folder, write

        entries, curves = from_folder(self.folder)
        path = self.folder / "report.html"
        write(path, "redpencil quickstart", entries, curves)
        return path

    def conclude(self, report: Path, seconds: float) -> None:
        rows = [
            (NAMES[label], read_json(self.folder / "eval" / label / RESULTS, Results))
            for label in NAMES
        ]
        terminal.console.print()
        terminal.console.print(terminal.results_table(rows))
        terminal.console.print(
            f"\n{rows[0][1].n} broken programs of {self.recipe.eval.tasks}, for "
            f"{self.recipe.model} to mend; {seconds / 60:.1f} minutes.\n"
            f"Read the traces: [bold]{report}[/]"
        )

    def _tasks(self, section: _Section) -> Path:
        return self.folder / "tasks" / f"{section}.jsonl"

    def _broken(
        self, section: _Section, per_task: int, seed: int, limit: int | None = None
    ) -> list[demos.Broken]:
        recipe = getattr(self.recipe, section)
        tasks = read_jsonl(self._tasks(section), Task)
        made = demos.broken_variants(
            tasks, per_task, recipe.corruptions, seed, self.checker, kinds=recipe.kinds
        )
        return list(itertools.islice(made, limit))


def eval_command(plan: Plan, folder: Path) -> str:
    """The command line that makes an evaluation's numbers again."""
    words = ["redpencil", "eval", plan.tasks, "--method", plan.method, "--model", plan.base_model]
    if plan.adapter:
        words += ["--adapter", plan.adapter]
    words += ["--variants", str(plan.variants), "--samples", str(plan.samples)]
    words += ["--corruptions", "-".join(map(str, plan.corruptions)), "--kinds", plan.kinds]
    words += ["--max-turns", str(plan.rules.max_turns), "--seed", str(plan.seed)]
    if plan.rules.idle_turns is not None:
        words += ["--idle-turns", str(plan.rules.idle_turns)]
    if plan.limit is not None:
        words += ["--limit", str(plan.limit)]
    if plan.temperature:
        words += ["--temperature", str(plan.temperature)]
    if plan.constrained:
        words.append("--constrained")
    return shlex.join([*words, "--out", str(folder)])
