"""A turn: a stretch of work without a checkpoint. What it calls for is done once, at its end.

Frames that one turn sends to a peer leave in one write, and what came in one read is computed together. It happens in
the same task: waking another one for it takes as long as the work.
"""

from collections.abc import Callable


class Turn:
    """Of one network: entered wherever several things happen at once. Within another turn it is a part of that."""

    def __init__(self) -> None:
        self._depth = 0
        self._due: dict[Callable[[], None], None] = {}  # in the order they were first asked for

    def at_end(self, act: Callable[[], None]) -> None:
        """Call `act` when the turn ends, once; now, where there is no turn."""
        if self._depth:
            self._due[act] = None
        else:
            act()

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            while self._depth == 1 and self._due and error is None:
                act = next(iter(self._due))
                del self._due[act]
                act()
        finally:
            self._depth -= 1
