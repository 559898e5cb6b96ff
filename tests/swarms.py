"""A swarm of a tiny model on the memory network: real nodes and real engines, started once for many tests.

It lives in an event loop of its own, in a thread, since an engine takes seconds to start; tests hand it functions to
run. What else a test opens there (clients, strangers) it closes again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import mkdtemp
from threading import Thread
from typing import Any, TypeVar

import trio

from p2pinfer.client.api import Client, open_client
from p2pinfer.client.setup import World
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.daemon import Node, Surroundings, open_node
from p2pinfer.node.settings import Settings, change
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from tests.disk.tiny import EVEN, tiny_folder
from tests.live.processes import NUMERICS

LAYERS = 3
TRUST = {"cadence": 4, "max_chunk": 8, "window": 24, "client_window": 24 * 16, "client_window_max": 24 * 64}

T = TypeVar("T")


@dataclass
class TinySwarm:
    """Nodes that serve a tiny model, and a peer through which they met."""

    world: MemoryWorld
    root: Path
    store: Store
    model: StoredModel
    numerics: str = NUMERICS
    bootstrap: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()

    def network(self, key: PrivateKey, exchange: Exchange, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
        return open_memory_network(self.world, key.public, exchange, greeting=greeting)

    def client(self, data: Path | None = None, store: Path | None = None) -> AbstractAsyncContextManager[Client]:
        """A client with a folder of its own, in the nodes' store unless one is given."""
        folder = Path(mkdtemp(dir=self.root))
        return open_client(data or folder, store or self.store.root, self.bootstrap, around=World(self.network))

    def node(
        self,
        data: Path,
        layers: str = "",
        bootstrap: Sequence[str] | None = None,
        machine: Machine | None = None,
        **changes: Any,
    ) -> AbstractAsyncContextManager[Node]:
        """One more node; `changes` go into its settings, as section_name."""
        met = self.bootstrap if bootstrap is None else tuple(bootstrap)
        settings = change(tiny_settings(self.model, layers, self.numerics), "network", bootstrap=met)
        for name, value in changes.items():
            section, _, key = name.partition("_")
            settings = change(settings, section, **{key: value})
        return open_node(settings, data, self.store, Surroundings(self.network, machine or Machine()))


def tiny_settings(model: StoredModel, layers: str = "", numerics: str = NUMERICS) -> Settings:
    settings = change(Settings(), "serve", model=model.id.hex(), layers=layers, threads=1, numerics=numerics)
    return change(change(settings, "trust", **TRUST), "serve", memory_mb=64)


@asynccontextmanager
async def open_tiny_swarm(
    root: Path, spans: Sequence[str], numerics: str = NUMERICS, **config: Any
) -> AsyncIterator[TinySwarm]:
    """A peer to meet, and a node for each span, started at once; `config` goes into the model's.

    numerics: the class of all of them
    """
    store = Store(root / "store")
    folder = tiny_folder(root / "tiny", **EVEN | {"num_hidden_layers": LAYERS} | config)
    swarm = TinySwarm(MemoryWorld(), root, store, import_model(str(folder), store), numerics)
    async with AsyncExitStack() as stack:
        boot = await stack.enter_async_context(open_node(Settings(), root / "boot", store, Surroundings(swarm.network)))
        swarm.bootstrap = boot.addresses
        nodes: dict[int, Node] = {}
        stop = trio.Event()

        async def run(number: int, span: str, *, task_status: trio.TaskStatus[None]) -> None:
            async with swarm.node(root / f"node{number}", span) as nodes[number]:
                task_status.started()
                await stop.wait()

        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                for number, span in enumerate(spans):
                    starting.start_soon(nursery.start, run, number, span)
            swarm.nodes = tuple(nodes[number] for number in range(len(spans)))
            yield swarm
            stop.set()


class Loop:
    """An event loop in a thread; `run` runs a function there and waits for it."""

    def __init__(self, token: trio.lowlevel.TrioToken, swarm: TinySwarm) -> None:
        self._token = token
        self.swarm = swarm

    def run(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        return trio.from_thread.run(function, *args, trio_token=self._token)


@contextmanager
def running_swarm(root: Path, spans: Sequence[str]) -> Iterator[Loop]:
    """A swarm in a thread for as long as the block lasts."""
    started: SimpleQueue[Loop | BaseException] = SimpleQueue()
    stop = trio.Event()

    async def main() -> None:
        async with open_tiny_swarm(root, spans) as swarm:
            started.put(Loop(trio.lowlevel.current_trio_token(), swarm))
            await stop.wait()

    def thread() -> None:
        try:
            trio.run(main)
        except BaseException as error:  # noqa: BLE001 - it is raised where the thread was started, or at its end
            started.put(error)

    worker = Thread(target=thread, name="tiny swarm")
    worker.start()
    loop = started.get()
    if isinstance(loop, BaseException):
        raise loop
    try:
        yield loop
    finally:
        trio.from_thread.run_sync(stop.set, trio_token=loop._token)
        worker.join()
    if not started.empty() and isinstance(error := started.get(), BaseException):
        raise error
