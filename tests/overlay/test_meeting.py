"""Links for a node's own sake: found through anybody, few, drawn, and let go with a word about others."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.coverage import thinnest
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.source import source_of
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import PeerKey, Roles, Span
from p2pinfer.core.wire.messages import MAX_ADDRESSES, AskContacts, Contacts, Offers
from p2pinfer.overlay.degree import BESIDE, LEAST_DEGREE, OF_NETWORK, OURS, Kept, elsewhere, missing, sides, unneeded
from p2pinfer.overlay.limits import DEGREE_S, MAX_DEGREE, MAX_FOUND
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.losses import LOOK_AROUND_S
from p2pinfer.overlay.lots import drawn, place_of
from p2pinfer.overlay.meeting import NEAR, SOON_S, STRANGE_ADDRESSES, TOLD_OF
from p2pinfer.overlay.memory import MemoryWorld
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Address
from p2pinfer.overlay.word import Word
from tests.core.paid_route import MODEL, certificate_for, key, offer_of
from tests.overlay.sides import LIFE_S, OpenSide, Side

LOTS = random.Random(7)
THIRDS = (Span(0, 10), Span(10, 20), Span(20, 30))


def known(name: str, span: Span, *at: str, network: str = "", **changes: object) -> KnownOffer:
    """at: IP addresses of the node. network: of who told of it"""
    signer, addresses = key(name), tuple(f"/ip4/{ip}/tcp/4001" for ip in at)
    return KnownOffer(offer_of(signer, span, Roles.MIDDLE, **changes), certificate_for(signer), addresses, 0.0, network)


def crowd(count: int, span: Span, **changes: object) -> list[KnownOffer]:
    return [known(f"{span} {number}", span, **changes) for number in range(count)]


def test_neighbours_are_those_whose_layers_join_ours() -> None:
    spans = {"far before": Span(0, 5), "before": Span(0, 10), "overlapping": Span(5, 15), "after": Span(20, 30)}
    before, after = sides(Span(10, 20), [known(name, span) for name, span in spans.items()])
    assert {one.node for one in before} == {key(name).public for name in ("before", "overlapping")}
    assert {one.node for one in after} == {key("after").public}


def test_a_node_wants_neighbours_some_of_its_model_and_some_others() -> None:
    own = known("own", Span(10, 20))
    others = [*crowd(30, Span(0, 10)), *crowd(30, Span(20, 30)), *crowd(300, Span(0, 5), model=MODEL[::-1])]
    chosen = missing(own, others, (), (), LOTS)
    before, after = sides(own.offer.record.span, chosen)
    assert (len(before), len(after)) >= (BESIDE, BESIDE)
    assert len({one.node for one in chosen}) == len(chosen) == LEAST_DEGREE


def test_links_that_others_opened_serve_as_well() -> None:
    own, others = known("own", Span(10, 20)), [*crowd(30, Span(0, 10)), *crowd(30, Span(20, 30))]
    held = [Kept(one.node, 0.0, False) for one in [*others[:3], *others[-3:]]]
    assert missing(own, others, held, (), LOTS) == []


def test_who_turned_us_away_is_not_dialled_while_there_are_others() -> None:
    own, others = known("own", Span(0, 30)), crowd(20, Span(0, 30))
    away = {one.node for one in others[:10]}
    for _ in range(20):
        assert not away & {one.node for one in missing(own, others, (), away, LOTS)}


def test_peers_are_drawn_so_that_nobody_is_left_out() -> None:
    """Of a thousand, each is chosen by somebody; by order of keys 604 were not."""
    others = crowd(1000, Span(0, 30))
    chosen = Counter(one.node for own in others for one in missing(own, LOTS.sample(others, 64), (), (), LOTS))
    assert sum(one.node not in chosen for one in others) < 10  # the rest is for the dials of every minute or two
    assert max(chosen.values()) < 30


def links(count: int, came_s: float = 0.0, *, needed: bool = False) -> list[Kept]:
    return [Kept(PeerKey(number.to_bytes(32, "big")), came_s, needed) for number in range(count)]


def test_no_more_links_end_than_are_too_many() -> None:
    assert unneeded(None, [], links(MAX_DEGREE), DEGREE_S, LOTS) == []
    assert len(unneeded(None, [], links(MAX_DEGREE + 5), DEGREE_S, LOTS)) == 5


def test_links_that_something_needs_and_new_ones_stay() -> None:
    assert unneeded(None, [], links(40, needed=True), DEGREE_S, LOTS) == []
    assert unneeded(None, [], links(40, 1.0), DEGREE_S, LOTS) == []


def test_the_only_neighbours_stay() -> None:
    own, near = known("own", Span(10, 20)), [known("before", Span(0, 10)), known("after", Span(20, 30))]
    held = [*links(40), *(Kept(one.node, 0.0, False) for one in near)]
    for _ in range(20):
        assert not {one.node for one in near} & set(unneeded(own, near, held, DEGREE_S, LOTS))


def of_network(network: str, count: int, came_s: float = 0.0, *, ours: bool = False) -> list[Kept]:
    names = [f"{network} {number}" for number in range(count)]
    return [Kept(key(name).public, came_s, False, network, ours) for name in names]


def test_new_links_end_no_others() -> None:
    held = [*of_network("honest", 8), *of_network("stranger", 60, DEGREE_S)]
    assert unneeded(None, [], held, DEGREE_S, LOTS) == []


def test_links_end_of_the_network_that_has_most() -> None:
    honest = [one for number in range(8) for one in of_network(f"honest {number}", 1)]
    held = [*honest, *of_network("stranger", 40)]
    for _ in range(20):
        ended = unneeded(None, [], held, DEGREE_S, LOTS)
        assert len(ended) == len(held) - MAX_DEGREE
        assert not {one.peer for one in honest} & set(ended)


def test_links_that_we_dialled_end_last_but_for_a_crowd_of_one_network() -> None:
    honest = [one for number in range(MAX_DEGREE - OURS) for one in of_network(f"honest {number}", 1, ours=True)]
    others = [one for number in range(30) for one in of_network(f"other {number}", 1)]
    lured = of_network("lured", 20, ours=True)
    for _ in range(20):
        ended = set(unneeded(None, [], [*honest, *others, *lured], DEGREE_S, LOTS))
        assert not {one.peer for one in honest} & ended
        assert len(ended & {one.peer for one in lured}) == len(lured) - OURS


def test_a_crowd_of_one_network_does_not_stand_for_all_links() -> None:
    others = crowd(20, Span(0, 30))
    lacking = LEAST_DEGREE - LEAST_DEGREE // OF_NETWORK
    assert len(missing(None, others, of_network("stranger", 40), (), LOTS)) == lacking
    assert missing(None, others, links(LEAST_DEGREE), (), LOTS) == []  # of our own machine
    assert missing(None, others, of_network("neighbours", LEAST_DEGREE, ours=True), (), LOTS) == []


def strangers(count: int, told_by: str, *at: str) -> list[KnownOffer]:
    """Offers of as many keys as anybody likes, of all spans."""
    one = known("stranger", Span(0, 10), *at, network=told_by)
    keys = (PeerKey(number.to_bytes(32, "big")) for number in range(count))
    return [
        replace(one, offer=replace(one.offer, record=replace(one.offer.record, node=node, span=THIRDS[place % 3])))
        for place, node in enumerate(keys)
    ]


HONEST = [known(f"honest {place}", THIRDS[place % 3], f"198.41.0.{place}") for place in range(24)]
STRANGE = "203.0.113.66"


@pytest.mark.parametrize(
    ("told_by", "at"),
    [(STRANGE, STRANGE), (STRANGE, ""), ("192.88.98.1", STRANGE)],
    ids=["of one network", "without addresses of their own", "told by those who tell of all others"],
)
def test_a_thousand_keys_of_one_network_take_no_more_of_what_is_dialled_than_one(told_by: str, at: str) -> None:
    own, honest = known("own", THIRDS[1]), [replace(one, network="192.88.98.1") for one in HONEST]
    told = strangers(1000, told_by, *([at] if at else []))
    for _ in range(20):
        chosen = missing(own, [*honest, *told], (), (), LOTS)
        assert sum(one in HONEST or one in honest for one in chosen) >= len(chosen) // 2


def test_a_thousand_networks_of_one_ipv6_site_take_no_more_of_what_is_dialled_than_one() -> None:
    own, honest = known("own", THIRDS[1]), [replace(one, network="192.88.98.1") for one in HONEST]
    told = [
        replace(one, network="192.88.98.1", addresses=(f"/ip6/2a00:1450:4001:{number:x}::1/tcp/4001",))
        for number, one in enumerate(strangers(1000, ""))
    ]
    for _ in range(20):
        chosen = missing(own, [*honest, *told], (), (), LOTS)
        assert sum(one in honest for one in chosen) >= len(chosen) // 2


async def test_links_and_offers_of_one_ipv6_site_are_those_of_one_network(
    autojump_clock: MockClock, open_side: OpenSide, world: MemoryWorld
) -> None:
    node = await open_side("node")
    for number in range(3):
        world.sources[key(f"liar {number}").public] = source_of(f"2a00:1450:4001:{number:x}::1")
        liar = await open_side(f"liar {number}")
        await liar.network.dial(node.address)
        liar.serve()
    await trio.sleep(1)
    assert {link.network for link in node.directory._meeting._links()} == {"2a00:1450:4001::/48"}
    assert {one.network for one in node.directory.offers()} == {"2a00:1450:4001::/48"}


class Counted(random.Random):
    """Lots that count how often they are asked."""

    asked = 0

    def getrandbits(self, k: int) -> int:
        self.asked += 1
        return super().getrandbits(k)


@pytest.mark.parametrize("count", [0, 1, 8])
def test_a_draw_of_a_few_among_many_networks_takes_few_lots(count: int) -> None:
    """Every question draws those that it names, of as many offers as anybody made up."""
    one, lots = known("one", THIRDS[0]), Counted(7)
    told = [replace(one, network=f"198.41.{number // 256}.{number % 256}") for number in range(10_000)]
    chosen = drawn(told, count, lots)
    assert len(chosen) == len({each.network for each in chosen}) == count
    assert lots.asked < 100


def test_a_node_that_lost_its_links_one_by_one_is_not_left_with_those_of_one_network() -> None:
    """An hour in which honest links break three times each; those of the stranger never do."""
    own, everybody = known("own", THIRDS[1]), [*HONEST, *strangers(1000, STRANGE, STRANGE)]
    by_node = {one.node: one for one in everybody}
    held: dict[PeerKey, Kept] = {}
    for minute in range(60):
        now = 100.0 + 60 * minute
        held = {peer: one for peer, one in held.items() if one.network == STRANGE or LOTS.random() > 1 / 20}
        for look in range(12):
            want = own, everybody, list(held.values()), (), LOTS
            for one in missing(*want) or (elsewhere(*want) if look == 0 else []):
                held[one.node] = Kept(one.node, now, False, place_of(one), True)
        for peer in unneeded(own, everybody, list(held.values()), now + DEGREE_S, LOTS):
            del held[peer]
    honest = sum(by_node[peer] in HONEST for peer in held)
    assert honest >= len(held) // 2


def test_who_knows_peers_of_one_network_alone_links_to_as_many_and_looks_for_no_others() -> None:
    own, told = known("own", THIRDS[1]), strangers(30, STRANGE, STRANGE)
    chosen = missing(own, told, (), (), LOTS)
    assert len(chosen) == LEAST_DEGREE
    held = [Kept(one.node, 0.0, False, STRANGE, True) for one in chosen]
    want = own, told, held, (), LOTS
    assert missing(*want) == elsewhere(*want) == []


def test_one_peer_of_another_network_at_a_time_is_met_beside_links_enough_of_one() -> None:
    own, told = known("own", THIRDS[1]), strangers(30, STRANGE, STRANGE)
    held = [Kept(one.node, 0.0, False, STRANGE, True) for one in told]
    want = own, [*told, *HONEST], held, (), LOTS
    assert missing(*want) == []
    assert [one in HONEST for one in elsewhere(*want)] == [True]


# A swarm


async def chain(open_side: OpenSide, nursery: trio.Nursery, length: int, wait_s: float = 1.5) -> list[Side]:
    """Nodes of which each knows only the one before; they start in turn."""
    nodes: list[Side] = []
    for number in range(length):
        nodes.append(await open_side(f"node {number}", *(node.address for node in nodes[-1:])))
        nursery.start_soon(nodes[-1].keep_serving, THIRDS[number % 3])
        await trio.sleep(wait_s)
    return nodes


@pytest.mark.parametrize("through", [-1, 0, 6])
async def test_a_chain_of_bootstraps_is_found_through_any_of_it(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, through: int
) -> None:
    nodes = await chain(open_side, nursery, 12)
    client = await open_side("client", nodes[through].address)
    began = trio.current_time()
    found = {one.node for one in await client.directory.look(MODEL)}
    assert found == {node.key.public for node in nodes}
    assert trio.current_time() - began < 1


async def test_a_chain_whose_nodes_start_at_once_is_whole_within_a_minute(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    nodes = await chain(open_side, nursery, 12, 0)
    await trio.sleep(60)
    for node in nodes:
        assert node.nodes() == {other.key.public for other in nodes if other is not node}


async def test_a_far_bootstrap_peer_is_asked_though_its_link_outlasts_the_first_visit(
    autojump_clock: MockClock, open_side: OpenSide, world: MemoryWorld, nursery: trio.Nursery
) -> None:
    boot, other = await open_side("boot"), await open_side("other")
    await other.network.dial(boot.address)
    other.serve()
    await trio.sleep(LIFE_S / 2)
    world.latency_s = 1.0
    node = await open_side("node", boot.address)
    nursery.start_soon(node.directory.keep_meeting)
    await trio.sleep(20)
    assert other.key.public in node.nodes()


async def test_newcomers_join_through_anyone_once_the_bootstrap_nodes_are_dead(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boots = [await open_side(f"boot {number}") for number in range(2)]
    for boot in boots:
        nursery.start_soon(boot.directory.keep_meeting)
    addresses = [boot.address for boot in boots]
    nodes = [await open_side(f"node {number}", *addresses) for number in range(12)]
    for number, node in enumerate(nodes):
        nursery.start_soon(node.keep_serving, THIRDS[number % 3])
    await trio.sleep(30)
    for boot in boots:
        await boot.kill()
    await trio.sleep(LIFE_S)
    newcomer = await open_side("newcomer", addresses[0], nodes[5].address)
    nursery.start_soon(newcomer.keep_serving, THIRDS[0])
    await trio.sleep(20)
    assert newcomer.nodes() == {node.key.public for node in nodes}
    assert all(newcomer.key.public in node.nodes() for node in nodes)


async def test_nobody_keeps_a_link_to_everybody(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot = await open_side("boot")
    nursery.start_soon(boot.directory.keep_meeting)
    nodes = [await open_side(f"node {number}", boot.address) for number in range(18)]
    for number, node in enumerate(nodes):
        nursery.start_soon(node.keep_serving, THIRDS[number % 3])
    await trio.sleep(LIFE_S)
    degrees = [len(side.network.links()) for side in [boot, *nodes]]
    assert max(degrees) <= MAX_DEGREE + 4  # of the last half minute
    assert sum(degrees) / len(degrees) <= MAX_DEGREE
    assert min(degrees) >= LEAST_DEGREE - 1
    for node in nodes:
        assert thinnest(one.offer.record for one in node.directory.offers(MODEL)) >= 2


async def test_who_is_turned_away_is_told_of_others_and_stays_away(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot = await open_side("boot")
    nursery.start_soon(boot.directory.keep_meeting)
    nodes = [await open_side(f"node {number}") for number in range(MAX_DEGREE + 3)]
    for node in nodes:
        await node.network.dial(boot.address)
        node.serve()
    heard: dict[PeerKey, int] = {}
    ends: list[Code] = []
    for node in nodes:
        node.exchange.mourners.append(lambda link, why: ends.append(why.code))
        node.exchange.hearers.append(noting(node, heard))
    await trio.sleep(DEGREE_S + 10)
    assert ends == [Code.IDLE] * 3
    assert len(boot.network.links()) == MAX_DEGREE
    assert sorted(heard.values()) == [TOLD_OF] * 3


def noting(node: Side, heard: dict[PeerKey, int]):  # type: ignore[no-untyped-def]
    def hear(link: Link, message: Offers) -> None:
        if len(message.offers) > 1:
            heard[node.key.public] = len(message.offers)

    return hear


async def test_links_of_sessions_and_of_debtors_stay(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    debtors: set[PeerKey] = set()
    boot = await open_side("boot", settles=lambda: debtors)
    nursery.start_soon(boot.directory.keep_meeting)
    clients = [await open_side(f"client {number}") for number in range(MAX_DEGREE + 8)]
    for client in clients:
        await client.network.dial(boot.address)
    debtors |= {client.key.public for client in clients[:4]}
    with boot.exchange.open_session(bytes(16), [clients[4].key.public], rests=lambda: True):  # type: ignore[arg-type]
        await trio.sleep(DEGREE_S + 10)
        assert len(boot.linked()) == MAX_DEGREE
        assert debtors | {clients[4].key.public} <= boot.linked()


# Neighbours


async def test_a_node_keeps_links_to_two_neighbours_whomever_else_it_knows(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld
) -> None:
    node = await open_side("node")
    others = [await open_side(f"other {number}") for number in range(MAX_DEGREE + 4)]
    for other in others:
        await other.network.dial(node.address)
    neighbours = [await open_side(f"neighbour {number}") for number in range(5)]
    world.neighbours[node.key.public] = [Address(side.address) for side in neighbours]
    near = {side.key.public for side in neighbours}
    nursery.start_soon(node.directory.keep_meeting)
    await trio.sleep(1)
    first = node.linked() & near
    assert len(first) == NEAR
    for _ in range(10):
        await trio.sleep(DEGREE_S)
        assert node.linked() & near == first
        for other in others:
            await other.network.dial(node.address)
    assert len(node.linked()) >= MAX_DEGREE


async def test_a_neighbour_that_does_not_answer_makes_way_for_others_and_is_left_alone(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld
) -> None:
    node, neighbour = await open_side("node"), await open_side("neighbour")
    neighbour.serve()
    gone = [f"/memory/p2p/{peer_name(key(f'gone {number}').public)}" for number in range(6)]
    world.neighbours[node.key.public] = [Address(one) for one in (*gone, neighbour.address, node.address, "nonsense")]
    dialled: list[PeerKey] = []
    reach = node.network.reach

    async def noting_reach(peer: PeerKey, addresses: Sequence[str], word: Word) -> Link:
        dialled.append(peer)
        return await reach(peer, addresses, word)

    node.network.reach = noting_reach  # type: ignore[method-assign]
    nursery.start_soon(node.directory.keep_meeting)
    await trio.sleep(10 * LOOK_AROUND_S)
    assert node.linked() == {neighbour.key.public}
    assert node.nodes() == {neighbour.key.public}
    assert len(dialled) == len(set(dialled)) == len(gone) + 1


async def test_who_names_false_places_of_a_neighbour_first_does_not_hide_the_true_one(
    open_side: OpenSide, world: MemoryWorld
) -> None:
    node, neighbour = await open_side("node"), await open_side("neighbour")
    false = [f"/memory/{number}/p2p/{peer_name(neighbour.key.public)}" for number in range(MAX_ADDRESSES)]
    world.neighbours[node.key.public] = [Address(one) for one in (*false, neighbour.address)]
    looks = [node.directory._meeting._near_to_meet() for _ in range(50)]
    assert any(neighbour.address in addresses for [(_, addresses)] in looks)
    assert {len(addresses) for [(_, addresses)] in looks} == {MAX_ADDRESSES}


# Our own network


async def test_who_moved_and_finds_a_link_silent_dials_its_bootstrap_peer_at_once(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot = await open_side("boot")
    node = await open_side("node", boot.address)
    nursery.start_soon(node.directory.keep_meeting)
    await trio.sleep(LOOK_AROUND_S / 2)
    link = node.network.link(boot.key.public)
    assert link is not None
    link._end("no answer after our addresses have changed", Code.SILENT)
    await trio.sleep(LOOK_AROUND_S / 5)
    assert node.network.link(boot.key.public) is not None


@pytest.mark.parametrize(("ours", "most"), [(False, 3), (True, 10 / SOON_S)])
async def test_who_lets_links_fall_silent_has_nobody_look_around_all_the_time(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, ours: bool, most: int
) -> None:
    """A look costs 20 ms where ten thousand offers are known; clients vanish all the time."""
    hub, peer = await open_side("hub"), await open_side("peer")
    looks: list[float] = []
    look_around = hub.directory._meeting.look_around

    async def noting() -> None:
        looks.append(trio.current_time())
        await look_around()

    hub.directory._meeting.look_around = noting  # type: ignore[method-assign]
    nursery.start_soon(hub.directory.keep_meeting)
    for _ in range(100):
        dialler, dialled = (hub, peer) if ours else (peer, hub)
        await dialler.network.dial(dialled.address)
        link = hub.network.link(peer.key.public)
        assert link is not None
        link._end("it answered no pings", Code.SILENT)
        await trio.sleep(0.1)
    assert len(looks) <= most


async def test_where_those_of_other_networks_never_lead_there_few_are_dialled_for_it(
    autojump_clock: MockClock, open_side: OpenSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an offer names first is the word of whoever told it; where a link leads shows when it is up."""
    node = await open_side("node")
    meeting, table = node.directory._meeting, node.directory.table
    for one in (told := [*strangers(30, STRANGE, STRANGE), *HONEST]):
        table.add(replace(one, born_s=trio.current_time()), trio.current_time())
    held = [Kept(one.node, 0.0, False, STRANGE, True) for one in told[:6]]
    monkeypatch.setattr(meeting, "_links", lambda: held)
    dialled = 0
    for _ in range(11):
        dialled += len(meeting._to_meet())
        await trio.sleep(LOOK_AROUND_S)
    assert 1 <= dialled <= 2


