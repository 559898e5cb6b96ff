"""An emulated network: hosts that lines with rate, delay, jitter and loss join, changed while it runs.

A host is a network namespace of this machine; `switch.c` makes it and carries its packets. It needs root, /dev/net/tun,
a C compiler and `ip` of iproute2. Labs have no names and leave nothing behind: a lab ends with its block, and where the
process that opened it is killed, the switch kills what runs on the hosts and ends, too.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen
from threading import Lock
from typing import Final

HERE: Final = Path(__file__).parent
FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
TUN: Final = Path("/dev/net/tun")
DEVICE: Final = "eth0"
END_S: Final = 10.0  # for the switch to kill what runs on its hosts
BIT: Final = 1e6 / 8  # bytes of a megabit
MS: Final = 1e-3


class LabError(Exception):
    """The lab cannot be opened here, or was told something wrong."""


@dataclass(frozen=True, slots=True)
class Line:
    """A host's line to the switch. What two hosts say to each other crosses both their lines.

    up_mbit, down_mbit: Mbit/s of IP packets, 0 for no limit
    delay_ms:           one way, between host and switch
    jitter_ms:          a packet comes up to so much sooner or later; the order stays
    loss:               share of packets that are lost, in each direction
    queue_ms:           packets that wait in each direction; beyond, they are dropped
    plugged:            where it is False, everything from and to the host vanishes without a word
    """

    up_mbit: float = 0.0
    down_mbit: float = 0.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    queue_ms: float = 100.0
    plugged: bool = True

    def __post_init__(self) -> None:
        if min(self.up_mbit, self.down_mbit, self.delay_ms, self.jitter_ms, self.queue_ms) < 0:
            raise ValueError(f"{self} has a number below 0")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"a loss of {self.loss}: it is a share, from 0 to 1")

    def __str__(self) -> str:
        """As the switch takes it."""
        return (
            f"{self.up_mbit * BIT} {self.down_mbit * BIT} {self.delay_ms * MS} {self.jitter_ms * MS} {self.loss} "
            f"{self.queue_ms * MS} {self.plugged:d}"
        )


@dataclass(frozen=True, slots=True)
class Host:
    """lan: hosts with the same word here hear each other's multicast; a host without one is alone at home."""

    name: str
    line: Line = field(default_factory=Line)
    lan: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one host, in IP packets and bytes: what it sent and what came to it.

    lost:      of those it sent, by chance
    full:      dropped for a full queue before one of its directions
    unplugged: for a plug that was out, its own or a receiver's
    nowhere:   to an address that nobody has, or to a device that is down
    """

    sent: int
    sent_bytes: int
    received: int
    received_bytes: int
    lost: int
    full: int
    unplugged: int
    nowhere: int


@dataclass(frozen=True, slots=True)
class Stats:
    """cpu_s: what the switch used. latest_s: the most that a packet came too late by. hosts: by name."""

    cpu_s: float
    latest_s: float
    hosts: Mapping[str, Counts]


class Lab:
    """A network that runs; made by `open_lab`."""

    def __init__(self, program: Path, switch: "Popen[str]", hosts: Sequence[Host], namespaces: Sequence[str]) -> None:
        self._program = program
        self._switch = switch
        self._lock = Lock()  # one command at a time
        self._numbers = {host.name: number for number, host in enumerate(hosts)}
        self._lines = {host.name: host.line for host in hosts}
        self._lans = [_lan_number(hosts, number) for number in range(len(hosts))]
        self._namespaces = namespaces
        self._addresses: dict[str, list[str]] = {}
        for host in hosts:
            self._set_up(host)

    # Programs

    def enter(self, host: str) -> tuple[str, ...]:
        """The words before those of a command that run it on this host, as the same process."""
        return (str(self._program), "enter", self._namespaces[self._numbers[host]])

    def run(self, host: str, words: Sequence[str], timeout_s: float = 60.0) -> "CompletedProcess[str]":
        """Run a command on a host to its end."""
        return subprocess.run(
            [*self.enter(host), *words], capture_output=True, text=True, timeout=timeout_s, check=False
        )

    # The network

    def address(self, host: str) -> str:
        """The first IP address of a host."""
        return self._addresses[host][0].partition("/")[0]

    def set(self, host: str, **changes: float) -> None:
        """Change a host's line; the names are those of Line. Packets on their way are not changed."""
        self._lines[host] = replace(self._lines[host], **changes)  # type: ignore[arg-type]  # bool is a float, too
        number = self._numbers[host]
        self._say(f"line {number} {self._lines[host]} {self._lans[number]}")

    def unplug(self, host: str) -> None:
        self.set(host, plugged=False)

    def plug(self, host: str) -> None:
        self.set(host, plugged=True)

    def take_addresses(self, host: str) -> None:
        """A host has no address any more: its network is gone, and it knows."""
        for address in self._addresses.pop(host, []):
            self.ip(host, f"address del {address} dev {DEVICE}")
            self._say(f"address {address.partition('/')[0]} -1")

    def give_address(self, host: str, address: str) -> None:
        """Give a host this address, ADDRESS/BITS, IPv4 or IPv6; it reaches all others by it, without a router."""
        everywhere, flag = ("::/0", " nodad") if ":" in address else ("default", "")
        self.ip(host, f"address add {address} dev {DEVICE}{flag}", f"route replace {everywhere} dev {DEVICE}")
        self._say(f"address {address.partition('/')[0]} {self._numbers[host]}")
        self._addresses.setdefault(host, []).append(address)

    def ip(self, host: str, *commands: str) -> None:
        """Run `ip COMMAND` for each command on a host, in turn."""
        done = subprocess.run(
            [*self.enter(host), "ip", "-batch", "-"], input="\n".join(commands), capture_output=True, text=True
        )
        if done.returncode:
            raise LabError(f"ip on {host}: {done.stderr.strip()}")

    def stats(self) -> Stats:
        """What the network carried and dropped since it was opened."""
        said = json.loads(self._say("stats"))
        counts = {name: Counts(*said["hosts"][number]) for name, number in self._numbers.items()}
        return Stats(said["cpu_s"], said["latest_s"], counts)

    # Parts

    def _set_up(self, host: Host) -> None:
        number = self._numbers[host.name]
        self.set(host.name)
        mac = f"02:00:00:00:00:{number:02x}"  # the switch writes it into what it hands on; ARP is not needed
        self.ip(
            host.name,
            "link set lo up",
            f"link set {DEVICE} address {mac} addrgenmode none arp off multicast on",
            f"link set {DEVICE} up",
        )
        first = 10 if host.lan else 11  # 10/8 is private, 11/8 is as public as any
        second = self._lans[number]
        self.give_address(host.name, f"{first}.77.{second}.{number + 1}/24")

    def _say(self, command: str) -> str:
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        with self._lock:
            try:
                self._switch.stdin.write(command + "\n")
                self._switch.stdin.flush()
            except BrokenPipeError:
                raise LabError("the switch has ended") from None
            answer = self._switch.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise LabError(f"the switch answered {command!r} with {answer!r}")
        return answer


