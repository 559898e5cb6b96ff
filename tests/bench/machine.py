"""The machine and the processes under measurement, as /proc tells."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, all threads together."""

    cpu_s: float
    resident: int  # bytes


def usage_of(pid: int) -> Usage:
    """CPU time since the process began, and memory it holds now."""
    process = psutil.Process(pid)
    times = process.cpu_times()  # threads that have ended included
    return Usage(times.user + times.system, process.memory_info().rss)


def cpu_s_of(pid: int) -> float:
    """CPU seconds of a process, ended threads included, to the nanosecond: ticks are too long for one that idles."""
    return time.clock_gettime((~pid << 3) | 2)  # its clock, as clock_getcpuclockid(3) makes it on Linux


def child_with(data: Path) -> int:
    """The process of ours that holds a data folder."""
    for child in psutil.Process().children():
        if str(data) in child.cmdline():
            return child.pid
    raise RuntimeError(f"no node runs with {data}")


def parts_with(pid: int, module: str) -> list[psutil.Process]:
    """The processes of a node that run a module."""
    return [part for part in psutil.Process(pid).children() if module in part.cmdline()]


def mapped(pid: int, word: str) -> list[str]:
    """Files with `word` in their names that the process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sorted({parts[5] for line in lines if len(parts := line.split(None, 5)) == 6 and word in parts[5]})


def load_average() -> float:
    return os.getloadavg()[0]


def conditions() -> list[str]:
    """What the numbers depend on beside the code, in lines for a person."""
    cpus = sorted(os.sched_getaffinity(0))
    return [
        f"{_cpu()}; {os.cpu_count()} CPUs, affinity {cpus}, quota {_quota()}",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    ]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _quota() -> str:
    try:
        return Path("/sys/fs/cgroup/cpu.max").read_text().strip()
    except OSError:
        return "none"
