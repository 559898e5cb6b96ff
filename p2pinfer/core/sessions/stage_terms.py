"""The terms of a session on a stage, and the part of each peer in it (protocols/inference.md, 3.1)."""

from dataclasses import dataclass
from enum import Flag, auto

from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.values.units import Codec, PeerKey, Roles, SessionId, Span


class Relation(Flag):
    """The part of a peer in this session; with two stages the successor is also the far end."""

    NOBODY = 0
    CLIENT = auto()
    PREDECESSOR = auto()
    SUCCESSOR = auto()
    FAR_END = auto()  # the tail for the head, the head for the tail


@dataclass(frozen=True, slots=True)
class StageTerms:
    """The terms on which a session on a stage was opened; `None` neighbours are absent."""

    session: SessionId
    epoch: int
    client: PeerKey
    predecessor: PeerKey | None
    successor: PeerKey | None
    far_end: PeerKey | None
    span: Span
    roles: Roles
    prompt: int  # P
    width: int  # hidden size
    vocabulary: int
    codec_in: Codec
    codec_out: Codec
    max_positions: int
    max_chunk: int
    sampling: SamplingRecord | None  # with the role tail

    def parts(self, peer: PeerKey) -> Relation:
        """Everything `peer` is in this session."""
        found = Relation.CLIENT if peer == self.client else Relation.NOBODY
        for key, part in (
            (self.predecessor, Relation.PREDECESSOR),
            (self.successor, Relation.SUCCESSOR),
            (self.far_end, Relation.FAR_END),
        ):
            if key == peer:
                found |= part
        return found

    @property
    def peers(self) -> tuple[PeerKey, ...]:
        """Everybody with a part, once each, in the order in which they are told of an end."""
        named = (self.client, self.predecessor, self.successor, self.far_end)
        return tuple(dict.fromkeys(peer for peer in named if peer is not None))
