"""Several candidates for an action: the likeliest that leads on is taken, the others are gone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from redpencil.checkers import PythonChecker
from redpencil.engine import Capability, Sample, Sampling
from redpencil.engine.local import LocalEngine
from redpencil.env import EditEnv, EditRules
from redpencil.errors import EngineError, UsageError
from redpencil.policy import ModelPolicy
from redpencil.rollout import Episode, rollout
from redpencil.train.tokens import trace_tokens
from redpencil.types import Task, Trace

CHECKER = PythonChecker()
VAIN = "### REPL 2 >>>    return n + 1"
OTHER = "### REPL 2 >>>    return n + 3"
RIGHT = "### REPL 2 >>>    return n * 2"
EXIT = "### EXIT"


class Written:
    """An engine whose drafts are written down: of each turn what they say, and how likely."""

    capabilities: frozenset[Capability] = frozenset({"fork", "logprobs"})
    capacity = 8

    def __init__(self, turns: Sequence[Sequence[tuple[str, float] | EngineError | None]]) -> None:
        self.contexts: dict[int, list[str]] = {}
        self.begun: list[tuple[int, Sampling]] = []
        self.samplings: list[Sampling] = []
        self._turns = iter(turns)
        self._handles = itertools.count()

    def open(self) -> int:
        handle = next(self._handles)
        self.contexts[handle] = []
        return handle

    def fork(self, handle: int) -> int:
        fork = self.open()
        self.contexts[fork] = self.contexts[handle][:]
        return fork

    def show(self, handle: int, text: str, *, chat: bool = False) -> tuple[int, ...]:
        self.contexts[handle].append(text)
        return ()

    def begin(self, handle: int, sampling: Sampling) -> None:
        self.begun.append((handle, sampling))
        self.samplings.append(sampling)

    def step(self) -> list[tuple[int, Sample | EngineError | None]]:
        begun, self.begun = self.begun, []
        ended: list[tuple[int, Sample | EngineError | None]] = []
        for (handle, _), drafted in zip(begun, next(self._turns), strict=True):
            if isinstance(drafted, tuple):
                text, logprob = drafted
                self.contexts[handle].append(text)
                ended.append((handle, Sample((), (logprob / 2, logprob / 2), f"{text}\n")))
            else:
                ended.append((handle, drafted))
        return ended[::-1]  # they end in any order

    def close(self, handle: int) -> None:
        self.contexts.pop(handle, None)


def play(task: Task, engine: Written | LocalEngine, candidates: int, turns: int = 4) -> Trace:
    policy = ModelPolicy(engine, "written", temperature=0.0, candidates=candidates)
    (trace,) = rollout([Episode(EditEnv(task, CHECKER, EditRules(max_turns=turns)), 3)], policy)
    return trace


def test_the_likeliest_that_leads_on_is_taken_and_gone_on_from(double: Task) -> None:
    engine = Written(
        [
            [(VAIN, -0.1), (OTHER, -2.0), ("nonsense", -0.2)],
            # Back to the first page, to the page at hand, or on.
            [(VAIN, -0.1), (OTHER, -0.1), (RIGHT, -9.0)],
            [(EXIT, -0.5), (OTHER, -0.1), (RIGHT, -0.1)],
        ]
    )
    trace = play(double, engine, candidates=3)

    assert [turn.action for turn in trace.turns] == [OTHER, RIGHT, EXIT]
    assert trace.solved
    assert trace.turns[0].logprobs == (-1.0, -1.0)
    assert [sampling.temperature for sampling in engine.samplings[:3]] == [0.0, 1.0, 1.0]
    assert len({sampling.seed for sampling in engine.samplings[:3]}) == 3
    assert engine.contexts == {}


def test_where_all_lead_nowhere_the_likeliest_is_taken(double: Task) -> None:
    engine = Written([[(VAIN, -0.3), ("nonsense", -0.2)]])
    assert [turn.action for turn in play(double, engine, 2, turns=1).turns] == ["nonsense"]


def test_a_candidate_that_failed_is_passed_over(double: Task) -> None:
    engine = Written([[EngineError("gone"), (RIGHT, -9.0)], [None, (EXIT, -9.0)]])
    assert play(double, engine, 2).solved
    assert play(double, Written([[None, None]]), 2).end == "cut_short"
    assert play(double, Written([[EngineError("gone")] * 2]), 2).error == "gone"


def test_the_tokens_of_what_was_chosen_are_the_traces(engine: LocalEngine, double: Task) -> None:
    free = list(engine._free)
    trace = play(double, engine, candidates=4, turns=3)
    assert sorted(engine._free) == sorted(free)
    (tokens,) = trace_tokens(trace, tokenizer=None)
    mine = [token for token, is_mine in zip(*tokens, strict=True) if is_mine]
    assert mine == [token for turn in trace.turns for token in turn.action_ids]
    for turn in trace.turns:
        assert turn.tokens == turn.discarded + len(turn.action_ids) >= len(turn.action_ids) + 3
        assert engine.decode(turn.action_ids).partition("\n")[0] == turn.action
    again = play(double, engine, candidates=4, turns=3)
    assert [turn.action_ids for turn in again.turns] == [turn.action_ids for turn in trace.turns]


def test_an_engine_that_cannot_weigh_them_is_refused() -> None:
    engine = Written([])
    engine.capabilities = frozenset({"fork"})
    with pytest.raises(UsageError, match="cannot weigh several actions"):
        ModelPolicy(engine, "written", candidates=2)
    with pytest.raises(UsageError, match="9 candidates are more than the 8 sequences"):
        ModelPolicy(Written([]), "written", candidates=9)
    assert ModelPolicy(Written([]), "written", candidates=3).capacity == 2
