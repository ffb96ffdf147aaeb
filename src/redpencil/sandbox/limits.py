"""What a program may use."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What a program may use, on top of what `inside.zygote` fixes for all of them."""

    wall: float = 2.0
    """Seconds from start to last answer; of computing it may use one more."""
    memory: int = 512 << 20
    """Bytes of address space."""
