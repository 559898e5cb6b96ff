"""Ids, spans and money: the small values every other part speaks of (protocols/README.md, "Words")."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, NewType

PeerKey = NewType("PeerKey", bytes)  # 32 bytes: the Ed25519 public key that is a peer
OwnerKey = NewType("OwnerKey", bytes)  # 32 bytes: the Ed25519 public key that is paid
ModelId = NewType("ModelId", bytes)  # 32 bytes: SHA-256 of the canonical manifest
RecordId = NewType("RecordId", bytes)  # 32 bytes: SHA-256 of domain and body
SessionId = NewType("SessionId", bytes)  # 16 random bytes, chosen by the client
Nanocredits = NewType("Nanocredits", int)

NANOCREDITS_PER_CREDIT: Final = 1_000_000_000
PRICE_UNIT: Final = 1_000_000  # a price is in nano-credits per this many units of usage


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Layers `[first, last)`."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last:
            raise ValueError(f"layers {self.first}:{self.last} are no span")

    def __len__(self) -> int:
        return self.last - self.first

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"

    def covers(self, other: "Span") -> bool:
        return self.first <= other.first and other.last <= self.last

    def meets(self, other: "Span") -> bool:
        """They have a layer in common."""
        return self.first < other.last and other.first < self.last


class Roles(IntFlag):
    """The tasks of a stage beside its layers."""

    MIDDLE = 0
    HEAD = 1  # embeds ids
    TAIL = 2  # final norm, output head, sampler


ROLES: Final = {  # by what a stage has: the first layer, the last one
    (False, False): Roles.MIDDLE,
    (True, False): Roles.HEAD,
    (False, True): Roles.TAIL,
    (True, True): Roles.HEAD | Roles.TAIL,
}


def roles_of(span: Span, layers: int) -> Roles:
    """The roles that a stage of this span has, in a model of so many layers."""
    return ROLES[span.first == 0, span.last == layers]


class Numerics(IntEnum):
    """Numerics classes of engine results (protocols/registry.toml, `numerics`)."""

    F32_1 = 1  # float32 throughout; a tolerance class
    BF16_1 = 2  # bfloat16 weights and activations; a tolerance class
    I8G32_1 = 3  # int8 weights and activations in groups of 32; exact: the same bits on every machine
    I8G32K8_1 = 5  # as I8G32_1, with the KV cache in int8; exact

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


class Codec(IntEnum):
    """A codec of rows: it writes one position's row on the wire (protocols/inference.md, "Codecs")."""

    IDS = 0  # one u32be id
    F32 = 1
    BF16 = 2
    Q8O4 = 3  # int8 in groups of 64 with f16 scales, and the 4 largest values in f16

    @property
    def label(self) -> str:
        return self.name.lower()

    @property
    def bit(self) -> int:
        """This codec in an offer's set of codecs."""
        return 1 << self


Q8O4_GROUP: Final = 64
Q8O4_OUTLIERS: Final = 4


def row_bytes(codec: Codec, width: int) -> int:
    """Bytes of one position on the wire, for hidden size `width`."""
    match codec:
        case Codec.IDS:
            return 4
        case Codec.F32:
            return 4 * width
        case Codec.BF16:
            return 2 * width
        case Codec.Q8O4:
            groups = -(-width // Q8O4_GROUP)
            return width + 2 * groups + 4 * Q8O4_OUTLIERS
