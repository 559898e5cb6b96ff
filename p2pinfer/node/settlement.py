"""Receipts of sessions that are over: proposed again at the next contact, completed if the client signs (receipts.md).

What a client cannot check any more it leaves unsigned; what it had signed before the link broke, it sends again.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from p2pinfer.core.records.receipt import Receipt, verify_receipt
from p2pinfer.core.records.records import decode
from p2pinfer.core.values.errors import JournalError, LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import Propose, Resume, SessionMessage, Signed, Stored
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.node.exposure import Exposure
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.limits import ALL_SETTLEMENTS, KEY_SETTLEMENTS, NETWORK_SETTLEMENTS
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.seats import Seats

logger = logging.getLogger(__name__)


class NodeSettlement:
    """Works on the journal alone; sessions that are open take care of themselves."""

    def __init__(self, journal: Journal, exposure: Exposure, nursery: trio.Nursery) -> None:
        self.journal = journal
        self.exposure = exposure
        self._nursery = nursery
        self._seats = Seats(KEY_SETTLEMENTS, NETWORK_SETTLEMENTS, ALL_SETTLEMENTS)  # what is beyond them is sent again

    def greet(self, link: Link) -> None:
        """A client may be back: send it what it has not signed."""
        self._start(link, self._propose_again)

    def take(self, link: Link, message: SessionMessage) -> None:
        """A message of a session that is not open here: a client may sign a receipt of one that is over, or be back."""
        if isinstance(message, Signed):
            self._start(link, partial(self._complete, message=message))
        elif isinstance(message, Resume):
            with suppress(LinkDead):  # it waits for no answer then
                link.send_nowait(message.gone())

    def _start(self, link: Link, settle: Callable[[Link], Awaitable[None]]) -> None:
        if self._seats.take(link.peer, link.source):
            link.charge_look()
            self._nursery.start_soon(self._run, link, settle)

    async def _run(self, link: Link, settle: Callable[[Link], Awaitable[None]]) -> None:
        try:
            with Contained(f"a settlement with {short_name(link.peer)}"):
                await self._settle(link, settle)
        finally:
            self._seats.leave(link.peer, link.source)

    async def _settle(self, link: Link, settle: Callable[[Link], Awaitable[None]]) -> None:
        try:
            await settle(link)
        except LinkDead:
            return  # at its next contact, then
        except RemoteProtocolError as error:
            logger.warning("a receipt of an earlier session is not kept: %s", error)
        except JournalError as error:
            logger.error("nothing is settled with %s, for the journal fails: %s", short_name(link.peer), error)

    async def _propose_again(self, link: Link) -> None:
        for contract, receipt in await self.journal.read(lambda reader: reader.pending(link.peer)):
            if self.exposure.is_open(contract.id):
                continue
            found = await self.journal.read(partial(JournalReader.contract, id_=contract.id))
            if found is not None:  # it may have been forgotten just now
                await link.send(Propose(found[1], receipt.body, receipt.signatures[0]))

    async def _complete(self, link: Link, message: Signed) -> None:
        if (seq := await self._store(link.peer, message)) is not None:
            await link.send(Stored(message.session, seq))

    async def _store(self, client: PeerKey, message: Signed) -> int | None:
        """Store a receipt that is now complete; None for one of a contract we do not know, or still work under.

        Raises RemoteProtocolError where it is not what we proposed.
        """
        receipt = decode(Receipt, message.receipt)
        if self.exposure.is_open(receipt.contract):
            return None
        for contract, proposal in await self.journal.read(lambda reader: reader.pending(client)):
            if proposal.body == message.receipt:
                complete = verify_receipt(proposal.body, proposal.signatures[0], message.signature, contract)
                await self.journal.complete(complete, stored=True)
                self.exposure.settle(contract, complete)
                return receipt.seq
        return await self._stored_before(client, message, receipt)

    async def _stored_before(self, client: PeerKey, message: Signed, receipt: Receipt) -> int | None:
        """The number of a receipt that is complete here, where the client never heard that it is stored."""
        earned = await self.journal.read(lambda reader: reader.complete(receipt.contract))
        if earned is None or earned.contract.record.client != client:
            return None
        return receipt.seq if earned.receipt.body == message.receipt else None
