"""Closes that are said again on the next link."""

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.farewells import MAX_KEPT, Farewells
from p2pinfer.core.sessions.suspension import RETURN_S
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import Close
from tests.core.paid_route import key

STAGE, OTHER = key("stage").public, key("other").public


class Wire:
    """A link that takes so many messages before it dies."""

    def __init__(self, peer: PeerKey, takes: int = MAX_KEPT) -> None:
        self.peer = peer
        self.sent: list[Message] = []
        self._takes = takes

    def send_nowait(self, message: Message) -> None:
        if len(self.sent) == self._takes:
            raise LinkDead("gone")
        self.sent.append(message)


def close(number: int = 0) -> Close:
    return Close(SessionId(number.to_bytes(16, "big")), 0, Code.CANCELLED, 7, "")


def said(farewells: Farewells, peer: PeerKey = STAGE, takes: int = MAX_KEPT) -> list[Message]:
    wire = Wire(peer, takes)
    farewells.greet(wire)  # type: ignore[arg-type]
    return wire.sent


async def test_a_close_is_said_on_the_next_link_to_its_stage(autojump_clock: MockClock) -> None:
    farewells = Farewells()
    farewells.keep(STAGE, close())
    assert (said(farewells, OTHER), said(farewells)) == ([], [close()])


async def test_on_each_next_one_for_as_long_as_a_stage_waits(autojump_clock: MockClock) -> None:
    farewells = Farewells()
    farewells.keep(STAGE, close(1))
    await trio.sleep(RETURN_S / 2)
    farewells.keep(STAGE, close(2))
    assert said(farewells, takes=1) == [close(1)]
    assert said(farewells) == [close(1), close(2)]
    await trio.sleep(RETURN_S / 2)
    assert said(farewells) == [close(2)]
    await trio.sleep(RETURN_S / 2)
    assert said(farewells) == []


@pytest.mark.parametrize("over", [0, 1, MAX_KEPT])
async def test_no_more_are_kept_than_a_client_may_say(autojump_clock: MockClock, over: int) -> None:
    farewells = Farewells()
    for number in range(MAX_KEPT + over):
        farewells.keep(STAGE, close(number))
    assert said(farewells) == [close(number) for number in range(over, MAX_KEPT + over)]


async def test_one_stage_pushes_out_no_other_s_close(autojump_clock: MockClock) -> None:
    farewells = Farewells()
    farewells.keep(OTHER, close(7))
    for _ in range(MAX_KEPT):
        farewells.keep(STAGE, close())
    assert said(farewells, OTHER) == [close(7)]
    assert said(farewells) == [close()]
