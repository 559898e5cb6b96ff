"""The ports that the system gave a node, kept in its data folder, so that addresses which others saved stay good.

A line a place, `MULTIADDR PORT`. The file is a convenience: where it cannot be read or written, the node says so and
takes any port.
"""

import logging
import re
from pathlib import Path
from typing import Final

from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.plain import read_small

LINE: Final = re.compile(r"(/\S{1,200}/tcp/0) ([1-9][0-9]{0,4})")
MAX_FILE: Final = 16_384  # bytes

logger = logging.getLogger(__name__)


class Ports:
    """`KeptPorts` in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = _read(path)
        self._stored = dict(self._kept)

    def kept(self, place: str) -> int:
        return self._kept.get(place, 0)

    def note(self, place: str, port: int) -> None:
        """Note the port of a place; the first one stays, so that the node comes back to it."""
        if self._kept.setdefault(place, port) != port:
            logger.warning(
                "port %d, which this node had before, is taken, so it listens on %d: addresses of it that others saved "
                "do not hold until it starts with that port free",
                self._kept[place],
                port,
            )
            return
        if self._kept == self._stored:
            return
        text = "".join(f"{place} {port}\n" for place, port in self._kept.items())
        try:
            write_atomic(self._path, text.encode())
            self._stored = dict(self._kept)
        except OSError as error:
            logger.warning(
                "the port cannot be kept, so the next start takes another: %s: %s", self._path, error.strerror
            )


def _read(path: Path) -> dict[str, int]:
    try:
        lines = read_small(path, MAX_FILE).decode().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("%s cannot be read, so the node takes any port: %s", path, error)
        return {}
    found = [match.groups() for line in lines if (match := LINE.fullmatch(line))]
    if len(found) < len(lines):
        logger.warning("%s is damaged and is written anew", path)
    return {place: int(port) for place, port in found if int(port) < 1 << 16}
