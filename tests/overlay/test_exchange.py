"""Calls and sessions between peers of the memory network: every answer, every silence, every stranger."""

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, PeerKey, SessionId
from p2pinfer.core.wire.frames import FrameDecoder
from p2pinfer.core.wire.messages import AskContacts, AskFile, AskOffers, CallRefused, Contacts, FilePart, Offers
from p2pinfer.core.wire.session_messages import (
    Close,
    Credit,
    Finish,
    Forward,
    Open,
    SessionMessage,
    SessionRefused,
    Stored,
)
from p2pinfer.overlay import memory
from p2pinfer.overlay.answers import MAX_CALLS
from p2pinfer.overlay.calls import CALL_S, Ask
from p2pinfer.overlay.early import EARLY_S, MAX_EARLY, MAX_EARLY_BYTES, EarlyRows
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import new_greeting
from p2pinfer.overlay.limits import (
    ALL_CALLS,
    ASKS_BURST,
    KEY_OPENS_BURST,
    MAX_BACKLOG,
    MAX_FILE_PART,
    NETWORK_CALLS,
    OPENING_S,
    OPENS_BURST,
)
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.outbox import QUEUE_BYTES, Priority
from p2pinfer.overlay.pipe import Address, Pipe

from .conftest import HELLO, KEYS, Collector, say

SESSION = SessionId(b"a session of ids")
OTHER = SessionId(b"another session.")
MANY = 30_000  # questions, whose refusals are more than a link keeps for a peer that does not read
OPEN = Open(SESSION, 0, b"", bytes(64), bytes(32), b"", (), (), (), ())


class Side:
    """A peer: its exchange, its network, and what nobody took."""

    def __init__(self, world: MemoryWorld, exchange: Exchange, network: Network) -> None:
        self.world = world
        self.exchange = exchange
        self.network = network
        self.strays: list[SessionMessage] = []
        self.opens: list[Open] = []

    def keep_strays(self) -> None:
        self.exchange.strays.append(lambda link, message: self.strays.append(message))

    async def dial(self, other: "Side") -> Link:
        return await self.network.dial(other.network.addresses()[0])


OpenSide = Callable[..., Awaitable[Side]]


@pytest.fixture
async def open_side(nursery: trio.Nursery) -> OpenSide:
    world = MemoryWorld()

    async def keep(number: int, hosts: bool, *, task_status: trio.TaskStatus[Side]) -> None:
        async with trio.open_nursery() as inner:
            exchange = Exchange(inner)
            async with open_memory_network(world, KEYS[number].public, exchange) as network:
                side = Side(world, exchange, network)
                with exchange.hosted_by(lambda link, message: side.opens.append(message)) if hosts else nullcontext():
                    task_status.started(side)
                    await trio.sleep_forever()

    return lambda number, hosts=True: nursery.start(partial(keep, number, hosts))


async def say_where(asker: Link, ask: Ask) -> Contacts:
    return Contacts(ask.call, ("here",), ())


def credit(limit: int, session: SessionId = SESSION) -> Credit:
    return Credit(session, 0, limit)


def rows(size: int, session: SessionId = SESSION) -> Forward:
    return Forward(session, 0, 0, 0, 1, 0, Codec.F32, bytes(size))


# Calls


async def test_a_call_is_answered(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    far.exchange.answer(AskContacts, say_where)
    answer = await near.exchange.call(await near.dial(far), AskContacts, Contacts)
    assert answer.link == ("here",)


async def test_many_calls_at_once_get_their_own_answers(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)

    async def late_first(asker: Link, ask: Ask) -> Offers | Contacts:
        await trio.sleep(1 if isinstance(ask, AskContacts) else 0)
        return await say_where(asker, ask) if isinstance(ask, AskContacts) else Offers(ask.call, ())

    far.exchange.answer(AskContacts, late_first)
    far.exchange.answer(AskOffers, late_first)
    link = await near.dial(far)
    answers: list[object] = []

    async def ask_contacts() -> None:
        answers.append(await near.exchange.call(link, AskContacts, Contacts))

    async def ask_offers() -> None:
        answers.append(await near.exchange.call(link, lambda call: AskOffers(call, b"", 64), Offers))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_contacts)
        nursery.start_soon(ask_offers)
    assert [type(answer) for answer in answers] == [Offers, Contacts]


