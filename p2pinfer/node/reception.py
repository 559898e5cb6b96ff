"""Opens: whether a node takes a session, and what it takes on with it (protocols/inference.md, 3.1; receipts.md).

A session is taken when its contract fits an offer of ours, its client's window has room, pages of KV cache are free,
and its successor can be reached. Whatever was taken is given back when the session ends, or never begins.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count

from p2pinfer.core.models.detokenizer import Detokenizer
from p2pinfer.core.money.budget import RETRY_S
from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.contract import Contract, check_request, read_request, verify_request
from p2pinfer.core.records.records import SignedRecord, countersign
from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.room.queue import NO_TICKET
from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.opening import check_neighbours, read_sampling
from p2pinfer.core.sessions.stage import StageSession
from p2pinfer.core.sessions.stage_terms import StageTerms
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import EngineError, JournalError, LinkDead, P2pinferError, Refused, RemoteProtocolError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import Codec, PeerKey, RecordId
from p2pinfer.core.wire.messages import cut_text
from p2pinfer.core.wire.session_messages import Accept, Neighbour, Open, SessionRefused, check_mode
from p2pinfer.disk.journal import Journal
from p2pinfer.node.exposure import Exposure
from p2pinfer.node.lodging import Lodging
from p2pinfer.node.session import Session, Wakes
from p2pinfer.node.stint import Stint
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms that an open asks for, checked."""

    open: Open
    request: SignedRecord[Contract]  # with the client's signature
    sampling: SamplingRecord | None


