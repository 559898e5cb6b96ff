"""The scripts of protocols/vectors/wire.json, replayed over the memory network by links and exchange."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, RemoteProtocolError
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.frames import PREFIX, FrameDecoder, encode_frame
from p2pinfer.core.wire.message_codec import decode_message
from p2pinfer.core.wire.messages import Ack, AskContacts, Contacts, Message, Ping, Pong
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.exchange import Exchange, Incoming
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Pipe
from tests.protocols.reading import PROTOCOLS

Case = Mapping[str, Any]

SCRIPTS: Final = json.loads((PROTOCOLS / "vectors" / "wire.json").read_text(encoding="utf-8"))["scripts"]
SOON_S: Final = 0.5  # by the clock that jumps: what follows at once has come by then


class Stream:
    """A scripted peer's end of a stream: it keeps what it hears, but for Acks and the Pings that it answers."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.silent = False
        self.acks = 0
        self.opened_s = trio.current_time()
        self.pings: list[float] = []
        self.received = 0  # bytes
        self.heard: deque[Message] = deque()

    async def listen(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := await self.pipe.read():
                self.received += len(data)
                decoder.feed(data)
                for message in iter(decoder.next_message, None):
                    await self._hear(message)
        except trio.BrokenResourceError:
            return  # closed

    async def _hear(self, message: Message) -> None:
        match message:
            case Ping(at_us=at_us):
                self.pings.append(trio.current_time() - self.opened_s)
                if not self.silent:
                    await self.pipe.write(encode_frame(Pong(at_us)))
            case Ack():
                self.acks += 1
            case _:
                self.heard.append(message)

    async def next(self) -> Message:
        with trio.fail_after(SOON_S):
            while not self.heard:  # noqa: ASYNC110 - the clock jumps
                await trio.sleep(0.01)
        return self.heard.popleft()


class Replay:
    """One script, step by step."""

    def __init__(self, case: Case, world: MemoryWorld, network: Network, exchange: Exchange, nursery: trio.Nursery):
        self.keys = {name: PeerKey(bytes.fromhex(key)) for name, key in case["keys"].items()}
        self.names = {key: name for name, key in self.keys.items()}
        self.network = network
        self.exchange = exchange
        self.nursery = nursery
        self.grounds = {name: MemoryGround(world, key) for name, key in self.keys.items() if name != "here"}
        world.grounds.update({self.keys[name]: ground for name, ground in self.grounds.items()})
        self.streams: dict[str, Stream] = {}
        self.told: list[str] = []
        self.sessions = ExitStack()
        self.incoming: trio.MemoryReceiveChannel[Incoming] | None = None
        self.over = self.rests = self.slow = False
        exchange.answer(AskContacts, self.answer)

    async def answer(self, peer: PeerKey, ask: Ask) -> Contacts:
        if self.slow:
            await trio.sleep_forever()
        return Contacts(ask.call, (), ())

    async def do(self, step: Case) -> None:
        match dict(step):
            case {"opens": stream, "peer": peer}:
                self._add(stream, await self.grounds[peer].dial(self.network.addresses()[0]))
            case {"dials": peer, "stream": stream}:
                await self._dial(peer, stream)
            case {"says": stream, "frames": frames}:
                await self.streams[stream].pipe.write(bytes.fromhex(frames))
            case {"hears": stream, "frame": frame}:
                assert encode_frame(await self.streams[stream].next()).hex() == frame
            case {"hears": stream, "name": name}:
                message = await self.streams[stream].next()
                assert type(message).__name__ == name
                assert "code" not in step or Code.read(getattr(message, "code", 0)).label == step["code"]
            case {"acks": count, "stream": stream}:
                assert self.streams[stream].acks == count
            case {"pings": at_s, "stream": stream}:
                assert self.streams[stream].pings == pytest.approx(at_s, abs=0.1)
            case {"acknowledges": stream}:
                ack = Ack(self.streams[stream].received, int(trio.current_time() * 1e6))
                await self.streams[stream].pipe.write(encode_frame(ack))
            case {"closes": stream}:
                await self.streams[stream].pipe.abort()
            case {"silent": stream}:
                self.streams[stream].silent = True
            case {"answers": stream}:
                self.streams[stream].silent = False
            case {"session": session, "peers": peers}:
                keys = [self.keys[peer] for peer in peers]
                states: list[Callable[[], bool]] = [lambda: self.over, lambda: self.rests]
                opened = self.exchange.open_session(SessionId(bytes.fromhex(session)), keys, None, *states)
                self.incoming = self.sessions.enter_context(opened)
            case {"ended": _}:
                self.over = True
            case {"rests": rests}:
                self.rests = rests
            case {"sends": peer, "frame": frame}:
                link = self.network.link(self.keys[peer])
                assert link is not None
                link.send_nowait(decode_message(bytes.fromhex(frame)[PREFIX:]))
            case {"takes": peer, "frame": frame}:
                assert self.incoming is not None
                with trio.fail_after(SOON_S):
                    sender, message = await self.incoming.receive()
                assert isinstance(message, Message)
                assert (self.names[sender], encode_frame(message).hex()) == (peer, frame)
            case {"wait_s": seconds}:
                await trio.sleep(seconds)
            case {"asks": peer, "name": "AskContacts"}:
                self.nursery.start_soon(self._ask, peer)
            case {"told": what}:
                await wait_all_tasks_blocked()
                assert self.told == [what]
            case {"slow": True}:
                self.slow = True
            case _:
                raise AssertionError(f"a step that nobody knows: {step}")
        await wait_all_tasks_blocked()

    async def end(self, linked: list[str]) -> None:
        await wait_all_tasks_blocked()
        assert sorted(self.names[link.peer] for link in self.network.links()) == linked
        assert {name: list(stream.heard) for name, stream in self.streams.items() if stream.heard} == {}
        self.sessions.close()

    def _add(self, name: str, pipe: Pipe) -> None:
        self.streams[name] = Stream(pipe)
        self.nursery.start_soon(self.streams[name].listen)

    async def _dial(self, peer: str, stream: str) -> None:
        """Let here dial; the stream that comes of it, if any does, gets its name."""
        ground = self.grounds[peer]

        async def dial() -> None:
            try:
                await self.network.dial(ground.addresses()[0])
            except LinkDead:
                return  # the script says what is linked in the end

        self.nursery.start_soon(dial)
        with trio.move_on_after(SOON_S):
            self._add(stream, await ground.accept())

    async def _ask(self, peer: str) -> None:
        link = self.network.link(self.keys[peer])
        assert link is not None
        try:
            self.told.append(type(await self.exchange.call(link, AskContacts, Contacts)).__name__)
        except (LinkDead, Refused, RemoteProtocolError) as error:
            self.told.append(error.code.label)


@pytest.mark.parametrize("case", SCRIPTS, ids=lambda case: case["name"])
async def test_a_script_of_links_is_followed(autojump_clock: MockClock, case: Case) -> None:
    world = MemoryWorld()
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        async with open_memory_network(world, PeerKey(bytes.fromhex(case["keys"]["here"])), exchange) as network:
            replay = Replay(case, world, network, exchange, nursery)
            for step in case["steps"]:
                await replay.do(step)
            await replay.end(case["linked"])
            nursery.cancel_scope.cancel()


def test_no_two_scripts_have_one_name() -> None:
    assert len({case["name"] for case in SCRIPTS}) == len(SCRIPTS)
