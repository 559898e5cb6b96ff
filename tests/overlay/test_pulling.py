"""Offers beyond one hop: asked for again and again, told as news, and passed on when they are quite new."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.records.offer import Offer, ServingState
from p2pinfer.core.records.records import encode
from p2pinfer.core.swarm.coverage import thinnest
from p2pinfer.core.swarm.digest import Digest, renewal_of
from p2pinfer.core.swarm.offer_table import PULL_NEW
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import ModelId, PeerKey, Roles, Span
from p2pinfer.core.wire.messages import MAX_NAMED, MAX_OFFERS, NAMED_BYTES, ONLY_ASKS, AskOffers, Offers
from p2pinfer.overlay.directory import INTEREST_S, PULL_S
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import new_greeting
from p2pinfer.overlay.limits import ALL_UNASKED_BURST, ALL_UNASKED_RATE, UNASKED_S
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from p2pinfer.overlay.pipe import Address
from p2pinfer.overlay.search import model_key
from tests.core.paid_route import MODEL, NOW, certificate_for, key, offer_of
from tests.overlay.sides import AT_NOW, LIFE_S, RENEW_S, OpenSide, Side

LATE_S = 30.0  # after which news that comes is pulled, and not passed on


def noted(side: Side, answers: list[Offers]) -> None:
    """Note every answer that a peer gets to its questions for offers."""
    call = side.exchange.call

    async def noting(link: Link, ask: Callable[[int], AskOffers], expected: type[Offers]) -> Offers:
        answers.append(await call(link, ask, expected))
        return answers[-1]

    side.exchange.call = noting  # type: ignore[method-assign,assignment]


def tell(link: Link, known: KnownOffer) -> None:
    """Tell the peer of a link an offer, unasked."""
    link.send_nowait(Offers(0, (known.relay(trio.current_time()),)))


async def test_offers_are_pulled_through_a_peer_in_between(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    near, middle, far = [await open_side(name) for name in ("near", "middle", "far")]
    await near.network.dial(middle.address)
    near.serve()
    nursery.start_soon(near.directory.keep_pulling)
    far.serve()
    await trio.sleep(LATE_S)
    await middle.network.dial(far.address)
    await trio.sleep(PULL_S[1])
    assert far.key.public in near.nodes()


async def test_where_a_node_has_moved_is_pulled_through_a_peer_in_between_and_where_it_was_forgotten(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, middle, far = [await open_side(name) for name in ("near", "middle", "far")]
    await near.network.dial(middle.address)
    await far.network.dial(middle.address)
    near.serve()
    far.serve()
    nursery.start_soon(near.directory.keep_pulling)
    await trio.sleep(PULL_S[1])
    assert where(near, far) == (far.address,)
    moved = Address(f"/memory/elsewhere/p2p/{peer_name(far.key.public)}")
    monkeypatch.setattr(far.network, "told", lambda _to: (moved,))
    far.serve(seq=2, moves=1)
    await trio.sleep(PULL_S[1])
    assert where(near, far) == (moved,)


def where(side: Side, other: Side) -> tuple[str, ...]:
    """The addresses of a peer as another one knows them."""
    known = side.directory.table.get(other.key.public)
    assert known is not None
    return known.addresses


async def test_a_client_that_works_keeps_and_finds_offers_of_peers_it_is_not_linked_to(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot = await open_side("boot")
    nodes = [await open_side(f"node {number}", boot.address) for number in range(3)]
    for node in nodes[:2]:
        nursery.start_soon(node.keep_serving)
    await trio.sleep(2)
    client = await open_side("client", boot.address)
    nursery.start_soon(client.directory.keep_pulling)
    assert len(await client.directory.look(MODEL)) == 2
    for minute in range(5):
        await trio.sleep(LIFE_S - 10)
        assert client.nodes(MODEL) == {node.key.public for node in nodes[: 2 + (minute > 2)]}
        if minute == 2:
            nursery.start_soon(nodes[2].keep_serving)


async def test_a_client_that_rests_asks_nobody(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot, answers = await open_side("boot"), []
    client = await open_side("client", boot.address)
    noted(client, answers)
    nursery.start_soon(client.directory.keep_pulling)
    await client.directory.look(MODEL)
    await trio.sleep(INTEREST_S + PULL_S[1])
    asked = len(answers)
    await trio.sleep(10 * PULL_S[1])
    assert len(answers) == asked > 1


async def test_who_only_asks_is_not_asked(
    autojump_clock: MockClock, world: MemoryWorld, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    node, other, answers = await open_side("node"), await open_side("other"), []
    noted(node, answers)
    node.serve()
    nursery.start_soon(node.directory.keep_pulling)
    greeting = new_greeting(AT_NOW, ONLY_ASKS)
    async with open_memory_network(world, key("client").public, Exchange(nursery), greeting) as client:
        await client.dial(node.address)
        await trio.sleep(10 * PULL_S[1])
        assert not answers
        await other.network.dial(node.address)
        await trio.sleep(PULL_S[1])
        assert answers


async def test_what_is_known_is_told_in_short_and_only_when_it_is_news(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot, answers = await open_side("boot"), []
    for number in range(20):
        node = await open_side(f"node {number}")
        await node.network.dial(boot.address)
        nursery.start_soon(keep_renewing, node)
    await trio.sleep(1)
    client = await open_side("client", boot.address)
    noted(client, answers)
    nursery.start_soon(client.directory.keep_pulling)
    await client.directory.look(MODEL)
    answers.clear()
    for _ in range(20):
        await trio.sleep(RENEW_S)
        assert len(client.nodes(MODEL)) == 20
    whole = sum(len(answer.offers) for answer in answers)
    short = sum(len(answer.renewals) for answer in answers)
    assert whole <= len(answers) / 2  # now and then one is not named
    assert short + whole <= 20 * 20 * 1.1  # no offer of a node is told twice


async def keep_renewing(side: Side) -> None:
    seq = 0
    while True:
        seq += 1
        side.serve(seq=seq)
        await trio.sleep(RENEW_S)


async def test_who_names_nothing_has_nobody_look_at_all_that_is_known(
    autojump_clock: MockClock, open_side: OpenSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be ten thousand offers, and anybody may ask."""
    node, asker = await open_side("node"), await open_side("asker")
    link = await asker.network.dial(node.address)
    node.serve()
    monkeypatch.setattr(node.directory.table, "fresh", None)
    answer = await asker.exchange.call(link, lambda call: AskOffers(call, b"", 64), Offers)
    assert len(answer.offers) == 1


