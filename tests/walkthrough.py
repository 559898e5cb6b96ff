"""README as a list of steps: what a reader is told to type, on which machine, in which order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FIRST: Final = "first"  # the machine of a prompt that is `$` alone; `laptop$` is a second one
_BLOCK: Final = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT: Final = re.compile(r"(\w*)\$ (.+?)(?:\s+# .*)?")


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a console block, or one whole block of Python. shown: the output below it."""

    chapter: str
    machine: str
    text: str
    shown: tuple[str, ...] = ()
    is_python: bool = False

    @property
    def serves(self) -> bool:
        """It goes on until it is ended."""
        return self.text.startswith("p2pinfer node")


def steps_of(document: str) -> Iterator[Step]:
    """All steps of a Markdown file, in their order."""
    for part in document.split("\n## ")[1:]:
        chapter = part.partition("\n")[0]
        for language, block in _BLOCK.findall(part):
            if language == "python":
                yield Step(chapter, FIRST, block, is_python=True)
            else:
                yield from _commands(chapter, block)


def _commands(chapter: str, block: str) -> Iterator[Step]:
    command: tuple[str, str] | None = None
    shown: list[str] = []
    for line in block.splitlines():
        if prompt := _PROMPT.fullmatch(line):
            if command:
                yield Step(chapter, *command, tuple(shown))
            command, shown = (prompt[1] or FIRST, prompt[2]), []
        else:
            shown.append(line)
    if command:
        yield Step(chapter, *command, tuple(shown))
