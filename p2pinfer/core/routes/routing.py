"""The stages that a generation goes through, as a function of the offers.

A route minimises price + value of time x predicted time + risk. The times follow network-model's formulas for one
stream: S·c + S·L + bytes over uplinks. Every stage adds its own share, so the best route is a shortest path from layer
0 to the last (`paths.py`). That load spreads, one of the routes within 10 % of it is drawn, by chance: all costs are
raised a little, each by its own chance, before the path is sought; then every stage is drawn anew among all that serve
its layers as well. None asks for more than the request's price limit (`price_limit.py`). Pure: offers are collected by
the client, and chance is an argument.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from p2pinfer.core.records.pricing import Prices, Usage, amount_of
from p2pinfer.core.routes.paths import Leg, Line, shortest_path, value_at
from p2pinfer.core.swarm.placement import gaps
from p2pinfer.core.values.errors import NoRoute, TooDear
from p2pinfer.core.values.units import PRICE_UNIT, PeerKey, Span

NEAR_BEST: Final = 1.10
RAISED: Final = 1.05  # of a cost, at most, by chance; what is left of NEAR_BEST is for drawing the stages anew
LIVE_DRAWS: Final = 4  # a node that we know to live is drawn so many times as often as one that others speak of
WORTHS: Final = (1.0, 0.25, 0.06)  # of time, where the best routes ask for too much
MAX_ONCE: Final = 3  # peers of which a route is sought that uses them once, since the best uses them twice
LENT_WORTH: Final = 10  # what may be lost weighs so many times: else it would not be seen among routes near the best
LEAST_RATE: Final = 1e-3  # positions/s assumed of a node that claims none

Chance = Callable[[], float]  # numbers in [0, 1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may be a stage. Rates are positions/s through its whole span."""

    key: PeerKey
    span: Span
    prices: Prices
    flat: int  # nano-credits
    prefill_rate: float
    decode_rate: float
    uplink: float  # bytes/s, as far as is known; more than 0
    rtt_s: float  # to the client
    queue_s: float
    risk: float = 0.0  # nano-credits this node's unreliability costs
    ahead: int = 0  # positions of the prompt that are signed on its word alone, before the first id
    late_s: float = 0.0  # measured, beyond what is predicted else: until the first id
    slow_s: float = 0.0  # the same, for each id
    live: bool = False  # we know that it is there


@dataclass(frozen=True, slots=True)
class Demand:
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


def choose_route(
    candidates: Sequence[Candidate], load: Demand, chance: Chance, most: float = inf, spent: int = 0
) -> Route:
    """One of the routes within 10 % of the cheapest, drawn by chance.

    most:  nano-credits that all stages may ask together
    spent: nano-credits that were taken off the limit before, by routes that failed

    Raises NoRoute naming the layers that nobody serves, TooDear naming `most` and what the cheapest route asks.
    """
    for route in _routes(candidates, load, chance, most):
        if not route:
            missing = gaps(load.layers, (candidate.span for candidate in candidates))
            which = f"layers {', '.join(map(str, missing))}" if missing else "all layers in parts that fit each other"
            raise NoRoute(f"nobody serves {which} of {load.layers}")
        if (asked := sum(price_of(stage, load) for stage in route)) <= most:
            return route
    used = f", of which routes that failed took {spent:,} and brought nothing" if spent else ""
    raise TooDear(
        f"the cheapest route may cost {asked:,.0f} nano-credits, and the limit is {most + spent:,.0f}{used}: "
        "ask for fewer tokens, or set another limit with --max-cost, max_cost= in the library"
    )


def _routes(candidates: Sequence[Candidate], load: Demand, chance: Chance, most: float) -> Iterator[Route]:
    """Yield the best routes, then others that ask for less and less: a fast one may be too dear."""
    for worth in WORTHS:
        weighed = replace(load, second_worth=worth * load.second_worth)
        lines = [*_lines(candidates, weighed, weighed.second_worth)]
        near = _best(candidates, _raised(lines, chance), load.layers)
        yield _drawn_anew(near, candidates, lines, weighed, chance, most)
        yield _best(candidates, lines, load.layers)
    yield _best(candidates, [*_lines(candidates, load, 0.0, risk=0.0)], load.layers)


# What a stage adds to a route


def predicted_s(stage: Stage, load: Demand) -> float:
    """Seconds this stage adds to a generation: queue, computing, sending, and its share of the way round."""
    return value_at(_line(stage.candidate, load, 1.0, money=0.0, risk=0.0), stage.span, load.layers)


def cost(stage: Stage, load: Demand) -> float:
    """Nano-credits that `stage` adds to a route's cost, but for rounding."""
    return value_at(_line(stage.candidate, load, load.second_worth), stage.span, load.layers)


def price_of(stage: Stage, load: Demand) -> int:
    """Nano-credits this stage asks for the whole generation, if all tokens are used."""
    return ask_of(stage.candidate.prices, stage.candidate.flat, stage.span, load)


