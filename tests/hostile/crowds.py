"""Strangers at a node that has room for two sessions: they wait, come in their turn or not, give up, and lie."""

import os
import time
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from p2pinfer.core.room.queue import NO_TICKET, TURN_MS, new_ticket
from p2pinfer.core.values.codes import Code
from p2pinfer.core.wire.session_messages import Accept, Close, SessionRefused

from .actors import SPANS, Held, actors, codes, numbers, pauses, sessions
from .sequences import Strangers
from .strangers import least

ROOM = 2  # sessions

# When a ticket says that its request began, in ms from now; None: it is one that somebody has already
begins = st.sampled_from([0, 0, -5_000, -86_400_000, 86_400_000, None])


class Crowd(Strangers):
    """Time passes on the way, and so do turns."""

    jumps = True

    @rule(
        client=actors,
        whose=actors,
        prompt=st.sampled_from([1, 5, 40]),
        tokens=st.sampled_from([1, 8, 64, 2000]),
        begins=begins,
        pause=pauses,
        times=st.sampled_from([1, 2, 4]),
    )
    def ask_for_room(
        self, client: int, whose: int, prompt: int, tokens: int, begins: int | None, pause: float, times: int
    ) -> None:
        if (deal := self._deal(client, prompt, tokens)) is None:
            return
        for _ in range(times):
            deal = deal.again()
            message = replace(deal.open, ticket=self._ticket(whose, begins))
            self._held.append(Held(deal, message, SPANS[0], prompt, (client, client, client)))
            self._say(client, pause, message)

    def _ticket(self, whose: int, begins: int | None) -> bytes:
        if begins is None:
            return next((held.open.ticket for held in reversed(self._held) if held.parts[0] == whose), NO_TICKET)
        return new_ticket(int(time.time() * 1000) + begins, os.urandom(8))

    @rule(number=sessions, pause=pauses, late=st.sampled_from([0.0, 0.0, 0.0, 1.9, 2.1, 31.0]), whole=st.booleans())
    @precondition(lambda self: self._held)
    def come_again(self, number: int, pause: float, late: float, whole: bool) -> None:
        """Who was told that it is its turn, or that it has to wait: in a new session, or in the same one."""
        refused = [held for held in self._held if self._last(held.parts[0], held.session, SessionRefused)]
        if not refused:
            return
        held = refused[number % len(refused)]
        if late:
            self.yard.jump(late)
        if not whole:
            self._say(held.parts[0], pause, held.open)
            return
        deal = held.deal.again()
        message = replace(deal.open, ticket=held.open.ticket)
        self._held.append(Held(deal, message, SPANS[0], held.prompt, held.parts))
        self._say(held.parts[0], pause, message)

    @rule(actor=actors, number=sessions, own=st.booleans(), pause=pauses, code=codes, times=st.sampled_from([1, 1, 3]))
    @precondition(lambda self: self._held)
    def give_its_place_up(self, actor: int, number: int, own: bool, pause: float, code: Code, times: int) -> None:
        """A Close of a session that was refused, or was not; by its client or by somebody else."""
        held = self._one(number)
        close = least(Close, session=held.session, code=code)
        self._say(held.parts[0] if own else actor, pause, *[close] * times)

    @rule(actor=actors, number=sessions, pause=pauses, place=numbers, turn=st.booleans(), epoch=st.sampled_from([0, 1]))
    @precondition(lambda self: self._held)
    def answer_an_open(self, actor: int, number: int, pause: float, place: int, turn: bool, epoch: int) -> None:
        """What a node says, said to it."""
        held = self._one(number)
        its = {"session": held.session, "epoch": epoch}
        refused = least(SessionRefused, **its, code=Code.BUSY, ticket=held.open.ticket, place=place)
        self._say(actor, pause, replace(refused, retry_ms=TURN_MS) if turn else refused, least(Accept, **its))
