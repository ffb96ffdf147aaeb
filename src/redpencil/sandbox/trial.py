"""What each rung holds on this machine, found out by trying."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redpencil.errors import SandboxError
from redpencil.sandbox.limits import Limits
from redpencil.sandbox.pool import Sandbox
from redpencil.sandbox.worker import Rung
from redpencil.types import Status

_ATTEMPT = """
import os, socket
def attempt():
    {body}
def f():
    try:
        attempt()
    except OSError:
        return "refused"
    return "done"
"""
_REFUSED = {
    "your files cannot be read": "open({path!r}).read()",
    "nothing outside its scratch can be written to": "os.close(os.open({path!r}, os.O_WRONLY))",
    "no other process can be signalled": "os.kill(os.getppid(), 0)",
    "no process can be started": "os.fork() or os._exit(0)",
    "no socket can be opened": "socket.socket()",
    "files elsewhere cannot be seen to exist": "os.stat({path!r})",
}
_ENDED = {
    "a program that hangs is ended in time": ("while True: pass", Status.TIMED_OUT),
    "memory is limited": ("x = bytearray(10 ** 10)", Status.OUT_OF_MEMORY),
    "leaving early passes no test": ("import os; os._exit(0)", Status.CRASHED),
    "an object equal to everything passes no test": (
        "class E:\n    def __eq__(self, other): return True\nf = E",
        Status.FAILED,
    ),
}


@dataclass(frozen=True)
class Trial:
    """What one rung was found to do."""

    rung: Rung
    complaint: str = ""
    """Why the rung is not to be had here, else empty."""
    held: dict[str, bool] = field(default_factory=dict)
    """Of each property, whether it held."""


def try_out() -> Iterator[Trial]:
    """Try every rung, best first."""
    for rung in Rung:
        with Sandbox(rung, 1) as sandbox, tempfile.NamedTemporaryFile() as secret:
            Path(secret.name).chmod(0o666)
            try:
                held = {name: _ends(sandbox, *case) for name, case in _ENDED.items()}
                for name, attempt in _REFUSED.items():
                    program = _ATTEMPT.format(body=attempt.format(path=secret.name))
                    held[name] = sandbox.run(program, ["assert f() == 'refused'"]).solved
            except SandboxError as error:
                yield Trial(rung, str(error))
            else:
                yield Trial(rung, "", held)


def _ends(sandbox: Sandbox, program: str, status: Status) -> bool:
    return sandbox.run(program, ["assert f() == 1"], Limits(wall=0.5)).status is status
