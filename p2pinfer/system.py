"""The operating system, as far as one differs from another: locks, files, signals, bounds of a process, sockets.

POSIX and Windows stand beside each other here, and nobody else of the client, the commands and the verifier asks which
of the two it is. Nodes run on POSIX alone, as `why_no_node` says.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psutil

LOCKED_S: Final = 0.01  # between tries for a lock that somebody holds for a moment
LOOK_S: Final = 0.1  # between looks at a process that the system does not hold to its bounds

if sys.platform == "win32":
    import msvcrt

    # A lock there keeps others from reading what is locked, so it lies where no file of ours has anything; places have
    # 31 bits in the C library
    LOCK_PLACE: Final = 1 << 30
    SHARES: Final = 64  # of a lock, held by as many at once

    SAFE: Final = os.O_BINARY | os.O_NOINHERIT
    NO_LINKS: Final = 0  # users have no right to make links there; who opens a lock looks at what it has opened
    APART: Final[Mapping[str, Any]] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    HOLDS_BOUNDS: Final = False

    def why_no_node() -> str:
        return "a node runs on Linux, and Windows has one: WSL, the Windows Subsystem for Linux; install p2pinfer there"

    def _try_lock(descriptor: int, shared: bool) -> None:
        """A share is a byte of a row, and whoever is alone holds the whole row: Windows' C library shares no byte."""
        for first, count in [(place, 1) for place in range(SHARES)] if shared else [(0, SHARES)]:
            os.lseek(descriptor, LOCK_PLACE + first, os.SEEK_SET)
            with suppress(PermissionError):  # somebody holds one of them
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, count)
                return
        raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it")

    def open_folder(path: Path) -> int | None:
        """None: a folder has no descriptor there, so nobody locks it or waits until it is on the disk."""
        path.stat()  # fails where there is none
        return None

    def set_mode(descriptor: int, mode: int) -> None:
        """A file has the access list of its folder, and a user's own folders are that user's alone."""

    def others_in(mode: int) -> int:
        """None: modes say nothing of others there, and nobody here reads access lists."""
        return 0

    def user_id() -> int | None:
        return None

    def descriptors(wanted: int) -> int:
        """Windows counts no sockets."""
        return wanted

    def bound_memory(most: int, maps_files: bool = False) -> None:
        """Nothing: its other side watches this process."""

    def bound_time(seconds: float) -> None:
        """Nothing, likewise."""

    def write_no_files() -> None:
        """Nothing there keeps a process from that which it could keep itself to."""

    def _memory_of(process: "psutil.Process") -> int:
        """Bytes that it may write to, in memory or swapped out."""
        return int(process.memory_info().vms)

    def receive_nowait(handle: int, most: int) -> bytes:
        """Bytes that came on a socket that does not block; there a socket is no file. Raises BlockingIOError."""
        import socket

        borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, handle)
        try:
            return borrowed.recv(most)
        finally:
            borrowed.detach()

    def send_nowait(handle: int, data: bytes) -> int:
        """Send on such a socket, and return how much it took. Raises BlockingIOError."""
        import socket

        borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, handle)
        try:
            return borrowed.send(data)
        finally:
            borrowed.detach()

else:
    import fcntl
    import resource

    SAFE: Final = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    NO_LINKS: Final = os.O_NOFOLLOW
    APART: Final[Mapping[str, Any]] = {"start_new_session": True}
    ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # which ask a process to end
    HOLDS_BOUNDS: Final = sys.platform == "linux"  # macOS takes a bound on memory, and keeps nobody to it
    OTHERS: Final = 0o077

    def why_no_node() -> str:
        """The reason that no node runs on this system; empty where one does."""
        return ""

    def _try_lock(descriptor: int, shared: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def open_folder(path: Path) -> int | None:
        """A descriptor of a folder, to lock it or to wait until it is on the disk; None where folders have none."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def set_mode(descriptor: int, mode: int) -> None:
        """Give a file its mode, whatever the umask."""
        os.fchmod(descriptor, mode)

    def others_in(mode: int) -> int:
        """The bits of a file's mode that say what others than its user may do."""
        return mode & OTHERS

    def user_id() -> int | None:
        """The user's number; None where users have none."""
        return os.geteuid()

    def descriptors(wanted: int) -> int:
        """The files and sockets that this process may have open; `wanted`, as far as its owner lets it raise them."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < wanted:
            soft = _within(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return soft

    def _within(wanted: int, hard: int) -> int:
        """As much of it as the owner of this process allows."""
        return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)

    def bound_memory(most: int, maps_files: bool = False) -> None:
        """Hold this process to so much memory. See `watched` for systems that do not hold it.

        maps_files: files that it maps do not count, however large they are
        """
        kind = resource.RLIMIT_DATA if maps_files else resource.RLIMIT_AS
        most = _within(most, resource.getrlimit(kind)[1])
        resource.setrlimit(kind, (most, most))

    def write_no_files() -> None:
        """Keep this process from writing any, a core dump included."""
        for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
            resource.setrlimit(kind, (0, 0))

    def bound_time(seconds: float) -> None:
        """End this process when it has had the processor for so long from now."""
        signal.setitimer(signal.ITIMER_PROF, seconds)

    def _memory_of(process: "psutil.Process") -> int:
        return int(process.memory_info().rss)

    def receive_nowait(handle: int, most: int) -> bytes:
        """Bytes that came on a socket that does not block; none at its end. Raises BlockingIOError."""
        return os.read(handle, most)

    def send_nowait(handle: int, data: bytes) -> int:
        """Send on such a socket, and return how much it took. Raises BlockingIOError."""
        return os.write(handle, data)


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file until it is closed, or its process dies.

    shared: others may hold shares of it, too, and nobody all of it
    wait:   until whoever holds it lets go

    Raises BlockingIOError where another holds it, and another OSError where the file system has no locks.
    """
    while True:
        try:
            return _try_lock(descriptor, shared)
        except BlockingIOError:
            if not wait:
                raise
        time.sleep(LOCKED_S)


def run_bounded(command: Sequence[str], given: bytes, memory: int, seconds: float) -> bytes | None:
    """The output of a process that holds itself to these bounds; None where it did not come to its end.

    given: its standard input
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, str(memory), str(seconds)], **pipes) as process:  # type: ignore[call-overload]
        try:
            with watched(process.pid, memory, seconds):
                output: bytes = process.communicate(given)[0]
        except BaseException:  # a cancellation too: nobody else would end it, and the block waits for its end
            process.kill()
            raise
    return None if process.returncode else output


@contextmanager
def watched(pid: int, memory: int, seconds: float) -> Iterator[None]:
    """End a process that takes more than this during the block, where the system itself does not hold it to that.

    Between two looks it may take more.
    """
    if HOLDS_BOUNDS:
        yield
        return
    done = Event()
    Thread(target=_watch, args=(pid, memory, seconds, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(pid: int, memory: int, seconds: float, done: Event) -> None:
    import psutil  # it takes a while to import

    with suppress(psutil.Error):  # it ended
        process = psutil.Process(pid)
        until = _processor_s(process) + seconds
        while not done.wait(LOOK_S):
            if _memory_of(process) > memory or _processor_s(process) > until:
                process.kill()
                return


def _processor_s(process: "psutil.Process") -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
