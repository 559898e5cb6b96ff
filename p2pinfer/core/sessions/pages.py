"""The owners of the KV cache's pages, and how far each session has come: integers, no tensors.

Pages are reserved when a session opens, so that a step never fails for want of room. Consecutive pages are
preferred: attention reads those in place and gathers others.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import EngineError, RemoteProtocolError

PAGE: Final = 16  # positions


def pages_for(positions: int) -> int:
    """Pages that hold this many positions."""
    return -(-positions // PAGE)


class Pages:
    """A pool of `count` pages, each free or held by one or more owners."""

    def __init__(self, count: int) -> None:
        self._holders = [0] * count
        self._runs: list[tuple[int, int]] = [(0, count)] if count else []  # free [first, last), ascending

    @property
    def free(self) -> int:
        return sum(last - first for first, last in self._runs)

    def reserve(self, count: int) -> tuple[int, ...]:
        """Take `count` pages: from the smallest run that holds them all, else from the longest runs.

        Raises EngineError if fewer are free.
        """
        if count > self.free:
            raise EngineError(f"{count} pages of KV cache wanted, {self.free} of {len(self._holders)} are free")
        taken: list[int] = []
        while len(taken) < count:
            taken += self._take(count - len(taken))
        for page in taken:
            self._holders[page] = 1
        return tuple(taken)

    def share(self, pages: tuple[int, ...]) -> None:
        """Add a holder to pages that are held."""
        for page in pages:
            assert self._holders[page], f"page {page} is free"
            self._holders[page] += 1

    def release(self, pages: tuple[int, ...]) -> None:
        """Take a holder away; pages without one are free again."""
        for page in pages:
            assert self._holders[page], f"page {page} is free"
            self._holders[page] -= 1
            if not self._holders[page]:
                self._add(page)

    def _take(self, count: int) -> range:
        """Pages of one run, at most `count`."""
        enough = [run for run in self._runs if run[1] - run[0] >= count]
        first, last = min(enough or self._runs, key=lambda run: run[1] - run[0] if enough else run[0] - run[1])
        at = self._runs.index((first, last))
        end = min(last, first + count)
        self._runs[at : at + 1] = [(end, last)] if end < last else []
        return range(first, end)

    def _add(self, page: int) -> None:
        """Give one page back, joining it with free neighbours."""
        at = bisect_left(self._runs, (page, page))
        first, last = page, page + 1
        if at < len(self._runs) and self._runs[at][0] == last:
            last = self._runs.pop(at)[1]
        if at and self._runs[at - 1][1] == first:
            at -= 1
            first = self._runs.pop(at)[0]
        self._runs.insert(at, (first, last))


@dataclass(slots=True)
class Table:
    """The pages of one session, in the order of its positions, and how many positions are written."""

    pages: tuple[int, ...]
    held: int = 0
    _consecutive: int = field(init=False)  # pages from the first on that follow one another

    def __post_init__(self) -> None:
        pages = enumerate(self.pages)
        self._consecutive = next((at for at, page in pages if page != self.pages[0] + at), len(self.pages))

    @property
    def room(self) -> int:
        """Positions the reserved pages hold."""
        return len(self.pages) * PAGE

    def check(self, position: int, count: int) -> None:
        """Raises RemoteProtocolError (BAD_POSITION) where `count` positions from `position` on may not be written."""
        if position > self.held:
            message = f"position {position} comes after a gap: {self.held} positions are held"
            raise RemoteProtocolError(message, Code.BAD_POSITION)
        if position + count > self.room:
            message = f"positions up to {position + count} do not fit the {self.room} reserved"
            raise RemoteProtocolError(message, Code.BAD_POSITION)

    def write(self, position: int, count: int) -> None:
        """Note that `count` positions from `position` on are written; what lay at or beyond `position` is dead."""
        self.check(position, count)
        self.held = position + count

    def rows(self, first: int, last: int) -> list[int]:
        """Return the places of positions [first, last) in the pool, counted in positions."""
        return [self.pages[at // PAGE] * PAGE + at % PAGE for at in range(first, last)]

    def run(self, positions: int) -> int | None:
        """Return the place in the pool of the first `positions` positions, if they lie there in one piece."""
        return self.pages[0] * PAGE if 0 < pages_for(positions) <= self._consecutive else None
