"""What a link does with time: silence, slow peers, priorities, windows. In memory, where time jumps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.wire.frames import FrameDecoder
from p2pinfer.core.wire.messages import Ack, AskContacts, FilePart, Message, Offers, Ping, Pong
from p2pinfer.core.wire.pace import MIN_WINDOW
from p2pinfer.overlay.admission import GREET_S
from p2pinfer.overlay.attempts import DIAL_S
from p2pinfer.overlay.dues import ACK_S
from p2pinfer.overlay.greeting import GOODBYE_S
from p2pinfer.overlay.limits import ALL_STRANGERS_BURST, ALL_STRANGERS_RATE, BACKLOG_BYTES
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network, Priority
from p2pinfer.overlay.outbox import QUEUE_BYTES
from p2pinfer.overlay.pipe import Address, Pipe
from p2pinfer.overlay.pulse import CHECK_S, PING_S, QUIET_S, SILENT_PINGS

from .conftest import HELLO, KEYS, Collector, say

BULK = FilePart(1, 16_000, bytes(16_000))


@asynccontextmanager
async def open_pair(world: MemoryWorld) -> AsyncIterator[tuple[Link, Collector, Link, Collector]]:
    """Both ends of a link."""
    near, far = Collector(), Collector()
    async with (
        open_memory_network(world, KEYS[0].public, near) as network,
        open_memory_network(world, KEYS[1].public, far) as other,
    ):
        link = await network.dial(other.addresses()[0])
        await far.wait_links(1)
        yield link, near, far.links[0], far


@asynccontextmanager
async def open_to_raw(world: MemoryWorld) -> AsyncIterator[tuple[Link, Collector, Pipe]]:
    """A link whose other end does only what the test does; it has said Hello."""
    collector = Collector()
    async with open_memory_network(world, KEYS[0].public, collector) as network:
        pipe = await MemoryGround(world, KEYS[7].public).dial(network.addresses()[0])
        await say(pipe, HELLO)
        await collector.wait_links(1)
        yield collector.links[0], collector, pipe
        await pipe.abort()


async def test_a_silent_peer_is_noticed_after_three_pings(autojump_clock: MockClock) -> None:
    async with open_to_raw(MemoryWorld()) as (_, collector, _pipe):
        started = trio.current_time()
        assert (await collector.wait_closed()).code is Code.SILENT
        assert trio.current_time() - started == pytest.approx(SILENT_PINGS * PING_S)


async def test_a_peer_that_speaks_but_never_answers_pings_is_silent(autojump_clock: MockClock) -> None:
    async with open_to_raw(MemoryWorld()) as (_, collector, pipe):
        for number in range(1, 101):
            if collector.closed:
                break
            await say(pipe, AskContacts(number))
            await trio.sleep(0.1)
        assert collector.closed[0].code is Code.SILENT


async def test_an_idle_link_stays_up(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld(latency_s=0.2)) as (link, _, _, far):
        await trio.sleep(3600)
        await link.send(AskContacts(1))
        assert await far.next() == AskContacts(1)


async def test_who_hears_announcements_pings_no_more(autojump_clock: MockClock) -> None:
    """WIRE-30: only the first pings are said."""
    async with open_to_raw(MemoryWorld()) as (link, _, pipe), trio.open_nursery() as nursery:
        pings: list[Ping] = []
        nursery.start_soon(answer, pipe, pings)
        for _ in range(20):
            await link.send(Offers(0, (), ()))
            await say(pipe, Offers(0, (), ()))
            await trio.sleep(QUIET_S / 2)
        assert len(pings) == SILENT_PINGS
        nursery.cancel_scope.cancel()


async def test_a_link_that_nobody_uses_lives_by_a_few_pings(autojump_clock: MockClock) -> None:
    async with open_to_raw(MemoryWorld()) as (link, _, pipe), trio.open_nursery() as nursery:
        pings: list[Ping] = []
        nursery.start_soon(answer, pipe, pings)
        await trio.sleep(10.5 * QUIET_S)
        assert link.dead is None
        assert len(pings) == SILENT_PINGS + 10
        nursery.cancel_scope.cancel()


async def test_who_moves_learns_soon_which_links_are_dead(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = [QUIET_S / 2, inf]

    async def wait_moved(_ground: MemoryGround) -> None:
        await trio.sleep(moves.pop(0))

    monkeypatch.setattr(MemoryGround, "wait_moved", wait_moved)
    async with open_to_raw(MemoryWorld()) as (_, collector, pipe):
        with trio.move_on_after(QUIET_S / 2 - 1):
            await answer(pipe, [])
        assert (await collector.wait_closed()).code is Code.SILENT
        assert trio.current_time() == pytest.approx(QUIET_S / 2 + CHECK_S)


async def test_a_link_that_we_do_not_read_is_not_held_against_its_peer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pongs lie there unread, of those too by which links are checked where our addresses have changed."""

    async def wait_moved(_ground: MemoryGround) -> None:
        await trio.sleep(4)

    monkeypatch.setattr(MemoryGround, "wait_moved", wait_moved)
    async with open_to_raw(MemoryWorld()) as (link, collector, pipe):
        link._reader._toll.owe(
            link.peer, link.source, ALL_STRANGERS_BURST + 3 * ALL_STRANGERS_RATE * SILENT_PINGS * PING_S
        )
        with trio.move_on_after(5 * SILENT_PINGS * PING_S):
            await answer(pipe, [])
        assert not collector.closed
        assert link.rtt_s is not None
        assert (await collector.wait_closed()).code is Code.SILENT


