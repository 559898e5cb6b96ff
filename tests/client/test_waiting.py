"""What is not there yet is waited for: with the clock that jumps, and a directory that the test fills."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client import arrivals as waiting
from p2pinfer.client.arrivals import DEFAULT_WAIT_S, UNDER_WAY_S, Arrivals, NotYet
from p2pinfer.client.route_finder import RouteFinder
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.routes.failures import Failures
from p2pinfer.core.routes.measures import Measures
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.errors import NoRoute, TooDear, Unreached, UsageError
from p2pinfer.core.values.units import Codec, Numerics, Roles, Span
from p2pinfer.overlay.news import News
from tests.core.paid_route import LIMITS, MODEL, NODES, certificate_for, offer_of

from .test_finding import PLACES, SOUGHT, Alone, Known

LOOK_S = 2.0  # of a directory whose bootstrap peers are silent
DEAR = Prices(*[(1 << 32) - 1] * 4)


class Filling(Known):
    """A directory whose looks take their time, and which hears of offers when the test says so."""

    def __init__(self, *offers: KnownOffer, look_s: float = 0.0) -> None:
        super().__init__(*offers)
        self.news = News()
        self.looks: list[float] = []
        self.found_by_looking: list[KnownOffer] = []
        self._look_s = look_s

    async def look(self, model: bytes | None = None, widely: bool = False) -> list[KnownOffer]:
        self.looks.append(trio.current_time())
        await trio.sleep(self._look_s)
        self._offers += self.found_by_looking
        return self._offers

    def hear(self, offer: KnownOffer) -> None:
        self._offers.append(offer)
        self.news.tell()


def part(node: int, first: int, last: int, **changes: object) -> KnownOffer:
    roles = (Roles.HEAD if first == 0 else Roles(0)) | (Roles.TAIL if last == 30 else Roles(0))
    certificate = certificate_for(NODES[node], not_after=int(time.time()) + 86_400)
    return KnownOffer(offer_of(NODES[node], Span(first, last), roles, **changes), certificate, PLACES, 0.0)  # type: ignore


async def wait_route(
    directory: Filling, wait_s: float = DEFAULT_WAIT_S, said: list[str] | None = None, sought: object = SOUGHT
) -> float:
    """The time at which there is a route."""
    finder = RouteFinder(directory, Alone(), Failures(), Measures())  # type: ignore[arg-type]

    async def check() -> None:
        finder.check(sought, "tiny")  # type: ignore[arg-type]
        await trio.lowlevel.checkpoint()

    on_wait: Callable[[str], None] | None = said.append if said is not None else None
    await Arrivals(directory, wait_s, on_wait).get(check, MODEL)  # type: ignore[arg-type]
    return trio.current_time()


async def test_what_is_known_is_not_looked_for(autojump_clock: MockClock) -> None:
    directory = Filling(part(0, 0, 30), look_s=LOOK_S)
    assert await wait_route(directory) == 0
    assert directory.looks == []


async def test_layers_that_come_later_are_waited_for_and_named_once(autojump_clock: MockClock) -> None:
    directory, said = Filling(part(0, 0, 10)), []
    async with trio.open_nursery() as nursery:

        async def come() -> None:
            await trio.sleep(4)
            directory.hear(part(1, 10, 20))
            await trio.sleep(2)
            directory.hear(part(2, 20, 30))

        nursery.start_soon(come)
        assert 6 <= await wait_route(directory, said=said) < 6.1
    assert said == ["layers 10:30 of tiny", "layers 20:30 of tiny"]


@pytest.mark.parametrize(("takes_s", "told"), [(UNDER_WAY_S / 2, []), (3.0, ["a manifest"])])
async def test_what_is_under_way_is_named_where_it_takes_long(
    autojump_clock: MockClock, takes_s: float, told: list[str]
) -> None:
    directory, said = Filling(look_s=0.1), []

    async def attempt() -> None:
        await trio.lowlevel.checkpoint()
        if not directory.looks or trio.current_time() < 0.1:
            raise NotYet(NoRoute("nobody"), "a peer")
        if trio.current_time() < takes_s:
            raise NotYet(NoRoute("nobody"), "a manifest", until=8.0)

    async with trio.open_nursery() as nursery:

        async def come() -> None:
            await trio.sleep(takes_s)
            directory.news.tell()

        nursery.start_soon(come)
        await Arrivals(directory, 10, said.append).get(attempt)  # type: ignore[arg-type]
    assert said == told


async def test_looks_are_further_and_further_apart(autojump_clock: MockClock) -> None:
    directory = Filling()
    with pytest.raises(NoRoute, match="nobody serves layers 0:30 of 30"):
        await wait_route(directory, 60)
    assert trio.current_time() == pytest.approx(60, abs=0.1)
    assert directory.looks[:6] == [0, 0.25, 0.75, 1.75, 3.75, 5.75]
    assert len(directory.looks) == 17


async def test_without_patience_the_swarm_is_looked_at_once(autojump_clock: MockClock) -> None:
    directory, said = Filling(look_s=LOOK_S), []
    with pytest.raises(NoRoute):
        await wait_route(directory, 0, said)
    assert (directory.looks, said) == ([0], [])
    directory.found_by_looking.append(part(0, 0, 30))
    await wait_route(directory, 0)


async def test_silent_peers_are_not_waited_for_once_there_is_a_route(autojump_clock: MockClock) -> None:
    directory = Filling(look_s=LOOK_S)
    async with trio.open_nursery() as nursery:

        async def come() -> None:
            await trio.sleep(0.2)
            directory.hear(part(0, 0, 30))

        nursery.start_soon(come)
        assert 0.7 <= await wait_route(directory) < 0.8


async def wait_in_vain_in_a_crowd(directory: Filling, attempt: Callable[[], Awaitable[None]]) -> None:
    """Ten seconds in which news come all the time."""

    async def crowd() -> None:
        while True:
            await trio.sleep(0.001)
            directory.news.tell()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd)
        with pytest.raises(NoRoute):
            await Arrivals(directory, 10).get(attempt)  # type: ignore[arg-type]
        nursery.cancel_scope.cancel()


async def test_a_crowd_of_news_is_looked_at_together(autojump_clock: MockClock) -> None:
    directory, attempts = Filling(), 0

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        await trio.lowlevel.checkpoint()
        raise NotYet(NoRoute("nobody"), "somebody")

    await wait_in_vain_in_a_crowd(directory, attempt)
    assert attempts < 250


async def test_attempts_that_cost_much_are_further_apart(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, used_s, at = Filling(), 0.0, []
    monkeypatch.setattr(waiting, "thread_time", lambda: used_s)

    async def attempt() -> None:
        nonlocal used_s
        at.append(trio.current_time())
        used_s += 0.1 if len(at) < 5 else 60.0
        await trio.lowlevel.checkpoint()
        raise NotYet(NoRoute("nobody"), "somebody")

    await wait_in_vain_in_a_crowd(directory, attempt)
    pauses_s = [later - sooner for sooner, later in pairwise(at[1:])]
    assert pauses_s[:3] == pytest.approx([1.0] * 3, abs=0.01)
    assert pauses_s[3:] == pytest.approx([waiting.MAX_REST_S] * len(pauses_s[3:]), abs=0.01)


@pytest.mark.parametrize(
    ("offer", "sought", "error"),
    [
        (part(0, 0, 30, prices=DEAR), SOUGHT, TooDear),
        (part(0, 0, 30, limits=replace(LIMITS, max_positions=256)), SOUGHT, NoRoute),
        (part(0, 0, 30, limits=replace(LIMITS, window=1_024, cadence=1)), SOUGHT, NoRoute),
    ],
    ids=["too dear", "too short", "too many receipts"],
)
async def test_what_waiting_does_not_mend_fails_at_once(
    autojump_clock: MockClock, offer: KnownOffer, sought: object, error: type[NoRoute]
) -> None:
    directory, said = Filling(offer), []
    with pytest.raises(error):
        await wait_route(directory, 600, said, sought)
    assert trio.current_time() < 1
    assert said == []


async def test_a_class_that_nobody_serves_is_named(autojump_clock: MockClock) -> None:
    said: list[str] = []
    with pytest.raises(NoRoute):
        await wait_route(Filling(part(0, 0, 30)), 5, said, replace(SOUGHT, numerics=Numerics.BF16_1))
    assert said == ["layers 0:30 of tiny in class bf16-1"]


async def test_of_two_classes_the_one_that_lacks_less_is_named(autojump_clock: MockClock) -> None:
    said: list[str] = []
    other = part(0, 0, 5, numerics=Numerics.BF16_1)
    with pytest.raises(NoRoute):
        await wait_route(Filling(other, part(1, 0, 20)), 5, said, replace(SOUGHT, codec=Codec.Q8O4))
    assert said == ["layers 20:30 of tiny"]


async def test_nodes_that_could_not_be_reached_are_the_reason_in_the_end(autojump_clock: MockClock) -> None:
    directory, said = Filling(), []
    patience = Arrivals(directory, 10, said.append)  # type: ignore[arg-type]
    failure = Unreached("no route could be opened: 12D3 cannot be reached")
    await patience.rest(failure)
    assert trio.current_time() == 1

    async def nothing() -> None:
        await trio.lowlevel.checkpoint()
        raise NotYet(NoRoute("nobody"), "layers 0:30")

    with pytest.raises(NoRoute, match="cannot be reached"):
        await patience.get(nothing)
    with pytest.raises(NoRoute, match="cannot be reached"):
        await patience.rest(failure)
    assert said == [f"nodes that answer ({failure})", "layers 0:30"]


async def test_a_bug_is_not_waited_over(autojump_clock: MockClock) -> None:
    async def attempt() -> None:
        await trio.lowlevel.checkpoint()
        if trio.current_time() > 1:
            raise ZeroDivisionError
        raise NotYet(UsageError("nobody"), "somebody")

    with pytest.raises(ExceptionGroup) as raised:
        await Arrivals(Filling(), 10).get(attempt)  # type: ignore[arg-type]
    assert raised.group_contains(ZeroDivisionError)
