"""Strangers in the hands of hypothesis: who they are, what they hold, and how they say something.

What they say is in `on_links.py` and `sequences.py`.
"""

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import trio
import trio.lowlevel
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import ANSWERS, Code
from p2pinfer.core.values.errors import LinkDead, LocalProtocolError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, Span
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import Close, Open, SessionMessage
from tests.disk.tiny import EVEN

from .strangers import Deal, Stranger, least, new_key, open_stranger
from .yards import Yard

ACTORS = 3
WIDTH = EVEN["hidden_size"]  # of the tiny model's rows
ROW_BYTES = {Codec.F32: 4 * WIDTH, Codec.BF16: 2 * WIDTH, Codec.Q8O4: WIDTH + 2 + 16}
SPANS = [Span(0, 3), Span(0, 1), Span(0, 2), Span(1, 2), Span(2, 3), Span(1, 3)]
EDGE = 1 << 32
RENEW_S = 15.0  # after this an offer is asked for again: contracts name one that the node remembers
HEAR_S = 0.5  # for an offer of a node that may not give any
SPOKEN = 8  # messages that may be said again with a fault in them

M = TypeVar("M", bound=Message)

actors = st.integers(0, ACTORS - 1)
sessions = st.integers(0, 7)
pauses = st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.005])
numbers = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 40, 4095, 4096, EDGE - 1])
calls = st.sampled_from([1, 2, 3, 5, 8, 13, 40, 4095, EDGE - 64])
codes = st.sampled_from([code for code in Code if code not in ANSWERS and code is not Code.NONE])
odd_addresses = st.sampled_from(
    [
        (),
        ("/ip4/127.0.0.1/udp/53/p2p/{}",),
        ("/ip4/127.0.0.1/tcp/1/p2p/{}",),
        ("/memory/p2p/{}",),
        ("nothing of the kind",),
        ("/ip4/10.0.0.1/tcp/1/p2p/{}", "/dns4/localhost/tcp/1/p2p/{}", "/p2p/{}"),
    ]
)


@dataclass
class Held:
    """A session that somebody opened, and how far it has come. parts: who is client, predecessor and successor."""

    deal: Deal
    open: Open
    span: Span
    prompt: int
    parts: tuple[int, int, int]
    rows: int = 0  # of positions that were sent to it
    ids: int = 0  # that were sent to it as sampled
    away: bool = False  # its client's link broke, and the node may wait for it

    @property
    def session(self) -> Any:
        return self.open.session


class Actors(RuleBasedStateMachine):
    """Three strangers, and what they have open."""

    yard: ClassVar[Yard]
    jumps: ClassVar[bool] = False  # time does, and nobody asks meanwhile: an honest client's deadlines would pass too
    leaves: ClassVar[bool] = False  # the node is told to stop on the way
    made: ClassVar[int] = 0  # sequences so far
    known: ClassVar[tuple[float, KnownOffer] | None] = None  # and when it was asked for

    trail: ClassVar[list[str]] = []  # the steps of this sequence, as hypothesis writes them
    failed: ClassVar[list[str]] = []  # those of the first one that did not end well: a race may not fail again

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        type(self).trail = []
        self._held: list[Held] = []
        self._spoken = deque[tuple[int, SessionMessage]](maxlen=SPOKEN)
        self._leaving = False
        self._actors: list[Stranger] = []
        self._scopes: list[tuple[trio.CancelScope, trio.Event]] = []  # and when who ran in it is gone

    @initialize()
    def come(self) -> None:
        if not self.jumps and not self.leaves:
            self.yard.begin_good()
        for _ in range(ACTORS):
            stranger, *scope = self.yard.start(self._keep_stranger, new_key())
            self._actors.append(stranger)
            self._scopes.append(tuple(scope))

    async def _keep_stranger(
        self, key: PrivateKey, *, task_status: trio.TaskStatus[tuple[Stranger, trio.CancelScope, trio.Event]]
    ) -> None:
        gone = trio.Event()
        with trio.CancelScope() as scope:
            async with open_stranger(self.yard.arena, key) as stranger:
                task_status.started((stranger, scope, gone))
                await trio.sleep_forever()
        gone.set()

    def teardown(self) -> None:
        kind = type(self)
        kind.failed, before = kind.failed or kind.trail, kind.failed
        self._end()
        kind.failed = before

    @classmethod
    def note(cls, line: str) -> None:
        """A line that hypothesis reports."""
        if line.startswith(("state.", "Draw")):
            cls.trail.append(line)

    def _end(self) -> None:
        try:
            if self._leaving:
                self.yard.wait_left()
                return
            self.yard.end_good()
            self._give_up_away()
            self.yard.call(self._go)
            self.yard.check()
            if self.jumps:
                self.yard.meet_again()
                self.yard.begin_good()
                self.yard.end_good()
        finally:
            self.yard.call(self._go)

    def _give_up_away(self) -> None:
        """The node would wait for them for half a minute."""
        for held in (held for held in self._held if held.away):
            self._say(held.parts[0], 0.0, least(Close, session=held.session, code=Code.CANCELLED))

    async def _go(self) -> None:
        for scope, _ in self._scopes:
            scope.cancel()
        await trio.lowlevel.checkpoint()

    # What strangers say

    async def _said(self, actor: int, pause: float, *messages: Message) -> None:
        """Say it, if the node takes links at all."""
        with suppress(LinkDead, LocalProtocolError):  # it closed the link, as it may
            await self._actors[actor].say(*messages)
        if pause:
            await trio.sleep(pause)

    def _say(self, actor: int, pause: float, *messages: Message) -> None:
        self._spoken.extend((actor, message) for message in messages if isinstance(message, SessionMessage))
        self.yard.call(self._said, actor, pause, *messages)

    def _one(self, number: int) -> Held:
        return self._held[number % len(self._held)]

    def _last(self, actor: int, session: bytes, shape: type[M]) -> M | None:
        """The latest message of a kind in a session that came to somebody."""
        for _, message in reversed(self._actors[actor].ears.came):
            if isinstance(message, shape) and getattr(message, "session", session) == session:
                return message
        return None

    def _deal(self, actor: int, prompt: int, tokens: int) -> Deal | None:
        """A contract by the node's latest offer; None while it gives none."""
        return self.yard.call(self._made_deal, actor, prompt, tokens)

    async def _made_deal(self, actor: int, prompt: int, tokens: int) -> Deal | None:
        if (known := await self._latest_offer(actor)) is None:
            return None
        return await self._actors[actor].plan(prompt, tokens, known)

    async def _latest_offer(self, actor: int) -> KnownOffer | None:
        kind, now = type(self), time.monotonic()
        if kind.known is None or kind.known[0] < now - RENEW_S:
            with trio.move_on_after(HEAR_S), suppress(LinkDead, LocalProtocolError):
                kind.known = now, await self._actors[actor].offer()
        return kind.known[1] if kind.known else None

    def _cut(self, actor: int) -> None:
        async def cut() -> None:
            for link in self._actors[actor].network.links():
                await link._pipe.abort()  # what a link never does: no goodbye, and what is queued is lost

        self.yard.call(cut)
        for held in (held for held in self._held if held.parts[0] == actor):
            held.away = True
