"""The bytes of files that peers had of this node today: one line, `BYTES SECONDS UNIX`, in a file of its data folder.

SECONDS of the day had passed when that was noted, at UNIX by the wall clock. By the second alone a day would begin anew
with each jump of the clock; by the first alone it would never end at a node that is started each morning.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.plain import read_small

LINE: Final = re.compile(rb"([0-9]{1,16}) ([0-9]{1,8}) ([0-9]{1,12})\n")
MAX_FILE: Final = 64  # bytes

logger = logging.getLogger(__name__)


class BytesServed(NamedTuple):
    """size: bytes, since passed_s ago"""

    size: int
    passed_s: int


class ServedFile:
    """limit: bytes a day; what cannot be read counts as that much, which is forgotten in a day

    unix: the time of day
    """

    def __init__(self, path: Path, limit: int, unix: Callable[[], int]) -> None:
        self._path = path
        self._limit = limit
        self._unix = unix

    def read(self) -> BytesServed | None:
        """Return what was noted; None where nothing was. The node's absence passed as the wall clock says."""
        try:
            found = LINE.fullmatch(read_small(self._path, MAX_FILE))
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("%s cannot be read, so peers get no files for a day: %s", self._path, error.strerror)
            return BytesServed(self._limit, 0)
        if found is None:
            logger.warning("%s is damaged, so peers get no files for a day", self._path)
            return BytesServed(self._limit, 0)
        size, passed_s, noted = map(int, found.groups())
        return BytesServed(size, passed_s + max(0, self._unix() - noted))

    def write(self, served: BytesServed) -> None:
        """Note it for good; blocks for the disk. Raises OSError."""
        write_atomic(self._path, b"%d %d %d\n" % (*served, max(0, self._unix())))
