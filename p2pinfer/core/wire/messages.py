"""Messages of links and calls, version 1 (protocols/wire.md); those of sessions are in `session_messages.py`.

On the wire a message is a msgpack array `[number, field, ...]` (`message_codec.py`) with a length before it
(`frames.py`). A value of one of these classes is always well formed: its constructor checks it, whoever made it.
Whether it may be sent *now* is for the links and the exchange; whether its signatures hold is for the records.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from p2pinfer.core.records.offer import Load, Speed
from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.fields import Bin, Blob, Many, Struct, Text, UInt
from p2pinfer.core.values.units import ModelId

VERSION: Final = 1
MAX_BODY: Final = 4 << 20  # bytes of one message; rows are cut into frames far below it
MIN_BODY: Final = 4 << 20  # bytes that every peer takes: the longest message of this version fits
MAX_RECORD: Final = 1024
MAX_OFFERS: Final = 64
MAX_NAMED: Final = 64  # offers that a question names as known, and that an answer renews
NAMED_BYTES: Final = 8  # that name one of them
LAST_SLICE: Final = 28  # where the last four bytes of a key begin
MAX_PART: Final = 1 << 20
MAX_TEXT: Final = 256  # bytes
MAX_ADDRESSES: Final = 8
ONLY_ASKS: Final = 1  # of a Hello's features: the sender, as a client, passes no offers on


@dataclass(frozen=True, slots=True)
class Message:
    """A message of version 1."""

    NUMBER: ClassVar[int]

    def __post_init__(self) -> None:
        fields.check(self)


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first message of both sides (wire.md, 3.1)."""

    NUMBER: ClassVar = 1
    version: Annotated[int, UInt(16)]
    features: Annotated[int, UInt()]  # bits, of which ONLY_ASKS is defined; unknown ones are ignored
    max_body: Annotated[int, UInt(32)]  # bytes of the longest message the sender takes; at least MIN_BODY
    clock_ms: Annotated[int, UInt()]  # wall clock, Unix milliseconds
    boot: Annotated[bytes, Bin(16)]  # random for each start of the process
    agent: Annotated[str, Text(64)]  # for people
    seen: Annotated[str, Text(64)] = ""  # the network that the sender sees the receiver at; for people, too

    def __post_init__(self) -> None:
        fields.check(self)
        if self.max_body < MIN_BODY:
            raise ValueError(f"bodies of {self.max_body} bytes, every peer takes {MIN_BODY}")

    @property
    def only_asks(self) -> bool:
        return bool(self.features & ONLY_ASKS)


@dataclass(frozen=True, slots=True)
class Ack(Message):
    """All bytes received on this link so far, and when the last of them came (wire.md, 3.2)."""

    NUMBER: ClassVar = 2
    received: Annotated[int, UInt()]
    at_us: Annotated[int, UInt()]  # the receiver's monotonic clock


@dataclass(frozen=True, slots=True)
class Ping(Message):
    NUMBER: ClassVar = 3
    at_us: Annotated[int, UInt()]  # the sender's monotonic clock, returned as it is


@dataclass(frozen=True, slots=True)
class Pong(Message):
    NUMBER: ClassVar = 4
    at_us: Annotated[int, UInt()]


@dataclass(frozen=True, slots=True)
class Goodbye(Message):
    """The last message; the link closes after it."""

    NUMBER: ClassVar = 5
    code: Annotated[int, UInt(8)]
    text: Annotated[str, Text(MAX_TEXT)]


# Calls: `call` is the asker's number, returned by the one answer.


@dataclass(frozen=True, slots=True)
class Question(Message):
    """The beginning of a call."""

    call: Annotated[int, UInt(32)]  # not 0: what nobody asked for has that

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if not self.call:
            raise ValueError(f"{type(self).__name__}.call: 0 is no call")


@dataclass(frozen=True, slots=True)
class RelayedOffer:
    """An offer with what a stranger needs to check it, as its node or any other peer passes it on."""

    age_ms: Annotated[int, UInt(32)]  # since the relaying peer had it from the node; added up hop by hop
    offer: Annotated[bytes, Blob(MAX_RECORD)]
    signature: Annotated[bytes, Bin(64)]  # by the node
    certificate: Annotated[bytes, Blob(MAX_RECORD)]
    owner_signature: Annotated[bytes, Bin(64)]
    addresses: Annotated[tuple[str, ...], Many(Text(MAX_TEXT), MAX_ADDRESSES)]  # unsigned: the handshake proves the key

    def __post_init__(self) -> None:
        fields.check(self)


