"""Parts that offers and contracts share: layers, limits, roles and their bounds (protocols/offer.md, "Limits")."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from p2pinfer.core.values import fields
from p2pinfer.core.values.fields import UInt
from p2pinfer.core.values.units import Roles, Span

POSITION_BITS: Final = 32
CADENCE_PART: Final = 4  # a contract has a receipt at least as often as offered, and at most so many times as often
MAX_PROPOSED: Final = (
    256  # receipts, by the offer's cadence, that may wait for a client at once: it looks at them again
)
ALL_ROLES: Final = Roles.HEAD | Roles.TAIL


class SpanKind:
    """A Span, written as two integers."""

    def check(self, value: object) -> None:
        if type(value) is not Span or value.last >= 1 << POSITION_BITS:
            raise ValueError(f"{value!r:.60} is no span of layers")

    def pack(self, value: Any) -> object:
        return [value.first, value.last]

    def unpack(self, plain: object) -> object:
        return Span(*plain) if isinstance(plain, list) and len(plain) == 2 else plain


class RolesKind:
    """Roles, written as bits."""

    def check(self, value: object) -> None:
        if type(value) is not Roles or not 0 <= value <= ALL_ROLES:
            raise ValueError(f"{value!r:.60} are no roles")

    def pack(self, value: Any) -> object:
        return int(value)

    def unpack(self, plain: object) -> object:
        # Roles(-1) would be all of them
        return Roles(plain) if isinstance(plain, int) and plain in range(ALL_ROLES + 1) else plain


@dataclass(frozen=True, slots=True)
class Limits:
    """All in positions."""

    max_positions: Annotated[int, UInt(POSITION_BITS)]  # of one session
    window: Annotated[int, UInt(POSITION_BITS)]  # computed but not yet receipted
    cadence: Annotated[int, UInt(POSITION_BITS)]  # a receipt is proposed at every multiple
    max_draft: Annotated[int, UInt(POSITION_BITS)]
    max_chunk: Annotated[int, UInt(POSITION_BITS)]  # of a prompt, in one step

    def __post_init__(self) -> None:
        fields.check(self)
        if not (self.max_positions and self.cadence and self.max_chunk):
            raise ValueError("Limits: max_positions, cadence and max_chunk are at least 1")
        if self.window < self.least_window:
            raise ValueError(f"Limits.window: {self.window}, at least {self.least_window} needed")

    @property
    def least_window(self) -> int:
        """Below this, prefill would wait for the round trip of every signature."""
        return 2 * self.max_chunk + 2 * self.cadence

    def signed_ahead(self, prompt: int) -> int:
        """Positions of a prompt that must be signed before its first id, or a node would never reach its end.

        The least multiple of the cadence with which the window reaches the end; 0 where the window holds the prompt.
        """
        return max(0, -((self.window - prompt) // self.cadence)) * self.cadence

    def proposed(self, positions: int) -> int:
        """Receipts that may wait for the client of a session of so many positions at once."""
        return min(self.window, positions) // self.cadence

    def within(self, offered: "Limits") -> bool:
        """A node that offered those takes these; max_positions is another matter, with a code of its own."""
        return (
            self.window <= offered.window
            and self.cadence <= offered.cadence  # what no proposal covers yet is the node's risk
            and self.cadence * CADENCE_PART >= offered.cadence  # a signature each costs it time
            and self.max_draft <= offered.max_draft
            and self.max_chunk <= offered.max_chunk
        )
