"""Trying routes: who fails before the first id costs a try, in known times. Routes and generations are made up here."""

import gc
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.contracts import StagePlan
from p2pinfer.client.full_nodes import APART
from p2pinfer.client.patience import STALL_S
from p2pinfer.client.places import Places
from p2pinfer.client.race import FIRST_ID_FACTOR, FIRST_ID_S, MAX_UNDER_WAY, soon_s
from p2pinfer.client.route_finder import HASTY_S, FoundRoute
from p2pinfer.client.routes import Sought
from p2pinfer.client.run import Run
from p2pinfer.client.tries import MAX_AT_ONCE, TRY_S, Tries, Wait
from p2pinfer.client.waiting_room import GATHER_S
from p2pinfer.core.money.budget import RETRY_S
from p2pinfer.core.room.queue import MAX_RETRY_S, TURN_MS
from p2pinfer.core.routes.failures import Failures
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, NoRoute, Unreached
from p2pinfer.core.values.units import Codec, ModelId, OwnerKey, PeerKey, Roles, SessionId, Span
from p2pinfer.core.wire.session_messages import SessionRefused
from p2pinfer.overlay.machine import Machine
from tests.core.paid_route import key, offer_of

ROOM_S = 60.0  # the patience of requests here
SOUGHT = Sought(model=ModelId(bytes(32)), layers=30, hidden=576, prompt=5, tokens=20, codec=Codec.Q8O4)
PREDICTED_S = 0.5
PATIENCE_S = FIRST_ID_S + FIRST_ID_FACTOR * PREDICTED_S


def route_of(*names: str) -> FoundRoute:
    """A route over nodes of these names, each of an owner of its own."""
    stages = []
    for place, name in enumerate(names):
        span = Span(place, place + 1)
        offer = offer_of(key(name), span, Roles.HEAD | Roles.TAIL, owner=OwnerKey(key(f"owner of {name}").public))
        stages.append(StagePlan(offer, (), span, 0))
    return FoundRoute(tuple(stages), 1_000, PREDICTED_S)


@dataclass
class Generated:
    ids: list[int] = field(default_factory=list)
    failure: GenerationFailed | None = None


class FakeRunning:
    """A generation that begins, fails, or neither, after some seconds."""

    def __init__(
        self, route: FoundRoute, after_s: float, fault: GenerationFailed | None = None, retry_s: float | None = None
    ) -> None:
        self.route = route
        self.generation = Generated()
        self.refused_by: frozenset[PeerKey] = frozenset()
        self.retry_s = retry_s
        self.cannot_keep = False
        self.costs = tuple(0 for _ in route.stages)
        self.reserve = 0
        self.first_id: Callable[[Run], None]
        self.started_s = trio.current_time()
        self._at = self.started_s + after_s
        self._fault = fault
        self._over = trio.Event()

    @property
    def cost(self) -> int:
        return sum(self.costs)

    @property
    def begun(self) -> bool:
        return bool(self.generation.ids) or self.generation.failure is not None

    async def wait_begun(self) -> None:
        with trio.move_on_at(self._at):
            await self._over.wait()
        if self._fault is not None:
            self._end(self._fault)
        elif not self.begun:
            self.generation.ids.append(1)
            self.first_id(self)  # type: ignore[arg-type]

    def fail(self, text: str, code: Code) -> None:
        if not self.begun:
            self._end(GenerationFailed(text, code))

    def give_up(self, patience_s: float) -> None:
        self._end(GenerationFailed(f"no id came within {patience_s:.0f} s", Code.SILENT))

    def _end(self, failure: GenerationFailed) -> None:
        self.generation.failure = failure
        if len(self.route.stages) == 1:
            self.refused_by = frozenset(stage.key for stage in self.route.stages)
        self._over.set()


