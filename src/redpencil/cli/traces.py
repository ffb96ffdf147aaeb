"""Commands that make traces, by a model or by a person."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from redpencil.cli.options import (
    Adapter,
    AnswerTimeout,
    AtOnce,
    BudgetTokens,
    Candidates,
    Context,
    Corruptions,
    Decoding,
    Dialect,
    Dtype,
    History,
    IdleTurns,
    Kinds,
    Limit,
    MaxTurns,
    Method,
    RecipeFile,
    Renamed,
    Samples,
    Seed,
    Server,
    Source,
    Temperature,
    UntilSolved,
    Variants,
    Workers,
    corruption_range,
    given_command,
    taking,
    workers_of,
)
from redpencil.errors import UsageError

if TYPE_CHECKING:
    from redpencil.checkers import PythonChecker
    from redpencil.demos import Broken
    from redpencil.evaluate import Plan
    from redpencil.rollout import Play


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `eval` takes."""

    source: Source
    out: Annotated[Path, typer.Option(help="Folder for traces.jsonl and results.json.")]
    recipe: RecipeFile = None
    method: Method = "coe"
    model: Annotated[
        str,
        typer.Option(
            help="Hugging Face id, folder, or smollm2-135m; or, without a model, the bounds of "
            "editing: oracle, random-edit."
        ),
    ] = "smollm2-135m"
    adapter: Adapter = None
    server: Server = None
    dialect: Dialect = "chat"
    budget_tokens: BudgetTokens = None
    at_once: AtOnce = None
    answer_timeout: AnswerTimeout = None
    shots: Annotated[
        int, typer.Option(min=0, help="Solved tasks shown before the one to solve, if not edited.")
    ] = 0
    samples: Samples = 1
    temperature: Temperature = 0.0
    dtype: Dtype = "auto"
    context: Context = 2048
    decoding: Decoding = "free"
    candidates: Candidates = 1
    limit: Limit = None
    variants: Variants = 1
    corruptions: Corruptions = "1-3"
    kinds: Kinds = "all"
    renamed: Renamed = 0.0
    max_turns: MaxTurns = 10
    idle_turns: IdleTurns = None
    until_solved: UntilSolved = False
    history: History = True
    workers: Workers = "local"
    seed: Seed = 0

    def plan(self) -> Plan:
        """What is to be sampled."""
        from redpencil.env import EditRules
        from redpencil.evaluate import Plan
        from redpencil.recipes import read

        rules = read(self.recipe).eval.rules if self.recipe else EditRules()
        return Plan(
            method=self.method,
            tasks=self.source,
            base_model=self.model,
            adapter=str(self.adapter) if self.adapter else None,
            server=self.server,
            dialect=self.dialect,
            shots=self.shots,
            samples=self.samples,
            temperature=self.temperature,
            dtype=self.dtype,
            context=self.context,
            decoding=self.decoding,
            candidates=self.candidates,
            rules=msgspec.structs.replace(
                rules,
                max_turns=self.max_turns,
                idle_turns=self.idle_turns,
                until_solved=self.until_solved,
                history=self.history,
            ),
            limit=self.limit,
            variants=self.variants,
            corruptions=corruption_range(self.corruptions),
            kinds=self.kinds,
            renamed=self.renamed,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class RolloutOptions(EvalOptions):
    """What `rollout` takes: the same, with other defaults."""

    out: Annotated[Path, typer.Option(help="File of traces to write (JSON lines).")]
    samples: Samples = 4
    temperature: Temperature = 1.0


@taking(EvalOptions)
def evaluate(options: EvalOptions) -> None:
    """Measure how many broken programs a model repairs."""
    from redpencil import tables, terminal
    from redpencil.compare import Measured
    from redpencil.evaluate import evaluate as run
    from redpencil.tasks.source import counted

    plan, out = options.plan(), options.out
    with (
        _set_up(plan, options) as (broken, play, checker),
        terminal.solved_progress("Evaluate", len(broken) * plan.samples) as on_trace,
    ):
        results = run(plan, broken, play, checker, out, command=given_command(), on_trace=on_trace)
    terminal.show_table(tables.at_a_glance([Measured(plan.method, results)]))
    if short := results.by_end.get("cut_short"):
        terminal.console.print(
            f"{counted(short.traces, 'trace')} ended for want of room in the context; "
            "--context gives more to a model that runs here.",
            soft_wrap=True,
        )


@taking(RolloutOptions)
def rollout(options: RolloutOptions) -> None:
    """Sample a model's traces to a file; the same command again goes on where it stopped."""
    from redpencil import terminal
    from redpencil.evaluate import sample

    plan, out = options.plan(), options.out
    with (
        _set_up(plan, options) as (broken, play, checker),
        terminal.solved_progress("Sample", len(broken) * plan.samples) as on_trace,
    ):
        traces = sample(plan, broken, play, checker, out, on_trace=on_trace)
    solved = sum(trace.solved for trace in traces)
    terminal.console.print(
        f"{len(traces)} traces in {out}, {solved} of them solved.", soft_wrap=True
    )


def play(
    task_id: Annotated[
        str | None, typer.Argument(metavar="[TASK]", help="The task's id; default any.")
    ] = None,
    source: Annotated[str, typer.Option("--tasks", help="Task source.")] = "builtin",
    out: Annotated[Path | None, typer.Option(help="Append the trace to this file.")] = None,
    corruptions: Corruptions = "1",
    kinds: Kinds = "all",
    max_turns: MaxTurns = 10,
    seed: Seed = 0,
) -> None:
    """Be the policy yourself: see what a model sees, and mend the program command by command."""
    from rich.text import Text

    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.demos import broken_variants, donors
    from redpencil.env import EditEnv, EditRules
    from redpencil.files import append_jsonl, require_appendable
    from redpencil.policy import HumanPolicy
    from redpencil.rollout import Episode
    from redpencil.rollout import rollout as run
    from redpencil.tasks import load, pick
    from redpencil.types import Trace

    checker = PythonChecker()
    found = load(source).tasks
    task, lines = pick(found, task_id, seed), donors(found)
    made = broken_variants(
        [task], 1, corruption_range(corruptions), seed, checker, lines=lines, kinds=kinds
    )
    broken = next(made, None)
    if broken is None:
        raise UsageError(f"{task.id} cannot be broken so that its tests notice: take another task")
    if out is not None:
        require_appendable(out, Trace)
    terminal.console.print(Text.assemble((task.id, "bold"), ": Ctrl-D gives up.\n"), soft_wrap=True)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # A byte that is not text then spoils one command, not the episode.
        sys.stdin.reconfigure(errors="replace")
    policy = HumanPolicy(terminal.show_page, terminal.ask_command)
    env = EditEnv(broken.task, checker, EditRules(max_turns=max_turns))
    (trace,) = run([Episode(env, seed, broken.corruptions)], policy)
    if out is not None:
        append_jsonl(out, [trace])
    terminal.console.print(terminal.outcome(trace))
    raise typer.Exit(0 if trace.solved else 1)


@contextlib.contextmanager
def _set_up(plan: Plan, options: EvalOptions) -> Iterator[tuple[list[Broken], Play, PythonChecker]]:
    """The broken programs of a plan, and who is to mend and to check them."""
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.evaluate import Asking, choose
    from redpencil.players import players
    from redpencil.tasks import load

    found = load(plan.tasks)
    terminal.console.print(found.summary, style="dim", soft_wrap=True)
    checker = PythonChecker()
    chosen = choose(plan, found.tasks, checker)
    terminal.show_remarks(chosen)
    with workers_of(options.workers) as cluster:
        asking = Asking(options.budget_tokens, options.at_once, options.answer_timeout)
        yield chosen.broken, players(plan, cluster, asking), checker
