"""A tokenizer.json, read by the tokenizers library: text to ids. Its failures are ModelErrors, panics included."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from tokenizers import Tokenizer as Library

from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief, cut


class Tokenizer:
    """One tokenizer; what its file says of truncation and padding is not obeyed.

    description: what `text`, its file, says
    plain:       no name of a control token is that token; all text is text

    Raises:
        ModelError: the file is no tokenizer.
    """

    def __init__(self, text: str, description: Mapping[str, Any], *, plain: bool = False) -> None:
        with _words_of_library():
            self._library = Library.from_str(text)
            self._library.no_truncation()
            self._library.no_padding()
            self._library.encode_special_tokens = plain
        self.description: Final = description

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with those that the tokenizer puts before every text."""
        with _words_of_library():
            ids: list[int] = self._library.encode(text).ids
        return ids

    def encode_inside(self, text: str) -> list[tuple[int, int, int]]:
        """The ids of a text that others go before; each with the place of its first character and of that after."""
        with _words_of_library():
            encoding = self._library.encode(text, add_special_tokens=False)
        return [(id_, first, last) for id_, (first, last) in zip(encoding.ids, encoding.offsets, strict=True)]

    def name(self, id_: int) -> str | None:
        """The name of an id; None for one it does not know."""
        name: str | None = self._library.id_to_token(id_)
        return name

    def id_of(self, name: str) -> int | None:
        """The id of a name; None for one it does not know."""
        id_: int | None = self._library.token_to_id(name)
        return id_

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max(self._library.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def read_tokenizer(data: bytes) -> Tokenizer:
    """The tokenizer of a tokenizer.json with these bytes. Raises ModelError."""
    try:
        text = data.decode()
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"tokenizer.json is no tokenizer: {error}") from None
    if not isinstance(description, dict):
        raise ModelError("tokenizer.json is no tokenizer: it is not a JSON object")
    tokenizer = Tokenizer(text, description)
    _check_added(tokenizer)
    return tokenizer


def _check_added(tokenizer: Tokenizer) -> None:
    """Raise ModelError for an added name whose id is not the file's: the library numbers some names anew.

    Its ids are those of prompts, and the file's are those that are control tokens, and end nothing, in texts and chats.
    """
    for item in tokenizer.description.get("added_tokens") or []:
        if (id_ := tokenizer.id_of(item["content"])) != item["id"]:
            theirs = "none" if id_ is None else f"id {id_}"
            raise ModelError(
                f"tokenizer.json is no tokenizer that works: it says that {brief(item['content'])} has id "
                f"{brief(item['id'])}, and the tokenizers library gives it {theirs}"
            )


@contextmanager
def _words_of_library() -> Iterator[None]:
    """The library has no class of errors of its own, and panics where it is wrong; a panic is no Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - see above
        raise ModelError(f"tokenizer.json is no tokenizer that works: {cut(str(error))}") from None
