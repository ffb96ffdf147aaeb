"""What a program may use."""

from __future__ import annotations

import math
import resource

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What a program may use."""

    wall: float = 2.0
    """Seconds from start to last answer."""
    memory: int = 512 << 20
    """Bytes of address space."""
    answer: int = 1 << 20
    """Bytes of all values returned; what is printed does not count, it goes nowhere."""
    file_size: int = 1 << 20
    """Bytes of any file written."""
    open_files: int = 64
    processes: int = 64
    """Threads, and on the rung `rlimits` processes of the user; without effect for root there."""

    def resources(self) -> list[tuple[int, int]]:
        """The limits that the system keeps, as arguments of `resource.setrlimit`."""
        return [
            (resource.RLIMIT_CPU, math.ceil(self.wall) + 1),
            (resource.RLIMIT_AS, self.memory),
            (resource.RLIMIT_FSIZE, self.file_size),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_CORE, 0),
        ]
