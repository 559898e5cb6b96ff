"""A terminal for tables and bars, as `terminal.py` is for lines. It needs rich, which takes a while to import."""

from typing import Any, Final

from rich.console import Console
from rich.text import Text

from p2pinfer.cli.terminal import NobodyReads, words_for
from p2pinfer.cli.words import COLUMNS
from p2pinfer.core.values.shown import shown

MIN_BAR: Final = 40  # columns; a narrower terminal would wrap a bar, and it could not be drawn again in its place


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
        with words_for("standard error" if self.stderr else "standard output"):
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        raise NobodyReads("whoever read our output has left")

    @property
    def has_bars(self) -> bool:
        """A bar can be drawn again and again in its place."""
        return self.is_terminal and not self.is_dumb_terminal and self.width >= MIN_BAR
