"""Commands that make data: tasks, demonstrations and faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redpencil.cli.options import (
    Adapter,
    Against,
    AnswerTimeout,
    AtOnce,
    BudgetTokens,
    Corruptions,
    Dialect,
    History,
    Kinds,
    Model,
    RecipeFile,
    Renamed,
    Seed,
    Server,
    Source,
    Temperature,
    Timeout,
    Tokenizer,
    Workers,
    corruption_range,
    given_command,
    taking,
    workers_of,
)

if TYPE_CHECKING:
    from redpencil.dataset import CountTokens, DemoSet, Item
    from redpencil.evaluate import Plan as EvalPlan
    from redpencil.types import Task


def tasks(
    source: Source,
    out: Annotated[
        Path | None, typer.Option(help="Write the tasks that are left as JSON lines.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Leave out tasks whose solution fails or whose broken program passes."
        ),
    ] = False,
    against: Against = None,
) -> None:
    """List the tasks of a source, export them, or check them.

    What is left out is named, with exit code 1. The digest tells later which tasks they were.
    """
    from rich.text import Text

    from redpencil.files import write_jsonl
    from redpencil.tasks import load, tasks_sha256
    from redpencil.terminal import console

    found = load(source)
    kept: Sequence[Task] = found.tasks
    if check:
        kept = _that_hold(kept)
    if against:
        kept = _that_are_no_problem_of(against, kept)
    if out is not None:
        write_jsonl(out, kept)
    elif not check and not against:
        for task in kept:
            first_line = task.prompt.split("\n")[0]
            split = Text(task.split, "dim")
            console.print(f"{task.id} ", split, f" {first_line}", soft_wrap=True)
    complete = len(kept) == len(found.tasks)
    console.print(found.summary, style="bold", soft_wrap=True)
    of = "" if complete else f" of the {len(kept)} left"
    console.print(f"sha256{of}: {tasks_sha256(kept)}", soft_wrap=True)
    if not complete:
        raise typer.Exit(1)


def _that_hold(tasks: Sequence[Task]) -> list[Task]:
    """The tasks that hold; the others are named."""
    from redpencil.checkers import PythonChecker
    from redpencil.tasks import verify
    from redpencil.terminal import console

    findings = verify(tasks, PythonChecker())
    for finding in findings:
        if finding.complaint:
            said = f"{finding.task.id}: {finding.complaint}"
            console.print(said, soft_wrap=True)
    solutions = [finding.solution.solved for finding in findings if finding.solution]
    broken = [not finding.program.solved for finding in findings if finding.program]
    if solutions:
        console.print(f"{sum(solutions)} of {len(solutions)} solutions pass their own tests.")
    if broken:
        hidden = sum(finding.only_hidden for finding in findings)
        console.print(
            f"{sum(broken)} of {len(broken)} broken programs fail them, {hidden} only hidden ones."
        )
    return [finding.task for finding in findings if not finding.complaint]


def _that_are_no_problem_of(sources: Sequence[str], tasks: Sequence[Task]) -> list[Task]:
    """The tasks that are no problem of other sources; the others are named."""
    from redpencil.tasks import load
    from redpencil.tasks.overlap import disjoint
    from redpencil.terminal import console

    others = [task for source in sources for task in load(source).tasks]
    kept, same = disjoint(tasks, others)
    for task, other in same:
        said = f"{task.id}: the same problem as {other.id}"
        console.print(said, soft_wrap=True)
    console.print(
        f"{len(same)} of {len(tasks)} tasks are a problem of {', '.join(sources)}, "
        "by their words or solution.",
        soft_wrap=True,
    )
    return kept


def demos(
    source: Annotated[str, typer.Option("--tasks", help="Task source with solutions.")],
    out: Annotated[Path, typer.Option(help="File of traces to write (JSON lines).")],
    recipe: RecipeFile = None,
    per_task: Annotated[int, typer.Option(min=1, help="Demonstrations of each task.")] = 3,
    method: Annotated[
        Literal["coe", "in-place", "direct", "reasoning"],
        typer.Option(
            help="By editing, each line written at once or in its place, or the solution as one "
            "answer, at once or after saying what is wrong; the same programs are broken for all."
        ),
    ] = "coe",
    order: Annotated[
        Literal["direct", "inverse", "both"],
        typer.Option(
            help="Write correct lines only, undo corruptions as the paper does, or half of each."
        ),
    ] = "direct",
    corruptions: Corruptions = "1-5",
    kinds: Kinds = "all",
    against: Against = None,
    stumbles: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Chance that a turn is a bad command, which is shown and not taught.",
        ),
    ] = 0.0,
    renamed: Renamed = 0.0,
    history: History = True,
    timeout: Timeout = 0.5,
    tokenizer: Tokenizer = None,
    workers: Workers = "local",
    seed: Seed = 0,
) -> None:
    """Make demonstrations: corrupted programs and the commands that mend them, replayed.

    The same command again goes on where it stopped. A card of what was made lies beside the file.
    """
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.dataset import Plan, demo_set
    from redpencil.sandbox import Limits
    from redpencil.tasks import load, load_other_splits, tasks_sha256

    found = load(source)
    terminal.console.print(found.summary, style="dim", soft_wrap=True)
    apart = [task for other in against or () for task in load(other).tasks]
    plan = Plan(
        tasks=source,
        tasks_sha256=tasks_sha256(found.tasks),
        against_sha256=tasks_sha256(apart) if apart else None,
        per_task=per_task,
        method=method,
        order=order,
        corruptions=corruption_range(corruptions),
        kinds=kinds,
        stumbles=stumbles,
        renamed=renamed,
        history=history,
        seed=seed,
        timeout=timeout,
        tokenizer=tokenizer,
    )
    others, checker = [*load_other_splits(source), *apart], PythonChecker(Limits(wall=timeout))
    _write(out, demo_set(plan, found.tasks, others, checker), tokenizer, workers)


@dataclass(frozen=True, kw_only=True)
class CorrectionOptions:
    """What `corrections` takes."""

    traces: Annotated[list[Path], typer.Argument(help="Files of a model's traces, by `rollout`.")]
    out: Annotated[Path, typer.Option(help="File of traces to write (JSON lines).")]
    cuts: Annotated[
        int, typer.Option(min=1, help="Corrections of each failed trace, each from another place.")
    ] = 1
    against: Against = None
    history: History = True
    timeout: Timeout = 0.5
    tokenizer: Tokenizer = None
    workers: Workers = "local"
    seed: Seed = 0


@taking(CorrectionOptions)
def corrections(options: CorrectionOptions) -> None:
    """Correct a model's failed traces: what it did up to a turn, and from there a teacher.

    The model's commands are shown, the teacher's are learned. The same command again goes on where
    it stopped. A card of what was made lies beside the file.
    """
    from redpencil.checkers import PythonChecker
    from redpencil.corrections import Plan, correction_set
    from redpencil.files import read_jsonl, sha256
    from redpencil.sandbox import Limits
    from redpencil.tasks import load, tasks_sha256
    from redpencil.types import Trace

    traces = [trace for path in options.traces for trace in read_jsonl(path, Trace)]
    others = [task for source in options.against or () for task in load(source).tasks]
    plan = Plan(
        traces_sha256=sha256(traces),
        against_sha256=tasks_sha256(others),
        cuts=options.cuts,
        history=options.history,
        timeout=options.timeout,
        tokenizer=options.tokenizer,
        seed=options.seed,
    )
    checker = PythonChecker(Limits(wall=options.timeout))
    demos = correction_set(plan, traces, others, checker)
    _write(options.out, demos, options.tokenizer, options.workers)


def _write(out: Path, demos: DemoSet[Item], tokenizer: str | None, workers: Workers) -> None:
    """Make a set of demonstrations, and say what is in it."""
    from redpencil import terminal
    from redpencil.dataset import write_demos

    with workers_of(workers) as cluster, terminal.demos_progress(len(demos.items)) as on_task:
        card = write_demos(
            out,
            demos,
            workers=cluster,
            count_tokens=None if tokenizer is None else _token_counter(tokenizer),
            command=given_command(),
            on_task=on_task,
        )
    terminal.console.print(terminal.demos_summary(card.summary))
    terminal.console.print(f"The card is {out.with_suffix('.card.md')}.", soft_wrap=True)


def _token_counter(model: str) -> CountTokens:
    from redpencil.engine.weights import load_tokenizer

    tokenizer = load_tokenizer(model)

    def count(texts: Sequence[str]) -> int:
        return sum(map(len, tokenizer(list(texts), add_special_tokens=False)["input_ids"]))

    return count


@dataclass(frozen=True, kw_only=True)
class FaultOptions:
    """What `faults` takes."""

    source: Source
    out: Annotated[Path, typer.Option(help="File of tasks to write (JSON lines).")]
    model: Model = "smollm2-135m"
    adapter: Adapter = None
    server: Server = None
    dialect: Dialect = "chat"
    budget_tokens: BudgetTokens = None
    at_once: AtOnce = None
    answer_timeout: AnswerTimeout = None
    samples: Annotated[int, typer.Option(min=1, help="Programs written for each task.")] = 4
    temperature: Temperature = 0.8
    shots: Annotated[int, typer.Option(min=0, help="Solved tasks shown before each task.")] = 3
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many tasks.")] = None
    workers: Workers = "local"
    seed: Seed = 0

    def plan(self) -> EvalPlan:
        """What is to be sampled."""
        from redpencil.evaluate import Plan

        return Plan(
            method="write",
            tasks=self.source,
            base_model=self.model,
            adapter=str(self.adapter) if self.adapter else None,
            server=self.server,
            dialect=self.dialect,
            samples=self.samples,
            temperature=self.temperature,
            shots=self.shots,
            limit=self.limit,
            seed=self.seed,
        )


@taking(FaultOptions)
def faults(options: FaultOptions) -> None:
    """Let a model write programs for tasks; those that fail become tasks of repair.

    The same command again goes on where it stopped. What was sampled and the numbers lie beside
    the file.
    """
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.evaluate import Asking
    from redpencil.faults import sample_faults
    from redpencil.players import players
    from redpencil.tasks import load, load_examples

    plan = options.plan()
    found = load(plan.tasks)
    terminal.console.print(found.summary, style="dim", soft_wrap=True)
    examples = load_examples(plan.tasks) if plan.shots else ()
    total = len(found.tasks[: plan.limit]) * plan.samples
    with workers_of(options.workers) as cluster:
        asking = Asking(options.budget_tokens, options.at_once, options.answer_timeout)
        play = players(plan, cluster, asking)
        with terminal.solved_progress("Programs written", total) as on_trace:
            record = sample_faults(
                options.out,
                plan,
                found.tasks,
                examples,
                play,
                PythonChecker(),
                command=given_command(),
                on_trace=on_trace,
            )
    terminal.console.print(terminal.faults_table(record.summary))
