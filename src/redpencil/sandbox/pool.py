"""The sandbox as its users see it: programs in, verdicts out, from any thread."""

from __future__ import annotations

import atexit
import contextlib
import marshal
import os
import queue
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from redpencil.errors import SandboxError, UsageError
from redpencil.provenance import usable_cores
from redpencil.sandbox.limits import Limits
from redpencil.sandbox.split import SplitTest, redefined, split, whole
from redpencil.sandbox.verdict import conclude
from redpencil.sandbox.worker import Answer, Rung, Worker
from redpencil.types import Status, Verdict

RUNG_VARIABLE = "REDPENCIL_SANDBOX"


@dataclass(frozen=True)
class Program:
    """An untrusted program and the tests that it has to pass."""

    text: str
    tests: Sequence[str]
    """Statements such as `assert f(1) == 2`, each on its own."""
    setup: str = ""
    """Code run after the program and before the tests."""
    hidden_tests: Sequence[str] = ()
    """Further tests, of which the verdict's feedback says nothing. One that cannot be split would
    have to enter the program's process, where the program could read it: it never does, and so it
    never passes."""
    whole: bool = False
    """Judge every visible test inside: for tests of objects that are no plain data, by people who
    have no wish to be deceived."""
    imported_as: str = ""
    """Where it is given, setup and tests run in a namespace of their own, which begins as a copy of
    the program's, and may import the program by this name."""


@dataclass(frozen=True)
class _Prepared:
    """A program ready to be sent, and what it takes to judge its answer."""

    request: bytes
    visible: Sequence[SplitTest]
    hidden: Sequence[SplitTest]
    """Those that can be split."""
    hidden_total: int
    token: str

    def verdict(self, answer: Answer | SandboxError, limits: Limits, rung: Rung) -> Verdict:
        if isinstance(answer, Answer):
            return conclude(
                answer, self.visible, self.hidden, self.hidden_total, self.token, limits, rung
            )
        return Verdict(
            status=Status.INFRA_ERROR,
            passed=0,
            total=len(self.visible),
            detail=str(answer),
            seconds=0.0,
            rung=rung.value,
            hidden_total=self.hidden_total,
        )


def _prepare(program: Program, limits: Limits) -> _Prepared:
    if not program.tests and not program.hidden_tests:
        raise UsageError("there are no tests to run the program against")
    # Lone surrogates cannot be written to the process: it would not be a source file either.
    text = program.text.removeprefix("\ufeff").encode("utf-8", "replace").decode()
    names = redefined(text)
    visible = [whole(test) if program.whole else split(test, names) for test in program.tests]
    hidden = [part for test in program.hidden_tests if not (part := split(test, names)).inside]
    token = secrets.token_hex(16)
    tests = [
        (test.prelude, test.expressions, token if test.inside else None)
        for test in (*visible, *hidden)
    ]
    texts = (text, program.setup, *program.tests, *program.hidden_tests)
    seeded = any("random" in each for each in texts)
    request = marshal.dumps(
        (text, program.setup, tests, program.imported_as, seeded, limits.wall, limits.memory)
    )
    return _Prepared(request, visible, hidden, len(program.hidden_tests), token)


