"""Which stages a generation goes through, as a function of what is on offer (DESIGN 2 and 5).

A route minimises price + value of time x predicted time + risk. The times follow network-model's formulas for one
stream: S·c + S·L + bytes over uplinks. Every stage adds its own share, so the best route is a shortest path from layer
0 to the last; among routes within 10 % of it one is drawn, so that load spreads. Pure: offers are collected, and the
random number drawn, by the client.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Final

from p2pinfer.core.errors import NoRoute
from p2pinfer.core.placement import gaps
from p2pinfer.core.pricing import Prices, Usage, amount_of
from p2pinfer.core.units import PeerKey, Span

NEAR_BEST: Final = 1.10
MAX_DRAWN: Final = 64  # routes to draw from; enumerating more would not spread load better
UNMEASURED_RTT_S: Final = 0.060  # a home link's
LEAST_RATE: Final = 1e-3  # positions/s assumed of a node that claims none


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may be a stage. Rates are positions/s through its whole span."""

    key: PeerKey
    span: Span
    prices: Prices
    flat: int  # nano-credits
    prefill_rate: float
    decode_rate: float
    uplink: float  # bytes/s; 0 unknown
    rtt_s: float  # to the client
    queue_s: float
    risk: float = 0.0  # nano-credits this node's unreliability costs


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked: P prompt ids, N ids at most, bytes of a row between stages, nano-credits a second is worth."""

    layers: int
    prompt: int
    tokens: int
    row_bytes: int
    second_worth: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A candidate and the part of its span it serves in a route."""

    candidate: Candidate
    span: Span


Route = tuple[Stage, ...]


def predicted_s(stage: Stage, load: Load) -> float:
    """Seconds this stage adds to a generation: queue, computing, sending, and its share of the way round."""
    candidate, alone = stage.candidate, len(stage.span) == load.layers
    share = len(stage.span) / len(candidate.span)
    computing = share * (
        load.prompt / max(candidate.prefill_rate, LEAST_RATE) + load.tokens / max(candidate.decode_rate, LEAST_RATE)
    )
    last = stage.span.last == load.layers
    positions = load.prompt + load.tokens
    sending = 0.0 if last or not candidate.uplink else positions * load.row_bytes / candidate.uplink
    # A round passes S hops; each stage has half a round trip on either side of it. A solo stage has no ring.
    around = candidate.rtt_s / 2 * (1 if alone else load.tokens)
    return candidate.queue_s + computing + sending + around


def price_of(stage: Stage, load: Load) -> int:
    """Nano-credits this stage asks for the whole generation, if all tokens are used."""
    layers = len(stage.span)
    tail = stage.span.last == load.layers
    usage = Usage(layers * load.prompt, layers * max(0, load.tokens - 1), 0, load.tokens if tail else 0)
    return amount_of(stage.candidate.prices, stage.candidate.flat, usage)


def cost(stage: Stage, load: Load) -> float:
    """What `stage` adds to a route's cost, in nano-credits."""
    return price_of(stage, load) + load.second_worth * predicted_s(stage, load) + stage.candidate.risk


def choose_route(candidates: Sequence[Candidate], load: Load, random: float) -> Route:
    """One of the routes within 10 % of the cheapest, drawn with `random` in [0, 1).

    Raises NoRoute naming the layers that nobody serves.
    """
    if missing := gaps(load.layers, [candidate.span for candidate in candidates]):
        raise NoRoute(f"nobody serves layers {', '.join(map(str, missing))} of {load.layers}")
    stages = _stages(candidates, load)
    to_end = _costs_to_end(stages, load.layers)
    # The least cost may use one peer twice, which no route does: then look further
    for limit in (NEAR_BEST * to_end[0], inf):
        if routes := list(islice(_within(stages, to_end, limit, load.layers), MAX_DRAWN)):
            return routes[int(random * len(routes))]
    raise NoRoute(f"no route of different peers covers {load.layers} layers")


Priced = dict[int, list[tuple[float, Stage]]]  # by first layer, cheapest first


def _stages(candidates: Sequence[Candidate], load: Load) -> Priced:
    """Every way to use a candidate between two layers where some span begins or ends."""
    cuts = {0, load.layers}
    for candidate in candidates:
        cuts |= {candidate.span.first, candidate.span.last}
    found: Priced = {cut: [] for cut in cuts}
    for candidate in candidates:
        inside = sorted(cut for cut in cuts if candidate.span.first <= cut <= candidate.span.last)
        for at, first in enumerate(inside):
            for last in inside[at + 1 :]:
                stage = Stage(candidate, Span(first, last))
                found[first].append((cost(stage, load), stage))
    for stages in found.values():
        stages.sort(key=lambda priced: priced[0])
    return found


def _costs_to_end(stages: Priced, layers: int) -> dict[int, float]:
    """The least cost from each cut to the end; stages lead to greater cuts only, so one pass backwards does."""
    to_end = {layers: 0.0}
    for cut in sorted(stages, reverse=True):
        if cut != layers:
            to_end[cut] = min((price + to_end[stage.span.last] for price, stage in stages[cut]), default=inf)
    return to_end


def _within(
    stages: Priced, to_end: dict[int, float], limit: float, layers: int, first: int = 0, route: Route = ()
) -> Iterator[Route]:
    """Routes that cost at most `limit` from layer `first` on; no peer serves twice in one."""
    if first == layers:
        yield route
        return
    used = {stage.candidate.key for stage in route}
    for price, stage in stages[first]:
        last = stage.span.last
        if price + to_end[last] <= limit * (1 + 1e-9) and stage.candidate.key not in used:
            yield from _within(stages, to_end, limit - price, layers, last, (*route, stage))
