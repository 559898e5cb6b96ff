"""Several who fetch files over one slow uplink, and a token that waits behind what is under way to them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.units import Codec, PeerKey, SessionId
from p2pinfer.core.wire.messages import AskFile, FilePart
from p2pinfer.core.wire.pace import MIN_FRAME, Pace
from p2pinfer.core.wire.session_messages import Forward, SessionMessage
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.limits import LEAST_UPLINK
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.outbox import Priority
from p2pinfer.overlay.uplink import Lane, Uplink

from .conftest import KEYS

HOME = 1_250_000.0  # bytes a second: 10 Mbit/s
LATENCY_S = 0.025
FETCHERS = 4
AHEAD = 8  # parts that each asks for at once
SESSION = SessionId(bytes(16))
ROW = bytes(700)
EVERY_S = 0.04
FRAME = MIN_FRAME + 100  # bytes, whatever stands around a part
NODE, CHAT = KEYS[0].public, KEYS[1].public


@dataclass
class Town:
    """A node with files, a client with a session, and those who fetch."""

    node: Exchange
    fetched: dict[PeerKey, int] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    to_chat: Link | None = None

    def hear(self, _: PeerKey, message: SessionMessage) -> None:
        assert isinstance(message, Forward)
        self.took_s.append(trio.current_time() - self.sent_s[message.position])

    async def chat(self, count: int) -> None:
        assert self.to_chat is not None
        for position in range(count):
            self.sent_s.append(trio.current_time())
            self.to_chat.send_nowait(Forward(SESSION, 0, 0, position, 1, 0, Codec.BF16, ROW), Priority.DECODE)
            await trio.sleep(EVERY_S)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Someone has a session at the node."""
        with self.node.open_session(SESSION, [CHAT]):
            yield


@asynccontextmanager
async def open_town(
    rate: float = HOME, latency_s: float = LATENCY_S, fetchers: int = FETCHERS, theirs: float = 0.0
) -> AsyncIterator[Town]:
    """rate: of the node's line, in bytes a second. theirs: of each other line; 0 is without bound"""
    world = MemoryWorld(latency_s=latency_s, uplink=rate, rate=theirs)
    for at in range(fetchers):
        world.sources[KEYS[2 + at].public] = Source(f"198.41.0.{at}", Scope.PUBLIC)
    async with trio.open_nursery() as nursery:
        town = Town(Exchange(nursery))
        town.node.answer(AskFile, answer)
        async with open_memory_network(world, NODE, town.node) as node:
            chat = Exchange(nursery)
            chatting = open_memory_network(world, CHAT, chat)
            async with chatting as network:
                link = await network.dial(node.addresses()[0])
                town.to_chat = node.link(CHAT)
                with chat.open_session(SESSION, [link.peer], town.hear):
                    async with trio.open_nursery() as fetching:
                        for at in range(fetchers):
                            fetching.start_soon(fetch, world, KEYS[2 + at].public, node.addresses()[0], town)
                        yield town
                        fetching.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def answer(link: Link, ask: Ask) -> FilePart:
    assert isinstance(ask, AskFile)
    await trio.lowlevel.checkpoint()
    return FilePart(ask.call, 1 << 30, bytes(min(ask.limit, link.frame_budget())))


async def fetch(world: MemoryWorld, key: PeerKey, address: str, town: Town) -> None:
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        async with open_memory_network(world, key, exchange) as network:
            link = await network.dial(address)

            async def ask() -> None:
                question = partial(AskFile, model=bytes(32), name="tokenizer.json", offset=0, limit=MIN_FRAME)
                while True:
                    part = await exchange.call(link, question, FilePart)
                    town.fetched[key] = town.fetched.get(key, 0) + len(part.data)

            async with trio.open_nursery() as asking:
                for _ in range(AHEAD):
                    asking.start_soon(ask)


async def fetched_in(town: Town, seconds: float) -> float:
    before = sum(town.fetched.values())
    await trio.sleep(seconds)
    return (sum(town.fetched.values()) - before) / seconds


