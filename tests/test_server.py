"""The engine of a server: its dialects, and what comes of every fault that a server can have."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from redpencil.checkers import PythonChecker
from redpencil.engine import Sample, Sampling
from redpencil.engine.client import Dialect, Patience, _retry_after
from redpencil.engine.server import ServerEngine
from redpencil.env import AnswerEnv, EditEnv
from redpencil.errors import EngineError, MissingDependency, UsageError
from redpencil.evaluate import evaluate, make_policy, sample
from redpencil.policy import ModelPolicy
from redpencil.rollout import Episode, rollout
from redpencil.types import Task, Trace
from scripted_server import (
    EXIT,
    FIX,
    HASTY,
    Answer,
    Request,
    Server,
    copies,
    drops,
    engine_of,
    episode,
    hangs_up,
    in_episode,
    mends,
    plan_for,
    playing,
    says,
    sends,
    serving,
    stalls,
)

Run = Callable[..., subprocess.CompletedProcess[str]]

CHECKER = PythonChecker()
KEY = "sk-very-secret-0123456789"

pytestmark = pytest.mark.usefixtures("no_key")


def play(double: Task, engine: ServerEngine, count: int = 4, **options: Any) -> list[Trace]:
    """Traces of so many episodes, by number; none is missing."""
    episodes = [Episode(EditEnv(episode(double, n), CHECKER), seed=n) for n in range(count)]
    policy = ModelPolicy(engine, "tiny")
    traces = {trace.seed: trace for trace in rollout(episodes, policy, **options)}
    return [traces[number] for number in range(count)]


def others_are_solved(traces: list[Trace], number: int) -> bool:
    return all(
        trace.solved and trace.end == "exit" and len(trace.turns) == 2
        for trace in traces
        if trace.seed != number
    )


class TestDialects:
    def test_chat(self, double: Task) -> None:
        with serving() as server:
            (trace,) = play(double, engine_of(server), 1)
        assert trace.solved
        assert [turn.action for turn in trace.turns] == [FIX, EXIT]
        first, second = server.requests
        assert first.path == "/v1/chat/completions"
        shown = [turn.observation.text.strip("\n") for turn in trace.turns]
        assert first.body["messages"] == [{"role": "user", "content": shown[0]}]
        assert second.body["messages"] == [
            {"role": "user", "content": shown[0]},
            {"role": "assistant", "content": FIX},
            {"role": "user", "content": shown[1]},
        ]

    def test_completions(self, double: Task) -> None:
        with serving() as server:
            (trace,) = play(double, engine_of(server, "completions"), 1)
        assert trace.solved
        first, second = server.requests
        assert first.path == "/v1/completions"
        shown = [turn.observation.text for turn in trace.turns]
        assert first.body["prompt"] == shown[0]
        assert second.body["prompt"] == f"{shown[0]}{FIX}\n{shown[1]}"

    @pytest.mark.parametrize("dialect", ["chat", "completions"])
    def test_a_server_may_ignore_stop(self, double: Task, dialect: Dialect) -> None:
        def chatty(request: Request) -> Answer:
            return says((FIX if request.turn == 0 else EXIT) + "\nThis\nis why: ...\n")

        with serving() as server:
            server.script = chatty
            (trace,) = play(double, engine_of(server, dialect), 1)
            server.script = mends
            (terse,) = play(double, engine_of(server, dialect), 1)
        assert trace == terse
        assert server.requests[1].body == server.requests[3].body
        assert server.requests[0].body["stop"] == ["\n"]

    def test_what_is_sampled_with_is_sent(self, double: Task) -> None:
        with serving() as server:
            policy = ModelPolicy(engine_of(server), "tiny", temperature=0.7, top_p=0.9)
            for seed in (3, 4, 3):
                list(rollout([Episode(EditEnv(episode(double, 0), CHECKER), seed=seed)], policy))
        bodies = [request.body for request in server.requests]
        for body in bodies:
            wanted = (body["model"], body["temperature"], body["top_p"], body["max_tokens"])
            assert wanted == ("tiny", 0.7, 0.9, EditEnv.max_tokens)
        seeds = [body["seed"] for body in bodies]
        assert len(set(seeds)) == 4
        assert seeds[:2] == seeds[4:]

    def test_a_direct_answer_is_asked_for_in_chat(self, double: Task) -> None:
        answer = "Here:\n```python\ndef double(n):\n    return n * 2\n```\n"

        def ask(engine: ServerEngine) -> Trace:
            env = AnswerEnv(episode(double, 0), CHECKER)
            (trace,) = rollout([Episode(env)], ModelPolicy(engine, "tiny"))
            return trace

        with serving(lambda request: says(answer + "I doubled it.")) as server:
            trace = ask(engine_of(server))
            with pytest.raises(UsageError, match="asked directly in the chat dialect"):
                ask(engine_of(server, "completions"))
        assert trace.solved
        assert trace.turns[0].action + "\n" == answer
        (request,) = server.requests
        assert request.body["messages"][0]["content"] == trace.turns[0].observation.text
        assert "stop" not in request.body

    @pytest.mark.parametrize("field", [{"grammar": "start: /x/"}, {"top_k": 3}])
    def test_what_a_server_cannot_do_is_refused(self, field: dict[str, Any]) -> None:
        engine = ServerEngine("http://127.0.0.1:1/v1", "tiny")
        handle = engine.open()
        with pytest.raises(UsageError, match="use the local engine"):
            engine.begin(handle, Sampling(1.0, 1.0, 9, 0, bool)._replace(**field))
        with pytest.raises(UsageError, match="use the local engine"):
            ModelPolicy(engine, "tiny", decoding="well-formed")


class TestEngine:
    def test_capacity_is_the_most_at_once(self, double: Task) -> None:
        lock, now, most = threading.Lock(), 0, 0

        def script(request: Request) -> Answer:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.05)
            with lock:
                now -= 1
            return mends(request)

        with serving(script) as server:
            traces = play(double, engine_of(server, capacity=3), 9)
            engine = engine_of(server, capacity=1)
            engine.open()
            with pytest.raises(UsageError, match="holds 1 sequences"):
                engine.open()
        assert all(trace.solved for trace in traces)
        assert most == 3

    def test_closing_ends_a_request_under_way(self) -> None:
        asked, gone = threading.Event(), threading.Event()

        def waits(handler: Any) -> None:
            asked.set()
            handler.connection.settimeout(30)
            assert handler.rfile.read(1) == b""
            gone.set()

        with serving(lambda request: waits) as server:
            engine = engine_of(server, patience=Patience(timeout=60))
            handle = engine.open()
            engine.begin(handle, Sampling(1.0, 1.0, 9, 0, bool))
            assert asked.wait(30)
            engine.close(handle)
            assert gone.wait(30)
            assert engine.step() == []

    def test_what_ended_is_there_while_others_go_on(self) -> None:
        release = threading.Event()

        def script(request: Request) -> Answer:
            if request.messages == ["slow"]:
                assert release.wait(30)
            return says("done\n")

        with serving(script) as server:
            engine = engine_of(server, patience=Patience(timeout=60))
            handles = {}
            for text in ("slow", "quick"):
                handles[text] = engine.open()
                engine.show(handles[text], text)
                engine.begin(handles[text], Sampling(1.0, 1.0, 9, 0, bool))
            assert _wait(engine) == [(handles["quick"], Sample((), (), "d"))]
            assert engine.step() == []
            release.set()
            assert [handle for handle, _ in _wait(engine)] == [handles["slow"]]

    def test_a_missing_library_names_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openai", None)
        with pytest.raises(MissingDependency, match=r"pip install 'redpencil\[server\]'"):
            ServerEngine("http://127.0.0.1:1/v1", "tiny")

    def test_training_refuses_it(self, tmp_path: Path) -> None:
        from redpencil.recipes import GrpoRecipe
        from redpencil.train.sampling import GroupSampler

        engine: Any = ServerEngine("http://127.0.0.1:1/v1", "tiny")
        with pytest.raises(UsageError, match=r"ids, lora_sync.*use the local engine"):
            GroupSampler([], GrpoRecipe(), CHECKER, tmp_path).use(engine)


def _wait(engine: ServerEngine) -> list[tuple[int, Sample | EngineError | None]]:
    while not (ended := engine.step()):
        pass
    return ended


PASSING_FAULTS: dict[str, tuple[Answer, str]] = {
    "stalls": (stalls, "no answer within 0.4 s"),
    "hangs up": (hangs_up, "connection failed"),
    "drops the connection": (drops, "connection failed: .*without sending complete"),
    "rate limit": (sends(429, {"error": {"message": "slow down"}}), "429 .*slow down"),
    "server error": (sends(500, b"<html>\n oops </html>"), "500 <html> oops </html>"),
    "overloaded": (sends(503, {"detail": "loading"}), "503 .*loading"),
    "not JSON": (sends(200, b"<html>hello</html>"), "cannot be read .*hello"),
    "nothing": (sends(200, b""), "cannot be read"),
    "no UTF-8": (sends(200, b'{"choices": \xff'), "cannot be read"),
    "nested": (sends(200, b'{"x": ' + b"[" * 9999 + b"]" * 9999 + b"}"), "without text|read"),
    "half a surrogate": (sends(200, b'{"choices": [{"text": "\\ud800"}]}'), "cannot be read"),
    "not an object": (sends(200, [1, 2]), "Expected `object`, got `array`"),
    "no choices": (sends(200, {"id": "x"}), "without text"),
    "empty choices": (says("", choices=[]), "without text"),
    "null": (says(None), "without text"),
    "a number": (says(3), "Expected `str | null`, got `int`"),
    "wrong types": (says("", choices={"a": 1}), "Expected `array`, got `object`"),
    "negative usage": (says(EXIT, usage={"prompt_tokens": -9}), "`int` >= 0"),
    "an error that is no error": (sends(200, {"error": {"message": "no GPU"}}), "no GPU"),
}


class TestFaults:
    @pytest.mark.parametrize("dialect", ["chat", "completions"])
    @pytest.mark.parametrize("name", PASSING_FAULTS)
    def test_one_that_stays(self, double: Task, name: str, dialect: Dialect) -> None:
        fault, message = PASSING_FAULTS[name]
        with serving(in_episode(1, fault)) as server:
            traces = play(double, engine_of(server, dialect))
        assert others_are_solved(traces, 1)
        assert traces[1].end == "error"
        assert not traces[1].solved
        assert re.search(message, traces[1].error)
        assert "\n" not in traces[1].error
        assert len(traces[1].error) < 400
        assert [turn.action for turn in traces[1].turns] == [FIX]
        tries = Counter((request.episode, request.turn) for request in server.requests)
        assert tries[1, 1] == 1 + HASTY.retries
        assert all(times == 1 for where, times in tries.items() if where != (1, 1))

    @pytest.mark.parametrize("name", PASSING_FAULTS)
    def test_one_that_passes(self, double: Task, name: str) -> None:
        fault, _ = PASSING_FAULTS[name]
        with serving(in_episode(1, fault, times=HASTY.retries)) as server:
            traces = play(double, engine_of(server))
        assert all(trace.solved and len(trace.turns) == 2 for trace in traces)
        again = [request.body for request in server.requests if request.episode == 1][1:]
        assert again == [again[0]] * (1 + HASTY.retries)

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_server_is_left_alone_as_long_as_it_asks(self, double: Task, status: int) -> None:
        fault = sends(status, {}, Retry_After="0.3")
        with serving(in_episode(1, fault, times=1)) as server:
            traces = play(double, engine_of(server))
        assert all(trace.solved for trace in traces)
        first, second = (r.time for r in server.requests if (r.episode, r.turn) == (1, 1))
        assert second - first >= 0.3

    def test_nobody_waits_for_an_hour(self, double: Task) -> None:
        with serving(in_episode(1, sends(429, b"quota", Retry_After="3600"))) as server:
            traces = play(double, engine_of(server))
        assert others_are_solved(traces, 1)
        assert (traces[1].end, traces[1].error) == ("error", f"{server.url}: 429 quota")
        assert sum(request.episode == 1 for request in server.requests) == 2

    @pytest.mark.parametrize(
        "said",
        [
            {"error": {"code": "context_length_exceeded", "message": "too many tokens"}},
            {"message": "This model's maximum context length is 2048 tokens. However, ..."},
            {"error": {"type": "exceed_context_size_error", "message": "the request exceeds"}},
            {"error": "The prompt is longer than the maximum model length of 512."},
        ],
    )
    def test_a_full_context_is_a_limit(self, double: Task, said: object) -> None:
        with serving(in_episode(1, sends(400, said))) as server:
            traces = play(double, engine_of(server))
        assert others_are_solved(traces, 1)
        assert (traces[1].end, traces[1].error) == ("cut_short", "")
        assert traces[1].turns[-1].reward == 1.0 - 0.5
        assert sum(request.episode == 1 for request in server.requests) == 2

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_other_refusals_are_not_tried_again(self, double: Task, status: int) -> None:
        with serving(in_episode(1, sends(status, {"error": "no such field"}))) as server:
            traces = play(double, engine_of(server))
        assert others_are_solved(traces, 1)
        assert traces[1].error == f'{server.url}: {status} {{"error": "no such field"}}'
        assert sum(request.episode == 1 for request in server.requests) == 2

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (401, "REDPENCIL_API_KEY or OPENAI_API_KEY: 401 .*no!"),
            (403, "REDPENCIL_API_KEY or OPENAI_API_KEY: 403 .*no!"),
            (404, "has no chat model 'tiny'.*mostly ends in /v1: 404 .*no!"),
        ],
    )
    def test_what_all_have_in_common_stops_the_run(
        self, double: Task, tmp_path: Path, status: int, message: str
    ) -> None:
        plan, broken = plan_for("http://127.0.0.1:1/v1"), copies(double, 4)
        path = tmp_path / "traces.jsonl"
        with serving(in_episode(2, sends(status, {"error": "no!"}))) as server:
            with pytest.raises(UsageError, match=message):
                sample(plan, broken, playing(server), CHECKER, path)
            assert len(path.read_text().splitlines()) == 2
            assert len(server.requests) == 6
            server.script = mends
            traces = sample(plan, broken, playing(server), CHECKER, path)
        assert all(trace.solved for trace in traces)
        assert len(traces) == 4
        assert len(server.requests) == 10

    def test_a_server_that_dies_loses_nothing_that_was_done(
        self, double: Task, tmp_path: Path
    ) -> None:
        def kill(handler: Any) -> None:
            server.die()

        plan, broken = plan_for("http://127.0.0.1:1/v1"), copies(double, 5)
        path = tmp_path / "traces.jsonl"
        with serving(in_episode(2, kill)) as server:
            traces = sample(plan, broken, playing(server), CHECKER, path)
        ends = [trace.end for trace in traces]
        assert ends == ["exit", "exit", "error", "error", "error"]
        assert all("connection failed" in trace.error for trace in traces[2:])
        assert [len(trace.turns) for trace in traces] == [2, 2, 1, 0, 0]
        with serving(mends, server.port) as revived:
            again = sample(plan, broken, playing(revived), CHECKER, path)
        assert again[:2] == traces[:2]
        assert all(trace.solved for trace in again)
        assert [request.episode for request in revived.requests] == [2, 2, 3, 3, 4, 4]

    def test_a_server_that_starts_again_is_waited_for(self, double: Task) -> None:
        born: list[Server] = []

        def restart(handler: Any) -> None:
            server.die()
            born.append(Server(mends, server.port))

        patience = Patience(timeout=5, retries=8, backoff=0.02)
        with serving(in_episode(2, restart)) as server:
            traces = play(double, engine_of(server, patience=patience))
        born[0].die()
        assert all(trace.solved and len(trace.turns) == 2 for trace in traces)

    def test_retry_after_is_a_number_or_a_date(self) -> None:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        assert _retry_after({"retry-after": "1.5"}) == 1.5
        assert 50 < _retry_after({"retry-after": soon}) <= 60
        for none in ({}, {"retry-after": "soon"}, {"retry-after": "Mon, 99 Foo"}):
            assert _retry_after(none) == 0

    def test_a_wrong_port_shows_before_the_run(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(UsageError, match=rf"no server at http://127.0.0.1:{port}/v1: conn"):
            make_policy(plan_for(f"http://127.0.0.1:{port}/v1"))


class TestBudget:
    def test_nothing_is_sent_once_it_is_used_up(self, double: Task) -> None:
        with serving() as server:
            engine = engine_of(server, budget_tokens=500)
            traces = play(double, engine, 8, concurrency=1)
        assert len(server.requests) == 5
        assert engine.tokens_used == 550
        assert [trace.solved for trace in traces] == [True] * 2 + [False] * 6
        assert [len(trace.turns) for trace in traces] == [2, 2, 1, 0, 0, 0, 0, 0]
        assert {trace.error for trace in traces[2:]} == {"budget of 500 tokens used up"}

    def test_only_what_is_under_way_exceeds_it(self, double: Task) -> None:
        with serving() as server:
            engine = engine_of(server, budget_tokens=500, capacity=3)
            traces = play(double, engine, 8)
        assert 5 <= len(server.requests) <= 5 + 2
        assert engine.tokens_used == 110 * len(server.requests)
        assert sum(len(trace.turns) for trace in traces) == len(server.requests)

    def test_retries_are_not_sent_either(self, double: Task) -> None:
        with serving(lambda request: says(None)) as server:
            traces = play(double, engine_of(server, budget_tokens=200), 1)
        assert len(server.requests) == 2
        assert traces[0].error == "budget of 200 tokens used up"

    @pytest.mark.parametrize("answer", [sends(200, b"<html>"), stalls])
    def test_what_is_never_told_is_reckoned(self, double: Task, answer: Any) -> None:
        with serving(lambda request: answer) as server:
            engine = engine_of(server, budget_tokens=1_000_000)
            play(double, engine, 1)
        asked = [request.body for request in server.requests]
        assert len(asked) > 1
        assert engine.tokens_used == sum(
            len("".join(m["content"] for m in body["messages"])) // 3 + body["max_tokens"]
            for body in asked
        )

    @pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0}])
    def test_a_server_that_reports_nothing_has_no_budget(self, double: Task, usage: object) -> None:
        with serving(lambda request: says(EXIT, usage=usage)) as server:
            engine = engine_of(server)
            assert play(double, engine, 1)[0].end == "exit"
            assert engine.tokens_used == 0
            with pytest.raises(UsageError, match="no budget can be kept"):
                play(double, engine_of(server, budget_tokens=500), 1)


class TestKey:
    @pytest.mark.parametrize(
        ("environment", "sent"),
        [
            ({}, "Bearer none"),
            ({"OPENAI_API_KEY": "theirs"}, "Bearer theirs"),
            ({"OPENAI_API_KEY": "theirs", "REDPENCIL_API_KEY": " ours\n"}, "Bearer ours"),
        ],
    )
    def test_it_comes_from_the_environment(
        self,
        double: Task,
        monkeypatch: pytest.MonkeyPatch,
        environment: dict[str, str],
        sent: str,
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with serving() as server:
            play(double, engine_of(server), 1)
        assert {request.headers["authorization"] for request in server.requests} == {sent}

    def test_it_is_nowhere_to_be_seen(
        self,
        double: Task,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """Not even where the server repeats what it was sent, and everything is logged."""
        monkeypatch.setenv("REDPENCIL_API_KEY", KEY)
        caplog.set_level(logging.DEBUG)

        def repeats(request: Request) -> Answer:
            sent = request.headers["authorization"].encode()
            return {
                0: mends(request),
                1: sends(500, sent * 30),
                2: sends(200, sent),
                3: sends(400, {"error": sent.decode()}),
                4: sends(302, b"", Location="/elsewhere"),
                5: sends(200, sent, Content_Encoding="gzip"),
            }[request.episode]

        plan, broken = plan_for("http://127.0.0.1:1/v1"), copies(double, 6)
        with serving(repeats) as server:
            evaluate(plan, broken, playing(server), CHECKER, tmp_path)
            server.script = lambda request: sends(401, request.headers["authorization"].encode())
            with pytest.raises(UsageError) as refused:
                play(double, engine_of(server), 2)
        for request in server.requests:
            assert request.headers["authorization"] == f"Bearer {KEY}"
        ours = refused.tb.tb_next  # all but this test, which holds what the server was sent
        chain = traceback.TracebackException(
            refused.type, refused.value, ours, capture_locals=True
        ).format()
        written = {path.name: path.read_text() for path in tmp_path.iterdir()}
        assert set(written) == {"traces.jsonl", "traces.plan.json", "results.json", "spent.json"}
        assert "Bearer [key]" in written["traces.jsonl"]
        seen = [*written.values(), "".join(chain), repr(playing(server)), repr(engine_of(server))]
        seen += [caplog.text, *capfd.readouterr(), repr(refused.value)]
        seen += [repr(record.__dict__) for record in caplog.records]
        assert not [text for text in seen if KEY in text]

    @pytest.mark.parametrize("key", ["EMPTY", "1"])
    def test_one_that_is_none_changes_no_answer(
        self, double: Task, monkeypatch: pytest.MonkeyPatch, key: str
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        said = "### ADDL 1 >>>EMPTY = 1"
        with serving(lambda request: says(said)) as server:
            (trace,) = play(double, engine_of(server), 1)
        assert {turn.action for turn in trace.turns} == {said}

    def test_one_that_cannot_be_sent_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for key in ("sk-\u201cquoted\u201d", "sk-a\nb"):
            monkeypatch.setenv("REDPENCIL_API_KEY", key)
            with pytest.raises(UsageError) as refused:
                ServerEngine("http://127.0.0.1:1/v1", "tiny")
            assert "REDPENCIL_API_KEY holds" in str(refused.value)
            assert key not in str(refused.value)

    @pytest.mark.parametrize(
        "url",
        [
            "localhost:8000",
            "ftp://localhost/v1",
            "http://",
            "http://localhost:port/v1",
            "http://localhost:99999/v1",
            f"http://user:{KEY}@localhost/v1",
            f"http://localhost/v1?key={KEY}",
            f"http://localhost/v1#{KEY}",
        ],
    )
    def test_a_url_holds_no_secrets(self, url: str) -> None:
        with pytest.raises(UsageError) as refused:
            ServerEngine(url, "tiny")
        assert "http://localhost:8000/v1" in str(refused.value)
        assert KEY not in str(refused.value)
