"""Bytes per token and boundary, for each codec (figure 3).

Counted is everything that the link from the first stage to the second hands to its pipe between two tokens of an
answer: frames of rows with their lengths and headers, and what the link itself says (acks, pings). The ground adds to
each write below that: noise 18 bytes and yamux 12, and TCP/IP.
"""

import tempfile
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from p2pinfer.client.api import open_client
from p2pinfer.client.setup import World
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, row_bytes
from p2pinfer.node.daemon import Node, Surroundings, open_node
from p2pinfer.node.settings import NetworkSettings as NetworkSettings
from p2pinfer.node.settings import Serve, Settings
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from tests.bench.figures import Bound, Figure
from tests.bench.setting import FIRST, MEMORY_MB, demo_model

ABOUT = "bytes the link of a boundary hands to its pipe, per token"
PROMPT = "The history of the motor car begins with"
TOKENS = 112
CODECS = (Codec.Q8O4, Codec.BF16, Codec.F32)


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    store, model = demo_model()
    world = MemoryWorld()

    def network(key: PrivateKey, exchange: Exchange, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
        return open_memory_network(world, key.public, exchange, greeting=greeting)

    def node(data: Path, span: str, bootstrap: tuple[str, ...] = ()) -> AbstractAsyncContextManager[Node]:
        serve = Serve(model=model.id.hex(), layers=span, threads=1, memory_mb=MEMORY_MB)
        return open_node(Settings(NetworkSettings(bootstrap=bootstrap), serve), data, store, Surroundings(network))

    figures = []
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        async with (
            node(root / "a", "0:15") as first,
            node(root / "b", "15:30", first.addresses) as second,
            open_client(root / "client", store.root, first.addresses, around=World(network)) as client,
        ):
            for codec in CODECS:
                sent = []
                async with client.open_answer(PROMPT, max_tokens=FIRST + TOKENS, codec=codec.label) as stream:
                    running = stream._running
                    link = first._network.link(second.identity.key.public)
                    assert link is not None
                    while not running.generation.over:
                        changed = running.changed
                        if len(running.generation.ids) >= FIRST:
                            sent.append((len(running.generation.ids), link._pace.sent))
                        await changed.wait()
                    _ = stream.answer
                (begin, before), (end, after) = sent[0], sent[-1]
                payload = row_bytes(codec, model.manifest.hidden)
                figures.append(
                    Figure(
                        f"bytes per token and boundary, {codec.label}",
                        (after - before) / (end - begin),
                        Bound.BELOW,
                        1.06 * payload + 64,
                        "bytes",
                        f"payload {payload}, over {end - begin} tokens",
                    )
                )
    return figures
