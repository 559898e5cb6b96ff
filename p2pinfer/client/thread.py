"""A client in a thread of its own, for programs that do not run Trio: they start calls there, and get futures.

It has an event loop of its own, so that links are kept and receipts are signed in time whatever the program's loop
does, and what is owed is signed after that loop has ended. It ends when it is closed, and with the main thread:
`atexit` would be too late, for Python waits for threads before it, and starts none any more.
"""

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from threading import Thread, main_thread
from typing import Final, TypeVar, Unpack

import trio

from p2pinfer.client.answer import Answer, AnswerStream
from p2pinfer.client.api import Client
from p2pinfer.client.request import Options, Prompt
from p2pinfer.core.values.errors import UsageError, sole

LOOK_S: Final = 0.2  # between looks whether the main thread has ended

T = TypeVar("T")


class ClientThread:
    """Of one client.

    opened: done when it is open; with what kept it from that
    ended:  done when it has closed and all is paid; with what ended it before
    """

    def __init__(self, open_: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
        self.opened: Future[None] = Future()
        self.ended: Future[None] = Future()
        for future in (self.opened, self.ended):
            future.set_running_or_notify_cancel()  # whoever stops waiting for it cancels nothing
        self._open = open_
        self._is_closing = False
        self._closes = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._client: Client | None = None
        self._calls: trio.Nursery | None = None
        self._cut_off: list[Future[object]] = []  # calls that hear how the client ended, once it is known
        self._failure: BaseException | None = None

    def begin(self) -> None:
        """Open the client. Whoever is interrupted here has to close it, for it may have begun."""
        Thread(target=self._run, name="p2pinfer client").start()

    def close_nowait(self) -> None:
        """Close the client as soon as it is open, and give up what it still answers; see `ended`. From any thread."""
        self._is_closing = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._closes.set)

    def start(self, call: Callable[[Client], Awaitable[T]]) -> Future[T]:
        """Begin a call of the client, once it is open; whoever cancels the future gives it up. From any thread."""
        assert self._token is not None
        future: Future[T] = Future()
        try:
            self._token.run_sync_soon(self._begin, call, future)
        except trio.RunFinishedError:
            self._cut(future)
        return future

    # In the thread

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 - it is raised where the client is used
            self._failure = sole(error)
        for future in self._cut_off:
            self._cut(future)
        for waited in (self.opened, self.ended):
            if not waited.done():
                waited.set_exception(self._failure) if self._failure else waited.set_result(None)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with self._open() as self._client, trio.open_nursery() as calls:
            self._calls = calls
            try:
                calls.start_soon(self._close_with_main_thread)
                self.opened.set_result(None)
                if not self._is_closing:  # since before there was a token
                    await self._closes.wait()
            finally:
                self._calls = None
                calls.cancel_scope.cancel()

    async def _close_with_main_thread(self) -> None:
        while main_thread().is_alive():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(LOOK_S)
        self._closes.set()

    def _begin(self, call: Callable[[Client], Awaitable[T]], future: Future[T]) -> None:
        if self._calls is not None:
            self._calls.start_soon(self._see_through, call, future)
        else:
            self._cut_off.append(future)  # type: ignore[arg-type]

    async def _see_through(self, call: Callable[[Client], Awaitable[T]], future: Future[T]) -> None:
        assert self._client is not None
        scope = trio.CancelScope()
        future.add_done_callback(lambda done: self._give_up(scope) if done.cancelled() else None)
        try:
            with scope:
                found = await call(self._client)
                if future.set_running_or_notify_cancel():
                    future.set_result(found)
        except Exception as error:  # noqa: BLE001 - it is raised where the call came from
            if future.set_running_or_notify_cancel():
                future.set_exception(sole(error))
        except BaseException:  # the client ends
            self._cut_off.append(future)  # type: ignore[arg-type]
            raise

    # End of the part in the thread

    def _give_up(self, scope: trio.CancelScope) -> None:
        assert self._token is not None
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(scope.cancel)

    def _cut(self, future: "Future[T] | Future[object]") -> None:
        """The client has ended: tell a call how."""
        if future.set_running_or_notify_cancel():
            future.set_exception(self._failure or _closed())


class Feed:
    """The pieces of one answer, on their way out of the client's thread.

    take:   hears each piece, in that thread; and None at the end, in whatever thread
    whole:  the answer; whoever cancels it gives the answer up
    stream: the answer as it comes; None before its first id
    """

    def __init__(
        self, thread: ClientThread, prompt: Prompt, options: Options, take: Callable[[str | None], object]
    ) -> None:
        self.stream: AnswerStream | None = None
        self._take = take
        self.whole: Future[Answer] = thread.start(lambda client: self._run(client, prompt, **options))
        self.whole.add_done_callback(lambda _: take(None))

    async def _run(self, client: Client, prompt: Prompt, **options: Unpack[Options]) -> Answer:
        async with client.open_answer(prompt, **options) as self.stream:
            async for piece in self.stream:
                self._take(piece)
            await self.stream.wait_paid()
            return self.stream.answer


def _closed() -> UsageError:
    return UsageError(
        "the swarm is closed: connect again; inside the block of `with connect(...)`, and before close(), wait there "
        "for all answers"
    )
