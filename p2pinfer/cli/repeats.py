"""A log that strangers cannot fill: lines of one kind are said a few times a minute, and then counted.

What a node says of a refusal, a session or a bad record is said as often as somebody causes it, and strangers may do so
at will. So the bound lies where the log is written, and holds for every line: those of failures once a minute.
"""

import logging
from dataclasses import dataclass
from typing import Final

PERIOD_S: Final = 60.0
NEWS: Final = 60  # lines of one kind in a period that tell of no failure; sessions are what an owner looks for

Kind = tuple[object, ...]


@dataclass(slots=True)
class _Told:
    """Lines of one kind since a period began. unsaid: those that were only counted"""

    since_s: float
    said: int = 0
    unsaid: int = 0


class Repeats(logging.Filter):
    """Lets the first lines of a kind pass in each period; the first of a later one says how many did not."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[Kind, _Told] = {}  # kinds are texts of ours and places in our code: few

    def filter(self, record: logging.LogRecord) -> bool:
        now = record.created
        told = self._told.setdefault(_kind(record), _Told(now))
        if not told.since_s <= now < told.since_s + PERIOD_S:  # over, or the clock was set back
            if told.unsaid:
                record.msg, record.args = f"{record.getMessage()} ({told.unsaid:,} more such lines were left out)", None
            told.since_s, told.said, told.unsaid = now, 0, 0
        if told.said >= (NEWS if record.levelno < logging.WARNING else 1):
            told.unsaid += 1
            return False
        told.said += 1
        return True


def _kind(record: logging.LogRecord) -> Kind:
    """The line without its words: strangers choose those. Faults of ours differ by where they are."""
    failure = record.exc_info[1] if record.exc_info else None
    return record.name, record.levelno, record.msg, type(failure), _place(failure)


def _place(failure: BaseException | None) -> tuple[str, int] | None:
    trace = failure.__traceback__ if failure else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace is not None else None
