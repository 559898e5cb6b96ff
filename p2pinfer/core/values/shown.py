"""Text of strangers, made safe to show: names, refusals and answers reach terminals and logs through here alone.

A terminal obeys what it is sent: an escape sequence in a model's name sets colours and titles, clears the screen or
types for its owner; a bidirectional override lets text read as what it is not. Programs get the text as it is.
"""

import re
from typing import Final

# C0 but tab and newline, DEL, C1, bidirectional embeddings, overrides and isolates, halves of characters
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

MAX_TEXT: Final = 240  # characters of what another program says
MAX_SHOWN: Final = 80  # characters of a value in a message
MAX_ITEMS: Final = 8  # of a list
MAX_BITS: Final = 128


def shown(text: str) -> str:
    """The text with each character that a terminal might obey spelt out, as in `\\x1b`; newline and tab stay."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def shown_line(text: str) -> str:
    """The same, on one line: what a stranger wrote cannot look like a line of ours."""
    return " ".join(shown(text).split("\n"))


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """The beginning of a text that may be of any length, as what a library says of a stranger's file."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def brief(value: object) -> str:
    """A stranger's value within a message: as Python writes it, and cut, however long it is."""
    if isinstance(value, list | tuple):
        items = [_brief_item(item) for item in value[:MAX_ITEMS]]
        more = [f"… {len(value)} in all"] if len(value) > MAX_ITEMS else []
        return f"[{', '.join([*items, *more])}]"
    return _brief_item(value)


def _brief_item(value: object) -> str:
    match value:
        case list() | tuple() | dict():
            return f"{type(value).__name__} of {len(value)}"
        case str():
            return cut(repr(value[: MAX_SHOWN + 1]), MAX_SHOWN)
        case int() if value.bit_length() > MAX_BITS:  # Python refuses to write numbers of thousands of digits
            return f"a number of {value.bit_length()} bits"
    return cut(repr(value), MAX_SHOWN)
