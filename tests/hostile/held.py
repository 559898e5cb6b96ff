"""Processes held to a share of a core: by the kernel where it lets us, by naps of their own where it does not."""

import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

PERIOD_US = 20_000  # short, so that a share is a share at any time
# cgroup v2 has a file for quota and period together, v1 one for each
GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/cpu"))


class Quota:
    """A control group of our own with a quota of CPU time. means: which it was, for people."""

    def __init__(self, cores: float) -> None:
        self.means = ""
        self._folder: Path | None = None
        for root in GROUPS:
            folder = root / f"p2pinfer-{os.getpid()}-{time.monotonic_ns()}"
            with suppress(OSError):
                folder.mkdir()
                if self._bound(folder, cores):
                    self._folder = folder
                    return
                folder.rmdir()

    def _bound(self, folder: Path, cores: float) -> bool:
        quota = max(1000, int(cores * PERIOD_US))
        if (folder / "cpu.max").exists():
            (folder / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            self.means = "cgroup v2 cpu.max"
            return True
        if (folder / "cpu.cfs_quota_us").exists():
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota))
            self.means = "cgroup v1 cpu.cfs_quota_us"
            return True
        return False

    def __bool__(self) -> bool:
        return self._folder is not None

    def add(self, pid: int) -> bool:
        """Hold a process, with all of its threads and what it starts from now on."""
        if self._folder is None:
            return False
        (self._folder / "cgroup.procs").write_text(str(pid))
        return True

    def close(self) -> None:
        """Let everybody go."""
        if self._folder is None:
            return
        for pid in (self._folder / "cgroup.procs").read_text().split():  # those that have ended are not there
            with suppress(OSError):
                (self._folder.parent / "cgroup.procs").write_text(pid)
        with suppress(OSError):
            self._folder.rmdir()


class Hold:
    """Of this process: a quota, or naps between what it does. cores: 0 holds nothing."""

    def __init__(self, cores: float, quota: Quota | None) -> None:
        self._cores = cores
        self._naps = bool(cores) and not quota
        self._began_s = time.monotonic()
        self._before_s = _cpu_s()
        self.means = quota.means if quota else "naps of its own" if cores else "nothing"

    @classmethod
    @contextmanager
    def of(cls, cores: float) -> "Iterator[Hold]":
        quota = Quota(cores) if cores else None
        try:
            if quota:
                quota.add(os.getpid())
            yield cls(cores, quota)
        finally:
            if quota:
                quota.close()

    def cpu_s(self) -> float:
        return _cpu_s() - self._before_s

    async def breathe(self) -> None:
        """Let others run; sleep as long as more CPU time was taken than is ours."""
        await trio.lowlevel.checkpoint()
        if self._naps:
            ahead_s = self.cpu_s() / self._cores - (time.monotonic() - self._began_s)
            if ahead_s > 0:
                await trio.sleep(ahead_s)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def holding(pids: Sequence[int], cores: int) -> Iterator[str]:
    """Hold other processes to so many cores together, while the block lasts; yields how, in words."""
    quota = Quota(cores)
    try:
        yield ", ".join(sorted({quota.means if quota.add(pid) else pin(pid, cores) for pid in pids}))
    finally:
        quota.close()


def pin(pid: int, cores: int) -> str:
    """Hold a process, all of its threads and its children to whole cores, where no quota can be had; how, in words."""
    if sys.platform != "linux":
        return "nothing"
    os.sched_setaffinity(pid, sorted(os.sched_getaffinity(0))[:cores])
    return f"affinity to {cores} core"