class Swarm:
    """Routes in order of preference, and how each behaves."""

    def __init__(self, *routes: FoundRoute) -> None:
        self.routes = list(routes)
        self.silent: set[PeerKey] = set()  # they never deliver an id
        self.dead: set[PeerKey] = set()  # their addresses do not answer
        self.far: set[PeerKey] = set()  # they are linked, but not soon
        self.unheard: set[PeerKey] = set()  # nothing came from them for a while
        self.late: list[StagePlan] = []
        self.waited_s: list[float] = []  # for them
        self.after_s: dict[frozenset[bytes], float] = {}  # to the first id
        self.full_until: dict[PeerKey, float] = {}
        self.last: tuple[Places, SessionRefused]  # of those that gave places
        self.tried: list[FoundRoute] = []
        self.started: list[Run] = []
        self.dialled: list[int] = []
        self.limit: int | None = None  # nano-credits for all tries, where it matters
        self.look_s = 0.0  # until it is known that there is no further route
        self.dial_s = 0.0  # to any node
        self.reserve = 0  # nano-credits that each may come to
        self.full_code = Code.BUSY  # why they are
        self.keeps_places = False  # the full ones give a place,
        self.retry_s = 1.0  # and say this, but for
        self.hasty: dict[frozenset[bytes], float] = {}  # those who say something else
        self.ours_leave_s = inf  # until a generation of the same client gives room up
        self.said: list[str] = []
        self.is_disk_full = False  # of the client
        self.unfit: FoundRoute | None = None  # its stages' limits do not fit each other
        self.refusals: dict[frozenset[bytes], tuple[float, Code]] = {}
        self.broken: frozenset[bytes] = frozenset()  # their route fails soon; then nobody serves the model any more

    async def find(
        self,
        _sought: Sought,
        excluded: Collection[bytes],
        spent: int = 0,
        count: int = 1,
        tried: Sequence[frozenset[bytes]] = (),
        _among: object = None,
    ) -> list[FoundRoute]:
        await trio.lowlevel.checkpoint()
        if found := self.without(excluded, tried):
            return found[:count] if self.limit is None else [replace(found[0], most=self.limit - spent)]
        await trio.sleep(self.look_s)
        raise NoRoute("nobody serves layers 0:30 of 30")

    def hears(self, route: FoundRoute) -> bool:
        return not route.nodes & self.unheard

    def without(self, excluded: Collection[bytes], tried: Sequence[frozenset[bytes]]) -> list[FoundRoute]:
        nodes = set(excluded)
        return [
            route for route in self.routes if not route.nodes & nodes and not any(one <= route.nodes for one in tried)
        ]

    def has_route(
        self,
        _sought: Sought,
        excluded: Collection[bytes],
        _spent: int,
        tried: Sequence[frozenset[bytes]],
        _among: object = None,
    ) -> bool:
        return bool(self.without(excluded, tried))

    def needed(self, _among: object, _sought: Sought, _excluded: Collection[bytes], spare: set[bytes]) -> set[bytes]:
        return spare

    def survey(self, *_: object) -> None:
        pass

    async def reach(
        self, routes: Sequence[FoundRoute], hasty: bool
    ) -> tuple[FoundRoute | None, set[PeerKey], set[PeerKey]]:
        away: set[PeerKey] = {PeerKey(node) for route in routes for node in route.nodes & (self.dead | self.far)}
        linked = next((route for route in routes if not route.nodes & away), None)
        await trio.sleep(self.dial_s)
        await trio.sleep(0 if linked is not None else HASTY_S if hasty else 5)
        self.dialled.append(len(routes))
        if hasty:
            return linked, set(), away
        return next((route for route in routes if not route.nodes & self.dead), None), away & self.dead, set()

    def say(self, node: PeerKey, retry_ms: int) -> None:
        """A full node says when to come back."""
        places, refusal = self.last
        places.note(node, replace(refusal, retry_ms=retry_ms))

    async def call(self, node: PeerKey, at: float) -> None:
        """It has room from then on, and says so."""
        self.full_until[node] = at
        await trio.sleep_until(at)
        self.say(node, TURN_MS)

    def start(self, route: FoundRoute, places: Places, first_id: Callable[[Run], None]) -> Run:
        if route is self.unfit:
            raise NoRoute("the stages' limits do not fit each other")
        self.tried.append(route)
        now = trio.current_time()
        full = [node for node, until in self.full_until.items() if node in route.nodes and now < until]
        if full:
            if self.keeps_places:
                self.last = places, SessionRefused(SessionId(bytes(16)), 0, Code.BUSY, "", 30_000, places.ticket, 0)
                for node in full:
                    self.say(node, 30_000)
            retry_s = self.hasty.get(route.nodes, self.retry_s)
            running = FakeRunning(route, 0, GenerationFailed("no room", self.full_code), retry_s)
            running.refused_by = frozenset(full)
        elif route.nodes in self.refusals:
            after_s, code = self.refusals[route.nodes]
            running = FakeRunning(route, after_s, GenerationFailed("refused", code))
        elif route.nodes & self.broken:
            self.routes.clear()
            running = FakeRunning(route, 0.2, GenerationFailed("no id", Code.ENGINE))
        elif route.nodes & self.silent:
            running = FakeRunning(route, STALL_S, GenerationFailed("no id came within 60 s", Code.SILENT))
        else:
            running = FakeRunning(route, self.after_s.get(route.nodes, PREDICTED_S))
        running.first_id = first_id
        running.reserve, running.cannot_keep = self.reserve, self.is_disk_full
        self.started.append(running)  # type: ignore[arg-type]
        return self.started[-1]

    @property
    def is_held(self) -> bool:
        return self.ours_leave_s < inf

    async def wait_left(self) -> None:
        await trio.sleep(self.ours_leave_s)

    def note_late(self, stages: Sequence[StagePlan], waited_s: float = 0.0) -> None:
        self.late += stages
        self.waited_s.append(waited_s)

    def trying(self, failures: Failures | None = None, proven: Collection[PeerKey] = (), until: float = inf) -> Tries:
        self.failures = failures or Failures()
        wait = Wait(self, ROOM_S, self.said.append, until)
        return Tries(self, self, replace(SOUGHT, proven=proven), self.start, wait, Machine())  # type: ignore[arg-type]


