"""The lodging of a node: who holds room, who waits for it, and who is told of a turn (protocols/inference.md, 7.2).

Whose turn it is, and who gives way, is decided in `core/room/room.py`.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from typing import Final

import trio

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.room.holdings import HeldSession
from p2pinfer.core.room.queue import TURN_MS, Place, Visit
from p2pinfer.core.room.room import Room
from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.core.swarm.source import site_of
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.wire.session_messages import Close, Open, SessionRefused
from p2pinfer.node.exposure import Exposure
from p2pinfer.node.session import Session
from p2pinfer.node.shard import LoadedSpan
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network

LOOK_S: Final = 0.5  # while somebody waits: sessions come to rest, and turns pass, without a word
CALL_S: Final = 0.05  # between two looks, whatever happens: with many who wait one takes two milliseconds


@dataclass(frozen=True, slots=True)
class Holding:
    """A session that holds room, and so many pages of KV cache.

    ticket:  with which its client came
    since_s: monotonic
    """

    session: Session
    network: str | None
    newcomer: bool
    own: bool
    pages: int
    ticket: bytes
    since_s: float

    @property
    def rests(self) -> bool:
        return not self.own and self.session.is_at_rest

    @property
    def held(self) -> HeldSession:
        return HeldSession(
            slot=self.session.slot,
            client=self.session.stage.terms.client,
            network=self.network,
            newcomer=self.newcomer,
            own=self.own,
            rests=self.rests,
            idle_s=self.session.idle_s,
            pages=self.pages,
            alone=self.session.stage.is_suspended,
            held_s=trio.current_time() - self.since_s,
            begun=bool(self.session.stage.received),
        )


class Lodging:
    """Room at one shard's engine, for so many sessions."""

    def __init__(self, shard: LoadedSpan, exposure: Exposure, network: Network, max_sessions: int) -> None:
        self._engine = shard.engine
        self._exposure = exposure
        self._network = network
        self._room = Room(max_sessions, shard.engine.facts.pages)
        self._holding: dict[int, Holding] = {}  # by slot
        self._changed = trio.Event()  # renewed; room may have become free, or somebody waits

    async def look(self, link: Link, message: Open, contract: Contract) -> None:
        """Refuse one for whom there is no room, before anything dear is done for it; it gets a place among who wait.

        contract: as it says, whoever signed it: the place is its link's peer's, who has proven its key

        Raises Refused (BUSY).
        """
        own = await self._exposure.is_owners(contract)
        pages = pages_for(contract.limits.max_positions)
        asks = HeldSession(0, link.peer, _network(link), False, own, False, 0.0, pages)
        self._find(asks, message)

    @asynccontextmanager
    async def hold(self, session: Session, link: Link, message: Open) -> AsyncIterator[Holding]:
        """Pages of KV cache and a place among the sessions, for as long as the block lasts and the session needs them.

        Raises Refused (BUSY).
        """
        contract = session.account.contract
        holding = Holding(
            session,
            _network(link),
            self._exposure.is_newcomer(contract.id),
            self._exposure.is_own(contract.id),
            pages_for(contract.record.limits.max_positions),
            message.ticket,
            trio.current_time(),
        )
        going = self._find(holding.held, message)
        for slot in going:
            leaves = self._holding[slot].session
            with leaves.contained:
                leaves.give_way()
        self._let_go(going)
        self._room.let_in(self._held(), holding.held, message.ticket, trio.current_time())
        self._holding[session.slot] = holding
        try:
            await self._engine.open_session(session.slot, holding.pages)
            yield holding
        finally:
            self._let_go([session.slot])

    async def keep_calling(self) -> None:
        """Tell those whose turn has come, until cancelled."""
        while True:
            with trio.move_on_after(LOOK_S if self._room.is_awaited else inf):
                await self._changed.wait()
            self._changed = trio.Event()
            self._let_go_over()
            now = trio.current_time()
            self._room.pass_over_away(lambda client: self._network.link(client) is not None, now)
            while places := self._room.call(self._held(), self._engine.free_pages, trio.current_time()):
                for place in places:
                    self._call(place)
            if self._room.is_awaited:
                await trio.sleep(CALL_S)

    def pass_over(self, link: Link, message: Open) -> None:
        """An Open comes to nothing for a reason that is not want of room: none is kept for it."""
        self._room.pass_over(message.ticket, link.peer, trio.current_time())
        self.stir()

    def give_up(self, link: Link, message: Close) -> None:
        """A client wants no session any more that it was refused: others do not wait for it.

        A Close with another code crossed our refusal: another stage had refused before, and it still waits.
        """
        if message.code != Code.CANCELLED:
            return
        if self._room.leave(message.session, link.peer, trio.current_time()):  # anybody may say Close of any session
            self.stir()

    def _find(self, asks: HeldSession, message: Open) -> list[int]:
        self._let_go_over()
        visit = Visit(message.session, message.epoch, message.ticket)
        try:
            return self._room.find(self._held(), asks, self._engine.free_pages, trio.current_time(), visit)
        finally:
            self.stir()

    def _call(self, place: Place) -> None:
        """Tell one that it is its turn. Who has no link has lost it, and others have it."""
        words = "there is room now"
        message = SessionRefused(place.session, place.epoch, Code.BUSY, words, TURN_MS, place.ticket, 0)
        link = self._network.link(place.asks.client)
        with suppress(LinkDead):
            if link is not None:
                link.send_nowait(message)
                return
        self._room.pass_over(place.ticket, place.asks.client, trio.current_time())

    def _held(self) -> list[HeldSession]:
        return [one.held for one in self._holding.values()]

    def _let_go_over(self) -> None:
        self._let_go([slot for slot, holding in self._holding.items() if holding.session.is_over])

    def _let_go(self, slots: Iterable[int]) -> None:
        for slot in slots:
            if (holding := self._holding.pop(slot, None)) is not None:
                worked, now = bool(holding.session.stage.computed), trio.current_time()
                self._room.note_end(holding.held, holding.ticket, now, now - holding.since_s, worked=worked)
            self._engine.close_session(slot)
            self.stir()

    def stir(self) -> None:
        """Look again: a session is over, or somebody came or went."""
        self._changed.set()


def _network(link: Link) -> str | None:
    """By what the clients of a link count together: an IPv6 /48 has 65,536 networks, and is one customer's."""
    return site_of(link.source).network
