"""Python as it is on Windows, in the eyes of p2pinfer alone; it comes with the folder in PYTHONPATH, to children too.

The platform's name is Windows', and modules and attributes that Python has on POSIX alone are absent. A folder cannot
be opened, a descriptor of a socket is no file, a file is not renamed to a name that is taken, and locks are of bytes.

Everything below is Linux's: names of paths, permissions, open files that others replace, processes, the console, and
the halves for Windows of the libraries (trio, cryptography, psutil, SQLite), which nobody can try here.
"""

import builtins
import errno
import fcntl
import os
import pathlib
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

PACKAGE = "p2pinfer"
ABSENT_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
OS_FLAGS = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_APPEND", "O_CREAT", "O_EXCL", "O_TRUNC"}
OS_ABSENT = {
    *("chown", "fchmod", "fchown", "fork", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpriority"),
    *("getuid", "killpg", "mkfifo", "nice", "posix_fallocate", "pread", "pwrite", "sched_getaffinity", "setpriority"),
    *("setsid", "statvfs", "sysconf", "uname", "PRIO_PROCESS", "get_blocking", "set_blocking", "wait"),
}
SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
SIGNAL_ABSENT = {"setitimer", "getitimer", "alarm", "pause", "pthread_kill", "pthread_sigmask", "sigwait"}


class View(ModuleType):
    """A module as it is there: some of it absent, some of it other."""

    def __init__(self, real: ModuleType, absent: set[str], other: Mapping[str, object]) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(other, _real=real, _absent=absent)

    def __getattr__(self, name: str) -> Any:
        if name in self._absent:
            raise AttributeError(f"module {self._real.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real, name, value)


def open_file(path: Any, flags: int, mode: int = 0o777) -> int:
    if os.path.isdir(path):  # noqa: PTH112 - it is os.open that is another
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return os.open(path, flags, mode)


def read(descriptor: int, size: int) -> bytes:
    check_file(descriptor)
    return os.read(descriptor, size)


def write(descriptor: int, data: bytes) -> int:
    check_file(descriptor)
    return os.write(descriptor, data)


def check_file(descriptor: int) -> None:
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def locking(descriptor: int, _mode: int, count: int) -> None:
    """Lock bytes from the file's place on; two files that are open for reading alone do not exclude each other."""
    writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    kind = fcntl.F_WRLCK if writes else fcntl.F_RDLCK
    wanted = struct.pack("hhqqi0q", kind, os.SEEK_SET, os.lseek(descriptor, 0, os.SEEK_CUR), count, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None


def rename(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    return path.replace(target)


def beginning(module: ModuleType, *prefixes: str) -> set[str]:
    return {name for name in dir(module) if name.startswith(prefixes)}


VIEWS = {
    "os": View(
        os,
        (beginning(os, "O_") - OS_FLAGS) | OS_ABSENT,
        {"O_BINARY": 0, "O_NOINHERIT": os.O_CLOEXEC, "open": open_file, "read": read, "write": write},
    ),
    "signal": View(
        signal, (beginning(signal, "SIG", "ITIMER_") - SIGNALS) | SIGNAL_ABSENT, {"SIGBREAK": signal.SIGUSR1}
    ),
    "socket": View(socket, beginning(socket, "AF_UNIX", "AF_NETLINK", "NETLINK", "SOCK_NONBLOCK", "SOCK_CLOEXEC"), {}),
    "subprocess": View(subprocess, set(), {"CREATE_NEW_PROCESS_GROUP": 0}),
    "sys": View(sys, set(), {"platform": "win32"}),
    "time": View(time, beginning(time, "CLOCK_", "clock_", "pthread_", "tzset"), {}),
    "msvcrt": View(ModuleType("msvcrt"), set(), {"LK_NBLCK": 2, "locking": locking}),
}
import_here = builtins.__import__


def import_there(
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002 - Python's own names
    locals: Mapping[str, object] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    importer = str((globals or {}).get("__package__"))
    if level == 0 and importer.partition(".")[0] == PACKAGE:
        if name in ABSENT_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        if name in VIEWS:
            return VIEWS[name]
    return import_here(name, globals, locals, fromlist or (), level)


builtins.__import__ = import_there
pathlib.Path.rename = rename  # type: ignore[method-assign, assignment]
