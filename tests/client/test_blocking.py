"""A client that ends by itself, below the blocking one: its failure is told, and by no call for ever waited."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pinfer.client import blocking
from p2pinfer.core.values.errors import JournalError, UsageError


class Asleep:
    """A client that never answers, and whose journal fails as soon as it is asked."""

    def __init__(self) -> None:
        self.asked = trio.Event()

    async def answer(self, prompt: str) -> None:
        self.asked.set()
        await trio.sleep_forever()


@asynccontextmanager
async def open_dying(*_: object, **__: object) -> AsyncIterator[Asleep]:
    client = Asleep()

    async def die() -> None:
        await client.asked.wait()
        raise JournalError("the disk is full")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(die)
        yield client


def test_what_ended_the_client_is_raised_at_the_end_of_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "open_client", open_dying)
    with pytest.raises(JournalError, match="the disk is full"), blocking.connect() as swarm:
        with pytest.raises(UsageError, match="the swarm is closed"):
            swarm.answer("hello")
        with pytest.raises(UsageError, match="the swarm is closed"):
            swarm.answer("again")


def test_it_is_raised_in_place_of_what_followed_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "open_client", open_dying)
    with pytest.raises(JournalError, match="the disk is full"), blocking.connect() as swarm:
        swarm.answer("hello")


@pytest.mark.parametrize("is_open", [False, True])
def test_a_client_whose_caller_was_interrupted_while_it_opened_closes(
    monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    """Also where it had just heard that it is open; else its thread would keep the process for ever."""
    interrupted, closed = threading.Event(), threading.Event()

    @asynccontextmanager
    async def open_slowly(*_: object, **__: object) -> AsyncIterator[Asleep]:
        if not is_open:
            await trio.to_thread.run_sync(interrupted.wait)
        yield Asleep()
        closed.set()

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if interrupted.is_set():
                return super().wait(timeout)
            if is_open:
                super().wait(10)
            interrupted.set()
            raise KeyboardInterrupt

    monkeypatch.setattr(blocking, "open_client", open_slowly)
    monkeypatch.setattr(blocking, "Event", Interrupted)
    with pytest.raises(KeyboardInterrupt), blocking.connect():
        raise AssertionError("it is not open")
    assert closed.wait(10)


def test_what_keeps_it_from_opening_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def open_never(*_: object, **__: object) -> AsyncIterator[Asleep]:
        await trio.lowlevel.checkpoint()
        raise UsageError("no such folder")
        yield Asleep()

    monkeypatch.setattr(blocking, "open_client", open_never)
    with pytest.raises(UsageError, match="no such folder"), blocking.connect():
        raise AssertionError("it is not open")