async def test_a_silent_peer_is_given_up_after_the_deadline(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)

    async def never(asker: Link, ask: Ask) -> Contacts:
        await trio.sleep_forever()
        raise AssertionError

    far.exchange.answer(AskContacts, never)
    link = await near.dial(far)
    began = trio.current_time()
    with pytest.raises(Refused) as failure:
        await near.exchange.call(link, AskContacts, Contacts)
    assert failure.value.code is Code.SILENT
    assert trio.current_time() == pytest.approx(began + CALL_S)


async def test_an_answer_that_comes_too_late_is_nobodys(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)

    async def late(asker: Link, ask: Ask) -> Contacts:
        await trio.sleep(CALL_S + 1)
        return await say_where(asker, ask)

    far.exchange.answer(AskContacts, late)
    link = await near.dial(far)
    with pytest.raises(Refused):
        await near.exchange.call(link, AskContacts, Contacts)
    await trio.sleep(2)
    assert link.dead is None


async def test_what_a_peer_does_not_answer_it_refuses(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-11."""
    near, far = await open_side(0), await open_side(1)
    with pytest.raises(Refused, match="does not answer") as failure:
        await near.exchange.call(await near.dial(far), AskContacts, Contacts)
    assert failure.value.code is Code.UNSUPPORTED
    assert failure.value.retry_s is None


async def test_a_refusal_arrives_with_its_code_and_when_to_retry(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far = await open_side(0), await open_side(1)

    async def refuse(asker: Link, ask: Ask) -> Contacts:
        raise Refused("not now", Code.BUSY, 2.5)

    far.exchange.answer(AskContacts, refuse)
    with pytest.raises(Refused, match="not now") as failure:
        await near.exchange.call(await near.dial(far), AskContacts, Contacts)
    assert (failure.value.code, failure.value.retry_s) == (Code.BUSY, 2.5)


async def test_a_long_refusal_in_any_script_is_cut(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)

    async def refuse(asker: Link, ask: Ask) -> Contacts:
        raise Refused("没有" * 200, Code.NOT_FOUND)

    far.exchange.answer(AskContacts, refuse)
    with pytest.raises(Refused, match="没有没有"):
        await near.exchange.call(await near.dial(far), AskContacts, Contacts)


async def test_an_answer_of_another_kind_breaks_the_protocol(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)

    async def wrong(asker: Link, ask: Ask) -> Offers:
        return Offers(ask.call, ())

    far.exchange.answer(AskContacts, wrong)
    with pytest.raises(RemoteProtocolError, match="Offers for an answer"):
        await near.exchange.call(await near.dial(far), AskContacts, Contacts)


async def test_an_answer_by_another_peer_is_not_taken(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far, thief = await open_side(0), await open_side(1), await open_side(2)

    async def slow(asker: Link, ask: Ask) -> Contacts:
        to_near = thief.network.link(near.network.key)
        assert to_near is not None
        to_near.send_nowait(Contacts(ask.call, ("thief",), ()))
        await trio.sleep(1)
        return await say_where(asker, ask)

    far.exchange.answer(AskContacts, slow)
    await near.dial(thief)
    answer = await near.exchange.call(await near.dial(far), AskContacts, Contacts)
    assert answer.link == ("here",)


async def test_answers_nobody_asked_for_are_dropped(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-11."""
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    for message in (FilePart(7, 0, b""), CallRefused(8, Code.BUSY, "", 0), Contacts(9, (), ()), Offers(0, ())):
        link.send_nowait(message)
    await trio.sleep(1)
    assert link.dead is None


async def test_a_dead_link_ends_its_calls_at_once(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)

    async def leave(asker: Link, ask: Ask) -> Contacts:
        to_near = far.network.link(asker.peer)
        assert to_near is not None
        to_near.close(Code.LEAVING, "bye")
        await trio.sleep_forever()
        raise AssertionError

    far.exchange.answer(AskContacts, leave)
    link = await near.dial(far)
    began = trio.current_time()
    with pytest.raises(LinkDead) as failure:
        await near.exchange.call(link, AskContacts, Contacts)
    assert failure.value.code is Code.LEAVING
    assert trio.current_time() < began + CALL_S


async def test_a_call_on_a_dead_link_fails(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    link.close(Code.IDLE)
    with pytest.raises(LinkDead):
        await near.exchange.call(link, AskContacts, Contacts)


async def test_one_peer_is_not_answered_without_end_at_once(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-12."""
    near, far = await open_side(0), await open_side(1)

    async def slow(asker: Link, ask: Ask) -> Contacts:
        await trio.sleep(1)
        return await say_where(asker, ask)

    far.exchange.answer(AskContacts, slow)
    link = await near.dial(far)
    codes: list[Code] = []

    async def one() -> None:
        try:
            await near.exchange.call(link, AskContacts, Contacts)
            codes.append(Code.NONE)
        except Refused as refusal:
            codes.append(refusal.code)

    async with trio.open_nursery() as nursery:
        for _ in range(MAX_CALLS + 4):
            nursery.start_soon(one)
    assert sorted(codes) == [Code.NONE] * MAX_CALLS + [Code.BUSY] * 4
    await one()
    assert codes[-1] is Code.NONE


@pytest.mark.parametrize(
    ("sources", "answered"),
    [([Source("198.41.0.4", Scope.PUBLIC)] * 5, NETWORK_CALLS), ([NOWHERE] * 17, ALL_CALLS)],
    ids=["of one network", "of all"],
)
async def test_many_peers_are_not_answered_without_end_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery, sources: list[Source], answered: int
) -> None:
    """WIRE-12."""
    world, far = MemoryWorld(), Exchange(nursery)
    begun = []

    async def slow(asker: Link, ask: Ask) -> Contacts:
        begun.append(ask)
        await trio.sleep(1)
        return await say_where(asker, ask)

    far.answer(AskContacts, slow)
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_memory_network(world, KEYS[0].public, far))
        for number, source in enumerate(sources):
            key = PrivateKey(bytes([100 + number]) * 32).public
            world.sources[key] = source
            network = await stack.enter_async_context(open_memory_network(world, key, Exchange(nursery)))
            link = await network.dial(node.addresses()[0])
            for call in range(MAX_CALLS):
                link.send_nowait(AskContacts(call + 1))
        await trio.sleep(0.5)
        assert len(begun) == answered


async def test_offers_and_contacts_are_told_a_network_few_times_a_second(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    """WIRE-12."""
    near, far = await open_side(0), await open_side(1)
    far.world.sources[near.network.key] = Source("198.41.0.4", Scope.PUBLIC)
    far.exchange.answer(AskContacts, say_where)
    link = await near.dial(far)
    for _ in range(ASKS_BURST):
        await near.exchange.call(link, AskContacts, Contacts)
    with pytest.raises(Refused, match="too many calls a second") as caught:
        await near.exchange.call(link, AskContacts, Contacts)
    assert caught.value.code is Code.BUSY


async def test_answers_that_are_not_taken_keep_nobody_elses_question_waiting(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """WIRE-12: who asks for files and does not read gets no more than QUEUE_BYTES of them, and holds no seat."""
    world, far, near = MemoryWorld(), Exchange(nursery), Exchange(nursery)
    read = Counter[PeerKey]()

    async def read_part(asker: Link, ask: Ask) -> FilePart:
        await trio.lowlevel.checkpoint()
        read[asker.peer] += 1
        return FilePart(ask.call, 1 << 30, bytes(MAX_FILE_PART))

    far.answer(AskFile, read_part)
    far.answer(AskContacts, say_where)
    async with (
        open_memory_network(world, KEYS[0].public, far) as node,
        open_memory_network(world, KEYS[1].public, near) as other,
    ):
        link = await other.dial(node.addresses()[0])
        for number in range(ALL_CALLS // MAX_CALLS):
            silent = PrivateKey(bytes([100 + number]) * 32).public
            pipe = await MemoryGround(world, silent).dial(Address(node.addresses()[0]))
            await say(pipe, HELLO)
            for first in range(1, 8 * MAX_CALLS, MAX_CALLS):
                await say(pipe, *(AskFile(first + more, bytes(32), "", 0, MAX_FILE_PART) for more in range(MAX_CALLS)))
                await trio.sleep(0.01)
        assert len(read) == ALL_CALLS // MAX_CALLS
        assert max(read.values()) * MAX_FILE_PART < 3 * QUEUE_BYTES
        await near.call(link, AskContacts, Contacts)
        await near.call(link, lambda call: AskFile(call, bytes(32), "", 0, MAX_FILE_PART), FilePart)


async def test_what_was_read_of_a_file_is_sent(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """It counts for who asked (WIRE-27), whatever came before it in the queue meanwhile."""
    far, near, world, read = Exchange(nursery), Collector(), MemoryWorld(rate=1e6), Counter[PeerKey]()

    async def read_part(asker: Link, ask: Ask) -> FilePart:
        await trio.sleep(0.1)
        read[asker.peer] += 1
        return FilePart(ask.call, 1 << 30, bytes(MAX_FILE_PART))

    far.answer(AskFile, read_part)
    async with (
        open_memory_network(world, KEYS[0].public, far) as node,
        open_memory_network(world, KEYS[1].public, near) as other,
    ):
        link = await other.dial(node.addresses()[0])
        for _ in range(4):
            for call in range(1, MAX_CALLS + 1):
                link.send_nowait(AskFile(call, bytes(32), "", 0, MAX_FILE_PART))
            await trio.sleep(0.15)
        await trio.sleep(10)
    parts = sum([isinstance(await near.next(), FilePart) for _ in range(near.waiting())])
    assert parts == read[KEYS[1].public] > QUEUE_BYTES // MAX_FILE_PART


async def test_a_disk_that_hangs_holds_up_files_alone_and_none_beyond_its_time(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far = await open_side(0), await open_side(1)
    hangs = True

    async def read_part(_asker: Link, ask: Ask) -> FilePart:
        if hangs:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return FilePart(ask.call, 1, b"1")

    far.exchange.answer(AskFile, read_part)
    far.exchange.answer(AskContacts, say_where)
    link = await near.dial(far)
    for call in range(1, MAX_CALLS + 1):
        link.send_nowait(ask_file(1000 + call))
    await trio.sleep(0.1)
    await near.exchange.call(link, AskContacts, Contacts)
    with pytest.raises(Refused, match="too many calls at once"):
        await near.exchange.call(link, ask_file, FilePart)
    hangs = False
    await trio.sleep(CALL_S)
    await near.exchange.call(link, ask_file, FilePart)


def ask_file(call: int) -> AskFile:
    return AskFile(call, bytes(32), "", 0, 1)


async def deaf(near: Side, monkeypatch: pytest.MonkeyPatch) -> tuple[Link, Pipe]:
    """A link to a peer that asks and reads nothing, until no more waits to be read than may; and its end of it."""
    monkeypatch.setattr(memory, "BUFFER_BYTES", 8_192)
    pipe = await MemoryGround(near.world, KEYS[1].public).dial(Address(near.network.addresses()[0]))
    await say(pipe, HELLO)
    await wait_all_tasks_blocked()
    [link] = near.network.links()
    for number in range(1, MANY):  # refused, for nobody answers that here
        near.exchange.on_message(link, AskContacts(number))
    assert not link.has_room(Priority.CONTROL)
    return link, pipe


async def test_what_is_refused_to_a_peer_that_does_not_listen_is_not_kept_for_it(
    autojump_clock: MockClock, open_side: OpenSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = await open_side(0)
    _, pipe = await deaf(near, monkeypatch)
    decoder, refused = FrameDecoder(), []
    with trio.move_on_after(1):
        while data := await pipe.read():
            decoder.feed(data)
            came = list(iter(decoder.next_message, None))
            refused += [message.call for message in came if isinstance(message, CallRefused)]
    assert refused == list(range(1, len(refused) + 1))
    assert 0 < len(refused) < MANY - 1


async def test_a_peer_that_asks_and_does_not_listen_holds_no_caller(
    autojump_clock: MockClock, open_side: OpenSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = await open_side(0)
    link, _ = await deaf(near, monkeypatch)
    began = trio.current_time()
    with pytest.raises(Refused):
        await near.exchange.call(link, AskContacts, Contacts)
    assert trio.current_time() - began == CALL_S


async def test_a_cancelled_call_leaves_nothing_behind(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)

    async def slow(asker: Link, ask: Ask) -> Contacts:
        await trio.sleep(1)
        return await say_where(asker, ask)

    far.exchange.answer(AskContacts, slow)
    link = await near.dial(far)
    with trio.move_on_after(0.5):
        await near.exchange.call(link, AskContacts, Contacts)
    answer = await near.exchange.call(link, AskContacts, Contacts)
    assert answer.call == 2


# Sessions


async def test_a_session_takes_the_messages_of_its_peers(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming:
        link.send_nowait(credit(5))
        assert await incoming.receive() == (near.network.key, credit(5))


async def test_a_session_may_take_messages_without_a_channel_but_deaths_come_through_it(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    link.send_nowait(rows(8))
    await trio.sleep(EARLY_S / 2)
    taken: list[tuple[PeerKey, SessionMessage]] = []
    take = lambda peer, message: taken.append((peer, message))  # noqa: E731
    with far.exchange.open_session(SESSION, [near.network.key], take) as incoming:
        link.send_nowait(credit(6))
        link.close(Code.IDLE)
        peer, why = await incoming.receive()
    assert taken == [(near.network.key, rows(8)), (near.network.key, credit(6))]
    assert peer == near.network.key and isinstance(why, LinkDead)


async def test_a_session_opens_once(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near = await open_side(0)
    with near.exchange.open_session(SESSION, []), pytest.raises(Refused) as failure:  # noqa: SIM117
        with near.exchange.open_session(SESSION, []):
            raise AssertionError
    assert failure.value.code is Code.BAD_STATE
    with near.exchange.open_session(SESSION, []):
        await trio.lowlevel.checkpoint()


async def test_a_stranger_in_a_session_loses_its_link(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-13."""
    near, far, stranger = await open_side(0), await open_side(1), await open_side(2)
    friend, enemy = await near.dial(far), await stranger.dial(far)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming:
        enemy.send_nowait(credit(5))
        await enemy.closed.wait()
        assert enemy.dead is not None
        assert enemy.dead.code is Code.BAD_STATE
        friend.send_nowait(credit(6))
        assert await incoming.receive() == (near.network.key, credit(6))


async def test_what_strangers_send_of_a_session_that_is_over_is_dropped(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    """WIRE-13."""
    near, far, late = await open_side(0), await open_side(1), await open_side(2)
    link = await late.dial(far)
    with far.exchange.open_session(SESSION, [near.network.key], is_over=lambda: True) as incoming:
        link.send_nowait(credit(5))
        await wait_all_tasks_blocked()
        assert link.dead is None
        assert incoming.statistics().current_buffer_used == 0


async def test_a_session_needs_the_links_of_its_peers_while_it_is_in_use(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far = await open_side(1), await open_side(2)
    for rests, over, needed in ((False, False, {near.network.key}), (True, False, set()), (False, True, set())):
        with far.exchange.open_session(
            SESSION, [near.network.key], is_over=lambda over=over: over, rests=lambda rests=rests: rests
        ):
            assert set(far.exchange.needed()) == needed


async def test_a_session_hears_of_the_death_of_its_links(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    with near.exchange.open_session(SESSION, [far.network.key]) as incoming:
        link.close(Code.IDLE)
        sender, why = await incoming.receive()
        assert sender == far.network.key
        assert isinstance(why, LinkDead)
        assert why.code is Code.IDLE


async def test_a_session_hears_nothing_of_the_links_of_others(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far, other = await open_side(0), await open_side(1), await open_side(2)
    link = await near.dial(other)
    with near.exchange.open_session(SESSION, [far.network.key]) as incoming:
        link.close(Code.IDLE)
        await wait_all_tasks_blocked()
        assert incoming.statistics().current_buffer_used == 0


async def test_rows_may_come_before_their_session(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-14."""
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    for message in (rows(8), credit(5), rows(12), rows(8, OTHER)):
        link.send_nowait(message)
    await trio.sleep(EARLY_S / 2)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming:
        assert [incoming.receive_nowait()[1] for _ in range(2)] == [rows(8), rows(12)]
        with pytest.raises(trio.WouldBlock):
            incoming.receive_nowait()


async def test_rows_do_not_wait_for_ever_for_their_session(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-14."""
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    link.send_nowait(rows(8))
    await trio.sleep(EARLY_S + 0.1)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming, pytest.raises(trio.WouldBlock):
        incoming.receive_nowait()


async def test_early_messages_of_a_stranger_do_not_enter_the_session(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far, stranger = await open_side(0), await open_side(1), await open_side(2)
    (await stranger.dial(far)).send_nowait(rows(8))
    await trio.sleep(0.1)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming, pytest.raises(trio.WouldBlock):
        incoming.receive_nowait()


async def test_early_messages_go_with_their_link(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    link.send_nowait(rows(8))
    await trio.sleep(0.1)
    link.close(Code.IDLE)
    await link.closed.wait()
    await trio.sleep(0.1)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming, pytest.raises(trio.WouldBlock):
        incoming.receive_nowait()


async def test_only_so_many_early_messages_wait(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-14."""
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    for _ in range(MAX_EARLY + 10):
        link.send_nowait(rows(8))
    await trio.sleep(0.5)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming:
        assert incoming.statistics().current_buffer_used == MAX_EARLY


async def test_only_so_many_early_bytes_wait(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-14."""
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    for _ in range(8):
        await link.send(rows(MAX_EARLY_BYTES // 4))
    await trio.sleep(0.5)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming:
        assert incoming.statistics().current_buffer_used == 4


async def test_messages_of_sessions_that_are_not_open_are_strays(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far = await open_side(0), await open_side(1)
    far.keep_strays()
    link = await near.dial(far)
    link.send_nowait(Stored(SESSION, 3))
    link.send_nowait(rows(8))
    await trio.sleep(0.1)
    assert far.strays == [Stored(SESSION, 3)]


async def test_after_its_end_a_session_is_forgotten(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    far.keep_strays()
    link = await near.dial(far)
    with far.exchange.open_session(SESSION, [near.network.key]):
        await trio.lowlevel.checkpoint()
    link.send_nowait(credit(5))
    await trio.sleep(0.1)
    assert far.strays == [credit(5)]
    assert link.dead is None


async def test_a_peer_that_floods_a_session_loses_its_link_and_the_session_hears_of_it(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming:
        for number in range(MAX_BACKLOG + 1):
            await link.send(credit(number))
        await link.closed.wait()
        assert link.dead is not None
        assert link.dead.code is Code.OVER_CREDIT
        for number in range(MAX_BACKLOG):
            assert (await incoming.receive())[1] == credit(number)
        assert isinstance((await incoming.receive())[1], LinkDead)


async def test_messages_of_a_link_are_told_apart(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    keys = [near.network.key]
    with far.exchange.open_session(SESSION, keys) as one, far.exchange.open_session(OTHER, keys) as other:
        link.send_nowait(credit(1, OTHER))
        link.send_nowait(Finish(SESSION, 0, 5, Code.END))
        link.send_nowait(Close(OTHER, 0, Code.CANCELLED, 0, ""))
        await trio.sleep(0.1)
        assert one.receive_nowait()[1] == Finish(SESSION, 0, 5, Code.END)
        assert [other.receive_nowait()[1] for _ in range(2)] == [credit(1, OTHER), Close(OTHER, 0, 4, 0, "")]


async def test_an_open_goes_to_who_takes_opens(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    link.send_nowait(OPEN)
    await trio.sleep(0.1)
    assert far.opens == [OPEN]


async def test_another_host_takes_opens_for_as_long_as_its_block_lasts(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far, opens, closes = await open_side(0), await open_side(1), [], []
    link, close = await near.dial(far), Close(SESSION, 0, Code.CANCELLED, 0, "")
    with far.exchange.hosted_by(lambda _, message: opens.append(message), lambda _, message: closes.append(message)):
        link.send_nowait(OPEN)
        link.send_nowait(close)
        await trio.sleep(0.1)
    link.send_nowait(replace(OPEN, session=OTHER))
    link.send_nowait(close)
    await trio.sleep(0.1)
    assert (opens, closes) == ([OPEN], [close])
    assert far.opens == [replace(OPEN, session=OTHER)]


async def test_a_close_that_overtakes_its_opening_ends_the_session(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    """Else it would hold its pages for nobody until it is idle for too long."""
    near, far = await open_side(0), await open_side(1)
    far.keep_strays()
    link = await near.dial(far)
    link.send_nowait(OPEN)
    link.send_nowait(Close(SESSION, 0, Code.CANCELLED, 0, ""))
    await trio.sleep(1)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming:
        assert incoming.receive_nowait() == (near.network.key, Close(SESSION, 0, Code.CANCELLED, 0, ""))
    link.send_nowait(Close(SESSION, 0, Code.CANCELLED, 0, ""))
    await trio.sleep(1)
    assert far.strays == [Close(SESSION, 0, Code.CANCELLED, 0, "")] * 2


async def test_closes_of_sessions_that_were_refused_take_no_room(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    for number in range(KEY_OPENS_BURST - 1):
        session = SessionId(number.to_bytes(16, "big"))
        link.send_nowait(replace(OPEN, session=session))
        link.send_nowait(Close(session, 0, Code.CANCELLED, 0, ""))
    for message in (OPEN, Close(SESSION, 0, Code.CANCELLED, 0, ""), Close(SESSION, 0, Code.CANCELLED, 0, "")):
        link.send_nowait(message)
    await trio.sleep(1)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming:
        assert incoming.statistics().current_buffer_used == 1


async def test_a_session_that_never_opens_is_forgotten(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    link = await near.dial(far)
    link.send_nowait(OPEN)
    await trio.sleep(OPENING_S + 1)
    link.send_nowait(replace(OPEN, session=OTHER))
    link.send_nowait(Close(SESSION, 0, Code.CANCELLED, 0, ""))
    await trio.sleep(1)
    with far.exchange.open_session(SESSION, [near.network.key]) as incoming, pytest.raises(trio.WouldBlock):
        incoming.receive_nowait()


async def test_opens_of_one_peer_are_taken_few_a_second(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-26"""
    near, far = await open_side(0), await open_side(1)
    near.keep_strays()
    link = await near.dial(far)
    for number in range(KEY_OPENS_BURST + 5):
        link.send_nowait(replace(OPEN, session=SessionId(number.to_bytes(16, "big"))))
    await trio.lowlevel.checkpoint()
    await trio.sleep(0.001)
    assert len(far.opens) == KEY_OPENS_BURST
    assert {message.code for message in near.strays if isinstance(message, SessionRefused)} == {Code.BUSY}
    assert len(near.strays) == 5


async def test_opens_of_one_network_are_taken_few_a_second(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-26"""
    far, *others = [await open_side(number) for number in range(4)]
    for place, near in enumerate(others):
        far.world.sources[near.network.key] = Source("198.41.0.4", Scope.PUBLIC)
        link = await near.dial(far)
        for number in range(KEY_OPENS_BURST):
            link.send_nowait(replace(OPEN, session=SessionId(bytes([place, number] * 8))))
    await trio.lowlevel.checkpoint()
    await trio.sleep(0.001)
    assert len(far.opens) == OPENS_BURST


async def test_a_session_that_is_being_opened_is_not_opened_again(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    near, far = await open_side(0), await open_side(1)
    near.keep_strays()
    link = await near.dial(far)
    link.send_nowait(OPEN)
    link.send_nowait(OPEN)
    await trio.sleep(1)
    assert far.opens == [OPEN]
    assert [message.code for message in near.strays if isinstance(message, SessionRefused)] == [Code.BAD_STATE]


async def test_early_rows_of_all_links_are_bounded_together(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WIRE-14."""
    monkeypatch.setattr("p2pinfer.overlay.early.ALL_EARLY", 10)
    early = EarlyRows()
    peers = [PeerKey(bytes([number]) * 32) for number in range(4)]
    for peer in peers:
        for _ in range(4):
            early.keep(peer, rows(8), 0.0)
    assert [peer for peer, _ in early.take(SESSION, 0.0)] == [peers[0]] * 4 + [peers[1]] * 4 + [peers[2]] * 2
    early.keep(peers[3], rows(8), 0.0)
    assert [peer for peer, _ in early.take(SESSION, 0.0)] == [peers[3]]


async def test_an_open_where_nobody_takes_any_is_refused(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1, hosts=False)
    near.keep_strays()
    link = await near.dial(far)
    link.send_nowait(OPEN)
    await trio.sleep(0.1)
    assert [message.code for message in near.strays if isinstance(message, SessionRefused)] == [Code.UNSUPPORTED]
    assert link.dead is None


async def test_offers_nobody_asked_for_are_announcements(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    heard: list[Offers] = []
    far.exchange.hearers.append(lambda link, message: heard.append(message))
    (await near.dial(far)).send_nowait(Offers(0, ()))
    await trio.sleep(0.1)
    assert heard == [Offers(0, ())]


async def test_whoever_wants_to_hear_of_links_does(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, far = await open_side(0), await open_side(1)
    ups: list[PeerKey] = []
    far.exchange.greeters.append(lambda link: ups.append(link.peer))
    await near.dial(far)
    await trio.sleep(0.1)
    assert ups == [near.network.key]


async def test_the_log_warns_of_a_clock_when_several_networks_say_so_and_once(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """Or whoever links with a wrong clock would write it."""
    world = MemoryWorld()
    warnings: list[int] = []
    async with open_memory_network(world, KEYS[0].public, Exchange(nursery)) as network:
        for number in range(1, 4):
            world.sources[KEYS[number].public] = Source(f"203.0.113.{number}", Scope.PUBLIC)
            for _ in range(5):
                behind = new_greeting(Machine(lambda: 1.0))
                async with open_memory_network(world, KEYS[number].public, Exchange(nursery), behind) as other:
                    await other.dial(network.addresses()[0])
                    await trio.sleep(1)
            warnings.append(caplog.text.count("clocks of most peers"))
    assert warnings == [0, 0, 1]
