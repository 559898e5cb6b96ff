"""The client for scripts and notebooks that do not speak Trio: the same calls, blocking.

with connect(bootstrap=[...]) as swarm:
    print(swarm.generate("What is a DHT?"))
"""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar, Unpack

import trio

from p2pinfer.client.answer import Answer
from p2pinfer.client.api import Client, open_client
from p2pinfer.client.request import Options, Prompt
from p2pinfer.core.values.errors import P2pinferError, UsageError, sole

T = TypeVar("T")


@contextmanager
def connect(
    data: Path | None = None,
    store: Path | None = None,
    bootstrap: Sequence[str] = (),
    *,
    max_cost: int | None = None,
    mdns: bool = True,
) -> Iterator["Swarm"]:
    """A client of the swarm for as long as the block lasts; arguments as of `open_client`.

    It runs in a thread of its own, so it works where an event loop is running already. Raises UsageError; and at the
    end of the block whatever ended the client before that.
    """
    opened: list[Swarm] = []
    failed: list[BaseException] = []
    begun = Event()  # it is open, or has ended

    async def run() -> None:
        async with open_client(data, store, bootstrap, max_cost=max_cost, mdns=mdns) as client:
            opened.append(swarm := Swarm(client, trio.lowlevel.current_trio_token()))
            begun.set()
            await swarm.wait_closed()

    def thread() -> None:
        try:
            trio.run(run)
        except BaseException as error:  # noqa: BLE001 - it is raised where the thread was started
            failed.append(error)
        finally:
            begun.set()

    worker = Thread(target=thread, name="p2pinfer client")
    worker.start()
    try:
        begun.wait()
        if opened:
            yield opened[0]
    finally:
        if begun.is_set():
            _close(opened)
            worker.join()
            if failed:
                raise sole(failed[0])
        else:  # Ctrl-C: nobody waits for the client, but it keeps the process until it has closed
            Thread(target=_close_begun, args=(begun, opened), name="p2pinfer client closing").start()


class Swarm:
    """A client that blocks. Its calls may come from any thread; an interrupted one gives its answer up."""

    def __init__(self, client: Client, token: trio.lowlevel.TrioToken) -> None:
        self._client = client
        self._token = token
        self._closed = trio.Event()
        self._calls: set[trio.CancelScope] = set()  # touched in the client's thread alone

    async def wait_closed(self) -> None:
        """In the client's thread: wait for `close`."""
        await self._closed.wait()

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> str:
        """The text of the answer. Raises as `Client.generate` does."""
        return self.answer(prompt, **options).text

    def answer(self, prompt: Prompt, **options: Unpack[Options]) -> Answer:
        """The whole answer, with its numbers. Raises as `Client.generate` does."""
        return self._call(lambda: self._client.answer(prompt, **options))

    def answers(self, prompts: Sequence[Prompt], **options: Unpack[Options]) -> list[Answer | P2pinferError]:
        """Answers to many prompts, asked at once, in their order; in the place of one that failed stands why."""
        return self._call(lambda: self._client.answers(prompts, **options))

    def close(self) -> None:
        """End the client, and give up what it still answers; the block of `connect` does it."""
        with suppress(trio.RunFinishedError):  # it has ended already
            trio.from_thread.run_sync(self._close, trio_token=self._token)

    def _close(self) -> None:
        self._closed.set()
        for scope in self._calls:
            scope.cancel()

    def _call(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        scope = trio.CancelScope()
        try:
            return trio.from_thread.run(lambda: self._run(call, scope), trio_token=self._token)
        except BaseExceptionGroup as group:
            raise sole(group) from None
        except (trio.RunFinishedError, trio.Cancelled):
            raise _closed() from None
        except KeyboardInterrupt:
            with suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(scope.cancel, trio_token=self._token)
            raise

    async def _run(self, call: Callable[[], Coroutine[Any, Any, T]], scope: trio.CancelScope) -> T:
        """In the client's thread: the call, until it is done or given up."""
        if self._closed.is_set():
            raise _closed()
        self._calls.add(scope)
        try:
            with scope:
                return await call()
        finally:
            self._calls.discard(scope)
        raise _closed()


def _close(opened: "Sequence[Swarm]") -> None:
    for swarm in opened:
        swarm.close()


def _close_begun(begun: Event, opened: "Sequence[Swarm]") -> None:
    """Close the client as soon as it is open, if it comes to that."""
    begun.wait()
    _close(opened)


def _closed() -> UsageError:
    return UsageError(
        "the swarm is closed: ask inside the block of `with connect(...)`, and wait there for all answers"
    )
