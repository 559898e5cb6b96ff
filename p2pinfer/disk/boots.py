"""The starts of a node, and how many offers each has made: a file in its data folder.

A node whose clock was set back cannot tell by the time whether an offer of its own key is an old one of its own or
comes from another process (core/swarm/doubles.py). By this file it can.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from p2pinfer.core.records.offer import Offer
from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.plain import read_small

KEPT: Final = 1_024  # starts
REMEMBERED: Final = 64  # offers: 20 minutes of them, far beyond the life of any
AHEAD: Final = 2  # offers that a note is of: to make one is a millisecond's work, most of what a node does that idles
LINE: Final = re.compile(rb"([0-9a-f]{32}) ([0-9]{1,16})\n")
MAX_FILE: Final = KEPT * 50  # bytes: the longest lines, and no more of them


class Boots:
    """boot: 16 bytes, random for each start, so that no offer outlives its process.

    past:   the earlier starts, and how many offers each may have made
    made:   offers of this start
    latest: the last of them, by number

    Raises JournalError where the file cannot be read.
    """

    def __init__(self, path: Path, boot: bytes) -> None:
        self.boot = boot
        self.past: Mapping[bytes, int] = _read(path)
        self.made = 0
        self.latest: dict[int, Offer] = {}
        self._path = path
        self._noted = 0

    @property
    def is_due(self) -> bool:
        """The next offer is not noted."""
        return self.made >= self._noted

    def next_seq(self) -> int:
        """The number of a new offer: whatever the node offers, no two of one start have the same."""
        self.made += 1
        return self.made

    def keep(self, offer: Offer) -> None:
        """Remember an offer that was made."""
        self.latest[offer.seq] = offer
        if len(self.latest) > REMEMBERED:
            del self.latest[next(iter(self.latest))]

    def note(self) -> None:
        """Note the next AHEAD offers before they are made, so that no crash forgets one; blocks for the disk.

        A copy of this folder takes offers for its own that are noted and were not made: for so long it finds no double.

        Raises JournalError.
        """
        noted = self.made + AHEAD
        starts = [*self.past.items(), (self.boot, noted)]
        text = "".join(f"{boot.hex()} {seq}\n" for boot, seq in starts[-KEPT:])
        try:
            write_atomic(self._path, text.encode())
        except OSError as error:
            raise JournalError(f"cannot write {self._path}: {error.strerror}") from None
        self._noted = noted


def _read(path: Path) -> dict[bytes, int]:
    try:
        lines = read_small(path, MAX_FILE).splitlines(keepends=True)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from None
    found = [match.groups() for line in lines if (match := LINE.fullmatch(line))]
    if len(found) < len(lines):
        raise JournalError(f"{path} is damaged: remove it; the node makes a new one")
    return {bytes.fromhex(boot.decode()): int(seq) for boot, seq in found}
