"""A client that is away from stages of its route, against the clock: how long it dials, and what it bears meanwhile."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.client.patience import HELD_UP_S, STALL_S
from p2pinfer.client.resumption import AGAIN_S, MOMENT_S
from p2pinfer.client.run import Company, Run
from p2pinfer.core.sessions.generation import Phase
from p2pinfer.core.sessions.suspension import RETURN_ALL_S, RETURN_S
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import Close, Prompt, Resume, Sampled

from .test_rings import KEYS, PROMPT, Ring

HEAD, MIDDLE, TAIL = range(3)
ALL = (HEAD, MIDDLE, TAIL)


class Wire:
    """A link that keeps what is sent on it."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.dead: LinkDead | None = None

    @property
    def heard_s(self) -> float:
        return trio.current_time()

    def send_nowait(self, message: Message, *_: object) -> None:
        if self.dead is not None:
            raise self.dead
        self.sent.append(message)


class Away(Ring):
    """A generation that runs, whose links break and whose stages answer a dial, or do not."""

    def __init__(self) -> None:
        super().__init__(company=Company(dial=self.dial))  # type: ignore[arg-type]
        self.links: dict[PeerKey, Wire] = {key: Wire() for key in KEYS}
        self.dials: list[tuple[int, float]] = []
        self.reachable = True
        for one in (self.running, self.running.returning, self.running._deadlines):
            one._link_to = self.links.get  # type: ignore[assignment]

    async def dial(self, peer: PeerKey, _: Sequence[str]) -> Wire:
        self.dials.append((KEYS.index(peer), trio.current_time()))
        await trio.lowlevel.checkpoint()
        if not self.reachable:
            raise Refused("nobody answers", Code.UNREACHABLE)
        return self.links.setdefault(peer, Wire())

    async def lose(self, *places: int, code: Code = Code.LOST) -> None:
        for place in places:
            wire = self.links.pop(KEYS[place])
            wire.dead = LinkDead("gone", code)
            self.say(place, wire.dead)
        await wait_all_tasks_blocked()

    async def give(self, position: int, *ids: int) -> None:
        self.say(TAIL, Sampled(self.plan.session, 0, 0, position, ids, Code.NONE))
        await wait_all_tasks_blocked()

    def told(self, place: int) -> list[Message]:
        return self.links[KEYS[place]].sent


@pytest.fixture
async def away(nursery: trio.Nursery) -> Away:
    ring = Away()
    nursery.start_soon(ring.running.run, ring.deaths)
    ring.accept(*ALL)
    await wait_all_tasks_blocked()
    return ring


def failed(running: Run) -> Code:
    assert running.generation.failure is not None
    return running.generation.failure.code


async def test_a_stage_is_told_how_many_ids_there_are(autojump_clock: MockClock, away: Away) -> None:
    """INF-45"""
    await away.give(len(PROMPT), 7, 8)
    await away.lose(HEAD, TAIL)
    await trio.sleep(1)
    resume = Resume(away.plan.session, 0, 2)
    assert (away.told(HEAD), away.told(TAIL)) == ([resume], [resume])
    assert not [message for message in away.told(MIDDLE) if isinstance(message, Resume)]
    await away.give(len(PROMPT) + 2, 9)
    assert away.running.generation.ids == [7, 8, 9]


async def test_before_the_first_id_the_head_gets_the_prompt_again(autojump_clock: MockClock, away: Away) -> None:
    """INF-45"""
    await away.lose(HEAD)
    await trio.sleep(1)
    assert [type(message) for message in away.told(HEAD)] == [Resume, Prompt]


async def test_it_is_dialled_again_and_again_for_half_a_minute(autojump_clock: MockClock, away: Away) -> None:
    """INF-42"""
    await away.give(len(PROMPT), 7)
    away.reachable = False
    await away.lose(*ALL)
    began = trio.current_time()
    await away.running.over.wait()
    assert RETURN_S <= trio.current_time() - began <= RETURN_S + AGAIN_S
    assert failed(away.running) is Code.LOST
    for place in ALL:
        times = [time for at, time in away.dials if at == place]
        assert RETURN_S / AGAIN_S <= len(times) <= 2 * RETURN_S / AGAIN_S + 5


async def test_before_the_first_id_for_a_moment(autojump_clock: MockClock, away: Away) -> None:
    """Another route may do; the stage that did not come back is left out of it."""
    away.reachable = False
    await away.lose(MIDDLE)
    began = trio.current_time()
    await away.running.over.wait()
    assert trio.current_time() - began <= MOMENT_S + AGAIN_S
    assert away.running.refused_by == {KEYS[MIDDLE]}


