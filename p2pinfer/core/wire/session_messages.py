"""Messages of sessions, version 1: every one names its session (protocols/inference.md, 3).

`core/sessions/stage.py` and `core/sessions/generation.py` say which peer may send one, and when; the rest is as in
`messages.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from p2pinfer.core.records.sampling import MAX_SAMPLING
from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import ANSWERS, Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.fields import Bin, Blob, Many, Struct, Text, UInt
from p2pinfer.core.values.units import Codec, PeerKey, SessionId
from p2pinfer.core.wire.messages import MAX_ADDRESSES, MAX_BODY, MAX_RECORD, MAX_TEXT, Message

MAX_ROWS: Final = MAX_BODY - 1024
MAX_IDS: Final = 1 << 19  # ids in one Prompt
MAX_SAMPLED: Final = 64  # ids in one Sampled
MAX_PAGES: Final = 8192  # of a prompt, in `Open.prefix`
NEW: Final = 0  # the mode of an Open that begins a generation


@dataclass(frozen=True, slots=True)
class SessionMessage(Message):
    session: Annotated[SessionId, Bin(16)]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A stage next to this one: its key, and where it listens."""

    key: Annotated[PeerKey, Bin(32)]
    addresses: Annotated[tuple[str, ...], Many(Text(MAX_TEXT), MAX_ADDRESSES)]

    def __post_init__(self) -> None:
        fields.check(self)


@dataclass(frozen=True, slots=True)
class Open(SessionMessage):
    """The client asks a stage to take part in a generation (inference.md, 3.1)."""

    NUMBER: ClassVar = 32
    epoch: Annotated[int, UInt(32)]  # which of its generation's sessions it is; raised by the client alone
    contract: Annotated[bytes, Blob(MAX_RECORD)]
    signature: Annotated[bytes, Bin(64)]  # the client's, over the contract
    secret: Annotated[bytes, Bin(32)]  # salts the boundary trees; binds contracts of one generation
    sampling: Annotated[bytes, Blob(MAX_SAMPLING)]  # canonical sampling record; empty without the role tail
    # One neighbour or none: none before the head, none after the tail
    predecessor: Annotated[tuple[Neighbour, ...], Many(Struct(Neighbour), 1)]
    successor: Annotated[tuple[Neighbour, ...], Many(Struct(Neighbour), 1)]
    # The other end of the ring: the tail for the head, the head for the tail; none for others and for a solo stage
    far_end: Annotated[tuple[Neighbour, ...], Many(Struct(Neighbour), 1)]
    # Reserved for page reuse: one HMAC per 16 positions of the prompt; may be empty
    prefix: Annotated[tuple[bytes, ...], Many(Bin(16), MAX_PAGES)]
    mode: Annotated[int, UInt(8)] = NEW  # 1 continues an earlier session of the generation, 2 stands by for one
    ids: Annotated[bytes, Blob(4 * MAX_IDS)] = b""  # delivered so far, u32be each; for head and tail of a continuation
    ticket: Annotated[bytes, Bin(16)] = bytes(16)  # of the request: since when it waits, u64be ms; zeros: it does not

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if len(self.ids) % 4:
            raise ValueError(f"Open.ids: {len(self.ids)} bytes are no ids")


def check_mode(message: Open) -> None:
    """Hold an Open to what this version does, whatever its contract.

    Raises Refused: UNSUPPORTED, or BAD_TERMS for a new generation that claims a past.
    """
    if message.mode != NEW:
        raise Refused("this release continues no session that was begun elsewhere", Code.UNSUPPORTED)
    if message.epoch or message.ids:
        raise Refused("a new generation has epoch 0 and no ids", Code.BAD_TERMS)


@dataclass(frozen=True, slots=True)
class Accept(SessionMessage):
    """The stage countersigned the contract and is ready (inference.md, 3.2)."""

    NUMBER: ClassVar = 33
    epoch: Annotated[int, UInt(32)]
    signature: Annotated[bytes, Bin(64)]  # the node's, over the contract's bytes as they came
    held: Annotated[int, UInt(32)] = 0  # positions it holds already; 0 in a new generation


@dataclass(frozen=True, slots=True)
class SessionRefused(SessionMessage):
    NUMBER: ClassVar = 34
    epoch: Annotated[int, UInt(32)]
    code: Annotated[int, UInt(8)]
    text: Annotated[str, Text(MAX_TEXT)]
    retry_ms: Annotated[int, UInt(32)]  # 0: do not
    ticket: Annotated[bytes, Bin(16)] = bytes(16)  # the Open's: it has a place among those who wait; zeros: none
    place: Annotated[int, UInt(32)] = 0  # how many wait before it

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        _check_failure(self)


@dataclass(frozen=True, slots=True)
class Prompt(SessionMessage):
    """The prompt's ids, client to head."""

    NUMBER: ClassVar = 35
    epoch: Annotated[int, UInt(32)]
    ids: Annotated[bytes, Blob(4 * MAX_IDS)]  # u32be each

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if len(self.ids) % 4 or not self.ids:
            raise ValueError(f"Prompt.ids: {len(self.ids)} bytes are no ids")


