"""Tells clients of this machine where the node is, while it runs, in its data folder (disk/whereabouts.py)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.keys import peer_name
from p2pinfer.disk.whereabouts import from_here, tell, untell
from p2pinfer.overlay.network import Network

LOOK_S: Final = 10.0  # between looks if the addresses have changed

logger = logging.getLogger(__name__)


async def keep_whereabouts(data: Path, network: Network, listened: Sequence[str]) -> None:
    """Until cancelled; then the file is gone. A disk that takes nothing costs the file, and not the node."""
    told: list[str] = []
    try:
        while True:
            here = from_here(listened, network.addresses(), peer_name(network.key))
            if here != told:
                told = here
                try:
                    await trio.to_thread.run_sync(tell, data, here)
                except OSError as error:
                    logger.warning("clients of this machine do not find the node by themselves: %s", error)
            await trio.sleep(LOOK_S)
    finally:
        untell(data)