LIARS = [route_of(f"liar {number}") for number in range(8)]
HONEST = route_of("honest")


def nodes_of(routes: Sequence[FoundRoute]) -> set[PeerKey]:
    return {stage.key for route in routes for stage in route.stages}


async def test_the_first_route_that_delivers_is_taken(autojump_clock: MockClock) -> None:
    swarm = Swarm(HONEST, *LIARS)
    running = await swarm.trying().first_answering()
    assert running.generation.ids
    assert (swarm.tried, trio.current_time()) == ([HONEST], PREDICTED_S)


async def test_eight_silent_liars_do_not_outlast_one_ask(autojump_clock: MockClock) -> None:
    swarm, failures = Swarm(*LIARS, HONEST), Failures()
    swarm.silent = nodes_of(LIARS)
    trying = swarm.trying(failures)
    await trying.first_answering()
    assert swarm.tried == [*LIARS, HONEST]
    assert trio.current_time() < PATIENCE_S + 3
    assert min(swarm.waited_s) > PREDICTED_S  # later than the one who answered, however long it took
    late = {stage.key for stage in swarm.late}
    assert all(route.nodes <= late or failures.risk(*who(route), trio.current_time()) > 0 for route in LIARS)
    assert not HONEST.nodes & late
    assert failures.risk(*who(HONEST), trio.current_time()) == 0
    assert all(running.begun for running in swarm.started)


def who(route: FoundRoute) -> tuple[PeerKey, OwnerKey]:
    [stage] = route.stages
    return stage.key, stage.offer.record.owner


async def test_one_that_is_linked_late_waits_for_no_silent_one(autojump_clock: MockClock) -> None:
    swarm = Swarm(LIARS[0], HONEST)
    swarm.silent, swarm.far = nodes_of(LIARS), nodes_of([HONEST])
    running = await swarm.trying().first_answering()
    assert running.generation.ids
    dial_s = 5.0
    assert trio.current_time() < soon_s(LIARS[0]) + HASTY_S + dial_s + PREDICTED_S + 0.1


