"""Our own faults while we handle peers: one thing ends, is told and logged once, and everything else goes on."""

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused
from p2pinfer.core.wire.message_codec import encode_message
from p2pinfer.core.wire.messages import MAX_BODY, AskContacts, Contacts, Goodbye, Message
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.contained import Contained, outlasting
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import GOODBYE_S
from p2pinfer.overlay.link import ABORT_S, LINGER_S, Link
from p2pinfer.overlay.memory import MemoryGround, MemoryPipe, MemoryWorld, open_memory_network

from .conftest import HELLO, KEYS, Collector, OpenPeer, OpenRaw, hear_goodbye, say

BUG = "a bug in a test"
HELLO_BYTES = encode_message(HELLO)
TAKES, SHORT = (b"\xce" + size.to_bytes(4, "big") for size in (MAX_BODY, MAX_BODY - 1))


class Buggy(Collector):
    """A receiver with a fault of ours in one of its methods."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def on_link(self, link: Link) -> None:
        super().on_link(link)
        self._fail_in("on_link")

    def on_message(self, link: Link, message: Message) -> None:
        self._fail_in("on_message")
        super().on_message(link, message)

    def on_closed(self, link: Link, why: LinkDead) -> None:
        super().on_closed(link, why)
        self._fail_in("on_closed")

    def _fail_in(self, name: str) -> None:
        if name == self.where:
            raise ZeroDivisionError(BUG)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged with a traceback."""
    return [record.getMessage() for record in caplog.records if record.exc_info]


def test_a_failure_is_logged_once_with_its_traceback_and_ends_its_own_thing(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bool] = []
    with Contained("the thing", lambda: ended.append(True)):
        raise ZeroDivisionError(BUG)
    assert ended == [True]
    assert told(caplog) == [f"the thing ends, for a fault of ours: {BUG}"]


def test_what_did_not_fail_is_not_ended(caplog: pytest.LogCaptureFixture) -> None:
    contained = Contained("the thing", lambda: pytest.fail("it was ended"))
    for _ in range(2):
        with contained:
            pass
    assert caplog.records == []


def test_what_ends_the_process_is_not_contained() -> None:
    with pytest.raises(KeyboardInterrupt), Contained("the thing", lambda: pytest.fail("it was ended")):
        raise KeyboardInterrupt


