"""A generation over several stages that fails before its first id: when, and whom its client blames alone.

The stages are the test's own words; each says what it could say, whatever the others of the route made it say.
"""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.contracts import StagePlan, make_plan
from p2pinfer.client.running import OPEN_S, Incoming, Running
from p2pinfer.core.codes import Code
from p2pinfer.core.ending import Ending
from p2pinfer.core.records import sign
from p2pinfer.core.sampling import SamplingRecord
from p2pinfer.core.session_messages import Accept
from p2pinfer.core.text import TextStream
from p2pinfer.core.units import Codec
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
    """Keeps nothing."""

    async def agree(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()


class NoLink:
    """Takes everything, and sends nothing."""

    def send_nowait(self, *_: object) -> None:
        pass


class Ring:
    """A generation that runs, and what its stages say to its client."""

    def __init__(self, stages: int = STAGES) -> None:
        plans = [StagePlan(offer, (), offer.record.span, NOW + DAY_S) for offer in route_offers(stages, LAYERS)]
        sampling = SamplingRecord(0, 0, 1_000_000, 0, 9, ())
        self.plan = make_plan(CLIENT, plans, LAYERS, len(PROMPT), sampling, Codec.F32, NOW, 1 << 50)
        ending = Ending((), 9, TextStream(Words()))  # type: ignore[arg-type]
        parts = self.plan, PROMPT, 1_000, CLIENT, ending, NoJournal(), lambda _: NoLink()
        self.running = Running(*parts)  # type: ignore[arg-type]
        self._send, self.incoming = trio.open_memory_channel[Incoming](100)

    def accept(self, *places: int) -> None:
        for place in places:
            signature = sign(self.plan.contracts[place].record, NODES[place]).signatures[0]
            self._send.send_nowait((KEYS[place], Accept(self.plan.session, 0, signature, 0)))

    async def run(self, *says: Callable[["Ring"], Awaitable[None]]) -> set[int]:
        """The places of those that are blamed alone, after the generation has failed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.running.run, self.incoming)
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
