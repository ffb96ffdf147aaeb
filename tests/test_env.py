"""Episodes: rewards, ends, and the rollout that plays them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
import pytest

from redpencil.bounds import oracle, random_edits
from redpencil.checkers import PythonChecker
from redpencil.env import (
    CHATS,
    AnswerEnv,
    EditEnv,
    EditRules,
    Env,
    Method,
    RewardRule,
    SelfRepairEnv,
    answered_program,
    repairing,
)
from redpencil.errors import EngineError, UsageError
from redpencil.policy import HumanPolicy, Outcome, ScriptedPolicy, Session
from redpencil.rollout import Episode, rollout
from redpencil.sandbox import Sandbox
from redpencil.types import Observation, Status, Task, Trace, Verdict

CHECKER = PythonChecker()
FIX = "### REPL 2 >>>    return n * 2"
BREAK = "### REPL 2 >>>    return n"
EXIT = "### EXIT"


def play(task: Task, *actions: str, rules: EditRules | None = None) -> Trace:
    policy = ScriptedPolicy(lambda _: actions)
    (trace,) = rollout([Episode(EditEnv(task, CHECKER, rules))], policy)
    return trace


def rewards(trace: Trace) -> list[float]:
    return [turn.reward for turn in trace.turns]


def test_the_first_observation_holds_task_tests_and_page(double: Task) -> None:
    text = EditEnv(double, CHECKER).reset().text
    assert "Task: Return twice the number.\n" in text
    assert "assert double(2) == 4\nassert double(5) == 10\n" in text
    assert text.endswith(
        "\nL 1 def double(n):\nL 2     return n + 1\n***\ndouble(2) returned 3, expected 4\n"
    )
    assert "double(0)" not in text


def test_solving_is_paid_once_and_exit_ends(double: Task) -> None:
    trace = play(double, FIX, BREAK, FIX, EXIT)
    assert rewards(trace) == [1.0, 0.0, 0.0, 0.0]
    assert trace.solved
    assert trace.end == "exit"
    assert trace.final.text.endswith("All tests pass.\n")


def test_malformed_commands_change_nothing_cost_a_turn_and_the_penalty(double: Task) -> None:
    trace = play(double, "### FIX 2", "### DELL 9", FIX, EXIT)
    assert rewards(trace) == [-0.5, -0.5, 1.0, 0.0]
    assert "unknown command 'FIX'" in trace.turns[0].error
    assert "no line 9" in trace.turns[1].error
    assert trace.turns[1].observation.page == trace.turns[0].observation.page
    assert "unknown command" in trace.turns[1].observation.text


def test_a_limit_on_turns_truncates_and_costs(double: Task) -> None:
    trace = play(double, FIX, BREAK, rules=EditRules(max_turns=2))
    assert trace.end == "truncated"
    assert rewards(trace) == [1.0, -0.5]
    assert not trace.solved


def test_running_out_of_room_costs_as_much(double: Task) -> None:
    trace = play(double, FIX)
    assert trace.end == "cut_short"
    assert rewards(trace) == [0.5]
    assert trace.solved


def test_a_noop_costs_what_the_rule_says(double: Task) -> None:
    same = "### REPL 1 >>>def double(n):"
    rules = EditRules(reward=RewardRule(noop=-0.1))
    assert rewards(play(double, same, FIX, EXIT)) == [0.0, 1.0, 0.0]
    assert rewards(play(double, same, FIX, EXIT, rules=rules)) == [-0.1, 1.0, 0.0]


def test_giving_up_costs_what_the_rule_says_and_being_done_nothing(double: Task) -> None:
    rules = EditRules(reward=RewardRule(given_up=-0.5))
    assert rewards(play(double, BREAK, EXIT)) == [0.0, 0.0]
    assert rewards(play(double, BREAK, EXIT, rules=rules)) == [0.0, -0.5]
    assert rewards(play(double, FIX, EXIT, rules=rules)) == [1.0, 0.0]


def test_coming_nearer_is_paid_and_going_away_costs_as_much(double: Task) -> None:
    rules = EditRules(reward=RewardRule(nearer=0.25))
    moves = [
        "### ADDL 1 >>># doubles",
        "### ADDL 1 >>># really",
        "### REPL 2 >>># truly",
        "### REPL 4 >>>    return n * 2",
        "### DELL 1",
        EXIT,
    ]
    assert rewards(play(double, *moves, rules=rules)) == [-0.25, -0.25, 0.0, 1.25, 0.25, 0.0]
    assert rewards(play(double, *moves)) == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def test_without_a_solution_nothing_can_come_nearer(double: Task) -> None:
    unknown = msgspec.structs.replace(double, solution=None)
    EditEnv(unknown, CHECKER)
    with pytest.raises(UsageError, match=r"has no solution: leave out rules\.reward\.nearer"):
        EditEnv(unknown, CHECKER, EditRules(reward=RewardRule(nearer=0.25)))


def test_turns_that_change_nothing_may_end_an_episode(double: Task) -> None:
    same = "### REPL 1 >>>def double(n):"
    rules = EditRules(idle_turns=2)
    trace = play(double, same, BREAK, same, "### OOPS", FIX, EXIT, rules=rules)
    assert trace.end == "truncated"
    assert rewards(trace) == [0.0, 0.0, 0.0, -1.0]


def test_an_episode_may_end_as_soon_as_the_tests_pass(double: Task) -> None:
    trace = play(double, FIX, EXIT, rules=EditRules(until_solved=True))
    assert trace.end == "solved"
    assert len(trace.turns) == 1


def test_hidden_tests_count_but_are_not_shown(double: Task) -> None:
    task = msgspec.structs.replace(double, hidden_tests=("assert double(100) == 0",))
    trace = play(task, FIX, EXIT)
    assert rewards(trace) == [0.0, 0.0]
    assert not trace.solved
    assert trace.final.text.endswith("All tests pass.\n")


def test_a_task_without_a_program_is_refused(double: Task) -> None:
    with pytest.raises(UsageError, match="no program to repair"):
        EditEnv(msgspec.structs.replace(double, program=None), CHECKER)


@dataclass
class Flaky:
    """A checker whose machinery fails from the second call on."""

    calls: int = 0

    def check(self, text: str, task: Task) -> Verdict:
        self.calls += 1
        if self.calls > 1:
            return Verdict(Status.INFRA_ERROR, 0, 2, "no process left", 0.0, "none")
        return CHECKER.check(text, task)


def test_a_fault_of_the_machinery_is_an_error_never_a_reward(double: Task) -> None:
    policy = ScriptedPolicy(lambda _: [FIX, EXIT])
    episodes = [Episode(EditEnv(double, Flaky())), Episode(EditEnv(double, CHECKER), seed=1)]
    traces = {trace.seed: trace for trace in rollout(episodes, policy)}
    assert traces[0].end == "error"
    assert traces[0].error == "no process left"
    assert not traces[0].solved
    assert rewards(traces[0]) == []
    assert traces[1].solved


def test_a_direct_answer_is_one_turn(double: Task) -> None:
    answer = "Sure:\n```python\ndef double(n):\n    return n * 2\n```\nDone."
    (trace,) = rollout([Episode(AnswerEnv(double, CHECKER))], ScriptedPolicy(lambda _: [answer]))
    assert trace.method == "direct"
    assert trace.solved
    assert trace.reward == 1.0
    assert "return n + 1" in trace.turns[0].observation.text


GOOD = "```python\ndef double(n):\n    return n * 2\n```"
BAD = "```python\ndef double(n):\n    return n - 1\n```"


def test_without_history_every_observation_is_a_whole_context(double: Task) -> None:
    kept = play(double, BREAK, FIX, EXIT)
    trace = play(double, BREAK, FIX, EXIT, rules=EditRules(history=False))
    seen = [turn.observation for turn in trace.turns]
    assert [observation.fresh for observation in seen] == [False, True, True]
    assert seen[0] == kept.turns[0].observation
    prompt = seen[0].text.partition("L 1 ")[0]
    for observation, turn in zip(seen[1:], kept.turns[1:], strict=True):
        assert observation.text == prompt + turn.observation.text
        assert not turn.observation.fresh
    assert rewards(trace) == rewards(kept)


def test_self_repair_answers_in_turns_until_the_tests_pass(double: Task) -> None:
    def answers(*said: str) -> Trace:
        env = SelfRepairEnv(double, CHECKER, max_turns=3)
        (trace,) = rollout([Episode(env)], ScriptedPolicy(lambda _: said))
        return trace

    trace = answers(BAD, "no program", GOOD, BAD)
    assert (trace.method, trace.end, trace.solved) == ("self-repair", "solved", True)
    assert rewards(trace) == [0.0, -0.5, 1.0]
    assert "double(2) returned 1, expected 4" in trace.turns[1].observation.text
    assert "return n + 1" not in trace.turns[1].observation.text
    unsolved = answers(BAD, BAD, BAD, GOOD)
    assert (unsolved.end, unsolved.solved, len(unsolved.turns)) == ("truncated", False, 3)
    hidden = msgspec.structs.replace(double, hidden_tests=("assert double(1) == 7",))
    env = SelfRepairEnv(hidden, CHECKER)
    (fooled,) = rollout([Episode(env)], ScriptedPolicy(lambda _: [GOOD, BAD]))
    assert (fooled.end, fooled.solved) == ("solved", False)  # of hidden tests nothing is told


def test_examples_are_shown_with_their_failures_and_solutions(double: Task) -> None:
    other = msgspec.structs.replace(
        double, id="other", program="def double(n):\n    return n ** 2\n"
    )
    alone = AnswerEnv(double, CHECKER).reset().text
    text = AnswerEnv(double, CHECKER, [other]).reset().text
    assert text.endswith(f"{alone}\n\nAnswer:")
    example = text.removesuffix(f"{alone}\n\nAnswer:")
    assert "return n ** 2" in example
    assert "double(5) returned 25, expected 10" in example
    assert example.endswith(f"\n\nAnswer:\n{GOOD}\n\n")
    bare = msgspec.structs.replace(double, program=None)
    with pytest.raises(UsageError, match="no program to repair"):
        AnswerEnv(double, CHECKER, [bare])


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_repairs_and_names_itself(double: Task, method: Method) -> None:
    env = repairing(method, double, CHECKER, EditRules())
    assert env.method == method
    assert env.chat == (method in CHATS)
    edits = {"coe": [FIX, EXIT], "in-place": [*FIX.replace(" >>>", "|\n").split("|"), EXIT]}
    script = edits.get(method, [f"Doubling is multiplying by two.\n{GOOD}"])
    (trace,) = rollout([Episode(env)], ScriptedPolicy(lambda _: script))
    assert (trace.method, trace.solved, trace.reward) == (method, True, 1.0)


@pytest.mark.parametrize("method", sorted(CHATS))
def test_an_answer_has_room_for_a_program_as_long_as_the_broken_one(
    double: Task, method: Method
) -> None:
    usual = repairing(method, double, CHECKER, EditRules()).max_tokens
    assert usual >= 384
    program = double.program or ""
    long = msgspec.structs.replace(double, program=program + "# a line of the program\n" * 400)
    room = repairing(method, long, CHECKER, EditRules()).max_tokens - usual
    assert room == len(long.program or "") // 3 - 384
    assert repairing(method, double, CHECKER, EditRules()).max_tokens == usual


THOUGHTS = "The sum is wrong. I have to multiply.\n"


@pytest.mark.parametrize("method", ["direct", "self-repair"])
def test_an_answer_ends_with_its_first_whole_program(double: Task, method: Method) -> None:
    env = repairing(method, double, CHECKER, EditRules())
    assert not env.complete(THOUGHTS)
    assert not env.complete(THOUGHTS + GOOD.removesuffix("```"))
    assert env.complete(THOUGHTS + GOOD)


@pytest.mark.parametrize(
    ("answer", "solved"),
    [
        (f"It says\n{BAD}\n{THOUGHTS}{GOOD}\nThat is all.", True),
        (f"{GOOD}\nNo, better:\n{BAD}", False),
        (f"It says\n{BAD}\n{THOUGHTS}{GOOD}\nOr else\n```python\ndef dou", True),
        (f"{THOUGHTS}{GOOD.removesuffix('```')}", True),
        (THOUGHTS, False),
    ],
)
def test_thoughts_go_on_to_their_end_and_count_by_their_last_program(
    double: Task, answer: str, solved: bool
) -> None:
    env = repairing("reasoning", double, CHECKER, EditRules())
    assert not any(env.complete(answer[:length]) for length in range(len(answer) + 1))
    (trace,) = rollout([Episode(env)], ScriptedPolicy(lambda _: [answer]))
    assert (trace.solved, trace.end) == (solved, "exit")
    assert bool(trace.turns[0].error) == (answer == THOUGHTS)


def test_the_bounds_of_editing_need_no_model(double: Task) -> None:
    episodes = [Episode(EditEnv(double, CHECKER), seed) for seed in range(12)]
    assert all(trace.solved and trace.end == "exit" for trace in rollout(episodes, oracle()))
    program = "def double(n):\n    return {2: 4, 5: 10}.get(n)\n"
    seen = msgspec.structs.replace(double, program=program)
    (trace,) = rollout([Episode(EditEnv(seen, CHECKER))], oracle())
    assert trace.turns[0].observation.text.endswith("All tests pass.\n")
    assert trace.solved, "though the tests that it is shown pass from the beginning"
    floor = {trace.seed: trace for trace in rollout(episodes, random_edits())}
    again = {trace.seed: trace for trace in rollout(episodes, random_edits())}
    assert not any(turn.error for trace in floor.values() for turn in trace.turns)
    assert len({trace.turns[0].action for trace in floor.values()}) > 3
    for seed, trace in floor.items():
        assert [turn.action for turn in trace.turns] == [t.action for t in again[seed].turns]
        assert trace.solved or trace.end == "truncated"
    unknown = msgspec.structs.replace(double, solution=None)
    with pytest.raises(UsageError, match="no solution"):
        list(rollout([Episode(EditEnv(unknown, CHECKER))], oracle()))


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```\n```\ny\n```", "x = 1\n"),
        ("text ```py\nx = 1", "x = 1"),
        ("x = 1", "x = 1"),
        ("```python\ns = '```'\n```", "s = '```'\n"),
    ],
)
def test_the_program_in_an_answer(answer: str, program: str) -> None:
    assert answered_program(answer) == program


def test_a_person_can_be_the_policy(double: Task) -> None:
    said = iter([FIX, EXIT])
    shown: list[str] = []
    policy = HumanPolicy(shown.append, lambda: next(said))
    (trace,) = rollout([Episode(EditEnv(double, CHECKER))], policy)
    assert trace.solved
    assert trace.policy == "human"
    assert len(shown) == 2


def test_more_episodes_than_places_are_all_played(double: Task) -> None:
    episodes = (Episode(EditEnv(double, CHECKER), seed=seed) for seed in range(7))
    policy = ScriptedPolicy(lambda _: [FIX, EXIT])
    assert sorted(t.seed for t in rollout(episodes, policy, concurrency=3)) == list(range(7))


@pytest.mark.parametrize(("capacity", "at_once"), [(40, 40), (None, 32)])
def test_as_many_episodes_are_under_way_as_the_policy_can_hold(
    double: Task, capacity: int | None, at_once: int
) -> None:
    class Counting(ScriptedPolicy):
        def open(self, env: Env, seed: int) -> Session:
            opened.append(seed)
            return super().open(env, seed)

    opened: list[int] = []
    policy = Counting(lambda _: [EXIT])
    policy.capacity = capacity  # type: ignore[assignment]
    traces = rollout((Episode(EditEnv(double, CHECKER), seed) for seed in range(50)), policy)
    next(traces)
    traces.close()
    assert len(opened) == at_once


def test_no_episode_waits_for_another(double: Task) -> None:
    others_ended = threading.Event()

    class Slow:
        def check(self, text: str, task: Task) -> Verdict:
            assert others_ended.wait(timeout=30)
            return CHECKER.check(text, task)

    policy = ScriptedPolicy(lambda _: [FIX, EXIT])
    episodes = [
        Episode(EditEnv(double, Slow() if seed == 0 else CHECKER), seed) for seed in range(6)
    ]
    ended = []
    for trace in rollout(episodes, policy, concurrency=3):
        ended.append(trace.seed)
        if len(ended) == 5:
            others_ended.set()
    assert ended[-1] == 0


@pytest.mark.parametrize("when", ["begin", "step"])
def test_an_engine_that_fails_ends_its_own_episode_with_an_error(double: Task, when: str) -> None:
    class Failing(ScriptedPolicy):
        def begin(self, session: Session, observation: Observation) -> None:
            if when == "begin" and session is first:
                raise EngineError("no answer")
            super().begin(session, observation)

        def step(self) -> list[tuple[Session, Outcome]]:
            return [
                (session, EngineError("no answer") if session is first else outcome)
                for session, outcome in super().step()
            ]

        def open(self, env: Env, seed: int) -> Session:
            nonlocal first
            session = super().open(env, seed)
            first = first or session
            return session

    first: Session | None = None
    episodes = [Episode(EditEnv(double, CHECKER), seed) for seed in range(3)]
    traces = {trace.seed: trace for trace in rollout(episodes, Failing(lambda _: [FIX, EXIT]))}
    assert (traces[0].end, traces[0].error) == ("error", "no answer")
    assert traces[1].solved
    assert traces[2].solved


def test_a_rollout_that_is_left_frees_what_it_held(double: Task) -> None:
    class Counting(ScriptedPolicy):
        def open(self, env: Env, seed: int) -> Session:
            session = super().open(env, seed)
            opened.append(session)
            close = session.close
            session.close = lambda: (closed.add(session), close())[1]  # type: ignore[method-assign]
            return session

    opened: list[Session] = []
    closed: set[Session] = set()
    episodes = (Episode(EditEnv(double, CHECKER), seed) for seed in range(9))
    traces = rollout(episodes, Counting(lambda _: [FIX, EXIT]), concurrency=4)
    next(traces)
    traces.close()
    assert closed == set(opened)
    assert len(opened) < 9


def test_traces_have_one_json_form(double: Task) -> None:
    trace = play(double, "### FIX", FIX, EXIT)
    data = msgspec.json.encode(trace)
    assert msgspec.json.decode(data, type=Trace) == trace
    with pytest.raises(msgspec.ValidationError, match="surprise"):
        msgspec.json.decode(data.replace(b'"seed":', b'"surprise":0,"seed":'), type=Trace)


def test_only_a_trusting_checker_believes_objects(double: Task) -> None:
    always = "class double:\n    def __init__(s, n): pass\n    def __eq__(s, o): return True\n"
    assert not PythonChecker().check(always, double).solved
    believed = PythonChecker(trusting=True).check(always, double)
    assert believed.status is Status.PASSED
    assert believed.inside == believed.total


def test_a_page_is_run_once(double: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    class Counting(Sandbox):
        def run(self, program: str, *args: Any, **options: Any) -> Verdict:
            runs.append(program)
            status = Status.INFRA_ERROR if "fault" in program else Status.FAILED
            return Verdict(status, 0, 1, "no", 0.0, "none")

    checker = PythonChecker(sandbox=Counting(), remembered=2)
    other = msgspec.structs.replace(double, hidden_tests=("assert double(9) == 18",))
    for text, task in [("a", double), ("a", double), ("a", other), ("a", double)]:
        checker.check(text, task)
    assert runs == ["a", "a"]
    for text in ("fault", "fault", "b", "a"):
        checker.check(text, double)
    assert runs == ["a", "a", "fault", "fault", "b", "a"]