async def test_a_node_that_answered_before_and_was_not_heard_for_a_while_is_not_waited_for_alone(
    autojump_clock: MockClock,
) -> None:
    swarm = Swarm(LIARS[0], HONEST)
    swarm.silent = swarm.unheard = nodes_of(LIARS)
    await swarm.trying(proven=nodes_of(LIARS)).first_answering()
    assert trio.current_time() < soon_s(LIARS[0]) + PREDICTED_S + 0.1


async def test_a_node_that_has_answered_before_is_waited_for_alone(autojump_clock: MockClock) -> None:
    swarm = Swarm(LIARS[0], HONEST)
    swarm.silent = nodes_of(LIARS)
    trying = swarm.trying(proven=nodes_of(LIARS))
    await trying.first_answering()
    assert trio.current_time() == pytest.approx(PATIENCE_S + PREDICTED_S)


async def test_a_route_that_may_take_something_for_nothing_is_tried_alone(autojump_clock: MockClock) -> None:
    lent = replace(LIARS[0], lent=100)
    swarm = Swarm(lent, HONEST)
    swarm.silent = nodes_of([lent])
    await swarm.trying().first_answering()
    assert trio.current_time() == pytest.approx(PATIENCE_S + PREDICTED_S)
    swarm = Swarm(LIARS[1], lent)
    swarm.after_s = {LIARS[1].nodes: 3.0}
    await swarm.trying().first_answering()
    assert swarm.tried == [LIARS[1]]


async def test_the_first_of_two_that_are_under_way_counts_whichever_was_opened_first(
    autojump_clock: MockClock,
) -> None:
    slow, slower = LIARS[:2]
    swarm = Swarm(slow, slower)
    swarm.after_s = {slow.nodes: 3.0, slower.nodes: 9.0}
    trying = swarm.trying()
    running = await trying.first_answering()
    assert swarm.started[0] is running
    assert (trio.current_time(), len(swarm.tried)) == (3.0, 2)
    other = swarm.started[1].generation.failure
    assert other is not None and other.code is Code.CANCELLED


async def test_a_failure_does_not_end_a_request_whose_other_route_is_under_way(autojump_clock: MockClock) -> None:
    ring = route_of("b1", "b2")
    swarm = Swarm(LIARS[0], ring)
    swarm.after_s = {LIARS[0].nodes: 3.0}
    swarm.broken = ring.nodes
    running = await swarm.trying().first_answering()
    assert (swarm.tried, trio.current_time()) == ([LIARS[0], ring], 3.0)
    assert running.generation.ids


@pytest.mark.parametrize(
    ("code", "after_s", "shunned"),
    [
        (Code.LEAVING, 0.1, False),
        (Code.LAPSED, 0.1, False),
        (Code.LEAVING, 4.0, True),
        (Code.ENGINE, 0.1, True),
    ],
)
async def test_who_says_at_once_that_it_moves_is_not_shunned(
    autojump_clock: MockClock, code: Code, after_s: float, shunned: bool
) -> None:
    swarm, failures = Swarm(LIARS[0], HONEST), Failures()
    swarm.refusals = {LIARS[0].nodes: (after_s, code)}
    swarm.after_s = {HONEST.nodes: 5.0}
    await swarm.trying(failures).first_answering()
    assert swarm.tried == [LIARS[0], HONEST]
    assert (failures.risk(*who(LIARS[0]), trio.current_time()) > 0) is shunned


async def test_stages_that_do_not_fit_each_other_are_not_shunned(autojump_clock: MockClock) -> None:
    ring, failures = route_of("head", "stranger", "tail"), Failures()
    swarm = Swarm(ring, HONEST)
    swarm.unfit = ring
    await swarm.trying(failures).first_answering()
    assert swarm.tried == [HONEST]
    assert not any(failures.risk(stage.key, stage.offer.record.owner, trio.current_time()) for stage in ring.stages)


