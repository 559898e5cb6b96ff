"""Who serves what, among peers of the memory network: asked, announced, passed on, and past their time."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, UsageError
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import Roles, Span
from p2pinfer.core.wire.messages import MAX_OFFERS, AskOffers, Offers
from p2pinfer.overlay.directory import LOOK_AROUND_S, MEET_S, model_key
from p2pinfer.overlay.limits import MAX_ASKED, MAX_FOUND
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld
from p2pinfer.overlay.pipe import Address, Pipe
from tests.core.paid_route import MODEL, certificate_for, key, offer_of
from tests.overlay.sides import LIFE_S, OpenSide, Side


async def test_one_live_peer_tells_of_the_rest(autojump_clock: MockClock, open_side: OpenSide) -> None:
    boot = await open_side("boot")
    nodes = [await open_side(f"node {number}", boot.address) for number in range(3)]
    for number, node in enumerate(nodes):
        await node.network.dial(boot.address)
        node.serve(Span(10 * number, 10 * number + 10))
    await trio.sleep(0.1)
    client = await open_side("client", boot.address)
    found = await client.directory.look(MODEL)
    assert {known.node for known in found} == {node.key.public for node in nodes}


async def test_a_peer_tells_its_own_offer_first(autojump_clock: MockClock, open_side: OpenSide) -> None:
    node = await open_side("node")
    node.serve()
    client = await open_side("client")
    link = await client.network.dial(node.address)
    answer = await client.exchange.call(link, lambda call: AskOffers(call, b"", 1), Offers)
    assert len(answer.offers) == 1
    assert answer.offers[0].addresses == (node.address,)


async def test_a_node_greets_new_peers_with_its_offer(autojump_clock: MockClock, open_side: OpenSide) -> None:
    node, other = await open_side("node"), await open_side("other")
    node.serve()
    await other.network.dial(node.address)
    await trio.sleep(0.1)
    assert other.nodes() == {node.key.public}


async def test_a_new_offer_replaces_the_old_one_at_those_who_are_linked(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    node, other = await open_side("node"), await open_side("other")
    node.serve(Span(0, 10))
    await other.network.dial(node.address)
    node.serve(Span(10, 20), seq=2)
    await trio.sleep(0.1)
    assert [known.offer.record.span for known in other.directory.offers()] == [Span(10, 20)]


async def test_a_peer_is_not_told_of_itself(autojump_clock: MockClock, open_side: OpenSide) -> None:
    boot = await open_side("boot")
    node = await open_side("node", boot.address)
    await node.network.dial(boot.address)
    node.serve()
    await trio.sleep(0.1)
    assert await node.directory.look() == []


async def test_nobody_is_told_of_an_offer_past_its_time_by_who_made_it(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    boot, node = await open_side("boot"), await open_side("node")
    await node.network.dial(boot.address)
    node.serve()
    await trio.sleep(LIFE_S + 1)  # the node's machine slept: it has signed no other yet
    heard = list[Offers]()
    client = await open_side("client")
    client.exchange.hearers.append(lambda _link, offers: heard.append(offers))
    link = await client.network.dial(node.address)
    answer = await client.exchange.call(link, lambda call: AskOffers(call, b"", MAX_OFFERS), Offers)
    assert answer.offers == ()
    assert heard == []
    known = node.serve(seq=2)
    answer = await client.exchange.call(link, lambda call: AskOffers(call, b"", MAX_OFFERS), Offers)
    assert [told.offer for told in answer.offers] == [known.offer.body]
    assert [told.offer for offers in heard for told in offers.offers] == [known.offer.body]


async def test_an_offer_keeps_its_age_on_the_way(autojump_clock: MockClock, open_side: OpenSide) -> None:
    boot, node = await open_side("boot"), await open_side("node")
    await node.network.dial(boot.address)
    node.serve()
    await trio.sleep(LIFE_S - 10)
    client = await open_side("client", boot.address)
    [known] = await client.directory.look(MODEL)
    assert known.left_s(trio.current_time()) == pytest.approx(10, abs=0.5)
    await trio.sleep(10)
    assert client.directory.offers() == []


async def test_the_offers_of_a_silent_node_run_out(autojump_clock: MockClock, open_side: OpenSide) -> None:
    boot, node = await open_side("boot"), await open_side("node")
    await node.network.dial(boot.address)
    node.serve()
    await trio.sleep(LIFE_S)
    client = await open_side("client", boot.address)
    assert await client.directory.look() == []


async def test_one_bad_offer_of_many_is_left_out(autojump_clock: MockClock, open_side: OpenSide) -> None:
    node, client = await open_side("node"), await open_side("client")
    offers = []
    for number in range(3):
        signer = key(f"relayed {number}")
        offer = offer_of(signer, Span(0, 30), Roles.HEAD | Roles.TAIL)
        offers.append(KnownOffer(offer, certificate_for(signer), (), trio.current_time()).relay(trio.current_time()))
    offers[1] = replace(offers[1], signature=bytes(64))
    link = await node.network.dial(client.address)
    link.send_nowait(Offers(0, tuple(offers)))
    await trio.sleep(0.1)
    assert client.nodes() == {key("relayed 0").public, key("relayed 2").public}
    assert link.dead is None


async def test_an_expired_offer_is_left_out(autojump_clock: MockClock, open_side: OpenSide) -> None:
    node, client = await open_side("node"), await open_side("client")
    old = KnownOffer(offer_of(node.key, Span(0, 30), Roles.HEAD | Roles.TAIL), certificate_for(node.key), (), -LIFE_S)
    link = await node.network.dial(client.address)
    link.send_nowait(Offers(0, (old.relay(trio.current_time()),)))
    await trio.sleep(0.1)
    assert client.nodes() == set()


async def test_an_answer_has_at_most_64_offers_and_a_whole_route_among_them(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    boot, client = await open_side("boot"), await open_side("client")
    spans = [Span(0, 10)] * 80 + [Span(10, 20), Span(20, 30)]
    for number, span in enumerate(spans):
        signer = key(f"crowd {number}")
        boot.directory.table.add(
            KnownOffer(
                offer_of(signer, span, Roles.HEAD | Roles.TAIL), certificate_for(signer), (), trio.current_time()
            )
        )
    link = await client.network.dial(boot.address)
    answer = await client.exchange.call(link, lambda call: AskOffers(call, MODEL, 64), Offers)
    assert len(answer.offers) == MAX_OFFERS
    client.exchange.on_message(link, replace(answer, call=0))
    assert {known.offer.record.span for known in client.directory.offers()} == set(spans)


async def test_only_the_model_asked_for_is_answered(autojump_clock: MockClock, open_side: OpenSide) -> None:
    node, client = await open_side("node"), await open_side("client")
    other = key("other")
    for signer, model in ((key("a"), MODEL), (other, MODEL[::-1])):
        offer = offer_of(signer, Span(0, 30), Roles.HEAD | Roles.TAIL, model=model)
        node.directory.table.add(KnownOffer(offer, certificate_for(signer), (), trio.current_time()))
    link = await client.network.dial(node.address)
    answer = await client.exchange.call(link, lambda call: AskOffers(call, MODEL[::-1], 64), Offers)
    assert len(answer.offers) == 1


async def test_a_look_waits_for_nobody_who_does_not_answer(
    autojump_clock: MockClock, open_side: OpenSide, world: MemoryWorld
) -> None:
    silent, node = await open_side("silent"), await open_side("node")
    node.serve()

    async def never(asker: Link, ask: object) -> Offers:
        await trio.sleep_forever()
        raise AssertionError

    silent.exchange.answer(AskOffers, never)
    nobody = f"/memory/p2p/{peer_name(key('nobody').public)}"
    client = await open_side("client", nobody, silent.address, node.address)
    began = trio.current_time()
    assert [known.node for known in await client.directory.look()] == [node.key.public]
    assert trio.current_time() <= began + MEET_S + 0.01


async def test_a_look_asks_some_of_many(autojump_clock: MockClock, open_side: OpenSide) -> None:
    client, asked = await open_side("client"), []

    async def answer(asker: Link, ask: AskOffers) -> Offers:
        asked.append(asker)
        return Offers(ask.call, ())

    for number in range(MAX_ASKED + 8):
        node = await open_side(f"node {number}")
        node.exchange.answer(AskOffers, answer)
        await client.network.dial(node.address)
    await client.directory.look()
    assert len(asked) == MAX_ASKED


async def test_a_bootstrap_address_that_is_none_is_said_at_once(autojump_clock: MockClock, open_side: OpenSide) -> None:
    client = await open_side("client", "/ip4/127.0.0.1/tcp/4001")
    with pytest.raises(BaseExceptionGroup) as failure:
        await client.directory.look()
    assert failure.group_contains(UsageError, match="does not end in /p2p/")


async def test_a_bootstrap_peer_that_comes_late_is_met(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    address = f"/memory/p2p/{peer_name(key('late').public)}"
    node = await open_side("node", address)
    nursery.start_soon(node.directory.keep_meeting)
    await trio.sleep(LOOK_AROUND_S / 2)
    late = await open_side("late")
    late.serve()
    await trio.sleep(LOOK_AROUND_S)
    assert node.nodes() == {late.key.public}


async def test_the_dht_finds_nodes_without_a_bootstrap_peer(autojump_clock: MockClock, open_side: OpenSide) -> None:
    node, client = await open_side("node"), await open_side("client")
    node.serve()
    await node.network.provide(model_key(MODEL))
    assert [known.node for known in await client.directory.look(MODEL)] == [node.key.public]


async def test_an_address_out_of_the_dht_that_is_none_harms_nobody(
    autojump_clock: MockClock, open_side: OpenSide, world: MemoryWorld
) -> None:
    client = await open_side("client")
    world.providers[model_key(MODEL)] = ["/nonsense"]  # type: ignore[list-item]
    assert await client.directory.look(MODEL) == []


async def test_addresses_that_may_not_be_dialled_are_not_kept(autojump_clock: MockClock, open_side: OpenSide) -> None:
    """WIRE-19"""
    node, client = await open_side("node"), await open_side("client")
    offer, name = offer_of(node.key, Span(0, 30), Roles.HEAD | Roles.TAIL), peer_name(node.key.public)
    places = (f"/ip4/198.41.0.4/udp/53/p2p/{name}", node.address, f"/dns4/car.example/tcp/1/p2p/{name}")
    node.directory.announce(KnownOffer(offer, certificate_for(node.key), places, trio.current_time()))
    await node.network.dial(client.address)
    await trio.sleep(0.1)
    assert [known.addresses for known in client.directory.offers()] == [(node.address,)]


async def test_the_dht_has_nobody_dial_without_end(
    autojump_clock: MockClock, open_side: OpenSide, world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WIRE-18"""
    client = await open_side("client")
    names = [peer_name(PrivateKey(bytes([number]) * 32).public) for number in range(50)]
    world.providers[model_key(MODEL)] = [Address(f"/memory/p2p/{name}") for name in names]
    dialled = []
    monkeypatch.setattr(MemoryGround, "dial", lambda ground, address, heard: dialled.append(address) or fail_dial())
    assert await client.directory.look(MODEL) == []
    assert set(dialled) <= {f"/memory/p2p/{name}" for name in names}
    assert len(set(dialled)) == len(dialled) == MAX_FOUND


