"""Messages between a node and its DHT's process: msgpack behind a length (`dht_life.py` and `dht_process.py`).

The node first says (listen, links), then questions (number, kind, argument): ("meet", addresses), ("provide", key),
("find", key), ("here", nil). The process says ("ready", addresses) once, then (number, addresses) for each question, in
any order; and ("failed", why) before it ends for a fault of its own. The node believes it no more than a stranger:
strangers' bytes are its daily work.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgpack

from p2pinfer.core.wire.messages import MAX_ADDRESSES, MAX_TEXT
from p2pinfer.overlay.limits import MAX_FOUND
from p2pinfer.overlay.pipe import Address

LENGTH: Final = 4  # bytes before each frame
MAX_FRAME: Final = 65_536  # bytes; all that one look-up may find take 42,000
MOST: Final = MAX_FOUND * MAX_ADDRESSES  # addresses in one answer
MAX_REASON: Final = 500  # characters
# What an answer may take
FIND_S: Final = 2.0  # for a whole look-up: no answer is worth waiting for a dead peer
WHERE_S: Final = 2.0  # for one DHT host to say where its links are taken
PROVIDE_S: Final = 30.0  # to tell those nearest to a key


def pack(message: Sequence[Any]) -> bytes:
    data: bytes = msgpack.packb(message)
    assert len(data) <= MAX_FRAME
    return len(data).to_bytes(LENGTH, "big") + data


def size_of(head: bytes) -> int:
    """Bytes of the frame that follows. Raises ValueError for more than MAX_FRAME."""
    size = int.from_bytes(head, "big")
    if size > MAX_FRAME:
        raise ValueError(f"a frame of {size} bytes, limit {MAX_FRAME}")
    return size


def unpack(data: bytes) -> Any:
    """The message in a frame. Raises ValueError for what is no msgpack."""
    try:
        return msgpack.unpackb(data)
    except (msgpack.UnpackException, RecursionError) as error:
        raise ValueError(f"no msgpack: {error}") from None


def addresses_in(value: object) -> tuple[Address, ...]:
    """Addresses as a message has them. Raises ValueError for anything else, more than MOST, or too long a one."""
    if not isinstance(value, list) or len(value) > MOST:
        raise ValueError("no list of addresses, or a long one")
    for one in value:
        if not isinstance(one, str) or len(one.encode(errors="replace")) > MAX_TEXT:
            raise ValueError("no address, or a long one")
    return tuple(map(Address, value))


def fitting(addresses: Sequence[str]) -> list[str]:
    """Those of the addresses that a message takes."""
    return [one for one in addresses if len(one.encode(errors="replace")) <= MAX_TEXT][:MOST]
