"""Offers named in few bytes, and renewed in few, so that an answer holds what is news (protocols/offer.md, 3.7).

A question names offers that its asker knows by four bytes of the node's key, from a place that is drawn anew each time
(so nobody can make a key that always passes for another), state and age, and three bytes of a hash of the terms. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from p2pinfer.core.records.canonical import pack_array, unpack_array
from p2pinfer.core.records.offer import Offer
from p2pinfer.core.records.records import SignedRecord, encode
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import kinds_of
from p2pinfer.core.wire.messages import LAST_SLICE, MAX_NAMED, NAMED_BYTES, AskOffers, RelayedOffer, Renewal

SLICE: Final = 4  # bytes of a key
MAX_AGE_S: Final = 63  # that six bits say; more than any offer's life
TERMS_DOMAIN: Final = b"p2pinfer/1/terms\0"
CHANGING: Final = {"seq": 0, "issued": 0, "until": 0, "state": 0, "load": [0, 0, 0], "speed": [0, 0, 0]}
# Where these stand in an offer's body, after its version
PLACES: Final = {at: CHANGING[name] for at, (name, _) in enumerate(kinds_of(Offer), 1) if name in CHANGING}


def terms_of(offer: SignedRecord[Offer]) -> bytes:
    """Three bytes that stand for all of an offer that its renewals leave as it is."""
    plain = unpack_array(offer.body)
    constant = [PLACES.get(at, item) for at, item in enumerate(plain)]
    return sha256(TERMS_DOMAIN + pack_array(constant)).digest()[: NAMED_BYTES - SLICE - 1]


def name(known: KnownOffer, at: int, now: float) -> bytes:
    """Return the bytes by which a question names an offer."""
    offer = known.offer.record
    return known.node[at : at + SLICE] + bytes([offer.state << 6 | _age_s(known, now)]) + terms_of(known.offer)


def name_all(offers: Sequence[KnownOffer], at: int, now: float) -> bytes:
    assert len(offers) <= MAX_NAMED
    assert at <= LAST_SLICE
    return b"".join(name(known, at, now) for known in offers)


@dataclass(frozen=True, slots=True)
class _Named:
    place: int
    state: int
    age_s: int
    terms: bytes


class Digest:
    """The asker's word of what it knows: it costs nobody but the asker."""

    def __init__(self, ask: AskOffers) -> None:
        self._at = ask.at
        self._gain = ask.gain
        self._named: dict[bytes, _Named] = {}
        for place in range(len(ask.known) // NAMED_BYTES):
            entry = ask.known[place * NAMED_BYTES : (place + 1) * NAMED_BYTES]
            self._named[entry[:SLICE]] = _Named(place, entry[SLICE] >> 6, entry[SLICE] & MAX_AGE_S, entry[SLICE + 1 :])

    def names(self, known: KnownOffer) -> bool:
        return self._key(known) in self._named

    def is_news(self, known: KnownOffer, now: float) -> bool:
        """True if the asker names no offer of this node, or one that is older by as much as it says, or of another
        state."""
        if (named := self._named.get(self._key(known))) is None:
            return True
        age_s = _age_s(known, now)
        changed = known.offer.record.state != named.state
        return age_s + (0 if changed else max(1, self._gain)) <= named.age_s

    def renewal(self, known: KnownOffer, now: float) -> Renewal | None:
        """The offer as a change of the one that the asker names; None where it has to be told whole."""
        named = self._named.get(self._key(known))
        if named is None or terms_of(known.offer) != named.terms:
            return None
        return renewal_of(known, named.place, now)

    def _key(self, known: KnownOffer) -> bytes:
        return known.node[self._at : self._at + SLICE]


def renewal_of(known: KnownOffer, place: int, now: float) -> Renewal:
    """An offer for somebody who knows its terms."""
    offer, told = known.offer.record, known.relay(now)
    return Renewal(
        place,
        told.age_ms,
        offer.seq,
        offer.issued,
        offer.until,
        offer.state,
        offer.load,
        offer.speed,
        known.offer.signatures[0],
    )


def renewed(base: KnownOffer, renewal: Renewal) -> RelayedOffer:
    """The offer that a renewal of a known one stands for, as if it had been told whole.

    Raises RemoteProtocolError (BAD_RECORD) where no offer can have such fields.
    """
    try:
        offer = replace(
            base.offer.record,
            seq=renewal.seq,
            issued=renewal.issued,
            until=renewal.until,
            state=renewal.state,
            load=renewal.load,
            speed=renewal.speed,
        )
    except ValueError as error:
        raise RemoteProtocolError(f"bad renewal: {error}", Code.BAD_RECORD) from None
    certificate = base.certificate
    return RelayedOffer(
        renewal.age_ms,
        encode(offer),
        renewal.signature,
        certificate.body,
        certificate.signatures[0],
        base.addresses,
    )


def _age_s(known: KnownOffer, now: float) -> int:
    return min(MAX_AGE_S, max(0, int(now - known.born_s)))
