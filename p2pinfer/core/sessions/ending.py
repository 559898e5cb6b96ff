"""The end of a generation: one rule, held by the tail and again by the client (protocols/inference.md, "The end")."""

from collections.abc import Collection
from typing import Protocol

from p2pinfer.core.values.codes import Code


class TextReader(Protocol):
    """Turns ids to text and looks for stop strings in it; `models.detokenizer.Detokenizer` is one."""

    stop: str | None  # the stop string that was found

    @property
    def rest(self) -> str:
        """The text that is not settled yet, as it is if no id follows."""

    def add(self, id_: int) -> str:
        """Take the next id; return the text that is settled by it."""

    def finish(self) -> str:
        """The rest of the text, now that no id follows."""


class Ending:
    """Counts sampled ids and says after each whether it was the last.

    An end id goes before a stop string, a stop string before the length. piece: the text settled by the id added
    last; an end id has none of its own.
    """

    def __init__(self, end_ids: Collection[int], max_tokens: int, reader: TextReader) -> None:
        self.piece = ""
        self._end_ids = frozenset(end_ids)
        self._max_tokens = max_tokens
        self._reader = reader
        self._count = 0

    @property
    def rest(self) -> str:
        """The text of the ids so far that no piece has yet."""
        return self._reader.rest

    def add(self, id_: int) -> Code:
        """Return why the generation ends with this id; NONE if it goes on."""
        self._count += 1
        ended = id_ in self._end_ids
        self.piece = "" if ended else self._reader.add(id_)
        if not ended and self._reader.stop is not None:
            return Code.STOP
        if not ended and self._count < self._max_tokens:
            return Code.NONE
        self.piece += self._reader.finish()
        return Code.END if ended else Code.LENGTH
