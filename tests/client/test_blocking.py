"""The client in a thread, below its blocking and its asyncio face: its failure is told, and nobody waits for ever."""

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import main_thread

import pytest
import trio

import p2pinfer
from p2pinfer.client import aio, blocking
from p2pinfer.client.request import Options
from p2pinfer.core.values.errors import JournalError, UsageError


class Asleep:
    """A client that never answers, and whose journal fails as soon as it is asked."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.waits, self.given_up = threading.Event(), threading.Event()

    async def answer(self, prompt: str) -> None:
        self.asked.set()
        self.waits.set()
        try:
            await trio.sleep_forever()
        finally:
            self.given_up.set()


@asynccontextmanager
async def open_dying(*_: object, **__: object) -> AsyncIterator[Asleep]:
    client = Asleep()

    async def die() -> None:
        await client.asked.wait()
        raise JournalError("the disk is full")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(die)
        yield client


def test_what_ended_the_client_is_raised_by_every_call_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "open_client", open_dying)
    swarm = blocking.connect()
    for prompt in ("hello", "again"):
        with pytest.raises(JournalError, match="the disk is full"):
            swarm.answer(prompt)
    with pytest.raises(JournalError, match="the disk is full"):
        swarm.close()


def test_it_is_raised_in_place_of_what_followed_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "open_client", open_dying)
    with pytest.raises(JournalError, match="the disk is full"), blocking.connect() as swarm:
        swarm.answer("hello")
    monkeypatch.setattr(aio, "open_client", open_dying)

    async def ask() -> None:
        async with aio.aconnect() as swarm:
            await swarm.answer("hello")

    with pytest.raises(JournalError, match="the disk is full"):
        asyncio.run(ask())


def test_an_interrupt_while_it_opens_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its thread would keep the process for ever."""
    interrupted, closed = threading.Event(), threading.Event()

    @asynccontextmanager
    async def open_slowly(*_: object, **__: object) -> AsyncIterator[Asleep]:
        signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)
        await trio.to_thread.run_sync(interrupted.wait)
        yield Asleep()
        closed.set()

    monkeypatch.setattr(blocking, "open_client", open_slowly)
    with pytest.raises(KeyboardInterrupt):
        blocking.connect()
    interrupted.set()
    assert closed.wait(10)


def test_what_keeps_it_from_opening_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def open_never(*_: object, **__: object) -> AsyncIterator[Asleep]:
        await trio.lowlevel.checkpoint()
        raise UsageError("no such folder")
        yield Asleep()

    monkeypatch.setattr(blocking, "open_client", open_never)
    with pytest.raises(UsageError, match="no such folder"):
        blocking.connect()


def test_a_swarm_that_nobody_holds_any_more_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a notebook's cell that runs again."""
    closed = threading.Event()

    @asynccontextmanager
    async def open_client(*_: object, **__: object) -> AsyncIterator[Asleep]:
        yield Asleep()
        closed.set()

    monkeypatch.setattr(blocking, "open_client", open_client)
    swarm = blocking.connect()
    assert not closed.is_set()
    del swarm
    gc.collect()
    assert closed.wait(10)


def test_a_cancelled_call_of_asyncio_gives_its_answer_up(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Asleep()

    @asynccontextmanager
    async def open_client(*_: object, **__: object) -> AsyncIterator[Asleep]:
        yield client

    async def ask() -> None:
        async with aio.aconnect() as swarm:
            asking = asyncio.create_task(swarm.answer("hello"))
            assert await asyncio.to_thread(client.waits.wait, 10)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await asyncio.to_thread(client.given_up.wait, 10)

    monkeypatch.setattr(aio, "open_client", open_client)
    asyncio.run(ask())


async def enter(form: object) -> None:
    async with form:  # type: ignore[attr-defined]
        pass


def test_who_takes_the_wrong_form_is_told_the_right_one() -> None:
    with pytest.raises(UsageError, match=r"an asyncio program writes `async with p2pinfer.aconnect"):
        asyncio.run(enter(p2pinfer.open_client()))
    with pytest.raises(UsageError, match=r"write `async with p2pinfer.open_client"):
        trio.run(enter, p2pinfer.aconnect())


def test_a_text_in_place_of_a_list_is_told() -> None:
    with pytest.raises(UsageError, match=r"bootstrap is a list of texts, not '/ip4.*: write \['/ip4"):
        p2pinfer.connect(bootstrap="/ip4/127.0.0.1/tcp/4001")


def test_a_keyword_that_is_none_is_told_beside_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"no option 'mndns'; do you mean mdns\?; there are max_cost, payer, mdns, "):
        p2pinfer.connect(mndns=False)  # type: ignore[call-arg]


@pytest.mark.parametrize("options", [Options, p2pinfer.Setup])
def test_the_help_describes_every_option(options: type) -> None:
    for name in options.__annotations__:
        assert f"    {name}:" in str(options.__doc__)
