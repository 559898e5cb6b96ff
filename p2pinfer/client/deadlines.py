"""Deadlines of a generation under way: it ends where it keeps its client waiting for too long (inference.md, INF-36 and
INF-42), and where a stage proposes to be paid for ids that do not come (receipts.md, 5.3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import trio

from p2pinfer.client.books import Books
from p2pinfer.client.patience import OPEN_S, STALL_S, Patience
from p2pinfer.client.resumption import Returning
from p2pinfer.core.money.client_account import AHEAD_S, Refuse
from p2pinfer.core.sessions.generation import Generation
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.pipe import hear_nothing


@dataclass(frozen=True, slots=True)
class Endings:
    """The ends of a generation.

    give_up: where nothing came for so many seconds
    fail:    with these words
    refuse:  takes what is not signed, which ends it, too
    """

    give_up: Callable[[float], None] = hear_nothing
    fail: Callable[[str, Code], None] = hear_nothing
    refuse: Callable[[Sequence[Refuse]], None] = hear_nothing


class Deadlines:
    """Of one generation. gave_up_s: when it ended for want of more ids, after some had come"""

    def __init__(
        self,
        generation: Generation,
        books: Books,
        patience: Patience,
        returning: Returning,
        link_to: Callable[[PeerKey], Link | None],
        endings: Endings,
    ) -> None:
        self.gave_up_s: float | None = None
        self._generation = generation
        self._books = books
        self._patience = patience
        self._returning = returning
        self._link_to = link_to
        self._endings = endings
        self._watching = trio.CancelScope()  # ends by the deadlines of before: moving its own with each id costs more

    async def watch(self, over: trio.Event) -> None:
        """Return when the generation is over; end it when it keeps its client waiting for too long."""
        while not self._generation.over:
            with trio.move_on_at(min(self._patience.ends, self._books.late_at)) as self._watching:
                await over.wait()
            self.refuse_late()
            now = trio.current_time()
            if self._generation.over or now < self._patience.ends or self._patience.was_held_up(now):
                continue
            if self._generation.opening:
                self._endings.give_up(OPEN_S)
            else:
                self._stall(now)

    def look_sooner(self) -> None:
        """Deadlines may have come nearer."""
        self._watching.deadline = min(self._watching.deadline, self._patience.ends, self._books.late_at)

    def refuse_late(self) -> None:
        """Refuse proposals whose ids have not come, though they could have."""
        if self._books.late_at == inf:
            return
        now, tail = trio.current_time(), self._link_to(self._generation.route[-1])
        if self._returning.is_away or tail is None or tail.heard_s < now - AHEAD_S:
            self._books.wait_anew(now)
        self._books.wait_anew(self._returning.back_s)
        self._endings.refuse(self._books.late(now))

    def let_go(self) -> None:
        """All is over: hold whoever holds this no longer, so that both go without a search for garbage."""
        self._endings = Endings()

    def _stall(self, now: float) -> None:
        """The patience with it is used up."""
        first_id_s, last_id_s = self._patience.first_id_s, self._patience.last_id_s
        if first_id_s is None or last_id_s is None:
            self._endings.give_up(STALL_S)
            return
        self.gave_up_s = now
        if now >= last_id_s + STALL_S:
            self._endings.fail(f"no id came within {STALL_S:.0f} s", Code.SILENT)
            return
        ids, took_s, step_s = len(self._generation.ids), now - first_id_s, self._patience.step_s
        words = f"{ids} tokens in {took_s:.0f} s, where one in {step_s:.2g} s was to be expected of these nodes"
        self._endings.fail(f"the answer came too slowly: {words}", Code.SILENT)