async def test_a_token_waits_for_one_part_of_a_file_however_many_fetch(autojump_clock: MockClock) -> None:
    """WIRE-17: and files take what the line has left."""
    async with open_town() as town:
        await trio.sleep(1)
        with town.session():
            await trio.sleep(1)
            before, began_s = sum(town.fetched.values()), trio.current_time()
            await town.chat(200)
            rate = (sum(town.fetched.values()) - before) / (trio.current_time() - began_s)
    waits_s = sorted(took_s - LATENCY_S - len(ROW) / HOME for took_s in town.took_s)
    assert waits_s[len(waits_s) // 2] < FRAME / HOME
    assert waits_s[-1] < 3 * FRAME / HOME  # two, where a round trip looked shorter than it is
    assert rate > 0.8 * HOME


async def test_the_line_is_full_while_nobody_has_a_session(autojump_clock: MockClock) -> None:
    async with open_town() as town:
        await trio.sleep(1)
        assert await fetched_in(town, 5) > 0.95 * HOME
        with town.session():
            await trio.sleep(1)
        await trio.sleep(1)
        assert await fetched_in(town, 5) > 0.95 * HOME


async def test_who_fetches_alone_fetches_as_fast_beside_a_session(autojump_clock: MockClock) -> None:
    async with open_town(fetchers=1) as town:
        with town.session():
            await trio.sleep(1)
            assert await fetched_in(town, 5) > 0.8 * HOME


SLOW = 125_000.0  # bytes a second: 1 Mbit/s
LINE = 300_000.0
FOUND_S = 30.0  # until it is known what the line carries


async def test_those_with_slow_lines_fetch_as_fast_as_these_allow(autojump_clock: MockClock) -> None:
    """Six of them take half of the line; a token waits for less than two parts."""
    async with open_town(fetchers=6, theirs=SLOW) as town:
        with town.session():
            await trio.sleep(FOUND_S)
            before, began_s = sum(town.fetched.values()), trio.current_time()
            await town.chat(200)
            rate = (sum(town.fetched.values()) - before) / (trio.current_time() - began_s)
    one_by_one = MIN_FRAME / (FRAME / SLOW + 2 * LATENCY_S)
    assert rate > 0.9 * 6 * one_by_one
    waits_s = sorted(took_s - LATENCY_S - len(ROW) / HOME - len(ROW) / SLOW for took_s in town.took_s)
    assert waits_s[-1] < 2 * FRAME / HOME


async def test_many_with_slow_lines_leave_room_for_a_token(autojump_clock: MockClock) -> None:
    """Together theirs are faster than the node's line."""
    async with open_town(fetchers=6, theirs=SLOW, rate=LINE) as town:
        with town.session():
            await trio.sleep(FOUND_S)
            before, began_s = sum(town.fetched.values()), trio.current_time()
            await town.chat(400)
            rate = (sum(town.fetched.values()) - before) / (trio.current_time() - began_s)
    part_s = FRAME / LINE
    waits_s = sorted(took_s - LATENCY_S - len(ROW) / LINE - len(ROW) / SLOW for took_s in town.took_s)
    assert waits_s[len(waits_s) // 2] < part_s
    assert waits_s[-1] < 3 * part_s
    assert rate > 0.7 * LINE


# One who waits for the line, and those who have it

PLACES = [Source(f"198.41.0.{at}", Scope.PUBLIC) for at in range(3)]
PART_S = FRAME / LEAST_UPLINK


class Fetching:
    """A link with parts that wait, and nothing else."""

    def __init__(self, uplink: Uplink, source: Source, parts: int = 1000, rtt_s: float | None = None) -> None:
        self.pace = Pace()
        if rtt_s is not None:
            self.pace.add_round_trip(rtt_s)
        self.lane = Lane(uplink, source, self.pace, self.flush)
        self.parts = parts
        self.sent_s: list[float] = []

    def flush(self) -> None:
        """As a link's writer does."""
        while self.parts and self.lane.take(FRAME):
            self.parts -= 1
            self.sent_s.append(trio.current_time())
            if self.lane.begun:
                self.lane.note_sent(self.pace.sent + FRAME)
            self.pace.add_sent(FRAME)

    def acknowledge(self, short: int = 0) -> None:
        self.pace.add_ack(self.pace.sent - short, int(trio.current_time() * 1e6))
        self.lane.note_ack()
        self.flush()


@asynccontextmanager
async def open_uplink(is_shared: bool = True) -> AsyncIterator[Uplink]:
    uplink = Uplink(lambda: is_shared)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uplink.run)
        yield uplink
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("source", "is_shared"), [(NOWHERE, True), (PLACES[0], False)])
async def test_nothing_is_held_on_this_machine_or_while_nobody_decodes(
    autojump_clock: MockClock, source: Source, is_shared: bool
) -> None:
    async with open_uplink(is_shared) as uplink:
        one = Fetching(uplink, source, 100)
        one.flush()
        assert one.parts == 0


