"""Sets of demonstrations: the same bytes however they came about, and a card that counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from redpencil.checkers import PythonChecker
from redpencil.dataset import Card, Plan, demo_set, write_demos
from redpencil.errors import UsageError
from redpencil.files import read_json, read_jsonl
from redpencil.parallel import Threads
from redpencil.sameness import edit_distance, normalised, shape
from redpencil.tasks import load, load_other_splits, tasks_sha256
from redpencil.tasks.overlap import disjoint
from redpencil.types import Task, Trace

TASKS = load("builtin:validation").tasks[:6]


class Stopped(Exception):
    """The run is over before its time."""


def plan_of(tasks: Sequence[Task] = TASKS, **fields: object) -> Plan:
    digest = tasks_sha256(tasks)
    plan = Plan("builtin:validation", per_task=4, order="both", tasks_sha256=digest)
    return msgspec.structs.replace(plan, **fields)


def write(folder: Path, stop_after: int | None = None, workers: int = 2) -> dict[str, bytes]:
    """The files of the demonstrations, by name; with `stop_after` tasks the run breaks off."""
    done = 0

    def on_task(demos: int, made: bool) -> None:
        nonlocal done
        done += 1
        if done == stop_after:
            raise Stopped

    folder.mkdir(exist_ok=True)
    path = folder / "demos.jsonl"
    threads = Threads(workers)
    write_demos(
        path, demo_set(plan_of(), TASKS, (), PythonChecker()), workers=threads, on_task=on_task
    )
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demos")
    write(folder)
    return folder / "demos.jsonl"


def test_neither_threads_nor_interruptions_change_a_byte(made: Path, tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in made.parent.iterdir()}
    assert set(files) == {"demos.jsonl", "demos.json", "demos.card.md", "demos.plan.json"}
    assert write(tmp_path / "one", workers=1) == files
    with pytest.raises(Stopped):
        write(tmp_path / "two", stop_after=3)
    pieces = tmp_path / "two" / "demos.partial.jsonl"
    assert len(pieces.read_bytes().splitlines()) == 3
    pieces.write_bytes(pieces.read_bytes()[:-100])  # a kill in the middle of a line
    assert write(tmp_path / "two", workers=3) == files
    # Killed after the traces were written and before the card was.
    (tmp_path / "two" / "demos.json").unlink()
    (tmp_path / "two" / "demos.card.md").unlink()
    assert write(tmp_path / "two") == files


def test_a_file_that_was_cut_is_not_taken_for_whole(tmp_path: Path) -> None:
    files, path = write(tmp_path), tmp_path / "demos.jsonl"
    path.write_bytes(files["demos.jsonl"][:-100])
    with pytest.raises(UsageError, match=r"no longer what its card says: delete demos\.json,"):
        write(tmp_path)
    (tmp_path / "demos.json").unlink()
    assert write(tmp_path) == files


def test_the_card_counts(made: Path) -> None:
    traces = read_jsonl(made, Trace)
    card = read_json(made.with_suffix(".json"), Card)
    summary = card.summary
    assert summary.demos == len(traces) == sum(summary.turns.values()) > 15
    assert summary.tasks == len(TASKS)
    assert set(summary.orders) == {"direct", "inverse"}
    assert abs(summary.orders["direct"] - summary.orders["inverse"]) <= len(TASKS)
    assert sum(summary.corruptions.values()) == sum(len(trace.corruptions) for trace in traces)
    distances = [edit_distance(t.task.program or "", t.task.solution or "") for t in traces]
    assert summary.mean_edit_distance == pytest.approx(sum(distances) / len(traces), abs=0.01)
    assert card.sha256 == hashlib.sha256(made.read_bytes()).hexdigest()
    turns = [turn for trace in traces for turn in trace.turns]
    said = sum(len(turn.action) + 1 for turn in turns)
    assert summary.characters == said + sum(len(turn.observation.text) for turn in turns)
    assert summary.action_characters == said
    programs = {(trace.task.id, normalised(trace.task.program or "")) for trace in traces}
    assert len(programs) == len(traces)
    text = made.with_suffix(".card.md").read_text()
    assert f"| demonstrations | {len(traces)} of {len(TASKS)} tasks |" in text
    assert "| method | `coe` |" in text
    assert "| tokens | not counted |" in text


def test_tokens_are_counted_where_a_tokenizer_is_named(
    made: Path, tmp_path: Path, tiny_model: Path
) -> None:
    from redpencil.cli.data import _token_counter
    from redpencil.engine.weights import load_tokenizer
    from redpencil.train.tokens import trace_tokens

    plan = plan_of(tokenizer="tiny")
    path, count = tmp_path / "demos.jsonl", _token_counter(str(tiny_model))
    card = write_demos(path, demo_set(plan, TASKS, (), PythonChecker()), count_tokens=count)
    tokenizer = load_tokenizer(str(tiny_model))

    traces = read_jsonl(path, Trace)
    sequences = [tokens for trace in traces for tokens in trace_tokens(trace, tokenizer)]
    assert card.summary.tokens == sum(len(tokens.ids) for tokens in sequences)


def test_the_file_loads_as_a_dataset(made: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(
        "json", data_files=str(made), split="train", cache_dir=str(tmp_path)
    )
    traces = read_jsonl(made, Trace)
    assert len(loaded) == len(traces)
    assert loaded[3]["turns"][0]["action"] == traces[3].turns[0].action
    assert loaded[3]["task"]["id"] == traces[3].task.id


def test_problems_of_other_splits_are_left_out_and_named(tmp_path: Path) -> None:
    copy = msgspec.structs.replace(
        TASKS[0], id="other/1", prompt="Else.", solution=(TASKS[0].solution or "") + "# a copy\n"
    )
    path = tmp_path / "demos.jsonl"
    card = write_demos(path, demo_set(plan_of(per_task=1), TASKS, [copy], PythonChecker()))
    assert card.overlapping == {TASKS[0].id: "other/1"}
    assert TASKS[0].id not in {trace.task.id for trace in read_jsonl(path, Trace)}
    assert f"{TASKS[0].id} is other/1" in path.with_suffix(".card.md").read_text()


def test_a_command_that_is_given_is_nothing_to_learn(tmp_path: Path) -> None:
    path = tmp_path / "demos.jsonl"
    plan = plan_of(TASKS[:3], per_task=2, stumbles=0.5)
    card = write_demos(path, demo_set(plan, TASKS[:3], (), PythonChecker()))
    turns = [turn for trace in read_jsonl(path, Trace) for turn in trace.turns]
    assert any(turn.given for turn in turns)
    learned = sum(len(turn.action) + 1 for turn in turns if not turn.given)
    assert card.summary.action_characters == learned


def test_a_task_whose_solution_fails_or_is_missing_is_counted(tmp_path: Path, double: Task) -> None:
    wrong = msgspec.structs.replace(double, program=None, solution="def double(n):\n    return 1\n")
    none = msgspec.structs.replace(double, id="none", solution=None)
    other = msgspec.structs.replace(double, id="other", program=None, solution="print 1\n")
    right = msgspec.structs.replace(double, id="right", program=None)
    path = tmp_path / "demos.jsonl"
    tasks = [wrong, none, other, right]
    plan = plan_of(tasks, per_task=2, renamed=1.0)
    card = write_demos(path, demo_set(plan, tasks, (), PythonChecker()))
    assert card.summary.tasks == 1
    assert card.summary.drops["no_solution"] == 3  # type: ignore[index]
    with pytest.raises(UsageError, match=r"no demonstration .*\(.*fails or is missing: 1\)"):
        write_demos(tmp_path / "none.jsonl", demo_set(plan, [wrong], (), PythonChecker()))
    assert not list(tmp_path.glob("none*"))


def test_what_is_no_difference() -> None:
    left = "def f(a, b):\n    # add\n    return a+b\n"
    assert normalised(left) == normalised("def f(a,b):\n\n  return a + b\n")
    assert normalised(left) != normalised(left.replace("+", "-"))
    assert normalised("if (:\n    x  = 1") == normalised("if (:\n\n    x = 1")
    assert normalised("  x = (") != normalised("x = (")
    copy = "def add(first, second):\n    return first + second\n"
    assert shape(left) == shape(copy) != shape(copy.replace("first + second", "second + first"))
    assert shape("def f(a):\n    return max(a)\n") != shape("def f(a):\n    return min(a)\n")


def test_splits_are_kept_apart() -> None:
    train, others = load("builtin:train").tasks, load_other_splits("builtin:train")
    assert {task.split for task in others} == {"validation", "test"}
    assert len(train) + len(others) == len(load("builtin").tasks)
    assert load_other_splits("builtin") == ()
    kept, left_out = disjoint(train, others)
    assert (len(kept), left_out) == (len(train), [])
    kept, left_out = disjoint(train, train[:2])
    assert [same for _, same in left_out] == list(train[:2])
