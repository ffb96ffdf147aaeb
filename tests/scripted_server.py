"""An OpenAI-compatible server on loopback that says what a script tells it to, faults included."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from redpencil.demos import Broken
from redpencil.engine.client import Dialect, Patience
from redpencil.engine.server import ServerEngine
from redpencil.evaluate import Plan
from redpencil.policy import ModelPolicy
from redpencil.rollout import Play, rollout
from redpencil.types import Task

FIX, EXIT = "### REPL 2 >>>    return n * 2", "### EXIT"
HASTY = Patience(timeout=0.4, retries=2, backoff=0.01)


@dataclass
class Request:
    """A request as the server got it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    time: float

    @property
    def messages(self) -> list[str]:
        """All text of the context, message by message; one where it is a prompt."""
        if "prompt" in self.body:
            return [self.body["prompt"]]
        return [message["content"] for message in self.body["messages"]]

    @property
    def turn(self) -> int:
        """Which turn of its episode this is, from 0: each before it has shown a page."""
        return sum(text.count("\n***\n") for text in self.messages) - 1

    @property
    def episode(self) -> int:
        """The number that the task's prompt gives."""
        found = re.search(r"Episode (\d+)\.", self.messages[0])
        assert found is not None
        return int(found[1])


Answer = Callable[[BaseHTTPRequestHandler], None]
Script = Callable[[Request], Answer]


def says(text: object, **fields: object) -> Answer:
    """The model says this; `fields` replace those of the answer."""
    choice = {"index": 0, "text": text, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return sends(200, {"object": "x", "choices": [choice], "usage": usage, **fields})


def sends(status: int, body: object, **headers: str) -> Answer:
    """A response with this body: bytes as they are, anything else as JSON."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def stalls(handler: BaseHTTPRequestHandler) -> None:
    """Nothing comes, byte after byte: the connection is alive, and the answer never whole."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def drops(handler: BaseHTTPRequestHandler) -> None:
    """The connection ends halfway through the body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"text": "### EX')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    """The connection ends without an answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def mends(request: Request) -> Answer:
    """What a good model says: the fix, then that it is done."""
    return says(FIX if request.turn == 0 else EXIT)


class Server(ThreadingHTTPServer):
    """Answers by its script and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Script, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script = script
        self.requests: list[Request] = []
        self.connections: set[socket.socket] = set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def die(self) -> None:
        """What a killed server leaves behind: nobody listens, and all connections are gone."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        sends(200, {"object": "list", "data": []})(self)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, body, time.monotonic())
        self.server.requests.append(request)
        self.server.script(request)(self)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def serving(script: Script = mends, port: int = 0) -> Iterator[Server]:
    server = Server(script, port)
    try:
        yield server
    finally:
        server.die()


def engine_of(server: Server, dialect: Dialect = "chat", **options: Any) -> ServerEngine:
    return ServerEngine(server.url, "tiny", dialect, **{"patience": HASTY, **options})


def episode(double: Task, number: int) -> Task:
    """A task of its own for each episode, whose number the server reads in the prompt."""
    return msgspec.structs.replace(double, id=f"test/{number}", prompt=f"Episode {number}.")


def copies(double: Task, count: int) -> list[Broken]:
    """So many of these tasks, as a run takes them."""
    return [Broken(episode(double, number), (), ()) for number in range(count)]


def plan_for(url: str, **fields: Any) -> Plan:
    return Plan(method="coe", tasks="test", base_model="tiny", server=url, **fields)


def playing(server: Server) -> Play:
    """Plays one episode after the other."""
    return partial(rollout, policy=ModelPolicy(engine_of(server), "tiny"), concurrency=1)


def in_episode(number: int, fault: Answer, times: int | None = None) -> Script:
    """A script that mends all but one episode, which meets a fault so many times, or always."""
    met = 0

    def script(request: Request) -> Answer:
        nonlocal met
        if request.episode == number and request.turn == 1 and met != times:
            met += 1
            return fault
        return mends(request)

    return script
