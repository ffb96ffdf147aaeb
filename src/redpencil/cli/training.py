"""Commands that train: the whole pipeline once, SFT, GRPO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from redpencil.cli.options import (
    RECIPE,
    Against,
    Corruptions,
    Decoding,
    IdleTurns,
    Kinds,
    MaxTurns,
    Method,
    Model,
    Patience,
    RecipeFile,
    Renamed,
    Seed,
    UntilSolved,
    Validate,
    ValidateEvery,
    Variants,
    corruption_range,
    given_command,
    source_weights,
)
from redpencil.errors import UsageError

if TYPE_CHECKING:
    from redpencil.recipes import Validation


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/quickstart"),
    recipe: Annotated[str, RECIPE] = "quickstart",
    seed: Seed = 0,
) -> None:
    """Everything once, small: tasks, demonstrations, SFT, GRPO, evaluation, report."""
    from redpencil.quickstart import quickstart as run
    from redpencil.recipes import read

    run(out, read(recipe).seeded(seed), command=given_command())


def sft(
    demos: Annotated[Path, typer.Option(help="File of demonstrations (JSON lines).")],
    out: Annotated[Path, typer.Option(help="Folder for adapter, checkpoints and logs.")],
    solved: Annotated[
        bool, typer.Option("--solved", help="Train on the traces that end solved, no others.")
    ] = False,
    recipe: RecipeFile = None,
    model: Model = "smollm2-135m",
    adapter: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|on-board", help="Adapter to train further, else a new one is made."
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the demonstrations.")] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="Demonstrations a step.")] = 8,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="At its height; it rises, then falls as a cosine.")
    ] = 8e-4,
    context: Annotated[
        int, typer.Option(min=1, help="Traces with more tokens are left out.")
    ] = 2048,
    validate: Validate = None,
    validate_every: ValidateEvery = 50,
    patience: Patience = 4,
    seed: Seed = 0,
) -> None:
    """Fine-tune a LoRA adapter on demonstrations."""
    from redpencil import terminal
    from redpencil.engine.weights import require_torch
    from redpencil.files import read_jsonl
    from redpencil.recipes import SftRecipe, read
    from redpencil.train.processes import is_first
    from redpencil.types import Trace

    traces = read_jsonl(demos, Trace)
    if solved:
        traces = [trace for trace in traces if trace.solved]
        if not traces:
            raise UsageError(f"no trace in {demos} ends solved: leave out --solved")
    require_torch()
    terminal.console.quiet = not is_first()
    from redpencil.train.sft import train_sft

    base = read(recipe).sft if recipe else SftRecipe()
    settings = msgspec.structs.replace(
        base,
        model=model,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        context=context,
        validation=_validation(base.validation, validate, validate_every, patience),
        seed=seed,
    )
    with terminal.training_progress("Fine-tune (SFT)") as update:
        report = train_sft(traces, settings, out, update, adapter, command=given_command())
    terminal.console.print(
        f"{report.steps} steps on {report.tokens:,} tokens in {report.sequences} sequences, "
        f"{report.action_tokens:,} of them the model's own; {report.left_out} too long."
    )
    if report.best_step is not None:
        terminal.console.print(
            f"In validation the adapter of step {report.best_step} solved most, "
            f"{report.solved_rate:.1%}: it is the one kept."
        )
    terminal.console.print(f"The adapter is in {out / 'adapter'}.", soft_wrap=True)


def thoughts(
    source: Annotated[str, typer.Argument(help="s1k, or s1k:FOLDER.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File of traces to write (JSON lines).")],
) -> None:
    """Turn a data set of reasoning in words into traces that `sft` trains on."""
    from redpencil.files import write_jsonl
    from redpencil.terminal import console
    from redpencil.thoughts import s1k

    name, _, folder = source.partition(":")
    if name != "s1k":
        raise UsageError(f"no data set of thoughts {name!r}; there is s1k[:FOLDER]")
    traces = s1k(Path(folder) if folder else None)
    write_jsonl(out, traces)
    console.print(f"{len(traces)} traces in {out}", soft_wrap=True)


def export(
    adapter: Annotated[
        Path,
        typer.Option(metavar="FOLDER|on-board", help="The adapter, as `sft` and `rl` make it."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not be there yet.")],
    model: Model = "smollm2-135m",
    merged: Annotated[
        bool,
        typer.Option(
            "--merged", help="Write the whole model with the adapter merged in, and its tokenizer."
        ),
    ] = False,
) -> None:
    """Write a trained adapter, or the model merged with it, in bfloat16 for other programs."""
    from redpencil.engine.export import export_adapter, export_model
    from redpencil.terminal import console

    if merged:
        export_model(model, adapter, out)
    else:
        export_adapter(adapter, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    console.print(f"{size / 1e6:.1f} MB in {out}", soft_wrap=True)


def rl(
    sources: Annotated[
        list[str], typer.Option("--tasks", help="Task source; of several, programs are mixed.")
    ],
    adapter: Annotated[
        Path,
        typer.Option(metavar="FOLDER|on-board", help="Adapter to start from, as SFT makes it."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for adapter, checkpoints and logs.")],
    recipe: RecipeFile = None,
    method: Method = "coe",
    model: Model = "smollm2-135m",
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimiser.")] = 100,
    tasks_per_step: Annotated[int, typer.Option(min=1, help="Broken programs of a step.")] = 4,
    group: Annotated[int, typer.Option(min=2, help="Traces of each task in a step.")] = 4,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="Constant, but for a recipe's warm-up and decay.")
    ] = 1e-4,
    kl: Annotated[
        float, typer.Option(min=0.0, help="Weight of the divergence from the adapter begun with.")
    ] = 0.01,
    credit: Annotated[
        Literal["paper", "outcome", "returns", "page-groups"],
        typer.Option(help="The rule by which a group's rewards become advantages."),
    ] = "paper",
    rest_after: Annotated[
        int,
        typer.Option(
            min=0,
            help="Let a task rest for two passes after so many groups in a row that all or none "
            "of whose traces solved it; 0: never.",
        ),
    ] = 2,
    temperature: Annotated[
        float, typer.Option(min=0.01, help="Of sampling, and so of the policy that is trained.")
    ] = 1.0,
    decoding: Decoding = "free",
    vllm: Annotated[
        Literal["off", "colocate", "server"],
        typer.Option(help="Sample by vLLM on a GPU, in this process or in TRL's server."),
    ] = "off",
    variants: Variants = 1,
    corruptions: Corruptions = "1-3",
    kinds: Kinds = "all",
    renamed: Renamed = 0.0,
    intact: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Chance that a program is right as it is."),
    ] = 0.0,
    max_turns: MaxTurns = 10,
    idle_turns: IdleTurns = None,
    until_solved: UntilSolved = False,
    against: Against = None,
    validate: Validate = None,
    validate_every: ValidateEvery = 20,
    patience: Patience = 4,
    weights: Annotated[
        str | None,
        typer.Option(help="How often each source is drawn from, such as 3,1; default alike."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Train an adapter further by GRPO with rewards per turn."""
    from redpencil import terminal
    from redpencil.checkers import PythonChecker
    from redpencil.engine.weights import require_torch
    from redpencil.pipeline import to_reinforce_on
    from redpencil.recipes import GrpoSection, read
    from redpencil.tasks import load, to_train_on
    from redpencil.tasks.source import counted
    from redpencil.train.processes import is_first

    shares = source_weights(weights, len(sources))
    found = [to_train_on(load(source).tasks, source, against or ()) for source in sources]
    require_torch()
    terminal.console.quiet = not is_first()
    from redpencil.train.grpo import train_grpo

    checker = PythonChecker()
    left_out = [task.id for _, same in found for task, _ in same]
    if left_out:
        terminal.console.print(
            f"{counted(len(left_out), 'task')} left out, as another split or source has the same "
            f"problem: {', '.join(left_out)}"
        )
    base = read(recipe).grpo if recipe else GrpoSection()
    settings = msgspec.structs.replace(
        base,
        tasks=tuple(sources),
        weights=shares,
        variants=variants,
        corruptions=corruption_range(corruptions),
        kinds=kinds,
        renamed=renamed,
        intact=intact,
        model=model,
        method=method,
        steps=steps,
        tasks_per_step=tasks_per_step,
        group=group,
        learning_rate=learning_rate,
        kl=kl,
        credit=credit,
        rest_after=rest_after,
        temperature=temperature,
        decoding=decoding,
        vllm=vllm,
        validation=_validation(base.validation, validate, validate_every, patience),
        rules=msgspec.structs.replace(
            base.rules, max_turns=max_turns, idle_turns=idle_turns, until_solved=until_solved
        ),
        seed=seed,
    )
    programs = to_reinforce_on(settings, [tasks for tasks, _ in found], seed, checker)
    with terminal.training_progress("Reinforce (GRPO)") as update:
        trained = train_grpo(
            programs, adapter, settings, checker, out, update, command=given_command()
        )
    terminal.console.print(f"The adapter is in {trained}.", soft_wrap=True)


def _validation(
    base: Validation | None, tasks: str | None, every: int, patience: int
) -> Validation | None:
    """The validation that options ask for; what they leave open is as in a recipe's."""
    from redpencil.recipes import Validation

    if tasks is None:
        return None
    return msgspec.structs.replace(
        base or Validation(), tasks=tasks, every=every, patience=patience
    )
