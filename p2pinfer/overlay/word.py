"""On whose word a peer is dialled (protocols/wire.md, 6.1): where it came from, who pays for it, and who waits."""

from dataclasses import dataclass
from typing import Final

from p2pinfer.core.swarm.source import NOWHERE, Source, source_named


@dataclass(frozen=True, slots=True)
class Word:
    """Of somebody who gave the addresses of a peer.

    source:  where it came from; it decides which addresses may be dialled
    charged: whose dials are counted
    awaited: a session waits for the dial, or who settles one; it finds the part that is kept for these
    """

    source: Source
    charged: Source
    awaited: bool = True


CHECKED: Final = NOWHERE  # where addresses come from that were checked when they were heard: all may be dialled


def word_of(source: Source) -> Word:
    """Of a peer at `source`, for its session."""
    return Word(source, source)


def hearsay(told_by: str | None) -> Word:
    """Of addresses that we know.

    told_by: the network that they were heard from, "" for none, as for a file or a look-up; None for a session
    """
    return Word(CHECKED, NOWHERE) if told_by is None else Word(CHECKED, source_named(told_by), awaited=False)