async def test_a_cancellation_beside_a_failure_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError(BUG)

    with trio.move_on_after(1) as scope:
        with Contained("the thing"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                nursery.start_soon(trio.sleep_forever)
        raise AssertionError("the cancellation was lost")
    assert scope.cancelled_caught
    assert len(told(caplog)) == 1


async def test_last_words_outlast_a_cancellation_and_not_for_ever(autojump_clock: MockClock) -> None:
    inner = trio.CancelScope()
    with trio.move_on_after(1) as outer:
        async with outlasting(inner, 2):
            await trio.sleep_forever()
    assert outer.cancelled_caught
    assert trio.current_time() == 3


@pytest.mark.parametrize("where", ["on_link", "on_message"])
async def test_a_fault_of_ours_in_a_link_ends_that_link_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    world, near, third = MemoryWorld(), Collector(), Collector()
    buggy = Buggy(where)
    async with (
        open_memory_network(world, KEYS[0].public, near) as one,
        open_memory_network(world, KEYS[1].public, buggy) as other,
        open_memory_network(world, KEYS[2].public, third) as another,
    ):
        link = await one.dial(other.addresses()[0])
        link.send_nowait(AskContacts(1))
        assert (await near.wait_closed()).code is Code.INTERNAL
        await link.closed.wait()
        assert told(caplog) == [f"{told(caplog)[0].partition(' ends')[0]} ends, for a fault of ours: {BUG}"]
        buggy.where = ""
        await (await another.dial(other.addresses()[0])).send(AskContacts(2))
        assert await buggy.next() == AskContacts(2)


async def test_a_fault_of_ours_at_the_end_of_a_link_keeps_no_pipe(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = MemoryWorld()
    async with open_memory_network(world, KEYS[0].public, Buggy("on_closed")) as network:
        pipe = await MemoryGround(world, KEYS[7].public).dial(network.addresses()[0])
        await say(pipe, HELLO, HELLO)
        assert await hear_goodbye(pipe) is Code.BAD_STATE
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await pipe.write(bytes(1))
    assert len(told(caplog)) == 1


async def test_a_fault_of_ours_in_a_greeting_lets_the_stream_go(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, collector = MemoryWorld(), Collector()
    async with open_memory_network(world, KEYS[0].public, collector) as network:
        with monkeypatch.context() as patch:
            patch.setattr("p2pinfer.overlay.admission.checked_hello", lambda message: 1 / 0)
            pipe = await MemoryGround(world, KEYS[7].public).dial(network.addresses()[0])
            await say(pipe, HELLO)
            assert await pipe.read() == b""
        assert len(told(caplog)) == 1
        again = await MemoryGround(world, KEYS[6].public).dial(network.addresses()[0])
        await say(again, HELLO)
        await collector.wait_links(1)


async def test_a_fault_of_ours_in_a_dial_fails_the_dial(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    world = MemoryWorld()
    ground = world.grounds[KEYS[1].public] = MemoryGround(world, KEYS[1].public)
    nursery.start_soon(greet_all, ground)
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        with monkeypatch.context() as patch:
            patch.setattr("p2pinfer.overlay.attempts.checked_hello", lambda message: 1 / 0)
            with pytest.raises(LinkDead) as caught:
                await network.dial(ground.addresses()[0])
        assert caught.value.code is Code.INTERNAL
        assert len(told(caplog)) == 1
        assert (await network.dial(ground.addresses()[0])).dead is None


async def greet_all(ground: MemoryGround) -> None:
    while True:
        await say(await ground.accept(), HELLO)


async def test_an_answer_that_fails_is_refused_and_the_link_stays(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, nursery: trio.Nursery
) -> None:
    world = MemoryWorld()

    async def fail(asker: Link, ask: Ask) -> Contacts:
        raise ZeroDivisionError(BUG)

    near, far = Exchange(nursery), Exchange(nursery)
    far.answer(AskContacts, fail)
    async with (
        open_memory_network(world, KEYS[0].public, near) as network,
        open_memory_network(world, KEYS[1].public, far) as other,
    ):
        link = await network.dial(other.addresses()[0])
        with pytest.raises(Refused) as caught:
            await near.call(link, AskContacts, Contacts)
        assert caught.value.code is Code.INTERNAL
        assert link.dead is None
    assert len(told(caplog)) == 1


async def test_a_link_that_is_lost_as_soon_as_it_is_up_is_dialled_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A peer that greets everybody and leaves would else have us dial for ever."""
    world = MemoryWorld()
    ground = world.grounds[KEYS[1].public] = MemoryGround(world, KEYS[1].public)
    greeted = []

    async def greet_and_leave() -> None:
        while True:
            pipe = await ground.accept()
            await say(pipe, HELLO, Goodbye(Code.IDLE, ""))
            greeted.append(pipe)

    nursery.start_soon(greet_and_leave)
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        with trio.fail_after(60), pytest.raises(LinkDead):
            await (await network.dial(ground.addresses()[0])).send(AskContacts(1))
        assert len(greeted) == 1


async def test_a_network_ends_in_time_whoever_does_not_listen(autojump_clock: MockClock) -> None:
    world, collector = MemoryWorld(), Collector()
    with trio.CancelScope() as scope:
        async with open_memory_network(world, KEYS[0].public, collector) as network:
            pipe = await MemoryGround(world, KEYS[7].public).dial(network.addresses()[0])
            await say(pipe, HELLO)
            await collector.wait_links(1)
            with trio.move_on_after(1):
                while True:
                    await collector.links[0].send(AskContacts(1))
            left = trio.current_time()
            scope.cancel()
    assert trio.current_time() - left <= GOODBYE_S + ABORT_S + LINGER_S


async def test_a_bug_beside_the_links_ends_the_network_with_everything_in_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No zombie: what is wrong outside peers' tasks is raised, and nothing waits for ever for a peer."""
    world, collector = MemoryWorld(), Collector()
    async with open_memory_network(world, KEYS[1].public, Collector()) as other:
        with pytest.raises(BaseExceptionGroup) as failure:
            async with open_memory_network(world, KEYS[0].public, collector) as network:
                await network.dial(other.addresses()[0])
                began = trio.current_time()
                monkeypatch.setattr(MemoryGround, "accept", fail_to_accept)
                await MemoryGround(world, KEYS[2].public).dial(network.addresses()[0])
                await trio.sleep_forever()
        assert failure.group_contains(ZeroDivisionError)
        assert trio.current_time() - began <= GOODBYE_S + ABORT_S + LINGER_S
        assert collector.closed


async def fail_to_accept(ground: MemoryGround) -> MemoryPipe:
    raise ZeroDivisionError(BUG)


async def test_a_peer_that_takes_no_whole_message_gets_no_link(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    """WIRE-4"""
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    hello, size = HELLO_BYTES.replace(TAKES, SHORT), len(HELLO_BYTES)
    await pipe.write(size.to_bytes(4, "big") + hello)
    assert await hear_goodbye(pipe) is Code.BAD_FRAME
    assert peer.came.links == []