async def test_a_peer_announces_in_short_what_it_has_announced(autojump_clock: MockClock, open_side: OpenSide) -> None:
    node, other, heard = await open_side("node"), await open_side("other"), []
    node.serve()
    other.exchange.hearers.append(lambda link, offers: heard.append(offers))
    await other.network.dial(node.address)
    await trio.sleep(RENEW_S)
    node.serve(seq=2)
    await trio.sleep(RENEW_S)
    node.serve(seq=3, flat=7)  # other terms
    await trio.sleep(0.1)
    assert [(len(one.offers), len(one.renewals)) for one in heard] == [(1, 0), (0, 1), (1, 0)]
    assert [known.offer.record.seq for known in other.directory.offers()] == [3]


@pytest.mark.parametrize("others", [(), ("lie",)], ids=["no address", "another's address"])
async def test_what_a_node_renews_has_the_addresses_that_it_announced(
    autojump_clock: MockClock, open_side: OpenSide, others: tuple[str, ...]
) -> None:
    """Its offer was forgotten meanwhile, and somebody told of it before the node did."""
    node, other, relay = await open_side("node"), await open_side("other"), await open_side("relay")
    node.serve()
    await other.network.dial(node.address)
    link = await relay.network.dial(other.address)
    await trio.sleep(RENEW_S)
    other.directory.table.forget(node.key.public)
    newer = node.offer(seq=2)
    lies = tuple(f"/memory/{lie}/p2p/{peer_name(node.key.public)}" for lie in others)
    link.send_nowait(Offers(0, (replace(newer.relay(trio.current_time()), addresses=lies),)))
    await trio.sleep(0.1)
    node.serve(seq=2)
    await trio.sleep(0.1)
    assert other.directory.table.own_word(node.key.public) == (node.address,)
    [known] = other.directory.offers()
    assert known.addresses == (node.address, *lies)


