"""Bars on the terminal that show how far something has come."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from p2pinfer.cli.screen import Terminal

Report = Callable[[str, int, int], None]  # what is done, how far, of how much


@contextmanager
def open_bars(transient: bool = False) -> Iterator[Report]:
    """A bar for each thing that is reported, on stderr where that is a terminal.

    transient: the bars are gone when the block ends
    """
    terminal = Terminal(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, disable=not terminal.has_bars, transient=transient) as bars:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield report
