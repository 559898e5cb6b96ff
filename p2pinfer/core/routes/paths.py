"""The cheapest way through all layers, of many peers that each serve a span or any part of it.

What a peer adds is a line: so much, and so much for each layer. From one cut to another only those lines count that
are the least for some number of layers, and whoever serves more can serve less. So of 10,000 peers a few are left for
each pair of cuts before any path is looked at. Pure.
"""

from bisect import bisect, bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from math import inf
from operator import itemgetter
from typing import Final, NamedTuple

from p2pinfer.core.values.units import Span

# What a peer adds to a path: always, for each layer, where it serves the last layer, where it does not, and where it
# does not serve all layers alone
Line = tuple[float, float, float, float, float]


class Leg(NamedTuple):
    """A part of a path: the number of a peer, and the layers that it serves."""

    peer: int
    span: Span


Plain = tuple[float, float, int]  # always, for each layer, number of the peer
Once = frozenset[int]  # numbers of peers
Way = tuple[float, Leg | None]  # the least cost to the end, and the first step
Ways = dict[tuple[int, Once], Way]  # by the layer from which on, and by those that may still serve
Ends = tuple[int, int]  # the first layer, and the one behind the last
Edges = dict[Ends, list[Plain]]
NOBODY: Once = frozenset()
MAX_CUTS: Final = 160  # models have fewer layers; those that strangers make up may have thousands


def value_at(line: Line, span: Span, layers: int) -> float:
    """Return what the line gains by serving these layers of so many."""
    fixed, layer, end, inner, ring = line
    last = span.last == layers
    around = 0.0 if last and span.first == 0 else ring
    return fixed + layer * len(span) + (end if last else inner) + around


def shortest_path(layers: int, spans: Sequence[Span], lines: Sequence[Line], once: Once = NOBODY) -> list[Leg]:
    """The path of least cost; empty where none covers all layers, or none of MAX_CUTS cuts.

    spans, lines: of each peer; no span is beyond the layers
    once:         a few peers that serve once at most; any other may serve twice in the path
    """
    ends = [(span.first, span.last) for span in spans]
    cuts = _cuts(layers, ends)
    if len(cuts) == MAX_CUTS:
        ends = [(cuts[bisect_left(cuts, first)], cuts[bisect(cuts, last) - 1]) for first, last in ends]
    edges = _edges(layers, cuts, ends, lines, once)
    ways: Ways = {}
    for free in _subsets(once):
        ways[layers, free] = 0.0, None
        for at, first in reversed([*enumerate(cuts[:-1])]):
            lasts = cuts[at + 1 :]
            alone = (
                _through(peer, lines[peer], _parts(spans[peer], first, lasts), layers, free, ways) for peer in free
            )
            ways[first, free] = min([_along(edges, first, lasts, free, ways), *alone], key=itemgetter(0))
    return list(_follow(ways, layers, once))


def _cuts(layers: int, spans: Iterable[Ends]) -> list[int]:
    """The layers where a path may change peers: where spans begin or end; of very many those where most do."""
    cuts = {0, layers, *chain.from_iterable(set(spans))}
    if len(cuts) > MAX_CUTS:
        counts = Counter(cut for cut in chain.from_iterable(spans) if cut not in (0, layers))
        cuts = {0, layers, *(cut for cut, _ in counts.most_common(MAX_CUTS - 2))}
    return sorted(cuts)


def _along(edges: Edges, first: int, lasts: Sequence[int], free: Once, ways: Ways) -> Way:
    """The least from a cut on that begins with any peer but those of `once`."""
    least, step = inf, None
    for last in lasts:
        length, beyond = last - first, ways[last, free][0]
        for fixed, layer, peer in edges[first, last]:
            if (cost := fixed + layer * length + beyond) < least:
                least, step = cost, Leg(peer, Span(first, last))
    return least, step


def _parts(span: Span, first: int, lasts: Sequence[int]) -> Iterator[Span]:
    """Of a span those parts that begin at this cut."""
    return (Span(first, last) for last in lasts if span.first <= first and last <= span.last)


def _through(peer: int, line: Line, parts: Iterable[Span], layers: int, free: Once, ways: Ways) -> Way:
    """The least from a cut on that begins with one of these parts of a peer, who then has served."""
    costs = ((value_at(line, part, layers) + ways[part.last, free - {peer}][0], Leg(peer, part)) for part in parts)
    return min(costs, default=(inf, None), key=itemgetter(0))


def _follow(ways: Ways, layers: int, free: Once) -> Iterator[Leg]:
    at = 0
    while at < layers and (step := ways[at, free][1]) is not None:
        yield step
        at, free = step.span.last, free - {step.peer}


def _subsets(peers: Once) -> Iterator[Once]:
    """All, each after its own subsets."""
    return (frozenset(some) for size in range(len(peers) + 1) for some in combinations(sorted(peers), size))


def _edges(layers: int, cuts: Sequence[int], spans: Sequence[Ends], lines: Sequence[Line], without: Once) -> Edges:
    """For each pair of cuts the peers that may be the cheapest between them."""
    inner: Edges = defaultdict(list)
    tails: Edges = defaultdict(list)
    alone: list[Plain] = []
    for peer, (ends, (fixed, layer, end, inside, ring)) in enumerate(zip(spans, lines, strict=True)):
        if peer in without:
            continue
        inner[ends].append((fixed + inside + ring, layer, peer))
        if ends[1] == layers:
            tails[ends].append((fixed + end + ring, layer, peer))
            if ends[0] == 0:
                alone.append((fixed + end, layer, peer))
    edges = _spread(inner, cuts, cuts[1:])
    edges |= _spread(tails, cuts, [layers])
    edges[0, layers] = _least(alone, layers)
    return edges


def _spread(own: Edges, cuts: Sequence[int], lasts: Sequence[int]) -> Edges:
    """For each first cut and each last one the least of whoever serves all between them, and perhaps more."""
    spread: Edges = {}
    for at, last in reversed([*enumerate(lasts)]):
        wider: list[Plain] = []
        for first in cuts[: cuts.index(last)]:
            longer = spread[first, lasts[at + 1]] if at + 1 < len(lasts) else []
            wider = _least([*own.get((first, last), ()), *wider, *longer], last - first)
            spread[first, last] = wider
    return spread


def _least(lines: Iterable[Plain], most: int) -> list[Plain]:
    """Those that are the least of all for some number of layers from 1 to `most`: as many at most."""
    kept: list[Plain] = []
    begins: list[int] = []  # the number of layers from which on each of them is the least
    for line in sorted(lines):
        begin = 1
        while kept:
            fixed, layer, _ = kept[-1]
            if line[1] >= layer or (after := (line[0] - fixed) / (layer - line[1])) >= most:
                begin = most + 1
                break
            if (begin := int(after) + 1) > begins[-1]:
                break
            del kept[-1], begins[-1]
            begin = 1
        if begin <= most:
            kept.append(line)
            begins.append(begin)
    return kept
