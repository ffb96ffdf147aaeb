"""Tasks that begin amid an episode: what was shown and said before is what is shown first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from redpencil.checkers import PythonChecker
from redpencil.demos import Broken, broken_variants, some_intact
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import load_model, load_tokenizer
from redpencil.env import EditEnv, EditRules, repairing
from redpencil.errors import DataError, UsageError
from redpencil.files import write_jsonl
from redpencil.policy import ModelPolicy, ScriptedPolicy
from redpencil.rollout import Episode, rollout, rollout_to_file
from redpencil.tasks import load
from redpencil.train.tokens import trace_tokens
from redpencil.types import Task, Trace

CHECKER = PythonChecker()
VAIN = "### REPL 2 >>>    return n + 2"
GARBLED = "REPL 2: return n * 2"
RIGHT = "### REPL 2 >>>    return n * 2"
EXIT = "### EXIT"


def played(task: Task, *actions: str, rules: EditRules | None = None) -> Trace:
    episode = Episode(EditEnv(task, CHECKER, rules or EditRules(max_turns=len(actions))))
    (trace,) = rollout([episode], ScriptedPolicy(lambda task: actions))
    return trace


def begun(task: Task, *given: str) -> Task:
    return msgspec.structs.replace(task, given=given)


@pytest.mark.parametrize("history", [True, False])
def test_it_is_shown_what_led_there(history: bool, double: Task) -> None:
    rules = EditRules(max_turns=3, history=history)
    whole = played(double, VAIN, GARBLED, RIGHT, rules=rules)
    later = played(begun(double, VAIN, GARBLED), RIGHT, rules=rules)
    first, second, third = (turn.observation.text for turn in whole.turns)
    wanted = f"{first}{VAIN}\n{second}{GARBLED}\n{third}" if history else third
    assert later.turns[0].observation.text == wanted
    assert later.turns[0].observation.page == whole.turns[2].observation.page
    assert not later.turns[0].observation.fresh
    assert later.final.text == whole.final.text


def test_what_came_before_counts_against_no_limit_and_is_not_paid_again(double: Task) -> None:
    rules = EditRules(max_turns=2, idle_turns=2)
    task = begun(double, VAIN, VAIN, VAIN, GARBLED)
    assert played(task, GARBLED, RIGHT, rules=rules).solved
    trace = played(begun(double, RIGHT), VAIN, RIGHT, rules=rules)
    assert [turn.reward for turn in trace.turns] == [0, -0.5]
    assert played(begun(double, GARBLED), EXIT).turns[0].reward == 0


@pytest.mark.parametrize(
    ("ending", "rules"),
    [(EXIT, EditRules()), (RIGHT, EditRules(until_solved=True))],
)
def test_what_ends_the_episode_cannot_be_given(ending: str, rules: EditRules, double: Task) -> None:
    with pytest.raises(UsageError, match=f"{double.id}: the given '### "):
        EditEnv(begun(double, VAIN, ending), CHECKER, rules).reset()


def test_what_was_mended_and_spoiled_again_is_open_to_whoever_stops_at_a_pass(double: Task) -> None:
    later = played(begun(double, RIGHT, VAIN), RIGHT, rules=EditRules(until_solved=True))
    assert later.solved
    assert later.end == "solved"


def test_a_task_that_cannot_begin_leaves_no_sequence_open(double: Task, tiny_model: Path) -> None:
    policy = ModelPolicy(LocalEngine(*load_model(str(tiny_model)), capacity=1), "tiny")
    for _ in range(2):
        with pytest.raises(UsageError, match="ends the episode"):
            list(rollout([Episode(EditEnv(begun(double, EXIT), CHECKER))], policy))


def test_only_edits_can_be_given(double: Task) -> None:
    with pytest.raises(UsageError, match="begins amid editing: leave out --method direct"):
        repairing("direct", begun(double, VAIN), CHECKER, EditRules())


def test_it_is_encoded_as_the_policy_would_have_met_it(double: Task, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    (whole,) = trace_tokens(played(double, VAIN, GARBLED, RIGHT, EXIT), tokenizer)
    (later,) = trace_tokens(played(begun(double, VAIN, GARBLED), RIGHT, EXIT), tokenizer)
    assert later.ids == whole.ids


def test_the_places_at_which_failed_traces_were_open_are_tasks(
    double: Task, tmp_path: Path
) -> None:
    path = tmp_path / "traces.jsonl"
    failed = played(double, VAIN, GARBLED, VAIN)
    write_jsonl(path, [failed, played(double, RIGHT, EXIT), failed, played(double, EXIT)])
    found = load(f"traces:{path}")
    assert [task.given for task in found.tasks] == [
        (VAIN,),
        (VAIN, GARBLED),
        (VAIN, GARBLED, VAIN),
    ]
    assert "3 places in 2 failed of 4 traces" in found.summary
    assert len({task.id for task in found.tasks}) == 3
    assert all(task.id.startswith(f"{double.id}#") for task in found.tasks)
    # What goes wrong from such a place is one in its turn.
    again = tmp_path / "again.jsonl"
    write_jsonl(again, [played(found.tasks[1], VAIN)])
    assert load(f"traces:{again}").tasks[0].given == (VAIN, GARBLED, VAIN)


def test_traces_of_answers_have_no_such_places(double: Task, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    env = repairing("direct", double, CHECKER, EditRules())
    write_jsonl(path, rollout([Episode(env)], ScriptedPolicy(lambda _: ["no"])))
    with pytest.raises(DataError, match=r"line 1: its trace is of direct, not coe"):
        load(f"traces:{path}")


def test_programs_amid_editing_are_kept_apart_and_begin_anew_when_left_intact(
    double: Task, tmp_path: Path
) -> None:
    tasks = [begun(double, VAIN), begun(double, GARBLED)]
    kept = list(broken_variants(tasks, 2, (1, 1), 0, CHECKER))
    assert kept == [Broken(task, (), ()) for task in tasks]
    (intact, _) = some_intact(kept, 1, 0, CHECKER)
    assert intact.task == msgspec.structs.replace(double, program=double.solution)
    episodes = [Episode(EditEnv(task, CHECKER)) for task in tasks]

    def play(some: Sequence[Episode]) -> Iterator[Trace]:
        return rollout(some, ScriptedPolicy(lambda _: [RIGHT, EXIT]))

    traces = rollout_to_file(tmp_path / "traces.jsonl", episodes, play)
    assert {trace.task.given for trace in traces} == {(VAIN,), (GARBLED,)}
