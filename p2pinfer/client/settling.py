"""Receipts of generations that are over: signed ones are sent until their node has stored them (receipts.md).

A node that comes back with a proposal we signed already gets our signature again; one we never signed gets none, for
the ids that would justify it are gone.
"""

from collections.abc import Sequence

import trio

from p2pinfer.core.errors import LinkDead
from p2pinfer.core.ledger import Earned
from p2pinfer.core.session_messages import Propose, SessionMessage, Signed, Stored
from p2pinfer.core.units import PeerKey
from p2pinfer.disk.journal import Journal
from p2pinfer.overlay.link import Link


class Settling:
    """Works on the journal alone; generations under way take care of themselves."""

    def __init__(self, journal: Journal, nursery: trio.Nursery) -> None:
        self._journal = journal
        self._nursery = nursery

    def greet(self, link: Link) -> None:
        """A node may be back: send it what it has not stored."""
        self._nursery.start_soon(self._send_unstored, link)

    def take(self, link: Link, message: SessionMessage) -> None:
        """A message of a session that is not open here."""
        if isinstance(message, Propose):
            self._nursery.start_soon(self._send_unstored, link)
        elif isinstance(message, Stored):
            self._nursery.start_soon(self._acknowledge, link.peer, message)

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
