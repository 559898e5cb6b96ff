"""From a route to signed contracts and the opens that carry them (protocols/receipts.md, "Contract")."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from p2pinfer.core.money.budget import NEWCOMER_LIFE_S
from p2pinfer.core.records.contract import MAX_CONTRACT_S, Contract, generation_of
from p2pinfer.core.records.offer import Offer
from p2pinfer.core.records.pricing import USAGE_BITS
from p2pinfer.core.records.records import ZEROS, SignedRecord, sign
from p2pinfer.core.records.sampling import SamplingRecord, encode_sampling, params_hash
from p2pinfer.core.records.terms import CADENCE_PART, Limits
from p2pinfer.core.values.errors import NoRoute, TooDear
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, PeerKey, RecordId, Roles, SessionId, Span, roles_of
from p2pinfer.core.wire.session_messages import Neighbour, Open
from p2pinfer.overlay.machine import Machine

POSITION_S: Final = 2  # at most, on any route that somebody would wait for
MAX_RESERVE: Final = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage of a route: whose offer, where to reach it, which layers.

    until: the end of the node's certificate, Unix seconds
    """

    offer: SignedRecord[Offer]
    addresses: tuple[str, ...]
    span: Span
    until: int

    @property
    def key(self) -> PeerKey:
        return self.offer.record.node

    @property
    def neighbour(self) -> Neighbour:
        return Neighbour(self.key, self.addresses)


@dataclass(frozen=True, slots=True)
class Plan:
    """A generation ready to be opened. secrets and contracts are the client's alone until then."""

    session: SessionId
    secret: bytes
    stages: tuple[StagePlan, ...]
    contracts: tuple[SignedRecord[Contract], ...]
    opens: tuple[Open, ...]

    def with_ticket(self, ticket: bytes) -> "Plan":
        """The same, of a request that waits where there is no room."""
        return replace(self, opens=tuple(replace(one, ticket=ticket) for one in self.opens))


@dataclass(frozen=True, slots=True)
class Order:
    """An order of a route.

    layers: of the model
    prompt: prompt ids
    most:   nano-credits that all contracts may come to, at worst
    known:  nodes for which the key has signed something in full; with others a contract is short
    """

    layers: int
    prompt: int
    sampling: SamplingRecord
    codec: Codec
    most: int
    known: Collection[PeerKey] = ()


def make_plan(key: PrivateKey, stages: Sequence[StagePlan], order: Order, machine: Machine) -> Plan:
    """Contracts with every stage, signed by the client, and the opens for them.

    machine: has the time of day, and makes up the session's id and secrets

    Raises NoRoute where the stages' limits do not fit each other or the generation, TooDear where `most` is passed.
    """
    session, secret = SessionId(machine.lots.randbytes(16)), machine.lots.randbytes(32)
    draft = _Draft(key, session, secret, order, encode_sampling(order.sampling), machine.unix())
    limits = _common_limits(stages, order.prompt + order.sampling.max_tokens)
    drafts = [
        draft.contract(stage, limit, machine.lots.randbytes(16)) for stage, limit in zip(stages, limits, strict=True)
    ]
    if (worst := sum(contract.reserve for contract in drafts)) > order.most:
        raise TooDear(f"the route may cost {worst:,} nano-credits, and the limit is {order.most:,}: it is not signed")
    contracts = tuple(sign(contract, key) for contract in drafts)
    opens = tuple(draft.open(stages, index, contract) for index, contract in enumerate(contracts))
    return Plan(draft.session, draft.secret, tuple(stages), contracts, opens)


@dataclass(frozen=True, slots=True)
class _Draft:
    """The part that all contracts and opens of one generation share."""

    key: PrivateKey
    session: SessionId
    secret: bytes
    order: Order
    sampling: bytes
    now: int

    def contract(self, stage: StagePlan, limits: Limits, nonce: bytes) -> Contract:
        offer, roles = stage.offer.record, roles_of(stage.span, self.order.layers)
        tail, codec = Roles.TAIL in roles, self.order.codec
        contract = Contract(
            nonce=nonce,
            offer=stage.offer.id,
            cert=offer.cert,
            owner=offer.owner,
            node=offer.node,
            client=self.key.public,
            grant=RecordId(ZEROS),
            generation=generation_of(self.secret, offer.node),
            model=offer.model,
            params=params_hash(self.secret, self.sampling) if tail else ZEROS,
            span=stage.span,
            roles=roles,
            numerics=offer.numerics,
            codecs=(Codec.IDS if Roles.HEAD in roles else codec, Codec.IDS if tail else codec),
            prompt=self.order.prompt,
            start=0,
            seam=0,
            limits=limits,
            prices=offer.prices,
            flat=offer.flat,
            reserve=MAX_RESERVE,
            terms=(0, 0, 0),
            audit=sha256(audit_secret(self.key, nonce)).digest(),
            issued=self.now,
            expires=min(self.now + self._life_s(stage.key, limits.max_positions), stage.until),
        )
        if contract.most > MAX_RESERVE:
            raise NoRoute(f"a stage asks {contract.most} ncr at most, more than a receipt can state: {MAX_RESERVE} ncr")
        return replace(contract, reserve=contract.most)

    def _life_s(self, node: PeerKey, positions: int) -> int:
        """Seconds that a contract may last: a node may take none but a short one of a client that it does not know."""
        wanted = min(MAX_CONTRACT_S, positions * POSITION_S)
        return max(NEWCOMER_LIFE_S, wanted) if node in self.order.known else NEWCOMER_LIFE_S

    def open(self, stages: Sequence[StagePlan], index: int, contract: SignedRecord[Contract]) -> Open:
        last = len(stages) - 1
        far_end = {0: last, last: 0}.get(index) if last else None
        return Open(
            session=self.session,
            epoch=0,
            contract=contract.body,
            signature=contract.signatures[0],
            secret=self.secret,
            sampling=self.sampling if Roles.TAIL in contract.record.roles else b"",
            predecessor=(stages[index - 1].neighbour,) if index else (),
            successor=(stages[index + 1].neighbour,) if index < last else (),
            far_end=() if far_end is None else (stages[far_end].neighbour,),
            prefix=(),
        )


def _common_limits(stages: Sequence[StagePlan], positions: int) -> list[Limits]:
    """Each stage's limits, with one cadence and one chunk for all: receipts are compared at equal positions."""
    offered = [stage.offer.record.limits for stage in stages]
    cadence, longest = min(limits.cadence for limits in offered), max(limits.cadence for limits in offered)
    chunk = min(limits.max_chunk for limits in offered)
    if cadence * CADENCE_PART < longest:
        raise NoRoute(f"the stages' limits do not fit each other: receipts every {cadence} and {longest} positions")
    found = []
    for stage, limits in zip(stages, offered, strict=True):
        if positions > limits.max_positions:
            raise NoRoute(
                f"prompt and answer need {positions} positions, a stage takes {limits.max_positions}; "
                "ask for fewer tokens or shorten the prompt"
            )
        if len(stage.span) * positions >= 1 << USAGE_BITS:
            raise NoRoute(f"{positions} positions of {len(stage.span)} layers are more than a receipt can state")
        found.append(Limits(positions, limits.window, cadence, 0, chunk))
    return found


def audit_secret(key: PrivateKey, nonce: bytes) -> bytes:
    """The secret that decides if a contract is audited: the client alone has it, and it follows from its key."""
    return sha256(b"p2pinfer/1/audit\0" + key.seed + nonce).digest()
