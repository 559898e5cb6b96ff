"""Placing on a network: nodes see each other late, die, lie, and cover the model all the same."""

import logging
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.errors import ModelError, UsageError
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import Numerics, Span
from p2pinfer.core.wire.messages import Offers
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.placement import Placement
from tests.core.paid_route import key
from tests.disk.tiny import tiny_folder
from tests.node.lodgers import Lodger, Street, known_offer, open_street, room_for

LAYERS = 30


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    root = tmp_path_factory.mktemp("placing")
    folder = tiny_folder(root / "tall", num_hidden_layers=LAYERS, hidden_size=64, intermediate_size=512)
    return import_model(str(folder), Store(root))


@pytest.mark.parametrize("apart_s", [0.0, 20.0])
@pytest.mark.parametrize("lengths", [(10, 10, 10), (12, 4, 14), (3, 20, 7), (10,) * 6])
async def test_nodes_that_start_in_turn_or_together_cover_the_model(
    model: StoredModel, autojump_clock: MockClock, apart_s: float, lengths: tuple[int, ...]
) -> None:
    async with open_street(model) as street, trio.open_nursery() as nursery:
        for number, length in enumerate(lengths):
            nursery.start_soon(street.live, f"n{number}", room_for(model, length), None, apart_s * number)
        await trio.sleep(apart_s * len(lengths) + 60)
        assert street.holes == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("spans", [[(11, 21), (0, 10), (20, 30)], [(0, 10), (7, 17), (18, 28)]])
