"""Recipes: each one that comes along is whole and says why; what is wrong in one is named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from redpencil.cli import app
from redpencil.dataset import DemosRecipe
from redpencil.demos import Broken
from redpencil.env import EditRules, RewardRule
from redpencil.errors import UsageError
from redpencil.recipes import (
    EvalSection,
    GrpoSection,
    Lora,
    Recipe,
    SftRecipe,
    names,
    read,
)
from redpencil.recipes.files import FOLDER
from redpencil.tasks import SOURCES
from redpencil.train.credit import RULES

Run = Callable[..., subprocess.CompletedProcess[str]]

KEY = re.compile(r"^[\w.]+ = ")
SOURCE = re.compile(r"  # (paper|model|ours: (?!not reported$)\w+)\b")


def test_there_is_one_for_each_model() -> None:
    assert set(names()) >= {
        "quickstart",
        "in-place",
        "smollm2-135m",
        "paper-llama-3.2-1b",
        "paper-llama-3.2-3b",
        "paper-llama-3.1-8b",
        "qwen",
    }


@pytest.mark.parametrize("name", names())
def test_every_recipe_is_whole_and_every_value_says_where_it_is_from(name: str) -> None:
    recipe = read(name)
    assert recipe.about
    assert recipe.dimensions
    assert recipe.workload
    assert recipe.sft.model == recipe.grpo.model == recipe.model
    assert recipe.grpo.credit in RULES
    assert recipe.grpo.tasks_per_step * recipe.grpo.group % recipe.grpo.traces_per_backward == 0
    assert recipe.eval.samples == 1 or recipe.eval.temperature > 0
    kinds = {re.split(r"\W", source)[0] for source in SOURCES}
    for source in (recipe.demos.tasks, *recipe.grpo.tasks, recipe.eval.tasks):
        assert source.partition(":")[0] in kinds
    assert not recipe.eval.tasks.endswith("train")
    for line in (FOLDER / f"{name}.toml").read_text().splitlines():
        if KEY.match(line):
            assert SOURCE.search(line), line


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("paper")])
def test_what_the_paper_reports_is_what_its_recipes_say(name: str) -> None:
    recipe = read(name)
    assert recipe.demos == DemosRecipe(
        "mbpp:train", per_task=100, order="inverse", corruptions=(1, 5), kinds="paper"
    )
    assert (recipe.sft.lora.rank, recipe.sft.context) == (16, 2048)
    grpo = recipe.grpo
    assert (grpo.group, grpo.kl, grpo.clip, grpo.credit) == (4, 0.01, 0.2, "paper")
    assert grpo.rules == recipe.eval.rules == EditRules()


def test_the_quickstart_is_what_it_was() -> None:
    rules = EditRules(max_turns=6, idle_turns=2)
    recipe = read("quickstart")
    assert recipe.demos == DemosRecipe(
        "builtin:train", per_task=4, order="direct", corruptions=(1, 2), kinds="slips"
    )
    assert recipe.sft == SftRecipe(learning_rate=1e-3, epochs=1.0, batch=2)
    assert recipe.grpo == GrpoSection(
        steps=3, learning_rate=1e-4, rules=rules, checkpoint_every=1, corruptions=(1, 2),
        kinds="slips",
    )  # fmt: skip
    assert recipe.eval == EvalSection(variants=2, corruptions=(1, 2), kinds="slips", rules=rules)


def test_a_seed_is_that_of_all_sections() -> None:
    recipe = read("quickstart").seeded(7)
    assert recipe.seed == recipe.sft.seed == recipe.grpo.seed == 7


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("modle = 'x'", "unknown key 'modle'; did you mean 'model'?"),
        ("[sft]\nlearning-rate = 1", "unknown key 'sft.learning-rate'; did you mean 'learning"),
        ("[grpo.rules.reward]\nsolved = 1", "'grpo.rules.reward.solved'; did you mean 'solve'?"),
        ("[dimensions]\nwidth = 3", "'dimensions.width'; known are layers, hidden"),
        ("[sft]\nmodel = 'x'", "'sft.model'; model stands once, above all sections"),
        ("[sft]\nbatch = 0", "Expected `int` >= 1 - at `sft.batch`"),
        ("[demos]\norder = 'up'", "Invalid enum value 'up' - at `demos.order`"),
        ("[grpo]\ncredit = 'papr'", "Invalid enum value 'papr' - at `grpo.credit`"),
        ("[grpo]\ntasks = []", "Expected `array` of length >= 1 - at `grpo.tasks`"),
        ("[grpo]\nweights = [3, 1]", "1 of `grpo.tasks`, 2 `grpo.weights`"),
        ("[eval]\ncorruptions = [3, 1]", r"corruptions are \[least, most\], found \[3, 1\]"),
        ("[sft.validation]\ncorruptions = [2, 1]", r"are \[least, most\], found \[2, 1\]"),
        ("sft = 3", "Expected `object`, got `int` - at `sft`"),
        ("about = ", "is not TOML: .*line 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"model = 'm'\n{text}\n" if "modle" not in text else text)
    with pytest.raises(UsageError, match=rf"mine\.toml\b.*{complaint}"):
        read(str(path))


def test_a_misspelt_name_and_a_missing_file() -> None:
    with pytest.raises(UsageError, match="no recipe 'quikstart'; did you mean quickstart"):
        read("quikstart")
    with pytest.raises(UsageError, match=r"cannot read none\.toml"):
        read("none.toml")


def test_a_small_file_is_enough_and_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("model = 'mine'\nseed = 3\n[sft]\nbatch = 4\n", encoding="utf-8-sig")
    assert read(str(path)) == Recipe(
        "mine", seed=3, sft=SftRecipe("mine", batch=4, seed=3), grpo=GrpoSection("mine", seed=3)
    )
    code = (
        "import sys, redpencil.recipes\n"
        f"redpencil.recipes.read({str(path)!r})\n"
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_options_win_over_the_recipe(redpencil: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "model = 'mine'\n[demos]\ntasks = 'builtin:validation'\nper_task = 1\n"
        "corruptions = [2, 2]\nkinds = 'slips'\n"
    )

    def demos(*options: object) -> list[list[str]]:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        made = redpencil("demos", "--recipe", path, "--out", out, *options)
        assert made.returncode == 0, made.stderr
        return [json.loads(line)["corruptions"] for line in out.read_text().splitlines()]

    as_it_says = demos()
    assert as_it_says
    assert {len(names) for names in as_it_says} == {2}
    assert {len(names) for names in demos("--corruptions", 1)} == {1}
    assert len(demos("--per-task", 2)) > len(as_it_says)


def test_training_takes_from_the_recipe_what_no_option_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from redpencil.train import grpo, sft

    path, demos = tmp_path / "mine.toml", tmp_path / "demos.jsonl"
    demos.write_text("")
    path.write_text(
        "model = 'mine'\nseed = 4\n[sft]\nlora.rank = 2\nbatch = 5\nepochs = 3\n"
        "[grpo]\ntasks = ['builtin:validation']\nsteps = 7\nclip = 0.3\nkl = 0.5\n"
        "rules.max_turns = 3\nrules.reward.noop = -0.1\n"
    )
    asked: list[Any] = []
    given: list[list[Broken]] = []

    def train_sft(traces: Any, recipe: Any, *_: Any, command: str) -> sft.SftReport:
        asked.append(recipe)
        return sft.SftReport(0, 0, 0, 0, 0, None, None)

    def train_grpo(variants: Any, adapter: Any, recipe: Any, *_: Any, command: str) -> None:
        asked.append(recipe)
        given.append(variants)

    monkeypatch.setattr(sft, "train_sft", train_sft)
    monkeypatch.setattr(grpo, "train_grpo", train_grpo)
    run = CliRunner()
    words = ["--recipe", str(path), "--out", str(tmp_path)]
    run.invoke(app, ["sft", *words, "--demos", str(demos), "--batch", "2"], catch_exceptions=False)
    run.invoke(app, ["rl", *words, "--adapter", "a", "--kl", "0", "--max-turns", "4"])
    assert asked[0] == SftRecipe("mine", lora=Lora(rank=2), batch=2, epochs=3, seed=4)
    rules = EditRules(max_turns=4, reward=RewardRule(noop=-0.1))
    assert asked[1] == GrpoSection(
        "mine", steps=7, clip=0.3, kl=0.0, rules=rules, seed=4, tasks=("builtin:validation",)
    )
    assert given[0]
    assert all(one.task.program != one.task.solution for one in given[0])
    run.invoke(app, ["rl", *words, "--adapter", "a", "--intact", "1"], catch_exceptions=False)
    assert asked[2].intact == 1
    assert all(one.task.program == one.task.solution for one in given[1])

    with path.open("a") as file:
        file.write("weights = [3, 1]\n")
    path.write_text(path.read_text().replace("['builtin:v", "['builtin:train', 'builtin:v"))
    run.invoke(app, ["rl", *words, "--adapter", "a"], catch_exceptions=False)
    assert asked[3].tasks == ("builtin:train", "builtin:validation")
    assert asked[3].weights == (3, 1)
    drawn = Counter(one.task.split for one in given[2])
    assert drawn.total() == asked[3].steps * asked[3].tasks_per_step == 28
    assert drawn["train"] > 14 > drawn["validation"] > 0


def test_recipes_are_listed(redpencil: Run) -> None:
    listed = redpencil("recipes")
    for name in names():
        assert re.search(rf"^{re.escape(name)} +\w", listed.stdout, re.MULTILINE)
