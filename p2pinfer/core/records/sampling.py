"""The canonical sampling record: it tells the tail of the answer wanted (protocols/inference.md, "Sampling").

The record travels in the open to the tail alone; its hash, salted, stands in the tail's contract, so that an auditor
can later repeat every choice. `draw.py` draws ids by it; `core/sessions/ending.py` says when the answer ends.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Final

from p2pinfer.core.records.canonical import check_version, pack_array, unpack_any
from p2pinfer.core.records.draw import MILLIONTHS, Sampling
from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import Blob, Many, UInt

VERSION: Final = 1
MAX_SAMPLING: Final = 8192  # bytes of a sampling record
MAX_STOPS: Final = 16
MAX_STOP_BYTES: Final = 256
PARAMS_DOMAIN: Final = b"p2pinfer/1/params\0"


@dataclass(frozen=True, slots=True)
class SamplingRecord:
    """The parameters of every draw (`draw.Sampling`), and when to stop. stops: UTF-8."""

    temperature: Annotated[int, UInt(32)] = 0  # millionths; 0 is greedy
    top_k: Annotated[int, UInt(32)] = 0
    top_p: Annotated[int, UInt(32)] = MILLIONTHS
    seed: Annotated[int, UInt(53)] = 0
    max_tokens: Annotated[int, UInt(32)] = 256
    stops: Annotated[tuple[bytes, ...], Many(Blob(MAX_STOP_BYTES), MAX_STOPS)] = ()

    def __post_init__(self) -> None:
        fields.check(self)
        _ = self.draw  # its constructor checks the ranges
        if not self.max_tokens:
            raise ValueError("max_tokens must be at least 1")
        if not all(self.stops):
            raise ValueError("an empty stop string would end every answer at once")
        for stop in self.stops:
            stop.decode()  # UnicodeDecodeError is a ValueError

    @property
    def draw(self) -> Sampling:
        return Sampling(self.temperature, self.top_k, self.top_p, self.seed)

    @property
    def stop_texts(self) -> tuple[str, ...]:
        return tuple(stop.decode() for stop in self.stops)


def encode_sampling(record: SamplingRecord) -> bytes:
    return pack_array([VERSION, *fields.to_list(record)])


def decode_sampling(body: bytes) -> SamplingRecord:
    """Raises RemoteProtocolError (BAD_RECORD) for anything but the canonical form."""
    items = unpack_any(body, MAX_SAMPLING)
    try:
        return fields.from_list(SamplingRecord, check_version(items, VERSION))
    except ValueError as error:
        raise RemoteProtocolError(f"sampling record: {error}", Code.BAD_RECORD) from None


def params_hash(secret: bytes, body: bytes) -> bytes:
    """Return the hash by which a tail's contract binds the sampling record; salted, since few records are common."""
    return sha256(PARAMS_DOMAIN + secret + body).digest()