async def answer(pipe: Pipe, pings: list[Ping]) -> None:
    """As a peer has to, until cancelled."""
    decoder = FrameDecoder()
    while data := await pipe.read():
        decoder.feed(data)
        for message in iter(decoder.next_message, None):
            if isinstance(message, Ping):
                pings.append(message)
                await say(pipe, Pong(message.at_us))


async def test_whoever_waits_for_room_hears_of_the_links_death_at_once(autojump_clock: MockClock) -> None:
    async with open_to_raw(MemoryWorld()) as (link, _, _pipe):
        failed = []

        async def send() -> None:
            try:
                while True:
                    await link.send(BULK, Priority.BULK)
            except LinkDead as error:
                failed.append((trio.current_time(), error.code))

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(send)
        assert [code for _, code in failed] == [Code.SILENT] * 5
        assert [at - started for at, _ in failed] == pytest.approx([SILENT_PINGS * PING_S] * 5)


async def test_a_peer_that_does_not_read_holds_back_senders_before_much_piles_up(
    autojump_clock: MockClock,
) -> None:
    async with open_to_raw(MemoryWorld()) as (link, _, _pipe):
        sent = 0
        with trio.move_on_after(1):
            while True:
                await link.send(BULK, Priority.BULK)
                sent += len(BULK.data)
        assert sent < 2 * QUEUE_BYTES


