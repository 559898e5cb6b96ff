"""How often nodes wake up that nobody asks anything: timers that buy nothing show here, whoever sets them."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from .clocks import clock_that_waits
from .town import Town

SETTLE_S = 120.0  # after the start, and the client's last answer
WATCH_S = 600.0


class Moments(trio.abc.Instrument):
    """The times at which something happened, by a clock that jumps from one to the next."""

    def __init__(self) -> None:
        self.seen: set[float] = set()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.seen.add(trio.current_time())


@pytest.mark.parametrize(("nodes", "clients", "a_minute"), [(1, 0, 20), (1, 1, 40), (3, 0, 85)])
async def test_who_idles_wakes_up_seldom(
    autojump_clock: MockClock, tmp_path: Path, nodes: int, clients: int, a_minute: int
) -> None:
    """Moments of all of them together."""
    town = Town(tmp_path)
    with clock_that_waits(autojump_clock):
        woken = await count_moments(town, nodes, clients)
    assert woken / (WATCH_S / 60) <= a_minute


async def count_moments(town: Town, nodes: int, clients: int) -> int:
    """In WATCH_S of nodes with the whole model, and clients that asked once."""
    async with AsyncExitStack() as stack:
        bootstrap: tuple[str, ...] = ()
        for number in range(nodes):
            node = await stack.enter_async_context(town.node(f"node {number}", "0:3", bootstrap))
            bootstrap = node.addresses
        for number in range(clients):
            client = await stack.enter_async_context(town.client(f"client {number}", bootstrap))
            await client.answer("abc", max_tokens=4)
        await trio.sleep(SETTLE_S)
        trio.lowlevel.add_instrument(moments := Moments())
        await trio.sleep(WATCH_S)
        trio.lowlevel.remove_instrument(moments)
    return len(moments.seen)
