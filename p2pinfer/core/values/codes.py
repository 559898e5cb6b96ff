"""Codes on the wire and in receipts (protocols/registry.toml, `codes`): why something was refused, closed or ended.

A code's name on paper is its name here in lower case with hyphens. Numbers are never used twice.
"""

from enum import IntEnum
from typing import Final


class Code(IntEnum):
    """The reason of an end.

    0-15 end a generation well, 16-63 are failures of a peer's bytes, 64-127 are refusals, 128 and above are losses.
    """

    NONE = 0
    END = 1  # the model's end id came last
    LENGTH = 2  # the length asked for was reached
    STOP = 3  # a stop string was found in the text of the generated ids
    CANCELLED = 4  # the client gave up; no answer
    DRAINED = 5  # the stage leaves as announced

    BAD_FRAME = 16  # a frame that is no frame: length, type, field
    BAD_RECORD = 17  # a signed record that is not canonical or out of range
    BAD_KEY = 18  # not canonical, or not of prime order
    BAD_SIGNATURE = 19
    BAD_STATE = 20  # a message that is not allowed now, or not from this peer
    BAD_POSITION = 21  # positions out of order, or past the limits
    OVER_CREDIT = 22  # more positions than granted
    RECEIPT_AHEAD = 23  # a proposal claims more work than the client counted
    RECEIPT_MISMATCH = 24  # usage, amount or roots differ from the other side's count
    RECEIPT_CONFLICT = 25  # the same number with another body
    BAD_VALUES = 26  # rows not of the contract's codec, values that are not finite, ids the model does not have
    BAD_VERSION = 27  # no common version

    UNKNOWN_MODEL = 64
    UNKNOWN_OFFER = 65  # not an offer of this process, or past its time
    UNKNOWN_SESSION = 66
    BUSY = 67  # no room now; try again after the time given
    WINDOW_FULL = 68  # the client's or the newcomers' share of unsigned work is taken
    TOO_LONG = 69  # more positions than the limit
    TOO_CHEAP = 70  # the contract's prices are below the offer's
    CLOCK_SKEW = 71  # wall clocks differ by more than 300 s
    BAD_TERMS = 72  # the contract does not fit the offer
    LAPSED = 73  # what the client left unsigned under earlier contracts takes the room
    UNREACHABLE = 74  # the stage cannot reach its successor
    NOT_FOUND = 75
    UNSUPPORTED = 76

    LOST = 128  # the link broke
    LEAVING = 129  # the peer stops
    DUPLICATE = 130  # another link to this peer stays
    IDLE = 131
    SILENT = 132  # the peer did not answer in time
    ENGINE = 133  # the stage's engine failed
    UNPAID = 134  # no receipt within the time for one
    INTERNAL = 135
    EXPIRED = 136  # the contract's time is over
    OUTSTAYED = 137  # others wait for the room, and the client had more than its share of it for long
    SLOW = 138  # others wait for the room, and the session got fewer positions than the least pace
    REDIAL = 139  # the peer wants to be dialled
    UNKNOWN = 255  # never sent: what a number of a later version is read as

    @classmethod
    def read(cls, number: int) -> "Code":
        """The code a peer sent; a number this version does not know is UNKNOWN."""
        return cls(number) if number in cls._value2member_map_ else cls.UNKNOWN

    @property
    def label(self) -> str:
        """The code as people read it: `bad-record`."""
        return self.name.lower().replace("_", "-")

    def __str__(self) -> str:
        return self.label


ANSWERS: Final = frozenset((Code.END, Code.LENGTH, Code.STOP))  # the reasons that make a generation an answer
BROKEN: Final = frozenset((Code.LOST, Code.SILENT, Code.DUPLICATE))  # of a link whose peer may be back in a moment
