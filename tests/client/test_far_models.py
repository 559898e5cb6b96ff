"""Models over slow links: the first look-up finds them, and silence is given up in time all the same."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.arrivals import DEFAULT_WAIT_S, Arrivals
from p2pinfer.client.file_search import Fetcher
from p2pinfer.client.manifests import COME_S, LIFE_S
from p2pinfer.client.models import Models
from p2pinfer.core.routes.measures import Measures
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import ModelError, Refused
from p2pinfer.core.values.units import ModelId, Roles, Span
from p2pinfer.core.wire.messages import AskFile, FilePart
from p2pinfer.disk.store import Store
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import new_greeting
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from tests.core.paid_route import certificate_for, key, offer_of
from tests.overlay.sides import AT_NOW
from tests.vectors.make_manifest import TINY

from .test_models_ranked import HONEST, MANIFEST, HonestFetcher, Offers, offer

OTHER = ModelId(bytes([7]) * 32)


class Side:
    """A peer with its directory, in a stack."""

    def __init__(self, network: Network, exchange: Exchange, bootstrap: tuple[str, ...]) -> None:
        self.network = network
        self.exchange = exchange
        self.directory = Directory(network, exchange, bootstrap)
        exchange.greeters.append(self.directory.greet)


async def open_side(
    world: MemoryWorld, stack: AsyncExitStack, nursery: trio.Nursery, name: str, *bootstrap: str
) -> Side:
    exchange = Exchange(nursery)
    opening = open_memory_network(world, key(name).public, exchange, new_greeting(AT_NOW))
    network = await stack.enter_async_context(opening)
    return Side(network, exchange, bootstrap)


def serve(side: Side, name: str) -> None:
    """Offer the model, and hand out its manifest."""

    async def answer(_link: Link, ask: Ask) -> FilePart:
        assert isinstance(ask, AskFile)
        await trio.lowlevel.checkpoint()
        return FilePart(ask.call, len(MANIFEST), MANIFEST[ask.offset : ask.offset + ask.limit])

    side.exchange.answer(AskFile, answer)
    signed = offer_of(key(name), Span(0, TINY.layers), Roles.HEAD | Roles.TAIL, model=HONEST)
    certificate = certificate_for(key(name))
    side.directory.announce(KnownOffer(signed, certificate, side.network.addresses(), trio.current_time()))


@pytest.mark.parametrize("wait_s", [0.0, DEFAULT_WAIT_S], ids=["one look", "patient"])
@pytest.mark.parametrize("rtt_s", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("apart", [False, True], ids=["named", "through another"])
async def test_the_first_look_up_over_a_slow_link_finds_the_model(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery, apart: bool, rtt_s: float, wait_s: float
) -> None:
    """Eight round trips: to dial who was named, and to ask; to dial the node, and to ask."""
    world = MemoryWorld()
    async with AsyncExitStack() as stack:
        node = await open_side(world, stack, nursery, "node")
        named = await open_side(world, stack, nursery, "boot") if apart else node
        serve(node, "node")
        if apart:
            await node.network.dial(named.network.addresses()[0])
            await trio.sleep(1)
        world.latency_s = rtt_s / 2
        client = await open_side(world, stack, nursery, "client", *named.network.addresses())
        fetcher = Fetcher(client.network, client.exchange, Measures())
        models = Models(Store(tmp_path), client.directory, fetcher, nursery)
        began = trio.current_time()
        found = await models.wait(TINY.name, Arrivals(client.directory, wait_s, lambda _: None))
        assert found.id == HONEST
        assert trio.current_time() - began < 8 * rtt_s + 2
        nursery.cancel_scope.cancel()


# With a fetcher that the test makes up


class SlowFetcher:
    """The manifest comes so much later; others never do, or are refused at once."""

    def __init__(self, after_s: float, farthest_s: float = 0.0, refuses: bool = False) -> None:
        self.farthest_s = farthest_s
        self.asked: list[tuple[ModelId, int]] = []
        self._after_s = after_s
        self._refuses = refuses

    async def fetch(
        self, peers: list[KnownOffer], model: ModelId, _name: str, _limit: int, _check: Callable[[bytes], None]
    ) -> bytes:
        self.asked.append((model, len(peers)))
        if self._refuses:
            await trio.lowlevel.checkpoint()
            raise Refused("it is not here", Code.NOT_FOUND)
        await trio.sleep(self._after_s)
        return MANIFEST


def models_of(root: Path, offers: Offers, fetcher: SlowFetcher, nursery: trio.Nursery) -> Models:
    return Models(Store(root), offers, fetcher, nursery)  # type: ignore[arg-type]


async def test_a_look_up_that_ends_too_soon_leaves_the_next_one_something_to_go_on_with(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    fetcher = SlowFetcher(COME_S + 2)
    models = models_of(tmp_path, Offers([offer("node", HONEST)]), fetcher, nursery)
    with pytest.raises(ModelError, match="the manifest of 1 model on offer did not come in time"):
        await models.find(TINY.name)
    assert trio.current_time() == pytest.approx(COME_S, abs=0.2)
    offers = models._directory
    assert (await models.wait(TINY.name, Arrivals(offers, DEFAULT_WAIT_S))).id == HONEST
    assert trio.current_time() == pytest.approx(COME_S + 2, abs=0.2)
    assert fetcher.asked == [(HONEST, 1)]


async def test_silence_is_borne_longer_where_links_are_slow_but_not_for_long(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    models = models_of(tmp_path, Offers([offer("node", HONEST)]), SlowFetcher(1000.0, farthest_s=100.0), nursery)
    with pytest.raises(ModelError, match="did not come in time"):
        await models.find(TINY.name)
    assert trio.current_time() == pytest.approx(LIFE_S, abs=0.2)


async def test_who_has_time_is_told_what_is_waited_for(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    offers, said = Offers([offer("node", HONEST)]), []
    models = models_of(tmp_path, offers, SlowFetcher(1000.0), nursery)
    with pytest.raises(ModelError, match="did not come in time"):
        await models.wait(TINY.name, Arrivals(offers, 60.0, said.append))  # type: ignore[arg-type]
    assert trio.current_time() == pytest.approx(60, abs=0.2)
    assert said == ["the manifest of 1 model on offer"]


async def test_a_manifest_that_is_refused_is_not_asked_for_all_the_time(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    offers, fetcher = Offers([offer("node", HONEST)]), SlowFetcher(0.0, refuses=True)
    models = models_of(tmp_path, offers, fetcher, nursery)
    with pytest.raises(ModelError, match="did not come in time"):
        await models.wait(TINY.name, Arrivals(offers, DEFAULT_WAIT_S, lambda _: None))  # type: ignore[arg-type]
    assert trio.current_time() == pytest.approx(DEFAULT_WAIT_S, abs=0.2)
    assert len(fetcher.asked) < 8


async def test_who_offers_it_later_is_asked_too(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    offers, fetcher = Offers([offer("node", HONEST)]), SlowFetcher(5.0)
    models = models_of(tmp_path, offers, fetcher, nursery)

    async def come() -> None:
        await trio.sleep(1)
        offers._offers.append(offer("another node", HONEST))
        offers.news.tell()

    nursery.start_soon(come)
    assert (await models.find(TINY.name)).id == HONEST
    assert fetcher.asked == [(HONEST, 1), (HONEST, 1)]


async def test_a_stranger_that_offers_what_nobody_has_is_waited_for_a_moment_by_who_asks_for_another(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    offers = Offers([offer("node", HONEST), offer("liar", OTHER)])
    models = Models(Store(tmp_path), offers, HonestFetcher(), nursery)  # type: ignore[arg-type]
    assert (await models.find(TINY.name)).id == HONEST
    assert trio.current_time() < 1.5
    began = trio.current_time()
    assert (await models.find(TINY.name)).id == HONEST
    assert trio.current_time() == began