async def test_messages_that_do_not_wait_end_the_link_when_too_much_piles_up(autojump_clock: MockClock) -> None:
    async with open_to_raw(MemoryWorld()) as (link, collector, _pipe):
        with pytest.raises(LinkDead) as caught:
            for _ in range((BACKLOG_BYTES + MIN_WINDOW) // len(BULK.data) + 3):
                link.send_nowait(BULK, Priority.BULK)
        assert caught.value.code is Code.SILENT
        assert len(collector.closed) == 1


async def test_a_full_queue_does_not_keep_pongs_back(autojump_clock: MockClock) -> None:
    """WIRE-8"""
    async with open_to_raw(MemoryWorld()) as (link, _, pipe):
        while link.dead is None and trio.current_time() < 1:
            with trio.move_on_after(0.1):
                await link.send(BULK, Priority.BULK)
        await say(pipe, Ping(42))
        assert Pong(42) in await hear_some(pipe, until=Pong(42))


async def test_the_end_of_a_burst_is_acknowledged(autojump_clock: MockClock) -> None:
    async with open_to_raw(MemoryWorld()) as (_, _, pipe):
        started = trio.current_time()
        await say(pipe, AskContacts(1))
        heard = await hear_some(pipe, until=Ack)
        assert isinstance(heard[-1], Ack)
        assert trio.current_time() - started == pytest.approx(ACK_S)


async def test_on_a_link_that_rests_a_question_is_acknowledged_with_its_answer(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld()) as (link, near, back, far):
        await trio.sleep(QUIET_S / 2)
        asked_s = trio.current_time()
        link.send_nowait(AskContacts(1))
        assert await far.next() == AskContacts(1)
        back.send_nowait(Offers(1, ()))
        assert await near.next() == Offers(1, ())
        assert not link._writer.awaits_ack()
        assert trio.current_time() == asked_s


async def test_who_rests_is_not_woken_for_an_ack_that_has_come(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld()) as (link, near, back, far):
        await trio.sleep(QUIET_S / 2)
        link.send_nowait(AskContacts(1))
        assert await far.next() == AskContacts(1)
        back.send_nowait(Offers(1, ()))
        assert await near.next() == Offers(1, ())
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline > PING_S


async def test_two_idle_peers_do_not_acknowledge_acknowledgements(autojump_clock: MockClock) -> None:
    async with open_to_raw(MemoryWorld()) as (_, _, pipe):
        await say(pipe, Ack(0, 0), Ping(1))
        with trio.move_on_after(1.5):
            heard = await hear_some(pipe, until=Ack)
            raise AssertionError(heard)


async def test_a_round_trip_is_measured(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld(latency_s=0.025)) as (link, _, _, _):
        assert link.rtt_s == pytest.approx(0.050, abs=1e-5)  # of the Hellos
        await trio.sleep(1)
        assert link.rtt_s == pytest.approx(0.050, abs=1e-5)


async def test_a_link_that_answers_is_told_from_one_that_does_not(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld()) as (link, _, _, _):
        assert await link.check()
    async with open_to_raw(MemoryWorld()) as (link, _, _pipe):
        assert not await link.check()


async def test_a_decode_frame_overtakes_files_that_wait(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld(rate=1_250_000, latency_s=0.025)) as (link, _, _, far):
        for _ in range(60):
            await link.send(BULK, Priority.BULK)
        link.send_nowait(AskContacts(1), Priority.DECODE)
        came = [await far.next() for _ in range(60)]
        assert came.index(AskContacts(1)) < 12  # behind what was under way, and nothing else


async def test_little_waits_in_the_queues_of_a_slow_path(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld(rate=1_250_000, latency_s=0.025)) as (link, _, _, far), trio.open_nursery() as n:

        async def send_files() -> None:
            while True:
                await link.send(BULK, Priority.BULK)

        n.start_soon(send_files)
        await trio.sleep(20)
        link.send_nowait(AskContacts(1), Priority.DECODE)
        started = trio.current_time()
        while await far.next() != AskContacts(1):
            pass
        assert far_backlog(far) < 2
        assert trio.current_time() - started < 0.025 + 0.060
        n.cancel_scope.cancel()


async def test_a_slow_path_is_used_to_the_full(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld(rate=1_250_000, latency_s=0.025)) as (link, _, _, far):
        await link.send(BULK, Priority.BULK)
        await trio.sleep(3)
        started = trio.current_time()
        for _ in range(500):
            await link.send(BULK, Priority.BULK)
        for _ in range(501):
            await far.next()
        rate = 500 * len(BULK.data) / (trio.current_time() - started)
        assert rate > 0.9 * 1_250_000


async def test_a_fast_path_gets_longer_frames(autojump_clock: MockClock) -> None:
    async with open_pair(MemoryWorld(rate=20_000_000, latency_s=0.005)) as (link, _, _, far):
        assert link.frame_budget() == 16 * 1024
        for _ in range(500):
            await link.send(BULK, Priority.BULK)
        for _ in range(500):
            await far.next()
        assert 60_000 < link.frame_budget() < 110_000


async def test_a_goodbye_is_given_up_when_the_peer_does_not_take_it(autojump_clock: MockClock) -> None:
    async with open_to_raw(MemoryWorld()) as (link, _, _pipe):
        while link.dead is None and trio.current_time() < 1:
            with trio.move_on_after(0.1):
                await link.send(BULK, Priority.BULK)
        started = trio.current_time()
        link.close(Code.IDLE)
        await link.closed.wait()
        assert trio.current_time() - started == pytest.approx(GOODBYE_S)


async def test_a_peer_that_opens_a_stream_and_says_nothing_is_dropped(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        pipe = await MemoryGround(world, KEYS[7].public).dial(network.addresses()[0])
        started = trio.current_time()
        assert await pipe.read() == b""
        assert trio.current_time() - started == pytest.approx(GREET_S)


async def test_a_dial_that_nobody_answers_is_given_up(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    world.grounds[KEYS[1].public] = MemoryGround(world, KEYS[1].public)  # takes connections, greets nobody
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        with pytest.raises(LinkDead) as caught:
            await network.dial(world.grounds[KEYS[1].public].addresses()[0])
        assert caught.value.code is Code.UNREACHABLE
        assert trio.current_time() == pytest.approx(DIAL_S)


async def test_a_peer_that_cannot_be_dialled_is_reached_by_dialling_us(autojump_clock: MockClock) -> None:
    """The smaller key dials too, in vain; the stream it was holding back becomes the link."""
    world = MemoryWorld(latency_s=0.05)
    near, far = Collector(), Collector()
    async with (
        open_memory_network(world, KEYS[0].public, near) as small,
        open_memory_network(world, KEYS[1].public, far) as great,
        trio.open_nursery() as nursery,
    ):
        world.unreachable.add(great.key)
        nursery.start_soon(dial_in_vain, small, great.addresses()[0])
        link = await great.dial(small.addresses()[0])
        await link.send(AskContacts(1))
        assert await near.next() == AskContacts(1)


async def dial_in_vain(network: Network, address: Address) -> None:
    with pytest.raises(LinkDead):
        await network.dial(address)


async def hear_some(pipe: Pipe, until: Message | type[Message]) -> list[Message]:
    """What the other side says, up to a message."""
    decoder, heard = FrameDecoder(), []
    while data := await pipe.read():
        decoder.feed(data)
        for message in iter(decoder.next_message, None):
            heard.append(message)
            if message == until or type(message) is until:
                return heard
    raise AssertionError(heard)


def far_backlog(collector: Collector) -> int:
    return collector.waiting()