async def fail_dial() -> Pipe:
    raise LinkDead("nobody is there", Code.UNREACHABLE)


async def test_a_node_says_in_the_dht_what_it_serves(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld
) -> None:
    node = await open_side("node")
    nursery.start_soon(node.directory.keep_providing, MODEL)
    await trio.sleep(2)
    assert world.providers[model_key(MODEL)] == [node.address]


async def test_neighbours_that_serve_nothing_hide_nobody_that_is_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, open_side: OpenSide
) -> None:
    node, seeker = await open_side("node"), await open_side("seeker")
    near = [await open_side(f"near {number}") for number in range(MAX_FOUND)]
    node.serve(Span(0, 30))

    async def find(_: bytes) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return (*(side.address for side in near), node.address)

    monkeypatch.setattr(seeker.network, "find", find)
    for _ in range(2):
        await seeker.directory.look(MODEL)
        await trio.sleep(10)
    assert seeker.nodes() == {node.key.public}


async def test_addresses_that_lead_to_others_are_not_taken(autojump_clock: MockClock, open_side: OpenSide) -> None:
    near, node, liar = [await open_side(name) for name in ("near", "node", "liar")]
    link = await liar.network.dial(near.address)
    for seq in (1, 2, 2):  # anew, a newer one, and the same again
        lie = replace(node.offer(seq=seq), addresses=(liar.address, node.address, "/memory/nobody"))
        link.send_nowait(Offers(0, (lie.relay(trio.current_time()),)))
    await trio.sleep(1)
    assert [known.addresses for known in near.directory.offers()] == [(node.address,)]


