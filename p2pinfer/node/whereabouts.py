"""Tells clients and nodes of this machine where the node is, while it runs (disk/whereabouts.py, disk/roll.py)."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.values.keys import peer_name
from p2pinfer.disk.roll import enter, leave
from p2pinfer.disk.whereabouts import from_here, tell, untell
from p2pinfer.overlay.network import Network

ENTER_S: Final = 5.0  # for the roll; who is not on it is met by who knows the folder
LOOK_S: Final = 300.0  # between looks if the roll was lost, as where a user logs out, unless our addresses change

logger = logging.getLogger(__name__)


async def keep_whereabouts(data: Path, network: Network, listened: Sequence[str], on_roll: bool) -> None:
    """Until cancelled; then what was written is gone. A disk that takes nothing costs that, and not the node.

    on_roll: those find it, too, who do not know its data folder
    """
    told: list[str] = []
    said = ""
    now_here = partial(_from_here, network, listened)
    own = trio.CapacityLimiter(1)  # of threads that all share, one that hangs would be missing for good
    try:
        while True:
            here = now_here()
            if here != told:
                told = here
                try:
                    await trio.to_thread.run_sync(tell, data, here)
                except OSError as error:
                    logger.warning("clients of this machine do not find the node by themselves: %s", error)
            if on_roll:
                why, said = said, await _enter(data, own)
                if said and why != said:
                    logger.info("only who names %s finds this node without an address: %s", data, said)
            with trio.move_on_after(LOOK_S):
                while now_here() == told:
                    await network.wait_moved()
    finally:
        untell(data)
        if on_roll:
            leave(data)


def _from_here(network: Network, listened: Sequence[str]) -> list[str]:
    return from_here(listened, network.addresses(), peer_name(network.key))


async def _enter(data: Path, own: trio.CapacityLimiter) -> str:
    """Be on the roll, in one thread at a time. Returns a complaint.

    Nodes of folders that hang are looked at there after ours is entered, and before it where the roll is full.
    """
    with trio.move_on_after(ENTER_S):
        return await trio.to_thread.run_sync(enter, data, abandon_on_cancel=True, limiter=own)  # type: ignore[call-arg]  # old stubs
    return ""
