"""What each choice is worth: a recipe's pipeline again and again, with one choice changed.

An axis is a choice and the values that it can have. All are run with the same seeds and budget;
stages that two runs have in common, such as the fine-tuning that two credit rules start from, are
done once. Each lies in a folder named after a digest of all that it depends on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from redpencil import pipeline, provenance
from redpencil.checkers import Checker, PythonChecker
from redpencil.files import read_json, read_jsonl, write_json
from redpencil.recipes import Recipe
from redpencil.results import TRACES, problem_of
from redpencil.runs import as_made
from redpencil.statistics import Paired, bootstrap_interval, paired
from redpencil.tasks import load, tasks_sha256
from redpencil.types import Task, Trace, Value

RESULTS = "ablation.json"

Stage = Literal["sft", "grpo"]
Settings = Mapping[str, object]
"""Values by the keys of a recipe, such as `demos.order`."""


class Axis(NamedTuple):
    """A choice: what it is about, after which training it shows, and its values by name."""

    about: str
    stage: Stage
    values: Mapping[str, Settings]
    """The first is what the others are measured against."""


AXES: dict[str, Axis] = {
    "order": Axis(
        "demonstrations write correct lines only, or undo the corruptions as the paper's do",
        "sft",
        {"direct": {"demos.order": "direct"}, "inverse": {"demos.order": "inverse"}},
    ),
    "context": Axis(
        "the policy keeps all pages in its context, or sees the latest alone",
        "sft",
        {
            "history": {"demos.history": True, "eval.rules.history": True},
            "latest-page": {"demos.history": False, "eval.rules.history": False},
        },
    ),
    "writing": Axis(
        "a command is written at once, or names a line, which is written after those before it",
        "sft",
        {
            "at-once": {"demos.method": "coe"},
            "in-place": {"demos.method": "in-place"},
        },
    ),
    "decoding": Axis(
        "anything can be sampled, or only what the page can take, or of that what makes a new page",
        "sft",
        {value: {"eval.decoding": value} for value in ("free", "well-formed", "new-pages")},
    ),
    "credit": Axis(
        "how a trace's rewards become the advantages of its tokens",
        "grpo",
        {rule: {"grpo.credit": rule} for rule in ("paper", "outcome", "returns", "page-groups")},
    ),
    "noop": Axis(
        "in RL, commands that leave the page as it was are free, cost a little, or end the episode",
        "grpo",
        {
            "free": {"grpo.rules.reward.noop": 0.0, "grpo.rules.idle_turns": None},
            "cost": {"grpo.rules.reward.noop": -0.1, "grpo.rules.idle_turns": None},
            "end": {"grpo.rules.reward.noop": 0.0, "grpo.rules.idle_turns": 2},
        },
    ),
}


class Row(Value, frozen=True):
    """One value of one axis, over all seeds."""

    axis: str
    value: str
    tasks: int
    """Whose broken programs were played; a task counts once, whatever the seeds."""
    solved: float
    """Mean over tasks of the share of its programs that were mended, 0 to 1."""
    ci95: tuple[float, float]
    """95% bootstrap interval of `solved` over tasks."""
    against_first: Paired | None
    """Compared with the axis' first value on the same tasks; None for that itself."""
    errors: int = 0
    """Traces that a fault of the infrastructure ended; they count as unsolved."""


class Ablation(Value, frozen=True):
    """What `redpencil ablate` writes to `ablation.json`."""

    rows: tuple[Row, ...]
    recipe: Recipe
    seeds: tuple[int, ...]
    command: str
    versions: dict[str, str]
    machine: str
    git_commit: str


class Cost(NamedTuple):
    """How many stages there are to be run, those shared counted once."""

    fine_tunings: int
    reinforcements: int
    evaluations: int


def ablate(
    recipe: Recipe, axes: Sequence[str], seeds: Sequence[int], folder: Path, command: str = ""
) -> Ablation:
    """Run a recipe with each value of some axes and each seed, and compare what comes of them.

    Started again in the same folder, it goes on where it was.

    Args:
        axes: names in `AXES`.

    Raises:
        UsageError: a value does not go with the recipe.
        MissingDependency: the packages for training are not installed.
    """
    from redpencil.engine.weights import require_torch

    require_torch()
    stages = _Stages(folder, PythonChecker(), command)
    rows: list[Row] = []
    for axis in axes:
        first: dict[str, Fraction] | None = None
        for value, changed in variants(recipe, axis).items():
            traces: list[Trace] = []
            for seed in seeds:
                title = f"{axis} {value}, seed {seed}"
                traces += stages.evaluated(changed.seeded(seed), AXES[axis].stage, title)
            shares = solved_by_task(traces)
            errors = sum(trace.end == "error" for trace in traces)
            rows.append(_row(axis, value, shares, errors, first))
            first = first or shares
    found = Ablation(
        rows=tuple(rows),
        recipe=recipe,
        seeds=tuple(seeds),
        command=command,
        versions=provenance.versions(),
        machine=provenance.machine(),
        git_commit=provenance.git_commit(),
    )
    path = folder / RESULTS
    if path.exists() and read_json(path, Ablation).rows == found.rows:
        found = as_made(found, path)
    write_json(path, found)
    return found


