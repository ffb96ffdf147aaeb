"""The command line: parse, call one function, print.

Exit codes: 0 done (or repaired, or all tests passed), 1 not repaired or not passed, 2 an error
of use, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

import redpencil
from redpencil.errors import RedpencilError, UsageError

if TYPE_CHECKING:
    from redpencil.checkers import PythonChecker
    from redpencil.demos import Broken
    from redpencil.evaluate import Plan
    from redpencil.policy import ModelPolicy
    from redpencil.tasks import TaskSet
    from redpencil.types import Trace

app = typer.Typer(
    name="redpencil",
    help="Small language models that think by editing: one command a turn, on a page that runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
sandbox_app = typer.Typer(help="The sandbox that programs run in.", no_args_is_help=True)
app.add_typer(sandbox_app, name="sandbox")

Model = Annotated[
    str, typer.Option(help="Hugging Face id, folder, or smollm2-135m.", show_default=True)
]
Adapter = Annotated[Path | None, typer.Option(help="Folder of a LoRA adapter for the model.")]
Seed = Annotated[int, typer.Option(help="Settles everything random.")]
Tests = Annotated[Path, typer.Option(help="File of asserts, or of tests as pytest runs them.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that one run of the tests has.")]
Corruptions = Annotated[str, typer.Option(help="Corruptions of a program: a number or LEAST-MOST.")]
Kinds = Annotated[
    Literal["paper", "bugs", "slips", "all"],
    typer.Option(help="The paper's corruptions, bugs that people write, slips, or all."),
]
MaxTurns = Annotated[int, typer.Option(min=1, help="Most commands of an episode.")]
IdleTurns = Annotated[
    int | None, typer.Option(min=1, help="End an episode after so many turns without a change.")
]
Source = Annotated[
    str,
    typer.Argument(
        help="builtin[:SPLIT], mbpp[:SPLIT], humaneval, doctest:PATH or jsonl:PATH.",
        show_default=False,
    ),
]
Method = Annotated[
    Literal["coe", "direct"], typer.Option(help="By editing, or the whole program at once.")
]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest.")]
Constrained = Annotated[
    bool, typer.Option("--constrained", help="Sample only commands that the page can take.")
]
Samples = Annotated[int, typer.Option(min=1, help="Traces of each program.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many programs.")]
Variants = Annotated[
    int, typer.Option(min=1, help="Broken programs of each task that comes without one.")
]


def main() -> None:
    """Run the command line; every error of ours is one line and exit code 2."""
    # What the libraries below us are going to change is news for us, not for whoever runs this.
    warnings.filterwarnings("ignore", category=FutureWarning)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except RedpencilError as error:
        from redpencil.terminal import fail

        fail(str(error))
        sys.exit(2)
    except _Interrupted:
        print("\ninterrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)


class _Interrupted(BaseException):
    """Ctrl-C; not a KeyboardInterrupt, which Typer would turn into exit code 1."""


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise _Interrupted


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


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/quickstart"),
    seed: Seed = 0,
) -> None:
    """Everything once, small: tasks, demonstrations, SFT, GRPO, evaluation, report."""
    from redpencil.quickstart import Quickstart
    from redpencil.quickstart import quickstart as run

    run(out, Quickstart(seed=seed))


@app.command()
def tasks(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Write the tasks as JSON lines.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run the solutions; exit code 1 where one fails.")
    ] = False,
) -> None:
    """List the tasks of a source, export them, or check them."""
    from redpencil.files import write_jsonl
    from redpencil.tasks import load
    from redpencil.terminal import console

    found = load(source)
    if check:
        _check_solutions(found)
    elif out is None:
        for task in found.tasks:
            first_line = task.prompt.split("\n")[0]
            console.print(f"{task.id}  [dim]{task.split}[/]  ", end="", soft_wrap=True)
            console.print(first_line, markup=False, soft_wrap=True)
    else:
        write_jsonl(out, found.tasks)
    console.print(found.summary, style="bold", soft_wrap=True)


def _check_solutions(found: TaskSet) -> None:
    from redpencil.checkers import PythonChecker
    from redpencil.tasks import verified
    from redpencil.terminal import console

    kept, left_out = verified(found.tasks, PythonChecker().check)
    for task, verdict in left_out:
        hidden = "" if verdict.detail else "a hidden test fails"
        console.print(f"{task.id}: {verdict.detail or hidden}", markup=False, soft_wrap=True)
    console.print(f"{len(kept)} of {len(found.tasks)} pass their own tests.", style="bold")
    if left_out:
        raise typer.Exit(1)


@app.command()
def check(
    program: Annotated[Path, typer.Argument(help="The program, a Python file.")],
    tests: Tests,
    timeout: Timeout = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Run one program against a file of tests; exit code 0 only when all pass."""
    import msgspec

    from redpencil.editor import load_page, page_text
    from redpencil.repair import repair_task
    from redpencil.terminal import console

    task = repair_task(_program(program), *_tests(tests, program))
    with _files_checker(timeout) as checker:
        verdict = checker.check(page_text(load_page(task.program or "")), task)
    if as_json:
        fields = ("status", "passed", "total", "detail", "seconds", "rung", "inside")
        sys.stdout.buffer.write(
            msgspec.json.encode({name: getattr(verdict, name) for name in fields}) + b"\n"
        )
    else:
        colour = "green" if verdict.solved else "red"
        inside = f", {verdict.inside} judged inside" if verdict.inside else ""
        console.print(
            f"[{colour}]{verdict.status.value.replace('_', ' ')}[/]: "
            f"{verdict.passed} of {verdict.total} tests pass ({verdict.seconds:.2f} s{inside})"
        )
        if verdict.detail:
            console.print(verdict.detail, markup=False, soft_wrap=True)
    raise typer.Exit(0 if verdict.solved else 1)


