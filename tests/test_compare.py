"""Evaluations side by side: who wins what, what is refused, and the commands that show it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from made import Act, episode, origin
from redpencil.compare import Comparison, Measured, compare, names, pairs, read
from redpencil.errors import DataError, UsageError
from redpencil.files import read_json, write_json, write_jsonl
from redpencil.results import summarise
from redpencil.types import Trace

Run = Callable[..., subprocess.CompletedProcess[str]]

BASE = {"a": (0, 0), "b": (1, 0), "c": (1, 1), "d": (0, 0)}
BETTER = {"a": (1, 0), "b": (1, 1), "c": (0, 1), "d": (0, 0)}


def played(outcomes: Mapping[str, Sequence[int]], program: str = "x") -> list[Trace]:
    """Traces of one turn, solved or not as is said of each task."""
    return [
        episode(program, Act("### REPL 1 >>>y", "y", bool(solved), 4), of=name, seed=seed)
        for name, wins in outcomes.items()
        for seed, solved in enumerate(wins)
    ]


def evaluation(label: str, traces: Sequence[Trace]) -> Measured:
    return Measured(label, summarise(traces, origin(), 2.0))


def write_evaluation(folder: Path, traces: Sequence[Trace]) -> Path:
    write_json(folder / "results.json", summarise(traces, origin(), 2.0))
    write_jsonl(folder / "traces.jsonl", traces)
    return folder


def test_pairs_are_compared_program_by_program() -> None:
    first, second = evaluation("base", played(BASE)), evaluation("better", played(BETTER)[::-1])
    (pair,) = compare([first, second]).pairs
    assert (pair.first, pair.second) == ("base", "better")
    assert pair.difference == pytest.approx((0.5 + 0.5 - 0.5 + 0) / 4)
    assert (pair.won, pair.lost, pair.tied) == (2, 1, 1)
    assert pair.p_value == 1.0  # three equal sizes come no nearer to 0, whatever their signs
    assert pair.ci95[0] <= pair.difference <= pair.ci95[1]


def test_every_evaluation_is_held_against_each_before_it() -> None:
    three = [evaluation(label, played(BASE)) for label in ("x", "y", "z")]
    found = compare(three)
    assert [one.label for one in found.measured] == ["x", "y", "z"]
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("x", "y"), ("x", "z"), ("y", "z"),
    ]  # fmt: skip
    assert {(pair.difference, pair.p_value) for pair in found.pairs} == {(0, 1)}


def test_together_they_solve_what_either_does() -> None:
    greedy = [
        evaluation(label, played({name: (win,) for name, win in zip("abcd", wins, strict=True)}))
        for label, wins in (("x", (1, 1, 0, 0)), ("y", (1, 0, 1, 0)))
    ]
    (pair,) = compare(greedy).pairs
    assert pair.either == 3 / 4
    assert pair.either_ci95[0] < 3 / 4 < pair.either_ci95[1]
    (pair,) = compare(
        [evaluation("base", played(BASE)), evaluation("better", played(BETTER))]
    ).pairs
    missed = [(1 - sum(BASE[name]) / 2) * (1 - sum(BETTER[name]) / 2) for name in BASE]
    assert pair.either == pytest.approx(1 - sum(missed) / 4)


def test_evaluations_with_other_numbers_of_samples_can_be_compared() -> None:
    thrice = {"a": (1, 1, 1), "b": (0, 0, 1), "c": (1, 0, 0), "d": (0, 0, 0)}
    (pair,) = compare([evaluation("two", played(BASE)), evaluation("three", played(thrice))]).pairs
    assert pair.difference == pytest.approx((1 - 1 / 6 - 2 / 3) / 4)
    assert (pair.won, pair.lost, pair.tied) == (1, 2, 1)


def test_faults_of_one_problem_are_one_piece_of_evidence() -> None:
    names = [f"{problem}#{fault}" for problem in "ab" for fault in range(4)]
    first, second = (dict.fromkeys(names, (win,)) for win in (0, 1))
    (pair,) = compare([evaluation("none", played(first)), evaluation("all", played(second))]).pairs
    assert (pair.won, pair.p_value) == (8, 0.5)
    mixed = evaluation("half", played(first | dict.fromkeys(names[:4], (1,))))
    assert mixed.results.ci95 == (0.0, 1.0)


def test_other_programs_are_refused_and_the_first_difference_named() -> None:
    fewer = {name: wins for name, wins in BASE.items() if name in "ac"}
    with pytest.raises(UsageError, match=r"not play the same programs: b, broken as x .* not in y"):
        compare([evaluation("x", played(BASE)), evaluation("y", played(fewer))])
    other = [*played({"a": (0,), "b": (0,)}), *played({"c": (0,)}, "z"), *played({"d": (0,)})]
    with pytest.raises(UsageError, match=r"not play the same programs: c, broken as x .* not in y"):
        compare([evaluation("x", played(BASE)), evaluation("y", other)])
    with pytest.raises(UsageError, match="two evaluations or more"):
        compare([evaluation("x", played(BASE))])


def test_folders_of_one_name_go_by_their_paths(tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "eval", tmp_path / "other" / "eval"
    assert names([one, other]) == [str(one), str(other)]
    assert names([one, other.parent]) == ["eval", "other"]
    write_evaluation(one, played(BASE))
    assert [found.label for found in read([one])] == ["eval"]
    with pytest.raises(DataError, match=r"cannot read .*other/eval/results\.json"):
        read([one, other])


def test_results_are_compared_without_their_traces(tmp_path: Path) -> None:
    both = [evaluation("base", played(BASE)), evaluation("better", played(BETTER))]
    files = [tmp_path / f"{one.label}.json" for one in both]
    for file, one in zip(files, both, strict=True):
        write_json(file, one.results)
    assert compare(read(files)) == compare(both)


def test_results_that_do_not_say_what_they_solved_need_their_traces(tmp_path: Path) -> None:
    new, old = (
        write_evaluation(tmp_path / name, traces)
        for name, traces in (("new", played(BETTER)), ("old", played(BASE)))
    )
    earlier = json.loads((old / "results.json").read_text())
    del earlier["outcomes"]
    write_json(old / "results.json", earlier)
    assert compare(read([old, new])).pairs[0].won == 2
    (old / "traces.jsonl").unlink()
    with pytest.raises(UsageError, match=r"old does not say which .*evaluate again"):
        compare(read([old, new]))
    assert not pairs(read([old, old]))


def test_the_command_prints_and_writes_the_comparison(redpencil: Run, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "base", played(BASE))
    write_evaluation(tmp_path / "better", played(BETTER))
    done = redpencil("compare", "base", "better", "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["base", "coe", "37.5%", "0.0", "to", "75.0%", "4", "2"] in [row[:8] for row in rows]
    assert ["better", "base", "+12.5"] in [row[:3] for row in rows]
    assert ["1.000", "2", "1", "1", "62.5%"] in [row[6:11] for row in rows]
    found = read_json(tmp_path / "found.json", Comparison)
    assert found == compare(read([tmp_path / "base", tmp_path / "better"]))


def test_the_command_refuses_other_programs_in_a_line(redpencil: Run, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "base", played(BASE))
    write_evaluation(tmp_path / "other", played({"a": (0,)}))
    done = redpencil("compare", "base", "other", "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: base and other did not play the same programs: b, broken as")
    assert not (tmp_path / "found.json").exists()


def test_the_report_of_several_folders_compares_them(redpencil: Run, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "base", played(BASE))
    write_evaluation(tmp_path / "better", played(BETTER))
    done = redpencil("report", "base", "better", "--markdown", "tables.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["report.html", "tables.md"]
    assert "Compared in pairs" in (tmp_path / "report.html").read_text()
    text = (tmp_path / "tables.md").read_text()
    assert "| better | base | **+12.5** |" in text
    assert json.loads((tmp_path / "better" / "results.json").read_text())["pass_at_1"] == 0.5