async def test_nodes_that_stand_badly_close_the_holes_within_a_minute(
    model: StoredModel, autojump_clock: MockClock, spans: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_street(model) as street, trio.open_nursery() as nursery:
        for number, span in enumerate(spans):
            nursery.start_soon(street.live, f"n{number}", room_for(model, 10), Span(*span))
        await trio.sleep(120)
        assert street.holes == []
        nursery.cancel_scope.cancel()
    assert "no route can use this node: nobody serves layers" in caplog.text
    assert "all 30 layers are served again" in caplog.text


async def test_a_node_that_dies_is_replaced_once_its_offer_is(model: StoredModel, autojump_clock: MockClock) -> None:
    async with open_street(model) as street, trio.open_nursery() as nursery:
        for number, first in enumerate([0, 0, 10]):
            nursery.start_soon(street.live, f"n{number}", room_for(model, 10), Span(first, first + 10))
        with trio.CancelScope() as life:
            nursery.start_soon(_until, life, 30.0)
            await street.live("dies", room_for(model, 10), Span(20, 30))
        assert street.holes == [Span(20, 30)]
        await trio.sleep(120)
        assert street.holes == []
        assert [len(lodger.moves) for lodger in street.lodgers].count(1) == 1
        nursery.cancel_scope.cancel()


async def test_layers_that_an_owner_named_are_never_left(model: StoredModel, autojump_clock: MockClock) -> None:
    async with open_street(model) as street, trio.open_nursery() as nursery:
        for number in range(3):
            serve = room_for(model, 10)
            named = type(serve)(model=serve.model, numerics=serve.numerics, layers="0:10")
            nursery.start_soon(street.live, f"n{number}", named)
        await trio.sleep(300)
        assert [lodger.held for lodger in street.lodgers] == [Span(0, 10)] * 3
        nursery.cancel_scope.cancel()


async def test_offers_of_another_class_close_no_hole(model: StoredModel, autojump_clock: MockClock) -> None:
    """A route has one class."""
    async with open_street(model) as street, trio.open_nursery() as nursery:
        for number, first in enumerate([0, 10]):
            nursery.start_soon(street.live, f"n{number}", room_for(model, 10), Span(first, first + 10))
        async with street.lodger("other", Numerics.BF16_1) as other:
            other.held = Span(20, 30)
            await other.stay()
            nursery.start_soon(street.live, "third", room_for(model, 10), None, 1.0)
            await trio.sleep(20)
            assert street.lodgers[-1].held == Span(20, 30)
        nursery.cancel_scope.cancel()


async def _until(scope: trio.CancelScope, seconds: float) -> None:
    await trio.sleep(seconds)
    scope.cancel()


# Liars


async def _lie(street: Street, liar: Lodger, spans: list[Span]) -> None:
    """Tell everybody of many nodes that are not there, for ever."""
    number = 0
    while True:
        for lodger in street.lodgers:
            link = await liar.network.dial(lodger.network.addresses()[0])
            for span in spans:
                number += 1
                fake = PrivateKey(number.to_bytes(32, "big"))
                address = f"/memory/p2p/{peer_name(fake.public)}"
                told = known_offer(fake, street.model, span, [address], seq=number)
                link.send_nowait(Offers(0, (told.relay(trio.current_time()),)))
        await trio.sleep(30)


async def test_nobody_leaves_what_only_liars_claim(model: StoredModel, autojump_clock: MockClock) -> None:
    """OFF-13"""
    async with open_street(model) as street, trio.open_nursery() as nursery:
        street.world.sources[key("liar").public] = Source("192.0.2.1", Scope.PUBLIC)
        for number, first in enumerate([0, 10, 15]):
            nursery.start_soon(street.live, f"n{number}", room_for(model, 10), Span(first, first + 10))
        await trio.sleep(1)
        async with street.lodger("liar") as liar:
            nursery.start_soon(_lie, street, liar, [Span(0, 10), Span(10, 20), Span(0, 25)])
            await trio.sleep(600)
        assert Span(0, 10) in [lodger.held for lodger in street.lodgers]
        assert [hole for hole in street.holes if hole.first < 20] == []
        nursery.cancel_scope.cancel()


async def test_a_node_that_nobody_can_dial_hides_no_hole(model: StoredModel, autojump_clock: MockClock) -> None:
    """OFF-13; it came to the bootstrap peer, which tells of it."""
    async with open_street(model) as street, trio.open_nursery() as nursery:
        for number, first in enumerate([0, 0, 10]):
            nursery.start_soon(street.live, f"n{number}", room_for(model, 10), Span(first, first + 10))
        nursery.start_soon(_tell_of, street, known_offer(key("hidden"), model, Span(20, 30), []))
        await trio.sleep(120)
        assert street.holes == []
        nursery.cancel_scope.cancel()


async def _tell_of(street: Street, told: KnownOffer) -> None:
    async with street.lodger("teller") as teller:
        while True:
            for lodger in street.lodgers:
                link = await teller.network.dial(lodger.network.addresses()[0])
                link.send_nowait(Offers(0, (replace(told, born_s=trio.current_time()).relay(trio.current_time()),)))
            await trio.sleep(10)


# What cannot be


def test_layers_beyond_the_model_are_refused(model: StoredModel) -> None:
    async def main() -> None:
        async with open_street(model) as street, street.lodger("n") as lodger:
            serve = room_for(model, 10)
            named = type(serve)(model=serve.model, numerics=serve.numerics, layers="20:40")
            with pytest.raises(UsageError, match="has layers 0:30, not 20:40"):
                Placement(lodger.directory, lodger.network, model, named)

    trio.run(main)


async def test_a_node_that_cannot_load_what_is_needed_says_so_once_and_stays(
    model: StoredModel, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Lodger, __: Span) -> None:
        raise ModelError("layer 20 is missing")

    monkeypatch.setattr(Lodger, "_look", fail)
    async with open_street(model) as street, trio.open_nursery() as nursery:
        for number, first in enumerate([0, 0, 10]):
            nursery.start_soon(street.live, f"n{number}", room_for(model, 10), Span(first, first + 10))
        await trio.sleep(600)
        assert sorted(lodger.held for lodger in street.lodgers if lodger.held) == [
            Span(0, 10), Span(0, 10), Span(10, 20),
        ]  # fmt: skip
        nursery.cancel_scope.cancel()
    assert 1 <= caplog.text.count("cannot be loaded: layer 20 is missing") <= 2
