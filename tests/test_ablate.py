"""Ablations: what is varied, what runs have in common, and the table in the end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

from made import trace
from redpencil import ablate, pipeline
from redpencil.checkers import PythonChecker
from redpencil.errors import UsageError
from redpencil.files import read_json, read_jsonl, write_json, write_jsonl
from redpencil.recipes import GrpoSection, Recipe, read
from redpencil.results import Results
from redpencil.runs import Run
from redpencil.tasks import load
from redpencil.types import Trace

QUICKSTART = read("quickstart")


@pytest.mark.parametrize("axis", ablate.AXES)
def test_the_values_of_an_axis_differ_in_what_they_name_and_in_nothing_else(axis: str) -> None:
    changed = ablate.variants(QUICKSTART, axis)
    assert len(changed) > 1
    assert len({msgspec.json.encode(recipe) for recipe in changed.values()}) == len(changed)
    settings = ablate.AXES[axis].values
    keys = {frozenset(values) for values in settings.values()}
    assert len(keys) == 1, "each value sets all keys, whatever the recipe has"
    first = next(iter(settings.values()))
    for recipe in changed.values():
        assert ablate.with_settings(recipe, first) == changed[next(iter(changed))]


def test_what_runs_have_in_common_is_done_once() -> None:
    seeds = range(2)
    assert ablate.cost(QUICKSTART, ["credit"], seeds) == (2, 8, 8)
    assert ablate.cost(QUICKSTART, ["decoding"], seeds) == (2, 0, 6)
    assert ablate.cost(QUICKSTART, ["order"], seeds) == (4, 0, 4)
    assert ablate.cost(QUICKSTART, ["order", "writing"], seeds) == (6, 0, 6)
    # The recipe's own order is among the fine-tunings that the credit rules start from.
    assert ablate.cost(QUICKSTART, ["order", "credit"], seeds) == (4, 8, 12)


def test_a_task_counts_once_whatever_the_seeds() -> None:
    traces = [trace([0.0], of=name, solved=solved) for name, solved in
              [("a", True), ("a", False), ("a", True), ("b", False)]]  # fmt: skip
    assert ablate.solved_by_task(traces) == {"a": Fraction(2, 3), "b": Fraction(0)}


def test_a_dry_run_says_what_there_is_to_run(
    redpencil: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = redpencil("ablate", "credit", "--seeds", 2, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "credit (paper, outcome, returns, page-groups)" in done.stdout
    assert "2 fine-tunings, 8 trainings by GRPO and 8 evaluations" in done.stdout
    assert not list(tmp_path.iterdir())
    wrong = redpencil("ablate", "credits", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "nothing called 'credits' to vary; did you mean credit?" in wrong.stderr


def test_stages_in_a_row_are_of_editing_and_of_one_kind_of_context() -> None:
    answers = ablate.with_settings(QUICKSTART, {"demos.method": "direct"})
    with pytest.raises(UsageError, match=r"for editing alone.*one by one"):
        pipeline.require_coherent(answers, reinforced=True)
    mixed = ablate.with_settings(QUICKSTART, {"demos.method": "in-place"})
    with pytest.raises(UsageError, match=r"`method` in \[demos\] and in \[grpo\] differ"):
        pipeline.require_coherent(mixed, reinforced=True)
    pipeline.require_coherent(mixed, reinforced=False)
    forgetful = ablate.with_settings(QUICKSTART, {"demos.history": False})
    with pytest.raises(UsageError, match=r"`history` in \[demos\].*differ"):
        ablate.cost(forgetful, ["decoding"], [0])
    alike = ablate.with_settings(forgetful, {"eval.rules.history": False})
    assert ablate.variants(alike, "decoding")
    with pytest.raises(UsageError, match=r"GRPO trains on a trace as one sequence"):
        ablate.variants(alike, "credit")


@pytest.fixture
def tiny_recipe(tiny_model: Path) -> Recipe:
    return ablate.with_settings(
        QUICKSTART,
        {
            "model": str(tiny_model),
            "demos.tasks": "builtin:validation",
            "demos.per_task": 1,
            "sft.model": str(tiny_model),
            "sft.batch": 16,
            "eval.limit": 2,
            "eval.variants": 1,
            "eval.rules.max_turns": 2,
        },
    )


def test_an_ablation_runs_goes_on_and_compares(tiny_recipe: Recipe, tmp_path: Path) -> None:
    found = ablate.ablate(tiny_recipe, ["decoding", "context"], [0, 1], tmp_path)
    assert [(row.axis, row.value) for row in found.rows] == [
        ("decoding", "free"),
        ("decoding", "well-formed"),
        ("decoding", "new-pages"),
        ("context", "history"),
        ("context", "latest-page"),
    ]
    for row in found.rows:
        assert (row.against_first is None) == (row.value in ("free", "history"))
        assert row.ci95[0] <= row.solved <= row.ci95[1]
        assert 2 <= row.tasks <= 4
    assert read_json(tmp_path / ablate.RESULTS, ablate.Ablation) == found
    names = sorted(path.name.partition("-")[0] for path in tmp_path.iterdir() if path.is_dir())
    assert names == ["demos"] * 4 + ["eval"] * 8 + ["sft"] * 4
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("adapter_model.*")}
    # Looked at again with another command, it is as it was made.
    again = ablate.ablate(tiny_recipe, ["decoding", "context"], [0, 1], tmp_path, "another")
    assert again == found
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_each_value_of_reinforcement_is_trained_with_and_what_is_alike_but_once(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    write_jsonl(few, load("builtin:test").tasks[:2])
    mine = f"jsonl:{few}"
    settings = {"demos.tasks": mine, "grpo.tasks": (mine,), "eval.tasks": mine}
    tiny = {"tasks_per_step": 1, "group": 2, "steps": 1, "context": 1024, "rules.max_turns": 2}
    settings |= {f"grpo.{name}": setting for name, setting in tiny.items()}
    recipe = ablate.with_settings(tiny_recipe, {**settings, "grpo.model": tiny_recipe.model})
    axes = ["credit", "noop"]
    found = ablate.ablate(recipe, axes, [0], tmp_path)
    values = [(axis, value) for axis in axes for value in ablate.AXES[axis].values]
    assert [(row.axis, row.value) for row in found.rows] == values
    assert [(row.tasks, row.errors) for row in found.rows] == [(2, 0)] * len(values)
    runs = [
        msgspec.convert(read_json(path, Run).settings, GrpoSection)
        for path in tmp_path.glob("grpo-*/run.json")
    ]
    rules = [(run.credit, run.rules.reward.noop, run.rules.idle_turns) for run in runs]
    trained = [
        *((credit, 0.0, 2) for credit in ablate.AXES["credit"].values),  # `end`, too, is the first
        ("paper", 0.0, None),
        ("paper", -0.1, None),
    ]
    assert sorted(rules, key=str) == sorted(trained, key=str)


def test_demonstrations_that_were_changed_are_not_trained_on(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    tasks = load("builtin:validation").tasks[:2]
    path = pipeline.make_demos(tiny_recipe, tasks, tmp_path / "demos.jsonl")
    write_jsonl(path, read_jsonl(path, Trace)[:1])
    with pytest.raises(UsageError, match="no longer what its card says"):
        pipeline.make_demos(tiny_recipe, tasks, path)


def test_what_is_in_a_source_is_part_of_what_a_stage_depends_on(tmp_path: Path) -> None:
    """Else a file of tasks that was changed would be compared with what it was."""
    source = tmp_path / "mine.jsonl"
    keys = set()
    mine = f"jsonl:{source}"
    for section, tasks in {"demos": mine, "grpo": ("builtin:train", mine), "eval": mine}.items():
        recipe = ablate.with_settings(QUICKSTART, {f"{section}.tasks": tasks})
        for first in (0, 2):
            write_jsonl(source, load("builtin:test").tasks[first : first + 2])
            stages = ablate._Stages(tmp_path, PythonChecker(), "")
            keys.add(ablate._eval_key(recipe, "grpo", stages._content))
    assert len(keys) == 6


def test_an_evaluation_that_had_faults_is_made_anew(tiny_recipe: Recipe, tmp_path: Path) -> None:
    tasks = load("builtin:test").tasks[:2]

    def evaluated() -> Results:
        checker = PythonChecker()
        return pipeline.evaluate_on(tiny_recipe, tasks, "coe", None, checker, tmp_path, "Evaluate")

    whole = evaluated()
    traces = read_jsonl(tmp_path / "traces.jsonl", Trace)
    broken = msgspec.structs.replace(traces[0], turns=(), end="error", error="no process")
    write_jsonl(tmp_path / "traces.jsonl", [broken, *traces[1:]])
    write_json(tmp_path / "results.json", msgspec.structs.replace(whole, errors=1))
    assert evaluated().errors == 0


def test_faults_of_the_machinery_are_counted(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ablate.ablate(tiny_recipe, ["decoding"], [0], tmp_path)
    assert [row.errors for row in found.rows] == [0, 0, 0]
    path = next(tmp_path.glob("eval-*/traces.jsonl"))
    first, *others = read_jsonl(path, Trace)
    write_jsonl(path, [msgspec.structs.replace(first, end="error"), *others])
    monkeypatch.setattr(pipeline, "evaluate_on", lambda *_: None)
    found = ablate.ablate(tiny_recipe, ["decoding"], [0], tmp_path)
    assert sum(row.errors for row in found.rows) == 1
