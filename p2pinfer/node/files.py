"""Files of models for peers that lack them: manifest, tokenizer, and whatever else the store holds (manifest.md, 6)."""

import trio

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import ModelError, Refused
from p2pinfer.core.messages import MAX_PART, AskFile, FilePart
from p2pinfer.core.units import ModelId
from p2pinfer.disk.store import Store
from p2pinfer.overlay.exchange import Ask
from p2pinfer.overlay.link import Link


class Files:
    """Answers AskFile from a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def answer(self, _link: Link, ask: Ask) -> FilePart:
        """Raises Refused (NOT_FOUND)."""
        assert isinstance(ask, AskFile)
        limit = min(ask.limit, MAX_PART)
        try:
            size, data = await trio.to_thread.run_sync(
                self._store.read_part, ModelId(ask.model), ask.name, ask.offset, limit
            )
        except ModelError:  # its words are for the owner: they name folders of this machine
            raise Refused("this peer does not have that file", Code.NOT_FOUND) from None
        return FilePart(ask.call, size, data)
