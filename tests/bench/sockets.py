"""The TCP connections of some processes, and the bytes on each, as Linux counts them (sock_diag(7)).

Whoever asks this way needs no other program and no rights. What is read of a connection here, and it carried before it
was closed between two looks, is not counted: look often.
"""

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOCK_DIAG: Final = 4  # the netlink family, and below its message, flags and attribute
BY_FAMILY: Final = 20
REQUEST_DUMP: Final = 0x301
TCP_INFO: Final = 2
OPEN_STATES: Final = 0xFFF & ~(1 << 10 | 1 << 6)  # neither listening nor waiting after the end
HEADER: Final = struct.Struct("=IHHII")  # of netlink: length, type, flags, number, port
REQUEST: Final = struct.Struct("=BBBxI48x")  # family, protocol, attributes, states, no address
ANSWER: Final = struct.Struct("=4x40xQ16xI")  # what identifies the socket, and its inode
ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
COUNTS: Final = struct.Struct("=120xQQII")  # of tcp_info: bytes acknowledged and received, segments out and in
BUFFER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Carried:
    """Of one connection, since it began. segments: sent, those without data among them"""

    sent: int
    received: int
    segments: int


class Connections:
    """What the connections of some processes carry. owners: the name under which each process is counted"""

    def __init__(self, owners: Mapping[int, str]) -> None:
        self._owners = owners
        self._first: dict[int, Carried] = {}
        self._last: dict[int, Carried] = {}
        self._owner: dict[int, str] = {}
        self.open: dict[str, int] = {}
        self.look()
        self._first = dict(self._last)

    def look(self) -> None:
        """Read all counts anew; to be called every few seconds."""
        inodes = {inode: name for pid, name in self._owners.items() for inode in _inodes(pid)}
        self.open = dict.fromkeys(self._owners.values(), 0)
        for cookie, inode, carried in _connections():
            if inode in inodes:
                self._owner[cookie] = inodes[inode]
                self.open[inodes[inode]] += 1
            if cookie in self._owner:
                self._last[cookie] = carried

    def since_first(self) -> dict[str, Carried]:
        """What each process's connections carried from the first look to the last."""
        totals = dict.fromkeys(self._owners.values(), Carried(0, 0, 0))
        for cookie, last in self._last.items():
            first, name = self._first.get(cookie, Carried(0, 0, 0)), self._owner[cookie]
            total = totals[name]
            totals[name] = Carried(
                total.sent + last.sent - first.sent,
                total.received + last.received - first.received,
                total.segments + last.segments - first.segments,
            )
        return totals


def _inodes(pid: int) -> Iterator[int]:
    """The sockets that a process has open."""
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            kind, _, inode = str(one.readlink()).partition(":")
            if kind == "socket":
                yield int(inode.strip("[]"))


def _connections() -> Iterator[tuple[int, int, Carried]]:
    """Of all TCP connections of this network namespace: a name of its own, the inode, what it carried."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as asked:
            request = REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (TCP_INFO - 1), OPEN_STATES)
            asked.send(HEADER.pack(HEADER.size + len(request), BY_FAMILY, REQUEST_DUMP, 1, 0) + request)
            over = False
            while not over:
                data = asked.recv(BUFFER)
                while data:
                    length, kind, *_ = HEADER.unpack_from(data)
                    if over := kind != BY_FAMILY:
                        break
                    yield from _parsed(data[HEADER.size : length])
                    data = data[_aligned(length) :]


def _parsed(message: bytes) -> Iterator[tuple[int, int, Carried]]:
    cookie, inode = ANSWER.unpack_from(message)
    left = message[ANSWER.size :]
    while len(left) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(left)
        if kind == TCP_INFO:
            sent, received, segments, _ = COUNTS.unpack_from(left, ATTRIBUTE.size)
            yield cookie, inode, Carried(sent, received, segments)
        left = left[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
