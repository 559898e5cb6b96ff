"""The client for asyncio programs: the same calls, awaited.

async with aconnect(bootstrap=[...]) as swarm:
    async for text in swarm.stream("What is a DHT?"):
        print(text, end="")

It runs in a thread of its own (`thread.py`) and not as a guest of the program's loop: there it would miss its
deadlines whenever the program computes, and could sign nothing any more once `asyncio.run` is over.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self, TypeVar, Unpack
from weakref import finalize

import trio

from p2pinfer.client.answer import Answer
from p2pinfer.client.api import Client, open_client
from p2pinfer.client.request import Options, Prompt
from p2pinfer.client.setup import Setup
from p2pinfer.client.thread import ClientThread, Feed
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, P2pinferError, UsageError

T = TypeVar("T")


@asynccontextmanager
async def aconnect(
    data: Path | str | None = None,
    store: Path | str | None = None,
    bootstrap: Sequence[str] = (),
    **setup: Unpack[Setup],
) -> AsyncIterator["AsyncSwarm"]:
    """A client of the swarm for as long as the block lasts; arguments as of `connect`.

    Raises UsageError for what the user must mend; and at the end of the block whatever ended the client before that.
    """
    if trio.lowlevel.in_trio_task():  # type: ignore[attr-defined]  # old stubs
        raise UsageError("aconnect is for asyncio, and this is Trio: write `async with p2pinfer.open_client(...)`")
    thread = ClientThread(partial(open_client, data, store, bootstrap, **setup))
    thread.begin()
    try:
        await asyncio.wrap_future(thread.opened)
        yield AsyncSwarm(thread)
    finally:
        thread.close_nowait()
        await asyncio.shield(asyncio.wrap_future(thread.ended))


class AsyncSwarm:
    """A client of an asyncio program. A cancelled call gives its answer up; options and errors are those of `Swarm`."""

    def __init__(self, thread: ClientThread) -> None:
        self._thread = thread

    async def generate(self, prompt: Prompt, **options: Unpack[Options]) -> str:
        """The text of the answer."""
        return (await self.answer(prompt, **options)).text

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> "AsyncTextStream":
        """Pieces of the answer's text, as they come: `async for text in swarm.stream(prompt)`."""
        return AsyncTextStream(self._thread, prompt, options)

    async def answer(self, prompt: Prompt, **options: Unpack[Options]) -> Answer:
        """The whole answer, once it is paid, with its numbers."""
        return await self._call(lambda client: client.answer(prompt, **options))

    async def answers(self, prompts: Sequence[Prompt], **options: Unpack[Options]) -> list[Answer | P2pinferError]:
        """Answers to many prompts, asked at once, in their order; in the place of one that failed stands why."""
        return await self._call(lambda client: client.answers(prompts, **options))

    async def _call(self, call: Callable[[Client], Awaitable[T]]) -> T:
        return await asyncio.wrap_future(self._thread.start(call))


class AsyncTextStream:
    """An answer under way: `async for text in stream`, then `await stream.answer()`.

    Whoever leaves the loop early gives the answer up with `close`, at the end of `async with stream`, or by forgetting
    it. So does a wait for the next piece that is cancelled.
    """

    def __init__(self, thread: ClientThread, prompt: Prompt, options: Options) -> None:
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def take(piece: str | None) -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody reads any more
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        self._pieces = pieces
        self._feed = Feed(thread, prompt, options, take)
        finalize(self, self._feed.whole.cancel).atexit = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next piece of text. Raises what `Swarm` says, when the answer breaks off."""
        try:
            piece = await self._pieces.get()
        except asyncio.CancelledError:
            self.close()
            raise
        if piece is not None:
            return piece
        self._pieces.put_nowait(None)  # it stays at its end
        if not self._feed.whole.cancelled():
            self._feed.whole.result()
        raise StopAsyncIteration

    async def answer(self) -> Answer:
        """The whole answer, once it is there. Raises as the loop does, and GenerationFailed if it was given up."""
        if self._feed.whole.cancelled():
            raise GenerationFailed("the answer was given up", Code.CANCELLED)
        return await asyncio.wrap_future(self._feed.whole)

    def close(self) -> None:
        """Give the rest of the answer up; what was delivered is paid."""
        self._feed.whole.cancel()
