"""Offers: what a node serves, at what price, for the next seconds (protocols/offer.md).

An offer is the node's signed quote. `core/swarm/offers.py` collects and ages offers.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar, Final

from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.records.records import ZEROS, Record, SignedRecord, verify_record
from p2pinfer.core.records.terms import Limits, RolesKind, SpanKind
from p2pinfer.core.values import fields
from p2pinfer.core.values.fields import Bin, Struct, UInt, UInts, Zero
from p2pinfer.core.values.keys import check_key
from p2pinfer.core.values.units import ModelId, OwnerKey, PeerKey, RecordId, Roles, Span

MAX_OFFER_S: Final = 60
UNTIL_STEP_S: Final = 900  # an exact time of leaving would publish when the house is empty
MAX_UNTIL_S: Final = 7_200


class ServingState(IntEnum):
    """The node's doings with the span."""

    SERVING = 0
    JOINING = 1  # loading; it will serve
    LEAVING = 2  # takes no new sessions


@dataclass(frozen=True, slots=True)
class Load:
    free_positions: Annotated[int, UInt(32)]  # KV cache not reserved
    queue_ms: Annotated[int, UInt(32)]
    busy: Annotated[int, UInt(32)]  # per mille of the last minute

    def __post_init__(self) -> None:
        fields.check(self)


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured by the node itself: a claim."""

    prefill: Annotated[int, UInt(32)]  # positions/s
    decode: Annotated[int, UInt(32)]  # positions/s of one session
    uplink: Annotated[int, UInt(32)]  # kbit/s; 0 unknown

    def __post_init__(self) -> None:
        fields.check(self)


@dataclass(frozen=True, slots=True)
class Offer(Record):
    """Signed by the node. Newer than another of one `boot` if `seq` is higher, of another boot if `issued` is later."""

    TYPE: ClassVar = "offer"
    node: Annotated[PeerKey, Bin(32)]
    owner: Annotated[OwnerKey, Bin(32)]
    cert: Annotated[RecordId, Bin(32)]
    boot: Annotated[bytes, Bin(16)]  # random for each start of the process
    seq: Annotated[int, UInt(32)]
    issued: Annotated[int, UInt()]  # Unix seconds
    life: Annotated[int, UInt()]  # seconds
    until: Annotated[int, UInt()]  # Unix seconds; 0 unknown
    model: Annotated[ModelId, Bin(32)]
    span: Annotated[Span, SpanKind()]
    roles: Annotated[Roles, RolesKind()]
    numerics: Annotated[int, UInt(16)]  # class of the registry
    codecs: Annotated[int, UInt(16)]  # bits: `Codec.bit`
    limits: Annotated[Limits, Struct(Limits)]
    prices: Annotated[Prices, Struct(Prices)]
    flat: Annotated[int, UInt()]  # nano-credits for each contract
    state: Annotated[int, UInt(2)]
    load: Annotated[Load, Struct(Load)]
    speed: Annotated[Speed, Struct(Speed)]
    log: Annotated[tuple[int, int], Zero(UInts(2))] = (0, 0)  # reserved
    log_root: Annotated[bytes, Zero(Bin(32))] = ZEROS  # reserved
    moves: Annotated[int, UInt(32)] = 0  # times that the node's addresses have changed since its process began

    def contradiction(self) -> str | None:
        if not 0 < self.life <= MAX_OFFER_S:
            return f"life of {self.life} s, limit {MAX_OFFER_S} s"
        if self.until % UNTIL_STEP_S or self.until > self.issued + MAX_UNTIL_S:
            return f"until {self.until} is not rounded to {UNTIL_STEP_S} s, or over {MAX_UNTIL_S} s ahead"
        if self.state > ServingState.LEAVING:
            return f"state {self.state} is unknown"
        return None


def has_moved(one: Offer, other: Offer) -> bool:
    """True if the node of two offers was elsewhere when it made the one, or may have been."""
    return (one.boot, one.moves) != (other.boot, other.moves)


def contradict(one: Offer, other: Offer) -> bool:
    """Two offers that one node cannot have made honestly: they are evidence against it."""
    return one != other and (one.node, one.boot, one.seq) == (other.node, other.boot, other.seq)


def verify_offer(body: bytes, signature: bytes) -> SignedRecord[Offer]:
    """The way from bytes to an offer.

    Raises RemoteProtocolError: BAD_RECORD, BAD_KEY or BAD_SIGNATURE.
    """
    signed = verify_record(Offer, body, (signature,), lambda offer: (offer.node,))
    check_key(signed.record.owner)
    return signed
