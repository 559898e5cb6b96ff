"""Files from a crowd of offerers: whoever is silent, busy or slow keeps nobody else from being asked."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client import offerers
from p2pinfer.client.arrivals import DEFAULT_WAIT_S
from p2pinfer.client.file_search import PART, Fetcher
from p2pinfer.client.offerers import AT_ONCE
from p2pinfer.core.routes.measures import Measures
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused, RemoteProtocolError
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import ModelId, Roles, Span
from p2pinfer.core.wire.messages import AskFile, FilePart
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.limits import ALL_DIALS_BURST
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach
from tests.core.paid_route import certificate_for, key, offer_of

MODEL = ModelId(bytes([7]) * 32)
FILE = bytes(range(256)) * 256  # four parts
HELD_S = 1.5  # a file comes within it, though others were asked before

Answer = Callable[[AskFile], Awaitable[FilePart]]


async def honest(ask: AskFile) -> FilePart:
    await trio.lowlevel.checkpoint()
    return FilePart(ask.call, len(FILE), FILE[ask.offset : ask.offset + ask.limit])


async def silent(_ask: AskFile) -> FilePart:
    await trio.sleep_forever()


async def busy(_ask: AskFile) -> FilePart:
    await trio.lowlevel.checkpoint()
    raise Refused("too much of files at once", Code.BUSY, 0.5)


async def spent(ask: AskFile) -> FilePart:
    """The first part, and then no more today."""
    await trio.lowlevel.checkpoint()
    if ask.offset:
        raise Refused("this peer hands out no more of files today", Code.BUSY, 36_000)
    return await honest(ask)


async def trickling(ask: AskFile) -> FilePart:
    """The first part at once, and the others as late as they may be."""
    await trio.sleep(4.5 if ask.offset else 0)
    return await honest(ask)


async def false(ask: AskFile) -> FilePart:
    await trio.lowlevel.checkpoint()
    return FilePart(ask.call, 1, b"x")


def check(data: bytes) -> None:
    if data != FILE:
        raise RemoteProtocolError("another file", Code.BAD_RECORD)


class Crowd:
    """Offerers and the client that asks them. asked: how often each was. network, exchange: the client's."""

    network: Network
    exchange: Exchange

    def __init__(self, world: MemoryWorld, nursery: trio.Nursery) -> None:
        self.world = world
        self.offers: list[KnownOffer] = []
        self.asked: dict[str, int] = {}
        self._nursery = nursery

    async def add(self, name: str, answer: Answer, network: str = "") -> KnownOffer:
        exchange = Exchange(self._nursery)

        async def count(_link: Link, ask: Ask) -> FilePart:
            assert isinstance(ask, AskFile)
            self.asked[name] = self.asked.get(name, 0) + 1
            return await answer(ask)

        exchange.answer(AskFile, count)
        opened: Network = await self._nursery.start(self._stay, name, exchange)
        signed = offer_of(key(name), Span(0, 1), Roles.HEAD | Roles.TAIL, model=MODEL)
        self.offers.append(KnownOffer(signed, certificate_for(key(name)), opened.addresses(), 0.0, network))
        return self.offers[-1]

    async def fetcher(self) -> Fetcher:
        self.exchange = Exchange(self._nursery)
        self.network = await self._nursery.start(self._stay, "client", self.exchange)
        return Fetcher(self.network, self.exchange, Measures())

    async def _stay(self, name: str, exchange: Exchange, task_status: trio.TaskStatus[Network]) -> None:
        async with open_memory_network(self.world, key(name).public, exchange) as network:
            task_status.started(network)
            await trio.sleep_forever()


async def fetched_after(fetcher: Fetcher, crowd: Crowd) -> float:
    began = trio.current_time()
    assert await fetcher.fetch(crowd.offers, MODEL, "file", len(FILE), check) == FILE
    return trio.current_time() - began


@asynccontextmanager
async def open_crowd() -> AsyncIterator[Crowd]:
    async with trio.open_nursery() as nursery:
        yield Crowd(MemoryWorld(latency_s=0.02), nursery)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("networks", [1, 3])
async def test_an_honest_holder_is_found_among_150_who_are_silent_though_it_is_asked_last(
    autojump_clock: MockClock, networks: int
) -> None:
    async with open_crowd() as crowd:
        for number in range(150):
            await crowd.add(f"silent {number}", silent, f"network {number % networks}")
        answers = iter([false])
        last = await crowd.add("honest", lambda ask: next(answers, honest)(ask), "network 0")
        fetcher = await crowd.fetcher()
        with pytest.raises(Refused, match="another file"):
            await fetcher.fetch([last], MODEL, "file", len(FILE), check)
        assert await fetched_after(fetcher, crowd) < DEFAULT_WAIT_S
        assert await fetched_after(fetcher, crowd) < 2 * HELD_S  # who was silent is asked last now


