"""Work that others do: the same results in the same order, whoever does it and whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from redpencil.checkers import Checker, PythonChecker
from redpencil.dataset import Plan as DemosPlan
from redpencil.dataset import demo_set, write_demos
from redpencil.demos import broken_variants
from redpencil.env import EditEnv
from redpencil.errors import ClusterError, DataError, MissingDependency, UsageError
from redpencil.evaluate import Plan, sample
from redpencil.faults import sample_faults
from redpencil.parallel import Cluster, Threads, Workers, joined
from redpencil.players import Player, players
from redpencil.policy import ScriptedPolicy
from redpencil.rollout import Episode
from redpencil.sandbox import Limits
from redpencil.tasks import load, tasks_sha256
from redpencil.types import Task, Verdict

TASKS = load("builtin:validation").tasks[:6]
LIMITS = Limits(wall=10)  # which a busy machine does not come near
FIX, EXIT = "### REPL 2 >>>    return n * 2", "### EXIT"

by_ray = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A local Ray of two workers."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with joined() as local:
            yield replace(local, cpus=2, gpus=0)


@pytest.fixture(params=["threads", pytest.param("ray", marks=by_ray)])
def workers(request: pytest.FixtureRequest) -> Workers:
    if request.param == "threads":
        return Threads(2)
    local: Cluster = request.getfixturevalue("cluster")
    return local


def test_results_come_in_the_items_order(workers: Workers) -> None:
    def work(item: int) -> int:
        time.sleep(0.2 * (item == 0))
        return item * item

    assert list(workers.in_order(work, range(90))) == [item * item for item in range(90)]
    assert list(workers.in_order(work, [])) == []


def test_an_error_in_the_work_is_its_own(workers: Workers) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise DataError("tasks.jsonl, line 3: no id")
        return item

    results = workers.in_order(work, range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError) as raised:
        next(results)
    assert type(raised.value) is DataError
    assert str(raised.value) == "tasks.jsonl, line 3: no id"


def test_what_was_not_begun_is_dropped(workers: Workers, tmp_path: Path) -> None:
    def work(item: int) -> int:
        (tmp_path / str(item)).touch()
        return item

    results = workers.in_order(work, iter(range(10**9)))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    begun = len(list(tmp_path.iterdir()))
    assert begun <= 3 + 2 * 16 + 2
    assert list(workers.in_order(lambda item: item, range(3))) == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == begun


def test_without_ray_the_one_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'redpencil\[ray\]'"), joined():
        pass


def test_a_server_is_asked_by_one_machine() -> None:
    plan = Plan("coe", "builtin:test", "m", server="http://127.0.0.1:1/v1")
    with pytest.raises(UsageError, match="--server and --workers ray"):
        players(plan, Cluster("", 2, 0))


def test_episodes_asked_for_one_by_one_are_played_together(double: Task) -> None:
    together = threading.Barrier(2, timeout=60)

    class Together(PythonChecker):
        """Lets no first page through until two episodes are under way."""

        def check(self, text: str, task: Task) -> Verdict:
            if text == task.program:
                together.wait()
            return super().check(text, task)

    episodes = [Episode(EditEnv(double, Together()), seed) for seed in range(8)]
    play = Player(ScriptedPolicy(lambda task: [FIX, EXIT]))
    with ThreadPoolExecutor(2) as threads:
        traces = list(threads.map(play, episodes))
    assert [trace.seed for trace in traces] == list(range(8))
    assert all(trace.solved for trace in traces)


def test_who_asks_for_an_episode_hears_what_went_wrong(double: Task) -> None:
    def script(task: Task) -> list[str]:
        if task.id == "bad":
            raise DataError("no script")
        return [EXIT]

    play = Player(ScriptedPolicy(script))
    checker = PythonChecker()
    with pytest.raises(DataError, match="no script"):
        play(Episode(EditEnv(msgspec.structs.replace(double, id="bad"), checker)))
    assert play(Episode(EditEnv(double, checker))).end == "exit"


def deadly(folder: Path, task_id: str, deaths: int) -> Checker:
    """Kills its own process when it is first, second... asked about a task, then no more."""

    class Deadly:
        def check(self, text: str, task: Task) -> Verdict:
            for death in range(deaths if task.id == task_id else 0):
                with suppress(FileExistsError):
                    (folder / f"death-{death}").touch(exist_ok=False)
                    os.kill(os.getpid(), signal.SIGKILL)
            return PythonChecker(LIMITS).check(text, task)

    return Deadly()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("deaths", [0, 1])
def test_demos_by_ray_are_the_same_to_the_byte(
    cluster: Cluster, tmp_path: Path, deaths: int
) -> None:
    plan = DemosPlan("builtin", per_task=4, order="both", tasks_sha256=tasks_sha256(TASKS))
    ray, threads, killed = (tmp_path / name for name in ("ray", "threads", "killed"))
    killed.mkdir()
    checker = deadly(killed, TASKS[2].id, deaths)
    write_demos(ray / "demos.jsonl", demo_set(plan, TASKS, (), checker), workers=cluster)
    write_demos(threads / "demos.jsonl", demo_set(plan, TASKS, (), PythonChecker(LIMITS)))
    assert len(list(killed.iterdir())) == deaths
    for path in threads.iterdir():
        assert (ray / path.name).read_bytes() == path.read_bytes()
    assert len(list(ray.iterdir())) == len(list(threads.iterdir())) == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_episodes_by_ray_are_the_same_though_a_worker_is_killed(
    cluster: Cluster, tmp_path: Path
) -> None:
    plan = Plan("coe", "builtin", "random-edit")
    broken = list(broken_variants(TASKS, 3, (1, 3), 0, PythonChecker(LIMITS)))
    ray, local = tmp_path / "ray.jsonl", tmp_path / "local.jsonl"
    checker = deadly(tmp_path, TASKS[2].id, 1)
    sample(plan, broken, players(plan, cluster), checker, ray)
    sample(plan, broken, players(plan), PythonChecker(LIMITS), local)
    assert (tmp_path / "death-0").exists()
    traces, _ = played(ray)
    assert len(traces) == len(broken) > 12
    assert played(ray) == played(local)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_faults_by_ray_are_the_same_though_a_worker_is_killed(
    cluster: Cluster, tiny_model: Path, tmp_path: Path
) -> None:
    plan = Plan("write", "builtin", str(tiny_model), samples=2, temperature=1.0, dtype="float32")
    killer, tasks = deadly(tmp_path, TASKS[1].id, 1), TASKS[:3]
    sample_faults(tmp_path / "ray.jsonl", plan, tasks, (), players(plan, cluster), killer)
    checker = PythonChecker(LIMITS)
    sample_faults(tmp_path / "local.jsonl", plan, tasks, (), players(plan), checker)
    assert (tmp_path / "death-0").exists()
    names = ("ray", "local")
    (ray, there), (local, here) = (played(tmp_path / f"{name}.traces.jsonl") for name in names)
    assert len(ray) == 6
    assert ray == local
    assert there == pytest.approx(here, abs=1e-4)
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_work_that_always_kills_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    plan = DemosPlan("builtin", per_task=1, tasks_sha256=tasks_sha256(TASKS))
    checker = deadly(tmp_path, TASKS[1].id, 9)
    path = tmp_path / "demos.jsonl"
    with pytest.raises(ClusterError, match="3 workers died over the same work"):
        write_demos(path, demo_set(plan, TASKS, (), checker), workers=cluster)
    assert len(path.with_suffix(".partial.jsonl").read_bytes().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_is_not_there_is_named(cluster: Cluster, double: Task) -> None:
    play = players(Plan("coe", "builtin:test", "/no/such/model"), cluster)
    with pytest.raises(UsageError, match="no model '/no/such/model'"):
        next(play([Episode(EditEnv(double, PythonChecker()))]))


ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    "ATEN_CPU_CAPABILITY": "avx2",  # float32, in which a trace does not depend on its neighbours
    "OMP_NUM_THREADS": "1",
}


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "redpencil", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition() and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def played(path: Path) -> tuple[list[dict[str, Any]], list[float]]:
    """Traces, but for how long their programs ran; and all their log-probabilities in a row."""
    traces = [json.loads(line) for line in path.read_text().splitlines()]
    logprobs: list[float] = []
    for trace in traces:
        for turn in trace["turns"]:
            del turn["verdict"]["seconds"]
            logprobs += turn.pop("logprobs")
    return traces, logprobs


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_evaluation_by_ray_is_the_same_though_a_worker_is_killed(
    tiny_model: Path, tmp_path: Path
) -> None:
    command = ("eval", "builtin:test", "--model", tiny_model, "--variants", 2)
    process = start(*command, "--workers", "ray", "--out", tmp_path / "ray")
    traces = tmp_path / "ray" / "traces.jsonl"
    wait_for(lambda: lines_in(traces) > 0, process)
    actors = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::_Worker")
    ]
    assert len(actors) > 1
    actors[0].kill()
    assert lines_in(traces) < 40
    printed, complaints = process.communicate()
    assert process.returncode == 0, complaints
    assert complaints == ""
    assert sum("Ray" in line for line in printed.splitlines()) == 1
    alone = start(*command, "--out", tmp_path / "local")
    assert alone.communicate()[1] == ""
    assert alone.returncode == 0
    there, here = played(traces), played(tmp_path / "local" / "traces.jsonl")
    assert there[0] == here[0]
    assert there[1] == pytest.approx(here[1], abs=1e-4)  # sums in a batch of another size


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_keeps_what_is_done_and_leaves_no_process(tmp_path: Path) -> None:
    def demos(folder: str, *options: str) -> subprocess.Popen[str]:
        out = tmp_path / folder / "demos.jsonl"
        return start("demos", "--tasks", "builtin", "--per-task", 4, "--out", out, *options)

    process = demos("ray", "--workers", "ray")
    pieces = tmp_path / "ray" / "demos.partial.jsonl"
    wait_for(lambda: lines_in(pieces) > 1, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate()
    assert complaints.strip() == "interrupted: run the same command again to go on"
    assert process.returncode == 130
    assert 1 < lines_in(pieces) < 170
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    for folder in ("ray", "local"):  # goes on here with what was begun there
        process = demos(folder)
        process.communicate()
        assert process.returncode == 0
    files = [(tmp_path / folder / "demos.jsonl").read_bytes() for folder in ("ray", "local")]
    assert files[0] == files[1]
