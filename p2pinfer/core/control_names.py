"""Names of control tokens inside chat messages: text, as whoever wrote it meant (protocols/manifest.md, 4.4).

A model's turns are told apart by control tokens, and a tokenizer reads their names wherever they stand. Text that
others wrote (a document, a web page) could so end a turn and forge another. Therefore the names inside messages are
hidden from the template behind characters of private use, and what the template wrote around them is encoded as
always; only a stretch of text between two control tokens that holds such a name is encoded once more, as plain text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final

from p2pinfer.core.errors import UsageError
from p2pinfer.core.tokenizer import Tokenizer

PRIVATE: Final = 0xF0000  # the first character of a plane in which no text is written

Hidden = Mapping[str, str]  # the character that stands for a name, and the name


class ControlNames:
    """A tokenizer's names of control tokens, which are those that `added_tokens` marks `special`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._description = description = tokenizer.description
        names = {item["content"]: item["id"] for item in description.get("added_tokens") or [] if item["special"]}
        self._unknown = _unknown(description)  # a name, but mostly what stands for text that nothing else spells
        self._names = frozenset(names)
        self._ids = frozenset(names.values())
        self._control = frozenset(id_ for name, id_ in names.items() if name != self._unknown)
        self._plain: dict[bool, Tokenizer] = {}

    def hide(self, messages: Sequence[Mapping[str, object]]) -> tuple[list[dict[str, Any]], Hidden]:
        """The messages with a character in place of each name, whatever field it stands in, and what they hide."""
        taken = set(json.dumps(messages, ensure_ascii=False, default=str))
        free = (chr(number) for number in count(PRIVATE) if chr(number) not in taken)
        found: dict[str, str] = {}

        def hidden(value: object) -> object:
            match value:
                case str():
                    return self._hide(value, found, free)
                case Mapping():
                    return {key: hidden(item) for key, item in value.items()}
                case list() | tuple():
                    return [hidden(item) for item in value]
            return value

        result = [{key: hidden(value) for key, value in message.items()} for message in messages]
        return result, {character: name for name, character in found.items()}

    def encode(self, text: str, hidden: Hidden) -> list[int]:
        """The ids of a rendered chat, in which characters hide names.

        Raises UsageError where the tokenizer has no other way to spell a name.
        """
        ids: list[int] = []
        stretch: list[int] = []
        start = 0
        for id_, first, last in self._tokenizer.encode_inside(text):
            if id_ in self._control:
                ids += [*self._encode_stretch(text[start:first], stretch, hidden, start == 0), id_]
                stretch, start = [], last
            else:
                stretch.append(id_)
        return ids + self._encode_stretch(text[start:], stretch, hidden, start == 0)

    def _hide(self, text: str, found: dict[str, str], free: Iterator[str]) -> str:
        parts, end = [], 0
        for first, last in self._places(text):
            name = text[first:last].strip() or text[first:last]  # space around it that belongs to it is no name
            if name not in found:
                found[name] = next(free)
            first = text.index(name, first)
            parts += [text[end:first], found[name]]
            end = first + len(name)
        return "".join([*parts, text[end:]])

    def _places(self, text: str) -> list[tuple[int, int]]:
        """The places at which the tokenizer would read a name; it alone knows how it folds text before."""
        if self._description.get("normalizer") is None and not any(name in text for name in self._names):
            return []
        return [
            (first, last)
            for id_, first, last in self._tokenizer.encode_inside(text)
            if id_ in self._control or (id_ in self._ids and text[first:last].strip() == self._unknown)
        ]

    def _encode_stretch(self, text: str, ids: list[int], hidden: Hidden, at_start: bool) -> list[int]:
        """The ids of a text without control tokens; `ids` are those it has with its names hidden."""
        inside = [character for character in hidden if character in text]
        if not inside:
            return ids
        for character in inside:
            text = text.replace(character, hidden[character])
        plain = [id_ for id_, _, _ in self._plain_tokenizer(at_start).encode_inside(text)]
        if not self._control.isdisjoint(plain):
            names = ", ".join(repr(hidden[character]) for character in inside)
            raise UsageError(f"this model's tokenizer cannot spell {names} as text: leave it out of the messages")
        return plain

    def _plain_tokenizer(self, at_start: bool) -> Tokenizer:
        """The tokenizer, but for that it knows no control token by name."""
        if at_start not in self._plain:
            description = {**self._description, "model": _without(self._description["model"], self._names)}
            if not at_start:  # a space that stands for the beginning of a text does not stand for this one's
                for part in ("normalizer", "pre_tokenizer"):
                    description[part] = _continuing(description.get(part))
            self._plain[at_start] = Tokenizer(json.dumps(description), description, plain=True)
        return self._plain[at_start]


def _unknown(description: Mapping[str, Any]) -> str | None:
    model = description["model"]
    if isinstance(number := model.get("unk_id"), int):
        return str(model["vocab"][number][0])
    name = model.get("unk_token")
    return name if isinstance(name, str) else None


def _without(model: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The model of a tokenizer, but no merge and no score leads to one of the names."""
    changed = dict(model)
    if "merges" in model:
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
        changed["merges"] = [pair for pair in pairs if "".join(pair) not in names]
    if isinstance(model.get("vocab"), list):
        worst = min(score for _, score in model["vocab"]) - 1000.0
        changed["vocab"] = [[name, worst if name in names else score] for name, score in model["vocab"]]
    return changed


def _continuing(part: Any) -> Any:
    """A step of the tokenizer as it works on what is not the beginning of a text."""
    if isinstance(part, dict):
        changed = {key: _continuing(value) for key, value in part.items()}
        return changed | {"prepend_scheme": "never"} if part.get("prepend_scheme") == "first" else changed
    return [_continuing(item) for item in part] if isinstance(part, list) else part
