"""How much memory there is to be had, which in a container is less than the machine has."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
_LAYOUTS = {
    "": ("memory.max", "memory.current"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Folders of the two versions of control groups, with their files of the limit and the use."""


def available(cgroups: Path = CGROUPS) -> int:
    """Bytes that can still be taken: what the machine has available, and no more than a limit of
    this container, such as Docker's `--memory`, leaves.

    Args:
        cgroups: where the control groups are mounted.
    """
    free = int(psutil.virtual_memory().available)
    for folder, (limit, used) in _LAYOUTS.items():
        try:
            most = int((cgroups / folder / limit).read_text())
            taken = int((cgroups / folder / used).read_text())
            lines = (cgroups / folder / "memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # no such version here, or a limit of `max`
            continue
        counts = {name: int(count) for name, count in map(str.split, lines)}
        reclaimable = counts.get("total_inactive_file", counts.get("inactive_file", 0))
        free = min(free, max(0, most - taken + reclaimable))
    return free