async def test_before_the_first_id_no_break_of_a_link_gives_a_stage_more_time(
    autojump_clock: MockClock, away: Away
) -> None:
    """INF-42"""
    began = trio.current_time()
    while not away.running.generation.over:
        await away.lose(TAIL)
        with trio.move_on_after(5):
            await away.running.over.wait()
    assert trio.current_time() - began <= STALL_S + HELD_UP_S
    assert failed(away.running) is Code.SILENT


@pytest.mark.parametrize("code", [Code.LEAVING, Code.INTERNAL, Code.BAD_FRAME, Code.IDLE])
async def test_a_stage_that_said_goodbye_is_not_dialled(autojump_clock: MockClock, away: Away, code: Code) -> None:
    """INF-45"""
    await away.give(len(PROMPT), 7)
    await away.lose(MIDDLE, code=code)
    assert (away.dials, failed(away.running)) == ([], Code.LOST)


async def test_patience_stands_still_meanwhile(autojump_clock: MockClock, away: Away) -> None:
    """INF-42"""
    await away.give(len(PROMPT), 7)
    away.reachable = False
    await trio.sleep(STALL_S - 1)
    await away.lose(TAIL)
    await trio.sleep(RETURN_S - AGAIN_S - 1)
    away.reachable = True
    await trio.sleep(AGAIN_S + 0.9)
    assert not away.running.returning.is_away
    assert not away.running.generation.over
    await away.give(len(PROMPT) + 1, 8)
    assert away.running.generation.ids == [7, 8]


async def test_links_that_break_again_and_again_are_borne_for_a_minute_in_all(
    autojump_clock: MockClock, away: Away
) -> None:
    """INF-42"""
    await away.give(len(PROMPT), 7)
    began = trio.current_time()
    while not away.running.generation.over:
        away.reachable = False
        await away.lose(TAIL)
        with trio.move_on_after(RETURN_S / 2):
            await away.running.over.wait()
        away.reachable = True
        with trio.move_on_after(AGAIN_S + 0.1):
            await away.running.over.wait()
    assert RETURN_ALL_S / 2 <= trio.current_time() - began <= RETURN_ALL_S + 5 * AGAIN_S
    assert failed(away.running) is Code.LOST


async def test_a_stage_that_is_back_and_silent_is_given_up(autojump_clock: MockClock, away: Away) -> None:
    await away.give(len(PROMPT), 7)
    await away.lose(TAIL)
    began = trio.current_time()
    await away.running.over.wait()
    assert trio.current_time() - began <= STALL_S + AGAIN_S + 3 * HELD_UP_S
    assert failed(away.running) is Code.SILENT


async def test_a_link_that_dies_before_it_is_used_is_dialled_again(autojump_clock: MockClock, away: Away) -> None:
    await away.give(len(PROMPT), 7)
    await away.lose(TAIL)
    dead = Wire()
    dead.dead = LinkDead("at once")
    away.links[KEYS[TAIL]] = dead
    await trio.sleep(0.25)
    del away.links[KEYS[TAIL]]
    away.say(TAIL, dead.dead)
    await trio.sleep(2)
    assert away.told(TAIL) == [Resume(away.plan.session, 0, 1)]
    away.say(TAIL, LinkDead("of a link before"))
    await trio.sleep(2)
    assert len(away.told(TAIL)) == 1


async def test_who_gives_up_dials_no_more(autojump_clock: MockClock, away: Away) -> None:
    """INF-45"""
    await away.give(len(PROMPT), 7)
    away.reachable = False
    await away.lose(TAIL)
    away.running.fail("nobody wants it any more", Code.CANCELLED)
    await wait_all_tasks_blocked()
    dials = len(away.dials)
    away.reachable = True
    await trio.sleep(RETURN_S)
    assert len(away.dials) <= dials + 1
    assert KEYS[TAIL] not in away.links or away.told(TAIL) == []
    assert [type(message) for message in away.told(HEAD)][-1] is Close
    assert away.running.generation.phase is Phase.FAILED


async def test_the_prompt_waits_for_the_contracts_whatever_breaks(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """RCT-26"""
    ring = Away()
    ring.journal.takes = trio.Event()
    nursery.start_soon(ring.running.run, ring.deaths)
    ring.accept(*ALL)
    await wait_all_tasks_blocked()
    await ring.lose(HEAD)
    await trio.sleep(1)
    assert [type(message) for message in ring.told(HEAD)] == [Resume]
    ring.journal.takes.set()
    await wait_all_tasks_blocked()
    assert [type(message) for message in ring.told(HEAD)] == [Resume, Prompt]
