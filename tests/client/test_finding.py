"""What a client says where it finds no route; the directory is the test."""

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.promised import Times
from p2pinfer.client.route_finder import FoundRoute, RouteFinder
from p2pinfer.client.route_links import RouteLinks
from p2pinfer.client.routes import Sought
from p2pinfer.core.records.offer import Load, Speed
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.routes.failures import Failures
from p2pinfer.core.routes.measures import Measures, Who
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, NoRoute, TooDear
from p2pinfer.core.values.keys import PrivateKey, short_name
from p2pinfer.core.values.units import Codec, OwnerKey, PeerKey, Roles, Span
from p2pinfer.overlay.machine import Machine
from tests.core.paid_route import LIMITS, MODEL, NODES, OWNER, PRICES, STRANGER, certificate_for, key, offer_of

SOUGHT = Sought(model=MODEL, layers=30, hidden=576, prompt=5, tokens=256, codec=Codec.Q8O4)
WHOLE = Span(0, 30), Roles.HEAD | Roles.TAIL
PLACES = ("/ip4/203.0.113.7/tcp/4001",)


class Known:
    """A directory that knows these offers, and hears of no others."""

    def __init__(self, *offers: KnownOffer) -> None:
        self._offers = list(offers)

    def offers(self, model: bytes) -> list[KnownOffer]:
        return self._offers

    async def look(self, model: bytes) -> list[KnownOffer]:
        await trio.lowlevel.checkpoint()
        return self._offers


class Alone:
    """A network without links."""

    machine = Machine()

    def link(self, peer: bytes) -> None:
        return None

    def links(self) -> tuple[object, ...]:
        return ()


def finder_over(*offers: KnownOffer) -> RouteFinder:
    return RouteFinder(Known(*offers), Alone(), Failures(), Measures())  # type: ignore[arg-type]


def whole(node: int, **changes: object) -> KnownOffer:
    """An offer of the whole model."""
    certificate = certificate_for(NODES[node], not_after=int(time.time()) + 86_400)
    return KnownOffer(offer_of(NODES[node], *WHOLE, **changes), certificate, PLACES, 0.0)  # type: ignore[arg-type]


async def test_nodes_that_may_not_be_asked_are_named() -> None:
    certificate = certificate_for(NODES[0], not_after=int(time.time()) + 60)
    late = KnownOffer(offer_of(NODES[0], Span(0, 30), Roles.HEAD | Roles.TAIL), certificate, PLACES, 0.0)
    finder = finder_over(late)
    with pytest.raises(NoRoute, match=f"nobody serves layers 0:30 .*{short_name(NODES[0].public)} may not be asked"):
        await finder.find(SOUGHT, ())


async def test_nodes_whose_cadence_is_too_short_are_named() -> None:
    often = whole(0, limits=replace(LIMITS, window=1_024, cadence=1))
    with pytest.raises(NoRoute, match=f"{short_name(NODES[0].public)} may not be asked: .*more than 256 receipts"):
        await finder_over(often).find(SOUGHT, ())


async def test_where_nobody_offers_anything_no_certificate_is_to_blame() -> None:
    finder = finder_over()
    with pytest.raises(NoRoute, match=r"nobody serves layers 0:30 of 30$"):
        await finder.find(SOUGHT, ())


# What it may cost


GREEDY = Prices(*[(1 << 32) - 1] * 4)


async def test_what_a_greedy_node_asks_is_never_taken_by_default_though_it_is_the_only_one() -> None:
    with pytest.raises(TooDear, match=r"may cost [\d,]+ nano-credits, and the limit is 77,900: ask for fewer"):
        await finder_over(whole(0, prices=GREEDY)).find(SOUGHT, ())
    with pytest.raises(TooDear):
        await finder_over(whole(0, flat=1 << 40)).find(SOUGHT, ())


async def test_a_node_within_the_limit_is_taken_beside_greedy_ones() -> None:
    finder = finder_over(whole(0, prices=GREEDY), whole(1), whole(2, prices=GREEDY))
    [route] = await finder.find(SOUGHT, (), count=8)
    assert route.nodes == {NODES[1].public}


