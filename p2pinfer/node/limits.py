"""Cores and memory that are ours: of the machine's, those that affinity and control groups leave to this process."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

GROUPS: Final = Path("/sys/fs/cgroup")  # as all Linux distributions mount them
OWN: Final = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """At least one. Threads beyond them only take time from each other."""
    limits = [psutil.cpu_count(logical=False) or 1]
    if hasattr(os, "sched_getaffinity"):  # Linux
        limits.append(len(os.sched_getaffinity(0)))
    return max(1, int(min([*limits, *quotas()])))


def usable_memory() -> int:
    """Bytes. A process that takes more than its group may have is killed."""
    return min([psutil.virtual_memory().total, *memory_limits()])


def quotas(groups: Path = GROUPS, own: Path = OWN) -> Iterator[float]:
    """Cores' worth of time that our control group and those above it may take; none where nothing limits it."""
    for folder in _folders("cpu", groups, own):
        limit = _numbers(folder, "cpu.max") or _numbers(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us")
        if len(limit) == 2 and min(limit) > 0:
            yield limit[0] / limit[1]


def memory_limits(groups: Path = GROUPS, own: Path = OWN) -> Iterator[int]:
    """Bytes that our control group and those above it may have."""
    for folder in _folders("memory", groups, own):
        yield from _numbers(folder, "memory.max") or _numbers(folder, "memory.limit_in_bytes")


def _folders(controller: str, groups: Path, own: Path) -> Iterator[Path]:
    """The folders of our group and of those above it, of version 2 and of version 1."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = groups / controllers if controllers else groups
        place = root / name.lstrip("/")
        yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(root))


def _numbers(folder: Path, *names: str) -> list[int]:
    """The numbers in files of a group; none where one is missing, or says that there is no limit."""
    try:
        return [int(word) for name in names for word in (folder / name).read_text().split()]
    except (OSError, ValueError):
        return []
