"""A run's folder says what the run was begun with, and takes no other run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest

from redpencil import provenance
from redpencil.env import EditRules, RewardRule
from redpencil.errors import UsageError
from redpencil.files import read_json, sha256
from redpencil.recipes import GrpoRecipe
from redpencil.runs import Run, claim_run

RECIPE = GrpoRecipe(steps=3, rules=EditRules(reward=RewardRule(noop=-0.1)))


def test_it_says_all_that_makes_the_numbers_again(tmp_path: Path) -> None:
    assert not claim_run(tmp_path / "run", RECIPE, {"programs": "abc"}, command="redpencil rl")
    run = read_json(tmp_path / "run" / "run.json", Run)
    assert msgspec.convert(run.settings, GrpoRecipe) == RECIPE
    assert run.inputs == {"programs": "abc"}
    assert run.command == "redpencil rl"
    assert run.versions == provenance.versions()
    assert run.machine == provenance.machine()
    assert run.git_commit == provenance.git_commit()


def test_the_same_run_goes_on_and_keeps_what_it_was_begun_with(tmp_path: Path) -> None:
    claim_run(tmp_path, RECIPE, {"programs": "abc"}, command="redpencil rl")
    written = (tmp_path / "run.json").read_bytes()
    assert claim_run(tmp_path, RECIPE, {"programs": "abc"}, command="redpencil  rl")
    assert (tmp_path / "run.json").read_bytes() == written


@pytest.mark.parametrize(
    ("changed", "programs", "message"),
    [
        ({"steps": 4}, "abc", r"steps: 3 there, 4 now"),
        ({"rules": EditRules()}, "abc", r"rules\.reward\.noop: -0\.1 there, 0\.0 now"),
        ({}, "def", r"programs: abc there, def now\), begun by `redpencil rl`:"),
        ({"seed": 1}, "def", r"seed: 0 there, 1 now"),
    ],
)
def test_another_run_is_refused(
    tmp_path: Path, changed: dict[str, object], programs: str, message: str
) -> None:
    claim_run(tmp_path, RECIPE, {"programs": "abc"}, command="redpencil rl")
    other = msgspec.structs.replace(RECIPE, **changed)
    with pytest.raises(UsageError, match=message):
        claim_run(tmp_path, other, {"programs": programs})


def test_a_digest_tells_the_order_and_where_one_value_ends() -> None:
    assert sha256(["ab", "c"]) == sha256(["ab", "c"])
    assert len({sha256(values) for values in (["ab", "c"], ["c", "ab"], ["a", "bc"], [])}) == 4


def test_the_commit_is_that_of_this_source_and_of_no_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        user = ["-c", "user.name=N", "-c", "user.email=e@localhost"]
        subprocess.run(["git", *user, *arguments], cwd=tmp_path, check=True)
    (tmp_path / "provenance.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.git_commit() == ""
    subprocess.run(["git", "add", "provenance.py"], cwd=tmp_path, check=True)
    assert provenance.git_commit().endswith("+")
