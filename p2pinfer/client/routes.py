"""From offers to candidates of a route: what of an offer this client may use, and what it knows beyond it."""

from collections.abc import Collection, Iterable

from p2pinfer.client.asking import CLASSES, CODECS, Request
from p2pinfer.core.offer import State
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.routing import UNMEASURED_RTT_S, Candidate
from p2pinfer.overlay.link import Link

KBIT_BYTES = 125  # bytes/s of 1 kbit/s
CERTIFIED_S = 3_600  # of a node's certificate has to be left


def usable(
    offers: Iterable[KnownOffer], request: Request, refused: Collection[bytes], now: int
) -> dict[int, list[KnownOffer]]:
    """Offers that fit the request, by numerics class: all stages of a route have one.

    Of a node whose certificate ends within the hour nothing is taken (identity.md, chapter 8).

    now: wall clock, Unix seconds
    """
    found: dict[int, list[KnownOffer]] = {}
    for known in offers:
        if _fits(known, request, refused) and _is_certified(known, now):
            found.setdefault(known.offer.record.numerics, []).append(known)
    return found


def uncertified(offers: Iterable[KnownOffer], request: Request, refused: Collection[bytes], now: int) -> set[bytes]:
    """The nodes that `usable` leaves out for their certificates alone."""
    return {known.node for known in offers if _fits(known, request, refused) and not _is_certified(known, now)}


def _fits(known: KnownOffer, request: Request, refused: Collection[bytes]) -> bool:
    offer, wanted = known.offer.record, CLASSES.get(request.numerics)
    served = offer.state == State.SERVING and bool(offer.codecs & CODECS[request.codec].bit)
    return served and wanted in (None, offer.numerics) and known.node not in refused


def _is_certified(known: KnownOffer, now: int) -> bool:
    """Long enough, that is; when it begins says nothing: if our clock is the one that is wrong, the node says so."""
    return known.certificate.record.not_after >= now + CERTIFIED_S


def candidate_of(known: KnownOffer, link: Link | None) -> Candidate:
    """What routing needs to know of a node; `link` to it, if there is one, knows the round trip."""
    offer = known.offer.record
    rtt_s = link.rtt_s if link is not None else None
    return Candidate(
        key=offer.node,
        span=offer.span,
        prices=offer.prices,
        flat=offer.flat,
        prefill_rate=offer.speed.prefill,
        decode_rate=offer.speed.decode,
        uplink=offer.speed.uplink * KBIT_BYTES,
        rtt_s=UNMEASURED_RTT_S if rtt_s is None else rtt_s,
        queue_s=offer.load.queue_ms / 1000,
    )
