"""Which tasks are sampled, and what is counted of their traces."""

from __future__ import annotations

from typing import Literal

from made import REPL, task, trace
from redpencil.train.curriculum import Curriculum
from redpencil.train.metrics import group_metrics, trace_metrics
from redpencil.types import Edit, Trace

TASKS = [task(name) for name in "abcdef"]


def pair(name: str, solved: Literal["always", "never", "half"]) -> list[Trace]:
    return [
        trace([1.0], of=name, solved=solved != "never"),
        trace([1.0], of=name, solved=solved == "always"),
        trace([1.0], of=name, end="error"),
    ]


def test_a_task_always_or_never_solved_rests_and_is_then_tried_again() -> None:
    curriculum = Curriculum(TASKS, rest_after=2, rest_steps=3, seed=0)
    curriculum.record(pair("a", "never"), 0)
    assert not curriculum.rests(TASKS[0], 1)
    curriculum.record(pair("a", "always"), 1)
    assert [curriculum.rests(TASKS[0], step) for step in range(2, 6)] == [True] * 3 + [False]
    assert curriculum.resting(2) == 1
    curriculum.record(pair("a", "never"), 5)
    assert curriculum.rests(TASKS[0], 6)
    curriculum.record(pair("a", "half"), 9)
    curriculum.record(pair("a", "never"), 10)
    assert not curriculum.rests(TASKS[0], 11)


def test_a_program_that_some_leave_at_a_fine_teaches_though_all_solve_it() -> None:
    curriculum = Curriculum(TASKS, rest_after=1, rest_steps=3, seed=0)
    curriculum.record([trace([reward], of="a", solved=True) for reward in (0.0, -0.5)], 0)
    curriculum.record([trace([0.0], of="b", solved=True)] * 2, 0)
    assert [curriculum.rests(task, 1) for task in TASKS[:2]] == [False, True]


def test_faults_say_nothing_of_a_task() -> None:
    curriculum = Curriculum(TASKS, rest_after=1, rest_steps=3, seed=0)
    curriculum.record([trace([1.0], of="a", end="error")] * 2, 0)
    assert not curriculum.rests(TASKS[0], 1)


def test_a_resting_task_gives_way_to_one_awake_and_not_proposed() -> None:
    curriculum = Curriculum(TASKS, rest_after=1, rest_steps=9, seed=0)
    for name in "abc":
        curriculum.record(pair(name, "never"), 0)
    chosen = curriculum.choose([0, 3, 1], 1)
    assert chosen[1] == 3
    assert {chosen[0], chosen[2]} == {4, 5}
    assert curriculum.choose([0, 3, 1], 1) == chosen
    assert len({tuple(curriculum.choose([0], step)) for step in range(1, 9)}) > 1
    crowded = curriculum.choose([0, 1, 2, 3, 4], 1)
    assert crowded[0] == 5
    assert crowded[1:] == [1, 2, 3, 4]  # nothing else is left
    assert curriculum.choose([0, 1], 10) == [0, 1]


def test_a_task_at_several_places_is_one_task() -> None:
    curriculum = Curriculum([*TASKS[:3], *TASKS[:3]], rest_after=1, rest_steps=9, seed=0)
    curriculum.record(pair("a", "never"), 0)
    assert curriculum.resting(1) == 1
    (first, second) = curriculum.choose([3, 1], 1)
    assert (TASKS[first % 3], second) == (TASKS[2], 1)


def test_what_takes_the_place_of_one_that_rests_is_drawn_by_weight() -> None:
    a, b, c = TASKS[:3]
    curriculum = Curriculum([a, b, *[c] * 8], rest_after=1, rest_steps=999, seed=0)
    curriculum.record(pair("a", "never"), 0)
    chosen = [curriculum.choose([0], step) for step in range(1, 201)]
    assert 160 < sum(place > 1 for (place,) in chosen) < 195  # eight ninths are expected


def test_none_rests_unless_asked_for() -> None:
    curriculum = Curriculum(TASKS, rest_after=0, rest_steps=9, seed=0)
    curriculum.record(pair("a", "never"), 0)
    assert curriculum.choose([0], 1) == [0]


def test_the_log_counts_what_traces_did() -> None:
    leave = Edit("EXIT")
    traces = [
        trace([0.0, 1.0, 0.0], ["p", "p", "q", "q"], edits=[REPL, REPL, leave], solved=True),
        trace([-0.5], ["p", "p"], edits=[None]),
        trace([9.0, 9.0], ["p", "p", "p"], edits=[REPL, None], end="error"),
    ]
    assert trace_metrics(traces, max_turns=4) == {
        "solved_rate": 0.5,
        "malformed_rate": 0.25,
        "noop_rate": 0.25,
        "turns": 2.0,
        "errors": 1,
        "reward_turn_1": -0.25,
        "reward_turn_2": 0.5,
        "reward_turn_3": 0.0,
        "reward_turn_4": 0.0,
    }


def test_the_log_counts_groups_that_teach_nothing() -> None:
    groups = [pair("a", "always"), pair("b", "never"), pair("c", "half"), pair("d", "half")]
    advantages = [[[0.0], [1e-15], [0.0]], [[1.0], [-1.0], [0.0]]] * 2
    assert group_metrics(groups, advantages) == {
        "idle_groups": 0.5,
        "always_solved_groups": 0.25,
        "never_solved_groups": 0.25,
    }
    faults = [trace([0.0], end="error")] * 2
    assert group_metrics([faults], [[[0.0], [0.0]]]) == {
        "idle_groups": 1.0,
        "always_solved_groups": 0.0,
        "never_solved_groups": 0.0,
    }
