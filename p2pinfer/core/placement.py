"""Which layers a node takes, as a function of what others serve (DESIGN 5, "Placement"; protocols/offer.md).

Pure: the caller measures memory, collects offers and draws the random number. A node announces its choice as
*joining*, waits a random time of up to JOIN_WAIT_S, and decides once more with what it has heard by then, so that
nodes that start together do not pick one span.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.units import Span

WEIGHTS_SHARE: Final = 0.7  # of the owner's memory allowance; the KV cache takes the rest
JOIN_WAIT_S: Final = 2.0
UNSERVED: Final = 1e-6  # positions/s a layer without offers counts as: far below any machine, so it is drawn first
GAP_PULL: Final = 16  # how much likelier a span becomes with each unserved layer in it


@dataclass(frozen=True, slots=True)
class Served:
    """What another node's fresh offer says: its span, and how many positions/s it decodes."""

    span: Span
    rate: float


def served_rates(layers: int, served: Iterable[Served]) -> list[float]:
    """Positions/s on offer for every layer."""
    rates = [UNSERVED] * layers
    for other in served:
        for layer in range(other.span.first, min(other.span.last, layers)):
            rates[layer] += max(other.rate, UNSERVED)
    return rates


def longest_span(layer_sizes: Sequence[int], ends_size: int, memory: int) -> int:
    """How many layers fit into the weights' share of `memory` bytes; 0 if not even one does.

    layer_sizes: bytes of each layer, loaded
    ends_size:   bytes of the larger of embedding and output head: any span may turn out to hold an end
    """
    room = int(memory * WEIGHTS_SHARE) - ends_size
    return min(max(0, room // max(layer_sizes)), len(layer_sizes))


def choose_span(layers: int, length: int, served: Iterable[Served], random: float) -> Span:
    """Take `length` layers where the swarm is weakest.

    The whole model if it fits. Else the start is drawn with probability proportional to 1 / (served rate of the
    weakest layer of the span), as in Petals' server/block_selection.py, but at random, since many choose at once.

    random: in [0, 1)
    """
    if not 0 < length <= layers:
        raise ValueError(f"{length} layers of {layers}")
    rates = served_rates(layers, served)
    weights = [_weight(rates[first : first + length]) for first in range(layers - length + 1)]
    target = random * sum(weights)
    for first, weight in enumerate(weights):
        target -= weight
        if target < 0:
            return Span(first, first + length)
    return Span(layers - length, layers)


def reconsider_span(layers: int, mine: Span, served: Iterable[Served], random: float) -> Span:
    """The second decision, JOIN_WAIT_S at most after the first: stay, unless layers are left unserved.

    Were everybody to draw again, two nodes that cover a layer between them could both leave it.
    """
    others = list(served)
    if not gaps(layers, [mine, *(other.span for other in others)]):
        return mine
    return choose_span(layers, len(mine), others, random)


def _weight(rates: Sequence[float]) -> float:
    """1 / weakest; among spans with unserved layers, those that serve more of them by far."""
    unserved = sum(rate == UNSERVED for rate in rates)
    return float(GAP_PULL) ** unserved / min(rates)


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
