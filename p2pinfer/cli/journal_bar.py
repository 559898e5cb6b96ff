"""A bar for a journal that was not closed well and is read through, where that takes longer than people wait gladly."""

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress

SLOW_S: Final = 1.0
WHAT: Final = "reading the journal"


class CheckBar:
    """Is told how far a journal is read, in whatever thread; it is gone when that is over."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._bars: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._bars is None and done < total and time.monotonic() > self._began_s + SLOW_S:
            self._bars = _open_bars()
        if self._bars is not None:
            self._bars.update(self._bars.task_ids[0], completed=done, total=total)
            if done == total:
                self._bars.stop()


def _open_bars() -> "Progress":
    from rich.progress import Progress  # few journals need it

    from p2pinfer.cli.screen import Terminal

    terminal = Terminal(stderr=True)
    bars = Progress(console=terminal, disable=not terminal.has_bars, transient=True)
    bars.add_task(WHAT)
    bars.start()
    return bars
