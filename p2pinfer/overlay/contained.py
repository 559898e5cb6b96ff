"""The one place that catches any failure: what handles a peer's bytes ends one thing by failing, never the node.

A peer's fault that somebody expects (RemoteProtocolError, LinkDead, Refused) is caught narrowly, where it can be
answered. Everything else that fails in such a task is our own bug, met by a peer's bytes. It is logged once with its
traceback, and what it belonged to ends: a link, a session, an answer. Tasks that serve no peer are not contained: a bug
there ends the node, loudly.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType

import trio

from p2pinfer.core.values.codes import Code

logger = logging.getLogger(__name__)


def end_nothing() -> None:
    """For what ends by itself when its block is left."""


class Contained:
    """A block whose failure is logged and goes no further; cancellations pass. It may be entered again.

    what: names in the log what ended, as in "the link to 1a2b3c4d"
    end:  ends it, in words of its own towards the peer (code `internal`); called after the log, and must not fail
    """

    __slots__ = ("_end", "_what")

    def __init__(self, what: str, end: Callable[[], None] = end_nothing) -> None:
        self._what = what
        self._end = end

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        failure, rest = _split(error)
        if failure is None:
            return False
        logger.error("%s ends, for a fault of ours: %s", self._what, failure, exc_info=failure)
        self._end()
        if rest is not None:
            raise rest
        return True


@dataclass(frozen=True, slots=True)
class LinkEnds:
    """The ends of a link.

    contained: by a fault of ours within it
    end:       at once
    close:     with a goodbye
    """

    contained: Contained
    end: Callable[[str, Code], None]
    close: Callable[[Code, str], None]


def _split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """A failure, and what has to go on beside it: tasks raise both in one group when they are cancelled meanwhile."""
    if isinstance(error, Exception):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        failures, rest = error.split(Exception)
        return (failures if isinstance(failures, Exception) else None), rest
    return None, error


@asynccontextmanager
async def outlasting(scope: trio.CancelScope, linger_s: float) -> AsyncIterator[None]:
    """Run the block in `scope`, which a cancellation from outside ends `linger_s` later, and no other.

    So last words can be said after a cancellation, and nobody waits for ever for a peer to take them.
    """
    scope.shield = True

    async def bound() -> None:
        try:
            await trio.sleep_forever()
        finally:
            scope.deadline = min(scope.deadline, trio.current_time() + linger_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bound)
        with scope:
            yield
        nursery.cancel_scope.cancel()
