"""Text of strangers, made safe to show: names, refusals and answers reach terminals and logs through here alone.

A terminal obeys what it is sent: an escape sequence in a model's name sets colours and titles, clears the screen or
types for its owner; a bidirectional override lets text read as what it is not. Programs get the text as it is.
"""

import re
from typing import Final

# C0 but tab and newline, DEL, C1, bidirectional embeddings, overrides and isolates, halves of characters
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """The text with each character that a terminal might obey spelt out, as in `\\x1b`; newline and tab stay."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def shown_line(text: str) -> str:
    """The same, on one line: what a stranger wrote cannot look like a line of ours."""
    return " ".join(shown(text).split("\n"))
