"""The deadlines of a session in which nothing moves (protocols/inference.md, 4.1 and 4.4; receipts.md, 5).

It ends when somebody keeps it waiting, and when its contract does. While its client is away the time stands still, and
is counted for the client's return instead. After the end its final receipt is waited for.
"""

from collections.abc import Callable
from math import inf
from typing import Final

import trio

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.contract import EXPIRY_S
from p2pinfer.core.room.room import POSITION_S
from p2pinfer.core.sessions.stage import SessionState, StageSession
from p2pinfer.core.sessions.suspension import Suspension
from p2pinfer.core.values.codes import ANSWERS, Code

UNPAID_S: Final = 45.0  # with the window full, for a signature; its client may be away from another stage for RETURN_S
IDLE_S: Final = 60.0  # with nothing to compute, for rows or ids
FINAL_S: Final = 10.0  # after the end, for the final receipt's signature; later it is settled at next contact

Why = tuple[Code, str]


class SessionDeadlines:
    """Of one session, in seconds of trio's clock. clock: the time of day, by which its contract ends"""

    def __init__(self, stage: StageSession, account: StageAccount, clock: Callable[[], float]) -> None:
        self._stage = stage
        self._account = account
        self._clock = clock
        self._suspension = Suspension()
        self._moved_s = trio.current_time()  # when something moved last
        self._used_s = self._moved_s  # until when it was in use
        self._due_s = inf  # when something must have moved
        self._ends_s = inf  # EXPIRY_S before the contract does
        self._final_by = inf  # for the final receipt, once the session has ended
        self._scope = trio.CancelScope()  # of the wait, which ends before `_due_s`: to move it each time costs more
        self._wakes_s = inf  # when that wait ends

    # While it runs

    @property
    def unused_s(self) -> float:
        """Since it was in use."""
        return trio.current_time() - self._used_s

    @property
    def still_s(self) -> float:
        """Since something moved."""
        return trio.current_time() - self._moved_s

    def move(self, computed: int) -> None:
        """Something moved; so many positions were computed."""
        self._moved_s = now = trio.current_time()
        self._used_s = min(now, self._used_s + POSITION_S * computed)
        self._renew()

    async def wait_end(self, ended: trio.Event) -> Why | None:
        """Wait until it has ended; or until it has to, and return why."""
        self._renew()
        while self._stage.state is SessionState.RUNNING:
            await self._wait(ended, min(self._due_s, self._read_clock()))
            if self._stage.state is SessionState.RUNNING and (why := self._overdue()) is not None:
                return why
        return None

    def _overdue(self) -> Why | None:
        now = trio.current_time()
        if now >= self._ends_s:
            return Code.EXPIRED, "the contract's time is over"
        if now < self._due_s:
            return None  # it moved meanwhile
        if self._stage.is_suspended:
            return Code.LOST, "its client does not come back"
        if self._stage.ready(self._account.limit):  # it waits for our own engine, and that is nobody's fault
            self._due_s = now + IDLE_S
            return None
        if self._is_starved:
            return Code.UNPAID, f"no receipt was signed for {UNPAID_S:.0f} s with the window full"
        return Code.IDLE, f"nothing came for {IDLE_S:.0f} s"

    # While the client is away

    @property
    def awaits_client(self) -> bool:
        """Its link broke, and it has not come back since."""
        return self._suspension.is_on

    def suspend(self, *, hasten: bool) -> bool:
        """The client's link broke. hasten: it has another one. False where it was away for too long before."""
        self._suspension.begin(trio.current_time())
        if hasten:
            self._suspension.hasten(trio.current_time())
        self._renew()
        return self._suspension.ends > trio.current_time()

    def hasten(self) -> None:
        """The client has a link again: it says Resume on it, or has given the session up."""
        self._suspension.hasten(trio.current_time())
        self._renew()

    def go_on(self) -> None:
        """The client is back: all else is due as much later as it was away."""
        now = trio.current_time()
        more_s = self._suspension.end(now)
        self._moved_s += more_s
        self._used_s = min(now, self._used_s + more_s)
        self._final_by += more_s
        self._renew()

    # After the end

    async def wait_settled(self, settled: trio.Event) -> None:
        """Wait for the final receipt, from a client that is away until it could be back, or the contract ends."""
        self._final_by = least_s = trio.current_time() + FINAL_S
        self._renew()
        while not settled.is_set():
            until_s = min(self._due_s, max(least_s, self._read_clock() + EXPIRY_S))
            if until_s <= trio.current_time():
                return
            await self._wait(settled, until_s)

    # The wait

    async def _wait(self, event: trio.Event, until_s: float) -> None:
        """Wait for it until then, or until `_renew` finds that something is due before; and never for long."""
        self._wakes_s = min(until_s, trio.current_time() + EXPIRY_S / 2)  # for the wall clock may have jumped
        with trio.move_on_at(self._wakes_s) as self._scope:
            await event.wait()

    def _read_clock(self) -> float:
        """Return when the session has to end for its contract; anew and often.

        The wall clock may jump, and the other one stands still while the machine sleeps: the earliest end counts.
        """
        left_s = self._account.contract.record.expires - EXPIRY_S - self._clock()
        self._ends_s = min(self._ends_s, trio.current_time() + left_s)
        return self._ends_s

    def _renew(self) -> None:
        self._due_s = self._due()
        if self._due_s < self._wakes_s:
            self._wakes_s = self._scope.deadline = self._due_s

    def _due(self) -> float:
        stage = self._stage
        if stage.is_suspended and stage.reason in (Code.NONE, *ANSWERS):
            return self._suspension.ends
        if stage.state is SessionState.ENDED:
            return self._final_by
        return self._moved_s + (UNPAID_S if self._is_starved else IDLE_S)

    @property
    def _is_starved(self) -> bool:
        """True while positions that could be computed wait for a signature."""
        computed = self._stage.computed
        return self._stage.received > computed and self._account.limit <= computed
