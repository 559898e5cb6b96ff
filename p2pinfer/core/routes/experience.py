"""A client's experience with nodes and their owners: which failed, were late or slow, and how far they are.

In one process it is known by the monotonic clock; to outlive it, it is written by the wall clock, which may be wrong at
either time. A time that is still to come is taken for that of our start: nothing counts for longer than it would have.
Pure: both clocks are arguments, in seconds.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from p2pinfer.core.routes.failures import Failures
from p2pinfer.core.routes.measures import Measures
from p2pinfer.core.values.notes import Note, Notes

KEEP_S: Final = 3_600  # by then all of it has faded

Kept = Mapping[str, Mapping[bytes, Note[Any]]]  # by the name of its kind and its key; with Unix times


class Experience:
    """Failures and measures of one client."""

    def __init__(self) -> None:
        self.failures = Failures()
        self.measures = Measures()

    @property
    def is_news(self) -> bool:
        """Something was noted that is worth to be written down, and has not been kept since."""
        return any(notes.is_news for _, notes in self._kinds())

    def take(self, kept: Kept, began: float, now: float, clock: int) -> None:
        """Add what an earlier process kept, or another one. began: when this one did; clock: Unix time at `now`."""
        for name, notes in self._kinds():
            found = ((key, _dated(note, began, now, clock)) for key, note in kept.get(name, {}).items())
            notes.take((key, note) for key, note in found if note.at_s > now - KEEP_S)

    def keep(self, now: float, clock: int) -> Kept:
        """Return all that is worth keeping; from here on it is no news. clock: Unix time at `now`."""
        kept: dict[str, Mapping[bytes, Note[Any]]] = {}
        for name, notes in self._kinds():
            recent = {key: note for key, note in notes if note.at_s > now - KEEP_S}
            kept[name] = {key: Note(note.value, max(0, int(note.at_s - now + clock))) for key, note in recent.items()}
            notes.is_news = False
        return kept

    def age(self, slept_s: float) -> None:
        """The monotonic clock stood still for so long, as the machine slept."""
        for _, notes in self._kinds():
            notes.age(slept_s)

    def _kinds(self) -> Iterator[tuple[str, Notes[Any, Any]]]:
        yield "failures", self.failures.counts
        yield "lags", self.measures.lags
        yield "round_trips", self.measures.round_trips_s
        yield "rates", self.measures.rates


def _dated(note: Note[Any], began: float, now: float, clock: int) -> Note[Any]:
    """By our monotonic clock."""
    return Note(note.value, began if note.at_s > clock else note.at_s - clock + now)
