"""A file of JSON that processes of one data folder share, each adding to it what it knows: a help and nothing more.

It is readable by its user alone: whom somebody asked is nobody's business. A file that cannot be read is put aside, one
that cannot be written is lost, and the log tells both.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import trio

from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.plain import read_small

MODE: Final = 0o600
MAX_FILE: Final = 1 << 20  # bytes; a full one takes a third
ASIDE: Final = ".damaged"

T = TypeVar("T")

logger = logging.getLogger(__name__)


def parse_time(value: object) -> int:
    """Unix seconds, as such files have them. Raises ValueError."""
    if type(value) is not int or value < 0:
        raise ValueError("a time is no number of seconds")
    return value


class SharedFile(Generic[T]):
    """One such file. What is wrong with it is told once, however often it is read and written.

    name:    as people call it
    parse:   makes of what is written there what it means; raises ValueError
    is_read: what is written there could be read last, if anything is; over what could not nothing is written
    """

    def __init__(self, path: Path, name: str, parse: Callable[[Any], T]) -> None:
        self._path = path
        self._words = f"{name} {path}"
        self._parse = parse
        self.is_read = True
        self._complaints: set[str] = set()

    async def read(self) -> T | None:
        """Return what is written there, None where that is nothing."""
        self.is_read = True
        try:
            return await trio.to_thread.run_sync(self._read)
        except OSError as error:
            self.is_read = False
            self._complain(f"cannot be read, and is left as it is: {error.strerror}")
        except (ValueError, RecursionError) as error:
            self._complain(f"is damaged ({error}); {self._put_aside()}")
        return None

    async def write(self, plain: object) -> bool:
        """Replace it; False where it could not be read before, or the disk does not take it: it may be tried again."""
        if not self.is_read:
            return False
        try:
            await trio.to_thread.run_sync(self._write, plain)
        except OSError as error:
            self._complain(f"cannot be written: {error.strerror}")
            return False
        return True

    def _complain(self, complaint: str) -> None:
        if complaint not in self._complaints:
            self._complaints.add(complaint)
            logger.warning("%s %s", self._words, complaint)

    def _read(self) -> T | None:
        try:
            data = read_small(self._path, MAX_FILE)
        except FileNotFoundError:
            return None
        return self._parse(json.loads(data))

    def _write(self, plain: object) -> None:
        write_atomic(self._path, json.dumps(plain, indent=1).encode(), MODE)

    def _put_aside(self) -> str:
        aside = self._path.with_name(self._path.name + ASIDE)
        try:
            self._path.replace(aside)
        except OSError as error:
            return f"it cannot be put aside: {error.strerror}"
        return f"it is put aside as {aside.name}, and a new one begun"
