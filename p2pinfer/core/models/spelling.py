"""A tokenizer's spelling of bytes: each of its names stands for some (protocols/manifest.md, 4.2).

Two spellings are in use. *Byte level* (GPT-2 and after): every byte has a printable character of its own.
*Sentencepiece*: names are UTF-8 with U+2581 for the space, and `<0x0A>` for a byte that no name covers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

SPACE: Final = "\u2581"
_BYTE: Final = re.compile("<0x([0-9A-F]{2})>")


def byte_characters() -> dict[str, int]:
    """The byte that each character of the byte level spelling stands for.

    Printable bytes stand for themselves; the others follow from U+0100 on, in their order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


# Characters of the spelling to those that Latin-1 writes as their byte; what else it could write to what it cannot
_LATIN_1: Final = dict.fromkeys(range(0x100), SPACE) | {
    ord(character): chr(byte) for character, byte in byte_characters().items()
}


@dataclass(frozen=True, slots=True)
class Spelling:
    """One of the two, as a tokenizer uses it."""

    byte_level: bool
    drops_first_space: bool  # a text's first space stands for its beginning

    def read(self, name: str) -> bytes:
        """The bytes that a name stands for."""
        if self.byte_level:
            try:
                return name.translate(_LATIN_1).encode("latin-1")  # a table of ids asks for each name that there is
            except UnicodeEncodeError:
                return name.encode()
        if byte := _BYTE.fullmatch(name):
            return bytes.fromhex(byte[1])
        return name.replace(SPACE, " ").encode()


def spelling_of(decoder: object) -> Spelling | None:
    """The spelling that a tokenizer's `decoder` undoes; None if it is neither of the two."""
    steps = {str(step.get("type")): step for step in _steps(decoder)}
    if "ByteLevel" in steps:
        return Spelling(byte_level=True, drops_first_space=False)
    if "Metaspace" in steps:
        return Spelling(byte_level=False, drops_first_space=steps["Metaspace"].get("prepend_scheme") != "never")
    if "Replace" in steps and "ByteFallback" in steps:
        return Spelling(byte_level=False, drops_first_space="Strip" in steps)
    return None


def _steps(decoder: object) -> Iterator[Mapping[str, object]]:
    if not isinstance(decoder, Mapping):
        return
    parts = decoder.get("decoders")
    if isinstance(parts, list):
        for part in parts:
            yield from _steps(part)
    else:
        yield decoder
