"""Waiting for what is not there yet: a peer to ask, a node that serves the model, layers that nobody holds.

A request tries with what is known, then looks, and goes on looking until its time is over: at once when an offer came,
and now and then where none comes. What waiting does not mend fails as soon as the swarm was looked at once.
"""

import logging
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from math import inf
from time import thread_time
from typing import Final, TypeVar

import trio

from p2pinfer.core.values.errors import P2pinferError, Unreached
from p2pinfer.core.values.units import ModelId
from p2pinfer.overlay.directory import Directory

DEFAULT_WAIT_S: Final = 10.0
GRACE_S: Final = 0.5  # for others to say what they offer, once there is something to be had
REST_S: Final = 0.05  # at least, between one attempt and the next: news come in crowds
REST_PART: Final = 10  # and so many times the processor time of the attempt: anybody can announce a crowd of offers
MAX_REST_S: Final = 2.0  # but not longer
UNDER_WAY_S: Final = 1.0  # what is under way is there by then, as a rule, and nobody needs to hear of it
LOOK_AGAIN_S: Final = (0.25, 0.5, 1.0, *(2.0,) * 8)  # between one look and the next, and then
LOOK_LAST_S: Final = 8.0
REACH_AGAIN_S: Final = 1.0  # until nodes that could not be reached are tried again, unless news come before

T = TypeVar("T")
OnWait = Callable[[str], None]  # hears what is waited for, in words; without one, the log does

logger = logging.getLogger(__name__)


class NotYet(Exception):
    """A thing that is asked for is not there, and may come.

    error:      to be raised where it does not come in time
    missing:    what is waited for, in words
    patience_s: it is worth waiting so long at most, after a look
    until:      what is under way should be there by then, monotonic; it is waited for, whatever the patience
    """

    def __init__(self, error: P2pinferError, missing: str, patience_s: float = inf, until: float = -inf) -> None:
        super().__init__(str(error))
        self.error = error
        self.missing = missing
        self.patience_s = patience_s
        self.until = until


class Arrivals:
    """The patience of one request, from now on.

    wait_s:  seconds for all that it waits for; 0 looks once
    on_wait: hears what is waited for, whenever that changes
    ends:    when it is over, monotonic
    """

    def __init__(self, directory: Directory, wait_s: float = 0.0, on_wait: OnWait | None = None) -> None:
        self._directory = directory
        self._on_wait = on_wait
        self.ends = trio.current_time() + wait_s
        self._said = ""
        self._failure: Unreached | None = None  # why the last route came to nothing

    async def get(self, attempt: Callable[[], Awaitable[T]], model: ModelId | None = None) -> T:
        """Return what `attempt` does, as soon as it does not raise NotYet.

        model: of the offers that are looked for; None is all

        Raises what `attempt` raises, and the error of the last NotYet where time is over.
        """
        try:
            return await attempt()
        except NotYet:
            pass  # now it is worth to look
        found: list[T] = []
        failure: P2pinferError | None = None
        looked = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_looking, model, looked)
            try:
                found.append(await self._attempts(attempt, looked))
            except P2pinferError as error:
                failure = error  # raised below, and not in a group
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return found[0]

    async def rest(self, failure: Unreached) -> None:
        """After nodes could not be reached: wait for news, or a moment. Raises the failure where time is over."""
        self._failure = failure
        self.check(NotYet(failure, f"nodes that answer ({failure})"))
        with trio.move_on_at(min(self.ends, trio.current_time() + REACH_AGAIN_S)):
            await self._directory.news.coming.wait()

    def check(self, missing: NotYet) -> None:
        """Say what is waited for. Raises the error where time is over."""
        if trio.current_time() >= self.ends:
            raise missing.error from None
        self.say(missing.missing)

    async def _keep_looking(self, model: ModelId | None, looked: trio.Event) -> None:
        for pause_s in chain(LOOK_AGAIN_S, repeat(LOOK_LAST_S)):
            await self._directory.look(model, widely=looked.is_set())
            looked.set()
            self._directory.news.tell()
            await trio.sleep(pause_s)

    async def _attempts(self, attempt: Callable[[], Awaitable[T]], looked: trio.Event) -> T:
        began, settled = trio.current_time(), False
        under_way_s = inf  # since when something is
        while True:
            coming, used_s = self._directory.news.coming, thread_time()
            try:
                found = await attempt()
            except NotYet as missing:
                rest_s = min(max(REST_S, REST_PART * (thread_time() - used_s)), MAX_REST_S)
                ends = max(min(self.ends, began + missing.patience_s), missing.until) if looked.is_set() else inf
                now = trio.current_time()
                if now >= ends:
                    raise self._error(missing) from None
                under_way_s = min(under_way_s, now) if missing.until > now else inf
                said_s = now if under_way_s == inf else under_way_s + UNDER_WAY_S
                if looked.is_set() and now >= said_s:
                    self.say(missing.missing)
                with trio.move_on_at(min(ends, said_s) if now < said_s else ends):
                    await coming.wait()
                await trio.sleep(rest_s)
                continue
            if settled or looked.is_set():
                return found
            with trio.move_on_after(GRACE_S):
                await looked.wait()
            settled = True

    def _error(self, missing: NotYet) -> P2pinferError:
        """Tell of those who could not be reached and are on offer no more, rather than that nobody offers anything."""
        return self._failure if self._failure is not None and missing.patience_s == inf else missing.error

    def say(self, missing: str) -> None:
        """Tell whoever asked what is waited for, where that has changed."""
        if missing == self._said:
            return
        self._said = missing
        if self._on_wait is not None:
            self._on_wait(missing)
        else:
            logger.info("waiting for %s", missing)
