"""The compiled kernel, if this installation has one.

The package's build makes it where there is a C compiler, and goes on without where there is none.
"""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_void_p
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import EngineError

MOST_BYTES: Final = 1 << 31  # of a buffer that is read; far beyond every cache, more changes nothing
FLOATS = POINTER(c_float)
BYTES = POINTER(c_uint8)
HALVES = POINTER(c_uint16)
INTS = POINTER(c_int32)
TABLES = POINTER(c_void_p)


class Sizes(ctypes.Structure):
    """`struct sizes` of shape.h."""

    _fields_ = (
        *((name, c_int32) for name in ("layers", "hidden", "feed_forward", "heads", "kv_heads", "head_size")),
        *((name, c_int32) for name in ("vocabulary", "window", "pages", "positions", "threads", "kv_bytes")),
        ("eps", c_float),
    )


FUNCTIONS = {
    "set_name": (c_char_p, (c_int,)),
    "find_set": (c_void_p, (c_char_p,)),
    "set_encode": (None, (c_void_p, c_void_p, c_int, c_int, c_void_p)),
    "set_decode": (c_int, (c_void_p, c_char_p, c_int, c_int, c_void_p)),
    "span_open": (c_void_p, (POINTER(Sizes), c_char_p, FLOATS, FLOATS, c_int, c_int, c_int)),
    "span_close": (None, (c_void_p,)),
    "span_weight_bytes": (c_int64, (c_void_p,)),
    "span_cache_bytes": (c_int64, (c_void_p,)),
    "span_matrix": (c_int, (c_void_p, c_int, c_int, c_int, c_int, c_void_p)),
    "span_vector": (c_int, (c_void_p, c_int, c_int, c_int, c_int, c_void_p)),
    "span_step": (c_int, (c_void_p, c_int, c_int, c_void_p, c_int, c_void_p, c_void_p, c_void_p)),
    "span_logits": (c_int, (c_void_p, c_void_p, c_int, c_void_p, c_void_p)),
    "span_logit_stride": (c_int, (c_void_p,)),
    "session_open": (c_void_p, (c_void_p, c_uint32, c_void_p, c_int)),
    "session_close": (None, (c_void_p, c_void_p)),
    "session_held": (c_void_p, (c_void_p,)),
    "session_pages": (c_void_p, (c_void_p,)),
    "door_open": (c_void_p, (c_void_p, c_int, c_int, c_void_p, c_int)),
    "door_close": (None, (c_void_p,)),
    "door_next": (c_int64, (c_void_p, POINTER(c_void_p))),
    "read_bandwidth": (c_double, (c_char_p, c_int64, c_int)),
}


def open_library(path: Path | None = None) -> ctypes.CDLL:
    """The kernel's functions, of another build if a path is given.

    Raises EngineError saying why there is none.
    """
    path = path or _built()
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError(f"the native kernel cannot be loaded: {error}") from None
    return library


def instruction_sets(library: ctypes.CDLL) -> Sequence[str]:
    """Return what this machine can run, the fastest first; "portable" is always the last."""
    names: list[str] = []
    while (name := library.set_name(len(names))) is not None:
        names.append(name.decode())
    return names


def read_gb_s(library: ctypes.CDLL, size: int, threads: int) -> float:
    """Gigabytes a second that so many threads read from a buffer of `size` bytes; it takes a second at most.

    No step of an engine can be faster than what it must read.

    Whether the buffer fits into a cache decides, so give the size of what is to be read.

    Raises EngineError if there is no memory for it.
    """
    size = min(size, MOST_BYTES)
    speed: float = library.read_bandwidth(instruction_sets(library)[0].encode(), size, threads)
    if not speed:
        raise EngineError(f"there is no memory to read {size} bytes from")
    return speed


def _built() -> Path:
    here = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        if (path := here / f"_kernel{suffix}").exists():
            return path
    raise EngineError("the native kernel is not built: install a C compiler (Debian: gcc) and p2pinfer once more")