@sandbox_app.command(name="check")
def sandbox_check() -> None:
    """Try every rung of isolation on this machine; exit code 1 where programs cannot be kept in."""
    from redpencil import terminal
    from redpencil.sandbox import RUNG_VARIABLE, Rung
    from redpencil.sandbox.trial import try_out

    with terminal.console.status("trying"):
        trials = list(try_out())
    terminal.console.print(terminal.trials_table(trials))
    for trial in trials:
        if trial.complaint:
            terminal.console.print(f"{trial.rung.value}: {trial.complaint}", markup=False)
    best = next((trial.rung for trial in trials if not trial.complaint), None)
    if best in (None, Rung.RLIMITS):
        terminal.console.print(
            "Programs cannot be kept in here: redpencil runs none unless asked to with "
            f"{RUNG_VARIABLE}={Rung.RLIMITS.value}, which keeps accidents in, but no attacker."
        )
        raise typer.Exit(1)
    terminal.console.print(f"Programs run on the rung [bold]{best.value}[/].")


@app.command()
def demos(
    source: Annotated[str, typer.Option("--tasks", help="Task source with solutions.")],
    out: Annotated[Path, typer.Option(help="File of traces to write (JSON lines).")],
    per_task: Annotated[int, typer.Option(min=1, help="Demonstrations of each task.")] = 3,
    order: Annotated[
        Literal["direct", "inverse"],
        typer.Option(help="Only write correct lines, or undo the corruptions as the paper does."),
    ] = "direct",
    corruptions: Corruptions = "1-5",
    kinds: Kinds = "all",
    seed: Seed = 0,
) -> None:
    """Make demonstrations: corrupted programs and the commands that mend them, replayed."""
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.demos import broken_variants, demonstrate, summarise
    from redpencil.files import write_jsonl
    from redpencil.tasks import load

    found = load(source)
    terminal.console.print(found.summary, style="dim", soft_wrap=True)
    checker = PythonChecker()
    variants = broken_variants(
        found.tasks, per_task, _range(corruptions), seed, checker, kinds=kinds
    )
    kept, dropped = [], 0
    with terminal.progress("Demonstrations", len(found.tasks) * per_task) as advance:
        for trace in demonstrate(variants, checker, order=order):
            advance("")
            if trace is None:
                dropped += 1
            else:
                kept.append(trace)
    if not kept:
        raise UsageError(f"no demonstration could be made of {source}")
    write_jsonl(out, kept)
    terminal.console.print(terminal.demos_summary(summarise(kept, dropped)))


