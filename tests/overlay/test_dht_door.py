"""The DHT's process may end, spin, stop, grow or talk nonsense; links go on, and a node ends when told to."""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from signal import SIGSTOP, SIGTERM

import psutil
import pytest
import trio

from p2pinfer.core.swarm.source import NOWHERE, source_of
from p2pinfer.overlay.libp2p import Listening, dht_door, dht_life, open_libp2p_network
from p2pinfer.overlay.libp2p.dht_door import KEPT_HOSTS, DhtDoor
from p2pinfer.overlay.libp2p.dht_frames import MAX_FRAME, MOST, addresses_in, pack, size_of, unpack

from .conftest import KEYS, Collector
from .test_dht import KEY, begun, open_peers

WITHIN_S = 20.0

# The beginning of a process that speaks the frames
SPEAKER = """
import sys, time, msgpack
def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
def say(*message):
    data = msgpack.packb(message)
    write(len(data).to_bytes(4, "big") + data)
def hear():
    size = int.from_bytes(sys.stdin.buffer.read(4), "big")
    return msgpack.unpackb(sys.stdin.buffer.read(size))
hear()
"""
READY = "say('ready', ['/ip4/127.0.0.1/tcp/9'])\n"
UNREADY = ""

FAULTS = {
    "ends": (UNREADY + "sys.exit(7)", "exit code 7"),
    "begins never": (UNREADY + "time.sleep(60)", "did not begin"),
    "says why": (UNREADY + "say('failed', 'a\\x1b reason')", r"a\x1b reason"),
    "answers nothing": (READY + "time.sleep(60)", "it does not answer"),
    "answers no question": (READY + "say(99, [])", "nonsense"),
    "says a number for addresses": (READY + "say(hear()[0], 5)", "nonsense"),
    "says a long address": (READY + "say(hear()[0], ['a' * 257])", "nonsense"),
    "says many addresses": (READY + "say(hear()[0], ['a'] * 161)", "nonsense"),
    "says a long frame": (READY + "write(b'\\xff' * 4); time.sleep(60)", "nonsense"),
    "says no msgpack": (READY + "write(b'\\0\\0\\0\\1\\xc1'); time.sleep(60)", "nonsense"),
    "grows": (READY + "more = b'x' * (64 << 20)\nwhile True: say(hear()[0], [])", "more than at rest"),
    "spins": (
        READY + "import threading\nthreading.Thread(target=lambda: any(iter(int, 1)), daemon=True).start()\n"
        "while True: say(hear()[0], [])",
        "of a processor",
    ),
}  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the node waits for is short, and little is much."""
    monkeypatch.setattr(dht_door, "DHT_WAITS_S", (0.01,))
    short = {"WATCH_S": 0.1, "PATIENCE_S": 0.5, "START_S": 3.0, "CPU_S": 0.4}
    for name, value in {**short, "CPU_SHARE": 0.1, "SPARE_BYTES": 32 << 20}.items():
        monkeypatch.setattr(dht_life, name, value)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_process_at_fault_is_ended_and_starts_anew(
    fault: str, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program, why = FAULTS[fault]
    monkeypatch.setattr(dht_life, "COMMAND", (sys.executable, "-c", SPEAKER + program))
    starts, again = [], trio.Event()

    async def counted() -> trio.Process:
        starts.append(await start())
        if len(starts) > 1:
            again.set()
        return starts[-1]

    start = dht_life.start
    monkeypatch.setattr(dht_door, "start", counted)
    async with running(DhtDoor([], [])):
        with trio.fail_after(WITHIN_S):
            await again.wait()
    assert why in caplog.text
    assert all(process.returncode is not None for process in starts)


async def test_a_part_that_ended_starts_anew_at_once_where_the_node_comes_to_be_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dht_door, "DHT_WAITS_S", (3_600.0,))
    started, starts = trio.open_memory_channel[None](9)

    async def fail() -> trio.Process:
        started.send_nowait(None)
        raise OSError("no memory")

    monkeypatch.setattr(dht_door, "start", fail)
    async with running(DhtDoor([], [])) as door:
        with trio.fail_after(WITHIN_S):
            for place in range(3):
                await starts.receive()
                door.move([f"/ip4/127.0.0.{place + 1}/tcp/4001"], [])


@asynccontextmanager
async def running(door: DhtDoor) -> AsyncIterator[DhtDoor]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.run)
        yield door
        nursery.cancel_scope.cancel()


def parts() -> set[psutil.Process]:
    """Our processes that have a part in the DHT; other tests' nodes run beside."""
    return {child for child in psutil.Process().children() if dht_life.COMMAND[-1] in child.cmdline()}


