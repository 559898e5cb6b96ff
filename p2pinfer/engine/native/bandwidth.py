"""The speed at which this machine reads memory: no step of an engine can be faster than what it must read."""

import ctypes
from typing import Final

from p2pinfer.core.values.errors import EngineError
from p2pinfer.engine.native.library import instruction_sets

MOST_BYTES: Final = 1 << 31  # of the buffer; far beyond every cache, more changes nothing


def read_gb_s(library: ctypes.CDLL, size: int, threads: int) -> float:
    """Gigabytes a second that so many threads read from a buffer of `size` bytes; it takes a second at most.

    Whether the buffer fits into a cache decides, so give the size of what is to be read.

    Raises EngineError if there is no memory for it.
    """
    size = min(size, MOST_BYTES)
    speed: float = library.read_bandwidth(instruction_sets(library)[0].encode(), size, threads)
    if not speed:
        raise EngineError(f"there is no memory to read {size} bytes from")
    return speed
