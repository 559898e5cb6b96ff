"""Amounts, times, keys and codes as people read them. Programs get integers and whole keys, with `--json`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import wrap
from typing import Final

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import NANOCREDITS_PER_CREDIT, Codec, Numerics, Roles

COLUMNS: Final = 80  # of a terminal as it comes; whole ids and names of peers fit it
SHORT_ID: Final = 12  # hexadecimal digits that tell ids apart in a table
SMALL: Final = 1_000_000  # nano-credits; below, a credit's many zeros would hide the number

REASONS: Final = {
    Code.NONE: "still running",
    Code.END: "the model ended its answer",
    Code.LENGTH: "the length asked for was reached",
    Code.STOP: "a stop string was found",
    Code.CANCELLED: "the client gave up",
    Code.DRAINED: "the stage left as it had announced",
    Code.LOST: "the link broke",
    Code.LEAVING: "the node stopped",
    Code.SILENT: "the client did not answer in time",
    Code.ENGINE: "the stage's engine failed",
    Code.UNPAID: "no signature came in time",
    Code.EXPIRED: "the contract's time was over",
    Code.OUTSTAYED: "the client had had room for long, and others waited",
    Code.SLOW: "the answer came too slowly, and others waited",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit for all amounts of a table, so that they compare at a glance; none is ever rounded."""

    name: str
    short: str

    def write(self, amount: int) -> str:
        """An amount of nano-credits, without the unit's name."""
        if self is NANO:
            return f"{amount:,}"
        whole, rest = divmod(amount, NANOCREDITS_PER_CREDIT)
        return f"{whole:,}.{rest:09d}"


NANO: Final = Unit("nano-credits", "ncr")
CREDIT: Final = Unit("credits", "credits")


def unit_for(amounts: Iterable[int]) -> Unit:
    """The unit in which the largest of these amounts is read best."""
    return CREDIT if max(amounts, default=0) >= SMALL else NANO


def amount_words(amount: int) -> str:
    """One amount of nano-credits, with its unit."""
    unit = unit_for([amount])
    return f"{unit.write(amount)} {unit.name}"


def time_words(time: int) -> str:
    """Unix seconds, for people."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # records may hold any number below 2^53
        return f"second {time}"


def period_words(since: int, until: int) -> str:
    """A period of Unix seconds; zero is the beginning."""
    return f"{time_words(since) if since else 'the beginning'} to {time_words(until)}"


def reason_words(number: int) -> str:
    """The reason that a contract's work ended, in words."""
    code = Code.read(number)
    return REASONS.get(code, f"{code.label} (code {number})")


def role_names(roles: Roles) -> list[str]:
    names = [role.name.lower() for role in (Roles.HEAD, Roles.TAIL) if role in roles and role.name]
    return names or ["middle"]


def numerics_name(number: int) -> str:
    """A class of a later version is its number."""
    return Numerics(number).label if number in {*Numerics} else str(number)


def codec_name(number: int) -> str:
    """A codec of a later version is its number."""
    return Codec(number).label if number in {*Codec} else str(number)


def lined(label: str, text: str, width: int) -> str:
    """A label of `width`, indented, and a text beside it, in as many lines as a narrow terminal needs."""
    first, rest = f"  {label:<{width}}", " " * (width + 2)
    lines = wrap(text, COLUMNS - len(rest), break_long_words=False, break_on_hyphens=False)
    return f"\n{rest}".join([f"{first}{lines[0]}", *lines[1:]]) if lines else first.rstrip()


def many(count: int, noun: str) -> str:
    """A count and its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
