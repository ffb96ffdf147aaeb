"""The zygote: a warm interpreter behind walls that forks once for every program.

Started by `worker.py`, with a socket to it as the only descriptor. It first reads its
configuration and says that it is ready, or which wall could not be built; then, for each request,
it forks a child that runs the program, collects the answer, sees to it that nothing of the run is
left, and answers. It never looks into an answer itself.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import math
import os
import resource
import select
import signal
import struct
import sys
import time
from _socket import socket  # the module `socket` would bring six more into every fork

TYPE_CHECKING = False  # importing it from `typing` would happen at every start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

from . import child, linux  # noqa: E402

SIZE = struct.Struct("<I")
"""Length of the configuration, and of a complaint."""
REQUEST = struct.Struct("<Id")
"""Length of a request, which is a marshalled `child.Request`, and seconds that it may take."""
REPLY = struct.Struct("<IiBd")
"""Length of the answer, wait status, what ended it, seconds it took."""
TIMED_OUT, TOO_MUCH = 1, 2
ANSWER_BYTES = 1 << 20
"""What a program may answer: all values together, not what it prints."""

# What programs import most. Every further module makes every fork dearer; `random` most of all,
# since it seeds itself anew in each child.
_WARM = "bisect collections copy functools heapq itertools math operator re string typing"
_PATIENCE_MS = 5.0
_REHEARSALS = 20
_FILE_BYTES = 1 << 20
_OPEN_FILES = 64
_PROCESSES = 64
_SWEEP_SECONDS = 2.0


def main(descriptor: int) -> None:
    """Build the walls, then serve until the other side hangs up."""
    channel = socket(fileno=descriptor)
    (length,) = SIZE.unpack(_receive(channel, SIZE.size))
    config = marshal.loads(_receive(channel, length))
    try:
        walls = _build(config)
    except (OSError, AttributeError) as error:  # AttributeError: a system call that is not there
        text = str(error.args[-1]).encode()
        channel.sendall(b"\0" + SIZE.pack(len(text)) + text)
        return
    _warm_up()
    sys.path += config["packages"]
    os.environ.clear()
    sys.argv[:] = ["program"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reply = memoryview(bytearray(REPLY.size + ANSWER_BYTES))
    gc.collect()
    gc.disable()
    gc.freeze()  # children share these pages as long as no collection writes to them
    channel.sendall(b"\1")
    try:
        while True:
            _serve(channel, walls, reply)
            walls.clean()
    except (EOFError, ConnectionError):
        walls.clean()
        with contextlib.suppress(OSError):  # a scratch that is a mount goes with its namespace
            os.rmdir(config["scratch"])


def _serve(channel: socket, walls: _Walls, reply: memoryview) -> None:
    """Take a request, have it run, reply.

    The next child inherits this process's memory, so that nothing of either may stay in it, not
    even where it has been freed: both live in one piece of memory each, which is wiped.
    """
    length, wall = REQUEST.unpack(_receive(channel, REQUEST.size))
    request, size = _receive(channel, length), 0
    try:
        size, status, end, seconds = _run(request, wall, walls, channel, reply[REPLY.size :])
        REPLY.pack_into(reply, 0, size, status, end, seconds)
        channel.sendall(reply[: REPLY.size + size])
    finally:
        request[:] = bytes(length)
        reply[: REPLY.size + size] = bytes(REPLY.size + size)


def _warm_up() -> None:
    """Do here, once, what every child would otherwise do first.

    That is: imports, the start of the compiler, the interpreter's adapting of code that runs often.
    """
    for name in _WARM.split():
        __import__(name)
    sample = "def f(x):\n    return x\n"
    call = compile("f([1, 'a'])", "<test>", "eval")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for _ in range(_REHEARSALS):
        child.answer(sample, "", [(None, (call,), None)], "", nowhere)
    os.close(nowhere)


def _receive(channel: socket, size: int) -> bytearray:
    """Exactly so many bytes, in no other piece of memory than the one returned.

    Raises:
        EOFError: the other side has hung up.
    """
    data = bytearray(size)
    with memoryview(data) as view:
        received = 0
        while received < size:
            count = channel.recv_into(view[received:])
            if not count:
                raise EOFError
            received += count
    return data


class _Walls:
    """What is between programs and the world: how to put it on, and how to clean up behind it."""

    def __init__(self, put_on: Callable[[], None], sweep: Callable[[int], None], scratch: str):
        self.put_on = put_on
        self.sweep = sweep
        self._scratch = scratch

    def clean(self) -> None:
        """Leave nothing in the scratch."""
        empty(self._scratch)


def empty(folder: str) -> None:
    """Remove all that is in a folder, whatever its permissions and however deep.

    Folders within folders are moved up before they are emptied, so that no path grows long.
    """
    while entries := list(os.scandir(folder)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in list(os.scandir(entry.path)):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)
                    os.rename(inner.path, f"{folder}/{os.urandom(16).hex()}")
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)


def _build(config: dict[str, Any]) -> _Walls:
    readable, scratch = config["readable"], config["scratch"]
    namespaces, confined = config["namespaces"], config["confined"]
    if config["core"] is not None:
        os.sched_setaffinity(0, {config["core"]})
    if namespaces:
        root = os.getuid() == 0
        linux.enter_namespaces()
        zygote = os.fork()
        if zygote:  # stays outside the pid namespace, in whose first process this goes on
            os.closerange(3, 64)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(zygote, 0)[1]) & 0xFF)
        linux.make_root(config["stage"], readable, scratch)
        if root:
            linux.become_nobody()
        linux.die_with_parent(signal.SIGKILL)
    os.chdir(scratch)
    child.limit(resource.RLIMIT_FSIZE, _FILE_BYTES)
    child.limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    child.limit(resource.RLIMIT_CORE, 0)
    if not confined:
        if sys.platform == "linux":
            linux.adopt_orphans()
        return _Walls(_limit_processes, _sweep_descendants, scratch)
    if namespaces:
        child.limit(resource.RLIMIT_NPROC, _PROCESSES)  # in here they are counted apart
    linux.give_up_privileges()
    ruleset = linux.landlock_ruleset(readable, scratch)
    calls = linux.SystemCallFilter(config["bpf"])

    def put_on() -> None:
        linux.die_with_parent(signal.SIGKILL)
        linux.restrict(ruleset)
        os.close(ruleset)
        calls.put_on()

    _try_out(put_on)
    return _Walls(put_on, _sweep_namespace if namespaces else _nothing_to_sweep, scratch)


def _limit_processes() -> None:
    """A session of its own, so that it can be killed as one, and few processes in it.

    The user's other processes count as well; root has no such limit.
    """
    os.setsid()
    if sys.platform == "linux":
        linux.die_with_parent(signal.SIGKILL)
    child.limit(resource.RLIMIT_NPROC, _PROCESSES)


def _try_out(put_on: Callable[[], None]) -> None:
    """Put the walls on in a child first: better to fail now than at the first program."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            put_on()
        except OSError as error:
            os.write(write, str(error.args[-1]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        complaint = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    if complaint or status:
        raise OSError(complaint or "seccomp: the filter ends whoever puts it on")


def _run(
    request: bytearray, wall: float, walls: _Walls, channel: socket, answer: memoryview
) -> tuple[int, int, int, float]:
    """One program in a child of its own: bytes answered, wait status, what ended it, seconds."""
    read, write = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            channel.close()
            child.main(request, write, walls.put_on)
        finally:
            os._exit(1)
    os.close(write)
    try:
        size, end = _listen(pid, read, channel, started + wall, answer)
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)  # which does nothing to one that has ended
        status = os.waitpid(pid, 0)[1]
        walls.sweep(pid)
    return size, status, end, time.monotonic() - started


def _listen(
    pid: int, read: int, channel: socket, deadline: float, answer: memoryview
) -> tuple[int, int]:
    """Collect the answer until the child ends, time is up, or there is too much of it.

    The end of the pipe is not waited for, since a survivor could hold it open, nor does it end the
    waiting, since a program can close it.

    Returns:
        Bytes answered, and what ended it.

    Raises:
        EOFError: the other side has hung up.
    """
    os.set_blocking(read, False)
    poll = select.poll()
    poll.register(channel, 0)  # for its hanging up alone
    process = _open_process(pid)
    if process is not None:
        poll.register(process, select.POLLIN)
    size, patience, listening, closed = 0, _PATIENCE_MS, False, False
    try:
        while True:
            left = (deadline - time.monotonic()) * 1000
            if left <= 0:
                return size, TIMED_OUT
            events = dict(poll.poll(min(left + 0.5, patience)))
            if channel.fileno() in events:
                raise EOFError
            ended = process in events if process is not None else _ended(pid)
            while not closed and time.monotonic() < deadline:
                if size == len(answer):
                    return size, TOO_MUCH
                try:
                    count = os.readv(read, [answer[size:]])
                except BlockingIOError:
                    break
                size += count
                closed = not count
            if ended:
                return size, 0
            if process is not None:
                # Not sooner: most programs have ended by now, and waking for each line costs more.
                patience = math.inf
                if closed and listening:
                    poll.unregister(read)
                elif not closed and not listening:
                    poll.register(read, select.POLLIN)
                listening = not closed
    finally:
        if process is not None:
            os.close(process)


def _open_process(pid: int) -> int | None:
    """A descriptor that can be waited on for the end of a process; None where there is none."""
    opener = getattr(os, "pidfd_open", None)
    return None if opener is None else opener(pid)


def _ended(pid: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _nothing_to_sweep(pid: int) -> None:
    """The filter lets nobody start a process."""


def _sweep_namespace(pid: int) -> None:
    """Everything else in this pid namespace, should there be anything, dies."""
    if linux.kill_everyone():
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)


def _sweep_descendants(pid: int) -> None:
    """The child's group at once, then whoever left it and was adopted here.

    Raises:
        TimeoutError: they multiply faster than they die; this zygote is not to be used again.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if sys.platform != "linux":
        return
    deadline = time.monotonic() + _SWEEP_SECONDS
    path = f"/proc/self/task/{os.getpid()}/children"
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        with open(path) as file:
            orphans = file.read().split()
        if not orphans:
            return
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(orphan), signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError("processes left behind multiply faster than they can be ended")