async def test_who_does_not_know_what_is_renewed_asks_for_it(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    node, other = await open_side("node"), await open_side("other")
    nursery.start_soon(other.directory.keep_pulling)
    node.serve()
    hearers, other.exchange.hearers = other.exchange.hearers, []  # what is told first is lost
    await other.network.dial(node.address)
    await trio.sleep(1)
    other.exchange.hearers = hearers
    node.serve(seq=2)
    await trio.sleep(0.1)
    assert other.nodes(MODEL) == set()
    await trio.sleep(PULL_S[1])
    assert other.nodes() == {node.key.public}


@pytest.mark.parametrize("lie", ["more than asked for", "places that nobody named"])
async def test_an_answer_that_holds_more_than_it_may_is_cut(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, lie: str
) -> None:
    liar, client = await open_side("liar"), await open_side("client")

    async def answer(link: Link, ask: AskOffers) -> Offers:
        now = trio.current_time()
        fakes = [replace(liar.offer(), offer=invented(number)) for number in range(64)]
        if lie == "more than asked for":
            certificates = [certificate_for(key(f"fake {number}")) for number in range(64)]
            whole = [replace(fake, certificate=one) for fake, one in zip(fakes, certificates, strict=True)]
            return Offers(ask.call, tuple(fake.relay(now) for fake in whole))
        return Offers(ask.call, (), tuple(renewal_of(fake, place, now) for place, fake in enumerate(fakes)))

    liar.exchange.answer(AskOffers, answer)  # type: ignore[arg-type]
    link = await client.network.dial(liar.address)
    nursery.start_soon(client.directory.keep_pulling)
    client.directory.offers(MODEL)
    await trio.sleep(PULL_S[1] + 1)
    assert len(client.nodes()) == (PULL_NEW if lie == "more than asked for" else 0)
    assert link.dead is None


def invented(number: int) -> object:

    return offer_of(key(f"fake {number}"), Span(0, 30), Roles.HEAD | Roles.TAIL)


# Passed on


async def test_what_is_quite_new_is_known_to_all_of_a_small_swarm_at_once(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot = await open_side("boot")
    nursery.start_soon(boot.directory.keep_meeting)
    nodes = [await open_side(f"node {number}", boot.address) for number in range(10)]
    for node in nodes[:9]:
        nursery.start_soon(node.keep_serving)
    await trio.sleep(60)
    nursery.start_soon(nodes[9].keep_serving)
    await trio.sleep(1.5)
    serving = [
        any(known.node == nodes[9].key.public and known.offer.record.state == ServingState.SERVING for known in one)
        for one in (node.directory.offers() for node in nodes[:9])
    ]
    assert sum(serving) >= 8


async def test_a_stranger_has_us_pass_on_no_more_than_its_share(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pinfer.overlay.hearing.ALL_RUMOURS_BURST", 4)
    liar, node, other = [await open_side(name) for name in ("liar", "node", "other")]
    nursery.start_soon(node.directory.keep_meeting)
    await other.network.dial(node.address)
    link = await liar.network.dial(node.address)
    for number in range(64):
        signer = key(f"fake {number}")
        fake = KnownOffer(invented(number), certificate_for(signer), (), trio.current_time())  # type: ignore[arg-type]
        link.send_nowait(Offers(0, (fake.relay(trio.current_time()),)))
    await trio.sleep(1)
    assert len(node.nodes()) == 64
    assert 0 < len(other.nodes()) <= 5 + 1


async def test_what_one_link_tells_unasked_is_looked_at_within_bounds_and_each_other_is_heard(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    liar, node, other = [await open_side(name) for name in ("liar", "node", "other")]
    link = await liar.network.dial(node.address)
    for number in range(8 * MAX_OFFERS):
        certificate = certificate_for(key(f"fake {number}"))
        fake = KnownOffer(invented(number), certificate, (), trio.current_time())  # type: ignore[arg-type]
        tell(link, fake)
    await trio.sleep(1)
    assert ALL_UNASKED_BURST < len(node.nodes()) <= 1 + ALL_UNASKED_BURST + ALL_UNASKED_RATE
    known = len(node.nodes())
    tell(await other.network.dial(node.address), other.offer())
    await trio.sleep(1)
    assert other.key.public in node.nodes()
    tell(link, liar.offer())
    await trio.sleep(UNASKED_S)
    tell(link, liar.offer(seq=2))
    await trio.sleep(1)
    assert liar.key.public in node.nodes()
    assert len(node.nodes()) <= known + 2 + 2 * ALL_UNASKED_RATE


async def test_a_look_over_a_slow_path_waits_for_the_first_answer(
    autojump_clock: MockClock, open_side: OpenSide, world: MemoryWorld
) -> None:
    world.latency_s = 0.6
    node = await open_side("node")
    node.serve()
    client = await open_side("client", node.address)
    assert [known.node for known in await client.directory.look(MODEL)] == [node.key.public]
    assert trio.current_time() < 5


# The DHT


async def test_the_dht_is_asked_while_layers_are_missing(autojump_clock: MockClock, open_side: OpenSide) -> None:
    first, second, client = [await open_side(name) for name in ("first", "second", "client")]
    first.serve(Span(0, 20))
    second.serve(Span(20, 30))
    await client.network.dial(first.address)
    await second.network.provide(model_key(MODEL))
    found = await client.directory.look(MODEL)
    assert {known.node for known in found} == {first.key.public, second.key.public}


async def test_the_dht_is_not_asked_by_who_waits_where_nothing_is_missing(
    autojump_clock: MockClock, open_side: OpenSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client, asked = await open_side("node"), await open_side("client"), []
    node.serve()
    await client.network.dial(node.address)
    monkeypatch.setattr("p2pinfer.overlay.memory.MemoryGround.find", lambda ground, key: asked.append(key))
    await client.directory.look(MODEL)
    assert asked == []


async def test_the_dht_is_asked_now_and_then_while_one_node_alone_holds_layers(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    node, other = await open_side("node"), await open_side("other")
    other.serve()
    await other.network.provide(model_key(MODEL))
    friend = await open_side("friend", node.address)
    nursery.start_soon(friend.directory.keep_meeting)
    nursery.start_soon(node.keep_serving)
    nursery.start_soon(keep_renewing, other)
    await trio.sleep(2 * LATE_S)
    assert other.key.public in node.nodes()


@pytest.mark.parametrize("elsewhere", ["known to the DHT", "heard of later"])
async def test_a_node_looks_further_for_a_client_and_tells_it_what_it_finds(
    autojump_clock: MockClock,
    open_side: OpenSide,
    nursery: trio.Nursery,
    world: MemoryWorld,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: str,
) -> None:
    node, other = await open_side("node"), await open_side("other")
    client = await open_side("client", node.address)
    nursery.start_soon(node.directory.keep_meeting)
    node.serve(Span(0, 20))
    hides_dht_from(client, monkeypatch)
    if elsewhere == "known to the DHT":
        other.serve(Span(20, 30))
        await other.network.provide(model_key(MODEL))
    assert len(await client.directory.look(MODEL)) == (2 if elsewhere == "known to the DHT" else 1)
    if elsewhere == "heard of later":
        await other.network.dial(node.address)
        other.serve(Span(20, 30))
        await trio.sleep(0.5)
    assert thinnest(known.offer.record for known in client.directory.offers(MODEL)) == 1


def hides_dht_from(client: Side, monkeypatch: pytest.MonkeyPatch) -> None:

    find = MemoryGround.find

    async def hidden(ground: MemoryGround, key: bytes) -> tuple[object, ...]:
        return () if ground.key == client.key.public else await find(ground, key)

    monkeypatch.setattr(MemoryGround, "find", hidden)


async def test_a_client_that_works_has_the_dht_asked_now_and_then_while_layers_are_thinly_held(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, other = await open_side("node"), await open_side("other")
    nursery.start_soon(keep_renewing, node)
    await trio.sleep(1)
    client = await open_side("client", node.address)
    hides_dht_from(client, monkeypatch)
    nursery.start_soon(node.directory.keep_meeting)
    nursery.start_soon(client.directory.keep_pulling)
    assert len(await client.directory.look(MODEL)) == 1
    nursery.start_soon(keep_renewing, other)
    await other.network.provide(model_key(MODEL))
    await trio.sleep(2 * LATE_S)
    assert other.key.public in client.nodes(MODEL)


async def test_nobody_has_the_dht_asked_without_end(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, stranger, asked = await open_side("node"), await open_side("stranger"), []

    async def find(ground: object, key: bytes) -> tuple[str, ...]:
        asked.append(trio.current_time())
        return ()

    monkeypatch.setattr("p2pinfer.overlay.memory.MemoryGround.find", find)
    nursery.start_soon(node.directory.keep_meeting)
    link = await stranger.network.dial(node.address)
    for _ in range(200):
        model = random.randbytes(32)
        await stranger.exchange.call(link, asking(model), Offers)
        await stranger.exchange.call(link, asking(MODEL), Offers)
        await trio.sleep(0.5)
    assert len(asked) <= 16 + 0.2 * 100 + 1


async def test_a_model_whose_holders_are_silent_holds_up_no_other_that_is_sought(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, stranger, asked = await open_side("node"), await open_side("stranger"), []

    async def find(ground: object, key: bytes) -> tuple[str, ...]:
        asked.append(key)
        if key != model_key(MODEL):
            await trio.sleep_forever()
        return ()

    monkeypatch.setattr("p2pinfer.overlay.memory.MemoryGround.find", find)
    nursery.start_soon(node.directory.keep_meeting)
    link = await stranger.network.dial(node.address)
    for model in (random.randbytes(32), MODEL):
        await stranger.exchange.call(link, asking(model), Offers)
    await trio.sleep(1)
    assert model_key(MODEL) in asked


def asking(model: bytes) -> Callable[[int], AskOffers]:
    return lambda call: AskOffers(call, model, 1, seek=1)


async def test_an_answer_holds_offers_of_the_model_that_was_asked_for(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    node, other, asker = [await open_side(name) for name in ("node", "other", "asker")]
    node.serve(model=ModelId(bytes(32)))
    other.serve()
    await other.network.dial(node.address)
    link = await asker.network.dial(node.address)
    await trio.sleep(1)
    answer = await asker.exchange.call(link, asking(MODEL), Offers)
    assert [told.offer for told in answer.offers] == [other.directory.own.offer.body]


async def test_who_announces_over_another_process_with_its_key_is_told_of_that(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    heard: list[Offer] = []
    node, boot = await open_side("node", hear_own=heard.append), await open_side("boot")
    link = await node.network.dial(boot.address)
    link.send_nowait(Offers(0, (node.offer(boot=bytes(16)).relay(trio.current_time()),)))
    await trio.sleep(0.5)
    assert heard == []
    node.serve(issued=NOW + 1)
    await trio.sleep(0.5)
    assert [offer.boot for offer in heard] == [bytes(16)]


async def test_false_renewals_do_not_take_all_questions(autojump_clock: MockClock, open_side: OpenSide) -> None:
    node, stranger = await open_side("node"), await open_side("stranger")
    link = await stranger.network.dial(node.address)
    for number in range(3):
        other = await open_side(f"other {number}")
        await other.network.dial(node.address)
        other.serve()
    await trio.sleep(1)
    false = renewal_of(stranger.offer(), 0, trio.current_time())
    link.send_nowait(Offers(0, (), (false,)))
    await trio.sleep(1)
    asked = [node.directory._to_pull(MODEL, node.network.links())[0].peer == stranger.key.public for _ in range(400)]
    assert 100 < sum(asked) < 300


@pytest.mark.parametrize(("others", "ours"), [(9, 3), (3, 3)], ids=["ahead of it", "under the same number"])
async def test_a_node_is_told_what_a_copy_of_its_process_says(
    autojump_clock: MockClock, open_side: OpenSide, others: int, ours: int
) -> None:
    """A machine that was copied while it ran has two of one boot: neither is asked for what itself made."""
    heard: list[Offer] = []
    node = await open_side("node", hear_own=heard.append)
    peer, relay = await open_side("peer"), await open_side("relay")
    await node.network.dial(peer.address)
    to_peer = await relay.network.dial(peer.address)
    node.serve(seq=2)
    await trio.sleep(1)
    twin = node.offer(seq=others, flat=7)
    tell(to_peer, twin)
    await trio.sleep(1)
    node.serve(seq=ours)
    await trio.sleep(1)
    assert heard == [twin.offer.record]


async def test_a_node_hears_of_a_copy_whichever_was_heard_first(autojump_clock: MockClock, open_side: OpenSide) -> None:
    heard: list[Offer] = []
    node = await open_side("node", hear_own=heard.append)
    peer, relay = await open_side("peer"), await open_side("relay")
    await node.network.dial(peer.address)
    to_peer = await relay.network.dial(peer.address)
    node.serve(seq=2)
    await trio.sleep(1)
    twin = node.offer(seq=2, flat=7)
    for _ in range(9):
        tell(to_peer, twin)
    await trio.sleep(1)
    assert [offer for offer in heard if offer.flat == 7] == [twin.offer.record]


async def test_an_older_offer_that_a_relay_still_tells_is_no_news_to_its_node(
    autojump_clock: MockClock, open_side: OpenSide
) -> None:
    heard: list[Offer] = []
    node = await open_side("node", hear_own=heard.append)
    peer, relay = await open_side("peer"), await open_side("relay")
    await node.network.dial(peer.address)
    to_peer = await relay.network.dial(peer.address)
    older = node.serve(seq=1)
    node.serve(seq=2)
    await trio.sleep(1)
    tell(to_peer, older)
    await trio.sleep(1)
    assert heard == []


async def test_who_tells_of_many_nodes_takes_no_others_place_in_a_question(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    """Else these would run out before they are named, and be told one at a time."""
    client, boot = await open_side("client"), await open_side("boot")
    await client.network.dial(boot.address)
    questions: list[AskOffers] = []

    async def note(link: Link, ask: AskOffers) -> Offers:
        questions.append(ask)
        await trio.lowlevel.checkpoint()
        return Offers(ask.call, ())

    boot.exchange.answer(AskOffers, note)  # type: ignore[arg-type]
    nursery.start_soon(client.directory.keep_pulling)
    told = boot.offer()
    honest, made_up = [of_node(told, number, "198.41.0.4") for number in range(24)], range(1000, 2000)
    for one in [*honest, *(of_node(told, number, "203.0.113.66") for number in made_up)]:
        client.directory.table.add(one)
    client.directory.offers(MODEL)
    await trio.sleep(PULL_S[1])
    asked = questions[0]
    assert len(asked.known) == MAX_NAMED * NAMED_BYTES
    assert sum(Digest(asked).names(one) for one in honest) >= len(honest) - 1
    assert asked.limit == PULL_NEW


def of_node(known: KnownOffer, number: int, network: str) -> KnownOffer:
    """The same offer of another node, told by a network."""
    record = replace(known.offer.record, node=PeerKey(number.to_bytes(2, "big") * 16))
    offer = replace(known.offer, record=record, body=encode(record))
    return replace(known, offer=offer, network=network)