async def test_a_peer_that_our_own_limit_left_undialled_is_not_taken_for_dead(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # one in 5 s
        for name, value in (("BURST", 0.5), ("RATE", 0.1)):
            patch.setattr(f"p2pinfer.overlay.attempts.DIALS_{name}", value)
            patch.setattr(f"p2pinfer.overlay.attempts.ALL_DIALS_{name}", value)
        boot = await open_side("boot")
    node, other = await open_side("node"), await open_side("other")
    nursery.start_soon(boot.directory.keep_meeting)
    link = await other.network.dial(boot.address)
    link.send_nowait(Offers(0, (node.offer().relay(trio.current_time()),)))
    await trio.sleep(3)
    assert boot.linked() == {other.key.public}
    assert node.key.public in boot.nodes()
    await trio.sleep(10)
    assert node.key.public in boot.linked()


async def test_of_a_stranger_few_addresses_are_dialled_at_once(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot, node, other = [await open_side(name) for name in ("boot", "node", "other")]
    nursery.start_soon(boot.directory.keep_meeting)
    dialled: list[Sequence[str]] = []
    reach = boot.network.reach

    async def noting_reach(peer: PeerKey, addresses: Sequence[str], word: Word) -> Link:
        dialled.append(addresses)
        return await reach(peer, addresses, word)

    monkeypatch.setattr(boot.network, "reach", noting_reach)
    told = replace(
        node.offer(), addresses=tuple(f"/memory/{number}/p2p/{peer_name(node.key.public)}" for number in range(8))
    )
    link = await other.network.dial(boot.address)
    link.send_nowait(Offers(0, (told.relay(trio.current_time()),)))
    await trio.sleep(2 * LOOK_AROUND_S)
    assert [len(some) for some in dialled] == [STRANGE_ADDRESSES]
    assert node.key.public in boot.nodes()  # there are others, where it may be


# The DHT


async def test_peers_are_asked_once_for_each_life_of_our_part_of_the_dht(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    node, other = await open_side("node"), await open_side("other")
    asked, part = [], [Address("/ip4/127.0.0.1/tcp/9")]

    async def note(link: Link, ask: AskContacts) -> Contacts:
        asked.append(link)
        await trio.lowlevel.checkpoint()
        return Contacts(ask.call, (), ())

    other.exchange.answer(AskContacts, note)  # type: ignore[arg-type]
    node.network.directory_addresses = lambda: tuple(part)  # type: ignore[method-assign]
    await node.network.dial(other.address)
    nursery.start_soon(node.directory.keep_meeting)
    await trio.sleep(3 * LOOK_AROUND_S)
    assert len(asked) == 1
    part[:] = []  # its process ended
    await trio.sleep(2 * LOOK_AROUND_S)
    part[:] = [Address("/ip4/127.0.0.1/tcp/10")]
    await trio.sleep(3 * LOOK_AROUND_S)
    assert len(asked) == 2


async def test_of_those_that_the_dht_names_networks_have_turns(
    autojump_clock: MockClock, open_side: OpenSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    lured = {key(f"lured {number}").public: "203.0.113.66" for number in range(2 * MAX_FOUND)}
    honest = {key(f"honest {number}").public: f"198.41.0.{number}" for number in range(2)}
    named = tuple(Address(f"/ip4/{ip}/tcp/1/p2p/{peer_name(peer)}") for peer, ip in {**lured, **honest}.items())
    dialled: list[PeerKey] = []

    async def find(_key: bytes) -> tuple[Address, ...]:
        return named

    async def nobody(_network: Network, peer: PeerKey, *_: object, **__: object) -> Link:
        dialled.append(peer)
        raise Refused("nobody answers", Code.UNREACHABLE)

    monkeypatch.setattr("p2pinfer.overlay.search.reach", nobody)
    for number in range(10):
        node = await open_side(f"node {number}")
        monkeypatch.setattr(node.network, "find", find)
        dialled.clear()
        await node.directory.look(MODEL)
        assert len(dialled) == MAX_FOUND
        assert honest.keys() <= set(dialled)
