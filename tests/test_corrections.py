"""Corrections: the model's commands as it wrote them, and from there a teacher's that mend."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from redpencil.checkers import PythonChecker
from redpencil.corrections import Plan, correct, correction_set
from redpencil.dataset import write_demos
from redpencil.env import EditEnv, EditRules
from redpencil.errors import UsageError
from redpencil.files import read_jsonl, sha256, write_jsonl
from redpencil.policy import ScriptedPolicy
from redpencil.rollout import Episode, rollout
from redpencil.types import Task, Trace

CHECKER = PythonChecker()
VAIN = "### REPL 2 >>>    return n + 2"
WORSE = "### DELL 1"
GARBLED = "REPL 2: return n * 2"
RIGHT = "### REPL 2 >>>    return n * 2"
EXIT = "### EXIT"


def played(task: Task, actions: Sequence[str]) -> Trace:
    env = EditEnv(task, CHECKER, EditRules(max_turns=len(actions)))
    episode = Episode(env, 7, ("wrong_operator",))
    (trace,) = rollout([episode], ScriptedPolicy(lambda task: actions, "model"))
    return trace


def corrected(trace: Trace, **options: int) -> list[Trace]:
    made = list(correct(trace, CHECKER, **options))
    assert all(isinstance(item, Trace) for item in made)
    return [item for item in made if isinstance(item, Trace)]


def test_the_models_commands_are_given_and_the_teacher_mends_what_they_left(double: Task) -> None:
    mistakes = [VAIN, WORSE, GARBLED]
    failed = played(double, mistakes)
    made = corrected(failed, cuts=9)

    assert [list(trace.task.given) for trace in made] == [mistakes[:place] for place in range(4)]
    for trace in made:
        place = len(trace.task.given)
        shown = "".join(f"{turn.observation.text}{turn.action}\n" for turn in failed.turns[:place])
        # What the model is shown is what it was shown when it failed.
        left = failed.turns[place].observation if place < len(failed.turns) else failed.final
        first = trace.turns[0].observation
        assert (first.text, first.page) == (shown + left.text, left.page)
        taught = [turn.action for turn in trace.turns]
        assert taught[-2:] == [RIGHT, EXIT] or taught[0].startswith("### REPL 1 >>>def double")
        assert trace.solved
        assert trace.end == "exit"
        assert (trace.corruptions, trace.seed) == (failed.corruptions, failed.seed)


def test_a_cut_is_where_it_is_open_what_comes_next(double: Task) -> None:
    first, second = corrected(played(double, [VAIN, EXIT]), cuts=9)
    assert [turn.action for turn in first.turns] == [RIGHT, EXIT]
    assert (second.task.given, second.turns[0].action) == ((VAIN,), RIGHT)
    assert corrected(played(double, [EXIT]), cuts=9) == [first]
    assert corrected(played(double, [VAIN, RIGHT, EXIT]), cuts=9) == []
    # Where only a hidden test fails, nothing that the model sees says what is wrong.
    by_heart = "### REPL 2 >>>    return {2: 4, 5: 10}.get(n)"
    assert corrected(played(double, [by_heart, EXIT]), cuts=9) == [first]


def test_the_latest_pages_leave_a_teacher_as_many_turns_as_the_first(double: Task) -> None:
    made = corrected(played(double, [VAIN] * 12), cuts=13)
    assert [len(trace.task.given) for trace in made] == list(range(13))
    assert all(trace.solved for trace in made)


def test_the_turns_are_drawn_by_the_seed(double: Task) -> None:
    failed = played(double, [VAIN] * 6)
    places = [len(corrected(failed, seed=seed)[0].task.given) for seed in range(80)]
    assert set(places) == {0, 1, 2, 3, 4, 5, 6}
    assert corrected(failed, seed=3) == corrected(failed, seed=3)


def test_they_are_written_with_a_card_and_without_what_is_measured_on(
    double: Task, tmp_path: Path
) -> None:
    solution = "def double(n):\n    return n + n\n"
    other = msgspec.structs.replace(double, id="other", prompt="Add it.", solution=solution)
    twin = msgspec.structs.replace(double, id="test/1")
    traces = [played(double, [VAIN]), played(other, [VAIN, WORSE]), played(other, [WORSE])]
    path = tmp_path / "corrections.jsonl"

    def plan(some: list[Trace]) -> Plan:
        return Plan(traces_sha256=sha256(some), against_sha256=sha256([twin]), cuts=2)

    made = correction_set(plan(traces), traces, [twin], CHECKER)
    card = write_demos(path, made)

    assert card.overlapping == {double.id: "test/1"}
    assert [trace.task.id for trace in read_jsonl(path, Trace)] == ["other"] * 4
    assert (card.summary.demos, card.summary.tasks) == (4, 1)
    assert "| corrections of a trace | at most 2 |" in path.with_suffix(".card.md").read_text()
    assert write_demos(path, made) == card
    fewer = correction_set(plan(traces[:2]), traces[:2], [twin], CHECKER)
    with pytest.raises(UsageError, match="something else"):
        write_demos(path, fewer)


def test_what_several_traces_have_in_common_is_corrected_once(double: Task, tmp_path: Path) -> None:
    traces = [played(double, [VAIN]), played(double, [WORSE]), played(double, [VAIN])]
    plan = Plan(traces_sha256=sha256(traces), against_sha256="", cuts=2)
    card = write_demos(tmp_path / "all.jsonl", correction_set(plan, traces, (), CHECKER))
    made = [trace.task.given for trace in read_jsonl(tmp_path / "all.jsonl", Trace)]
    assert sorted(made) == [(), (WORSE,), (VAIN,)]
    assert card.summary.drops["duplicate"] == 3


def test_what_must_not_be_inside_is_part_of_what_a_file_is_made_of(
    redpencil: Callable[..., subprocess.CompletedProcess[str]], double: Task, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "failed.jsonl", [played(double, [VAIN])])
    write_jsonl(tmp_path / "twin.jsonl", [msgspec.structs.replace(double, id="test/1")])
    made = ("corrections", "failed.jsonl", "--out", "more.jsonl")
    assert redpencil(*made, cwd=tmp_path).returncode == 0
    again = redpencil(*made, "--against", "jsonl:twin.jsonl", cwd=tmp_path)
    assert again.returncode == 2
    assert "something else (against_sha256: " in " ".join(again.stderr.split())


def test_a_task_without_a_solution_is_counted(double: Task, tmp_path: Path) -> None:
    unsolved = msgspec.structs.replace(double, id="unsolved", solution=None)
    traces = [played(unsolved, [VAIN]), played(double, [VAIN])]
    plan = Plan(traces_sha256="", against_sha256="")
    card = write_demos(tmp_path / "c.jsonl", correction_set(plan, traces, (), CHECKER))
    assert (card.summary.tasks, card.summary.drops["no_solution"]) == (1, 1)  # type: ignore[index]


def test_only_editing_that_failed_is_corrected(double: Task) -> None:
    plan = Plan(traces_sha256="", against_sha256="")
    answer = msgspec.structs.replace(played(double, [VAIN]), method="direct")
    with pytest.raises(UsageError, match="only --method coe can be corrected, not direct"):
        correction_set(plan, [answer], (), CHECKER)
    with pytest.raises(UsageError, match="none of the 1 traces failed"):
        correction_set(plan, [played(double, [RIGHT, EXIT])], (), CHECKER)
