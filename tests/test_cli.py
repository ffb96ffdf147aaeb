"""The real command line in a real process: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from made import BROKEN, RIGHT
from redpencil import cli
from redpencil.cli import app
from redpencil.errors import RedpencilError
from redpencil.files import read_jsonl, write_jsonl
from redpencil.results import read_results
from redpencil.tasks import load
from redpencil.types import Task, Trace

Run = Callable[..., subprocess.CompletedProcess[str]]

CLI_INTERRUPTED = "interrupted: run the same command again to go on"


def one_line_error(result: subprocess.CompletedProcess[str], *pieces: str) -> None:
    """The error is one line on standard error, with exit code 2."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for piece in pieces:
        assert piece in lines[0]


def test_help_is_quick_and_imports_nothing_heavy(redpencil: Run) -> None:
    result = redpencil("--help")
    assert result.returncode == 0
    for command in ("quickstart", "tasks", "check", "demos", "sft", "rl", "eval", "compare"):
        assert command in result.stdout
    heavy = "torch", "transformers", "trl", "datasets", "matplotlib", "numpy"
    code = (
        "import sys, redpencil, redpencil.cli\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.strip() == "[]"


def test_tasks_are_listed_and_exported(redpencil: Run, tmp_path: Path) -> None:
    listed = redpencil("tasks", "builtin:test")
    assert listed.returncode == 0
    assert "builtin/" in listed.stdout
    assert "problems on board" in listed.stdout
    out = tmp_path / "tasks.jsonl"
    assert redpencil("tasks", "builtin:test", "--out", out).returncode == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert set(rows[0]) == {
        "id", "prompt", "program", "solution", "tests", "hidden_tests", "setup", "split",
    }  # fmt: skip
    again = redpencil("tasks", f"jsonl:{out}")
    assert f"{len(rows)} tasks" in again.stdout


def test_the_solutions_of_tasks_are_checked(redpencil: Run, shop: Path) -> None:
    right = redpencil("tasks", f"doctest:{shop / 'right.py'}", "--check")
    assert right.returncode == 2  # it has no examples
    (shop / "right.py").write_text(
        'def f(n):\n    """Double.\n\n    >>> f(2)\n    4\n    """\n' + "    return n * 2\n"
    )
    right = redpencil("tasks", f"doctest:{shop / 'right.py'}", "--check")
    assert right.returncode == 0
    assert "1 of 1 solutions pass their own tests." in right.stdout
    (shop / "right.py").write_text((shop / "right.py").read_text().replace("* 2", "* 3"))
    wrong = redpencil("tasks", f"doctest:{shop / 'right.py'}", "--check")
    assert wrong.returncode == 1
    assert "right.f: its solution fails: f(2) returned 6, expected 4" in wrong.stdout


def test_a_person_plays(shop: Path) -> None:
    task = {
        "id": "shop", "prompt": "Double.", "program": BROKEN, "solution": None, "split": "test",
        "tests": ["assert double(2) == 4"], "hidden_tests": [], "setup": "",
    }  # fmt: skip
    (shop / "tasks.jsonl").write_text(json.dumps(task) + "\n")
    command = [sys.executable, "-m", "redpencil", "play", "shop", "--tasks"]
    command += [f"jsonl:{shop / 'tasks.jsonl'}", "--out", str(shop / "trace.jsonl")]
    mended = subprocess.run(
        command, input="REPL 2 >>>    return n * 2\nEXIT\n", capture_output=True, text=True
    )
    assert mended.returncode == 0, mended.stderr
    assert "double(2) returned 3, expected 4" in mended.stdout
    assert "solved in 2 turns, reward 1" in mended.stdout
    mistyped = subprocess.run(command[:-2], input=b"\xff\nEXIT\n", capture_output=True)
    assert mistyped.returncode == 1, mistyped.stderr
    assert "unknown command '\ufffd'" in mistyped.stdout.decode()
    given_up = subprocess.run(command, input="DELL 9\n", capture_output=True, text=True)
    assert given_up.returncode == 1
    assert "not solved in 1 turn, reward -1" in given_up.stdout
    traces = [json.loads(line) for line in (shop / "trace.jsonl").read_text().splitlines()]
    assert [trace["policy"] for trace in traces] == ["human", "human"]
    assert traces[0]["turns"][0]["action"] == "### REPL 2 >>>    return n * 2"


@pytest.mark.parametrize(
    ("there", "complaint"),
    [("file.jsonl", "file.jsonl, line 1"), ("file.jsonl/trace.jsonl", "cannot write")],
)
def test_no_episode_is_played_whose_trace_could_not_be_kept(
    tmp_path: Path, there: str, complaint: str
) -> None:
    (tmp_path / "file.jsonl").write_text('{"my": "notes"}\n')
    played = CliRunner().invoke(app, ["play", "--out", str(tmp_path / there)], input="EXIT\n")
    assert isinstance(played.exception, RedpencilError)
    assert complaint in str(played.exception)
    assert "Ctrl-D" not in played.stdout
    assert (tmp_path / "file.jsonl").read_text() == '{"my": "notes"}\n'


def test_traces_are_sampled_to_a_file(redpencil: Run, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "traces.jsonl"
    command = ("rollout", "builtin:test", "--model", tiny_model, "--limit", 2, "--samples", 2)
    done = redpencil(*command, "--max-turns", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "4 traces in" in done.stdout

    def sampled() -> list[tuple[str, int, list[str]]]:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        return [(r["task"]["id"], r["seed"], [t["action"] for t in r["turns"]]) for r in rows]

    first = sampled()
    assert len(first) == 4
    # Torn by a kill in the middle of a line: the same command samples the rest as it was.
    out.write_bytes(out.read_bytes()[: out.stat().st_size * 2 // 3])
    assert redpencil(*command, "--max-turns", 2, "--out", out).returncode == 0
    assert sampled() == first
    other = redpencil(*command, "--max-turns", 3, "--out", out)
    one_line_error(other, "holds traces of something else")
    assert sampled() == first


def test_traces_that_want_room_are_counted(
    redpencil: Run, tiny_model: Path, tmp_path: Path
) -> None:
    command = ("eval", "builtin:test", "--model", tiny_model, "--limit", 2, "--out", tmp_path)
    done = redpencil(*command, "--context", 100)
    assert done.returncode == 0, done.stderr
    assert "2 traces ended for want of room" in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["by_end"]["cut_short"]["traces"] == 2
    one_line_error(redpencil(*command, "--context", 9999), "has 1024 tokens at most")


def test_programs_that_no_test_fails_are_not_evaluated(
    redpencil: Run, double: Task, tmp_path: Path
) -> None:
    whole = msgspec.structs.replace(double, id="test/whole", program=double.solution)
    write_jsonl(tmp_path / "mine.jsonl", [double, whole])
    source = f"jsonl:{tmp_path / 'mine.jsonl'}"
    done = redpencil("eval", source, "--model", "oracle", "--out", tmp_path / "eval")
    assert done.returncode == 0, done.stderr
    assert "1 program left out" in done.stdout
    assert list(read_results(tmp_path / "eval").outcomes.values()) == [1]


def test_demos_are_written_with_a_card(redpencil: Run, tmp_path: Path) -> None:
    out = tmp_path / "demos.jsonl"
    command = ("demos", "--tasks", "builtin:validation", "--per-task", 1, "--out", out)
    result = redpencil(*command)
    assert result.returncode == 0, result.stderr
    assert "demonstrations of" in result.stdout
    lines = out.read_bytes()
    assert len(lines.splitlines()) >= 10
    card = (tmp_path / "demos.card.md").read_text()
    assert "redpencil demos --tasks builtin:validation" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "demos.card.md", "demos.json", "demos.jsonl", "demos.plan.json",
    ]  # fmt: skip
    assert redpencil(*command).returncode == 0
    one_line_error(redpencil(*command, "--seed", 1), "holds traces of something else")
    assert out.read_bytes() == lines
    known = tmp_path / "known.jsonl"
    write_jsonl(known, load("builtin:validation").tasks[2:])
    apart = (*command[:-1], tmp_path / "apart.jsonl", "--against", f"jsonl:{known}")
    assert redpencil(*apart).returncode == 0
    left = {trace.task.id for trace in read_jsonl(tmp_path / "apart.jsonl", Trace)}
    assert left == {task.id for task in load("builtin:validation").tasks[:2]}


def test_failed_traces_are_corrected(redpencil: Run, tmp_path: Path) -> None:
    failed, out = tmp_path / "failed.jsonl", tmp_path / "more.jsonl"
    source = ("builtin:validation", "--limit", 6, "--renamed", 1, "--max-turns", 3)
    bound = ("--model", "random-edit", "--samples", 1, "--temperature", 0)
    played = redpencil("rollout", *source, *bound, "--out", failed)
    assert played.returncode == 0, played.stderr
    corrected = redpencil("corrections", failed, "--against", "builtin:test", "--out", out)
    assert corrected.returncode == 0, corrected.stderr
    assert "demonstrations of" in corrected.stdout
    taught = [turn for trace in read_jsonl(out, Trace) for turn in trace.turns if not turn.given]
    assert len(taught) >= 6
    missing = redpencil("corrections", tmp_path / "no.jsonl", "--out", out)
    one_line_error(missing, "no.jsonl")


def test_sft_eval_report_and_repair(redpencil: Run, tiny_model: Path, shop: Path) -> None:
    """The whole chain in real processes, on a tiny model that learns nothing."""
    demos, sft, out = shop / "demos.jsonl", shop / "sft", shop / "eval"
    redpencil("demos", "--tasks", "builtin:validation", "--per-task", 1, "--out", demos)
    trained = redpencil("sft", "--demos", demos, "--out", sft, "--model", tiny_model)
    assert trained.returncode == 0, trained.stderr
    arguments = (
        "eval", "builtin:test", "--model", tiny_model, "--adapter", sft / "adapter",
        "--limit", 2, "--max-turns", 2, "--out", out,
    )  # fmt: skip
    measured = redpencil(*arguments)
    assert measured.returncode == 0, measured.stderr
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    for field in ("method", "tasks", "n", "samples", "pass_at_1", "ci95", "malformed_rate"):
        assert field in results
    for field in ("mean_turns", "mean_tokens", "seconds", "base_model", "adapter", "command"):
        assert field in results
    assert results["n"] == 2
    traces = (out / "traces.jsonl").read_bytes()
    assert redpencil(*arguments).returncode == 0
    assert (out / "traces.jsonl").read_bytes() == traces
    other = [3 if argument == 2 else argument for argument in arguments]
    one_line_error(redpencil(*other), "holds traces of something else")
    page = redpencil("report", out)
    assert page.returncode == 0, page.stderr
    assert (out / "report.html").exists()
    repaired = redpencil(
        "repair", shop / "shop.py", "--tests", shop / "tests.py", "--model", tiny_model,
        "--adapter", sft / "adapter", "--attempts", 1, "--max-turns", 2, "--write",
    )  # fmt: skip
    assert repaired.returncode == 1, repaired.stderr
    assert "Not repaired" in repaired.stderr
    assert repaired.stdout == ""
    assert (shop / "shop.py").read_text() == BROKEN


def test_names_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, double: Task
) -> None:
    monkeypatch.chdir(tmp_path)
    name, folder = "mine[/b]:bug:", Path("x[/old]")
    write_jsonl(folder / "d.jsonl", [msgspec.structs.replace(double, id=name)])
    source, traces = f"jsonl:{folder}/d.jsonl", f"{folder}/t.jsonl"

    def said(*command: str) -> str:
        done = CliRunner().invoke(app, command, input="EXIT\n")
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done.stdout

    assert f"{name}  train  Return" in (listed := said("tasks", source))
    assert f"1 task from {folder}/d.jsonl" in listed
    assert f"{name}: Ctrl-D" in said("play", "--tasks", source)
    sampled = said("rollout", source, "--model", "oracle", "--samples", "1", "--out", traces)
    assert f"1 traces in {traces}, 1 of them solved." in sampled
    assert f"{folder}/t.html" in said("report", traces)
    made = said("demos", "--tasks", source, "--out", f"{folder}/demos.jsonl")
    assert f"The card is {folder}/demos.card.md." in made


@pytest.mark.parametrize(("asked", "end"), [((), "exit"), (("--until-solved",), "solved")])
def test_an_episode_ends_at_exit_or_when_the_tests_pass(
    tmp_path: Path, double: Task, asked: tuple[str, ...], end: str
) -> None:
    write_jsonl(tmp_path / "tasks.jsonl", [double])
    out = tmp_path / "traces.jsonl"
    command = ["rollout", f"jsonl:{tmp_path}/tasks.jsonl", "--model", "oracle", "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--samples", "1", *asked])
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert [trace.end for trace in read_jsonl(out, Trace)] == [end]


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_to_the_same_files(
    redpencil: Run, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    command = ("demos", "--tasks", "builtin:validation", "--per-task", 4, "--out", "demos.jsonl")
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    stopped.mkdir(), whole.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "redpencil", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=stopped,
    )
    pieces = stopped / "demos.partial.jsonl"
    while not pieces.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(stop)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == code
    assert printed.strip() == ("" if code < 0 else CLI_INTERRUPTED)
    assert sorted(path.name for path in stopped.iterdir()) == [
        "demos.partial.jsonl", "demos.plan.json",
    ]  # fmt: skip
    for folder in (stopped, whole):
        assert redpencil(*command, cwd=folder).returncode == 0
    files = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert files == {path.name: path.read_bytes() for path in stopped.iterdir()}


class TestErrors:
    """What a new user gets wrong: one line that says what to do, and nothing half-written."""

    def test_missing_files(self, redpencil: Run, shop: Path) -> None:
        one_line_error(redpencil("check", "no.py", "--tests", shop / "tests.py"), "no.py")
        one_line_error(redpencil("check", shop / "shop.py", "--tests", "no.py"), "no.py")
        one_line_error(redpencil("report", shop / "nowhere"), "nothing to report")
        sft = redpencil("sft", "--demos", "no.jsonl", "--out", shop / "sft")
        one_line_error(sft, "no.jsonl")

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (PermissionError(13, "Permission denied", "/x[/y]"), "/x[/y]: Permission denied"),
            (OSError("two\nlines"), "two lines"),
        ],
    )
    def test_the_systems(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        error: OSError,
        said: str,
    ) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(cli, "app", fail)
        monkeypatch.setattr(signal, "signal", lambda *given: None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"error: {said}\n"

    def test_not_python(self, redpencil: Run, shop: Path) -> None:
        (shop / "image.py").write_bytes(b"\x89PNG\xff\xfe")
        result = redpencil("check", shop / "image.py", "--tests", shop / "tests.py")
        one_line_error(result, "image.py is not a Python file")
        (shop / "tests.py").write_text("assert f(1 ==\n")
        result = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py")
        one_line_error(result, "tests.py, line 1")

    def test_tests_that_already_pass(self, redpencil: Run, shop: Path, tiny_model: Path) -> None:
        (shop / "shop.py").write_text(RIGHT)
        result = redpencil(
            "repair", shop / "shop.py", "--tests", shop / "tests.py", "--model", tiny_model
        )
        one_line_error(result, "all 2 tests already pass")

    def test_tests_that_crash_by_themselves(
        self, redpencil: Run, shop: Path, tiny_model: Path
    ) -> None:
        (shop / "tests.py").write_text("import no_such_module\nassert double(2) == 4\n")
        result = redpencil(
            "repair", shop / "shop.py", "--tests", shop / "tests.py", "--model", tiny_model
        )
        one_line_error(result, "the tests cannot run", "no_such_module")

    def test_a_grammar_for_answers(self, redpencil: Run, shop: Path) -> None:
        result = redpencil(
            "repair", shop / "shop.py", "--tests", shop / "tests.py", "--method", "both",
            "--decoding", "well-formed",
        )  # fmt: skip
        one_line_error(result, "only edits have a grammar")

    def test_empty_tests(self, redpencil: Run, shop: Path) -> None:
        (shop / "tests.py").write_text("# none yet\n")
        result = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py")
        one_line_error(result, "no tests in")

    def test_unknown_model(self, redpencil: Run, shop: Path) -> None:
        result = redpencil("eval", "builtin:test", "--model", "./no-model", "--out", shop / "e")
        one_line_error(result, "no model './no-model'")
        assert not (shop / "e").exists()

    def test_a_misspelt_task(self, redpencil: Run) -> None:
        result = redpencil("play", "builtin/strings.maskdigits")
        one_line_error(result, "no task 'builtin/strings.maskdigits'", "strings.mask_digits")

    def test_unknown_source(self, redpencil: Run) -> None:
        one_line_error(redpencil("tasks", "bultin"), "no task source 'bultin'")

    def test_a_corrupt_traces_file(self, redpencil: Run, shop: Path) -> None:
        (shop / "traces.jsonl").write_text('{"task": 3}\n')
        result = redpencil("sft", "--demos", shop / "traces.jsonl", "--out", shop / "sft")
        one_line_error(result, "traces.jsonl, line 1")

    def test_a_folder_that_cannot_be_written(self, redpencil: Run, shop: Path) -> None:
        (shop / "file").write_text("")
        result = redpencil("tasks", "builtin:test", "--out", shop / "file" / "tasks.jsonl")
        one_line_error(result, "cannot write")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk(self, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from redpencil.errors import UsageError
        from redpencil.files import write_jsonl

        real = os.fdopen

        def full(descriptor: int, *arguments: Any) -> Any:
            os.close(descriptor)
            return real(os.open("/dev/full", os.O_WRONLY), *arguments)

        target = shop / "out.jsonl"
        target.write_text("old\n")
        monkeypatch.setattr(os, "fdopen", full)
        with pytest.raises(UsageError, match=r"cannot write .*No space left"):
            write_jsonl(target, ["new"])
        assert target.read_text() == "old\n"
        assert sorted(path.name for path in shop.iterdir()) == [
            "out.jsonl", "right.py", "shop.py", "tests.py",
        ]  # fmt: skip

    def test_a_wrong_option(self, redpencil: Run, shop: Path) -> None:
        assert redpencil("eval", "builtin:test").returncode == 2
        result = redpencil(
            "demos", "--tasks", "builtin", "--corruptions", "many", "--out", shop / "d"
        )
        one_line_error(result, "--corruptions takes")
        result = redpencil(
            "rl", "--tasks", "builtin", "--weights", "3,1", "--adapter", "a", "--out", shop / "r"
        )
        one_line_error(result, "--weights takes a number above 0 for each --tasks")