@app.command()
def sft(
    demos: Annotated[Path, typer.Option(help="File of demonstrations (JSON lines).")],
    out: Annotated[Path, typer.Option(help="Folder for adapter, checkpoints and logs.")],
    model: Model = "smollm2-135m",
    epochs: Annotated[float, typer.Option(min=0.01)] = 1.0,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 8e-4,
    seed: Seed = 0,
) -> None:
    """Fine-tune a LoRA adapter on demonstrations."""
    from redpencil import terminal
    from redpencil.engine.weights import require_torch
    from redpencil.files import read_jsonl
    from redpencil.types import Trace

    traces = read_jsonl(demos, Trace)
    require_torch()
    from redpencil.train.sft import SftRecipe, train_sft

    recipe = SftRecipe(model=model, epochs=epochs, learning_rate=learning_rate, seed=seed)
    with terminal.training_progress("Fine-tune (SFT)") as update:
        report = train_sft(traces, recipe, out, update)
    terminal.console.print(
        f"{report.steps} steps on {report.tokens:,} tokens of {report.traces} traces, "
        f"{report.action_tokens:,} of them the model's own; {report.left_out} too long.\n"
        f"The adapter is in {out / 'adapter'}."
    )


@app.command()
def rl(
    source: Annotated[str, typer.Option("--tasks", help="Task source.")],
    adapter: Annotated[Path, typer.Option(help="Adapter to start from, as SFT makes it.")],
    out: Annotated[Path, typer.Option(help="Folder for adapter, checkpoints and logs.")],
    model: Model = "smollm2-135m",
    steps: Annotated[int, typer.Option(min=1)] = 100,
    tasks_per_step: Annotated[int, typer.Option(min=1)] = 4,
    group: Annotated[int, typer.Option(min=2, help="Traces of each task in a step.")] = 4,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 1e-4,
    kl: Annotated[float, typer.Option(min=0.0)] = 0.01,
    credit: Annotated[str, typer.Option(help="Credit rule: paper or outcome.")] = "paper",
    corruptions: Corruptions = "1-3",
    kinds: Kinds = "all",
    max_turns: MaxTurns = 10,
    idle_turns: IdleTurns = None,
    seed: Seed = 0,
) -> None:
    """Train an adapter further by GRPO with rewards per turn."""
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.demos import broken_variants
    from redpencil.engine.weights import require_torch
    from redpencil.env import EditRules
    from redpencil.tasks import load

    found = load(source)
    require_torch()
    from redpencil.train.grpo import GrpoRecipe, train_grpo

    checker = PythonChecker()
    variants = list(
        broken_variants(found.tasks, 1, _range(corruptions), seed, checker, kinds=kinds)
    )
    recipe = GrpoRecipe(
        model=model,
        steps=steps,
        tasks_per_step=tasks_per_step,
        group=group,
        learning_rate=learning_rate,
        kl=kl,
        credit=credit,
        rules=EditRules(max_turns=max_turns, idle_turns=idle_turns),
        seed=seed,
    )
    with terminal.training_progress("Reinforce (GRPO)") as update:
        trained = train_grpo(variants, adapter, recipe, checker, out, update)
    terminal.console.print(f"The adapter is in {trained}.")


@app.command(name="eval")
def evaluate(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for traces.jsonl and results.json.")],
    method: Method = "coe",
    model: Model = "smollm2-135m",
    adapter: Adapter = None,
    samples: Samples = 1,
    temperature: Temperature = 0.0,
    constrained: Constrained = False,
    limit: Limit = None,
    variants: Variants = 1,
    corruptions: Corruptions = "1-3",
    kinds: Kinds = "all",
    max_turns: MaxTurns = 10,
    idle_turns: IdleTurns = None,
    seed: Seed = 0,
) -> None:
    """Measure how many broken programs a model repairs."""
    from redpencil import terminal
    from redpencil.env import EditRules
    from redpencil.evaluate import Plan
    from redpencil.evaluate import evaluate as run

    plan = Plan(
        method=method,
        tasks=source,
        base_model=model,
        adapter=str(adapter) if adapter else None,
        samples=samples,
        temperature=temperature,
        constrained=constrained,
        rules=EditRules(max_turns=max_turns, idle_turns=idle_turns),
        limit=limit,
        variants=variants,
        corruptions=_range(corruptions),
        kinds=kinds,
        seed=seed,
    )
    broken, policy, checker = _set_up(plan)
    with _solved_progress("Evaluate", len(broken) * samples) as on_trace:
        results = run(plan, broken, policy, checker, out, command=_command(), on_trace=on_trace)
    terminal.console.print(terminal.results_table([(method, results)]))


@app.command()
def rollout(
    source: Source,
    out: Annotated[Path, typer.Option(help="File of traces to write (JSON lines).")],
    method: Method = "coe",
    model: Model = "smollm2-135m",
    adapter: Adapter = None,
    samples: Samples = 4,
    temperature: Temperature = 1.0,
    constrained: Constrained = False,
    limit: Limit = None,
    variants: Variants = 1,
    corruptions: Corruptions = "1-3",
    kinds: Kinds = "all",
    max_turns: MaxTurns = 10,
    idle_turns: IdleTurns = None,
    seed: Seed = 0,
) -> None:
    """Sample a model's traces to a file; the same command again goes on where it stopped."""
    from redpencil import terminal
    from redpencil.env import EditRules
    from redpencil.evaluate import Plan, sample

    plan = Plan(
        method=method,
        tasks=source,
        base_model=model,
        adapter=str(adapter) if adapter else None,
        samples=samples,
        temperature=temperature,
        constrained=constrained,
        rules=EditRules(max_turns=max_turns, idle_turns=idle_turns),
        limit=limit,
        variants=variants,
        corruptions=_range(corruptions),
        kinds=kinds,
        seed=seed,
    )
    broken, policy, checker = _set_up(plan)
    with _solved_progress("Sample", len(broken) * samples) as on_trace:
        traces = sample(plan, broken, policy, checker, out, on_trace=on_trace)
    solved = sum(trace.solved for trace in traces)
    terminal.console.print(f"{len(traces)} traces in {out}, {solved} of them solved.")


@app.command()
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
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.demos import broken_variants, donors
    from redpencil.env import EditEnv, EditRules
    from redpencil.files import append_jsonl
    from redpencil.policy import HumanPolicy
    from redpencil.rollout import Episode
    from redpencil.rollout import rollout as run
    from redpencil.tasks import load, pick

    checker = PythonChecker()
    found = load(source).tasks
    task, lines = pick(found, task_id, seed), donors(found)
    made = broken_variants([task], 1, _range(corruptions), seed, checker, lines=lines, kinds=kinds)
    broken = next(made, None)
    if broken is None:
        raise UsageError(f"{task.id} cannot be broken so that its tests notice: take another task")
    terminal.console.print(f"[bold]{task.id}[/]: Ctrl-D gives up.\n")
    policy = HumanPolicy(terminal.show_page, terminal.ask_command)
    env = EditEnv(broken.task, checker, EditRules(max_turns=max_turns))
    (trace,) = run([Episode(env, seed, broken.corruptions)], policy)
    if out is not None:
        append_jsonl(out, [trace])
    terminal.console.print(terminal.outcome(trace))
    raise typer.Exit(0 if trace.solved else 1)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a run or an evaluation, or a file of traces.")
    ],
    out: Annotated[Path | None, typer.Option(help="The page; default FOLDER/report.html.")] = None,
    title: Annotated[str, typer.Option()] = "redpencil",
) -> None:
    """Turn results into one HTML page, with the traces to step through."""
    from redpencil.report import from_folder, write
    from redpencil.terminal import console

    path = out or (folder / "report.html" if folder.is_dir() else folder.with_suffix(".html"))
    write(path, title, *from_folder(folder))
    console.print(str(path), soft_wrap=True)


