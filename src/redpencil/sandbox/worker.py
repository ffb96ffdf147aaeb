"""A zygote seen from outside: started, asked, and ended with all that lives in it."""

from __future__ import annotations

import contextlib
import marshal
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from redpencil.errors import SandboxError
from redpencil.sandbox.inside.zygote import REPLY, REQUEST, SIZE, TIMED_OUT, TOO_MUCH, empty
from redpencil.sandbox.limits import Limits
from redpencil.sandbox.seccomp import compile_filter

_HERE = Path(__file__).parent
_START = (
    "import sys; sys.path[:0] = [{path!r}]; from inside.zygote import main; del sys.path[0]; "
    "main({descriptor})"
)
_START_SECONDS = 20.0
_GRACE_SECONDS = 5.0
"""How late a zygote may answer before it is taken for dead."""
_FAREWELL_SECONDS = 1.0
_AHEAD_BYTES = 1 << 15
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store")
_TIME_ZONES = "/usr/share/zoneinfo"


class Rung(StrEnum):
    """How well a program is kept in, best first."""

    FULL = "full"
    """Namespaces with a small read-only root, Landlock, seccomp, resource limits."""
    NO_NAMESPACE = "no-namespace"
    """Landlock, seccomp, resource limits."""
    RLIMITS = "rlimits"
    """Resource limits only."""


@dataclass(frozen=True)
class Answer:
    """What came back from a program."""

    data: bytes
    exit_code: int
    """As `subprocess` has it, negative for a signal."""
    timed_out: bool
    too_much: bool
    """There was more data than its limit."""
    seconds: float