class Reception:
    """Answers opens, and runs the sessions that come of them."""

    def __init__(
        self,
        stint: Stint,
        exposure: Exposure,
        journal: Journal,
        network: Network,
        exchange: Exchange,
        lodging: Lodging,
    ) -> None:
        self._shard = stint.shard
        self._offering = stint.offering
        self._batcher = stint.batcher
        self._exposure = exposure
        self._journal = journal
        self._network = network
        self._exchange = exchange
        self._lodging = lodging
        self._slots = count(1)
        self._accounts: dict[RecordId, StageAccount] = {}  # of open sessions

    async def serve(self, link: Link, message: Open) -> None:
        """Take the session or refuse it; run it to its end. Whatever fails ends this session alone."""
        refuse = partial(_refuse, link, message, Refused("a fault of its own", Code.INTERNAL))
        with Contained(f"an open of {short_name(link.peer)}", refuse):
            await self._serve(link, message)

    async def _serve(self, link: Link, message: Open) -> None:
        try:
            terms = await self._check(link, message)
            async with self._window(link, terms):
                await self._reach(link, message.successor + (message.far_end if terms.sampling else ()))
                await self._run(link, terms)
        except Refused as error:
            if not error.ticket:
                self._lodging.pass_over(link, message)
            _refuse(link, message, error)
        except (RemoteProtocolError, EngineError, JournalError, LinkDead) as error:
            self._lodging.pass_over(link, message)  # no room is kept for what comes to nothing
            _refuse_for(link, message, error)

    async def _check(self, link: Link, message: Open) -> Terms:
        """Check the cheap things before the signature: a client that finds no room asks again and again.

        Raises Refused or RemoteProtocolError with the code to answer.
        """
        check_mode(message)
        request = read_request(message.contract, message.signature)
        contract = request.record
        if contract.client != link.peer:
            raise RemoteProtocolError("a contract of somebody else", Code.BAD_SIGNATURE)
        offer, certificate = self._offering.find(contract.offer)
        now = self._network.machine.unix()
        check_request(request, offer, certificate, secret=message.secret, now=now)
        check_neighbours(contract, message, self._shard.manifest.layers)
        sampling = read_sampling(contract, message)
        await self._lodging.look(link, message, contract)
        return Terms(message, verify_request(message.contract, message.signature), sampling)

    @asynccontextmanager
    async def _window(self, link: Link, terms: Terms) -> AsyncIterator[None]:
        """Take what the contract could leave unpaid for as long as the block lasts; what is left unpaid, longer."""
        await self._exposure.take(terms.request, link.source, self._network.machine.unix())
        try:
            yield
        finally:
            self._exposure.end(terms.request, self._accounts.pop(terms.request.id, None), self._network.machine.unix())

    async def _reach(self, link: Link, neighbours: tuple[Neighbour, ...]) -> None:
        """Link to those we send rows or ids to, at the client's word. Raises Refused (UNREACHABLE or BUSY)."""
        for neighbour in neighbours:
            await reach(self._network, neighbour.key, neighbour.addresses, link)

    async def _run(self, link: Link, terms: Terms) -> None:
        contract = countersign(terms.request, self._offering.key)
        message = terms.open
        session = self._session(contract, terms)
        async with self._lodging.hold(session, link, message) as holding:
            with self._exchange.open_session(
                message.session,
                session.stage.terms.peers,
                session.take_message,
                lambda: session.is_over,
                lambda: holding.rests,
                session.meet,
            ) as incoming:
                if self._journal.failing:  # the contract shows whether it still does: no work that could not be kept
                    await session.keep_contract()
                self._accounts[contract.id] = session.account
                with self._batcher.serving(session):
                    link.send_nowait(Accept(message.session, message.epoch, contract.signatures[1]))
                    with session.contained:
                        await session.run(incoming)
                self._log_end(session)

    def _log_end(self, session: Session) -> None:
        account = session.account
        amount = account.complete.record.amount if account.complete else 0
        client = short_name(account.contract.record.client)
        client += " (your own)" if self._exposure.is_own(account.contract.id) else ""
        reason = session.stage.reason.label
        if not session.stage.computed:  # a kind of its own in the log, since strangers may cause many for nothing
            logger.info("session of %s without work: %s", client, reason)
            return
        logger.info("session of %s: %d positions, %s, %d ncr signed", client, session.stage.computed, reason, amount)

    def _session(self, contract: SignedRecord[Contract], terms: Terms) -> Session:
        record, message, manifest = contract.record, terms.open, self._shard.manifest
        stage_terms = StageTerms(
            session=message.session,
            epoch=message.epoch,
            client=record.client,
            predecessor=_key(message.predecessor),
            successor=_key(message.successor),
            far_end=_key(message.far_end),
            span=record.span,
            roles=record.roles,
            prompt=record.prompt,
            width=manifest.hidden,
            vocabulary=manifest.vocabulary,
            codec_in=Codec(record.codecs[0]),
            codec_out=Codec(record.codecs[1]),
            max_positions=record.limits.max_positions,
            max_chunk=record.limits.max_chunk,
            sampling=terms.sampling,
        )
        account = StageAccount(contract, message.secret, self._offering.key)
        stage = StageSession(stage_terms, self._ending(terms.sampling), account.check_counted)
        wakes = Wakes(self._batcher.wake, self._lodging.stir)
        return Session(stage, account, next(self._slots), self._journal, self._network, wakes)

    def _ending(self, sampling: SamplingRecord | None) -> Ending | None:
        if sampling is None:
            return None
        assert self._shard.texts is not None  # a contract has the role tail only where the offer has it
        reader = Detokenizer(self._shard.texts, sampling.stop_texts)
        return Ending(self._shard.manifest.ends, sampling.max_tokens, reader)


def refuse_leaving(link: Link, message: Open) -> None:
    """Answer an open while no layers are served: the node loads some, goes to others, or ends."""
    _refuse(link, message, Refused("this node serves no layers now", Code.LEAVING))


def _refuse_for(link: Link, message: Open, error: P2pinferError) -> None:
    match error:
        case RemoteProtocolError():
            _refuse(link, message, Refused(str(error), error.code))
        case EngineError():
            _refuse(link, message, Refused(str(error), Code.BUSY, RETRY_S))
        case JournalError():
            logger.error("a session is refused, for its contract cannot be kept: %s", error)
            _refuse(link, message, Refused("the node cannot keep contracts now", Code.INTERNAL))
        case LinkDead():
            return  # the client is gone; what was taken for it is given back


def _refuse(link: Link, message: Open, why: Refused) -> None:
    told = cut_text(str(why)), round(1000 * (why.retry_s or 0)), why.ticket or NO_TICKET, why.before
    try:
        link.send_nowait(SessionRefused(message.session, message.epoch, why.code, *told))
    except LinkDead:
        return  # it does not wait for an answer


def _key(neighbours: tuple[Neighbour, ...]) -> PeerKey | None:
    return neighbours[0].key if neighbours else None
