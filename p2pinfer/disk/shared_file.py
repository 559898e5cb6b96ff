"""A file of JSON that processes of one data folder share, each adding to it what it knows: a help and nothing more.

It is readable by its user alone: whom somebody asked is nobody's business. What cannot be read is put aside, what
cannot be written is lost, and both are told in a sentence.
"""

import json
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


def parse_time(value: object) -> int:
    """Unix seconds, as such files have them. Raises ValueError."""
    if type(value) is not int or value < 0:
        raise ValueError("a time is no number of seconds")
    return value


class SharedFile(Generic[T]):
    """One such file.

    name:  as people call it
    parse: makes of what is written there what it means; raises ValueError
    """

    def __init__(self, path: Path, name: str, parse: Callable[[Any], T]) -> None:
        self._path = path
        self._words = f"{name} {path}"
        self._parse = parse
        self._is_ours = True  # we may write it

    async def read(self) -> tuple[T | None, str]:
        """What is written there, None where that is nothing; and a complaint, or nothing."""
        try:
            return await trio.to_thread.run_sync(self._read), ""
        except OSError as error:
            self._is_ours = False
            return None, f"{self._words} cannot be read, and is left as it is: {error.strerror}"
        except (ValueError, RecursionError) as error:
            return None, f"{self._words} is damaged ({error}); {self._put_aside()}"

    async def write(self, plain: object) -> str:
        """Replace it, unless it is none of ours; return a complaint, or nothing."""
        try:
            if self._is_ours:
                await trio.to_thread.run_sync(self._write, plain)
        except OSError as error:
            return f"{self._words} cannot be written: {error.strerror}"
        return ""

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
