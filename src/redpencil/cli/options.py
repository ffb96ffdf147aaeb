"""Options that commands share, and how what is typed becomes a value."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
import typer

from redpencil.errors import UsageError

if TYPE_CHECKING:
    from redpencil.parallel import Cluster
    from redpencil.recipes import Recipe

Model = Annotated[
    str, typer.Option(help="Hugging Face id, folder, or smollm2-135m.", show_default=True)
]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Sample from the model of this name on an OpenAI-compatible server, such as "
        "http://localhost:8000/v1.",
    ),
]
Dialect = Annotated[
    Literal["chat", "completions"], typer.Option(help="What is spoken with the server.")
]
BudgetTokens = Annotated[
    int | None,
    typer.Option(min=1, help="Send the server nothing more after so many tokens, prompts' too."),
]
AtOnce = Annotated[
    int | None, typer.Option(min=1, help="Most requests that the server has at once; default 32.")
]
AnswerTimeout = Annotated[
    float | None,
    typer.Option(min=0.1, help="Seconds that the server has for an answer; default 300."),
]
Workers = Annotated[
    Literal["local", "ray"],
    typer.Option(help="On this machine, or on the Ray cluster at $RAY_ADDRESS (else a local Ray)."),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER|on-board",
        help="LoRA adapter for the model; on-board is the one that comes with redpencil.",
    ),
]
Seed = Annotated[int, typer.Option(help="Settles everything random.")]
Tests = Annotated[Path, typer.Option(help="File of asserts, or of tests as pytest runs them.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that one run of the tests has.")]
Corruptions = Annotated[str, typer.Option(help="Corruptions of a program: a number or LEAST-MOST.")]
Kinds = Annotated[
    Literal["paper", "bugs", "slips", "all"],
    typer.Option(help="The paper's corruptions, bugs that people write, slips, or all."),
]
Validate = Annotated[
    str | None,
    typer.Option(
        metavar="TASKS",
        help="Let the model mend programs of this source now and then, and keep the adapter "
        "that mends most.",
    ),
]
ValidateEvery = Annotated[
    int, typer.Option(min=1, help="Steps between validations, and between checkpoints then.")
]
Patience = Annotated[
    int, typer.Option(min=1, help="Stop after so many validations without a better one.")
]
Against = Annotated[
    list[str] | None,
    typer.Option(metavar="SOURCE", help="Leave out tasks that are a problem of this source too."),
]
Tokenizer = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Count tokens, by this model's tokenizer.")
]
Candidates = Annotated[
    int,
    typer.Option(
        min=1,
        help="Draft so many commands in each turn, and take the likeliest that leads to a page not "
        "seen before.",
    ),
]
Renamed = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Chance that a solution gets other local names before it is broken.",
    ),
]
MaxTurns = Annotated[int, typer.Option(min=1, help="Most commands of an episode.")]
IdleTurns = Annotated[
    int | None, typer.Option(min=1, help="End an episode after so many turns without a change.")
]
UntilSolved = Annotated[
    bool,
    typer.Option(
        "--until-solved",
        help="End an episode as soon as the visible tests pass, as `repair` does, not at EXIT.",
    ),
]
History = Annotated[
    bool,
    typer.Option(
        "--history/--no-history", help="Keep all pages in the context, or the latest alone."
    ),
]
Source = Annotated[
    str,
    typer.Argument(
        help="builtin[:SPLIT], mbpp[:SPLIT], humaneval, humanevalfix, quixbugs:FOLDER, debugbench, "
        "doctest:PATH, jsonl:PATH or traces:PATH.",
        show_default=False,
    ),
]
Method = Annotated[
    Literal["coe", "in-place", "direct", "reasoning", "self-repair"],
    typer.Option(
        help="By editing, each line written at once or in its place; or the whole program: in one "
        "answer, after thoughts in words, or in turns."
    ),
]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(
        help="What the model computes in; auto is bfloat16 where the processor computes in it."
    ),
]
Context = Annotated[
    int, typer.Option(min=1, help="Most tokens of an episode, for a model that runs here.")
]
Decoding = Annotated[
    Literal["free", "well-formed", "new-pages"],
    typer.Option(
        help="Sample anything, only commands that the page can take, or of these only those that "
        "lead to a page not seen before."
    ),
]
Samples = Annotated[int, typer.Option(min=1, help="Traces of each program.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many programs.")]
Variants = Annotated[
    int, typer.Option(min=1, help="Broken programs of each task that comes without one.")
]


def _prefill(context: typer.Context, name: str | None) -> str | None:
    """Let the options of a command that are not given be those of its section of a recipe."""
    if name is not None:
        from redpencil.recipes import read

        context.default_map = _as_options(read(name), context.info_name or "")
    return name


RECIPE = typer.Option(
    "--recipe",
    metavar="NAME|FILE",
    callback=_prefill,
    is_eager=True,
    help="Take what no option says from a recipe; `redpencil recipes` lists them.",
)
RecipeFile = Annotated[str | None, RECIPE]

Options = TypeVar("Options")


def taking(
    options: type[Options],
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Give a command, whose one parameter is a dataclass, an option for each field of it."""

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def spread(**values: Any) -> None:
            command(options(**values))

        # Where Typer looks for the options of a command.
        spread.__signature__ = inspect.signature(options, eval_str=True)  # type: ignore[attr-defined]
        return spread

    return decorate


