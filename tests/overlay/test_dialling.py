"""Which addresses are dialled, when, and how often; and what whoever named them learns of it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, TurnedAway
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.overlay.dial import SILENT_S, STAGGER_S, dial_first
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from p2pinfer.overlay.libp2p.tcp import dial_tcp
from p2pinfer.overlay.limits import ALL_DIALS_BURST, DIALS_BURST, DIALS_RATE, KEPT_DIALS
from p2pinfer.overlay.memory import MemoryGround, MemoryPipe, MemoryWorld, memory_pipe_pair, open_memory_network
from p2pinfer.overlay.pipe import Address, Pipe, hear_nothing
from p2pinfer.overlay.reach import REACH_S, reach
from p2pinfer.overlay.word import Word, hearsay, word_of

from .conftest import KEYS, Collector

ME, PEER = KEYS[5].public, KEYS[6].public
STRANGER = Source("198.41.0.4", Scope.PUBLIC)


async def test_a_name_that_nobody_can_have_is_not_answered() -> None:
    with pytest.raises(LinkDead, match="nobody answers"):
        await dial_tcp(
            "/dns4/\N{SECTION SIGN}.example/tcp/4001"
        )  # which one way to write names has, and the other has not


class Places:
    """What happens at addresses: a number of seconds until a pipe is there, or until a failure if it is negative."""

    def __init__(self, **waits_s: float) -> None:
        self.waits_s = waits_s
        self.steps: dict[str, int] = {}  # that somebody there makes before, as long as the last one
        self.dialled: list[tuple[str, float]] = []
        self.pipes: dict[str, MemoryPipe] = {}

    async def dial(self, address: Address, heard: Callable[[], None]) -> Pipe:
        self.dialled.append((address, trio.current_time()))
        wait_s = self.waits_s[address]
        for _ in range(self.steps.get(address, 0)):
            await trio.sleep(abs(wait_s))
            heard()
        await trio.sleep(abs(wait_s))
        if wait_s < 0:
            raise LinkDead(f"nobody at {address}", Code.UNREACHABLE)
        near, self.pipes[address] = memory_pipe_pair(ME, PEER)
        return near

    async def first(self) -> Pipe:
        return await dial_first(self.dial, [Address(address) for address in self.waits_s])


async def is_closed(pipe: MemoryPipe) -> bool:
    with trio.move_on_after(1):
        return await pipe.read() == b""
    return False


async def test_a_silent_first_address_does_not_hide_the_second(autojump_clock: MockClock) -> None:
    places = Places(silent=1e9, good=0.1)
    await places.first()
    assert trio.current_time() == pytest.approx(STAGGER_S + 0.1)


async def test_after_a_failure_the_next_address_is_tried_at_once(autojump_clock: MockClock) -> None:
    places = Places(closed=-0.01, good=0.1)
    await places.first()
    assert places.dialled == [("closed", 0.0), ("good", pytest.approx(0.01))]


async def test_an_address_that_answers_at_once_is_the_only_one_that_is_dialled(autojump_clock: MockClock) -> None:
    places = Places(good=0.1, other=0.1)
    await places.first()
    assert [address for address, _ in places.dialled] == ["good"]


async def test_a_slow_address_wins_where_the_others_fail(autojump_clock: MockClock) -> None:
    places = Places(slow=2.0, closed=-0.01)
    await places.first()
    assert trio.current_time() == 2.0


async def test_where_all_fail_the_last_failure_is_told(autojump_clock: MockClock) -> None:
    with pytest.raises(LinkDead, match="nobody at two"):
        await Places(one=-0.1, two=-0.1).first()
    with pytest.raises(LinkDead, match="no address"):
        await Places().first()


async def test_an_address_that_stays_silent_is_given_up(autojump_clock: MockClock) -> None:
    with pytest.raises(LinkDead, match=f"no answer from silent within {SILENT_S:.0f} s") as caught:
        await Places(silent=1e9).first()
    assert (trio.current_time(), caught.value.code) == (SILENT_S, Code.UNREACHABLE)


async def test_an_address_that_answers_slowly_is_not_given_up(autojump_clock: MockClock) -> None:
    places = Places(slow=SILENT_S - 1)
    places.steps["slow"] = 2
    await places.first()
    assert trio.current_time() == 3 * (SILENT_S - 1)


async def test_an_address_that_stops_answering_is_given_up(autojump_clock: MockClock) -> None:
    async def dial(address: Address, heard: Callable[[], None]) -> Pipe:
        await trio.sleep(2)
        heard()
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(LinkDead, match="no answer"):
        await dial_first(dial, [Address("stops")])
    assert trio.current_time() == 2 + SILENT_S


async def test_two_pipes_at_once_leave_one(autojump_clock: MockClock) -> None:
    places = Places(one=STAGGER_S + 0.1, two=0.1)
    await places.first()
    assert [await is_closed(pipe) for pipe in places.pipes.values()].count(False) == 1


async def test_a_dial_that_is_given_up_leaves_no_pipe(autojump_clock: MockClock) -> None:
    places = Places(one=1.0)
    with trio.move_on_at(1.0):
        await places.first()
        pytest.fail("it was not given up")
    assert all([await is_closed(pipe) for pipe in places.pipes.values()])


# On the word of others


async def test_addresses_that_are_silent_come_first_and_the_peer_is_reached(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    world.sources[KEYS[0].public] = STRANGER
    async with (
        open_memory_network(world, KEYS[0].public, Collector()) as network,
        open_memory_network(world, KEYS[1].public, Collector()) as other,
    ):
        name = peer_name(other.key)
        link = await reach(network, other.key, [f"/ip4/198.41.0.4/udp/53/p2p/{name}", *other.addresses()])
        assert link.dead is None


async def test_dials_on_the_word_of_one_stranger_are_few_a_second(autojump_clock: MockClock) -> None:
    """WIRE-20"""
    world = MemoryWorld()
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        codes = [await dial_code(network.reach, number, STRANGER) for number in range(40)]
        assert codes.count(Code.UNREACHABLE) == DIALS_BURST
        assert codes.count(Code.BUSY) == 40 - DIALS_BURST
        await trio.sleep(1)
        codes = [await dial_code(network.reach, number, STRANGER) for number in range(40)]
        assert codes.count(Code.UNREACHABLE) == DIALS_RATE


async def test_dials_on_the_word_of_all_strangers_are_few_a_second(autojump_clock: MockClock) -> None:
    """WIRE-20"""
    world = MemoryWorld()
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        strangers = [Source(f"198.41.0.{number}", Scope.PUBLIC) for number in range(100)]
        codes = [await dial_code(network.reach, number, one) for number, one in enumerate(strangers)]
        assert codes.count(Code.UNREACHABLE) == ALL_DIALS_BURST


async def test_dials_on_hearsay_count_for_the_network_that_told_and_leave_sessions_theirs(
    autojump_clock: MockClock,
) -> None:
    """WIRE-20: however many told, and whatever others named."""
    world = MemoryWorld()
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        codes = [await dial_code(network.reach, number, hearsay(STRANGER.key)) for number in range(40)]
        assert codes.count(Code.UNREACHABLE) == DIALS_BURST
        others = [hearsay(f"198.41.1.{number}") for number in range(40)]
        codes = [await dial_code(network.reach, number, one) for number, one in enumerate(others)]
        assert codes.count(Code.UNREACHABLE) == ALL_DIALS_BURST - DIALS_BURST - KEPT_DIALS
        assert await dial_code(network.reach, 40, hearsay("")) == Code.BUSY
        codes = [await dial_code(network.reach, number, hearsay(None)) for number in range(40)]
        assert codes.count(Code.UNREACHABLE) == KEPT_DIALS


async def dial_code(reach_: Callable[..., Awaitable[object]], number: int, word: Source | Word) -> Code:
    peer = PrivateKey(bytes([100 + number]) * 32).public
    try:
        by = word if isinstance(word, Word) else word_of(word)
        await reach_(peer, [f"/memory/p2p/{peer_name(peer)}"], by)
    except LinkDead as error:
        return error.code
    return Code.NONE


async def test_a_stranger_learns_nothing_of_what_is_at_an_address(autojump_clock: MockClock) -> None:
    """WIRE-21: open, closed, silent or full: the same words after the same time."""
    world, collector = MemoryWorld(), Collector()
    silent = world.grounds[KEYS[3].public] = MemoryGround(world, KEYS[3].public)
    async with (
        open_memory_network(world, KEYS[4].public, Collector(), most=0) as full,
        open_memory_network(world, KEYS[0].public, collector) as network,
        open_memory_network(world, KEYS[1].public, Collector()) as asker,
    ):
        await asker.dial(network.addresses()[0])
        await collector.wait_links(1)
        outcomes = []
        for peer in (KEYS[2].public, silent.key, full.key):
            began = trio.current_time()
            with pytest.raises(Refused) as caught:
                await reach(network, peer, [f"/memory/p2p/{peer_name(peer)}"], collector.links[0])
            text = str(caught.value).replace(peer_name(peer)[-8:], "")
            outcomes.append((text, caught.value.code, trio.current_time() - began))
        assert outcomes == [("peer … cannot be reached", Code.UNREACHABLE, REACH_S)] * 3


async def test_who_asks_for_itself_learns_at_once_that_a_peer_is_full(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    async with (
        open_memory_network(world, KEYS[4].public, Collector(), most=0) as full,
        open_memory_network(world, KEYS[0].public, Collector()) as network,
    ):
        with pytest.raises(TurnedAway) as caught:
            await reach(network, full.key, full.addresses())
        assert (caught.value.code, caught.value.retry_s) == (Code.UNREACHABLE, None)
        assert trio.current_time() < 1


async def test_an_address_that_may_not_be_dialled_fails_at_once(autojump_clock: MockClock) -> None:
    """WIRE-19"""
    world = MemoryWorld()
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        with pytest.raises(Refused, match="no address of it may be dialled") as caught:
            await reach(network, PEER, [f"/ip4/198.41.0.4/udp/53/p2p/{peer_name(PEER)}"])
        assert caught.value.code is Code.UNREACHABLE
        assert trio.current_time() == 0


@pytest.mark.parametrize(
    "place", ["/ip4/127.0.0.1/tcp/1", "/ip4/198.41.0.4/udp/53", "/dns4/localhost/tcp/1", "/ip4/169.254.169.254/tcp/80"]
)
async def test_a_stranger_from_outside_has_nobody_dial_inside(place: str) -> None:
    """WIRE-19"""
    async with open_libp2p_network(KEYS[0], Collector()) as network:
        address = f"{place}/p2p/{peer_name(PEER)}"
        assert network.dialable(PEER, [address], STRANGER) == ()
        with pytest.raises(LinkDead, match="no address"):
            await network.reach(PEER, [address], word_of(STRANGER))


async def test_an_address_that_is_named_twice_is_dialled_once() -> None:
    async with open_libp2p_network(KEYS[0], Collector()) as network:
        place = f"/ip4/198.41.0.4/tcp/1/p2p/{peer_name(PEER)}"
        assert network.dialable(PEER, [place, place], STRANGER) == (place,)


async def test_nobody_has_us_dial_ourselves() -> None:
    async with open_libp2p_network(KEYS[0], Collector(), Listening(["/ip4/127.0.0.1/tcp/0"])) as network:
        place = network.addresses()[0].rpartition("/p2p/")[0]
        assert not network.may_dial(f"{place}/p2p/{peer_name(PEER)}", Source("::/64", Scope.LOOPBACK))


class Silent(MemoryGround):
    """Nobody answers at addresses that a stranger made up, and nothing says so."""

    async def dial(self, address: Address, heard: Callable[[], None] = hear_nothing) -> Pipe:
        if "nowhere" in address:
            await trio.sleep_forever()
        return await super().dial(address, heard)


async def test_who_names_dead_addresses_of_a_peer_keeps_nobody_from_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr("p2pinfer.overlay.memory.MemoryGround", Silent)
    world, [near, far] = MemoryWorld(), [key.public for key in KEYS[:2]]
    async with (
        open_memory_network(world, near, Collector()) as network,
        open_memory_network(world, far, Collector()) as other,
    ):
        dead = f"/memory/nowhere/p2p/{peer_name(far)}"

        async def stranger() -> None:
            with pytest.raises(LinkDead):
                await network.reach(far, [dead], word_of(NOWHERE))

        nursery.start_soon(stranger)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        link = await network.reach(far, other.addresses(), word_of(NOWHERE))
        assert (link.peer, trio.current_time()) == (far, began)
        nursery.cancel_scope.cancel()


async def test_a_session_waits_for_no_dial_that_finds_less_left(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """A stranger is dialled for our own sake; its second address is one too many for that, and not for a session."""
    monkeypatch.setattr("p2pinfer.overlay.memory.MemoryGround", Silent)
    for name, value in (("BURST", KEPT_DIALS + 1), ("RATE", 0)):
        monkeypatch.setattr(f"p2pinfer.overlay.attempts.DIALS_{name}", value)
        monkeypatch.setattr(f"p2pinfer.overlay.attempts.ALL_DIALS_{name}", value)
    world, [near, far] = MemoryWorld(), [key.public for key in KEYS[:2]]
    async with (
        open_memory_network(world, near, Collector()) as network,
        open_memory_network(world, far, Collector()) as other,
    ):
        given = [f"/memory/nowhere/p2p/{peer_name(far)}", *other.addresses()]

        async def met() -> None:
            with suppress(LinkDead):
                await network.reach(far, given, hearsay("198.41.0.4"))

        nursery.start_soon(met)
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(2 * STAGGER_S)
        with trio.fail_after(2 * STAGGER_S):
            assert (await network.reach(far, given, hearsay(None))).peer == far


async def test_a_dial_that_reaches_nobody_does_not_keep_its_peer_waiting(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr("p2pinfer.overlay.memory.MemoryGround", Silent)
    world, [near, far] = MemoryWorld(), sorted(key.public for key in KEYS[:2])  # the smaller key's stream stays
    async with (
        open_memory_network(world, near, Collector()) as network,
        open_memory_network(world, far, Collector()) as other,
    ):

        async def stranger() -> None:
            with pytest.raises(LinkDead):
                await network.reach(far, [f"/memory/nowhere/p2p/{peer_name(far)}"], word_of(NOWHERE))

        nursery.start_soon(stranger)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        link = await other.dial(network.addresses()[0])
        assert (link.peer, trio.current_time()) == (near, began)
        nursery.cancel_scope.cancel()
