"""How long a token waits behind four who fetch files over the same uplink, in the lab (issue 11, part 4).

While the node has a session open, one part of a file is on the line at a time; while it has none they are as many as
the links take, which is what stood before each token without that. Both in turn, in one run.
Called with a part to play (`python -m tests.bench.files`) it is a process on a host of the lab.
"""

import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Final

import trio

from p2pinfer.core.values.errors import LinkDead, Refused
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, PeerKey, SessionId
from p2pinfer.core.wire.messages import AskFile, FilePart
from p2pinfer.core.wire.pace import MIN_FRAME
from p2pinfer.core.wire.session_messages import Forward, SessionMessage
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.outbox import Priority
from tests.bench.figures import Bound, Figure, quantile
from tests.lab.lab import Host, Lab, Line, build_switch, open_lab

ABOUT = "a token behind four who fetch files, 10 Mbit/s up; needs root"
HOME: Final = Line(up_mbit=10, down_mbit=40, delay_ms=12.5, queue_ms=2_000)  # home routers queue long
DELAY_S: Final = 0.025
PORT: Final = 4001
NODE, CHAT = PrivateKey(b"n" * 32), PrivateKey(b"c" * 32)
FETCHERS: Final = 4
AHEAD: Final = 8  # parts that each asks for at once
SESSION: Final = SessionId(bytes(16))
ROW: Final = Forward(SESSION, 0, 0, 0, 1, 0, Codec.BF16, bytes(700))
EVERY_S: Final = 0.04
SPELL: Final = 100  # tokens
SPELLS: Final = 5  # of each kind, in turn
SETTLE: Final = 25  # tokens of each, behind what the spell before left
MOST_S: Final = 0.035  # beyond the path's delay; a token waits so long behind one link's files


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        hosts = [Host(name, HOME) for name in ("node", "chat", "fetch")]
        with open_lab(build_switch(Path(folder)), hosts) as lab:
            said = await _play(lab)
    took_s, rates = said
    (wait_s, words), (_, words_before) = (_waits(took_s[first::2], rates[first::2]) for first in (0, 1))
    detail = f"{words}; each link for itself: {words_before}; {SPELLS} spells of {SPELL} tokens of each, in turn"
    return [Figure(f"token behind {FETCHERS} fetchers, p50", 1000 * wait_s, Bound.BELOW, 1000 * MOST_S, "ms", detail)]


def _waits(spells: Sequence[Sequence[float]], rates: Sequence[float]) -> tuple[float, str]:
    """The median of what tokens waited beyond the path's delay; and it in words, with the bytes of files."""
    settled = [sorted(spell[SETTLE:]) for spell in spells]
    half_s, late_s = (median(quantile(spell, share) for spell in settled) - DELAY_S for share in (0.5, 0.95))
    return half_s, f"{1000 * half_s:.1f} ms, p95 {1000 * late_s:.1f} ms, files {median(rates) * 8 / 1e6:.1f} Mbit/s"


async def _play(lab: Lab) -> tuple[list[list[float]], list[float]]:
    """Seconds that each token took, by spell, and bytes of files a second; the first spell has a session."""
    address = f"/ip4/{lab.address('node')}/tcp/{PORT}"
    async with _open_process(lab, "node", address) as node:
        ready = (await node.receive_some()).decode().strip()
        async with _open_process(lab, "fetch", ready), _open_process(lab, "chat", ready) as chat:
            rates = json.loads(await _read_all(node))
            return json.loads(await _read_all(chat)), rates


@asynccontextmanager
async def _open_process(lab: Lab, part: str, address: str) -> AsyncIterator[trio.abc.ReceiveStream]:
    command = [*lab.enter(part), sys.executable, "-m", "tests.bench.files", part, address]
    process = await trio.lowlevel.open_process(command, stdout=PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


async def _read_all(stream: trio.abc.ReceiveStream) -> str:
    return b"".join([data async for data in stream]).decode()


# The node: it sends a row now and then, and files to who asks


async def node(address: str) -> None:
    sent = 0

    async def answer(link: Link, ask: Ask) -> FilePart:
        nonlocal sent
        assert isinstance(ask, AskFile)
        await trio.lowlevel.checkpoint()
        sent += ask.limit
        return FilePart(ask.call, 1 << 40, bytes(ask.limit))

    rates = []
    async with _open(NODE, [address]) as (exchange, network):
        exchange.answer(AskFile, answer)
        came = trio.Event()
        exchange.greeters.append(lambda _: came.set() if len(network.links()) > FETCHERS else None)
        print(network.addresses()[0], flush=True)
        await came.wait()
        await trio.sleep(1)
        link = network.link(CHAT.public)
        assert link is not None
        for spell in range(2 * SPELLS):
            with exchange.open_session(SESSION, [CHAT.public]) if spell % 2 == 0 else _no_session():
                before, began_s = sent, time.monotonic()
                for _ in range(SPELL):
                    link.send_nowait(replace(ROW, rows=_stamped()), Priority.DECODE)
                    await trio.sleep(EVERY_S)
                rates.append((sent - before) / (time.monotonic() - began_s))
    print(json.dumps(rates), flush=True)


@contextmanager
def _no_session() -> Iterator[None]:
    yield


def _stamped() -> bytes:
    """A row that says when it left; the hosts of a lab have one clock."""
    return time.monotonic_ns().to_bytes(8, "big").ljust(len(ROW.rows), b"\0")


# Its client


async def chat(address: str) -> None:
    took_s: list[float] = []
    done = trio.Event()

    def take(_: PeerKey, message: SessionMessage) -> None:
        assert isinstance(message, Forward)
        took_s.append((time.monotonic_ns() - int.from_bytes(message.rows[:8], "big")) / 1e9)
        if len(took_s) == 2 * SPELLS * SPELL:
            done.set()

    async with _open(CHAT) as (exchange, network):
        with exchange.open_session(SESSION, [NODE.public], take):
            await network.dial(address)
            await done.wait()
    print(json.dumps([took_s[at : at + SPELL] for at in range(0, len(took_s), SPELL)]), flush=True)


# Those who fetch


async def fetch(address: str) -> None:
    async with trio.open_nursery() as nursery:
        for at in range(FETCHERS):
            nursery.start_soon(_fetch, PrivateKey(bytes([at]) * 32), address)


async def _fetch(key: PrivateKey, address: str) -> None:
    question = partial(AskFile, model=bytes(32), name="any", offset=0, limit=MIN_FRAME)
    async with _open(key) as (exchange, network), trio.open_nursery() as nursery:
        link = await network.dial(address)

        async def ask() -> None:
            while True:
                try:
                    await exchange.call(link, question, FilePart)
                except Refused:  # it took too long
                    continue
                except LinkDead:
                    return

        for _ in range(AHEAD):
            nursery.start_soon(ask)


@asynccontextmanager
async def _open(key: PrivateKey, listen: Sequence[str] = ()) -> AsyncIterator[tuple[Exchange, Network]]:
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        async with open_libp2p_network(key, exchange, Listening(listen, mdns=False, dht=False)) as network:
            yield exchange, network
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run({"node": node, "chat": chat, "fetch": fetch}[sys.argv[1]], sys.argv[2])
