"""The whole pipeline at the size of a coffee break: tasks to report, on the problems on board.

Each stage leaves a file or folder that says it is done; started again, the quickstart goes on with
the first stage that is not, and that stage from its own last checkpoint.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from pathlib import Path

from redpencil import demos, provenance, terminal
from redpencil.checkers import Checker, PythonChecker
from redpencil.corrupt import Kinds
from redpencil.dataset import summarise
from redpencil.env import EditRules
from redpencil.errors import UsageError
from redpencil.evaluate import RESULTS, Method, Plan, Results, evaluate
from redpencil.files import read_json, read_jsonl, write_json, write_jsonl
from redpencil.report.entries import NAMES
from redpencil.tasks import load
from redpencil.types import Split, Task, Trace, Value


class Quickstart(Value, frozen=True):
    """The sizes of the quickstart, chosen to take about a quarter of an hour on two cores."""

    model: str = "smollm2-135m"
    demos_per_task: int = 4
    corruptions: tuple[int, int] = (1, 2)
    kinds: Kinds = "slips"
    order: demos.Order = "direct"
    learning_rate: float = 1e-3
    epochs: float = 1.0
    batch: int = 2
    grpo_steps: int = 3
    grpo_tasks_per_step: int = 4
    grpo_learning_rate: float = 1e-4
    eval_variants: int = 2
    max_turns: int = 6
    idle_turns: int = 2
    seed: int = 0


class _RunRecord(Value, frozen=True):
    """`run.json`: what the run's numbers were made with."""

    recipe: Quickstart
    command: str
    versions: dict[str, str]
    machine: str
    git_commit: str


def quickstart(folder: Path, recipe: Quickstart | None = None) -> Path:
    """Run all stages that are not done yet; returns the report's path.

    Raises:
        UsageError: the folder holds a run of another recipe, or cannot be written.
        MissingDependency: the packages for training are not installed.
    """
    from redpencil.engine.weights import require_torch

    require_torch()
    run = _Run(folder, recipe or Quickstart())
    run.claim()
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

    def __init__(self, folder: Path, recipe: Quickstart) -> None:
        self.folder = folder
        self.recipe = recipe
        self.checker: Checker = PythonChecker()
        self.rules = EditRules(max_turns=recipe.max_turns, idle_turns=recipe.idle_turns)

    def claim(self) -> None:
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
            command=f"redpencil quickstart --out {shlex.quote(str(self.folder))}",
            versions=provenance.versions(),
            machine=provenance.machine(),
            git_commit=provenance.git_commit(),
        )
        write_json(path, record)

    def make_tasks(self) -> None:
        path = self.folder / "tasks.jsonl"
        if not path.exists():
            found = load("builtin")
            terminal.console.print(f"[bold]Tasks[/]  {found.summary}")
            write_jsonl(path, found.tasks)

    def make_demos(self) -> None:
        path = self.folder / "demos.jsonl"
        if path.exists():
            return
        variants = self._broken("train", self.recipe.demos_per_task)
        kept: list[Trace] = []
        drops: Counter[demos.Drop] = Counter()
        with terminal.progress("Demonstrations", len(variants)) as advance:
            for made in demos.demonstrate(variants, self.checker, order=self.recipe.order):
                if isinstance(made, Trace):
                    kept.append(made)
                else:
                    drops[made] += 1
                advance("")
        write_json(self.folder / "demos.json", summary := summarise(kept, drops))
        write_jsonl(path, kept)
        terminal.console.print(terminal.demos_summary(summary), style="dim")

    def evaluate(self, label: str, method: Method, adapter: Path | None) -> Results:
        folder = self.folder / "eval" / label
        if (folder / RESULTS).exists():
            return read_json(folder / RESULTS, Results)
        from redpencil.engine.local import LocalEngine
        from redpencil.engine.weights import load_model
        from redpencil.policy import ModelPolicy

        recipe = self.recipe
        plan = Plan(
            method=method,
            tasks="builtin:test",
            base_model=recipe.model,
            adapter=str(adapter) if adapter else None,
            rules=self.rules,
            variants=recipe.eval_variants,
            corruptions=recipe.corruptions,
            kinds=recipe.kinds,
            seed=recipe.seed,
        )
        broken = self._broken("test", recipe.eval_variants)
        policy = ModelPolicy(LocalEngine(*load_model(recipe.model, adapter)), label, temperature=0)
        solved: list[bool] = []
        with terminal.progress(f"Evaluate: {NAMES[label]}", len(broken)) as advance:

            def on_trace(trace: Trace) -> None:
                solved.append(trace.solved)
                advance(f"{sum(solved)} of {len(solved)} solved")

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
            from redpencil.train.sft import SftRecipe, train_sft

            recipe = SftRecipe(
                model=self.recipe.model,
                learning_rate=self.recipe.learning_rate,
                epochs=self.recipe.epochs,
                batch=self.recipe.batch,
                seed=self.recipe.seed,
            )
            traces = read_jsonl(self.folder / "demos.jsonl", Trace)
            with terminal.training_progress("Fine-tune on them (SFT)") as update:
                train_sft(traces, recipe, folder, update)
        return folder / "adapter"

    def train_grpo(self, start: Path) -> Path:
        folder = self.folder / "grpo"
        if not (folder / "adapter").exists():
            from redpencil.train.grpo import GrpoRecipe, train_grpo

            recipe = GrpoRecipe(
                model=self.recipe.model,
                steps=self.recipe.grpo_steps,
                tasks_per_step=self.recipe.grpo_tasks_per_step,
                learning_rate=self.recipe.grpo_learning_rate,
                rules=self.rules,
                checkpoint_every=1,
                seed=self.recipe.seed,
            )
            variants = self._broken("train", 1, seed=self.recipe.seed + 1)
            with terminal.training_progress("Reinforce (GRPO)") as update:
                train_grpo(variants, start, recipe, self.checker, folder, update)
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
            f"\n{rows[0][1].n} broken programs that no training saw, of {self.recipe.model}; "
            f"{seconds / 60:.1f} minutes.\nRead the traces: [bold]{report}[/]"
        )

    def _broken(self, split: Split, per_task: int, seed: int | None = None) -> list[demos.Broken]:
        tasks = read_jsonl(self.folder / "tasks.jsonl", Task)
        return list(
            demos.broken_variants(
                [task for task in tasks if task.split == split],
                per_task,
                self.recipe.corruptions,
                self.recipe.seed if seed is None else seed,
                self.checker,
                kinds=self.recipe.kinds,
            )
        )


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
    return shlex.join([*words, "--out", str(folder)])
