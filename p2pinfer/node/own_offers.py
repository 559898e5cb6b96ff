"""The node's own offers: signed anew every RENEW_S, and known again when a contract names one (protocols/offer.md)."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.offer import MAX_OFFER_S, Load, Offer, ServingState, Speed
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.records.records import SignedRecord, sign
from p2pinfer.core.records.terms import Limits
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, RecordId, Span, row_bytes
from p2pinfer.core.wire.session_messages import MAX_ROWS
from p2pinfer.disk.boots import REMEMBERED, Boots
from p2pinfer.disk.store import StoredModel
from p2pinfer.node.certification import Certifying
from p2pinfer.node.settings import Settings, numerics_of
from p2pinfer.node.shard import longest_session

RENEW_S: Final = 20.0

Made = tuple[SignedRecord[Offer], SignedRecord[NodeCert]]


@dataclass(frozen=True, slots=True)
class Signer:
    """The key that signs a node's offers, the certificate that it signs them under, and the starts that number them."""

    key: PrivateKey
    certifying: Certifying
    boots: Boots


class OwnOffers:
    """Makes the offers of this process for some layers of a model, as its settings say, and remembers them."""

    def __init__(self, signer: Signer, model: StoredModel, settings: Settings, span: Span) -> None:
        trust, prices = settings.trust, settings.prices
        self.key = signer.key
        self._signer = signer
        self._model = model.id
        self._span = span
        self._roles = model.manifest.roles_of(span)
        self._numerics = numerics_of(settings.serve.numerics)
        self._limits = Limits(
            max_positions=longest_session(model.manifest, span, settings.serve),
            window=trust.window,
            cadence=trust.cadence,
            max_draft=0,
            max_chunk=min(trust.max_chunk, MAX_ROWS // row_bytes(Codec.F32, model.manifest.hidden)),
        )
        self._prices = Prices(prices.prefill, prices.decode, prices.cached, prices.sampled)
        self._flat = prices.flat
        self._made: OrderedDict[RecordId, Made] = OrderedDict()

    @property
    def certificate(self) -> SignedRecord[NodeCert]:
        """The present one: it is renewed while the node runs."""
        return self._signer.certifying.certificate

    def make(self, state: ServingState, load: Load, speed: Speed, now: int, moves: int = 0) -> SignedRecord[Offer]:
        """A new offer. now: our wall clock, Unix seconds. moves: of the node so far"""
        certificate = self.certificate
        offer = Offer(
            node=self.key.public,
            owner=certificate.record.owner,
            cert=certificate.id,
            boot=self._signer.boots.boot,
            seq=self._signer.boots.next_seq(),
            issued=now,
            life=MAX_OFFER_S,
            until=0,
            model=self._model,
            span=self._span,
            roles=self._roles,
            numerics=self._numerics,
            codecs=Codec.F32.bit | Codec.BF16.bit | Codec.Q8O4.bit,
            limits=self._limits,
            prices=self._prices,
            flat=self._flat,
            state=state,
            load=load,
            speed=speed,
            moves=moves,
        )
        self._signer.boots.keep(offer)
        signed = sign(offer, self.key)
        self._made[signed.id] = signed, certificate
        while len(self._made) > REMEMBERED:
            self._made.popitem(last=False)
        return signed

    def find(self, id_: RecordId) -> Made:
        """The offer of this process that a contract names, with the certificate that the offer names.

        Raises Refused (UNKNOWN_OFFER).
        """
        if (made := self._made.get(id_)) is None:
            raise Refused("not an offer of this node since it started; ask for its offers again", Code.UNKNOWN_OFFER)
        return made
