"""Requests among liars that hold a part of the model each: every route with one of them fails, and nobody says by whom.

Routes are those of the real finder, over offers that are made up here; so are the generations.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.places import Places
from p2pinfer.client.route_finder import FoundRoute, RouteFinder
from p2pinfer.client.routes import Sought, usable
from p2pinfer.client.run import Run
from p2pinfer.client.tries import Tries, Wait
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.routes.failures import FORGET_S, Failures
from p2pinfer.core.routes.measures import Measures
from p2pinfer.core.routes.routing import ask_of
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed
from p2pinfer.core.values.units import Codec, OwnerKey, PeerKey, Span, roles_of
from p2pinfer.overlay.machine import Machine
from tests.core.paid_route import MODEL, certificate_for, key, offer_of

LAYERS = 30
SOUGHT = Sought(model=MODEL, layers=LAYERS, hidden=576, prompt=5, tokens=20, codec=Codec.Q8O4, max_cost=1 << 50)
T = TypeVar("T")
ROOM_S = 60.0  # the patience of requests here
FAIL_S = 0.1  # until a liar ends its route
HEAD, MIDDLE, TAIL, WHOLE = Span(0, 10), Span(10, 20), Span(10, 30), Span(0, 30)
BACK = Span(20, 30)


class Ended:
    """A generation with an id, or one that a stage ended after some seconds."""

    def __init__(self, route: FoundRoute, failed: bool, after_s: float, cost: int) -> None:
        self.ids = [] if failed else [1]
        self.failure: GenerationFailed | None = None
        self.generation = self
        self.refused_by: frozenset[PeerKey] = frozenset()
        self.retry_s: float | None = None
        self.cost = cost if failed else 0
        self.reserve = 0
        self.cannot_keep = False
        self.started_s = trio.current_time()
        self._failed, self._at = failed, self.started_s + after_s

    @property
    def begun(self) -> bool:
        return bool(self.ids) or self.failure is not None

    async def wait_begun(self) -> None:
        if self._failed:
            await trio.sleep_until(self._at)
            self.fail("gave up", Code.IDLE)

    def fail(self, text: str, code: Code) -> None:
        self.failure = self.failure or GenerationFailed(text, code)

    def give_up(self, patience_s: float) -> None:
        self.fail(f"no id came within {patience_s:.0f} s", Code.SILENT)


def prices_at(price: int) -> Prices:
    return Prices(*[1_000 * price] * 4)


class World:
    """Nodes of these names, spans and prices for anything; the names of liars begin with `liar`."""

    def __init__(self, *nodes: tuple[str, Span, int], after_s: float = FAIL_S, cost: int = 0) -> None:
        self.names = {key(name).public: name for name, _, _ in nodes}
        self._offers = [self._offer(*node) for node in nodes]
        self._after_s, self._cost = after_s, cost  # of a route that fails
        self.failures = Failures()
        self.tries: list[tuple[str, ...]] = []
        self.full_s: float | None = None  # the head of a route that fails says that it has no room for so long
        self.full_until_s = 0.0  # every route fails
        self.sought = SOUGHT
        self.finder = RouteFinder(self, self, self.failures, Measures())  # type: ignore[arg-type]

    def add(self, name: str, span: Span, price: int, flat: int) -> None:
        self.names[key(name).public] = name
        self._offers.append(self._offer(name, span, price, flat))

    def _offer(self, name: str, span: Span, price: int, flat: int = 0) -> KnownOffer:
        certificate = certificate_for(key(name), not_after=int(time.time()) + 86_400)
        owner = OwnerKey(key(f"owner of {name}").public)
        offer = offer_of(key(name), span, roles_of(span, LAYERS), prices=prices_at(price), flat=flat, owner=owner)
        return KnownOffer(offer, certificate, ("/ip4/203.0.113.7/tcp/4001",), 0.0)

    # A directory, a network without links, and links to all who are asked for

    machine = Machine()

    def offers(self, _: bytes) -> list[KnownOffer]:
        return self._offers

    async def look(self, _: bytes) -> list[KnownOffer]:
        await trio.lowlevel.checkpoint()
        return self._offers

    def link(self, _: bytes) -> None:
        return None

    def links(self) -> tuple[object, ...]:
        return ()

    async def reach(self, routes: Sequence[FoundRoute], hasty: bool) -> tuple[FoundRoute, set[bytes], set[bytes]]:
        await trio.lowlevel.checkpoint()
        return routes[0], set(), set()

    def hears(self, route: FoundRoute) -> bool:
        return True

    def note_late(self, *_: object) -> None:
        pass

    # Requests

    def start(self, route: FoundRoute, _places: Places, _first_id: object) -> Run:
        names = tuple(self.names[stage.key] for stage in route.stages)
        self.tries.append(names)
        lies = any(name.startswith("liar") for name in names) or trio.current_time() < self.full_until_s
        ended = Ended(route, lies, self._after_s, self._cost)
        if lies and self.full_s is not None:
            ended.refused_by, ended.retry_s = frozenset({route.stages[0].key}), self.full_s
        return ended  # type: ignore[return-value]

    is_held = False

    async def wait_left(self) -> None:
        await trio.sleep_forever()

    async def ask(self) -> tuple[str, ...]:
        """The route that answered."""
        parts = self.finder, self, self.sought, self.start, Wait(self, ROOM_S, lambda _missing: None), self.machine
        await Tries(*parts).first_answering()  # type: ignore[arg-type]
        return self.tries[-1]

    @property
    def noted(self) -> set[str]:
        """Whoever is remembered to have failed."""
        now = trio.current_time()
        owners = {name: OwnerKey(key(f"owner of {name}").public) for name in self.names.values()}
        return {name for node, name in self.names.items() if self.failures.risk(node, owners[name], now)}


def many(name: str, number: int, span: Span, price: int) -> list[tuple[str, Span, int]]:
    return [(f"{name} {at}", span, price + at) for at in range(number)]


async def test_a_cheap_liar_takes_no_honest_neighbour_with_it(autojump_clock: MockClock) -> None:
    world = World(("head", HEAD, 500), ("tail", TAIL, 500), ("liar", TAIL, 1))
    assert await world.ask() == ("head", "tail")
    assert world.tries == [("head", "liar"), ("head", "tail")]
    assert world.noted == set()


@pytest.mark.parametrize(("heads", "tails"), [(0, 8), (8, 0), (2, 1), (3, 3), (2, 5)])
async def test_liars_on_either_side_leave_the_honest_route_its_turn(
    autojump_clock: MockClock, heads: int, tails: int
) -> None:
    liars = [*many("liar head", heads, HEAD, 1), *many("liar tail", tails, TAIL, 1)]
    world = World(*liars, ("head", HEAD, 500), ("tail", TAIL, 500))
    assert await world.ask() == ("head", "tail")
    assert len(world.tries) == len(set(world.tries)) <= (heads + 1) * (tails + 1)
    assert world.noted == set()


async def test_the_next_request_goes_by_what_the_last_one_found(autojump_clock: MockClock) -> None:
    """Where eight lie at each of two stages, some (8 + 1)^2 routes have to be tried, once."""
    liars = [*many("liar head", 8, HEAD, 1), *many("liar tail", 8, TAIL, 1)]
    world = World(*liars, ("head", HEAD, 500), ("tail", TAIL, 500))
    await world.ask()
    tries = len(world.tries)
    assert await world.ask() == ("head", "tail")
    assert len(world.tries) == tries + 1
    await trio.sleep(FORGET_S)
    await world.ask()
    assert len(world.tries) > tries + 2


async def test_three_stages_with_liars_at_each(autojump_clock: MockClock) -> None:
    honest = [("head", HEAD, 500), ("middle", MIDDLE, 500), ("tail", BACK, 500)]
    liars = [*many("liar h", 2, HEAD, 1), *many("liar m", 1, MIDDLE, 1), *many("liar t", 2, BACK, 1)]
    world = World(*honest, *liars)
    assert await world.ask() == ("head", "middle", "tail")
    assert len(world.tries) == len(set(world.tries)) <= 3 * 2 * 3


async def test_a_route_without_suspects_comes_before_all_that_have_one(autojump_clock: MockClock) -> None:
    """However dear it is: the liars had their turn."""
    liars = [*many("liar head", 4, HEAD, 1), *many("liar tail", 4, TAIL, 1)]
    world = World(*liars, ("head", HEAD, 1_000_000), ("tail", TAIL, 1_000_000))
    assert await world.ask() == ("head", "tail")
    assert len(world.tries) == 5


async def test_of_the_suspects_those_come_back_whose_layers_nobody_else_serves(autojump_clock: MockClock) -> None:
    """A tail that was in no route that failed comes before all that were, however dear it is."""
    tails = [("liar 0", TAIL, 1), ("liar 1", TAIL, 1_000), ("tail", TAIL, 1_000_000)]
    world = World(("liar head", HEAD, 1), ("head", HEAD, 1_000), *tails)
    assert await world.ask() == ("head", "tail")
    assert world.tries[:3] == [("liar head", "liar 0"), ("head", "liar 1"), ("liar head", "tail")]


async def test_the_only_stage_of_a_route_that_failed_is_remembered(autojump_clock: MockClock) -> None:
    world = World(("liar", WHOLE, 1), ("head", HEAD, 500), ("tail", TAIL, 500))
    assert await world.ask() == ("head", "tail")
    assert (world.tries[0], world.noted) == (("liar",), {"liar"})


async def test_silent_liars_beside_an_honest_route_cost_no_more_than_their_patience(autojump_clock: MockClock) -> None:
    liars = [*many("liar head", 3, HEAD, 1), *many("liar tail", 3, TAIL, 1)]
    world = World(*liars, ("head", HEAD, 500), ("tail", TAIL, 500), after_s=inf)
    assert await world.ask() == ("head", "tail")
    assert trio.current_time() < 5


async def test_who_was_paid_and_brought_nothing_is_asked_again_in_other_company_at_once(
    autojump_clock: MockClock,
) -> None:
    world = World(("head", HEAD, 500), ("tail", TAIL, 500), ("liar", TAIL, 1), cost=1)
    assert await world.ask() == ("head", "tail")
    assert await world.ask() == ("head", "tail")
    assert world.tries == [("head", "liar"), ("head", "tail"), ("head", "tail")]
    assert world.noted == set()


async def test_those_who_were_paid_and_brought_nothing_are_asked_last(autojump_clock: MockClock) -> None:
    world = World(("head", HEAD, 500), ("liar", TAIL, 1), cost=1)
    for _ in range(2):
        with pytest.raises(GenerationFailed, match="gave up"):
            await world.ask()
    assert world.tries == [("head", "liar")] * 2


async def test_where_every_route_has_a_liar_each_is_tried_once(autojump_clock: MockClock) -> None:
    world = World(*many("liar head", 3, HEAD, 1), *many("tail", 4, TAIL, 1))
    with pytest.raises(GenerationFailed, match="gave up"):
        await world.ask()
    assert len(world.tries) == len(set(world.tries)) == 3 * 4
    assert world.noted == set()


async def test_a_tail_that_keeps_heads_busy_is_asked_in_no_route_twice_before_others(
    autojump_clock: MockClock,
) -> None:
    world = World(*many("head", 3, HEAD, 500), ("tail", TAIL, 500), ("liar", TAIL, 1))
    world.full_s = 1.0
    assert (await world.ask())[1] == "tail"
    assert len(world.tries) == len(set(world.tries)) == 4


async def test_a_route_of_which_one_had_no_room_is_asked_again_where_there_is_no_other(
    autojump_clock: MockClock,
) -> None:
    world = World(("head", HEAD, 500), ("tail", TAIL, 500))
    world.full_s, world.full_until_s = 1.0, 3.0
    assert await world.ask() == ("head", "tail")
    assert len(world.tries) > 2


async def test_suspects_are_asked_where_the_losses_left_too_little_for_a_route_without_any(
    autojump_clock: MockClock,
) -> None:
    world = World(("head", HEAD, 500), ("tail", TAIL, 500), ("liar", TAIL, 1), cost=1)
    flat = 1_000_000_000
    world.add("dear", WHOLE, 1, flat)
    world.sought = replace(SOUGHT, max_cost=ask_of(prices_at(1), flat, WHOLE, SOUGHT.load))
    assert await world.ask() == ("head", "tail")
    assert world.tries == [("head", "liar"), ("head", "tail")]


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and says in which of them a function is called."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1

    def noting(self, calls: list[int], function: Callable[..., T]) -> Callable[..., T]:
        def call(*parts: object) -> T:
            calls.append(self.count)
            return function(*parts)

        return call


async def test_nothing_waits_for_two_looks_and_offers_are_read_twice_a_try_at_most(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    liars = [*many("liar head", 2, HEAD, 1), *many("liar tail", 2, TAIL, 1)]
    world, steps, looks, reads = (
        World(*liars, ("head", HEAD, 500), ("tail", TAIL, 500)),
        Steps(),
        list[int](),
        list[int](),
    )
    monkeypatch.setattr(world.finder, "_choice", steps.noting(looks, world.finder._choice))
    monkeypatch.setattr("p2pinfer.client.route_finder.usable", steps.noting(reads, usable))
    trio.lowlevel.add_instrument(steps)
    await world.ask()
    trio.lowlevel.remove_instrument(steps)
    assert len(looks) > 2 * len(world.tries)
    assert len(looks) == len(set(looks))
    assert len(reads) <= 2 * len(world.tries)
