"""How often a client asks a node whose line crawls, beside an idle twin: once, to find out.

Two nodes of one machine; to one of them the client's link leads through a relay that passes on 0.05 Mbit/s each way.
"""

import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from p2pinfer.client.api import Client, open_client
from p2pinfer.core.values.keys import peer_name
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store
from tests.bench.figures import Bound, Figure
from tests.disk.tiny import tiny_folder
from tests.hostile.victims import open_victim

ABOUT = "asks that go to a crawling node beside its idle twin"
RATE: Final = 6_250  # bytes/s: 0.05 Mbit/s
PIECE: Final = 312  # bytes that the relay passes on at once: a twentieth of a second's
ASKS: Final = 12
TOKENS: Final = 32


def run() -> Sequence[Figure]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pinfer-bench-")))
        store = Store(root / "store")
        import_model(str(tiny_folder(root / "tiny", num_hidden_layers=3)), store)
        slow, twin = (stack.enter_context(open_victim(root / name, store.root)) for name in ("slow", "twin"))
        return trio.run(_run, root, store.root, slow.address, twin.address)


async def _run(root: Path, store: Path, slow: str, twin: str) -> Sequence[Figure]:
    async with open_relay(slow) as through:
        async with open_client(root / "client", store, [through, twin]) as client:
            asked = [await _ask(client, peer_name_of(slow)) for _ in range(ASKS)]
        anew = []
        for _ in range(ASKS):  # of what a client knows the folder alone outlives it, as it outlives a process
            async with open_client(root / "anew", store, [through, twin]) as client:
                anew.append(await _ask(client, peer_name_of(slow)))
    return [_figure("", asked), _figure(", a client for each", anew)]


def _figure(how: str, asked: Sequence[tuple[bool, float]]) -> Figure:
    detail = " ".join(f"{'SLOW ' if crawled else ''}{took_s:.2f}" for crawled, took_s in asked)
    crawls = sum(crawled for crawled, _ in asked)
    return Figure(f"asks of a crawling node{how}", crawls, Bound.BELOW, 2, "", f"of {len(asked)}, seconds: {detail}")


async def _ask(client: Client, slow: str) -> tuple[bool, float]:
    began = time.monotonic()
    answer = await client.answer("hello", max_tokens=TOKENS)
    return slow in {peer_name(stage.peer) for stage in answer.stages}, time.monotonic() - began


def peer_name_of(address: str) -> str:
    return address.rpartition("/p2p/")[2]


@asynccontextmanager
async def open_relay(address: str) -> AsyncIterator[str]:
    """The address of a relay to a node."""
    port = int(address.split("/tcp/")[1].partition("/")[0])

    async def relay(near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, near, far)
            nursery.start_soon(_pass_on, far, near)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, relay, 0, host="127.0.0.1"))
        yield f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}/p2p/{peer_name_of(address)}"
        nursery.cancel_scope.cancel()


async def _pass_on(near: trio.SocketStream, far: trio.SocketStream) -> None:
    try:
        while data := await near.receive_some(PIECE):
            await trio.sleep(len(data) / RATE)
            await far.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
