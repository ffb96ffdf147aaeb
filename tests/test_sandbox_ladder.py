"""The ladder: which rung a machine gets, what is refused, and how workers live and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from redpencil.sandbox import Limits, Program, Rung, Sandbox, rung_asked_for
from redpencil.types import Status

TESTS = ("assert f(1) == 2",)
RIGHT = "def f(x):\n    return x + 1\n"
CLI = [sys.executable, "-m", "redpencil"]
# A machine on which some system calls do not work: what containers often are.
WITHOUT = """
import errno, os, sys
import pyseccomp
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for name in sys.argv[1].split(","):
    rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
rules.load()
os.execv(sys.argv[2], sys.argv[2:])
"""


def without(calls: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, calls, *command],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    program, tests = tmp_path / "program.py", tmp_path / "tests.py"
    program.write_text(RIGHT)
    tests.write_text(TESTS[0])
    return str(program), f"--tests={tests}"


needs_full = pytest.mark.usefixtures("full")


@needs_full
def test_the_best_rung_is_taken_and_named(files: tuple[str, str]) -> None:
    done = subprocess.run([*CLI, "check", *files, "--json"], capture_output=True, text=True)
    assert '"rung":"full"' in done.stdout


@needs_full
def test_without_namespaces_the_next_rung_is_taken(files: tuple[str, str]) -> None:
    done = without("unshare", *CLI, "check", *files, "--json")
    assert '"rung":"no-namespace"' in done.stdout, done.stderr
    report = without("unshare", *CLI, "sandbox", "check")
    assert report.returncode == 0
    assert "full: user namespace: Operation not permitted" in report.stdout
    assert "Programs run on the rung no-namespace." in report.stdout


@needs_full
def test_resource_limits_alone_have_to_be_asked_for(files: tuple[str, str]) -> None:
    calls = "unshare,landlock_restrict_self"
    refused = without(calls, *CLI, "check", *files)
    assert refused.returncode == 2
    assert "programs cannot be kept in on this machine" in refused.stderr
    assert "landlock: Operation not permitted" in refused.stderr
    assert "REDPENCIL_SANDBOX=rlimits" in refused.stderr
    asked = without(calls, *CLI, "check", *files, "--json", REDPENCIL_SANDBOX="rlimits")
    assert '"rung":"rlimits"' in asked.stdout
    assert without(calls, *CLI, "sandbox", "check").returncode == 1


def test_a_rung_that_is_not_to_be_had_is_refused_by_name(files: tuple[str, str]) -> None:
    environment = {**os.environ, "REDPENCIL_SANDBOX": "none"}
    done = subprocess.run([*CLI, "check", *files], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "the rungs are full, no-namespace, rlimits" in done.stderr


@needs_full
def test_an_ordinary_user_gets_all_of_it(files: tuple[str, str]) -> None:
    as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if os.getuid() != 0:
        pytest.skip("all tests run as an ordinary user already")
    try:
        subprocess.run([*as_user, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("cannot become an ordinary user here")
    done = subprocess.run([*as_user, *CLI, "sandbox", "check"], capture_output=True, text=True)
    assert "Programs run on the rung full." in done.stdout, done.stdout + done.stderr
    marks = [line.split()[-3] for line in done.stdout.splitlines()[1:-1]]
    assert marks == ["yes"] * 10


def test_packages_may_lie_anywhere(rung: Rung, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("VALUE = 1\n")
    tmp_path.chmod(0o755)
    program = "import mine, os\ndef f(x): return x + mine.VALUE + len(os.listdir('.'))\n"
    with Sandbox(rung, 1, [str(tmp_path)]) as sandbox, Sandbox(rung, 1) as bare:
        assert bare.run(program, TESTS).detail.startswith("ModuleNotFoundError")
        verdict = sandbox.run(program, TESTS)
        assert verdict.solved, verdict.detail


@needs_full
def test_a_virtual_environment_is_out_of_sight() -> None:
    program = f"import os\ndef f(x): return os.path.exists({sys.prefix!r})"
    with Sandbox(Rung.FULL, 1) as sandbox:
        assert sandbox.run(program, [f"assert f(1) is {sys.prefix == sys.base_prefix}"]).solved


def test_a_worker_that_dies_is_replaced(rung: Rung) -> None:
    with Sandbox(rung, 1) as sandbox:
        assert sandbox.run(RIGHT, TESTS).solved
        (worker,) = sandbox._started
        first = worker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        # What the worker holds may outlive it for a moment, and answer once more.
        while worker.pid == first:
            assert sandbox.run(RIGHT, TESTS).solved
        assert sandbox.run(RIGHT, TESTS).solved


def test_two_deaths_are_a_fault_of_ours_not_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from redpencil.sandbox import worker

    monkeypatch.setattr(worker, "_GRACE_SECONDS", -0.4)
    program = "import time\ntime.sleep(1)\n" + RIGHT
    with Sandbox(Rung.RLIMITS, 1) as sandbox:
        verdict = sandbox.run(program, TESTS, Limits(wall=0.5))
        assert verdict.status is Status.INFRA_ERROR
        assert "does not answer, twice" in verdict.detail
        verdicts = sandbox.run_many([Program(program, TESTS)] * 2, Limits(wall=0.5))
        assert {verdict.status for verdict in verdicts} == {Status.INFRA_ERROR}
        monkeypatch.undo()
        assert sandbox.run(RIGHT, TESTS).solved


def test_many_programs_at_once_keep_their_order() -> None:
    programs = [Program(f"def f(x):\n    return x + {n % 3}\n", TESTS) for n in range(60)]
    programs[30] = Program("# " + "long " * 100_000 + "\n" + RIGHT, TESTS)
    programs[40] = Program("while True: pass", TESTS)
    with Sandbox(rung_asked_for(), 2) as sandbox:
        verdicts = sandbox.run_many(programs, Limits(wall=0.5))
    solved = [number for number, verdict in enumerate(verdicts) if verdict.solved]
    assert solved == [n for n in range(60) if (n % 3 == 1 and n != 40) or n == 30]


def test_an_error_in_the_middle_of_many_leaves_the_sandbox_usable() -> None:
    with Sandbox(rung_asked_for(), 1) as sandbox:
        with pytest.raises(Exception, match="not Python"):
            sandbox.run_many([Program(RIGHT, TESTS), Program(RIGHT, ["assert ("])] * 3)
        assert sandbox.run(RIGHT, TESTS).solved


def test_a_fork_of_this_process_makes_workers_of_its_own() -> None:
    program = (
        "import os\n"
        "from redpencil import sandbox\n"
        f"text, tests = {RIGHT!r}, {TESTS!r}\n"
        "assert sandbox.run(text, tests).solved\n"
        "pid = os.fork()\n"
        "for _ in range(20): assert sandbox.run(text, tests).solved\n"
        "if pid == 0: os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


def _zygotes(process: int) -> set[str]:
    """The zygotes among the descendants of a process."""
    listing = subprocess.run(["ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listing.stdout.splitlines()]
    family = {str(process)}
    while born := {row[0] for row in rows if row[1] in family} - family:
        family |= born
    return {row[0] for row in rows if row[0] in family and "inside.zygote" in row[2]}


def _alive(process: str) -> bool:
    listing = subprocess.run(["ps", "-o", "stat=", "-p", process], capture_output=True, text=True)
    state = listing.stdout.strip()
    return state != "" and not state.startswith("Z")


@pytest.mark.parametrize(("ending", "code"), [("sys.exit()", 0), ("os.kill(os.getpid(), 9)", -9)])
def test_nothing_is_left_when_this_process_ends(
    ending: str, code: int, rungs: list[Rung], tmp_path: Path
) -> None:
    program = (
        "import os, sys, threading, time\n"
        "from redpencil.sandbox import Sandbox, Limits, Rung\n"
        f"for rung in {[rung.value for rung in rungs]}:\n"
        "    box = Sandbox(Rung(rung), 1)\n"
        f"    assert box.run({RIGHT!r}, {TESTS!r}).solved\n"
        "    hang = 'while True: pass', ['assert f() == 1'], Limits(wall=60)\n"
        "    threading.Thread(target=box.run, args=hang, daemon=True).start()\n"
        "time.sleep(0.3)\n"
        "print('running', flush=True)\n"
        "sys.stdin.readline()\n" + ending
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        zygotes = _zygotes(process.pid)
        assert len(zygotes) >= len(rungs)
        assert list(tmp_path.glob("redpencil-*"))
        process.communicate(b"\n", timeout=60)
    assert process.returncode == code
    deadline = time.monotonic() + 10
    while any(map(_alive, zygotes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, zygotes))
    assert not list(tmp_path.glob("redpencil-*"))


def test_no_descriptor_thread_or_process_is_left() -> None:
    def counts() -> tuple[int, int, int]:
        descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        return descriptors, threading.active_count(), len(_zygotes(os.getpid()))

    with Sandbox(rung_asked_for(), 2) as sandbox:
        sandbox.run_many([Program(RIGHT, TESTS)] * 20)
        before = counts()
        for program in (RIGHT, "import os; os._exit(0)", "def f(x) return", "while True: pass"):
            sandbox.run_many([Program(program, TESTS)] * 4, Limits(wall=0.2))
        assert counts() == before
    assert counts()[2] <= before[2] - 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_100_000_programs_leave_no_trace() -> None:
    """Memory, descriptors, processes and scratch files, before and after."""
    kinds = [
        RIGHT,
        "open('left', 'w').write('x' * 1000)\n" + RIGHT,
        "def f(x): return [0] * 1000",
        "import os; os._exit(3)",
        "1 / 0",
    ]
    with Sandbox(rung_asked_for(), 2) as sandbox:

        def memory() -> int:
            total = 0
            for pid in _zygotes(os.getpid()):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    total += int(line.split()[1]) if line.startswith("Pss:") else 0
            return total

        programs = [Program(kinds[n % len(kinds)], TESTS) for n in range(5000)]
        sandbox.run_many(programs)
        before, descriptors = memory(), len(os.listdir("/proc/self/fd"))
        for _ in range(19):
            verdicts = sandbox.run_many(programs)
            assert sum(verdict.solved for verdict in verdicts) == 2000
        assert memory() <= before + 1024
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert sandbox.run("import os\n" + RIGHT, ["assert os.listdir() == []"]).solved
