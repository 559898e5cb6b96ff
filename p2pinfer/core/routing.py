"""The stages that a generation goes through, as a function of the offers.

A route minimises price + value of time x predicted time + risk. The times follow network-model's formulas for one
stream: S·c + S·L + bytes over uplinks. Every stage adds its own share, so the best route is a shortest path from layer
0 to the last; among routes within 10 % of it one is drawn, so that load spreads. None asks for more than the request's
price limit (`price_limit.py`). Pure: offers are collected, and the
random number drawn, by the client.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from typing import Final

from p2pinfer.core.errors import NoRoute, TooDear
from p2pinfer.core.placement import gaps
from p2pinfer.core.pricing import Prices, Usage, amount_of
from p2pinfer.core.units import PeerKey, Span

NEAR_BEST: Final = 1.10
MAX_DRAWN: Final = 64  # routes to draw from; enumerating more would not spread load better
UNMEASURED_RTT_S: Final = 0.060  # a home link's
LENT_WORTH: Final = 10  # what may be lost weighs so many times: else it would not be seen among routes near the best
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
    ahead: int = 0  # positions of the prompt that are signed on its word alone, before the first id


@dataclass(frozen=True, slots=True)
class Load:
    """A request: P prompt ids, N ids at most, bytes of a row between stages, nano-credits that a second is worth."""

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
    return ask_of(stage.candidate.prices, stage.candidate.flat, stage.span, load)


def ask_of(prices: Prices, flat: int, span: Span, load: Load) -> int:
    """Nano-credits that these layers cost at these prices, if all tokens are used."""
    tail = span.last == load.layers
    usage = Usage(len(span) * load.prompt, len(span) * max(0, load.tokens - 1), 0, load.tokens if tail else 0)
    return amount_of(prices, flat, usage)


def lent_to(stage: Stage) -> int:
    """Nano-credits that this stage may take and bring nothing."""
    candidate = stage.candidate
    usage = Usage(len(stage.span) * candidate.ahead, 0, 0, 0)
    return amount_of(candidate.prices, candidate.flat, usage) if candidate.ahead else 0


def cost(stage: Stage, load: Load) -> float:
    """Nano-credits that `stage` adds to a route's cost."""
    risk = stage.candidate.risk + LENT_WORTH * lent_to(stage)
    return price_of(stage, load) + load.second_worth * predicted_s(stage, load) + risk


def choose_route(
    candidates: Sequence[Candidate], load: Load, random: float, most: float = inf, spent: int = 0
) -> Route:
    """One of the routes within 10 % of the cheapest, drawn with `random` in [0, 1).

    most:  nano-credits that all stages may ask together
    spent: nano-credits that were taken off the limit before, by routes that failed

    Raises NoRoute naming the layers that nobody serves, TooDear naming `most` and what the cheapest route asks.
    """
    if missing := gaps(load.layers, [candidate.span for candidate in candidates]):
        raise NoRoute(f"nobody serves layers {', '.join(map(str, missing))} of {load.layers}")
    prices = _to_end(_stages(candidates, load, price_of), load.layers)
    if prices[0] > most:
        used = f", of which routes that failed took {spent:,} and brought nothing" if spent else ""
        raise TooDear(
            f"the cheapest route may cost {prices[0]:,.0f} nano-credits, and the limit is {most + spent:,.0f}{used}: "
            "ask for fewer tokens, or set another limit with --max-cost, max_cost= in the library"
        )
    # A fast route may be too dear where a slow one is not: then time counts for nothing
    for weighed in (load, replace(load, second_worth=0.0)):
        stages = _stages(candidates, weighed, cost)
        costs = _to_end(stages, load.layers)
        # The least cost may use one peer twice, which no route does: then look further
        for limit in (NEAR_BEST * costs[0], inf):
            search = _Search(load, stages, costs, prices)
            if routes := list(islice(search.routes(limit, most), MAX_DRAWN)):
                return routes[int(random * len(routes))]
    raise NoRoute(f"no route of different peers covers {load.layers} layers")


Priced = dict[int, list[tuple[float, Stage]]]  # by first layer, cheapest first


def _stages(candidates: Sequence[Candidate], load: Load, weigh: Callable[[Stage, Load], float]) -> Priced:
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
                found[first].append((weigh(stage, load), stage))
    for stages in found.values():
        stages.sort(key=lambda priced: priced[0])
    return found


def _to_end(stages: Priced, layers: int) -> dict[int, float]:
    """The least cost from each cut to the end; stages lead to greater cuts only, so one pass backwards does."""
    to_end = {layers: 0.0}
    for cut in sorted(stages, reverse=True):
        if cut != layers:
            to_end[cut] = min((price + to_end[stage.span.last] for price, stage in stages[cut]), default=inf)
    return to_end


@dataclass(frozen=True, slots=True)
class _Search:
    """costs, prices: the least of each from a cut to the end."""

    load: Load
    stages: Priced
    costs: dict[int, float]
    prices: dict[int, float]

    def routes(self, limit: float, most: float, first: int = 0, route: Route = ()) -> Iterator[Route]:
        """Routes from layer `first` on that cost at most `limit` and ask for at most `most`.

        No peer serves twice in one.
        """
        if first == self.load.layers:
            yield route
            return
        used = {stage.candidate.key for stage in route}
        for weight, stage in self.stages[first]:
            last, price = stage.span.last, price_of(stage, self.load)
            dear = weight + self.costs[last] > limit * (1 + 1e-9) or price + self.prices[last] > most
            if not dear and stage.candidate.key not in used:
                yield from self.routes(limit - weight, most - price, last, (*route, stage))
