"""Ids go first on a slow line: files and rows of prompts take what they leave (protocols/wire.md, 5)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.values.units import Codec, PeerKey, SessionId
from p2pinfer.core.wire.messages import MAX_PART, AskFile, FilePart
from p2pinfer.core.wire.pace import MIN_FRAME, MIN_WINDOW
from p2pinfer.core.wire.session_messages import Forward, SessionMessage
from p2pinfer.node.files import ModelFiles
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.outbox import Priority
from tests.core.paid_route import key
from tests.node.test_files import ASK, OneFile

RATE, LATENCY_S = 1_250_000, 0.025  # 10 Mbit/s
ROW = 700  # bytes, of a small model
EVERY_S = 0.04  # an id
PROMPT = 1_500
CHAT, LONG = SessionId(bytes(16)), SessionId(b"l" * 16)


class Chat:
    """Sends a row now and then, and notes at the other end how long each was under way."""

    def __init__(self) -> None:
        self.took_s: list[float] = []
        self._sent_s: list[float] = []

    def take(self, _: PeerKey, message: SessionMessage) -> None:
        assert isinstance(message, Forward)
        self.took_s.append(trio.current_time() - self._sent_s[message.position])

    async def send(self, link: Link, count: int) -> None:
        for position in range(count):
            self._sent_s.append(trio.current_time())
            link.send_nowait(Forward(CHAT, 0, 0, position, 1, 0, Codec.BF16, bytes(ROW)), Priority.DECODE)
            await trio.sleep(EVERY_S)


@asynccontextmanager
async def open_node(chat: Chat) -> AsyncIterator[tuple[Exchange, Link, Link]]:
    """A client's exchange, its link to a node with a file, and the node's to it; the line between them is slow."""
    world = MemoryWorld(latency_s=LATENCY_S, rate=RATE)
    async with trio.open_nursery() as nursery:
        node, client = Exchange(nursery), Exchange(nursery)
        node.answer(AskFile, ModelFiles(OneFile()).answer)  # type: ignore[arg-type]
        async with (
            open_memory_network(world, key("node").public, node) as at_node,
            open_memory_network(world, key("client").public, client) as at_client,
        ):
            link = await at_client.dial(at_node.addresses()[0])
            with (
                client.open_session(CHAT, [link.peer], chat.take),
                client.open_session(LONG, [link.peer], lambda *_: None),
            ):
                back = at_node.link(key("client").public)
                assert back is not None
                yield client, link, back
        nursery.cancel_scope.cancel()


async def ask_for_files(client: Exchange, link: Link, _: Link) -> None:
    """As much at once as is answered, in parts as long as they may be."""

    async def ask(at: int) -> None:
        while True:
            question = partial(AskFile, model=ASK.model, name=ASK.name, offset=at * MAX_PART, limit=MAX_PART)
            part = await client.call(link, question, FilePart)
            assert len(part.data) <= MIN_FRAME

    async with trio.open_nursery() as nursery:
        for at in range(2):
            for _ in range(8):
                nursery.start_soon(ask, at)


async def send_prompts(_: Exchange, __: Link, back: Link) -> None:
    """Rows of long prompts, as a session sends them."""
    while True:
        rows = Forward(LONG, 0, 0, 0, PROMPT, 0, Codec.BF16, bytes(PROMPT * ROW))
        for part in rows.split(back.frame_budget()):
            await back.send(part, Priority.PREFILL)


@pytest.mark.parametrize("fill", [ask_for_files, send_prompts])
async def test_an_id_waits_for_what_is_under_way_alone(
    autojump_clock: MockClock, fill: Callable[[Exchange, Link, Link], Awaitable[None]]
) -> None:
    """WIRE-17, WIRE-29: whatever else there is to be sent, from the first moment on."""
    chat = Chat()
    async with open_node(chat) as (client, link, back), trio.open_nursery() as nursery:
        nursery.start_soon(fill, client, link, back)
        await chat.send(back, 200)
        nursery.cancel_scope.cancel()
    assert len(chat.took_s) > 190
    assert max(chat.took_s) < LATENCY_S + (MIN_WINDOW + MIN_FRAME) / RATE
    later_s = sorted(chat.took_s[50:])
    assert later_s[len(later_s) // 2] < LATENCY_S + 0.035