class Sandbox:
    """A pool of workers on one rung. Its methods may be called from several threads at once."""

    def __init__(
        self,
        rung: Rung | None = None,
        workers: int | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        """Nothing is started yet.

        Args:
            rung: None takes the best that this machine has, but never `rlimits`, which has to be
                asked for.
            workers: programs that run at the same time; None makes it one per core.
            packages: folders that programs may import from, besides the standard library.
        """
        self._rung = rung
        self._packages = packages
        self._workers = workers or usable_cores()
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._climbing = threading.Lock()
        self._started: list[Worker] = []

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def rung(self) -> Rung:
        """The rung that programs run on.

        Raises:
            SandboxError: this machine has none but `rlimits`, which was not asked for.
        """
        with self._climbing:
            if not self._started:
                cores = _cores(self._workers)
                first = _climb(self._rung, cores[0], self._packages)
                others = (Worker(first.rung, core, self._packages) for core in cores[1:])
                self._started = [first, *others]
                for worker in reversed(self._started):
                    self._idle.put(worker)
            return self._started[0].rung

    def run(
        self,
        program: str,
        tests: Sequence[str],
        limits: Limits | None = None,
        *,
        setup: str = "",
        hidden_tests: Sequence[str] = (),
        whole: bool = False,
        imported_as: str = "",
    ) -> Verdict:
        """Run a program, then its setup, then its tests, and judge; the arguments are `Program`'s.

        Returns:
            The verdict; a fault of the machinery is one too, with status `infra_error`.

        Raises:
            UsageError: there are no tests.
            DataError: a test is not Python.
            SandboxError: this machine has no rung but `rlimits`, which was not asked for.
        """
        limits, rung = limits or Limits(), self.rung
        asked = Program(program, tests, setup, hidden_tests, whole, imported_as)
        prepared = _prepare(asked, limits)
        with self._worker() as worker:
            try:
                answer: Answer | SandboxError = worker.ask(prepared.request, limits)
            except SandboxError as error:
                answer = error
        return prepared.verdict(answer, limits, rung)

    def run_many(self, programs: Sequence[Program], limits: Limits | None = None) -> list[Verdict]:
        """As `run`, for many programs, on all workers at once; verdicts in the programs' order."""
        limits, rung = limits or Limits(), self.rung
        verdicts: dict[int, Verdict] = {}
        numbers = iter(range(len(programs)))

        def work(_: int) -> None:
            asked: deque[tuple[int, _Prepared]] = deque()

            def requests() -> Iterator[bytes]:
                for number in numbers:
                    asked.append((number, _prepare(programs[number], limits)))
                    yield asked[-1][1].request

            with self._worker() as worker:
                for answer in worker.ask_all(requests(), limits):
                    number, prepared = asked.popleft()
                    verdicts[number] = prepared.verdict(answer, limits, rung)

        with ThreadPoolExecutor(self._workers) as threads:
            for _ in threads.map(work, range(self._workers)):
                pass
        return [verdicts[number] for number in range(len(programs))]

    def close(self) -> None:
        """End the workers. A later run starts them again."""
        for worker in self._started:
            worker.stop()

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)


def _cores(workers: int) -> list[int | None]:
    """A core for each worker, since a fork that stays on its core is cheaper by a tenth.

    Other processes begin with other cores. More workers than cores run anywhere.
    """
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if workers > len(usable):
        return [None] * workers
    return [usable[(os.getpid() + index) % len(usable)] for index in range(workers)]


def _climb(rung: Rung | None, core: int | None, packages: Sequence[str]) -> Worker:
    """A worker, started, on the rung asked for or on the best there is."""
    if rung is not None:
        worker = Worker(rung, core, packages)
        worker.start()
        return worker
    complaints = []
    for candidate in (Rung.FULL, Rung.NO_NAMESPACE):
        worker = Worker(candidate, core, packages)
        try:
            worker.start()
        except SandboxError as error:
            complaints.append(f"{candidate.value} ({error})")
        else:
            return worker
    raise SandboxError(
        f"programs cannot be kept in on this machine: {'; '.join(complaints)}. To run them with "
        f"resource limits only, which keeps accidents in but no attacker, set "
        f"{RUNG_VARIABLE}={Rung.RLIMITS.value}"
    )


_default: Sandbox | None = None
_default_lock = threading.Lock()


def default() -> Sandbox:
    """The sandbox of this process, on the rung that $REDPENCIL_SANDBOX names, else the best.

    Raises:
        UsageError: the variable names no rung.
    """
    global _default
    with _default_lock:
        if _default is None:
            _default = Sandbox(rung_asked_for())
            atexit.register(_default.close)
        return _default


def run(program: str, tests: Sequence[str], *arguments: Any, **named: Any) -> Verdict:
    """`Sandbox.run` of the process's own sandbox, which takes the same arguments."""
    return default().run(program, tests, *arguments, **named)


def rung_asked_for() -> Rung | None:
    """The rung that $REDPENCIL_SANDBOX names, None where it names none.

    Raises:
        UsageError: the variable names no rung.
    """
    name = os.environ.get(RUNG_VARIABLE, "")
    try:
        return Rung(name) if name else None
    except ValueError:
        raise UsageError(
            f"{RUNG_VARIABLE}={name}: the rungs are {', '.join(rung.value for rung in Rung)}"
        ) from None


def _forget() -> None:
    """In a forked child: the workers are the parent's, and two cannot speak over one channel."""
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
