"""An offer that a peer knows, by the clock of whoever heard it (protocols/offer.md, "States").

Life is measured from receipt, less the age an offer was relayed with, so that a clock an hour off empties nobody's
table; since nobody signs that age, an offer of another day counts for nothing. Pure: `now` is the caller's monotonic
clock in seconds. All offers that a peer knows are in `offer_table.py`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from p2pinfer.core.records.certificate import NodeCert, verify_certificate
from p2pinfer.core.records.offer import Offer, verify_offer
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import RelayedOffer

HOP_MS: Final = 50  # added for the way of each relay, which nobody measures
MAX_AWAY_S: Final = 86_400  # of an offer's `issued` from our wall clock: what is older is a relay's lie about its age


@dataclass(frozen=True, slots=True)
class KnownOffer:
    """An offer with what came beside it.

    born_s:  when it was signed, by our monotonic clock
    network: of the peer that it was heard from
    """

    offer: SignedRecord[Offer]
    certificate: SignedRecord[NodeCert]
    addresses: tuple[str, ...]
    born_s: float
    network: str = ""

    @property
    def node(self) -> PeerKey:
        return self.offer.record.node

    @property
    def until_s(self) -> float:
        """The end of its life, by our monotonic clock."""
        return self.born_s + self.offer.record.life

    def left_s(self, now: float) -> float:
        """Seconds until it is past its time; negative afterwards."""
        return self.until_s - now

    def aged(self, slept_s: float) -> "KnownOffer":
        """After our clock stood still for so long."""
        return replace(self, born_s=self.born_s - slept_s)

    def relay(self, now: float) -> RelayedOffer:
        """As we pass it on."""
        age_ms = max(0, round((now - self.born_s) * 1000)) + HOP_MS
        certificate = self.certificate
        return RelayedOffer(
            age_ms,
            self.offer.body,
            self.offer.signatures[0],
            certificate.body,
            certificate.signatures[0],
            self.addresses,
        )


def reachable(offers: Iterable[KnownOffer], linked: Collection[PeerKey]) -> list[KnownOffer]:
    """Those whose nodes are linked, or could be dialled: of addresses none is kept that may not be dialled from here.

    All others hold nothing, as far as we are concerned.
    """
    return [known for known in offers if known.addresses or known.node in linked]


def verify_relayed(
    relayed: RelayedOffer, now: float, clock: float, certificate: SignedRecord[NodeCert] | None = None
) -> KnownOffer:
    """Check an offer that anybody passed on.

    clock:       our wall clock, Unix seconds
    certificate: one that was checked before, which saves the work where it is the same

    Raises RemoteProtocolError: BAD_RECORD, BAD_KEY, BAD_SIGNATURE, or UNKNOWN_OFFER for one that is past its time.
    """
    offer = verify_offer(relayed.offer, relayed.signature)
    told = relayed.certificate, (relayed.owner_signature,)
    if certificate is None or (certificate.body, certificate.signatures) != told:
        certificate = verify_certificate(relayed.certificate, relayed.owner_signature)
    named, given = (offer.record.cert, offer.record.owner, offer.record.node), certificate
    if named != (given.id, given.record.owner, given.record.node):
        raise RemoteProtocolError("the offer rests on another certificate", Code.BAD_SIGNATURE)
    known = KnownOffer(offer, certificate, relayed.addresses, now - relayed.age_ms / 1000)
    if known.left_s(now) <= 0:
        raise RemoteProtocolError(f"an offer {relayed.age_ms / 1000:.0f} s old, past its time", Code.UNKNOWN_OFFER)
    if abs(away := offer.record.issued - clock) > MAX_AWAY_S:
        text = f"an offer issued {away:+.0f} s from our clock, limit {MAX_AWAY_S} s"
        raise RemoteProtocolError(text, Code.UNKNOWN_OFFER)
    return known
