"""Faults: what a model wrote and what fails becomes a task to repair, once, with its class."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from redpencil.checkers import PythonChecker
from redpencil.env import EditEnv, WriteEnv
from redpencil.errors import UsageError
from redpencil.evaluate import Plan
from redpencil.faults import sample_faults
from redpencil.policy import ScriptedPolicy
from redpencil.rollout import Episode, Play, rollout
from redpencil.sandbox import Limits
from redpencil.tasks import load, load_examples
from redpencil.types import Task
from scripted_server import Answer, Request, says, serving

CHECKER = PythonChecker(Limits(wall=0.5))
EXAMPLES = load("builtin:train").tasks[:4]
Run = Callable[..., subprocess.CompletedProcess[str]]


def fenced(body: str) -> str:
    return f"```python\ndef double(n):\n{body}\n```"


ANSWERS = {
    fenced("    return n * 2"): None,
    fenced("    return n * 2 if n else 1"): None,  # only the hidden test notices
    fenced("    return n + 1"): "wrong_answer",
    fenced("    return  n + 1  # once more"): None,
    fenced("    return m * 2"): "NameError",
    fenced("    return n *"): "SyntaxError",
    fenced("   x = 1\n  return n"): "IndentationError",
    fenced("    raise ValueError('returned 3, expected 4')"): "ValueError",
    fenced("    return 'it raised KeyError: no'"): "wrong_answer",
    fenced("    while True: pass"): "timed_out",
    fenced("    return [n] * 10**9"): "MemoryError",
    fenced("    import os; os._exit(0)"): "crashed",
    "```python\ndef double(n):\n    return n": None,  # cut off
    "I cannot.": None,
    "```\n```": None,
}


def plan_of(samples: int, **fields: object) -> Plan:
    plan = Plan("write", "jsonl:double", "scripted", samples=samples, temperature=1.0, shots=2)
    return msgspec.structs.replace(plan, **fields)


def scripted(answers: Sequence[str]) -> Play:
    """Says one answer after the other, an episode each."""
    following: Iterator[str] = iter(answers)
    return partial(rollout, policy=ScriptedPolicy(lambda task: [next(following)]))


def test_programs_that_fail_become_tasks_with_their_class(tmp_path: Path, double: Task) -> None:
    path, answers = tmp_path / "faults.jsonl", list(ANSWERS)
    plan = plan_of(len(answers))
    record = sample_faults(path, plan, [double], EXAMPLES, scripted(answers), CHECKER)
    faults = load(f"jsonl:{path}").tasks
    assert [fault.fault for fault in faults] == [kind for kind in ANSWERS.values() if kind]
    assert faults[0].program == "def double(n):\n    return n + 1\n"
    assert faults[0].id == "test/double#2"
    assert len({fault.id for fault in faults}) == len(faults)
    assert faults[0].solution == double.solution
    assert faults[0].hidden_tests == double.hidden_tests
    summary = record.summary
    assert summary.sampled == len(answers)
    assert (summary.solved, summary.only_hidden, summary.duplicates) == (1, 1, 1)
    assert (summary.unfinished, summary.errors, summary.kept) == (3, 0, len(faults))
    assert summary.faults["wrong_answer"] == 2
    assert summary.mean_edit_distance is not None
    mends = ScriptedPolicy(lambda task: ["### REPL 2 >>>    return n * 2", "### EXIT"])
    (trace,) = rollout([Episode(EditEnv(faults[0], CHECKER))], mends)
    assert trace.solved


def test_sampling_goes_on_where_it_stopped(tmp_path: Path, double: Task) -> None:
    answers = list(ANSWERS)[:6]
    whole, path = tmp_path / "whole.jsonl", tmp_path / "faults.jsonl"
    plan = plan_of(6)
    sample_faults(whole, plan, [double], EXAMPLES, scripted(answers), CHECKER)
    sample_faults(path, plan, [double], EXAMPLES, scripted(answers), CHECKER)
    traces = path.with_suffix(".traces.jsonl")
    kept = traces.read_bytes().splitlines(keepends=True)[:3]
    traces.write_bytes(b"".join(kept) + b'{"torn')
    path.unlink()
    sample_faults(path, plan, [double], EXAMPLES, scripted(answers[3:]), CHECKER)
    assert path.read_bytes() == whole.read_bytes()
    with pytest.raises(UsageError, match="holds traces of something else"):
        sample_faults(path, plan_of(7), [double], EXAMPLES, scripted(answers), CHECKER)
    other = msgspec.structs.replace(double, prompt="Halve it.")
    with pytest.raises(UsageError, match=r"holds traces of something else \(tasks_sha256: "):
        sample_faults(path, plan, [other], EXAMPLES, scripted(answers), CHECKER)


def test_no_example_need_be_shown_and_too_few_are_refused(tmp_path: Path, double: Task) -> None:
    answers = list(ANSWERS)[:1]
    sample_faults(
        tmp_path / "a.jsonl", plan_of(1, shots=0), [double], (), scripted(answers), CHECKER
    )
    with pytest.raises(UsageError, match="--shots 4, each of another task: there are 4 solved"):
        sample_faults(
            tmp_path / "b.jsonl", plan_of(1, shots=4), [double], EXAMPLES, scripted([]), CHECKER
        )


def test_the_prompt_shows_solved_tasks_but_never_the_task_itself(double: Task) -> None:
    text = WriteEnv(double, CHECKER, EXAMPLES[:2]).reset().text
    for example in EXAMPLES[:2]:
        assert f"Task: {example.prompt}\n" in text
        assert f"```python\n{example.solution}```\n" in text
    assert text.endswith(
        "\nTask: Return twice the number.\nTests:\nassert double(2) == 4\n"
        "assert double(5) == 10\nProgram:\n"
    )
    assert (double.program or "") not in text
    assert (double.solution or "") not in text


def test_a_task_is_not_its_own_example(tmp_path: Path) -> None:
    plan = plan_of(1, shots=3)
    path = tmp_path / "faults.jsonl"
    sample_faults(path, plan, EXAMPLES, EXAMPLES, scripted(["no"] * 4), CHECKER)
    for line in path.with_suffix(".traces.jsonl").read_text().splitlines():
        trace = json.loads(line)
        text = trace["turns"][0]["observation"]["text"]
        assert text.count("```python\n") == 3
        assert text.count(trace["task"]["prompt"]) == 1
    with pytest.raises(UsageError, match="ask for fewer"):
        sample_faults(path, plan_of(1, shots=4), EXAMPLES, EXAMPLES, scripted([]), CHECKER)


def test_a_model_of_our_own_is_asked(tmp_path: Path, tiny_model: Path) -> None:
    from redpencil.players import players

    path = tmp_path / "faults.jsonl"
    plan = plan_of(2, base_model=str(tiny_model), shots=1)
    record = sample_faults(path, plan, EXAMPLES[:2], EXAMPLES, players(plan), CHECKER)
    summary = record.summary  # of a model with random weights, which knows no end
    assert (summary.sampled, summary.errors, summary.kept) == (4, 0, len(load_lines(path)))
    traces = [json.loads(line) for line in load_lines(path.with_suffix(".traces.jsonl"))]
    assert all(trace["turns"][0]["action_ids"] for trace in traces)
    assert len({trace["turns"][0]["action"] for trace in traces}) == 4


def load_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_examples_are_of_the_split_train() -> None:
    assert {task.split for task in load_examples("builtin:test")} == {"train"}
    assert {task.id.split("/")[0] for task in load_examples("humaneval")} == {"builtin"}


def test_killed_at_any_moment_it_comes_to_the_same_faults(
    redpencil: Run, tmp_path: Path, tiny_model: Path
) -> None:
    def writes(request: Request) -> Answer:
        time.sleep(0.02)
        digit = request.body["seed"] % 10
        return says(f"```python\ndef f():\n    return {digit}\n```")

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    stopped.mkdir()
    whole.mkdir()
    with serving(writes) as server:
        command = (
            "faults", "builtin:test", "--limit", 12, "--samples", 3, "--model", "scripted",
            "--server", server.url, "--dialect", "completions", "--out", "faults.jsonl",
        )  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "redpencil", *map(str, command)],
            stdout=subprocess.DEVNULL,
            cwd=stopped,
        )
        traces = stopped / "faults.traces.jsonl"
        while not traces.exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -9
        assert not (stopped / "faults.jsonl").exists()
        for folder in (stopped, whole):
            done = redpencil(*command, cwd=folder)
            assert done.returncode == 0, done.stderr
            assert "NameError" in done.stdout
    assert (stopped / "faults.jsonl").read_bytes() == (whole / "faults.jsonl").read_bytes()
    measured = redpencil(
        "eval", f"jsonl:{whole / 'faults.jsonl'}", "--model", tiny_model, "--limit", 2,
        "--max-turns", 1, "--out", tmp_path / "eval",
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr
