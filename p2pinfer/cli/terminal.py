"""The only way from the commands to a terminal or a log: whatever a stranger wrote arrives there as plain text.

`say` writes lines, `Terminal` tables and bars. Standard streams may be closed, full, of another encoding or read by
nobody: what cannot be spelled is escaped, and what cannot be written ends the command with a sentence.
"""

import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from p2pinfer.cli.words import COLUMNS
from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.core.values.shown import shown

MIN_BAR: Final = 40  # columns; a narrower terminal would wrap a bar, and it could not be drawn again in its place
STANDARD: Final = ("stdin", "stdout", "stderr")  # in the order of their descriptors


class NobodyReads(P2pinferError):
    """The reader of our output has left."""


def say(text: str = "", *, err: bool = False, end: str = "\n", text_for_files: bool = False) -> None:
    """Write text to standard output, or to standard error.

    text_for_files: a file or another program gets the text as it is

    Raises NobodyReads, and P2pinferError where the disk behind it refuses.
    """
    stream = sys.stderr if err else sys.stdout
    with _words_for("standard error" if err else "standard output"):
        stream.write((text if text_for_files and not stream.isatty() else shown(text)) + end)
        stream.flush()


class Terminal(Console):
    """A terminal for tables and bars. No markup is read: text is text."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False)
        if not stderr:
            self.width = max(self.width, COLUMNS)  # a narrower one wraps the lines of a table; nothing is cut off

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Raises as `say` does."""
        with _words_for("standard error" if self.stderr else "standard output"):
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        raise NobodyReads("whoever read our output has left")

    @property
    def has_bars(self) -> bool:
        """A bar can be drawn again and again in its place."""
        return self.is_terminal and not self.is_dumb_terminal and self.width >= MIN_BAR


class LogHandler(logging.Handler):
    """Writes records to standard error, above a bar where one is drawn there."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(P2pinferError, ValueError):  # a log that nobody can read ends nothing
            say(self.format(record), err=True)


class _Formatter(logging.Formatter):
    """Every further line of a record is indented, so that no text in it looks like a record of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n  ")


def prepare() -> None:
    """Make the standard streams fit for any text and any end; called once, at the start of a command."""
    # A closed descriptor would be given to the next file opened: a journal, into which we would print
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < len(STANDARD):
        pass
    os.close(descriptor)
    for name in STANDARD:
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115 - as long as the process
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.excepthook = _tell_bug


def _tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    with suppress(P2pinferError, ValueError):
        say("".join(traceback.format_exception(kind, error, trace)), err=True, end="")


@contextmanager
def _words_for(where: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise NobodyReads("whoever read our output has left") from None
    except OSError as error:
        raise P2pinferError(f"cannot write to {where}: {error.strerror}") from None
