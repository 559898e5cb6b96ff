"""Receipts of generations that are over: signed ones are sent until their node has stored them (receipts.md).

A node that comes back with a proposal we signed already gets our signature again. One we never signed is signed if this
process still remembers the ids that justify it; they are not kept on disk, and gone with it.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from p2pinfer.core.client_account import ClientAccount, Decision, Sign
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.keys import short_name
from p2pinfer.core.ledger import Earned
from p2pinfer.core.session_messages import Accept, Close, Propose, SessionMessage, Signed, Stored
from p2pinfer.core.units import PeerKey, SessionId
from p2pinfer.disk.journal import Journal
from p2pinfer.overlay.link import Link

MAX_REMEMBERED: Final = 64  # generations; a long one takes some 100 kB

logger = logging.getLogger(__name__)


class Settling:
    """Generations under way take care of themselves."""

    def __init__(self, journal: Journal, nursery: trio.Nursery) -> None:
        self._journal = journal
        self._nursery = nursery
        self._remembered: dict[SessionId, tuple[tuple[PeerKey, ...], ClientAccount]] = {}  # the oldest first

    def remember(self, session: SessionId, route: tuple[PeerKey, ...], account: ClientAccount) -> None:
        """A generation is over, and some of its stages are not paid up: their links broke, or they are slow."""
        self._remembered[session] = route, account
        while len(self._remembered) > MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def greet(self, link: Link) -> None:
        """A node may be back: send it what it has not stored."""
        self._nursery.start_soon(self._send_unstored, link)

    def take(self, link: Link, message: SessionMessage) -> None:
        """A message of a session that is not open here."""
        if isinstance(message, Propose):
            self._nursery.start_soon(self._answer, link, self._decide(link.peer, message))
        elif isinstance(message, Stored):
            self._nursery.start_soon(self._acknowledge, link.peer, message)
        elif isinstance(message, Accept):
            self._close(link, message)

    def _decide(self, node: PeerKey, message: Propose) -> list[Decision]:
        """What the ids at hand justify; at once, since proposals must be taken in the order in which they come."""
        route, account = self._remembered.get(message.session, ((), None))
        if account is None or node not in route:
            return []
        try:
            return account.propose(route.index(node), message.receipt, message.signature, trio.current_time())
        except RemoteProtocolError as error:
            logger.warning("a receipt of an earlier answer is not signed for stage %s: %s", short_name(node), error)
            return []

    async def _answer(self, link: Link, decisions: Sequence[Decision]) -> None:
        """Sign what may be signed, and send what the node has not stored. What waits for ids gets no answer."""
        for decision in decisions:
            if isinstance(decision, Sign):
                await self._journal.complete(decision.receipt)
        await self._send_unstored(link)

    @staticmethod
    def _close(link: Link, late: Accept) -> None:
        """A stage accepts what the client has given up: it lets go of its pages at once."""
        with suppress(LinkDead):  # it lets go of them anyway
            link.send_nowait(Close(late.session, late.epoch, Code.CANCELLED, 0, ""))

    async def _send_unstored(self, link: Link) -> None:
        for earned in await self._unstored(link.peer):
            receipt = earned.receipt
            try:
                await link.send(Signed(earned.session, receipt.body, receipt.signatures[1]))
            except LinkDead:
                return

    async def _acknowledge(self, node: PeerKey, message: Stored) -> None:
        for earned in await self._unstored(node):
            if earned.session == message.session:
                await self._journal.acknowledge(earned.contract.id, message.seq)

    async def _unstored(self, node: PeerKey) -> Sequence[Earned]:
        unstored = await self._journal.read(lambda reader: reader.unstored())
        return [earned for earned in unstored if earned.contract.record.node == node]
