"""Files of models for peers that lack them: manifest, tokenizer, and whatever else the store holds (manifest.md, 6).

They give way to sessions: parts are cut so that nothing waits long behind one, and bytes are bounded by network and in
all, the more so while somebody's answer is computed. Those that leave this machine are within the owner's ration, too.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.source import Scope
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import ModelError, Refused
from p2pinfer.core.values.units import ModelId
from p2pinfer.core.wire.messages import AskFile, FilePart
from p2pinfer.disk.store import Store
from p2pinfer.node.ration import Ration
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.limits import (
    ALL_FILES_BURST,
    ALL_FILES_RATE,
    FILE_READERS,
    FILES_BURST,
    FILES_RATE,
    LEAST_FILE_PART,
    MAX_FILE_PART,
    SESSION_SHARE,
)
from p2pinfer.overlay.link import Link

FOR_CLIENTS: Final = frozenset(("", TOKENIZER))  # manifest and tokenizer


class ModelFiles:
    """Answers AskFile from a store. is_busy: sessions are open. ration: None without a limit by the day"""

    def __init__(self, store: Store, is_busy: Callable[[], bool] = lambda: False, ration: Ration | None = None) -> None:
        self._store = store
        self._is_busy = is_busy
        self._ration = ration
        self._bytes = Allowance(Rate(FILES_BURST, FILES_RATE), Rate(ALL_FILES_BURST, ALL_FILES_RATE))
        self._readers = trio.CapacityLimiter(FILE_READERS)  # of its own: the journal has threads, too

    async def answer(self, link: Link, ask: Ask) -> FilePart:
        """Raises Refused (NOT_FOUND, or BUSY after too many bytes)."""
        assert isinstance(ask, AskFile)
        limit = min(ask.limit, MAX_FILE_PART, link.frame_budget())
        ration = None if link.source.scope is Scope.LOOPBACK else self._ration
        if ration is not None:
            ration.check(1, link.source.key, weights=ask.name not in FOR_CLIENTS)
        cost = max(limit, LEAST_FILE_PART) * (SESSION_SHARE if self._is_busy() else 1)
        if not self._bytes.take(link.source, trio.current_time(), cost):
            raise Refused("too much of files at once", Code.BUSY, 0.5)
        part = partial(self._store.read_part, ModelId(ask.model), ask.name, ask.offset, limit)
        try:
            size, data = await self._read(part)
        except ModelError:  # its words are for the owner: they name folders of this machine
            link.charge_look()
            raise Refused("this peer does not have that file", Code.NOT_FOUND) from None
        if len(data) < LEAST_FILE_PART:  # too few to pay for the look
            link.charge_look()
        if ration is not None:
            await ration.take(len(data), link.source.key, weights=ask.name not in FOR_CLIENTS)
        return FilePart(ask.call, size, data)

    async def _read(self, part: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        """A disk that hangs keeps its reader, and nobody who waits for it."""
        read = partial(trio.to_thread.run_sync, part, abandon_on_cancel=True, limiter=self._readers)  # type: ignore[call-arg]  # old stubs
        return await read()