@contextlib.contextmanager
def workers_of(name: Literal["local", "ray"]) -> Iterator[Cluster | None]:
    """The cluster that `--workers` names, for as long as it is needed; None for this machine."""
    if name == "local":
        yield None
        return
    from redpencil.parallel import joined
    from redpencil.terminal import console

    with joined() as cluster:
        console.print(str(cluster), style="dim", soft_wrap=True)
        yield cluster


def given_command() -> str:
    """The command line at hand, as one would type it."""
    return shlex.join(["redpencil", *sys.argv[1:]])


def _as_options(recipe: Recipe, command: str) -> dict[str, Any]:
    """What a command's section of a recipe says, by the names of the command's parameters."""
    shared = {"model": recipe.model, "seed": recipe.seed}
    sections = {
        "demos": recipe.demos,
        "sft": recipe.sft,
        "rl": recipe.grpo,
        "eval": recipe.eval,
        "rollout": recipe.eval,
    }
    if command not in sections:
        return shared
    values = msgspec.structs.asdict(sections[command]) | shared
    if "tasks" in values:
        tasks = values.pop("tasks")
        values |= {"sources": list(tasks)} if command == "rl" else {"source": tasks}
        values["corruptions"] = "-".join(map(str, values["corruptions"]))
    if "weights" in values:
        values["weights"] = ",".join(map(str, values["weights"])) or None
    validation = values.pop("validation", None)
    if validation is not None:
        values |= {
            "validate": validation.tasks,
            "validate_every": validation.every,
            "patience": validation.patience,
        }
    if "rules" in values:
        values |= msgspec.structs.asdict(values.pop("rules"))
    return values


def corruption_range(text: str) -> tuple[int, int]:
    """The least and the most of `--corruptions`.

    Raises:
        UsageError: the text is no such range.
    """
    least, _, most = text.partition("-")
    try:
        bounds = int(least), int(most or least)
    except ValueError:
        bounds = (0, 0)
    if not 1 <= bounds[0] <= bounds[1]:
        raise UsageError(f"--corruptions takes a number or LEAST-MOST such as 1-3, found {text!r}")
    return bounds


def source_weights(text: str | None, sources: int) -> tuple[float, ...]:
    """The numbers of `--weights`, one for each source; none where none are given.

    Raises:
        UsageError: the text is no such list.
    """
    if text is None:
        return ()
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != sources or not all(0 < weight < math.inf for weight in weights):
        raise UsageError(
            f"--weights takes a number above 0 for each --tasks, such as 3,1; found {text!r} for "
            f"{sources}"
        )
    return weights
