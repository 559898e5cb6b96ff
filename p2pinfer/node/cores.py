"""How many cores are ours: of the machine's, what affinity and the control group leave to this process."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

GROUPS: Final = Path("/sys/fs/cgroup")  # version 2, as all Linux distributions mount it
OWN: Final = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """At least one. Threads beyond them only take time from each other."""
    limits = [psutil.cpu_count(logical=False) or 1]
    if hasattr(os, "sched_getaffinity"):  # Linux
        limits.append(len(os.sched_getaffinity(0)))
    return max(1, int(min([*limits, *quotas()])))


def quotas(groups: Path = GROUPS, own: Path = OWN) -> Iterator[float]:
    """Cores' worth of time that our control group and those above it may take; none where nothing limits it."""
    try:
        name = own.read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return
    for folder in ((groups / name), *(groups / name).parents):
        if not folder.is_relative_to(groups):
            return
        try:
            time_us, period_us = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if time_us != "max":
            yield int(time_us) / int(period_us)