async def test_only_one_of_those_that_answer_at_one_moment_has_an_id(autojump_clock: MockClock) -> None:
    swarm = Swarm(*LIARS[:2])
    swarm.after_s = {LIARS[0].nodes: 4.0, LIARS[1].nodes: 2.25}  # opened 1.75 s later
    trying = swarm.trying()
    await trying.first_answering()
    assert trio.current_time() == 4.0
    assert sum(len(running.generation.ids) for running in swarm.started) == 1


@pytest.mark.parametrize(("look_s", "dial_s"), [(20, 0), (0, 16)])
async def test_an_id_that_comes_while_another_route_is_looked_for_is_taken_at_once(
    autojump_clock: MockClock, look_s: float, dial_s: float
) -> None:
    swarm = Swarm(HONEST, *LIARS[: 1 if dial_s else 0])
    swarm.after_s = {HONEST.nodes: 3.0}
    swarm.look_s, swarm.dial_s = look_s, dial_s
    running = await swarm.trying().first_answering()
    assert trio.current_time() == dial_s + 3.0
    assert running.generation.ids
    assert swarm.tried == [HONEST]


async def test_silence_is_given_up_in_time_while_another_route_is_looked_for(autojump_clock: MockClock) -> None:
    swarm = Swarm(LIARS[0], LIARS[1], HONEST)
    swarm.silent = nodes_of(LIARS)
    swarm.dial_s = 5.0
    trying = swarm.trying()
    await trying.first_answering()
    assert all(running.begun for running in swarm.started)
    assert swarm.tried[-1] == HONEST


@pytest.mark.parametrize(("ahead", "together"), [(0, 2), (400, 2), (401, 1)])
async def test_routes_are_tried_together_where_that_cannot_pass_the_limit(
    autojump_clock: MockClock, ahead: int, together: int
) -> None:
    """One may come to all of 600, and the other takes something before its id."""
    swarm = Swarm(*(replace(route, ahead=ahead) for route in LIARS[:2]))
    swarm.limit = 600 + 400
    swarm.reserve = 600
    swarm.after_s = {LIARS[0].nodes: 3.0, LIARS[1].nodes: 9.0}
    await swarm.trying().first_answering()
    assert len(swarm.tried) == together


async def test_where_nobody_else_serves_silence_is_borne_for_a_minute(
    autojump_clock: MockClock,
) -> None:
    swarm = Swarm(HONEST)
    swarm.silent = nodes_of([HONEST])
    with pytest.raises(GenerationFailed, match="no id came within 60 s"):
        await swarm.trying().first_answering()
    assert trio.current_time() == STALL_S


async def test_routes_are_not_tried_for_ever(autojump_clock: MockClock) -> None:
    many = [route_of(f"liar {number}") for number in range(200)]
    swarm = Swarm(*many)
    swarm.silent = nodes_of(many)
    with pytest.raises(GenerationFailed):
        await swarm.trying().first_answering()
    assert trio.current_time() <= TRY_S + STALL_S
    assert len(swarm.tried) < MAX_UNDER_WAY * (TRY_S / PATIENCE_S + 1)


async def test_nodes_that_cannot_be_reached_are_dialled_together(autojump_clock: MockClock) -> None:
    swarm = Swarm(*LIARS, HONEST)
    swarm.dead = nodes_of(LIARS)
    await swarm.trying().first_answering()
    assert swarm.tried == [HONEST]
    assert swarm.dialled == [1, 2, 4, 2]
    assert max(swarm.dialled) <= MAX_AT_ONCE
    assert trio.current_time() == 3 * HASTY_S + PREDICTED_S


async def test_nodes_that_cannot_be_reached_do_not_outlast_the_patience(autojump_clock: MockClock) -> None:
    swarm = Swarm(*(route_of(f"liar {number}") for number in range(400)))
    swarm.dead = nodes_of(swarm.routes)
    with pytest.raises(Unreached, match="cannot be reached"):
        await swarm.trying(until=10.0).first_answering()
    assert 10 <= trio.current_time() < 16


