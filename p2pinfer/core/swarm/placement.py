"""The layers that a node takes, as a function of what others serve (protocols/offer.md, 4.1).

Pure: the caller measures memory, collects offers and draws the random number. A node announces its choice as *joining*,
waits a random time of up to JOIN_WAIT_S, and decides once more with what it has heard by then, so that nodes that start
together do not pick one span. `moving.py` decides what a node that serves does later.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Final

from p2pinfer.core.values.units import Span

WEIGHTS_SHARE: Final = 0.7  # of the owner's memory allowance; the KV cache takes the rest
JOIN_WAIT_S: Final = 2.0
UNSERVED: Final = 1e-6  # positions/s a layer without offers counts as: far below any machine, so it is drawn first
ABUT_PULL: Final = 100  # how much likelier a start is that abuts what is there, or an end of the model
UNEVEN: Final = 3  # a node goes where layers are served by so many times less than its own, were it not there
NETWORK_WORTH: Final = 4  # what one network claims of a layer counts as so many usual nodes at most


@dataclass(frozen=True, slots=True)
class OfferedSpan:
    """The part of another node's fresh offer that counts here.

    rate:    positions/s it decodes
    network: that the offer was heard from; None for our own machine, of which each node counts for itself
    loaded:  False for a node that is joining
    """

    span: Span
    rate: float
    network: str | None = None
    loaded: bool = True


def served_rates(layers: int, served: Iterable[OfferedSpan]) -> list[float]:
    """Positions/s on offer for every layer. Claims are bounded by network: whoever tells most decides no more."""
    others = [other for other in served if other.span.first < layers]
    if not others:
        return [UNSERVED] * layers
    most = NETWORK_WORTH * median(max(other.rate, UNSERVED) for other in others)
    told = Counter(other.network for other in others)
    steps = [0.0] * (layers + 1)
    of_networks: dict[str, list[float]] = defaultdict(lambda: [0.0] * (layers + 1))
    for other in others:
        alone = other.network is None or told[other.network] == 1
        into = steps if alone else of_networks[other.network or ""]
        rate = min(max(other.rate, UNSERVED), most)
        into[other.span.first] += rate
        into[min(other.span.last, layers)] -= rate
    rates = list(accumulate(steps[:layers]))
    for claims in of_networks.values():
        for layer, rate in enumerate(accumulate(claims[:layers])):
            rates[layer] += min(rate, most)
    return [max(rate, UNSERVED) for rate in rates]


def longest_span(layer_sizes: Sequence[int], ends_size: int, memory: int) -> int:
    """Return how many layers fit into the weights' share of `memory` bytes; 0 if not even one does.

    layer_sizes: bytes of each layer, loaded
    ends_size:   bytes of the larger of embedding and output head: any span may turn out to hold an end
    """
    room = int(memory * WEIGHTS_SHARE) - ends_size
    return min(max(0, room // max(layer_sizes)), len(layer_sizes))


def choose_span(layers: int, length: int, served: Iterable[OfferedSpan], random: float) -> Span:
    """Take `length` layers where the swarm is weakest.

    The whole model if it fits. Else among the starts after which the fewest spans are still needed, and then the fewest
    layers unserved, one is drawn with probability proportional to 1 / (served rate of the weakest layer of the span),
    as in Petals' block selection, but at random, since many choose at once. A start that abuts what is there
    is likelier, since holes between spans of other lengths then stay in one piece.

    random: in [0, 1)
    """
    if not 0 < length <= layers:
        raise ValueError(f"{length} layers of {layers}")
    others = list(served)
    holes = gaps(layers, (other.span for other in others))
    usual = usual_length(layers, length, others)
    starts = [Span(first, first + length) for first in range(layers - length + 1)]
    worth = {span: still_needed(cut(holes, span), usual) for span in starts}
    least = min(worth.values())
    best = [span for span in starts if worth[span] == least]
    return draw_span(best, holes, served_rates(layers, others), random)


def reconsider_span(layers: int, mine: Span, served: Iterable[OfferedSpan], random: float) -> Span:
    """The second decision, JOIN_WAIT_S at most after the first: stay, unless another span is needed clearly more.

    Were everybody to draw again, two nodes that cover a layer between them could both leave it.
    """
    others = list(served)
    again = choose_span(layers, len(mine), others, random)
    holes = gaps(layers, (other.span for other in others))
    usual = usual_length(layers, len(mine), others)
    before, after = (still_needed(cut(holes, span), usual) for span in (mine, again))
    if after < before or (not holes and is_uneven(mine, served_rates(layers, others))):
        return again
    return mine


def is_uneven(mine: Span, rates: Sequence[float]) -> bool:
    """True if all of these layers are served UNEVEN times better than the weakest of the model. rates: without us."""
    return min(rates[mine.first : mine.last]) >= UNEVEN * min(rates)


def usual_length(layers: int, mine: int, others: Iterable[OfferedSpan]) -> int:
    """Layers of a usual node's span, ours among them."""
    return int(median([mine, *(min(len(other.span), layers) for other in others)]))


def still_needed(holes: Iterable[Span], usual: int) -> tuple[int, int]:
    """Return how many spans of the usual length it takes to close these holes, and how many layers they have."""
    sizes = [len(hole) for hole in holes]
    return sum(-(-size // usual) for size in sizes), sum(sizes)


def draw_span(spans: Sequence[Span], holes: Sequence[Span], rates: Sequence[float], random: float) -> Span:
    """One of these, by need: proportional to 1 / (rate of its weakest layer). holes, rates: without us"""
    edges = {hole.first for hole in holes}, {hole.last for hole in holes}
    weights = [
        (ABUT_PULL if span.first in edges[0] or span.last in edges[1] else 1) / min(rates[span.first : span.last])
        for span in spans
    ]
    target = random * sum(weights)
    for span, weight in zip(spans, weights, strict=True):
        target -= weight
        if target < 0:
            return span
    return spans[-1]


def cut(holes: Sequence[Span], span: Span) -> list[Span]:
    """Return what is left of holes once `span` is served."""
    left = [(hole.first, min(hole.last, span.first)) for hole in holes]
    right = [(max(hole.first, span.last), hole.last) for hole in holes]
    return [Span(first, last) for first, last in sorted({*left, *right}) if first < last]


def gaps(layers: int, spans: Iterable[Span]) -> list[Span]:
    """The layers that no span covers, as spans."""
    found: list[Span] = []
    reach = 0
    for span in sorted(span for span in spans if span.first < layers):  # others say what they like
        if span.first > reach:
            found.append(Span(reach, min(span.first, layers)))
        reach = max(reach, span.last)
        if reach >= layers:
            return found
    return [*found, Span(reach, layers)]
