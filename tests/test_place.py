"""Editing in place: a command names a line, what stands before it is shown, the line is written."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import origin
from redpencil import editor
from redpencil.checkers import PythonChecker
from redpencil.demos import Broken, Order, broken_variants, demonstrate
from redpencil.env import EditRules, PlaceEnv
from redpencil.errors import ParseError
from redpencil.policy import ScriptedPolicy
from redpencil.results import noops, summarise
from redpencil.rollout import Episode, rollout
from redpencil.tasks import load
from redpencil.train.credit import RULES, of_traces
from redpencil.train.metrics import trace_metrics
from redpencil.types import Edit, Task, Trace

CHECKER = PythonChecker()
NAME, LINE, EXIT = "### REPL 2", "\n    return n * 2", "### EXIT"


def play(task: Task, *actions: str, rules: EditRules | None = None) -> Trace:
    policy = ScriptedPolicy(lambda _: actions)
    (trace,) = rollout([Episode(PlaceEnv(task, CHECKER, rules))], policy)
    return trace


def test_a_line_is_written_after_those_before_it(double: Task) -> None:
    trace = play(double, NAME, LINE, EXIT)
    named, written, ended = trace.turns
    assert [turn.half for turn in trace.turns] == [True, False, False]
    assert named.observation.text.endswith("L 2     return n + 1\n***\n" + double_feedback(double))
    assert written.observation.text == "```python\ndef double(n):"
    assert written.observation.page == named.observation.page
    assert written.edit == Edit("REPL", 2, LINE[1:])
    assert (named.edit, named.error, named.reward) == (None, "", 0.0)
    assert (written.reward, ended.reward, trace.end, trace.solved) == (1.0, 0.0, "exit", True)
    assert ended.observation.text.startswith("L 1 def double(n):\nL 2     return n * 2\n***\n")


def double_feedback(task: Task) -> str:
    return CHECKER.check(task.program or "", task).detail + "\n"


@pytest.mark.parametrize("command", ["ADDL 1", "ADDL 3", "REPL 1"])
def test_any_line_can_be_named_that_can_be_edited(double: Task, command: str) -> None:
    trace = play(double, f"### {command}", "\n# here", EXIT)
    name, number = command.split()
    edit = Edit(name, int(number), "# here")  # type: ignore[arg-type]
    assert trace.turns[1].edit == edit
    assert trace.turns[2].observation.page == editor.apply(trace.turns[0].observation.page, edit)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("### REPL 9", "no line 9 for REPL"),
        ("### REPL 2 >>>    return n * 2", "REPL takes a line number, found '2 >>>"),
        ("### REPW 2", "unknown command 'REPW'; the commands are ADDL, REPL, DELL, EXIT"),
        ("### REPL two", "REPL takes a line number"),
        ("    return n * 2", "a command starts with"),
    ],
)
def test_what_names_no_line_is_malformed_and_costs_as_ever(
    double: Task, action: str, said: str
) -> None:
    trace = play(double, action, NAME, LINE, EXIT)
    assert said in trace.turns[0].error
    assert trace.turns[0].reward == -0.5
    assert trace.solved


def test_both_halves_are_one_command_of_those_there_may_be(double: Task) -> None:
    rules = EditRules(max_turns=2)
    trace = play(double, NAME, "\n    return n", NAME, LINE, EXIT, rules=rules)
    assert [turn.reward for turn in trace.turns] == [0.0, 0.0, 0.0, 0.5]
    assert trace.end == "truncated"
    idle = EditRules(idle_turns=1)
    same = play(double, NAME, "\n    return n + 1", NAME, LINE, rules=idle)
    assert (len(same.turns), same.end) == (2, "truncated")
    assert noops(same) == [True]


def test_drafts_are_weighed_by_where_they_lead(double: Task) -> None:
    env = PlaceEnv(double, CHECKER)
    env.reset()
    assert [env.leads_on(action) for action in (NAME, EXIT, "### DELL 2", "### REPL 9", LINE)] == [
        True, True, True, False, False,
    ]  # fmt: skip
    env.step(NAME)
    assert [env.leads_on(line) for line in (LINE, "\n    return n + 1")] == [True, False]


@given(st.integers(1, 99), st.text(st.characters(exclude_characters="\n\r"), max_size=20))
def test_a_half_is_the_whole_command_but_for_its_text(line: int, text: str) -> None:
    for name in ("ADDL", "REPL"):
        whole = Edit(name, line, text)  # type: ignore[arg-type]
        half = editor.parse_half(f"### {name} {line}")
        assert msgspec.structs.replace(half, text=text) == whole
        with pytest.raises(ParseError):
            editor.parse_half(editor.format_edit(whole))
    assert editor.parse_half(f"### DELL {line}") == Edit("DELL", line)
    assert editor.parse_half(EXIT) == Edit("EXIT")


@pytest.mark.parametrize("order", ["direct", "inverse"])
def test_the_teacher_writes_in_place_what_it_would_write_at_once(order: Order) -> None:
    variants: list[Broken] = list(
        broken_variants(load("builtin:validation").tasks[:12], 2, (1, 3), 0, CHECKER)
    )
    whole = demonstrate(variants, CHECKER, order=order)
    halves = demonstrate(variants, CHECKER, order=order, method="in-place")
    for one, other in zip(whole, halves, strict=True):
        if not isinstance(one, Trace):
            assert other == one
            continue
        assert isinstance(other, Trace)
        assert other.method == "in-place"
        pages = [turn.observation.page for turn in one.turns]
        assert pages == [
            turn.observation.page
            for turn in other.turns
            if not turn.observation.text.startswith("```python")
        ]
        assert other.final.page == one.final.page


@pytest.mark.parametrize("line", ["    return n * 2", "\n    return n * 2\n    x = 1", ""])
def test_a_second_half_is_a_line_end_and_one_line(double: Task, line: str) -> None:
    trace = play(double, NAME, line, NAME, LINE, EXIT)
    assert "expected a line end and one line" in trace.turns[1].error
    assert [turn.reward for turn in trace.turns] == [0.0, -0.5, 0.0, 1.0, 0.0]
    assert trace.turns[2].observation.text.startswith("L 1 def double(n):")


def test_what_the_model_writes_ends_with_its_line(double: Task) -> None:
    env = PlaceEnv(double, CHECKER)
    env.reset()
    assert env.complete("### REPL 2\n")
    assert env.action("### REPL 2\n### EXIT\n") == NAME
    env.step(NAME)
    assert not env.complete("\n    return")
    assert not env.complete("\n")
    assert env.complete(f"{LINE}\n")
    assert env.complete("\n\n")
    assert env.action(f"{LINE}\n    return 3\n") == LINE
    assert env.action("\n\n") == "\n"
    assert env.complete(" and\n")
    assert env.action(" and\nmore") == " and"


def test_halves_count_and_earn_as_one_command(double: Task) -> None:
    rules = EditRules(max_turns=3)
    solved = play(double, NAME, LINE, EXIT, rules=rules)
    vain = play(double, NAME, "\n    return n + 1", NAME, "\n    return n + 1", EXIT, rules=rules)
    cut = play(double, "### DELL 2", NAME)
    assert [len(trace.commands) for trace in (solved, vain, cut)] == [2, 3, 2]
    assert solved.commands[0].action == NAME + LINE
    assert solved.commands[0].edit == Edit("REPL", 2, LINE[1:])
    assert [turn.reward for turn in solved.commands] == [1.0, 0.0]
    results = summarise([solved, vain], origin(), 1.0)
    assert (results.mean_turns, results.noop_rate, results.repetition_rate) == (2.5, 0.4, 0.2)
    assert results.solved_by_turn == (0.5, 0.5, 0.5)
    advantages = of_traces(RULES["paper"], [solved, vain])
    assert advantages[0][0] == advantages[0][1] > 0 > advantages[1][0] == advantages[1][1]
    assert [len(values) for values in advantages] == [3, 5]
    assert len(of_traces(RULES["returns"], [cut, solved])[0]) == 2
    metrics = trace_metrics([solved, vain], 3)
    assert sum(metrics[f"reward_turn_{n}"] for n in (1, 2, 3)) == (solved.reward + vain.reward) / 2