def only_part() -> psutil.Process:
    [one] = parts()
    return one


async def test_a_part_that_ends_starts_anew_and_knows_what_it_knew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dht_door, "DHT_WAITS_S", (0.01,))
    async with AsyncExitStack() as stack:
        [host] = await stack.enter_async_context(open_peers(1))
        others = parts()
        peer = open_libp2p_network(KEYS[6], Collector(), Listening(["/ip4/127.0.0.1/tcp/0"]))
        provider = await stack.enter_async_context(peer)
        await begun(provider)
        [process] = parts() - others
        await provider.meet(host.directory_addresses(), NOWHERE)
        await provider.provide(KEY)
        link = await provider.dial(host.addresses()[0])
        before = provider.directory_addresses()
        process.kill()
        with trio.fail_after(WITHIN_S):
            while provider.directory_addresses() in ((), before):
                await trio.sleep(0.05)
                await provider.meet((), NOWHERE)
            found: Sequence[str] = ()
            while found != provider.addresses():
                found = await host.find(KEY)
        assert link.dead is None
    assert "our part of the DHT ended (killed by signal 9)" in caplog.text


@pytest.mark.parametrize("number", [SIGSTOP, SIGTERM])
async def test_a_stopped_process_holds_nobody_up(number: int) -> None:
    """Of a signal to all processes of a node it hears nothing: its node ends it."""
    async with running(DhtDoor(["/ip4/127.0.0.1/tcp/0"], [])) as door:
        await door.settled.wait()
        process = only_part()
        process.send_signal(number)
        with trio.fail_after(WITHIN_S):
            assert await door.find(KEY) == ()
        assert process.is_running()
    assert not process.is_running()


async def test_a_door_closes_while_its_process_begins() -> None:
    async with running(DhtDoor(["/ip4/127.0.0.1/tcp/0"], [])):
        with trio.fail_after(WITHIN_S):
            while not parts():
                await trio.lowlevel.checkpoint()
    assert not parts()


async def test_questions_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_life, "COMMAND", (sys.executable, "-c", SPEAKER + READY + "time.sleep(60)"))
    monkeypatch.setattr(dht_life, "MAX_UNANSWERED", 2)
    async with running(DhtDoor([], [])) as door:
        await door.settled.wait()
        with trio.move_on_after(0.1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.find, KEY)
                nursery.start_soon(door.find, KEY)
        with trio.fail_after(dht_door.FIND_S):
            assert await door.find(KEY) == ()


async def test_hosts_that_one_network_named_take_no_others_place_after_a_new_start() -> None:
    door = DhtDoor([], [])
    door.settled.set()  # and no process is there
    for number in range(KEPT_HOSTS - 2):
        await door.meet([f"/ip4/198.41.0.{number}/tcp/1"], source_of(f"198.41.0.{number}"))
    for number in range(3 * KEPT_HOSTS):
        await door.meet([f"/ip4/192.88.98.{number}/tcp/1"], source_of("203.0.113.66"))
    assert sorted(door._hosts.values()) == sorted(
        [*(f"198.41.0.{n}" for n in range(KEPT_HOSTS - 2)), *["203.0.113.66"] * 2]
    )


async def test_without_libp2p_there_is_no_part_and_a_word_says_how_to_have_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dht_door, "find_spec", lambda name: None)
    door = DhtDoor((), ())
    await door.run()
    with trio.fail_after(1):
        assert await door.find(bytes(32)) == ()
    assert [record.message for record in caplog.records] == [
        "no part in the DHT, which needs libp2p: pip install 'p2pinfer[node]' brings it; links go on"
    ]


async def test_a_peer_that_only_dials_has_no_process() -> None:
    async with open_libp2p_network(KEYS[0], Collector()):
        assert not parts()


@pytest.mark.parametrize(
    "parse",
    [
        lambda: size_of((MAX_FRAME + 1).to_bytes(4, "big")),
        lambda: unpack(b"\xc1"),
        lambda: unpack(b"\x91" * 5000),
        lambda: addresses_in([b"bytes"]),
        lambda: addresses_in(["a"] * (MOST + 1)),
        lambda: addresses_in(["\u00e9" * 129]),
    ],
)
def test_what_is_no_message_is_a_value_error(parse: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        parse()


def test_what_is_packed_is_unpacked() -> None:
    frame = pack((1, "meet", ["/ip4/127.0.0.1/tcp/9"]))
    assert size_of(frame[:4]) == len(frame) - 4
    assert unpack(frame[4:]) == [1, "meet", ["/ip4/127.0.0.1/tcp/9"]]
