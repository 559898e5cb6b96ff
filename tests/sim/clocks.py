"""The clock that jumps, where some of the work is done in threads and processes: it stands while they do it."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.scribe import Scribe


class Standing:
    """Lets the clock jump while nothing that it does not see is at work."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self._at_work = 0

    def during(self, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same work, while which the clock stands."""

        async def done(*args: Any, **options: Any) -> Any:
            self._at_work += 1
            self._clock.autojump_threshold = inf
            try:
                return await work(*args, **options)
            finally:
                self._at_work -= 1
                if not self._at_work:
                    self._clock.autojump_threshold = 0

        return done


@contextmanager
def clock_that_waits(clock: MockClock) -> Iterator[None]:
    """In the block, time passes for nobody while threads work, or a tokenizer's process."""
    standing = Standing(clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", standing.during(trio.to_thread.run_sync))
        for work in ("words", "encode", "encode_chat", "aclose"):
            patch.setattr(Scribe, work, standing.during(getattr(Scribe, work)))
        yield
