"""Whole runs by a server: what a plan may ask for, and the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from redpencil.checkers import PythonChecker
from redpencil.engine.client import Dialect
from redpencil.errors import UsageError
from redpencil.evaluate import Plan, evaluate, sample
from redpencil.files import read_jsonl
from redpencil.types import Task, Trace
from scripted_server import (
    Answer,
    Request,
    copies,
    episode,
    in_episode,
    mends,
    plan_for,
    playing,
    sends,
    serving,
    stalls,
)

Run = Callable[..., subprocess.CompletedProcess[str]]

CHECKER = PythonChecker()


def lines(path: Path) -> list[bytes]:
    """Those of a file that are whole; of a file that is not there yet, none."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


pytestmark = pytest.mark.usefixtures("no_key")


class TestPlan:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"server": "http://x/v1", "adapter": "a"}, "--server and --adapter"),
            ({"server": "http://x/v1", "decoding": "well-formed"}, "--server and --decoding"),
            ({"dialect": "completions"}, "name it with --server"),
            (
                {"server": "http://x/v1", "method": "direct", "dialect": "completions"},
                "--dialect chat",
            ),
        ],
    )
    def test_what_cannot_be_had_together(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            Plan(**{"method": "coe", "tasks": "t", "base_model": "m", **fields})

    def test_traces_of_different_servers_are_never_mixed(
        self, double: Task, tmp_path: Path
    ) -> None:
        path = tmp_path / "traces.jsonl"
        other = {"base_model": "tiny", "method": "coe", "tasks": "test"}
        with serving() as server:
            sample(plan_for(server.url), copies(double, 1), playing(server), CHECKER, path)
            for plan in (
                plan_for(f"{server.url}/other"),
                plan_for(server.url, dialect="completions"),
                Plan(**other),  # type: ignore[arg-type]
            ):
                with pytest.raises(UsageError, match="holds traces of something else"):
                    sample(plan, copies(double, 1), playing(server), CHECKER, path)

    def test_tokens_that_nobody_showed_are_not_counted(self, double: Task, tmp_path: Path) -> None:
        with serving() as server:
            broken = copies(double, 2)
            results = evaluate(plan_for(server.url), broken, playing(server), CHECKER, tmp_path)
        assert results.pass_at_1 == 1.0
        assert results.mean_tokens is None


class TestCommandLine:
    @pytest.fixture
    def tasks(self, double: Task, tmp_path: Path) -> str:
        path = tmp_path / "tasks.jsonl"
        lines = [msgspec.json.encode(episode(double, number)) for number in range(4)]
        path.write_bytes(b"\n".join(lines) + b"\n")
        return f"jsonl:{path}"

    @pytest.mark.parametrize("dialect", ["chat", "completions"])
    def test_rollout_and_eval(
        self, redpencil: Run, tasks: str, tmp_path: Path, dialect: Dialect
    ) -> None:
        out = tmp_path / "traces.jsonl"
        with serving() as server:
            options = ("--model", "tiny", "--server", server.url, "--dialect", dialect)
            done = redpencil("rollout", tasks, *options, "--samples", 2, "--out", out)
            assert done.returncode == 0, done.stderr
            assert "8 traces in" in done.stdout
            assert "8 of them solved" in " ".join(done.stdout.split())
            measured = redpencil("eval", tasks, *options, "--out", tmp_path / "eval")
            assert measured.returncode == 0, measured.stderr
            assert "100.0%" in measured.stdout
            assert redpencil("report", tmp_path / "eval").returncode == 0
        plan = json.loads((tmp_path / "eval" / "traces.plan.json").read_text())
        assert (plan["server"], plan["dialect"]) == (server.url, dialect)

    def test_faults_are_counted_and_made_good(
        self, redpencil: Run, tasks: str, tmp_path: Path
    ) -> None:
        out = tmp_path / "traces.jsonl"
        with serving(in_episode(1, sends(400, b"no [markup]"))) as server:
            command = ("rollout", tasks, "--model", "tiny", "--server", server.url)
            command = (*command, "--samples", 1, "--out", out)
            done = redpencil(*command)
            assert done.returncode == 0, done.stderr
            assert f"1 of 4 traces ended in an error, such as: {server.url}: 400" in done.stdout
            assert "[markup]" in done.stdout
            server.script = mends
            assert "4 of them solved" in " ".join(redpencil(*command).stdout.split())

    def test_a_budget_ends_a_run_and_a_greater_one_goes_on(
        self, redpencil: Run, tasks: str, tmp_path: Path
    ) -> None:
        command = ("eval", tasks, "--model", "tiny", "--out", tmp_path)
        with serving() as server:
            command = (*command, "--server", server.url, "--budget-tokens")
            short = redpencil(*command, 150)
            assert "budget of 150 tokens used up" in short.stdout
            assert "100.0%" in redpencil(*command, 10_000).stdout

    @pytest.mark.parametrize("command", ["rollout", "eval"])
    def test_ctrl_c_keeps_what_has_ended_and_the_same_command_goes_on(
        self, redpencil: Run, tasks: str, tmp_path: Path, command: str
    ) -> None:
        path = tmp_path / "run" / "traces.jsonl"
        out = path if command == "rollout" else path.parent
        with serving(in_episode(1, stalls)) as server:
            arguments = [command, tasks, "--model", "tiny", "--server", server.url]
            arguments += ["--samples", "2", "--temperature", "1", "--out", str(out)]
            process = subprocess.Popen(
                [sys.executable, "-m", "redpencil", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            while process.poll() is None and len(lines(path)) < 6:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, printed = process.communicate(timeout=60)
            assert process.returncode == 130
            assert printed.strip() == "interrupted: run the same command again to go on"
            kept = lines(path)
            assert len(kept) == 6
            server.script = mends
            server.requests.clear()
            assert redpencil(*arguments).returncode == 0
            assert {request.episode for request in server.requests} == {1}
        traces = read_jsonl(path, Trace)
        played = [(trace.task.id, trace.seed) for trace in traces if trace.solved]
        assert played == [(f"test/{number}", seed) for number in range(4) for seed in range(2)]
        assert set(kept) < set(lines(path))

    def test_a_slow_server_is_asked_as_much_as_it_is_told_to_be(
        self, redpencil: Run, tasks: str, tmp_path: Path
    ) -> None:
        under_way: list[Request] = []
        at_once: list[int] = []

        def slow(request: Request) -> Answer:
            under_way.append(request)
            at_once.append(len(under_way))
            time.sleep(0.05)
            under_way.remove(request)
            return mends(request)

        with serving(slow) as server:
            command = ("rollout", tasks, "--model", "tiny", "--server", server.url)
            done = redpencil(*command, "--at-once", 2, "--out", tmp_path / "two.jsonl")
            assert done.returncode == 0, done.stderr
            assert max(at_once) == 2
            server.script = lambda request: stalls
            late = (*command, "--answer-timeout", 0.1, "--budget-tokens", 1)
            done = redpencil(*late, "--out", tmp_path / "late.jsonl")
            assert done.returncode == 0, done.stderr
            traces = read_jsonl(tmp_path / "late.jsonl", Trace)
            assert {trace.error for trace in traces} == {"budget of 1 tokens used up"}

    def test_errors_are_one_line(self, redpencil: Run, tasks: str, tmp_path: Path) -> None:
        def error(*options: object) -> str:
            result = redpencil("rollout", tasks, "--out", tmp_path / "t.jsonl", *options)
            assert result.returncode == 2
            (line,) = result.stderr.strip().splitlines()
            return str(line)

        with serving(lambda request: sends(401, b"who are you?")) as server:
            command = ("--model", "tiny", "--server", server.url)
            assert "REDPENCIL_API_KEY" in error(*command)
            server.script = lambda request: sends(404, b"what?")
            assert "no chat model 'tiny'" in error(*command)
            assert "--adapter" in error(*command, "--adapter", tmp_path)
            assert "--decoding" in error(*command, "--decoding", "new-pages")
        assert "no server at" in error(*command)
        assert "--budget-tokens" in error("--budget-tokens", 5)