@pytest.mark.parametrize("knows_layers", [True, False])
async def test_false_tails_keep_nobody_from_the_dht(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, knows_layers: bool
) -> None:
    node, boot = await open_side("node"), await open_side("boot")
    nursery.start_soon(node.keep_serving)
    await node.network.provide(model_key(MODEL))
    for number in range(2):
        liar = await open_side(f"liar {number}")
        await liar.network.dial(boot.address)
        liar.directory.announce(_shortened(liar))
    await trio.sleep(1)
    client = await open_side("client", boot.address)
    if knows_layers:
        client.directory.note_layers(MODEL, 30)
    found = await client.directory.look(MODEL, widely=not knows_layers)
    assert node.key.public in {known.node for known in found}


async def test_a_fault_of_ours_in_an_answer_ends_its_link_and_nothing_else(
    autojump_clock: MockClock, open_side: OpenSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, node = await open_side("near"), await open_side("node")
    node.serve()
    link = await near.network.dial(node.address)
    await trio.sleep(1)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(near.directory._tidings.hearing, "take", fail)
    await near.directory.ask(link, MODEL)
    assert link.dead is not None
    assert link.dead.code is Code.INTERNAL


def _shortened(side: Side) -> KnownOffer:
    offer = offer_of(side.key, Span(0, 1), Roles.HEAD | Roles.TAIL)
    return KnownOffer(offer, certificate_for(side.key), (side.address,), trio.current_time())
