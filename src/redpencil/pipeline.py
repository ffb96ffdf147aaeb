"""The stages of a recipe, from tasks to an evaluation, each in a file or folder of its own.

A stage that is done is not done again, and one that was interrupted goes on from where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from redpencil import demos, terminal
from redpencil.checkers import Checker, PythonChecker
from redpencil.dataset import Plan as DemosPlan
from redpencil.dataset import card_of, demo_set, write_demos
from redpencil.env import EDITS, Method
from redpencil.errors import UsageError
from redpencil.evaluate import Plan, choose, evaluate
from redpencil.files import read_json, read_jsonl
from redpencil.players import players
from redpencil.recipes import GrpoSection, Recipe
from redpencil.results import RESULTS, Results
from redpencil.sandbox import Limits
from redpencil.tasks import load_other_splits, tasks_sha256, to_train_on
from redpencil.train import ADAPTER
from redpencil.types import Task, Trace


def require_coherent(recipe: Recipe, *, reinforced: bool) -> None:
    """Make sure that a recipe's stages fit together when they are run in a row.

    Args:
        reinforced: GRPO is one of them.

    Raises:
        UsageError: they are not of editing, or teach one way of it and reinforce another, or teach
            one kind of context and measure another, or one that GRPO cannot train on.
    """
    if recipe.demos.method not in EDITS:
        raise UsageError(
            "stages are run in a row for editing alone: with another `method` in [demos], run "
            "them one by one (redpencil demos, sft, rl, eval)"
        )
    if reinforced and recipe.demos.method != recipe.grpo.method:
        raise UsageError(
            "`method` in [demos] and in [grpo] differ: the model would be reinforced in another "
            "way of repair than it was taught"
        )
    if recipe.demos.history != recipe.eval.rules.history:
        raise UsageError(
            "`history` in [demos] and `rules.history` in [eval] differ: the model would be shown "
            "another context than it was taught on"
        )
    if reinforced and not (recipe.demos.history and recipe.grpo.rules.history):
        raise UsageError(
            "GRPO trains on a trace as one sequence, which has to keep its history: leave out "
            "`history` in [demos], and `rules.history` in [grpo] and [eval]"
        )


def make_demos(recipe: Recipe, tasks: Sequence[Task], path: Path, command: str = "") -> Path:
    """Make a recipe's demonstrations of tasks; returns the file of traces, as given.

    Args:
        command: the command that makes the run again, for its record; so below.

    Raises:
        UsageError: the file holds others, or is no longer what its card says.
    """
    if card_of(path):
        return path
    plan = DemosPlan(
        **msgspec.structs.asdict(recipe.demos),
        tasks_sha256=tasks_sha256(tasks),
        seed=recipe.seed,
    )
    others = load_other_splits(recipe.demos.tasks)
    wanted = demo_set(plan, tasks, others, PythonChecker(Limits(wall=plan.timeout)))
    with terminal.demos_progress(len(wanted.items)) as on_task:
        card = write_demos(path, wanted, command=command, on_task=on_task)
    terminal.console.print(terminal.demos_summary(card.summary), style="dim")
    return path


def fine_tune(recipe: Recipe, demonstrations: Path, folder: Path, command: str = "") -> Path:
    """Fine-tune a recipe's model on a file of demonstrations; returns the adapter's folder."""
    if not (folder / ADAPTER).exists():
        from redpencil.train.sft import train_sft

        traces = read_jsonl(demonstrations, Trace)
        with terminal.training_progress("Fine-tune on them (SFT)") as update:
            train_sft(traces, recipe.sft, folder, update, command=command)
    return folder / ADAPTER


def to_reinforce_on(
    section: GrpoSection, found: Sequence[Sequence[Task]], seed: int, checker: Checker
) -> list[demos.Broken]:
    """The programs that reinforcement is done on: tasks broken anew, those of sources mixed.

    Args:
        found: the tasks of each of the section's sources.
    """
    groups = [
        list(
            demos.broken_variants(
                tasks,
                section.variants,
                section.corruptions,
                seed,
                checker,
                kinds=section.kinds,
                renamed=section.renamed,
            )
        )
        for tasks in found
    ]
    programs = groups[0]
    if len(groups) > 1:
        weights = section.weights or [1.0] * len(groups)
        programs = demos.mixture(groups, weights, section.steps * section.tasks_per_step, seed)
    return list(demos.some_intact(programs, section.intact, seed, checker))


def reinforce(
    recipe: Recipe,
    found: Sequence[Sequence[Task]],
    start: Path,
    checker: Checker,
    folder: Path,
    command: str = "",
) -> Path:
    """Train an adapter further on tasks broken anew; returns the new adapter's folder.

    Args:
        found: the tasks of each of the recipe's sources for this.
    """
    if not (folder / ADAPTER).exists():
        from redpencil.train.grpo import train_grpo

        sources = zip(found, recipe.grpo.tasks, strict=True)
        kept = [to_train_on(tasks, source)[0] for tasks, source in sources]
        programs = to_reinforce_on(recipe.grpo, kept, recipe.seed + 1, checker)
        with terminal.training_progress("Reinforce (GRPO)") as update:
            train_grpo(programs, start, recipe.grpo, checker, folder, update, command=command)
    return folder / ADAPTER


def evaluate_on(
    recipe: Recipe,
    tasks: Sequence[Task],
    method: Method,
    adapter: Path | None,
    checker: Checker,
    folder: Path,
    title: str,
    command: str = "",
) -> Results:
    """Let a recipe's model, with an adapter or without, repair the recipe's programs.

    Args:
        title: stands beside the progress bar.
    """
    if (folder / RESULTS).exists():
        found = read_json(folder / RESULTS, Results)
        if not found.errors:
            return found
    section = recipe.eval
    plan = Plan(
        method=method,
        tasks=section.tasks,
        base_model=recipe.model,
        adapter=str(adapter) if adapter else None,
        samples=section.samples,
        temperature=section.temperature,
        decoding=section.decoding if method in EDITS else "free",
        rules=section.rules,
        limit=section.limit,
        variants=section.variants,
        corruptions=section.corruptions,
        kinds=section.kinds,
        seed=recipe.seed,
    )
    chosen = choose(plan, tasks, checker)
    terminal.show_remarks(chosen)
    play = players(plan)
    with terminal.solved_progress(title, len(chosen.broken) * plan.samples) as on_trace:
        return evaluate(
            plan,
            chosen.broken,
            play,
            checker,
            folder,
            command=command,
            on_trace=on_trace,
        )