@dataclass(frozen=True, slots=True)
class Forward(SessionMessage):
    """Rows of consecutive positions, stage to stage (inference.md, 3.3)."""

    NUMBER: ClassVar = 36
    epoch: Annotated[int, UInt(32)]
    round: Annotated[int, UInt(32)]  # raised by the head alone, on rollback
    position: Annotated[int, UInt(32)]  # of the first row
    count: Annotated[int, UInt(32)]
    computed: Annotated[int, UInt(32)]  # positions that the sender had computed with this step; nobody depends on it
    codec: Annotated[int, UInt(8)]
    rows: Annotated[bytes, Blob(MAX_ROWS)]  # contiguous per position, `row_bytes(codec, width)` each

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if not self.count or not self.rows or len(self.rows) % self.count or self.codec not in CODECS:
            raise ValueError(f"Forward: {len(self.rows)} bytes for {self.count} rows of codec {self.codec}")

    def split(self, budget: int) -> "Iterator[Forward]":
        """The same rows in messages of at most `budget` bytes of rows, or one row where that is more."""
        row = len(self.rows) // self.count
        step = max(1, budget // row)
        for first in range(0, self.count, step):
            count = min(step, self.count - first)
            rows = self.rows[first * row : (first + count) * row]
            yield Forward(
                self.session,
                self.epoch,
                self.round,
                self.position + first,
                count,
                self.computed,
                self.codec,
                rows,
            )


CODECS: Final = frozenset(codec.value for codec in Codec if codec is not Codec.IDS)


@dataclass(frozen=True, slots=True)
class Sampled(SessionMessage):
    """Ids the tail sampled, to the head and to the client; accepted drafts come first."""

    NUMBER: ClassVar = 37
    epoch: Annotated[int, UInt(32)]
    round: Annotated[int, UInt(32)]
    position: Annotated[int, UInt(32)]  # of the first id
    ids: Annotated[tuple[int, ...], Many(UInt(32), MAX_SAMPLED)]
    reason: Annotated[int, UInt(8)]  # NONE while it goes on, then END, LENGTH or STOP

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if not self.ids or (self.reason and self.reason not in ANSWERS):
            raise ValueError(f"Sampled: {len(self.ids)} ids, reason {self.reason}")


# Number 38 is kept for drafts, head to tail.


@dataclass(frozen=True, slots=True)
class Finish(SessionMessage):
    """The generation has ended; goes from the head through every stage."""

    NUMBER: ClassVar = 39
    epoch: Annotated[int, UInt(32)]
    committed: Annotated[int, UInt(32)]  # P + N - 1
    reason: Annotated[int, UInt(8)]  # END, LENGTH or STOP

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if self.reason not in ANSWERS:
            raise ValueError(f"Finish.reason: {self.reason} is no end of an answer")


@dataclass(frozen=True, slots=True)
class Credit(SessionMessage):
    """The receiver takes rows of positions below `limit`."""

    NUMBER: ClassVar = 40
    epoch: Annotated[int, UInt(32)]
    limit: Annotated[int, UInt(32)]
    first: Annotated[int, UInt(32)] = 0  # the first row the receiver needs; 0 in a new generation


@dataclass(frozen=True, slots=True)
class Propose(SessionMessage):
    """A receipt the node signed; the client signs the same bytes or says why not."""

    NUMBER: ClassVar = 41
    receipt: Annotated[bytes, Blob(MAX_RECORD)]
    signature: Annotated[bytes, Bin(64)]


@dataclass(frozen=True, slots=True)
class Signed(SessionMessage):
    """The client's signature on a receipt."""

    NUMBER: ClassVar = 42
    receipt: Annotated[bytes, Blob(MAX_RECORD)]
    signature: Annotated[bytes, Bin(64)]


@dataclass(frozen=True, slots=True)
class Stored(SessionMessage):
    """The complete receipt is durable at the node."""

    NUMBER: ClassVar = 43
    seq: Annotated[int, UInt(32)]


@dataclass(frozen=True, slots=True)
class Close(SessionMessage):
    """From the client: stop; it signs up to `committed`. From a stage: this session cannot go on."""

    NUMBER: ClassVar = 44
    epoch: Annotated[int, UInt(32)]
    code: Annotated[int, UInt(8)]  # never the end of an answer: that is what Sampled and Finish are for
    committed: Annotated[int, UInt(32)]  # 0 from a stage
    text: Annotated[str, Text(MAX_TEXT)]

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        _check_failure(self)


@dataclass(frozen=True, slots=True)
class Resume(SessionMessage):
    """A client that lost its link is back: the session may go on, and ids that it lacks be sent again."""

    NUMBER: ClassVar = 45
    epoch: Annotated[int, UInt(32)]
    delivered: Annotated[int, UInt(32)]  # ids it has

    def counted(self, prompt: int) -> int:
        """Positions that its ids prove computed: P + N - 1, or none before the first id."""
        return prompt + self.delivered - 1 if self.delivered else 0

    def gone(self) -> Close:
        """The answer where the session is not open, and never will be again."""
        return Close(self.session, self.epoch, Code.LOST, 0, "the session is not open here")


def _check_failure(message: SessionRefused | Close) -> None:
    if message.code == Code.NONE or message.code in ANSWERS:
        raise ValueError(f"{type(message).__name__}.code: {message.code} is no failure")


def pack_ids(ids: Iterable[int]) -> bytes:
    """Ids as they are written and hashed: u32be each."""
    return b"".join(id_.to_bytes(4, "big") for id_ in ids)


def unpack_ids(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))