async def test_a_limit_named_by_the_person_holds_both_ways() -> None:
    finder = finder_over(whole(0))
    asked = (30 * 5 * PRICES.prefill + 30 * 255 * PRICES.decode + 256 * PRICES.sampled) / 1e6
    exact = replace(SOUGHT, max_cost=-(-int(asked * 1000) // 1000))
    [route] = await finder.find(exact, ())
    assert route.most == exact.max_cost
    with pytest.raises(TooDear, match=f"may cost {exact.max_cost} nano-credits, and the limit is 100"):
        await finder.find(replace(SOUGHT, max_cost=100), ())
    [route] = await finder_over(whole(0, prices=GREEDY)).find(replace(SOUGHT, max_cost=1 << 50), ())
    assert route.most == 1 << 50


async def test_what_earlier_tries_cost_is_taken_off_the_limit() -> None:
    [route] = await finder_over(whole(0)).find(replace(SOUGHT, max_cost=5_000), (), spent=1_000)
    assert route.most == 4_000
    with pytest.raises(TooDear):
        await finder_over(whole(0)).find(replace(SOUGHT, max_cost=5_000), (), spent=4_900)


# What may be lost


CHEAP = Prices(15_000, 60_000, 2_000, 480_000)
SLOW = Speed(2_000, 10, 10_000)
BEYOND = replace(SOUGHT, prompt=800, max_cost=1_600)  # 32 ids longer than the window, so one cadence is signed before


async def test_a_node_that_never_answered_is_asked_first_where_what_it_may_take_leaves_enough_for_another() -> None:
    cheap, honest = whole(0, prices=CHEAP), whole(1, speed=SLOW)
    [route] = await finder_over(cheap, honest).find(replace(BEYOND, proven={NODES[1].public}), ())
    assert route.nodes == {NODES[0].public}


@pytest.mark.parametrize("spent", [0, 60])
async def test_no_route_may_take_what_one_that_is_paid_for_ids_alone_would_need(spent: int) -> None:
    cheap, honest = whole(0, prices=CHEAP), whole(1, speed=SLOW)
    tight = replace(BEYOND, max_cost=1_300 + spent, proven={NODES[1].public})
    [route] = await finder_over(cheap, honest).find(tight, (), spent)
    assert route.nodes == {NODES[1].public}
    roomy = whole(2, speed=SLOW, limits=replace(LIMITS, window=1_024))
    [route] = await finder_over(cheap, roomy).find(replace(tight, proven=()), (), spent)
    assert route.nodes == {NODES[2].public}


async def test_where_nobody_is_proven_the_cheapest_is_asked() -> None:
    finder = finder_over(whole(0, prices=CHEAP), whole(1, speed=SLOW))
    [route] = await finder.find(replace(BEYOND, max_cost=1_300), ())
    assert route.nodes == {NODES[0].public}


async def test_a_wide_window_is_preferred_to_a_little_cheaper_node_that_may_take_more() -> None:
    greedy = whole(0, prices=replace(PRICES, prefill=19_000), limits=replace(LIMITS, window=8, cadence=1, max_chunk=2))
    [route] = await finder_over(greedy, whole(1, limits=replace(LIMITS, window=1_024))).find(BEYOND, ())
    assert route.nodes == {NODES[1].public}


# Who is asked


async def test_the_cheapest_node_is_not_asked_where_it_is_too_short() -> None:
    short = replace(LIMITS, max_positions=256)
    cheap = whole(0, limits=short, prices=Prices(1, 1, 1, 1))
    [route] = await finder_over(cheap, whole(1)).find(SOUGHT, ())
    assert route.nodes == {NODES[1].public}
    with pytest.raises(NoRoute, match="need 261 positions, and others take 256 at most: ask for fewer tokens"):
        await finder_over(cheap).find(SOUGHT, ())


async def test_routes_share_no_node() -> None:
    found = await finder_over(*map(whole, range(3))).find(SOUGHT, (), count=8)
    assert sorted(map(len, [route.nodes for route in found])) == [1, 1, 1]
    assert len(frozenset.union(*(route.nodes for route in found))) == 3


async def test_a_node_that_failed_lately_is_asked_after_the_others_and_its_owners_other_nodes_too() -> None:
    failures = Failures()
    cheap = [whole(node, prices=Prices(0, 0, 0, 0)) for node in (0, 1)]
    dear = whole(2, owner=STRANGER.public)
    finder = RouteFinder(Known(*cheap, dear), Alone(), failures, Measures())  # type: ignore[arg-type]
    [route] = await finder.find(SOUGHT, ())
    assert route.nodes != {NODES[2].public}
    failures.note(NODES[0].public, OwnerKey(OWNER.public), trio.current_time())
    [route] = await finder.find(SOUGHT, ())
    assert route.nodes == {NODES[2].public}


# What was measured


async def test_a_node_that_crawls_is_left_for_its_idle_twin_after_one_answer() -> None:
    measures = Measures()
    finder = RouteFinder(Known(whole(0), whole(1, owner=STRANGER.public)), Alone(), Failures(), measures)  # type: ignore[arg-type]
    first = await one_of_both(finder)
    times = Times(first_s=3.0, others_s=20.0, ids=100)
    RouteLinks(Known(), Alone(), measures).note_answer(first, times)  # type: ignore[arg-type]
    assert all(route.nodes != first.nodes for route in [await one_of_both(finder) for _ in range(20)])


async def one_of_both(finder: RouteFinder) -> FoundRoute:
    [route] = await finder.find(SOUGHT, ())
    return route


def part(node: PrivateKey, first: int, last: int, cadence: int, prices: Prices = PRICES) -> KnownOffer:
    roles = (Roles.HEAD if first == 0 else Roles(0)) | (Roles.TAIL if last == 30 else Roles(0))
    certificate = certificate_for(node, not_after=int(time.time()) + 86_400)
    limits = replace(LIMITS, cadence=cadence, window=4_096, max_chunk=1)
    return KnownOffer(offer_of(node, Span(first, last), roles, limits, prices=prices), certificate, PLACES, 0.0)


async def test_a_stage_whose_cadence_fits_nobody_is_left_out_though_it_is_free() -> None:
    head, middle, tail = part(NODES[0], 0, 10, 32), part(NODES[1], 10, 20, 128), part(NODES[2], 20, 30, 64)
    free = part(STRANGER, 10, 20, 2, Prices(0, 0, 0, 0))
    sought = replace(SOUGHT, max_cost=1 << 40)
    [route] = await finder_over(head, middle, tail, free).find(sought, ())
    assert [stage.key for stage in route.stages] == [node.public for node in NODES[:3]]
    with pytest.raises(NoRoute, match="no route fits"):
        await finder_over(head, free, tail).find(sought, ())


def told(number: int, network: str, price: int) -> KnownOffer:
    """An offer of the whole model by a node and an owner of their own."""
    node, owner = key(f"node {number}"), OwnerKey(key(f"owner {number}").public)
    certificate = certificate_for(node, not_after=int(time.time()) + 86_400)
    prices = Prices(price, price, price, price)
    return KnownOffer(offer_of(node, *WHOLE, owner=owner, prices=prices), certificate, PLACES, 0.0, network)


async def test_of_routes_that_are_dialled_together_few_were_told_by_one_network() -> None:
    fakes = [told(number, "stranger", 0) for number in range(40)]
    honest = [told(number, "friend", PRICES.prefill) for number in range(40, 43)]
    for count, expected in [(2, 1), (4, 1), (8, 2)]:
        routes = await finder_over(*fakes, *honest).find(SOUGHT, (), count=count)
        assert len(routes) == count
        nodes = {stage.key for route in routes[: 2 * expected] for stage in route.stages}
        assert len(nodes & {known.node for known in honest}) == expected
    assert len(await finder_over(*fakes).find(SOUGHT, (), count=8)) == 8


class Linked:
    rtt_s = usual_rtt_s = 0.02


class Far(Alone):
    """A network in which a dial takes so many seconds; to this node there is a link."""

    def __init__(self, near: PeerKey, dial_s: float) -> None:
        self._linked, self._dial_s = {near}, dial_s

    def link(self, peer: bytes) -> Linked | None:  # type: ignore[override]
        return Linked() if peer in self._linked else None

    def dialable(self, _peer: bytes, addresses: Sequence[str], _word: object) -> Sequence[str]:
        return addresses

    async def reach(self, peer: PeerKey, *_how: object) -> Linked:
        await trio.sleep(self._dial_s)
        self._linked.add(peer)
        return Linked()


@pytest.mark.parametrize(("near", "late"), [(NODES[0], 0), (STRANGER, 3)])
async def test_late_is_who_had_its_time(autojump_clock: MockClock, near: PrivateKey, late: int) -> None:
    network, measures = Far(near.public, dial_s=5.0), Measures()
    directory = Known(*map(whole, range(3)))
    finder = RouteFinder(directory, network, Failures(), measures)  # type: ignore[arg-type]
    routes = await finder.find(SOUGHT, (), count=3)
    await RouteLinks(directory, network, measures).reach(routes, hasty=True)  # type: ignore[arg-type]
    measured = [measures.of(Who(node.public, OwnerKey(bytes(32))), trio.current_time()).late_s for node in NODES[:3]]
    assert sum(late_s > 0 for late_s in measured) == late


async def test_behind_one_that_is_to_be_dialled_stands_one_that_is_linked() -> None:
    near = NODES[0].public
    equal = [told(number, "stranger", PRICES.prefill) for number in range(40)]
    finder = RouteFinder(Known(whole(0), *equal), Far(near, 0.1), Failures(), Measures())  # type: ignore[arg-type]
    found = [await finder.find(SOUGHT, ()) for _ in range(40)]
    assert all(routes[-1].nodes == {near} for routes in found)
    assert {len(routes) for routes in found} == {1, 2}


async def test_a_linked_node_that_is_known_to_be_late_is_the_last_of_many() -> None:
    near = NODES[0].public
    network, measures = Far(near, 0.1), Measures()
    directory = Known(whole(0), *(told(number, "stranger", 0) for number in range(40)))
    finder = RouteFinder(directory, network, Failures(), measures)  # type: ignore[arg-type]
    first = (await finder.find(SOUGHT, (), count=2))[0]
    RouteLinks(directory, network, measures).note_late(first.stages)  # type: ignore[arg-type]
    for count in (1, 2, 4, 8):
        routes = await finder.find(SOUGHT, (), count=count)
        assert [route.nodes == {near} for route in routes] == [*[False] * count, *[True] * (count >= 4)]


async def test_a_linked_node_that_is_known_to_be_late_is_asked_after_a_dial() -> None:
    near = NODES[0].public
    directory = Known(whole(0), whole(1, owner=OwnerKey(STRANGER.public)))
    network, measures = Far(near, 0.1), Measures()
    finder = RouteFinder(directory, network, Failures(), measures)  # type: ignore[arg-type]
    routes = await finder.find(SOUGHT, (), count=2)
    assert routes[0].nodes == {near}
    RouteLinks(directory, network, measures).note_late(routes[0].stages)  # type: ignore[arg-type]
    assert (await finder.find(SOUGHT, (), count=2))[0].nodes == {NODES[1].public}


async def test_equal_nodes_take_turns_and_an_answer_as_promised_changes_nothing() -> None:
    directory, network, measures = Known(whole(0), whole(1)), Alone(), Measures()
    finder = RouteFinder(directory, network, Failures(), measures)  # type: ignore[arg-type]
    links = RouteLinks(directory, network, measures)  # type: ignore[arg-type]
    seen = []
    for _ in range(40):
        seen.append(route := await one_of_both(finder))
        links.note_answer(route, Times(first_s=0.3, others_s=99 / 40, ids=100))
    assert len({route.nodes for route in seen}) == 2


async def test_a_node_without_room_is_asked_after_one_that_has_it() -> None:
    full = whole(0, load=Load(SOUGHT.positions - 1, 0, 1_000), prices=CHEAP)
    assert {(await one_of_both(finder_over(full, whole(1)))).nodes for _ in range(20)} == {frozenset({NODES[1].public})}
    assert (await one_of_both(finder_over(full))).nodes == {NODES[0].public}


# Who is within reach


class OneLink(Alone):
    """A network with one link."""

    def __init__(self, peer: PeerKey) -> None:
        self.peer = peer

    def links(self) -> tuple[object, ...]:
        return (self,)


def hidden(node: int) -> KnownOffer:
    """An offer of the whole model by a node of which no address can be dialled."""
    return replace(whole(node), addresses=())


async def test_a_node_that_cannot_be_dialled_is_in_no_route_and_named_as_the_reason() -> None:
    [route] = await finder_over(hidden(0), whole(1)).find(SOUGHT, (), count=8)
    assert route.nodes == {NODES[1].public}
    finder = finder_over(hidden(0))
    assert not finder.has_route(SOUGHT, ())
    with pytest.raises(NoRoute, match=f"nobody serves layers 0:30 .*{short_name(NODES[0].public)} cannot be reached"):
        await finder.find(SOUGHT, ())


async def test_a_node_that_came_to_us_is_in_a_route_wherever_it_is() -> None:
    network = OneLink(NODES[0].public)
    finder = RouteFinder(Known(hidden(0)), network, Failures(), Measures())  # type: ignore[arg-type]
    [route] = await finder.find(SOUGHT, ())
    assert route.nodes == {NODES[0].public}


async def test_where_nothing_could_be_dialled_nobody_has_failed(autojump_clock: MockClock) -> None:
    """The link by which it came ended after the choice."""
    network, measures = Far(STRANGER.public, dial_s=1.0), Measures()
    directory = Known(whole(0), whole(1))
    finder = RouteFinder(directory, network, Failures(), measures)  # type: ignore[arg-type]
    routes = await finder.find(SOUGHT, (), count=2)
    gone, there = routes[0], routes[1]
    gone = replace(gone, stages=tuple(replace(stage, addresses=()) for stage in gone.stages))
    found, missing, late = await RouteLinks(directory, network, measures).reach([gone, there], hasty=False)  # type: ignore[arg-type]
    assert found is not None
    assert (found.nodes, missing, late) == (there.nodes, set(), gone.nodes)
    [node] = gone.nodes
    assert measures.of(Who(PeerKey(node), OwnerKey(bytes(32))), trio.current_time()).late_s == 0


class Full(Far):
    """A network in which no peer has room for a link."""

    async def reach(self, peer: PeerKey, *_how: object) -> Linked:
        raise LinkDead("no room", Code.BUSY)


async def test_who_has_no_room_for_a_link_has_not_failed_and_comes_after_others(autojump_clock: MockClock) -> None:
    network, measures = Full(STRANGER.public, dial_s=1.0), Measures()
    directory = Known(whole(0))
    finder = RouteFinder(directory, network, Failures(), measures)  # type: ignore[arg-type]
    routes = await finder.find(SOUGHT, ())
    found = await RouteLinks(directory, network, measures).reach(routes, hasty=False)  # type: ignore[arg-type]
    assert found == (None, set(), routes[0].nodes)
    assert trio.current_time() == 0
    assert measures.of(Who(NODES[0].public, OwnerKey(bytes(32))), 0).late_s > 0


# Routes that failed, by whomever


HALVES = Span(0, 15), Span(15, 30)


def half(node: int, side: int) -> KnownOffer:
    return replace(whole(node), offer=offer_of(NODES[node], HALVES[side], (Roles.HEAD, Roles.TAIL)[side]))


async def test_a_route_that_was_tried_is_found_no_more_but_its_nodes_with_others_are() -> None:
    finder = finder_over(half(0, 0), half(1, 1), half(2, 1))
    [first] = await finder.find(SOUGHT, ())
    [other] = await finder.find(SOUGHT, (), tried=[first.nodes])
    assert first.nodes & other.nodes == {NODES[0].public}
    tried = [first.nodes, other.nodes]
    assert not finder.has_route(SOUGHT, (), tried=tried)
    with pytest.raises(NoRoute):
        await finder.find(SOUGHT, (), tried=tried)


async def test_of_the_nodes_to_spare_those_are_needed_whose_layers_nobody_else_serves() -> None:
    finder = finder_over(half(0, 0), half(1, 1), half(2, 1))
    head, tail, other = (node.public for node in NODES)
    among = finder.survey(SOUGHT)
    assert finder.needed(among, SOUGHT, (), {head, tail}) == {head}
    assert finder.needed(among, SOUGHT, {other}, {head, tail}) == {head, tail}
    assert finder.needed(among, SOUGHT, {head}, {head, tail}) == set()