@contextmanager
def open_lab(program: Path, hosts: Sequence[Host], seed: int = 0) -> Iterator[Lab]:
    """A network of these hosts, for as long as the block lasts; whatever still runs on them then is killed.

    program: as `build_switch` makes it
    seed:    of the draws of loss and jitter
    """
    if len({host.name for host in hosts}) != len(hosts):
        raise ValueError("two hosts of one name")
    command = [str(program), str(len(hosts)), str(seed)]
    # in a session of its own, so that the signal which ends us leaves it the time to clean up
    with Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True) as switch:
        try:
            assert switch.stdout is not None
            namespaces = switch.stdout.readline().split()
            if len(namespaces) != len(hosts):
                assert switch.stderr is not None
                raise LabError(f"no lab can be opened: {switch.stderr.read().strip()}")
            yield Lab(program, switch, hosts, namespaces)
        finally:
            _end(switch)


def _end(switch: "Popen[str]") -> None:
    assert switch.stdin is not None
    with suppress(BrokenPipeError):  # it ended by itself
        switch.stdin.close()
    try:
        switch.wait(END_S)
    except subprocess.TimeoutExpired:
        switch.kill()
        raise


def build_switch(folder: Path) -> Path:
    """Compile the switch into a folder.

    Raises LabError with the reason where no lab can be opened on this machine.
    """
    if reason := _what_is_missing():
        raise LabError(reason)
    program = folder / "switch"
    command = ["cc", *FLAGS, "-o", str(program), str(HERE / "switch.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"the lab's switch does not compile: {done.stderr}")
    with open_lab(program, [Host("probe")]):  # containers may keep root from some of what it needs
        return program


def _what_is_missing() -> str:
    if os.name != "posix" or os.geteuid() != 0:
        return "a lab needs root"
    if not TUN.exists():
        return f"a lab needs {TUN}"
    missing = [name for name in ("ip", "cc") if shutil.which(name) is None]
    return f"a lab needs {' and '.join(missing)}" if missing else ""


def _lan_number(hosts: Sequence[Host], number: int) -> int:
    """The number of the first host of the same LAN, plus 1."""
    lan = hosts[number].lan
    return 1 + (number if not lan else next(at for at, host in enumerate(hosts) if host.lan == lan))
