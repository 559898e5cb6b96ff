"""Keys, records and accounts of a small paid route, the same in every run; tests and vectors start from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from p2pinfer.core.money.client_account import ClientAccount, Decision, Sign
from p2pinfer.core.money.stage_account import Proposal, StageAccount
from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.contract import Contract, generation_of
from p2pinfer.core.records.offer import Load, Offer, Speed
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import ZEROS, SignedRecord, countersign, sign
from p2pinfer.core.records.terms import Limits
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, ModelId, Numerics, OwnerKey, Roles, Span

NOW = 1_790_000_000  # Unix seconds
DAY_S = 86_400
SECRET = sha256(b"secret of the generation").digest()
MODEL = ModelId(sha256(b"model").digest())
SAMPLING = sha256(b"sampling record").digest()
WIDTH = 8  # bytes of a row between stages


def key(name: str) -> PrivateKey:
    return PrivateKey(sha256(b"seed of " + name.encode()).digest())


OWNER, CLIENT, STRANGER = key("owner"), key("client"), key("stranger")
NODES = [key(f"node {number}") for number in range(3)]
BOOT = bytes(range(16))  # of the processes that make offers
PRICES = Prices(20_000, 80_000, 2_000, 640_000)
LIMITS = Limits(max_positions=4096, window=768, cadence=128, max_draft=0, max_chunk=256)
SMALL = Limits(max_positions=64, window=16, cadence=4, max_draft=0, max_chunk=4)


def certificate_for(node: PrivateKey, owner: PrivateKey = OWNER, **changes: Any) -> SignedRecord[NodeCert]:
    cert = NodeCert(OwnerKey(owner.public), node.public, 1, NOW - DAY_S, NOW + 60 * DAY_S)
    return sign(replace(cert, **changes), owner)


def offer_of(
    node: PrivateKey, span: Span, roles: Roles, /, limits: Limits = LIMITS, **changes: object
) -> SignedRecord[Offer]:
    certificate = certificate_for(node)
    offer = Offer(
        node=node.public,
        owner=certificate.record.owner,
        cert=certificate.id,
        boot=BOOT,
        seq=1,
        issued=NOW,
        life=60,
        until=0,
        model=MODEL,
        span=span,
        roles=roles,
        numerics=Numerics.F32_1,
        codecs=Codec.F32.bit | Codec.BF16.bit | Codec.Q8O4.bit,
        limits=limits,
        prices=PRICES,
        flat=0,
        state=0,
        load=Load(10_000, 0, 100),
        speed=Speed(2_000, 40, 10_000),
    )
    return sign(replace(offer, **changes), node)  # type: ignore[arg-type]


def contract_on(offer: SignedRecord[Offer], /, **changes: object) -> Contract:
    """A contract for a prompt of 1 id, but for `changes`."""
    terms = offer.record
    head, tail = Roles.HEAD in terms.roles, Roles.TAIL in terms.roles
    contract = Contract(
        nonce=sha256(offer.id).digest()[:16],
        offer=offer.id,
        cert=terms.cert,
        owner=terms.owner,
        node=terms.node,
        client=CLIENT.public,
        grant=ZEROS,  # type: ignore[arg-type]
        generation=generation_of(SECRET, terms.node),
        model=terms.model,
        params=SAMPLING if tail else ZEROS,
        span=terms.span,
        roles=terms.roles,
        numerics=terms.numerics,
        codecs=(Codec.IDS if head else Codec.F32, Codec.IDS if tail else Codec.F32),
        prompt=1,
        start=0,
        seam=0,
        limits=terms.limits,
        prices=terms.prices,
        flat=terms.flat,
        reserve=1_000_000,
        terms=(0, 0, 0),
        audit=sha256(b"secret of the audit").digest(),
        issued=NOW,
        expires=NOW + 3600,
    )
    return replace(contract, **changes)  # type: ignore[arg-type]


def agreed(offer: SignedRecord[Offer], node: PrivateKey, /, **changes: object) -> SignedRecord[Contract]:
    """A contract with both signatures."""
    return countersign(sign(contract_on(offer, **changes), CLIENT), node)


def route_offers(stages: int = 3, layers: int = 30, limits: Limits = LIMITS) -> list[SignedRecord[Offer]]:
    size = layers // stages
    offers = []
    for place in range(stages):
        roles = (Roles.HEAD if place == 0 else Roles.MIDDLE) | (Roles.TAIL if place == stages - 1 else Roles.MIDDLE)
        offers.append(offer_of(NODES[place], Span(place * size, (place + 1) * size), roles, limits))
    return offers


def row(boundary: int, position: int) -> bytes:
    """The wire row of a position behind stage `boundary`."""
    return sha256(b"%d %d" % (boundary, position)).digest()[:WIDTH]


def ids_bytes(ids: Sequence[int]) -> bytes:
    return b"".join(id_.to_bytes(4, "big") for id_ in ids)


@dataclass
class PaidRoute:
    """Both sides of every contract of a generation, joined back to back by the tests."""

    prompt: list[int]
    contracts: list[SignedRecord[Contract]]
    stages: list[StageAccount]
    client: ClientAccount
    generated: list[int]

    @property
    def head(self) -> StageAccount:
        return self.stages[0]

    @property
    def tail(self) -> StageAccount:
        return self.stages[-1]

    def compute(self, upto: int, stages: Sequence[int] | None = None) -> None:
        """Let stages compute and commit positions up to `upto`; the id of position q is 1000 + q after the prompt."""
        for place in range(len(self.stages)) if stages is None else stages:
            account = self.stages[place]
            first, count = account.committed, upto - account.committed
            ids = [*self.prompt, *range(1000 + len(self.prompt), 1000 + upto + 1)]
            rows_in = b"".join(row(place - 1, at) for at in range(first, upto))
            account.add_inputs(first, ids_bytes(ids[first:upto]) if place == 0 else rows_in, count)
            if place == len(self.stages) - 1:
                outs = range(max(len(self.prompt), first + 1), upto + 1)
                if outs:
                    account.add_outputs(outs[0], ids_bytes([1000 + at for at in outs]), len(outs))
            else:
                account.add_outputs(first, b"".join(row(place, at) for at in range(first, upto)), count)
            account.commit(upto)

    def deliver(self, count: int) -> list[Decision]:
        """Hand the client the next ids."""
        first = 1000 + len(self.prompt) + len(self.generated)
        ids = list(range(first, first + count))
        self.generated += ids
        return self.client.add_ids(ids)

    def propose(self, place: int, now: int = NOW, at: float = 0.0) -> list[Decision]:
        """Give the client everything that is due at a stage."""
        decisions: list[Decision] = []
        for proposal in self.stages[place].due(now):
            decisions += self.hand_over(place, proposal, at)
        return decisions

    def hand_over(self, place: int, proposal: Proposal, at: float = 0.0) -> list[Decision]:
        signed = proposal.signed
        return self.client.propose(place, signed.body, signed.signatures[0], at)

    def propose_all(self, now: int = NOW) -> list[Decision]:
        return [decision for place in range(len(self.stages)) for decision in self.propose(place, now)]

    def settle(self, decisions: Sequence[Decision]) -> list[SignedRecord[Receipt]]:
        """Take the client's signatures back to the stages."""
        complete = []
        for decision in decisions:
            assert isinstance(decision, Sign)
            receipt = self.stages[decision.stage].sign(decision.receipt.body, decision.receipt.signatures[1])
            assert receipt is not None
            complete.append(receipt)
        return complete


def paid_route(
    stages: int = 3, prompt: int = 512, layers: int = 30, limits: Limits = LIMITS, *others: Limits, life_s: int = 3600
) -> PaidRoute:
    """limits: of all stages, or of the first, where the others have other ones."""
    ids = list(range(1, prompt + 1))
    offers = route_offers(stages, layers, limits)
    terms = {"prompt": prompt, "expires": NOW + life_s}
    each = (limits, *others) if others else (limits,) * stages
    contracts = [agreed(offer, NODES[place], limits=each[place], **terms) for place, offer in enumerate(offers)]
    accounts = [StageAccount(contract, SECRET, NODES[place]) for place, contract in enumerate(contracts)]
    return PaidRoute(ids, contracts, accounts, ClientAccount(contracts, ids, SECRET, CLIENT), [])


def signed_stages(decisions: Sequence[Decision]) -> list[tuple[int, int]]:
    """Stage and number of every signature among the decisions."""
    return [(decision.stage, decision.receipt.record.seq) for decision in decisions if isinstance(decision, Sign)]
