"""A client keeps what it learnt of nodes for the next one of its data folder, while it runs and at its end."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from p2pinfer.disk.experience_file import ExperienceFile
from p2pinfer.overlay.sleep import Sleep

SAVE_S: Final = 30.0  # every so often, where there is news: who is killed forgets no more


@asynccontextmanager
async def open_experience(path: Path, unix: Callable[[], int], sleep: Sleep) -> AsyncIterator[ExperienceFile]:
    """Experience with nodes, for as long as the block lasts; what is learnt in it is there for the next one.

    unix:  the time of day
    sleep: of this machine
    """
    kept = ExperienceFile(path, sleep.passed_s)

    def now() -> int:
        return max(0, unix())

    async def keep() -> None:
        while True:
            await trio.sleep(SAVE_S)
            await kept.save(now())

    await kept.load(now())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep)
        try:
            yield kept
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):  # a disk, and no peer
                await kept.save(now())
