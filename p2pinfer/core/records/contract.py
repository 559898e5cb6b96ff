"""Contracts: the terms of one session, signed by the client, then by the node (protocols/receipts.md, "Contract").

Together with a receipt, a contract is all that an amount follows from. `core/money/budget.py` says which unpaid work a
node risks; the node answers an open.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, ClassVar, Final

from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.counting import Work
from p2pinfer.core.records.offer import Offer
from p2pinfer.core.records.pricing import USAGE_BITS, Prices, amount_of
from p2pinfer.core.records.records import MAX_SKEW_S, ZEROS, Record, SignedRecord, decode, record_id, verify_record
from p2pinfer.core.records.terms import Limits, RolesKind, SpanKind
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.fields import Bin, Struct, UInt, UInts, Zero
from p2pinfer.core.values.keys import check_key, domain
from p2pinfer.core.values.units import Codec, ModelId, Nanocredits, OwnerKey, PeerKey, RecordId, Roles, Span

MAX_CONTRACT_S: Final = 86_400
MAX_BID: Final = 16  # times what a node asks, a contract with it comes to at most: promises cost a stranger nothing
EXPIRY_S: Final = 10  # before it expires a contract's session ends, for its final receipt: a later one is not signed
GENERATION_DOMAIN: Final = domain("generation")


@dataclass(frozen=True, slots=True)
class Contract(Record):
    """Signatures: the client's, then the node's."""

    TYPE: ClassVar = "contract"
    nonce: Annotated[bytes, Bin(16)]  # the client's random number
    offer: Annotated[RecordId, Bin(32)]
    cert: Annotated[RecordId, Bin(32)]
    owner: Annotated[OwnerKey, Bin(32)]  # is paid
    node: Annotated[PeerKey, Bin(32)]
    client: Annotated[PeerKey, Bin(32)]  # owes
    grant: Annotated[RecordId, Zero(Bin(32))]  # reserved: who backs the client
    generation: Annotated[bytes, Bin(32)]  # `generation_of`
    model: Annotated[ModelId, Bin(32)]
    params: Annotated[bytes, Bin(32)]  # hash of the sampling record; zeros without the role tail
    span: Annotated[Span, SpanKind()]
    roles: Annotated[Roles, RolesKind()]
    numerics: Annotated[int, UInt(16)]
    codecs: Annotated[tuple[int, int], UInts(2, 8)]  # in, out
    prompt: Annotated[int, UInt(32)]  # P
    start: Annotated[int, UInt(32)]  # first position charged; over 0 only where an earlier session is continued
    seam: Annotated[int, UInt(32)]  # first position of the trees; over 0 only where an earlier session is continued
    limits: Annotated[Limits, Struct(Limits)]
    prices: Annotated[Prices, Struct(Prices)]
    flat: Annotated[int, UInt()]
    reserve: Annotated[int, UInt()]  # nano-credits; the contract never costs more
    terms: Annotated[tuple[int, int, int], Zero(UInts(3))]  # reserved: terms, audit rate, hold-back
    audit: Annotated[bytes, Bin(32)]  # SHA-256 of a secret the client keeps
    issued: Annotated[int, UInt()]  # Unix seconds
    expires: Annotated[int, UInt()]

    def contradiction(self) -> str | None:
        head, tail = Roles.HEAD in self.roles, Roles.TAIL in self.roles
        if self.node == self.client:
            return "node and client are one key"
        if not 0 < self.expires - self.issued <= MAX_CONTRACT_S:
            return f"open for {self.expires - self.issued} s, limit {MAX_CONTRACT_S} s"
        if (self.codecs[0] == Codec.IDS) != head or (self.codecs[1] == Codec.IDS) != tail:
            return f"codecs {self.codecs} do not fit the roles: ids enter at the head and leave at the tail"
        if not tail and self.params != ZEROS:
            return "sampling parameters without the role tail"
        if max(self.prompt, self.seam) >= (most := self.limits.max_positions):
            return f"{most} positions for a prompt of {self.prompt} and a seam at {self.seam}"
        if len(self.span) * most >= 1 << USAGE_BITS:
            return f"{most} positions of {len(self.span)} layers: a receipt could not state them"
        try:
            self.work  # noqa: B018 - its own constructor checks what prompt, start and seam may be
        except ValueError as error:
            return str(error)
        return None

    @property
    def work(self) -> Work:
        """The work that the contract asks for."""
        return Work(len(self.span), self.prompt, Roles.TAIL in self.roles, self.start, self.seam)

    @property
    def most(self) -> Nanocredits:
        """The amount at the last position that the contract allows."""
        return self.amount(self.limits.max_positions)

    def amount(self, committed: int, cached: int = 0) -> Nanocredits:
        """Nano-credits owed for `committed` positions."""
        return amount_of(self.prices, self.flat, self.work.usage(committed, cached))


def generation_of(secret: bytes, node: PeerKey) -> bytes:
    """Binds all contracts of a generation, for whoever knows its secret, and tells nothing to others."""
    return sha256(GENERATION_DOMAIN + secret + node).digest()


def read_request(body: bytes, signature: bytes) -> SignedRecord[Contract]:
    """A contract that its client may have signed: to look if there would be room for it, and for nothing else.

    Raises RemoteProtocolError (BAD_RECORD).
    """
    return SignedRecord(decode(Contract, body), record_id(Contract, body), body, (signature,))


def verify_request(body: bytes, signature: bytes) -> SignedRecord[Contract]:
    """A contract with the client's signature alone, which is worth nothing yet.

    Raises RemoteProtocolError: BAD_RECORD, BAD_KEY or BAD_SIGNATURE.
    """
    signed = verify_record(Contract, body, (signature,), lambda contract: (contract.client,))
    check_key(signed.record.node)
    check_key(signed.record.owner)
    return signed


def verify_contract(body: bytes, client: bytes, node: bytes) -> SignedRecord[Contract]:
    """The way from bytes to a contract, given both signatures.

    Raises RemoteProtocolError: BAD_RECORD, BAD_KEY or BAD_SIGNATURE.
    """
    signed = verify_record(Contract, body, (client, node), lambda contract: (contract.client, contract.node))
    check_key(signed.record.owner)
    return signed


def check_request(
    request: SignedRecord[Contract],
    offer: SignedRecord[Offer],
    certificate: SignedRecord[NodeCert],
    *,
    secret: bytes,
    now: int,
) -> None:
    """Hold a client's contract to our own offer; the caller has found the offer by the contract's id of it.

    now: our wall clock, Unix seconds

    Raises Refused with the code to answer: CLOCK_SKEW, UNKNOWN_OFFER, TOO_CHEAP, TOO_LONG, UNSUPPORTED or BAD_TERMS.
    """
    contract, offered = request.record, offer.record
    if abs(skew := contract.issued - now) > MAX_SKEW_S:
        text = f"the client's clock is {skew:+d} s from ours, limit {MAX_SKEW_S} s: set the one that is wrong"
        raise Refused(text, Code.CLOCK_SKEW)
    if contract.expires <= now + EXPIRY_S:
        raise Refused(
            f"the contract expires in {contract.expires - now} s, at least {EXPIRY_S} s are needed", Code.BAD_TERMS
        )
    if contract.offer != offer.id:
        raise Refused("the contract names another offer", Code.UNKNOWN_OFFER)
    if not contract.prices.at_least(offered.prices) or contract.flat < offered.flat:
        raise Refused(f"{contract.prices} and flat {contract.flat} are below the offer", Code.TOO_CHEAP)
    if contract.limits.max_positions > offered.limits.max_positions:
        raise Refused(
            f"{contract.limits.max_positions} positions asked, limit {offered.limits.max_positions}", Code.TOO_LONG
        )
    if contract.start or contract.seam:
        raise Refused("this release continues no session that was begun elsewhere", Code.UNSUPPORTED)
    if why := _misfit(contract, offered, certificate):
        raise Refused(why, Code.BAD_TERMS)
    if contract.generation != generation_of(secret, contract.node):
        raise Refused("the contract does not bind the generation's secret", Code.BAD_TERMS)
    if contract.most > contract.reserve:
        raise Refused(f"a reserve of {contract.reserve} ncr, {contract.most} ncr could be needed", Code.BAD_TERMS)
    if contract.most > MAX_BID * (asked := replace(contract, prices=offered.prices, flat=offered.flat).most):
        text = f"the contract may come to {contract.most} ncr, the limit is {MAX_BID} times the {asked} ncr asked"
        raise Refused(text, Code.BAD_TERMS)


def _misfit(contract: Contract, offer: Offer, certificate: SignedRecord[NodeCert]) -> str | None:
    """The first term that was not offered so, in words; None if all were."""
    if (contract.node, contract.owner, contract.cert) != (offer.node, offer.owner, offer.cert):
        return "node, owner or certificate is another than offered"
    if contract.cert != certificate.id or not certificate.record.covers(contract.issued, contract.expires):
        return "the node's certificate does not cover the contract"
    if contract.model != offer.model or not offer.span.covers(contract.span):
        return f"layers {contract.span} of the model are not offered"
    if contract.roles & ~offer.roles:
        return f"roles {contract.roles!r} are not offered"
    if contract.numerics != offer.numerics:
        return f"numerics class {contract.numerics}, offered {offer.numerics}"
    if any(codec != Codec.IDS and not offer.codecs >> codec & 1 for codec in contract.codecs):
        return f"codecs {contract.codecs} are not offered"
    if not contract.limits.within(offer.limits):
        return f"{contract.limits} go beyond the offer"
    return None