@app.command()
def repair(
    file: Annotated[Path, typer.Argument(help="The broken program, a Python file.")],
    tests: Tests,
    adapter: Adapter = None,
    model: Model = "smollm2-135m",
    prompt: Annotated[str | None, typer.Option(help="What the program should do.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="The first greedy, others sampled.")] = 4,
    max_turns: MaxTurns = 10,
    timeout: Timeout = 10.0,
    constrained: Constrained = False,
    write: Annotated[bool, typer.Option("--write", help="Write the repair to the file.")] = False,
) -> None:
    """Repair a program so that it passes tests, and print a diff."""
    from redpencil import terminal
    from redpencil.editor import page_text
    from redpencil.engine.weights import load_model
    from redpencil.files import atomic_write
    from redpencil.repair import DEFAULT_PROMPT, repair_task, require_broken
    from redpencil.repair import repair as run

    text = _program(file)
    task = repair_task(text, *_tests(tests, file), prompt or DEFAULT_PROMPT)
    with _files_checker(timeout) as checker:
        require_broken(task, checker)
        weights = load_model(model, adapter or _trained_adapter(model))
        from redpencil.engine.local import LocalEngine
        from redpencil.policy import ModelPolicy

        engine = LocalEngine(*weights)
        policies = (
            ModelPolicy(
                engine, model, temperature=0.0 if attempt == 0 else 0.8, constrained=constrained
            )
            for attempt in range(attempts)
        )
        with terminal.progress("Repair", attempts) as advance:
            for trace in run(task, policies, checker, max_turns=max_turns):
                advance("repaired" if trace.solved else "not yet")
    if not trace.solved:
        terminal.console.print(f"Not repaired in {attempts} attempts of {max_turns} turns.")
        raise typer.Exit(1)
    repaired = page_text(trace.final.page)
    terminal.console.print(terminal.diff(text, repaired, file.name))
    if write:
        with atomic_write(file) as target:
            target.write(repaired.encode())
        terminal.console.print(f"Written to {file}.")


def _trained_adapter(model: str) -> Path | None:
    """The adapter that the quickstart trained, for the model that it trains."""
    if model != "smollm2-135m":
        return None
    adapter = Path("runs/quickstart/grpo/adapter")
    if not adapter.is_dir():
        raise UsageError(
            "no trained adapter here: name one with --adapter, or let `redpencil quickstart` "
            f"train one into {adapter}"
        )
    return adapter


def _program(path: Path) -> str:
    """The text of a Python file, which may well be broken."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a Python file: it is not UTF-8 text") from error


def _tests(path: Path, program: Path) -> tuple[tuple[str, ...], str]:
    from redpencil.checkers.testfile import read_tests

    return read_tests(path, program.stem)


def _set_up(plan: Plan) -> tuple[list[Broken], ModelPolicy, PythonChecker]:
    """The broken programs of a plan, and who is to mend and to check them."""
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.demos import broken_variants
    from redpencil.engine.weights import load_model
    from redpencil.tasks import load

    if plan.samples > 1 and plan.temperature == 0:
        raise UsageError("samples at temperature 0 are all the same: give --temperature, such as 1")
    found = load(plan.tasks)
    terminal.console.print(found.summary, style="dim", soft_wrap=True)
    checker = PythonChecker()
    made = broken_variants(
        found.tasks, plan.variants, plan.corruptions, plan.seed, checker, kinds=plan.kinds
    )
    broken = list(itertools.islice(made, plan.limit))
    adapter = None if plan.adapter is None else Path(plan.adapter)
    weights = load_model(plan.base_model, adapter)
    from redpencil.engine.local import LocalEngine
    from redpencil.policy import ModelPolicy

    engine = LocalEngine(*weights)
    policy = ModelPolicy(
        engine, plan.base_model, temperature=plan.temperature, constrained=plan.constrained
    )
    return broken, policy, checker


@contextlib.contextmanager
def _solved_progress(what: str, total: int) -> Iterator[Callable[[Trace], None]]:
    """A bar that counts traces, and those of them that are solved."""
    from redpencil import terminal

    solved = 0
    with terminal.progress(what, total) as advance:

        def on_trace(trace: Trace) -> None:
            nonlocal solved
            solved += trace.solved
            advance(f"{solved} solved")

        yield on_trace


@contextlib.contextmanager
def _files_checker(timeout: float) -> Iterator[PythonChecker]:
    """A checker for a person's own files, which may import what is installed beside redpencil."""
    import sysconfig

    from redpencil.checkers import PythonChecker
    from redpencil.sandbox import Limits, Sandbox, rung_asked_for

    packages = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    with Sandbox(rung_asked_for(), workers=1, packages=list(packages)) as sandbox:
        yield PythonChecker(Limits(wall=timeout), sandbox, trusting=True)


def _range(text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    try:
        bounds = int(least), int(most or least)
    except ValueError:
        bounds = (0, 0)
    if not 1 <= bounds[0] <= bounds[1]:
        raise UsageError(f"--corruptions takes a number or LEAST-MOST such as 1-3, found {text!r}")
    return bounds


def _command() -> str:
    import shlex

    return shlex.join(["redpencil", *sys.argv[1:]])
