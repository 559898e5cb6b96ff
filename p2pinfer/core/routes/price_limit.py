"""The most that one request may cost where nobody names a limit; p2pinfer/REFERENCE.md tells users of it.

A multiple of the median of what is asked, for the whole request, by every offer that fits. Offers are free to make, so
the median alone may be anybody's choice: the limit stays between two multiples of what the default asks of a node
come to. Pure: the offers are the caller's.
"""

from collections.abc import Sequence
from statistics import median_low
from typing import Final

from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.routes.routing import Candidate, Demand, ask_of
from p2pinfer.core.values.units import Nanocredits, Span

DEFAULT_ASK: Final = Prices(prefill=20_000, decode=80_000, cached=2_000, sampled=640_000)  # of a node, by its settings
MULTIPLE: Final = 4  # of the median ask; and of the default ask at least
CEILING: Final = 100  # times the default ask at most, also where a single node asks for more


def default_limit(candidates: Sequence[Candidate], load: Demand) -> Nanocredits:
    """Nano-credits that all stages of a request may cost together."""
    whole = Span(0, load.layers)  # as if one stage had all layers: so asks for different spans compare
    usual = ask_of(DEFAULT_ASK, 0, whole, load)
    asks = [ask_of(candidate.prices, candidate.flat, whole, load) for candidate in candidates]
    fair = MULTIPLE * median_low(asks or [usual])
    return Nanocredits(min(max(fair, MULTIPLE * usual), CEILING * usual))
