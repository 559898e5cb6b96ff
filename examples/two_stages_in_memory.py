"""A whole swarm in one process: two nodes with half a model each, a client, and a network in memory. No sockets.

python examples/two_stages_in_memory.py [--store DIR]

The engines are real, and so are contracts and receipts: only the wire is missing. The demo model is imported if the
store lacks it. This is how to try an idea on a swarm before it meets a network.
"""

import argparse
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from p2pinfer.client.api import open_client
from p2pinfer.client.setup import World
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.places import default_store
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.daemon import Node, Surroundings, open_node
from p2pinfer.node.settings import NetworkSettings as NetworkSettings
from p2pinfer.node.settings import Serve, Settings
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network

PROMPT = "Once upon a time, two parked cars"


def demo_model(store: Store) -> StoredModel:
    try:
        return store.find("smollm2-135m-instruct")
    except ModelError:
        return import_model("demo", store)


async def run(store: Store, max_tokens: int) -> None:
    model = demo_model(store)
    half, layers = model.manifest.layers // 2, model.manifest.layers
    world = MemoryWorld(latency_s=0.005)  # who can reach whom, and how fast

    def network(key: PrivateKey, exchange: Exchange, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
        return open_memory_network(world, key.public, exchange, greeting=greeting)

    def node(data: Path, span: str, bootstrap: tuple[str, ...] = ()) -> AbstractAsyncContextManager[Node]:
        serve = Serve(model=model.id.hex(), layers=span, threads=1, memory_mb=1_000)
        settings = Settings(NetworkSettings(bootstrap=bootstrap), serve)
        return open_node(settings, data, store, Surroundings(network))

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        async with (
            node(root / "first", f"0:{half}") as first,
            node(root / "second", f"{half}:{layers}", first.addresses) as second,
            open_client(root / "client", store.root, first.addresses, around=World(network)) as client,
        ):
            print(f"{first.span} and {second.span} of {model.name} meet in memory\n\n{PROMPT}", end="", flush=True)
            async for piece in client.generate(PROMPT, max_tokens=max_tokens):
                print(piece, end="", flush=True)
            await client.wait_settled()
            print("\n")
            for peer in (first, second):
                earned = await peer.journal.read(lambda reader: reader.earned())
                for one in earned:
                    print(f"layers {peer.span} earned {one.receipt.record.amount} nano-credits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=default_store(), help="folder of models")
    parser.add_argument("--max-tokens", type=int, default=32)
    asked = parser.parse_args()
    trio.run(run, Store(asked.store), asked.max_tokens)


if __name__ == "__main__":
    main()
