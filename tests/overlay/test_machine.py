"""The time of day and lots: the fake goes with trio's clock, and nobody asks a machine but the one handed down."""

import re
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

import p2pinfer
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import new_greeting
from p2pinfer.overlay.machine import JumpingClock, Machine
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.core.paid_route import NOW

from .conftest import KEYS

PACKAGE = Path(p2pinfer.__file__).parent
ASKS = re.compile(r"\btime\.time\b|\burandom\b|\bSystemRandom\b|^import random|^import secrets", re.MULTILINE)
HOURS = 3_600


async def test_a_jumping_clock_goes_on_with_the_mock_clock_and_jumps(autojump_clock: MockClock) -> None:
    clock = JumpingClock(NOW)
    await trio.sleep(10)
    assert clock() == NOW + 10
    clock.jump(-HOURS)
    await trio.sleep(5)
    assert clock() == NOW + 15 - HOURS


async def test_peers_of_one_process_have_a_time_of_day_each(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world, clock = MemoryWorld(), JumpingClock(NOW)
    ours, ahead = (new_greeting(Machine(one)) for one in (clock, JumpingClock(NOW + HOURS)))
    receivers = Exchange(nursery), Exchange(nursery)
    async with (
        open_memory_network(world, KEYS[0].public, receivers[0], ours) as near,
        open_memory_network(world, KEYS[1].public, receivers[1], ahead) as far,
    ):
        link = await near.dial(far.addresses()[0])
        clock.jump(HOURS)
        assert link.clock_offset_s == HOURS
        assert near.machine.unix() == far.machine.unix()


def test_a_seed_makes_the_boot_and_all_that_follows() -> None:
    one, other = (new_greeting(Machine(lots=Random(7))) for _ in range(2))
    assert one.boot == other.boot
    assert one.machine.lots.random() == other.machine.lots.random()


@pytest.mark.parametrize("layer", ["node", "client", "overlay"])
def test_nobody_asks_another_machine(layer: str) -> None:
    """But where sockets and other processes begin, which no simulation has."""
    files = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in (PACKAGE / layer).rglob("*.py")}
    asking = {name for name, text in files.items() if ASKS.search(text)}
    assert {name for name in asking if not name.startswith("overlay/libp2p/")} - {"overlay/machine.py"} == set()
