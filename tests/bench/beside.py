"""A chat over three stages beside four clients with prompts of 1,500 positions, and these beside the chat (issue 11).

In each run the chat is alone, then the prompts are, then both run together. Of the chat the times between its ids
count, of the prompts the positions a second that are through all stages.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import trio

from p2pinfer.client.api import Client, open_client
from p2pinfer.core.values.units import Numerics
from tests.bench.figures import Bound, Figure, quantile
from tests.bench.setting import RUNS, ask, demo_model, open_stages

ABOUT = "a chat over three stages beside four clients with prompts of 1,500, one thread each"
CHAT: Final = "The history of the motor car begins with"
TOKENS: Final = 128  # of the chat alone, and of each of its answers beside the prompts
CLIENTS: Final = 4
PROMPTS: Final = 2  # of each of these clients in a run, one after the other
TEXT: Final = Path(__file__).with_name("text.txt").read_text()[:6_800]  # some 1,500 positions
MEDIAN, TAIL = 0.5, 0.95
BOUNDS: Final = {MEDIAN: 3.0, TAIL: 5.0}  # times what it is alone
GOODPUT: Final = 0.8  # of the prompts' alone


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds between the chat's ids, and positions of prompts a second."""

    chat: Sequence[float]
    prompts: float
    chat_beside: Sequence[float]
    prompts_beside: float


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    async with open_stages(3, Numerics.I8G32_1) as (chat, nodes), _clients(nodes[0].address) as clients:
        await ask(chat, CHAT)
        await _prompt(clients, 1)
        runs = [await _one(chat, clients) for _ in range(RUNS)]
    return [*(_chat_figure(runs, share, bound) for share, bound in BOUNDS.items()), _prompts_figure(runs)]


@asynccontextmanager
async def _clients(bootstrap: str) -> AsyncIterator[Sequence[Client]]:
    store, _ = demo_model()
    with TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        async with AsyncExitStack() as stack:
            opened = (open_client(Path(folder) / str(at), store.root, [bootstrap]) for at in range(CLIENTS))
            yield [await stack.enter_async_context(one) for one in opened]


async def _one(chat: Client, clients: Sequence[Client]) -> Run:
    alone = _between(await ask(chat, CHAT, TOKENS))
    prompts = await _prompt(clients, PROMPTS)
    beside: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_chatting, chat, beside)
        prompts_beside = await _prompt(clients, PROMPTS)
        nursery.cancel_scope.cancel()
    return Run(alone, prompts, beside, prompts_beside)


async def _keep_chatting(client: Client, between: list[float]) -> None:
    """The times go into `between` as the ids come."""
    while True:
        async with client.open_answer(CHAT, max_tokens=TOKENS) as stream:
            running, latest, count = stream._running, 0.0, 0
            while not running.generation.over:
                changed = running.changed
                await changed.wait()
                if len(running.generation.ids) > count:
                    now, new = time.perf_counter(), len(running.generation.ids) - count
                    between += [(now - latest) / new] * new if count else []
                    latest, count = now, count + new


async def _prompt(clients: Sequence[Client], count: int) -> float:
    """Positions a second of all clients, with `count` prompts of each."""
    positions = 0

    async def one(at: int, client: Client) -> None:
        nonlocal positions
        for number in range(count):
            answer = await client.answer(f"{at} {number} {TEXT}", max_tokens=1)
            positions += answer.prompt_tokens

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for at, client in enumerate(clients):
            nursery.start_soon(one, at, client)
    return positions / (time.perf_counter() - began)


def _between(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def _chat_figure(runs: Sequence[Run], share: float, bound: float) -> Figure:
    pairs = [(quantile(run.chat_beside, share), quantile(run.chat, share)) for run in runs]
    ratios = [beside / alone for beside, alone in pairs]
    beside_s, alone_s = (median(one) for one in zip(*pairs, strict=True))
    detail = (
        f"{1000 * beside_s:.1f} ms of {1000 * alone_s:.1f} ms; {len(runs)} pairs {min(ratios):.2f} to {max(ratios):.2f}"
    )
    return Figure(f"chat beside prompts, p{100 * share:.0f}", beside_s / alone_s, Bound.BELOW, bound, "x", detail)


def _prompts_figure(runs: Sequence[Run]) -> Figure:
    beside, alone = median(run.prompts_beside for run in runs), median(run.prompts for run in runs)
    ratios = [run.prompts_beside / run.prompts for run in runs]
    detail = f"{beside:.0f} of {alone:.0f} positions/s; {len(runs)} pairs {min(ratios):.2f} to {max(ratios):.2f}"
    return Figure("prompts beside a chat", beside / alone, Bound.AT_LEAST, GOODPUT, "x", detail)