async def test_who_does_not_acknowledge_holds_the_line_once_and_not_for_long(autojump_clock: MockClock) -> None:
    async with open_uplink() as uplink:
        silent, other = Fetching(uplink, PLACES[0]), Fetching(uplink, PLACES[1])
        silent.flush()
        other.flush()
        await trio.sleep(10)
        assert len(silent.sent_s) == 1
        assert other.sent_s == [pytest.approx(PART_S)]


async def test_the_line_is_free_with_the_ack_and_with_the_end_of_the_link(autojump_clock: MockClock) -> None:
    async with open_uplink() as uplink:
        first, second, third = (Fetching(uplink, place, 1) for place in PLACES)
        for one in (first, second, third):
            one.flush()
        await trio.sleep(0.01)
        first.acknowledge(short=50)  # as where it acknowledges every so many bytes
        await trio.sleep(0.01)
        second.lane.leave()
        await wait_all_tasks_blocked()
        assert [*first.sent_s, *second.sent_s, *third.sent_s] == [0, pytest.approx(0.01), pytest.approx(0.02)]


async def test_who_waits_and_ends_is_passed_over(autojump_clock: MockClock) -> None:
    async with open_uplink() as uplink:
        first, second, third = (Fetching(uplink, PLACES[0], 1) for _ in range(3))
        for one in (first, second, third):
            one.flush()
        second.lane.leave()
        await trio.sleep(10)
        assert (second.sent_s, third.sent_s) == ([], [pytest.approx(PART_S)])


async def test_a_part_has_left_when_it_had_the_time_that_the_latest_took(autojump_clock: MockClock) -> None:
    """Beyond the round trip: the path is long, and the line fast."""
    async with open_uplink() as uplink:
        far = Fetching(uplink, PLACES[0], rtt_s=0.2)
        far.flush()
        await trio.sleep(0.22)
        far.acknowledge()
        await trio.sleep(0.15)
        gaps_s = [after - before for before, after in zip(far.sent_s[1:], far.sent_s[2:], strict=False)]
        assert len(gaps_s) >= 6
        assert gaps_s == [pytest.approx(0.02)] * len(gaps_s)


async def test_networks_have_turns_however_many_links_one_has(autojump_clock: MockClock) -> None:
    async with open_uplink() as uplink:
        crowd = [Fetching(uplink, PLACES[0]) for _ in range(8)]
        alone = Fetching(uplink, PLACES[1])
        everybody = [*crowd, alone]
        for one in everybody:
            one.flush()
        for _ in range(100):
            await trio.sleep(0.01)
            for one in everybody:
                if one.lane.parts:
                    one.acknowledge()
        sent = [len(one.sent_s) for one in crowd]
        assert len(alone.sent_s) == pytest.approx(sum(sent), abs=2)
        assert max(sent) - min(sent) <= 1


async def test_who_delays_its_pongs_has_one_part_under_way_at_most(autojump_clock: MockClock) -> None:
    """Its acks come sooner than its round trip: so nobody knows how fast a part leaves, and it does not say so."""
    async with open_uplink() as uplink:
        liar = Fetching(uplink, PLACES[0], rtt_s=1.5)
        liar.flush()
        for _ in range(10):
            await trio.sleep(0.05)
            assert len(liar.lane.parts) == 1
            liar.acknowledge()


async def test_who_holds_a_provider_s_48_bits_has_one_turn(autojump_clock: MockClock) -> None:
    """wire.md, 7.1: it has 65,536 networks."""
    async with open_uplink() as uplink:
        crowd = [Fetching(uplink, Source(f"2a00:1450:4001:{at:x}::/64", Scope.PUBLIC)) for at in range(1, 9)]
        alone = Fetching(uplink, PLACES[1])
        everybody = [*crowd, alone]
        for one in everybody:
            one.flush()
        for _ in range(100):
            await trio.sleep(0.01)
            for one in everybody:
                if one.lane.parts:
                    one.acknowledge()
        assert len(alone.sent_s) == pytest.approx(sum(len(one.sent_s) for one in crowd), abs=2)


# What the line carries


async def test_a_session_s_pongs_tell_that_rows_wait_whatever_those_say_who_fetch(autojump_clock: MockClock) -> None:
    """One late pong is chance, and an early one is none."""
    async with open_uplink() as uplink:
        session = Fetching(uplink, PLACES[2])
        uplink.speed.rate = 10 * LEAST_UPLINK
        for late_s in (1.0, 0.0, 1.0, 0.01):
            session.lane.note_pong(late_s)
        assert uplink.speed.rate == 10 * LEAST_UPLINK
        for _ in range(20):
            session.lane.note_pong(1.0)
            await trio.sleep(2)
        assert uplink.speed.rate == LEAST_UPLINK
