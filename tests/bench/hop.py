"""How long 1 KB takes over a warm link between two processes, there and back (no figure of its own in the issue).

Called with an address to answer (`python -m tests.bench.hop`), it is the other process: it returns what it gets.
"""

import sys
import time
from collections.abc import Collection, Sequence
from subprocess import PIPE
from typing import Final

import trio

from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, PeerKey, SessionId
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import Forward
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority
from tests.bench.figures import Bound, Figure, quantile

ABOUT = "1 KB over a warm link between two processes, there and back"
NEAR, FAR = PrivateKey(b"n" * 32), PrivateKey(b"f" * 32)
SESSION: Final = SessionId(bytes(16))
MESSAGE: Final = Forward(SESSION, 0, 0, 0, 1, 0, Codec.BF16, bytes(1000))
WARM: Final = 100
COUNT: Final = 1000


class Echo:
    """Returns every message to its sender."""

    def on_link(self, link: Link) -> None:
        """Links need nothing."""

    def on_message(self, link: Link, message: Message) -> None:
        link.send_nowait(message, Priority.DECODE)

    def on_closed(self, link: Link, why: LinkDead) -> None:
        """Nothing waits on it."""

    def needed(self) -> Collection[PeerKey]:
        return ()


class Waiting(Echo):
    """Wakes who waits for the message that comes back."""

    def __init__(self) -> None:
        self.came = trio.Event()

    def on_message(self, link: Link, message: Message) -> None:
        self.came.set()
        self.came = trio.Event()


def run() -> Sequence[Figure]:
    echoes_s = trio.run(_echoes)
    p50, p99 = quantile(echoes_s, 0.5), quantile(echoes_s, 0.99)
    detail = f"one way p50 {500 * p50:.2f} ms; p99 {1000 * p99:.2f} ms there and back; {len(echoes_s)} in turn"
    return [Figure("1 KB echo between processes, p50", 1000 * p50, Bound.BELOW, 0.7, "ms", detail)]


async def _echoes() -> list[float]:
    waiting = Waiting()
    process = await trio.lowlevel.open_process([sys.executable, "-m", "tests.bench.hop"], stdout=PIPE)
    assert process.stdout is not None
    try:
        address = (await process.stdout.receive_some()).decode().strip()
        async with open_libp2p_network(NEAR, waiting) as network:
            link = await network.dial(address)
            echoes_s = []
            for _ in range(WARM + COUNT):
                came, began = waiting.came, time.perf_counter()
                link.send_nowait(MESSAGE, Priority.DECODE)
                await came.wait()
                echoes_s.append(time.perf_counter() - began)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
    return echoes_s[WARM:]


async def _answer() -> None:
    async with open_libp2p_network(FAR, Echo(), Listening(["/ip4/127.0.0.1/tcp/0"])) as network:
        print(network.addresses()[0], flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_answer)
