"""Notes by key, each with its time: of two about one key the later one counts, and of too many the latest are kept.

Pure: times are the caller's, in seconds of one clock.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Note(NamedTuple, Generic[V]):
    """A value, and when it was noted."""

    value: V
    at_s: float


class Notes(Generic[K, V]):
    """At most `most` notes.

    is_news: something was noted that is worth to be written down
    changes: how often anything changed
    """

    def __init__(self, most: int) -> None:
        self.is_news = False
        self.changes = 0
        self._most = most
        self._notes: dict[K, Note[V]] = {}  # the oldest first

    def __bool__(self) -> bool:
        return bool(self._notes)

    def __iter__(self) -> Iterator[tuple[K, Note[V]]]:
        return iter(self._notes.items())

    def get(self, key: K) -> Note[V] | None:
        """The note about this key."""
        return self._notes.get(key)

    def values(self) -> Iterator[V]:
        """Yield the value of each note."""
        return (note.value for note in self._notes.values())

    def put(self, key: K, value: V, now: float, *, is_news: bool = True) -> None:
        """Note something now."""
        self._notes.pop(key, None)
        self._notes[key] = Note(value, now)
        self.is_news = self.is_news or is_news
        self.changes += 1
        if len(self._notes) > self._most:
            del self._notes[next(iter(self._notes))]

    def drop(self, key: K) -> None:
        """Forget the note about this key, if there is one."""
        self._notes.pop(key, None)

    def age(self, slept_s: float) -> None:
        """The clock stood still for so long."""
        self._notes = {key: Note(note.value, note.at_s - slept_s) for key, note in self._notes.items()}
        self.changes += 1

    def take(self, others: Iterable[tuple[K, Note[V]]]) -> None:
        """Add what another process noted, or an earlier one."""
        for key, note in others:
            known = self._notes.get(key)
            if known is None or known.at_s < note.at_s:
                self._notes[key] = note
        latest = sorted(self._notes.items(), key=lambda item: item[1].at_s)
        self._notes = dict(latest[-self._most :])
        self.changes += 1
