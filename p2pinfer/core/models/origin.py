"""Tells the parts of a rendered chat that its messages brought from those that the template wrote (manifest.md, 4.4).

A template may cut messages and put the pieces together as it likes, so where its text comes from cannot be read off it.
It is found out by rendering a second time, with other characters in the messages: where those stand, the text is a
message's. Words that the template itself looks for in messages stay as they are, or it would take another turning.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from p2pinfer.core.values.errors import UsageError

PRIVATE: Final = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))  # of private use: no text is written in them
_KEPT: Final = re.compile(r'[\s"\\\x00-\x1f]')  # what templates trim, and what JSON writes in another way


def free_characters(messages: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Characters of private use that stand in no message. Raises UsageError when there are no more."""
    taken = set(json.dumps(messages, ensure_ascii=False, default=str))
    yield from (chr(number) for number in chain(*PRIVATE) if chr(number) not in taken)
    raise UsageError("the messages hold too many different characters")


def altered(
    messages: Iterable[Mapping[str, Any]], change: Callable[[str], str], change_key: Callable[[str], str]
) -> list[dict[str, Any]]:
    """The messages with each text in them changed, and each key, what lies deeper too, but for the roles."""

    def changed(value: object) -> object:
        match value:
            case str():
                return change(value)
            case Mapping():
                return {change_key(key) if isinstance(key, str) else key: changed(item) for key, item in value.items()}
            case list() | tuple():
                return [changed(item) for item in value]
        return value

    return [
        {change_key(key): item if key == "role" else changed(item) for key, item in message.items()}
        for message in messages
    ]


@dataclass(frozen=True, slots=True)
class Marked:
    """Messages whose characters are told from a template's.

    messages: with a character of private use for each
    marks:    these characters
    """

    messages: list[dict[str, Any]]
    marks: frozenset[str]

    def fits(self, text: str, rendered: str) -> bool:
        """The rendered chat of these messages says of each character of `text`, the chat's, where it came from."""
        pairs = zip(text, rendered, strict=True)
        return len(text) == len(rendered) and all(one == other or other in self.marks for one, other in pairs)

    def is_theirs(self, rendered: str) -> bool:
        """Some of this part of the rendered chat of these messages came from them."""
        return not self.marks.isdisjoint(rendered)


def _overlap(word: str, name: str) -> bool:
    """Some text could hold both with a character in common."""
    ends = any(word.endswith(name[:size]) or name.endswith(word[:size]) for size in range(1, min(len(word), len(name))))
    return ends or word in name or name in word


def mark(messages: Sequence[Mapping[str, Any]], words: Iterable[str], names: Iterable[str]) -> Marked:
    """The messages, marked but for what has to stay as it is.

    words: that the template looks for; kept as keys, and inside of texts where they could be no part of a name
    names: of control tokens

    Raises UsageError for messages with more different characters than there are marks.
    """
    free = free_characters(messages)
    marks: dict[int, str] = {}
    words = {"role", "content", *words}
    names = tuple(names)
    inside = [word for word in words if word and not any(_overlap(word, name) for name in names)]
    kept = re.compile("|".join([*map(re.escape, sorted(inside, key=len, reverse=True)), _KEPT.pattern]))

    def marked(text: str) -> str:
        marks.update({ord(character): next(free) for character in set(text) if ord(character) not in marks})
        return text.translate(marks)

    def change(text: str) -> str:
        parts, end = [], 0
        for found in kept.finditer(text):
            parts += [marked(text[end : found.start()]), found[0]]
            end = found.end()
        return "".join([*parts, marked(text[end:])])

    result = altered(messages, change, lambda key: key if key in words else change(key))
    return Marked(result, frozenset(marks.values()))