async def test_a_node_that_is_far_is_waited_for_where_there_is_no_other(autojump_clock: MockClock) -> None:
    swarm = Swarm(HONEST, LIARS[0])
    swarm.dead, swarm.far = nodes_of(LIARS), nodes_of([HONEST])
    await swarm.trying().first_answering()
    assert swarm.tried == [HONEST]


async def test_a_node_that_was_not_linked_before_a_liar_was_is_tried_after_it(autojump_clock: MockClock) -> None:
    swarm = Swarm(*LIARS[:2], HONEST)
    swarm.silent, swarm.far = nodes_of(LIARS), nodes_of([HONEST])
    await swarm.trying().first_answering()
    assert swarm.tried[-1] == HONEST


async def test_if_none_can_be_reached_they_are_named(autojump_clock: MockClock) -> None:
    swarm = Swarm(HONEST)
    swarm.dead = nodes_of([HONEST])
    with pytest.raises(NoRoute, match=r"no route could be opened: ….* cannot be reached"):
        await swarm.trying().first_answering()


async def test_of_a_silent_ring_only_what_can_be_replaced_is(autojump_clock: MockClock) -> None:
    ring, other = route_of("a", "b", "c"), route_of("a", "d", "c")
    swarm = Swarm(ring, other)
    swarm.silent = nodes_of([ring]) - nodes_of([other])
    await swarm.trying().first_answering()
    assert swarm.tried == [ring, other]


async def test_a_node_without_room_is_asked_again_when_it_said(autojump_clock: MockClock) -> None:
    swarm = Swarm(HONEST)
    swarm.full_until = dict.fromkeys(nodes_of([HONEST]), 10.0)
    await swarm.trying().first_answering()
    assert 10 <= trio.current_time() < 12
    assert 7 <= len(swarm.tried) <= 11


@pytest.mark.parametrize("retry_s", [1.0, 4_294_967.0])
async def test_not_for_ever(autojump_clock: MockClock, retry_s: float) -> None:
    swarm = Swarm(HONEST)
    swarm.retry_s = retry_s
    swarm.full_until = dict.fromkeys(nodes_of([HONEST]), 1e9)
    with pytest.raises(GenerationFailed, match="no room"):
        await swarm.trying().first_answering()
    assert ROOM_S - 0.001 <= trio.current_time() < ROOM_S + 2


async def test_who_names_a_longer_time_than_a_node_may_is_asked_once_that_is_over(autojump_clock: MockClock) -> None:
    swarm = Swarm(HONEST)
    swarm.retry_s = 100.0
    swarm.full_until = dict.fromkeys(nodes_of([HONEST]), MAX_RETRY_S)
    await swarm.trying().first_answering()
    assert swarm.tried == [HONEST, HONEST]
    assert MAX_RETRY_S <= trio.current_time() <= 1.5 * MAX_RETRY_S + PREDICTED_S


async def test_one_that_says_to_come_back_at_once_has_nobody_else_asked_the_sooner(autojump_clock: MockClock) -> None:
    swarm = Swarm(LIARS[0], HONEST)
    swarm.full_until = dict.fromkeys(nodes_of([LIARS[0], HONEST]), 1e9)
    swarm.hasty = {LIARS[0].nodes: 0.001}
    with pytest.raises(GenerationFailed, match="no room"):
        await swarm.trying().first_answering()
    assert ROOM_S - 0.001 <= trio.current_time() < ROOM_S + 2
    assert swarm.tried.count(HONEST) <= ROOM_S / swarm.retry_s + 1
    assert swarm.tried.count(LIARS[0]) <= ROOM_S / RETRY_S + 4


async def test_room_that_a_generation_of_ours_gave_up_is_asked_for_at_once(autojump_clock: MockClock) -> None:
    swarm = Swarm(HONEST)
    swarm.retry_s, swarm.ours_leave_s, swarm.full_code = 30.0, 2.0, Code.WINDOW_FULL
    swarm.full_until = dict.fromkeys(nodes_of([HONEST]), 1.0)
    await swarm.trying().first_answering()
    assert trio.current_time() == pytest.approx(2.0 + PREDICTED_S)