@dataclass(frozen=True, slots=True)
class Renewal:
    """A newer offer of a node whose terms the receiver knows: what changed, and the signature over the whole."""

    place: Annotated[int, UInt(8)]  # among those that the question named; 0 where nobody asked: the sender's own
    age_ms: Annotated[int, UInt(32)]  # as of a RelayedOffer
    seq: Annotated[int, UInt(32)]
    issued: Annotated[int, UInt()]
    until: Annotated[int, UInt()]
    state: Annotated[int, UInt(2)]
    load: Annotated[Load, Struct(Load)]
    speed: Annotated[Speed, Struct(Speed)]
    signature: Annotated[bytes, Bin(64)]  # by the node

    def __post_init__(self) -> None:
        fields.check(self)


@dataclass(frozen=True, slots=True)
class AskOffers(Question):
    """A question for offers, beyond those that the asker knows and names (offer.md, 3.7)."""

    NUMBER: ClassVar = 16
    model: Annotated[bytes, Blob(32)]  # 32 bytes, or empty for any model
    limit: Annotated[int, UInt(8)]  # offers wanted in full, 1 to 64
    seek: Annotated[int, UInt(1)] = 0  # 1: look for the model elsewhere, and say later what was found
    gain: Annotated[int, UInt(6)] = 0  # seconds that an offer must be younger than the one named
    at: Annotated[int, UInt(5)] = 0  # where the four bytes of a key begin that name a node
    known: Annotated[bytes, Blob(MAX_NAMED * NAMED_BYTES)] = b""

    def __post_init__(self) -> None:
        Question.__post_init__(self)
        if len(self.model) not in (0, 32) or not 1 <= self.limit <= MAX_OFFERS:
            raise ValueError(f"AskOffers: {self.limit} offers of a model of {len(self.model)} bytes")
        if len(self.known) % NAMED_BYTES or self.at > LAST_SLICE:
            raise ValueError(f"AskOffers: {len(self.known)} bytes name offers by keys from byte {self.at} on")


@dataclass(frozen=True, slots=True)
class Offers(Message):
    NUMBER: ClassVar = 17
    call: Annotated[int, UInt(32)]
    offers: Annotated[tuple[RelayedOffer, ...], Many(Struct(RelayedOffer), MAX_OFFERS)]
    renewals: Annotated[tuple[Renewal, ...], Many(Struct(Renewal), MAX_NAMED)] = ()


@dataclass(frozen=True, slots=True)
class AskFile(Question):
    """Part of a file of a model; the file's name is empty for the manifest itself."""

    NUMBER: ClassVar = 18
    model: Annotated[bytes, Bin(32)]
    name: Annotated[str, Text(64)]
    offset: Annotated[int, UInt()]
    limit: Annotated[int, UInt(32)]  # bytes wanted, at most MAX_PART


@dataclass(frozen=True, slots=True)
class FilePart(Message):
    NUMBER: ClassVar = 19
    call: Annotated[int, UInt(32)]
    size: Annotated[int, UInt()]  # bytes of the whole file
    data: Annotated[bytes, Blob(MAX_PART)]


@dataclass(frozen=True, slots=True)
class AskContacts(Question):
    """A question for the peer's other addresses. Answered by Contacts."""

    NUMBER: ClassVar = 20


@dataclass(frozen=True, slots=True)
class Contacts(Message):
    NUMBER: ClassVar = 21
    call: Annotated[int, UInt(32)]
    link: Annotated[tuple[str, ...], Many(Text(MAX_TEXT), MAX_ADDRESSES)]  # multiaddrs of the host that takes links
    directory: Annotated[tuple[str, ...], Many(Text(MAX_TEXT), MAX_ADDRESSES)]  # multiaddrs of the DHT host


@dataclass(frozen=True, slots=True)
class CallRefused(Message):
    NUMBER: ClassVar = 22
    call: Annotated[int, UInt(32)]
    code: Annotated[int, UInt(8)]
    text: Annotated[str, Text(MAX_TEXT)]
    retry_ms: Annotated[int, UInt(32)]  # 0: do not


def model_or_none(model: bytes) -> ModelId | None:
    """The model an AskOffers asks for; none is any."""
    return ModelId(model) if model else None


def reason_given(text: str, code: int) -> str:
    """The reason in a peer's words; where it has none, a sentence with its code."""
    return text.strip() or f"it gave no reason (code {Code.read(code).label})"


def cut_text(text: str) -> str:
    """As much of a text as a field of text takes."""
    return text.encode(errors="replace")[:MAX_TEXT].decode(errors="ignore")