def ask_of(prices: Prices, flat: int, span: Span, load: Demand) -> int:
    """Nano-credits that these layers cost at these prices, if all tokens are used: as `amount_of` their usage."""
    total = len(span) * (prices.prefill * load.prompt + prices.decode * max(0, load.tokens - 1))
    if span.last == load.layers:
        total += prices.sampled * load.tokens
    return flat - (-total // PRICE_UNIT)


def lent_to(stage: Stage) -> int:
    """Nano-credits that this stage may take and bring nothing."""
    candidate = stage.candidate
    usage = Usage(len(stage.span) * candidate.ahead, 0, 0, 0)
    return amount_of(candidate.prices, candidate.flat, usage) if candidate.ahead else 0


def _line(candidate: Candidate, load: Demand, time: float, money: float = 1.0, risk: float = 1.0) -> Line:
    return next(_lines([candidate], load, time, money, risk))


def _lines(
    candidates: Iterable[Candidate], load: Demand, time: float, money: float = 1.0, risk: float = 1.0
) -> Iterator[Line]:
    """Yield the cost that each stage adds.

    time: worth of a second; money: of a nano-credit asked; risk: of one that may be lost

    There may be ten thousand candidates, so nothing is called in here.
    """
    prompt, tokens = load.prompt, load.tokens
    rows_bytes, lent = (prompt + tokens) * load.row_bytes, risk * LENT_WORTH / PRICE_UNIT
    priced, sampled = money / PRICE_UNIT, money * tokens / PRICE_UNIT
    for one in candidates:
        prices, span = one.prices, one.span
        # A round passes S hops; each stage has half a round trip on either side of it. A solo stage has no ring.
        hop_s = one.rtt_s / 2
        prefill, decode = one.prefill_rate, one.decode_rate
        computing_s = prompt / (prefill if prefill > LEAST_RATE else LEAST_RATE)
        computing_s += tokens / (decode if decode > LEAST_RATE else LEAST_RATE)
        fixed = time * (one.queue_s + one.late_s + one.slow_s * tokens + hop_s) + money * one.flat + risk * one.risk
        layer = time * computing_s / (span.last - span.first)
        layer += priced * (prices.prefill * prompt + prices.decode * (tokens - 1))
        if one.ahead:
            fixed, layer = fixed + lent * PRICE_UNIT * one.flat, layer + lent * one.ahead * prices.prefill
        sending_s = rows_bytes / one.uplink
        yield fixed, layer, sampled * prices.sampled, time * sending_s, time * hop_s * (tokens - 1)


# The draw


def _raised(lines: Sequence[Line], chance: Chance) -> list[Line]:
    """Every line as much higher as its own chance will have it, so that those near each other change places."""
    raised: list[Line] = []
    for fixed, layer, end, inner, ring in lines:
        factor = 1 + (RAISED - 1) * chance()
        raised.append((fixed * factor, layer * factor, end * factor, inner * factor, ring * factor))
    return raised


def _best(candidates: Sequence[Candidate], lines: Sequence[Line], layers: int) -> Route:
    """The cheapest route; empty where none covers all layers.

    A shortest path may use a peer twice, which no route does; then another is sought, and by that many peers at most.
    """
    spans = [candidate.span for candidate in candidates]
    once: frozenset[int] = frozenset()
    path = shortest_path(layers, spans, lines)
    while (twice := _twice(path)) and len(once | twice) <= MAX_ONCE:
        once |= twice
        path = shortest_path(layers, spans, lines, once)
    return tuple(Stage(candidates[step.peer], step.span) for step in _without_return(path))


def _twice(path: Sequence[Leg]) -> set[int]:
    counts = Counter(step.peer for step in path)
    return {peer for peer, count in counts.items() if count > 1}


def _without_return(path: Sequence[Leg]) -> list[Leg]:
    """The path; where it comes back to a peer it stays there instead."""
    steps: list[Leg] = []
    for step in path:
        stay = next((at for at, before in enumerate(steps) if before.peer == step.peer), len(steps))
        first = steps[stay].span.first if stay < len(steps) else step.span.first
        steps[stay:] = [Leg(step.peer, Span(first, step.span.last))]
    return steps


def _drawn_anew(
    route: Route, candidates: Sequence[Candidate], lines: Sequence[Line], load: Demand, chance: Chance, most: float
) -> Route:
    """The route, with any of those in place of each of its peers that serve the same layers at nearly the same cost."""
    drawn = list(route)
    for at, stage in enumerate(route):
        others = drawn[:at] + drawn[at + 1 :]
        taken = {other.candidate.key for other in others}
        near = [one for one in _as_good(stage, candidates, lines, load) if one.key not in taken]
        if near:
            drawn[at] = Stage(_one_of(near, chance), stage.span)
            if sum(price_of(one, load) for one in drawn) > most:
                drawn[at] = stage
    return tuple(drawn)


def _as_good(stage: Stage, candidates: Sequence[Candidate], lines: Sequence[Line], load: Demand) -> Iterator[Candidate]:
    """Yield stages that serve the same layers for little more than this one."""
    limit = cost(stage, load) * NEAR_BEST / RAISED
    span, first, last = stage.span, stage.span.first, stage.span.last
    for candidate, line in zip(candidates, lines, strict=True):
        theirs = candidate.span
        serves = theirs.first <= first and last <= theirs.last
        if serves and value_at(line, span, load.layers) <= limit:
            yield candidate


def _one_of(candidates: Sequence[Candidate], chance: Chance) -> Candidate:
    """Draw one. Half of the draws at least are left to those that we know to live: anybody may speak of any number."""
    live = [one for one in candidates if one.live]
    told = [one for one in candidates if not one.live]
    among = live or told
    if live and told:
        draws = LIVE_DRAWS * len(live)
        among = live if chance() * (draws + min(draws, len(told))) < draws else told
    return among[int(chance() * len(among))]