class Worker:
    """One zygote, started at the first request. Not for several threads at once."""

    def __init__(self, rung: Rung, core: int | None = None, packages: Sequence[str] = ()) -> None:
        """Nothing is started yet.

        Args:
            core: the only core to run on; None leaves it to the system.
            packages: folders that programs may import from, besides the standard library.
        """
        self.rung = rung
        self._core = core
        self._packages = list(packages)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._folder = ""

    @property
    def pid(self) -> int | None:
        """Of the process started, None where there is none."""
        return None if self._process is None else self._process.pid

    def ask(self, request: bytes, limits: Limits) -> Answer:
        """Have a program run. A zygote that dies is replaced, and asked once more.

        Args:
            request: `inside.child.Request`, marshalled.

        Raises:
            SandboxError: no zygote can be started, or two of them died over this request.
        """
        with contextlib.suppress(_Died):
            self._send(request, limits)
            return self._answer(limits)
        try:
            self._send(request, limits)
            return self._answer(limits)
        except _Died as error:
            raise SandboxError(f"the process that runs programs {error}, twice") from error

    def ask_all(self, requests: Iterable[bytes], limits: Limits) -> Iterator[Answer | SandboxError]:
        """As `ask`, for one request after the other, with a fault for an answer where there is one.

        Each request is sent while the one before it runs, so that the zygote never waits.
        """
        following = iter(requests)
        request, sent = next(following, None), False
        try:
            while request is not None:
                ahead = None
                try:
                    if not sent:
                        self._send(request, limits)
                    sent = True
                    ahead = next(following, None)
                    # A longer one might not fit into the channel while an answer waits in it.
                    sent_ahead = ahead is not None and len(ahead) <= _AHEAD_BYTES
                    if ahead is not None and sent_ahead:
                        self._send(ahead, limits)
                    answer: Answer | SandboxError = self._answer(limits)
                except _Died:
                    sent = sent_ahead = False
                    answer = self._ask_or_fault(request, limits)
                request, sent = ahead, sent_ahead
                yield answer
        finally:
            if sent:
                self.stop()

    def _ask_or_fault(self, request: bytes, limits: Limits) -> Answer | SandboxError:
        try:
            return self.ask(request, limits)
        except SandboxError as error:
            return error

    def start(self) -> None:
        """Start the zygote, anew where there is one.

        Raises:
            SandboxError: it cannot be started, or cannot build this rung's walls.
        """
        self.stop()
        confined = self.rung is not Rung.RLIMITS
        bpf = compile_filter() if confined else b""
        self._folder = tempfile.mkdtemp(prefix="redpencil-")
        config = {
            "namespaces": self.rung is Rung.FULL,
            "confined": confined,
            "bpf": bpf,
            "readable": _readable_folders(self._packages),
            "packages": self._packages,
            "scratch": "/scratch" if self.rung is Rung.FULL else self._folder,
            "stage": self._folder,
            "core": self._core,
        }
        ours, theirs = socket.socketpair()
        self._channel = ours
        try:
            with theirs:
                self._process = _start_interpreter(theirs.fileno())
            ours.settimeout(_START_SECONDS)
            data = marshal.dumps(config)
            ours.sendall(SIZE.pack(len(data)) + data)
            if self._receive(1) != b"\1":
                complaint = self._receive(SIZE.unpack(self._receive(SIZE.size))[0])
                raise SandboxError(complaint.decode(errors="replace"))
            if self.rung is Rung.FULL:  # it has a root of its own by now
                os.rmdir(self._folder)
        except _Died as error:
            self.stop()
            raise SandboxError(f"the process that runs programs {error} at its start") from error
        except OSError as error:
            self.stop()
            raise SandboxError(f"cannot start a process: {error.strerror or error}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Hang up, on which the zygote ends whatever runs, cleans up, and goes."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(_FAREWELL_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder:
            with contextlib.suppress(FileNotFoundError):  # the zygote removes it where it can
                empty(self._folder)
                os.rmdir(self._folder)
            self._folder = ""

    def _send(self, request: bytes, limits: Limits) -> None:
        if self._channel is None:
            self.start()
        with self._dying_noticed(limits) as channel:
            channel.sendall(REQUEST.pack(len(request), limits.wall) + request)

    def _answer(self, limits: Limits) -> Answer:
        with self._dying_noticed(limits):
            length, status, end, seconds = REPLY.unpack(self._receive(REPLY.size))
            data = self._receive(length)
        return Answer(
            data=data,
            exit_code=os.waitstatus_to_exitcode(status),
            timed_out=bool(end & TIMED_OUT),
            too_much=bool(end & TOO_MUCH),
            seconds=seconds,
        )

    @contextlib.contextmanager
    def _dying_noticed(self, limits: Limits) -> Iterator[socket.socket]:
        """Stop the zygote where it cannot be spoken to, and wherever speaking was broken off.

        A Ctrl-C in between would leave an answer on the channel for whoever asks next.
        """
        assert self._channel is not None
        self._channel.settimeout(limits.wall + _GRACE_SECONDS)
        try:
            yield self._channel
        except OSError as error:
            self.stop()
            raise _Died("died") from error
        except BaseException:
            self.stop()
            raise

    def _receive(self, size: int) -> bytes:
        assert self._channel is not None
        data = bytearray()
        while len(data) < size:
            try:
                part = self._channel.recv(min(size - len(data), 1 << 20))
            except TimeoutError as error:
                raise _Died("does not answer") from error
            if not part:
                raise _Died("died")
            data += part
        return bytes(data)


class _Died(Exception):
    """The zygote is gone, or as good as gone."""


def _start_interpreter(descriptor: int) -> subprocess.Popen[bytes]:
    """A bare interpreter: no site-packages, no environment, the same hash of strings in every run.

    `-I` would ignore the seed of the hash, on which the order of sets depends, so its parts are
    named. The zygote then clears the environment.
    """
    start = _START.format(path=str(_HERE), descriptor=descriptor)
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-S", "-c", start],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Bound now, the symbols of shared libraries are not looked up again in every child.
        env={"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"},
        cwd="/",
        pass_fds=(descriptor,),
        start_new_session=True,
    )


def _readable_folders(packages: Sequence[str]) -> list[str]:
    """What an interpreter needs: its library, the shared libraries, time zones, packages."""
    # Of the interpreter itself: a virtual environment's own paths hold its packages.
    python = [os.path.join(prefix, "lib") for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    python.append(sysconfig.get_path("stdlib"))
    wanted = [
        path for path in (*_LIBRARIES, _TIME_ZONES, *python, *packages) if os.path.isdir(path)
    ]
    return [
        path
        for path in dict.fromkeys(wanted)
        if not any(path.startswith(other + "/") for other in wanted)
    ]
