"""A generation over several stages that fails before its first id: when, and whom its client blames alone.

The stages are the test's own words; each says what it could say, whatever the others of the route made it say.
"""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.books import Purse
from p2pinfer.client.contracts import Order, StagePlan, make_plan
from p2pinfer.client.patience import OPEN_S, STALL_S
from p2pinfer.client.run import ALONE, Company, Incoming, Run
from p2pinfer.core.models.detokenizer import Detokenizer
from p2pinfer.core.records.records import sign
from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.generation import Generation
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import Codec
from p2pinfer.core.wire.session_messages import Accept, Close, Propose, Sampled, SessionMessage, SessionRefused
from p2pinfer.overlay.machine import Machine
from tests.core.paid_route import CLIENT, DAY_S, NODES, NOW, route_offers

LAYERS, STAGES = 30, 3
PROMPT = tuple(range(1, 6))
KEYS = [node.public for node in NODES]


class Words:
    """Every id is one letter."""

    drops_first_space = False

    def bytes_of(self, id_: int) -> bytes:
        return b"x"

    def special_name(self, id_: int) -> str | None:
        return None


class NoJournal:
    """Keeps nothing. takes: set while it takes contracts"""

    def __init__(self) -> None:
        self.takes = trio.Event()
        self.takes.set()

    async def keep_books(self, *_: object) -> None:
        return None

    async def agree_all(self, *_: object) -> None:
        await self.takes.wait()


class NoLink:
    """Takes everything, and sends nothing."""

    def send_nowait(self, *_: object) -> None:
        pass


class Silent:
    """A network that has a link to everybody."""

    machine = Machine(lambda: NOW)

    def link(self, _peer: object) -> NoLink:
        return NoLink()