async def test_a_network_of_its_own_is_asked_among_the_first(autojump_clock: MockClock) -> None:
    async with open_crowd() as crowd:
        for number in range(150):
            await crowd.add(f"silent {number}", silent, "crowd")
        await crowd.add("honest", honest, "friend")
        assert await fetched_after(await crowd.fetcher(), crowd) < HELD_S


@pytest.mark.parametrize("answer", [silent, busy, trickling, false], ids=["silent", "busy", "trickling", "false"])
async def test_who_brings_nothing_holds_nobody_up(autojump_clock: MockClock, answer: Answer) -> None:
    """Where all of them are linked, and asked before."""
    async with open_crowd() as crowd:
        fetcher = await crowd.fetcher()
        for number in range(3):
            known = await crowd.add(f"liar {number}", answer)
            await crowd.network.dial(known.addresses[0])
        await crowd.add("honest", honest)
        assert await fetched_after(fetcher, crowd) < 2 * HELD_S


async def test_who_hands_out_no_more_today_is_left_at_once(autojump_clock: MockClock) -> None:
    async with open_crowd() as crowd:
        fetcher = await crowd.fetcher()
        for number in range(6):
            known = await crowd.add(f"spent {number}", spent)
            await crowd.network.dial(known.addresses[0])
        await crowd.add("honest", honest)
        assert await fetched_after(fetcher, crowd) < HELD_S
        first = dict(crowd.asked)
        assert await fetched_after(fetcher, crowd) < HELD_S  # and is asked last the next time
        assert {name for name in crowd.asked if crowd.asked[name] > first[name]} == {"honest"}


async def test_only_so_many_are_asked_at_once(autojump_clock: MockClock) -> None:
    async with open_crowd() as crowd:
        for number in range(2 * AT_ONCE):
            await crowd.add(f"silent {number}", silent)
        fetcher, most = await crowd.fetcher(), 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(crowd.exchange.needed()))
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            with pytest.raises(Refused):
                await fetcher.fetch(crowd.offers, MODEL, "file", len(FILE), check)
            nursery.cancel_scope.cancel()
        assert most == AT_ONCE
        assert not crowd.exchange.needed()


async def test_made_up_holders_take_no_dials_that_sessions_wait_for(autojump_clock: MockClock) -> None:
    async with open_crowd() as crowd:
        nodes, fetcher = [await crowd.add(f"node {number}", honest) for number in range(4)], await crowd.fetcher()
        made_up = []
        for number in range(5 * ALL_DIALS_BURST):
            signer = key(f"nobody {number}")
            address = f"/memory/p2p/{peer_name(signer.public)}"
            offer = offer_of(signer, Span(0, 1), Roles.HEAD | Roles.TAIL, model=MODEL)
            made_up.append(KnownOffer(offer, certificate_for(signer), (address,), 0.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetcher.fetch, made_up, MODEL, "file", len(FILE), check)
            await trio.sleep(3)
            async with trio.open_nursery() as session:
                for node in nodes:
                    session.start_soon(reach, crowd.network, node.node, node.addresses)
            nursery.cancel_scope.cancel()


async def test_who_is_busy_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_crowd() as crowd:
        rest = [3]

        async def soon(ask: AskFile) -> FilePart:
            rest[0] -= 1
            return await (busy if rest[0] >= 0 else honest)(ask)

        await crowd.add("busy", soon)
        assert await fetched_after(await crowd.fetcher(), crowd) == pytest.approx(1.5, abs=0.5)


async def test_a_file_that_comes_well_is_not_asked_of_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_crowd() as crowd:

        async def steady(ask: AskFile) -> FilePart:
            await trio.sleep(0.3)
            return await honest(ask)

        monkeypatch.setattr(offerers, "BRISK", PART)
        for number in range(20):
            await crowd.add(f"honest {number}", steady)
        assert await fetched_after(await crowd.fetcher(), crowd) < HELD_S
        assert len(crowd.asked) <= 2


async def test_who_refuses_at_once_makes_way_at_once(autojump_clock: MockClock) -> None:
    async with open_crowd() as crowd:
        for number in range(20):
            await crowd.add(f"false {number}", false)
        fetcher = await crowd.fetcher()
        began = trio.current_time()
        with pytest.raises(Refused, match="another file"):
            await fetcher.fetch(crowd.offers, MODEL, "file", len(FILE), check)
        assert trio.current_time() - began < 20 * 8 * crowd.world.latency_s + 0.1
