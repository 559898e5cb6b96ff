"""Names of control tokens inside chat messages: text, as whoever wrote it meant (protocols/manifest.md, 4.4).

A model's turns are told apart by control tokens, and a tokenizer reads their names wherever they stand. Text that
others wrote (a document, a web page) could so end a turn and forge another. Therefore the names inside messages are
hidden from the template behind characters of private use, and what the template wrote around them is encoded as
always; only a stretch of text between two control tokens that holds such a name is encoded once more, as plain text.
A name that the template puts together from pieces of messages is found by `origin` and hidden in what it wrote.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2pinfer.core.models.origin import altered, free_characters, mark
from p2pinfer.core.models.tokenizer import Tokenizer
from p2pinfer.core.values.errors import UsageError

Render = Callable[[Sequence[Mapping[str, Any]]], str]  # messages to a chat, by the model's template


@dataclass(frozen=True, slots=True)
class Hidden:
    """Names in a chat that are text, each with a character that stands for it.

    free: characters for more of them
    """

    names: dict[str, str]
    free: Iterator[str]

    def character(self, name: str) -> str:
        if name not in self.names:
            self.names[name] = next(self.free)
        return self.names[name]


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

    def encode(self, messages: Sequence[Mapping[str, Any]], render: Render, words: Iterable[str]) -> list[int]:
        """The ids of a chat in which no text of a message makes a control token.

        words: that the template looks for in messages

        Raises UsageError where the tokenizer has no other way to spell a name, where it cannot be told whether the
        template made it of messages, and as `render` does.
        """
        hidden = Hidden({}, free_characters(messages))
        messages = altered(messages, lambda text: self._hide(text, hidden), lambda key: self._hide(key, hidden))
        text = self._hide_joined(render(messages), messages, render, words, hidden)
        return self.encode_rendered(text, {character: name for name, character in hidden.names.items()})

    def encode_rendered(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """The ids of a rendered chat, in which characters hide names. Raises UsageError as `encode` does."""
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

    def name_in(self, text: str) -> str:
        """The first name of a control token in a text; empty where there is none."""
        return next((text[first:last] for first, last in self._places(text)), "")

    def _hide(self, text: str, hidden: Hidden) -> str:
        return _replaced(text, _characters(text, self._places(text), hidden))

    def _hide_joined(
        self, text: str, messages: Sequence[Mapping[str, Any]], render: Render, words: Iterable[str], hidden: Hidden
    ) -> str:
        """The rendered chat with a character in place of each name of which a part came from messages."""
        places = self._places(text)
        if not places:
            return text
        marked = mark(messages, words, self._names)
        try:
            rendered = render(marked.messages)
        except UsageError:  # of a template that asks messages for more than is kept of them
            rendered = ""
        if not marked.fits(text, rendered):
            self._refuse_joined(text, rendered)
            return text
        while joined := [place for place in places if marked.is_theirs(rendered[slice(*place)])]:
            characters = _characters(text, joined, hidden)
            text, rendered = _replaced(text, characters), _replaced(rendered, characters)
            places = self._places(text)
        return text

    def _refuse_joined(self, text: str, rendered: str) -> None:
        """Raise UsageError where the chat has more of a control token than the same with no name in its messages."""
        made, own = (Counter(one[first:last].strip() for first, last in self._places(one)) for one in (text, rendered))
        if names := sorted(made - own):
            raise UsageError(
                f"this model's chat template may make {', '.join(map(repr, names))} of pieces of the messages: leave "
                "them out"
            )

    def _places(self, text: str) -> list[tuple[int, int]]:
        """The places at which the tokenizer would read a name; it alone knows how it folds text before."""
        if self._description.get("normalizer") is None and not any(name in text for name in self._names):
            return []
        return [
            (first, last)
            for id_, first, last in self._tokenizer.encode_inside(text)
            if id_ in self._control or (id_ in self._ids and text[first:last].strip() == self._unknown)
        ]

    def _encode_stretch(self, text: str, ids: list[int], hidden: Mapping[str, str], at_start: bool) -> list[int]:
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


def _characters(text: str, places: Sequence[tuple[int, int]], hidden: Hidden) -> list[tuple[int, int, str]]:
    """The places of the names themselves, and the characters that hide them."""
    result = []
    for first, last in places:
        name = text[first:last].strip() or text[first:last]  # space around it that belongs to it is no name
        first = text.index(name, first)
        result.append((first, first + len(name), hidden.character(name)))
    return result


def _replaced(text: str, characters: Sequence[tuple[int, int, str]]) -> str:
    parts, end = [], 0
    for first, last, character in characters:
        parts += [text[end:first], character]
        end = last
    return "".join([*parts, text[end:]])


def _unknown(description: Mapping[str, Any]) -> str | None:
    model = description["model"]
    vocabulary = model.get("vocab")  # a list in a Unigram model alone, and no other kind is asked for its `unk_id`
    if isinstance(vocabulary, list) and isinstance(number := model.get("unk_id"), int):
        return str(vocabulary[number][0])
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
