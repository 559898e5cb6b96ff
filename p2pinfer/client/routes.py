"""From offers to candidates of a route: what of an offer this client may use, and what it knows beyond it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.records.offer import ServingState
from p2pinfer.core.records.terms import MAX_PROPOSED
from p2pinfer.core.routes.failures import Failures
from p2pinfer.core.routes.measures import Measures, Who
from p2pinfer.core.routes.routing import Candidate, Demand
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.placement import gaps
from p2pinfer.core.values.units import Codec, ModelId, Numerics, PeerKey, Span, roles_of, row_bytes
from p2pinfer.overlay.link import Link

CLASSES: Final = frozenset(map(int, Numerics))
CERTIFIED_S = 3_600  # of a node's certificate has to be left
KBIT_BYTES: Final = 125  # bytes/s of 1 kbit/s
FULL_S: Final = 1.0  # what asking a node that has no room costs: it had none when it signed its offer, and may have now
SECOND_WORTH: Final = 1_000.0  # nano-credits that a second of waiting costs: what 30 tokens of a small model cost


@dataclass(frozen=True, slots=True)
class Sought:
    """The task of a route.

    layers, hidden: of the model
    prompt, tokens: ids of the prompt; of the answer at most
    numerics:       the one class that will do, or None
    max_cost:       nano-credits; None is the default limit
    proven:         nodes that have brought this client an answer before
    """

    model: ModelId
    layers: int
    hidden: int
    prompt: int
    tokens: int
    codec: Codec
    numerics: Numerics | None = None
    max_cost: int | None = None
    proven: Collection[PeerKey] = ()

    @property
    def positions(self) -> int:
        """Positions that every stage must take."""
        return self.prompt + self.tokens

    @property
    def load(self) -> Demand:
        return Demand(self.layers, self.prompt, self.tokens, row_bytes(self.codec, self.hidden), SECOND_WORTH)


def usable(
    offers: Iterable[KnownOffer], sought: Sought, excluded: Collection[bytes], now: int
) -> dict[int, list[KnownOffer]]:
    """Offers that fit, by numerics class: all stages of a route have one.

    Of a node whose certificate ends within the hour nothing is taken (identity.md, chapter 8).

    now: wall clock, Unix seconds
    """
    found: dict[int, list[KnownOffer]] = {}
    for known in offers:
        if (
            _is_long_enough(known, sought)
            and _fits(known, sought, excluded)
            and _proposes_seldom(known, sought)
            and _is_certified(known, now)
        ):
            found.setdefault(known.offer.record.numerics, []).append(known)
    return found


def uncertified(offers: Iterable[KnownOffer], sought: Sought, excluded: Collection[bytes], now: int) -> set[bytes]:
    """The nodes that `usable` leaves out for their certificates alone."""
    return {known.node for known in offers if _fits(known, sought, excluded) and not _is_certified(known, now)}


def longest_too_short(offers: Iterable[KnownOffer], sought: Sought, excluded: Collection[bytes]) -> int | None:
    """The most positions of those that `usable` leaves out for taking too few; None where it leaves out nobody so."""
    fitting = (known for known in offers if _fits(known, sought, excluded))
    return max((_positions(known) for known in fitting if not _is_long_enough(known, sought)), default=None)


def too_often_proposing(offers: Iterable[KnownOffer], sought: Sought, excluded: Collection[bytes]) -> set[bytes]:
    """The nodes that `usable` leaves out for the receipts that they might have wait for us at once."""
    return {known.node for known in offers if _fits(known, sought, excluded) and not _proposes_seldom(known, sought)}


def missing_layers(offers: Iterable[KnownOffer], sought: Sought) -> list[Span]:
    """The layers that nobody serves at all, in the numerics class of which the fewest are missing."""
    spans: dict[int, list[Span]] = {}
    for known in offers:
        if _fits(known, sought, ()):
            spans.setdefault(known.offer.record.numerics, []).append(known.offer.record.span)
    found = (gaps(sought.layers, served) for served in spans.values())
    return min(found, key=lambda missing: sum(map(len, missing)), default=[Span(0, sought.layers)])


def _fits(known: KnownOffer, sought: Sought, excluded: Collection[bytes]) -> bool:
    """Sign whatever they like, strangers do; what contradicts the model's manifest is not looked at."""
    offer = known.offer.record
    return (
        offer.state == ServingState.SERVING
        and offer.span.last <= sought.layers
        and bool(offer.codecs & sought.codec.bit)
        and offer.numerics in CLASSES
        and sought.numerics in (None, offer.numerics)
        and offer.roles == roles_of(offer.span, sought.layers)
        and offer.node not in excluded
    )


def _is_long_enough(known: KnownOffer, sought: Sought) -> bool:
    return _positions(known) >= sought.positions


def _proposes_seldom(known: KnownOffer, sought: Sought) -> bool:
    return known.offer.record.limits.proposed(sought.positions) <= MAX_PROPOSED


def _positions(known: KnownOffer) -> int:
    return known.offer.record.limits.max_positions


def _is_certified(known: KnownOffer, now: int) -> bool:
    """Long enough, that is; when it begins says nothing: if our clock is the one that is wrong, the node says so."""
    return known.certificate.record.not_after >= now + CERTIFIED_S


def candidate_of(
    known: KnownOffer, sought: Sought, link: Link | None, failures: Failures, measures: Measures, now: float
) -> Candidate:
    """A node as routing sees it: by its own word, and by what this client knows of it. now: monotonic, seconds."""
    offer = known.offer.record
    lag = measures.of(Who(offer.node, offer.owner), now)
    full_s = 0.0 if offer.load.free_positions >= sought.positions else FULL_S
    return Candidate(
        key=offer.node,
        span=offer.span,
        prices=offer.prices,
        flat=offer.flat,
        prefill_rate=offer.speed.prefill,
        decode_rate=offer.speed.decode,
        uplink=measures.uplink(offer.node, offer.speed.uplink * KBIT_BYTES, now),
        rtt_s=round_trip_s(offer.node, link, measures, now),
        queue_s=offer.load.queue_ms / 1000 + full_s,
        risk=failures.risk(offer.node, offer.owner, now),
        ahead=0 if known.node in sought.proven else offer.limits.signed_ahead(sought.prompt),
        late_s=lag.late_s,
        slow_s=lag.slow_s,
        live=link is not None,
    )


def round_trip_s(node: PeerKey, link: Link | None, measures: Measures, now: float) -> float:
    """Seconds to a node and back: of its link now, or of an earlier one, or else as to the nodes that were met."""
    found = link.usual_rtt_s if link is not None else None
    return measures.round_trip_s(node, now) if found is None else found