async def test_a_node_that_was_asked_too_much_at_once_is_asked_when_it_said(autojump_clock: MockClock) -> None:
    """It gave no place; generations of ours that end meanwhile change nothing in that."""
    swarm = Swarm(HONEST)
    swarm.retry_s, swarm.ours_leave_s = 10.0, 2.0
    swarm.full_until = dict.fromkeys(nodes_of([HONEST]), 9.0)
    await swarm.trying().first_answering()
    assert 10.0 <= trio.current_time() <= 15.0 + PREDICTED_S
    assert len(swarm.tried) == 2


CALLS_S = 3.0  # a node that was full does so then, and is asked
CALLED_S = TURN_MS / 1000  # later


def full_beside_silent(*silent: FoundRoute, calls: FoundRoute = HONEST) -> Swarm:
    swarm = Swarm(calls, *silent)
    swarm.silent = nodes_of(silent)
    swarm.keeps_places = True
    swarm.full_until = dict.fromkeys(nodes_of([calls]), 1e9)
    return swarm


@pytest.mark.parametrize("proven", [False, True])
async def test_a_node_that_was_full_and_calls_is_asked_beside_one_that_keeps_silent(
    autojump_clock: MockClock, nursery: trio.Nursery, proven: bool
) -> None:
    swarm = full_beside_silent(LIARS[0])
    [honest] = nodes_of([HONEST])
    nursery.start_soon(swarm.call, honest, CALLS_S)
    await swarm.trying(proven=nodes_of([LIARS[0]]) if proven else ()).first_answering()
    assert swarm.tried == [HONEST, LIARS[0], HONEST]
    assert trio.current_time() == pytest.approx(CALLS_S + CALLED_S + PREDICTED_S)


