"""How long it takes to choose a route among 10,000 offers of every kind."""

import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Final

from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.routes.routing import Candidate, Demand, choose_route
from p2pinfer.core.values.units import PeerKey, Span
from tests.bench.figures import Bound, Figure, quantile

ABOUT = "a route among 10,000 offers of every kind"
LAYERS: Final = (30, 80)
OFFERS: Final = 10_000
RUNS: Final = 21
WORTH: Final = 1_000.0


def run() -> Sequence[Figure]:
    return [_figure(layers) for layers in LAYERS]


def _figure(layers: int) -> Figure:
    chance = Random(layers)
    pool, load = offers(layers, chance), Demand(layers, 100, 128, 610, WORTH)
    took_s, stages = [], Counter[int]()
    for _ in range(RUNS):
        began = time.process_time()
        stages[len(choose_route(pool, load, chance.random, most=1e6))] += 1
        took_s.append(time.process_time() - began)
    detail = (
        f"{len({one.span for one in pool})} spans; worst of {RUNS} {1000 * max(took_s):.0f} ms; stages {dict(stages)}"
    )
    return Figure(f"route of {layers} layers, p50", 1000 * quantile(took_s, 0.5), Bound.BELOW, 50, "ms", detail)


def offers(layers: int, chance: Random) -> list[Candidate]:
    """Honest thirds and wholes, spans of every kind, fakes for nothing, and greedy ones."""
    return [_offer(number, layers, chance) for number in range(OFFERS)]


def _offer(number: int, layers: int, chance: Random) -> Candidate:
    kind = number % 4
    third = layers // 3
    first = third * chance.randrange(3) if kind == 0 else chance.randrange(layers)
    last = min(layers, first + third + layers % 3) if kind == 0 else chance.randint(first + 1, layers)
    ask = (80_000, chance.randrange(1_000_000), chance.randrange(100), 1 << 31)[kind]
    return Candidate(
        key=PeerKey(number.to_bytes(32, "big")),
        span=Span(first, last),
        prices=Prices(ask // 4, ask, 0, ask),
        flat=0,
        prefill_rate=chance.uniform(100, 5_000),
        decode_rate=chance.uniform(5, 200),
        uplink=chance.choice((1.25e6, 1.25e7)),
        rtt_s=chance.uniform(0.01, 0.2),
        queue_s=chance.choice((0.0, 0.1)),
    )
