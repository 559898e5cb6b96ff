"""Eight clients of three streams at nodes with room for six sessions, against one client with twenty streams there.

At one node that has the whole model, and over two that have half of it each.

Both ask in the same way, in turn: as soon as a stream has its answer it asks again. Answers that were complete within
WINDOW_S count; all are waited for.
"""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from p2pinfer.cli.processes import open_swarm
from p2pinfer.client.api import Client, open_client
from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.core.values.units import Numerics
from tests.bench.figures import Bound, Comparison, Figure
from tests.bench.setting import RUNS, demo_model

ABOUT = "eight clients of three streams at nodes with room for six, against one client with twenty streams"
CLIENTS: Final = 8
STREAMS: Final = 3
ALONE: Final = 20
SESSIONS: Final = 6
TOKENS: Final = 32
WINDOW_S: Final = 20.0
WAIT_S: Final = 60.0  # the patience of each request


@dataclass
class Got:
    """By the clients of one run, within its window: tokens of each, and what failed."""

    tokens: list[int]
    failures: list[str] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        return sum(self.tokens) / WINDOW_S

    @property
    def spread(self) -> float:
        """The greatest share as a multiple of the least."""
        return max(self.tokens) / max(1, min(self.tokens))


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    return [figure for stages in (1, 2) for figure in await _at(stages)]


async def _at(stages: int) -> Sequence[Figure]:
    crowds, alone = [], []
    async with _open_crowd(stages) as clients:
        await _ask_all(clients, 1, 2.0)  # everybody has its links and its tokenizer
        for _ in range(RUNS):
            crowds.append(await _ask_all(clients, STREAMS))
            alone.append(await _ask_all(clients[:1], ALONE))
    both = Comparison([one.per_s for one in crowds], [one.per_s for one in alone])
    spreads = sorted(one.spread for one in crowds)
    failures = [why for one in (*crowds, *alone) for why in one.failures]
    where = f"{stages} stage{'s' if stages > 1 else ''}"
    return [
        Figure(f"goodput of a crowd, of one client's, {where}", both.ratio, Bound.AT_LEAST, 0.9, "x", str(both)),
        Figure(f"spread of its shares, {where}", spreads[len(spreads) // 2], Bound.BELOW, 1.5, "x", _words(spreads)),
        Figure(f"answers that failed, {where}", len(failures), Bound.BELOW, 1, "", "; ".join(sorted(set(failures)))),
    ]


def _words(spreads: Sequence[float]) -> str:
    return ", ".join(f"{spread:.2f}" for spread in spreads)


@asynccontextmanager
async def _open_crowd(stages: int) -> AsyncIterator[list[Client]]:
    """Clients of a swarm of so many nodes, each with room for so many sessions."""
    store, model = demo_model()
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        config = root / "crowded.toml"
        config.write_text(f"[serve]\nmax_sessions = {SESSIONS}\n")
        options = ("--threads", "1", "--numerics", Numerics.I8G32_1.label, "--config", str(config))
        async with AsyncExitStack() as stack:
            bootstrap, *_ = await stack.enter_async_context(open_swarm(root, store.root, model, stages, *options))
            opened = [open_client(root / f"client{n}", store.root, [bootstrap.address]) for n in range(CLIENTS)]
            yield [await stack.enter_async_context(client) for client in opened]


async def _ask_all(clients: Sequence[Client], streams: int, window_s: float = WINDOW_S) -> Got:
    """Let each of the clients ask in so many streams until the window is over."""
    got = Got([0] * len(clients))
    ends = trio.current_time() + window_s

    async def one(number: int) -> None:
        while trio.current_time() < ends:
            try:
                answer = await clients[number].answer("The history of", max_tokens=TOKENS, wait_s=WAIT_S)
            except P2pinferError as error:
                got.failures.append(str(error))
                return
            if trio.current_time() < ends:
                got.tokens[number] += answer.tokens

    async with trio.open_nursery() as nursery:
        for number in range(len(clients)):
            for _ in range(streams):
                nursery.start_soon(one, number)
    return got
