"""One process for one program: started, limited, listened to, and killed with all it started.

Rung `rlimits`: resource limits, an empty environment, a scratch folder, a session of its own that
is killed as a whole. It keeps accidents in; it does not keep a determined attacker out. A program
can read what its user can read, open sockets, and leave a process behind by starting a session of
its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from redpencil.errors import SandboxError

RUNG = "rlimits"
_CHILD = str(Path(__file__).with_name("child.py"))
_CHUNK = 1 << 16
_POLL_SECONDS = 0.01


class Limits(msgspec.Struct, frozen=True):
    """What a program may use."""

    wall: float = 2.0
    """Seconds from start to last answer."""
    memory: int = 512 << 20
    """Bytes of address space."""
    answer: int = 4 << 20
    """Bytes of all values returned; what is printed does not count, it goes nowhere."""
    file_size: int = 1 << 20
    """Bytes of any file written."""
    open_files: int = 64
    processes: int = 64
    """Processes of the user; without effect for root."""


@dataclass(frozen=True)
class Answer:
    """What came back from the process."""

    data: bytes
    exit_code: int | None
    """As `subprocess` has it, negative for a signal; None where it was killed for a limit."""
    timed_out: bool
    too_much: bool
    seconds: float


def execute(request: dict[str, Any], limits: Limits) -> Answer:
    """Run `child.py` on a request.

    Raises:
        SandboxError: the process could not be started.
    """
    request = {**request, "limits": _resource_limits(limits)}
    started = time.monotonic()
    scratch = tempfile.mkdtemp(prefix="redpencil-")
    request_read, request_write = os.pipe()
    answer_read, answer_write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _CHILD, str(request_read), str(answer_write)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd=scratch,
            pass_fds=(request_read, answer_write),
            start_new_session=True,
        )
    except OSError as error:
        for descriptor in (request_read, request_write, answer_read, answer_write):
            os.close(descriptor)
        shutil.rmtree(scratch, ignore_errors=True)
        raise SandboxError(f"cannot start a process: {error.strerror or error}") from error
    os.close(request_read)
    os.close(answer_write)
    try:
        _send(request_write, request)
        return _listen(process, answer_read, limits, started)
    finally:
        _kill(process)
        os.close(answer_read)
        shutil.rmtree(scratch, ignore_errors=True)


def _resource_limits(limits: Limits) -> list[tuple[int, int]]:
    return [
        (resource.RLIMIT_CPU, math.ceil(limits.wall) + 1),
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_CORE, 0),
    ]


def _send(descriptor: int, request: dict[str, Any]) -> None:
    import marshal

    try:
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(marshal.dumps(request))
    except BrokenPipeError as error:
        raise SandboxError("the sandboxed process died before it took its request") from error


def _listen(
    process: subprocess.Popen[bytes], answer_read: int, limits: Limits, started: float
) -> Answer:
    """Collect the answer until the process ends, time is up, or there is too much of it.

    The end of the pipe is not waited for: a process left behind could hold it open.
    """
    chunks: list[bytes] = []
    size = 0
    ended = timed_out = False
    os.set_blocking(answer_read, False)
    with selectors.DefaultSelector() as selector, _ProcessEnd(process) as end:
        selector.register(answer_read, selectors.EVENT_READ)
        end.register(selector)
        while size <= limits.answer:
            left = started + limits.wall - time.monotonic()
            if left <= 0 and not ended:
                timed_out = True
                break
            events = selector.select(0 if ended else min(left, end.patience))
            chunk = _read(answer_read)
            if chunk:
                chunks.append(chunk)
                size += len(chunk)
            elif ended:
                break
            elif chunk == b"" and answer_read in selector.get_map():
                selector.unregister(answer_read)
            ended = ended or end.seen(events)
    too_much = size > limits.answer
    return Answer(
        data=b"".join(chunks),
        exit_code=process.wait() if ended else None,
        timed_out=timed_out,
        too_much=too_much,
        seconds=time.monotonic() - started,
    )


class _ProcessEnd:
    """Tells when a process has ended: through a pidfd on Linux, by asking elsewhere."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        opener = getattr(os, "pidfd_open", None)
        self._descriptor: int | None = opener(process.pid) if opener else None
        self.patience = math.inf if self._descriptor is not None else _POLL_SECONDS

    def __enter__(self) -> _ProcessEnd:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def register(self, selector: selectors.BaseSelector) -> None:
        if self._descriptor is not None:
            selector.register(self._descriptor, selectors.EVENT_READ)

    def seen(self, events: list[tuple[selectors.SelectorKey, int]]) -> bool:
        if self._descriptor is None:
            return self._process.poll() is not None
        return any(key.fd == self._descriptor for key, _ in events)


def _read(descriptor: int) -> bytes | None:
    """What is there to read: empty at the pipe's end, None while there is nothing."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and its whole group; it is reaped last, so the group's id stays its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