async def test_all_stages_of_a_route_that_were_full_are_asked_once_they_call(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ring = route_of("head", "tail")
    swarm = full_beside_silent(LIARS[0], calls=ring)
    for late_s, node in enumerate(sorted(nodes_of([ring]))):
        nursery.start_soon(swarm.call, node, CALLS_S + late_s * GATHER_S / 8)
    await swarm.trying().first_answering()
    assert swarm.tried == [ring, LIARS[0], ring]
    assert trio.current_time() == pytest.approx(CALLS_S + GATHER_S / 8 + CALLED_S + PREDICTED_S)


async def test_who_keeps_silent_is_given_up_where_a_node_that_was_full_may_have_room(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Beside one that may take something for nothing none is tried, whoever calls."""
    lent = replace(LIARS[0], lent=100)
    swarm = full_beside_silent(lent)
    [honest] = nodes_of([HONEST])
    nursery.start_soon(swarm.call, honest, CALLS_S)
    await swarm.trying().first_answering()
    assert swarm.tried == [HONEST, lent, HONEST]
    assert trio.current_time() == pytest.approx(PATIENCE_S + PREDICTED_S)


async def test_who_keeps_silent_is_given_up_as_soon_as_another_node_has_room_after_all(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lent = replace(LIARS[0], lent=100)
    swarm = full_beside_silent(lent)
    [honest] = nodes_of([HONEST])
    nursery.start_soon(swarm.call, honest, 20.0)
    await swarm.trying().first_answering()
    assert trio.current_time() == pytest.approx(20.0 + CALLED_S + PREDICTED_S)


async def test_where_both_could_pass_the_limit_one_that_calls_waits_for_the_silent_one_to_be_given_up(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    swarm = full_beside_silent(replace(LIARS[0], ahead=401), calls=replace(HONEST, ahead=401))
    swarm.limit, swarm.reserve = 600 + 400, 600
    [honest] = nodes_of([HONEST])
    nursery.start_soon(swarm.call, honest, CALLS_S)
    await swarm.trying().first_answering()
    assert trio.current_time() == pytest.approx(PATIENCE_S + PREDICTED_S)


async def test_no_word_of_a_node_uses_patience_up(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    swarm = full_beside_silent()
    [honest] = nodes_of([HONEST])
    swarm.full_until[honest] = ROOM_S - 10

    async def drip() -> None:
        for number in range(8_000):
            await trio.sleep(0.004)
            swarm.say(honest, 30_000 - number % 2)

    nursery.start_soon(drip)
    await swarm.trying().first_answering()
    assert trio.current_time() > ROOM_S - 10


async def test_a_node_that_refuses_and_calls_in_one_breath_is_asked_ever_less(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Also while a generation of ours runs, which keeps our patience."""
    swarm = full_beside_silent()
    swarm.ours_leave_s = 1_000.0
    [honest] = nodes_of([HONEST])

    async def keep_calling() -> None:
        while True:
            await trio.sleep(0.01)
            swarm.say(honest, TURN_MS)

    nursery.start_soon(keep_calling)
    trying = swarm.trying()
    with trio.move_on_after(100):
        await trying.first_answering()
    assert len(swarm.tried) <= 100 / RETRY_S + 4
    assert all(running.generation.failure for running in swarm.started)
    tries = [weakref.ref(running) for running in swarm.started]
    swarm.started.clear()
    gc.collect()
    assert not [one for one in tries if one() is not None]


async def test_somebody_else_is_asked_before_one_without_room(autojump_clock: MockClock) -> None:
    swarm = Swarm(LIARS[0], HONEST)
    swarm.full_until = dict.fromkeys(nodes_of(LIARS[:1]), 1e9)
    await swarm.trying().first_answering()
    assert swarm.tried == [LIARS[0], HONEST]
    assert trio.current_time() == pytest.approx(PREDICTED_S)


async def test_a_node_that_may_have_room_by_now_is_asked_before_strangers_that_cannot_be_reached(
    autojump_clock: MockClock,
) -> None:
    swarm = Swarm(HONEST, *(route_of(f"liar {number}") for number in range(400)))
    swarm.dead = nodes_of(swarm.routes[1:])
    swarm.full_until = dict.fromkeys(nodes_of([HONEST]), 0.5)
    await swarm.trying(until=10.0).first_answering()
    assert swarm.tried == [HONEST, HONEST]
    assert trio.current_time() < APART * swarm.retry_s + HASTY_S + PREDICTED_S


async def test_an_ask_that_is_given_up_gives_its_route_up(autojump_clock: MockClock) -> None:
    swarm = Swarm(HONEST)
    swarm.silent = nodes_of([HONEST])
    trying = swarm.trying()
    with trio.move_on_after(1):
        await trying.first_answering()
    [running] = swarm.started
    assert running.generation.failure is not None
    assert running.generation.failure.code is Code.CANCELLED


async def test_who_is_known_to_be_late_is_not_waited_for_all_the_longer(autojump_clock: MockClock) -> None:
    late = [replace(route, first_id_s=PREDICTED_S + 20.0, late_s=20.0) for route in LIARS]
    swarm = Swarm(*late, HONEST)
    swarm.silent = nodes_of(late)
    await swarm.trying().first_answering()
    assert trio.current_time() < 2 * PATIENCE_S


async def test_a_prediction_in_minutes_is_believed(autojump_clock: MockClock) -> None:
    slow = replace(LIARS[0], first_id_s=30.0)
    swarm = Swarm(slow, HONEST)
    swarm.silent = nodes_of([slow])
    await swarm.trying().first_answering()
    assert trio.current_time() == pytest.approx(STALL_S + PREDICTED_S)


async def test_a_client_that_cannot_keep_receipts_blames_nobody_and_tries_no_other(autojump_clock: MockClock) -> None:
    swarm, failures = Swarm(LIARS[0], HONEST), Failures()
    swarm.is_disk_full = True
    swarm.refusals[LIARS[0].nodes] = 0.1, Code.INTERNAL
    with pytest.raises(GenerationFailed):
        await swarm.trying(failures).first_answering()
    assert swarm.tried == [LIARS[0]]
    assert failures.risk(*who(LIARS[0]), trio.current_time()) == 0
