"""Ids in, text out, as they come (protocols/manifest.md, 4.3); no tokenizer, but a table of what ids stand for."""

from codecs import utf_8_decode
from collections.abc import Sequence
from typing import Protocol

from p2pinfer.core.values.errors import UsageError


class Spelt(Protocol):
    """The bytes that ids stand for; `Texts` knows them, and so does a table of them."""

    @property
    def drops_first_space(self) -> bool:
        """A text's first space stands for its beginning."""

    def bytes_of(self, id_: int) -> bytes:
        """The bytes that an id adds to the text."""

    def special_name(self, id_: int) -> str | None:
        """The name of a control token."""


class Detokenizer:
    """Ids in, text out, as far as the text is certain (manifest.md, 4.3).

    Held back are the bytes of a character that may still be completed, and what may be the beginning of a stop string.
    `stop` is the stop string found, whose place is the end of the text. Of several, the one whose last character
    comes first was found; of those that end together, the longest: so it does not matter how the ids cut the text.
    A stop string that is a control token's name is found where that token comes.

    begins: the text begins with the first id, and continues no other
    """

    def __init__(self, texts: Spelt, stops: Sequence[str] = (), *, begins: bool = False) -> None:
        if "" in stops:
            raise UsageError("an empty stop string would stop before the first word")
        self.stop: str | None = None
        self._texts = texts
        self._stops = tuple(stops)
        self._unfinished = b""  # of a character that may still be completed
        self._held = ""  # what may be the beginning of a stop string
        self._at_start = begins and texts.drops_first_space

    def add(self, id_: int) -> str:
        """The text that this id makes certain. After a stop string was found there is none."""
        if not self._stops:
            text = self._decode(self._texts.bytes_of(id_))  # nearly always
            return self._shown(text) if self._at_start else text
        name = self._texts.special_name(id_)
        if name in self._stops and self.stop is None:
            text = self._shown(self._take(self._decode(b"", final=True)))
            if self.stop is None:
                text, self._held, self.stop = text + self._shown(self._held), "", name
            return text
        return self._shown(self._take(self._decode(self._texts.bytes_of(id_))))

    @property
    def rest(self) -> str:
        """The text that is held back, as it would be shown if no id followed. No stop string is found in it."""
        if self.stop is not None or not (self._held or self._unfinished):
            return ""
        text = self._held + self._unfinished.decode(errors="replace")
        return text.removeprefix(" ") if self._at_start else text

    def finish(self) -> str:
        """The rest of the text, now that no id follows."""
        rest, self._held, self._unfinished = self.rest, "", b""
        return rest

    def _decode(self, data: bytes, *, final: bool = False) -> str:
        """The characters that these bytes complete; the codecs' own decoder does the same in more steps."""
        data = self._unfinished + data
        text, used = utf_8_decode(data, "replace", final)
        self._unfinished = data[used:]
        return text

    def _take(self, text: str) -> str:
        if self.stop is not None or not text:
            return ""
        text = self._held + text
        found = _first_stop(text, self._stops)
        if found is None:
            certain = len(text) - _longest_beginning(text, self._stops)
            self._held = text[certain:]
            return text[:certain]
        self.stop, self._held = found, ""
        return text[: text.index(found)]

    def _shown(self, text: str) -> str:
        """The text, without the space that stands for a beginning."""
        if text and self._at_start:
            text, self._at_start = text.removeprefix(" "), False
        return text


def _first_stop(text: str, stops: Sequence[str]) -> str | None:
    ends = {stop: text.find(stop) + len(stop) for stop in stops if stop in text}
    return min(ends, key=lambda stop: (ends[stop], -len(stop)), default=None)


def _longest_beginning(text: str, stops: Sequence[str]) -> int:
    """The length of the longest end of `text` that one of the stop strings begins with."""
    longest = max(map(len, stops), default=0)
    return next(
        (size for size in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-size:]) for s in stops)), 0
    )
