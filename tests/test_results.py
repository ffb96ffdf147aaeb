"""The numbers of an evaluation: golden values, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from made import Act, episode, origin
from redpencil.checkers import PythonChecker
from redpencil.demos import Broken
from redpencil.errors import DataError
from redpencil.evaluate import Plan, evaluate
from redpencil.files import read_json, write_json, write_jsonl
from redpencil.players import players
from redpencil.results import Results, Score, read_evaluation, summarise
from redpencil.types import Task

ROOT = Path(__file__).parent.parent

MENDED = episode(
    "ab",
    Act("### REPL 1 >>>abc", "abc", tokens=5),
    Act("### REPL 1 >>>aX", "aX", solved=True, tokens=5),
    Act("### EXIT", "aX", solved=True, tokens=2),
    of="a",
    corruptions=("misspell",),
)
LOST = episode(
    "ab",
    Act("oops", "ab", tokens=3),
    Act("oops", "ab", tokens=3),
    Act("### DELL 9", "ab", tokens=4),
    Act("### REPL 1 >>>ab", "ab", tokens=4),
    of="a",
    end="truncated",
    seed=1,
    corruptions=("misspell",),
)
SPOILED = episode(
    "cd",
    Act("### REPL 1 >>>right", "right", solved=True, tokens=20),
    Act("### REPL 1 >>>wrong", "wrong", tokens=10),
    of="b",
    end="truncated",
    corruptions=("misspell", "insert_line"),
    fault="NameError",
)
FAULTY = episode(
    "cd",
    Act("### REPL 1 >>>right", "right", solved=True, tokens=8),
    of="b",
    end="error",
    seed=1,
    corruptions=("misspell", "insert_line"),
    fault="NameError",
)
ALL = [MENDED, LOST, SPOILED, FAULTY]


def one_score(found: Score) -> tuple[int, int, float]:
    return found.n, found.traces, found.pass_at_1


def test_shares_solved_are_means_over_programs() -> None:
    found = summarise(ALL, origin(), 1.0)
    assert (found.n, found.samples, found.pass_at_1, found.errors) == (2, 2, 0.25, 1)
    assert found.ci95 == (0.0, 0.5)
    (first,) = found.pass_at
    assert (first.k, first.samples, first.value, first.ci95) == (1, 2, 0.25, (0.0, 0.5))


def test_pass_at_k_goes_as_far_as_there_are_samples() -> None:
    traces = [
        episode("ab", Act("### EXIT", "ab", solved=solved), of=name, seed=seed)
        for name, wins in (("a", 3), ("b", 0))
        for seed, solved in enumerate([True] * wins + [False] * (10 - wins))
    ]
    found = summarise(traces, origin(), 1.0)
    assert [(at.k, at.samples) for at in found.pass_at] == [(1, 10), (4, 10), (10, 10)]
    assert [at.value for at in found.pass_at] == pytest.approx([0.15, (1 - 35 / 210) / 2, 0.5])


def test_the_first_solve_counts_in_its_turn_and_with_its_tokens() -> None:
    found = summarise(ALL, origin(), 1.0)
    assert found.solved_by_turn == (0.25, 0.5, 0.5, 0.5)
    assert found.solved_by_tokens == {8: 0.0, 16: 0.25, 32: 0.5}


def test_an_answer_is_one_turn() -> None:
    answer = Act("```python\nright\n```", "right", solved=True, tokens=40)
    found = summarise([episode("ab", answer)], origin("direct"), 1.0)
    assert found.solved_by_turn == (1.0,)
    assert found.solved_by_tokens == {8: 0.0, 16: 0.0, 32: 0.0, 64: 1.0}


def test_rates_are_shares_of_the_actions() -> None:
    found = summarise(ALL, origin(), 1.0)
    assert found.mean_turns == 2.5
    assert found.malformed_rate == 0.3
    assert found.unparsed_rate == 0.2
    assert found.noop_rate == 0.1
    assert found.repetition_rate == 0.1


def test_an_action_is_repeated_only_on_an_identical_page() -> None:
    add, delete = "### ADDL 1 >>>x", "### DELL 1"
    acts = [(add, "x\na"), (add, "x\nx\na"), (delete, "x\na"), (add, "x\nx\na"), (delete, "x\na")]
    trace = episode("a", *(Act(action, page) for action, page in acts), end="truncated")
    assert summarise([trace], origin(), 1.0).repetition_rate == 2 / 5


def test_costs_are_spread_over_what_is_solved() -> None:
    found = summarise(ALL, origin(), 12.34)
    assert (found.mean_tokens, found.tokens_per_solved) == (16, 64)
    assert (found.seconds, found.seconds_per_solved) == (12.3, 12.34)
    assert found.mean_edit_distance == 1
    nothing = summarise([LOST], origin(), 12.34)
    assert nothing.tokens_per_solved is None
    assert nothing.seconds_per_solved is None
    assert nothing.mean_edit_distance is None


def test_an_engine_that_shows_no_tokens_has_none() -> None:
    blind = episode("ab", Act("### EXIT", "ab", solved=True))
    found = summarise([blind], origin(), 1.0)
    assert found.mean_tokens is None
    assert found.tokens_per_solved is None
    assert found.solved_by_tokens is None
    assert found.solved_by_turn == (1.0,)


def test_scores_by_corruptions_faults_and_ends() -> None:
    found = summarise(ALL, origin(), 1.0)
    assert {k: one_score(score) for k, score in found.by_corruptions.items()} == {
        1: (1, 2, 0.5),
        2: (1, 2, 0.0),
    }
    assert {k: one_score(score) for k, score in found.by_fault.items()} == {"NameError": (1, 2, 0)}
    assert [(end, one_score(score)) for end, score in found.by_end.items()] == [
        ("exit", (1, 1, 1.0)),
        ("truncated", (2, 2, 0.0)),
        ("error", (1, 1, 0.0)),
    ]
    assert found.by_corruptions[1].ci95 == pytest.approx((0.0125, 0.9875))  # of one program


def test_what_did_not_begin_has_numbers_too() -> None:
    found = summarise([episode("ab", end="error")], origin(), 1.0)
    assert (found.errors, found.pass_at_1, found.mean_turns, found.noop_rate) == (1, 0, 0, 0)
    assert found.solved_by_turn == ()


def test_results_are_read_as_they_were_written_and_nothing_else_is(tmp_path: Path) -> None:
    found = summarise(ALL, origin(), 1.0)
    write_json(tmp_path / "results.json", found)
    write_jsonl(tmp_path / "traces.jsonl", ALL)
    assert read_evaluation(tmp_path) == (found, ALL)
    write_json(tmp_path / "results.json", msgspec.to_builtins(found) | {"pass_at_3": 0.1})
    with pytest.raises(DataError, match=r"results\.json: .*pass_at_3"):
        read_evaluation(tmp_path)


def test_results_of_earlier_commits_can_be_read() -> None:
    files = list((ROOT / "results").glob("*.json"))
    assert files
    for file in files:
        assert read_json(file, Results).n > 0


def test_a_greedy_evaluation_twice_writes_the_same_bytes(
    tmp_path: Path, tiny_model: Path, double: Task
) -> None:
    """All but the time that it took, and whatever order the programs are played in."""
    plan = Plan(method="coe", tasks="made", base_model=str(tiny_model), dtype="float32")
    tasks = [msgspec.structs.replace(double, id=f"made/{n}", prompt=f"{n}") for n in range(3)]
    broken = [Broken(task, ("misspell",), ()) for task in tasks]
    play, checker = players(plan), PythonChecker()
    written = []
    for folder, played in ((tmp_path / "once", broken), (tmp_path / "again", broken[::-1])):
        evaluate(plan, played, play, checker, folder, command="redpencil eval made")
        lines = (folder / "results.json").read_text().splitlines()
        assert {"n", "ci95", "seconds"} <= set(json.loads("\n".join(lines)))
        assert '  "dtype": "float32",' in lines
        written.append([line for line in lines if not line.lstrip().startswith('"seconds')])
    assert written[0] == written[1]