class Ring:
    """A generation that runs, and what its stages say to its client."""

    def __init__(self, stages: int = STAGES, company: Company = ALONE) -> None:
        plans = [StagePlan(offer, (), offer.record.span, NOW + DAY_S) for offer in route_offers(stages, LAYERS)]
        sampling = SamplingRecord(0, 0, 1_000_000, 0, 9, ())
        order = Order(LAYERS, len(PROMPT), sampling, Codec.F32, 1 << 50)
        self.plan = make_plan(CLIENT, plans, order, Silent.machine)
        ending = Ending((), 9, Detokenizer(Words()))  # type: ignore[arg-type]
        generation = Generation(self.plan.session, 0, PROMPT, KEYS[:stages], 1_000, ending)
        self.journal = NoJournal()
        purse = Purse(CLIENT, self.journal)  # type: ignore[arg-type]
        self.running = Run(self.plan, generation, purse, Silent(), company=company)  # type: ignore[arg-type]
        self._send, self.deaths = trio.open_memory_channel[Incoming](100)

    def accept(self, *places: int) -> None:
        for place in places:
            signature = sign(self.plan.contracts[place].record, NODES[place]).signatures[0]
            self.say(place, Accept(self.plan.session, 0, signature, 0))

    def say(self, place: int, message: SessionMessage | LinkDead) -> None:
        if isinstance(message, LinkDead):
            self._send.send_nowait((KEYS[place], message))
        else:
            self.running.take_message(KEYS[place], message)

    async def run(self, *says: Callable[["Ring"], Awaitable[None]]) -> set[int]:
        """The places of those that are blamed alone, after the generation has failed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.running.run, self.deaths)
            for say in says:
                nursery.start_soon(say, self)
            await self.running.over.wait()
            nursery.cancel_scope.cancel()
        assert self.running.generation.failure is not None
        return {KEYS.index(key) for key in self.running.refused_by}


async def dawdle(ring: Ring) -> None:
    """One stage after the other accepts, each just in time, and the last never."""
    for place in range(STAGES - 1):
        await trio.sleep(OPEN_S - 1)
        ring.accept(place)


async def test_stages_that_dawdle_have_no_more_time_together_than_one(autojump_clock: MockClock) -> None:
    """INF-36"""
    ring = Ring()
    await ring.run(dawdle)
    failure = ring.running.generation.failure
    assert failure is not None and failure.code is Code.SILENT
    assert trio.current_time() == pytest.approx(OPEN_S)


# Whom it blames alone


HEAD, MIDDLE, TAIL = range(STAGES)
ALL = (HEAD, MIDDLE, TAIL)


async def blamed(
    place: int, message: Callable[[Ring], SessionMessage | LinkDead], *accept: int, stages: int
) -> set[int]:
    """By a generation in which these have accepted before one says that."""
    ring = Ring(stages)
    ring.accept(*accept)
    ring.say(place, message(ring))
    return await ring.run()


def refusing(code: Code) -> Callable[[Ring], SessionRefused]:
    return lambda ring: SessionRefused(ring.plan.session, 0, code, "", 0)


def closing(code: Code) -> Callable[[Ring], Close]:
    return lambda ring: Close(ring.plan.session, 0, code, 0, "")


def sampling(ring: Ring) -> Sampled:
    return Sampled(ring.plan.session, 0, 0, len(PROMPT), (7,), Code.NONE)


def proposing(ring: Ring) -> Propose:
    return Propose(ring.plan.session, b"a receipt", bytes(64))


def forging(ring: Ring) -> Accept:
    return Accept(ring.plan.session, 0, bytes(64), 0)


def dying(_: Ring) -> LinkDead:
    return LinkDead("the peer closed the link")


@pytest.mark.parametrize(
    ("place", "message", "accepted"),
    [
        (HEAD, refusing(Code.BUSY), ()),
        (HEAD, refusing(Code.BAD_TERMS), ()),
        (MIDDLE, forging, (HEAD,)),
        (MIDDLE, dying, (HEAD,)),
        (TAIL, sampling, (HEAD, MIDDLE)),  # it has not accepted
        (MIDDLE, sampling, (HEAD, MIDDLE)),  # it is no tail
        (TAIL, closing(Code.LEAVING), ALL),
        (MIDDLE, closing(Code.INTERNAL), ALL),
        (HEAD, closing(Code.ENGINE), ALL),
        (TAIL, proposing, ALL),  # that is no receipt
    ],
)
async def test_a_stage_is_blamed_alone_for_what_no_other_can_have_brought_about(
    autojump_clock: MockClock,
    place: int,
    message: Callable[[Ring], SessionMessage | LinkDead],
    accepted: tuple[int, ...],
) -> None:
    assert await blamed(place, message, *accepted, stages=STAGES) == {place}


@pytest.mark.parametrize(
    ("place", "message", "accepted"),
    [
        (HEAD, refusing(Code.UNREACHABLE), ()),  # its successor lets it not in
        (TAIL, refusing(Code.UNREACHABLE), (HEAD,)),  # nor does the head the tail
        (TAIL, sampling, (MIDDLE, TAIL)),  # the head sent rows before it accepted
        (MIDDLE, proposing, (MIDDLE, TAIL)),
        (MIDDLE, closing(Code.ENGINE), ALL),  # the head's rows overflow in its layers
        (TAIL, closing(Code.IDLE), ALL),  # the head sends nothing
        (MIDDLE, closing(Code.LOST), ALL),  # the tail has closed their link
        (MIDDLE, closing(Code.BAD_VALUES), ALL),  # the head's rows are none
        (MIDDLE, closing(Code.UNPAID), ALL),  # the tail proposes nothing, so nothing is signed
    ],
)
async def test_nobody_is_blamed_for_what_another_stage_can_have_brought_about(
    autojump_clock: MockClock,
    place: int,
    message: Callable[[Ring], SessionMessage | LinkDead],
    accepted: tuple[int, ...],
) -> None:
    assert await blamed(place, message, *accepted, stages=STAGES) == set()


async def test_a_stage_that_does_not_accept_may_wait_for_another(autojump_clock: MockClock) -> None:
    assert await Ring().run(dawdle) == set()


async def test_of_several_stages_nobody_is_blamed_for_silence(autojump_clock: MockClock) -> None:
    ring = Ring()
    ring.accept(*ALL)
    assert await ring.run() == set()
    assert trio.current_time() == pytest.approx(STALL_S)


@pytest.mark.parametrize(
    "message",
    [refusing(Code.UNREACHABLE), sampling, closing(Code.ENGINE), closing(Code.IDLE), closing(Code.CANCELLED), dying],
)
async def test_the_only_stage_is_blamed_for_whatever_it_does(
    autojump_clock: MockClock, message: Callable[[Ring], SessionMessage | LinkDead]
) -> None:
    assert await blamed(HEAD, message, stages=1) == {HEAD}


@pytest.mark.parametrize("accepted", [(), (HEAD,)])
async def test_the_only_stage_is_blamed_for_silence(autojump_clock: MockClock, accepted: tuple[int, ...]) -> None:
    ring = Ring(1)
    ring.accept(*accepted)
    assert await ring.run() == {HEAD}
