"""The only way from the commands to a terminal or a log: whatever a stranger wrote arrives there as plain text.

`say` writes lines, `screen.py` tables and bars. Standard streams may be closed, full, of another encoding or read by
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
from typing import Final

from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.core.values.shown import shown

STANDARD: Final = ("stdin", "stdout", "stderr")  # in the order of their descriptors


class NobodyReads(P2pinferError):
    """The reader of our output has left."""


def say(text: str = "", *, err: bool = False, end: str = "\n", text_for_files: bool = False) -> None:
    """Write text to standard output, or to standard error.

    text_for_files: a file or another program gets the text as it is

    Raises NobodyReads, and P2pinferError where the disk behind it refuses.
    """
    stream = sys.stderr if err else sys.stdout
    with words_for("standard error" if err else "standard output"):
        stream.write((text if text_for_files and not stream.isatty() else shown(text)) + end)
        stream.flush()


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
def words_for(where: str) -> Iterator[None]:
    """Say in words what the stream said. Raises NobodyReads, and P2pinferError where the disk behind it refuses."""
    try:
        yield
    except BrokenPipeError:
        raise NobodyReads("whoever read our output has left") from None
    except OSError as error:
        raise P2pinferError(f"cannot write to {where}: {error.strerror}") from None