def variants(recipe: Recipe, axis: str) -> dict[str, Recipe]:
    """The recipe with each value of an axis, by the value's name.

    Raises:
        UsageError: a value does not go with the recipe.
    """
    made = {value: with_settings(recipe, settings) for value, settings in AXES[axis].values.items()}
    for changed in made.values():
        pipeline.require_coherent(changed, reinforced=AXES[axis].stage == "grpo")
    return made


def with_settings(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with other values under some keys, such as `grpo.rules.max_turns`."""
    for key, setting in settings.items():
        recipe = _replaced(recipe, key.split("."), setting)
    return recipe


def cost(recipe: Recipe, axes: Sequence[str], seeds: Sequence[int]) -> Cost:
    """What there is to run for an ablation from nothing."""
    # Nothing is loaded to be counted: a source's name tells stages apart as well as its tasks do.
    keys: dict[str, set[str]] = {"sft": set(), "grpo": set(), "eval": set()}
    for axis in axes:
        for changed in variants(recipe, axis).values():
            for seed in seeds:
                seeded, stage = changed.seeded(seed), AXES[axis].stage
                keys["sft"].add(_sft_key(seeded, str))
                if stage == "grpo":
                    keys["grpo"].add(_grpo_key(seeded, str))
                keys["eval"].add(_eval_key(seeded, stage, str))
    return Cost(len(keys["sft"]), len(keys["grpo"]), len(keys["eval"]))


def solved_by_task(traces: Iterable[Trace]) -> dict[str, Fraction]:
    """The share of each task's traces that end solved; its faults are counted to it."""
    outcomes: dict[str, list[bool]] = {}
    for trace in traces:
        outcomes.setdefault(problem_of(trace.task.id), []).append(trace.solved)
    return {task: Fraction(sum(solved), len(solved)) for task, solved in outcomes.items()}


class _Stages:
    """A folder of stages, each under the digest of all that it depends on."""

    def __init__(self, folder: Path, checker: Checker, command: str) -> None:
        self._folder = folder
        self._command = command
        self._checker = checker
        self._tasks: dict[str, tuple[Task, ...]] = {}

    def evaluated(self, recipe: Recipe, stage: Stage, title: str) -> list[Trace]:
        """The traces of a recipe's evaluation after one of its trainings."""
        folder = self._folder / f"eval-{_eval_key(recipe, stage, self._content)}"
        adapter = self._fine_tuned(recipe) if stage == "sft" else self._reinforced(recipe)
        tasks = self._load(recipe.eval.tasks)
        pipeline.evaluate_on(
            recipe,
            tasks,
            recipe.demos.method,
            adapter,
            self._checker,
            folder,
            f"Evaluate: {title}",
            self._command,
        )
        return read_jsonl(folder / TRACES, Trace)

    def _fine_tuned(self, recipe: Recipe) -> Path:
        folder = self._folder / f"demos-{_demos_key(recipe, self._content)}"
        demonstrations = pipeline.make_demos(
            recipe, self._load(recipe.demos.tasks), folder / "demos.jsonl", self._command
        )
        folder = self._folder / f"sft-{_sft_key(recipe, self._content)}"
        return pipeline.fine_tune(recipe, demonstrations, folder, self._command)

    def _reinforced(self, recipe: Recipe) -> Path:
        start = self._fine_tuned(recipe)
        folder = self._folder / f"grpo-{_grpo_key(recipe, self._content)}"
        return pipeline.reinforce(
            recipe,
            [self._load(source) for source in recipe.grpo.tasks],
            start,
            self._checker,
            folder,
            self._command,
        )

    def _load(self, source: str) -> tuple[Task, ...]:
        if source not in self._tasks:
            self._tasks[source] = load(source).tasks
        return self._tasks[source]

    def _content(self, source: str) -> str:
        return tasks_sha256(self._load(source))


def _row(
    axis: str,
    value: str,
    shares: dict[str, Fraction],
    errors: int,
    first: dict[str, Fraction] | None,
) -> Row:
    values = [float(share) for share in shares.values()]
    against = None
    if first is not None:
        # A program that one seed breaks is the same for all values, so the tasks are the same.
        against = paired(list(first.values()), [shares[task] for task in first], seed=0)
    return Row(
        axis=axis,
        value=value,
        tasks=len(shares),
        solved=sum(values) / len(values),
        ci95=bootstrap_interval(values, seed=0),
        against_first=against,
        errors=errors,
    )


_Content = Callable[[str], str]
"""What is in a source of tasks, as far as keys are to tell two sources apart."""


def _demos_key(recipe: Recipe, content: _Content) -> str:
    return _digest(recipe.demos, content(recipe.demos.tasks), recipe.seed)


def _sft_key(recipe: Recipe, content: _Content) -> str:
    return _digest(_demos_key(recipe, content), recipe.sft)


def _grpo_key(recipe: Recipe, content: _Content) -> str:
    return _digest(_sft_key(recipe, content), recipe.grpo, *map(content, recipe.grpo.tasks))


def _eval_key(recipe: Recipe, stage: Stage, content: _Content) -> str:
    trained = (_sft_key if stage == "sft" else _grpo_key)(recipe, content)
    return _digest(trained, recipe.eval, content(recipe.eval.tasks), recipe.seed)


def _digest(*values: object) -> str:
    return hashlib.sha256(msgspec.json.encode(values)).hexdigest()[:12]


def _replaced(value: Any, path: Sequence[str], setting: object) -> Any:
    name, *deeper = path
    new = _replaced(getattr(value, name), deeper, setting) if deeper else setting
    return msgspec.structs.replace(value, **{name: new})
