"""The engine of a server beside a real one: `transformers serve` with the tiny model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from redpencil.checkers import PythonChecker
from redpencil.engine.client import Dialect
from redpencil.engine.server import ServerEngine
from redpencil.env import EditEnv, EditRules
from redpencil.policy import ModelPolicy
from redpencil.rollout import Episode, rollout
from redpencil.types import Task
from scripted_server import episode

CHECKER = PythonChecker()

pytestmark = pytest.mark.usefixtures("no_key")


@pytest.fixture(scope="module")
def real_server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of `transformers serve`, which holds the tiny model."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(tiny_model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None:
        try:
            opener.open(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the server did not start: {log.read_text()}")


@pytest.mark.parametrize("dialect", ["chat", "completions"])
def test_a_real_server(real_server: str, tiny_model: Path, double: Task, dialect: Dialect) -> None:
    engine = ServerEngine(real_server, str(tiny_model), dialect)
    engine.reach()
    episodes = [
        Episode(EditEnv(episode(double, seed), CHECKER, EditRules(max_turns=3)), seed)
        for seed in range(3)
    ]
    traces = list(rollout(episodes, ModelPolicy(engine, "tiny", temperature=0)))
    assert len(traces) == 3
    for trace in traces:
        assert (trace.end, trace.error) == ("truncated", "")
        assert len(trace.turns) == 3
    assert engine.tokens_used > 3 * 3 * 50
