"""Cases of protocols/vectors/inference.json for what is opened: an Open at its stage, and the contracts of a route."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import msgpack

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.offer import Offer
from p2pinfer.core.records.records import SignedRecord, encode, sign
from p2pinfer.core.records.sampling import SamplingRecord, encode_sampling, params_hash
from p2pinfer.core.records.terms import Limits
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, PeerKey, Roles, SessionId, Span
from p2pinfer.core.wire.message_codec import encode_message
from p2pinfer.core.wire.session_messages import Neighbour, Open, pack_ids
from tests.core.paid_route import CLIENT, NODES, NOW, PRICES, SECRET, certificate_for, contract_on, route_offers

Case = dict[str, Any]

SESSION = SessionId(b"session of a pay")
LAYERS = 30
LIMITS = Limits(max_positions=64, window=48, cadence=4, max_draft=0, max_chunk=4)
GREEDY = encode_sampling(SamplingRecord(max_tokens=8))


def opens() -> Iterator[Case]:
    """What a stage that offers the whole model answers an Open, and at which time of its clock."""
    [offer] = route_offers(1, LAYERS, LIMITS)
    for name, terms, changes, expect in (
        ("a new generation", {}, {}, "ok"),
        ("one that continues", {}, {"mode": 1}, "unsupported"),
        ("one that continues, with ids", {}, {"mode": 1, "epoch": 1, "ids": pack_ids((21, 22))}, "unsupported"),
        ("one that stands by", {}, {"mode": 2}, "unsupported"),
        ("a mode of a later version", {}, {"mode": 3}, "unsupported"),
        ("a new generation with ids", {}, {"ids": pack_ids((21,))}, "bad-terms"),
        ("a new generation with an epoch", {}, {"epoch": 1}, "bad-terms"),
        ("a contract with a start", {"prompt": 5, "start": 4}, {}, "unsupported"),
        ("a contract with a seam", {"prompt": 5, "seam": 6}, {}, "unsupported"),
        ("a contract with both", {"prompt": 5, "start": 6, "seam": 6}, {}, "unsupported"),
        ("another offer", {"offer": bytes(32)}, {}, "unknown-offer"),
        ("a clock that is 301 s behind", {"issued": NOW - 301}, {}, "clock-skew"),
        ("a clock that is 301 s ahead", {"issued": NOW + 301, "expires": NOW + 3600}, {}, "clock-skew"),
        ("a contract that is nearly over", {"expires": NOW + 10}, {}, "bad-terms"),
        ("a price below the offer's", {"prices": replace(PRICES, sampled=PRICES.sampled - 1)}, {}, "too-cheap"),
        ("prices above the offer's", {"prices": replace(PRICES, decode=PRICES.decode + 1)}, {}, "ok"),
        ("more positions than offered", {"limits": replace(LIMITS, max_positions=65)}, {}, "too-long"),
        ("a wider window than offered", {"limits": replace(LIMITS, window=49)}, {}, "bad-terms"),
        ("a cadence above the offer's", {"limits": replace(LIMITS, cadence=5)}, {}, "bad-terms"),
        ("a cadence below the offer's", {"limits": replace(LIMITS, cadence=3)}, {}, "ok"),
        ("a bid of more than 16 times the ask", {"flat": 17 * 15_000, "reserve": 2**53 - 1}, {}, "bad-terms"),
        ("a narrower window than offered", {"limits": replace(LIMITS, window=40)}, {}, "ok"),
        ("another model", {"model": bytes(32)}, {}, "bad-terms"),
        ("layers beyond the offer's", {"span": Span(0, 31)}, {}, "bad-terms"),
        ("another numerics class", {"numerics": 2}, {}, "bad-terms"),
        ("a reserve below what it may come to", {"reserve": 100}, {}, "bad-terms"),
        ("another secret than the contract binds", {}, {"secret": bytes(32)}, "bad-terms"),
        ("a signature of nobody", {}, {"signature": bytes(64)}, "bad-signature"),
        ("no contract", {}, {"contract": b""}, "bad-record"),
        ("a prompt of no ids", {}, {"contract": no_prompt(offer)}, "bad-record"),
    ):
        rule = "INF-6" if expect == "unsupported" or "new generation" in name else "INF-36"
        yield opened(name, rule, offer, NODES[0], terms, {"sampling": GREEDY, **changes}, expect)
    yield from sampled()
    yield from neighboured()


def opened(
    name: str,
    rule: str,
    offer: SignedRecord[Offer],
    node: PrivateKey,
    terms: Case,
    changes: Case,
    expect: str | list[str],
) -> Case:
    """An Open to a node; the contract binds the sampling record unless it says otherwise."""
    sampling = changes.get("sampling", b"")
    bound = {"params": params_hash(SECRET, sampling)} if Roles.TAIL in terms.get("roles", offer.record.roles) else {}
    request = sign(contract_on(offer, **{**bound, **terms}), CLIENT)
    message = Open(SESSION, 0, request.body, request.signatures[0], SECRET, b"", (), (), (), ())
    return {
        "name": name,
        "rule": rule,
        "offer": offer.body.hex(),
        "certificate": certificate_for(node).body.hex(),
        "layers": LAYERS,
        "now": NOW,
        "body": encode_message(replace(message, **changes)).hex(),
        "expect": expect,
    }


def sampled() -> Iterator[Case]:
    """Sampling records at a tail, here of a solo stage: P is 1, `max_positions` 64."""
    [offer] = route_offers(1, LAYERS, LIMITS)
    most, more = (encode_sampling(SamplingRecord(max_tokens=count)) for count in (63, 64))
    for name, rule, terms, sampling, expect in (
        ("as many ids as there is room for", "INF-36", {}, most, "ok"),
        ("an id more than there is room for", "INF-36", {}, more, "too-long"),
        ("another record than the contract binds", "INF-8", {"params": params_hash(SECRET, most)}, GREEDY, "bad-terms"),
        (
            "a record bound with another secret",
            "INF-8",
            {"params": params_hash(bytes(32), GREEDY)},
            GREEDY,
            "bad-terms",
        ),
        (
            "no record, where the contract binds one",
            "INF-8",
            {"params": params_hash(SECRET, GREEDY)},
            b"",
            ["bad-terms", "bad-record"],
        ),
        ("bytes that are no record, and bound", "INF-26", {}, b"\x90", "bad-record"),
        ("no bytes, and bound", "INF-26", {}, b"", "bad-record"),
    ):
        yield opened(name, rule, offer, NODES[0], terms, {"sampling": sampling}, expect)


def neighboured() -> Iterator[Case]:
    """Neighbours that fit the roles or do not, at a head, a middle, a tail and a solo stage."""
    offers, [whole] = route_offers(3, LAYERS, LIMITS), route_offers(1, LAYERS, LIMITS)
    head, middle, tail = ((offer, node) for offer, node in zip(offers, NODES, strict=True))
    solo = (whole, NODES[0])
    first, second, third = ((Neighbour(PeerKey(node.public), ()),) for node in NODES)
    client, nobody = ((Neighbour(PeerKey(key), ()),) for key in (CLIENT.public, b"\1" + bytes(31)))
    for name, (offer, node), terms, before, after, far, expect in (
        ("a head", head, {}, (), second, third, "ok"),
        ("a middle", middle, {}, first, third, (), "ok"),
        ("a tail", tail, {}, second, (), first, "ok"),
        ("a client that is a neighbour, too", middle, {}, client, third, (), "ok"),
        ("a neighbour whose key is no peer", middle, {}, first, nobody, (), "ok"),
        ("a head with a predecessor", head, {}, third, second, third, "bad-terms"),
        ("a head without a successor", head, {}, (), (), third, "bad-terms"),
        ("a head without a far end", head, {}, (), second, (), "bad-terms"),
        ("a middle without a predecessor", middle, {}, (), third, (), "bad-terms"),
        ("a middle without a successor", middle, {}, first, (), (), "bad-terms"),
        ("a middle with a far end", middle, {}, first, third, third, "bad-terms"),
        ("a tail without a predecessor", tail, {}, (), (), first, "bad-terms"),
        ("a tail with a successor", tail, {}, second, first, first, "bad-terms"),
        ("a tail without a far end", tail, {}, second, (), (), "bad-terms"),
        ("a solo stage with a far end", solo, {}, (), (), second, "bad-terms"),
        ("a solo stage with neighbours", solo, {}, second, second, (), "bad-terms"),
        ("a stage that is its own predecessor", middle, {}, second, third, (), "bad-terms"),
        ("a stage that is its own successor", middle, {}, first, second, (), "bad-terms"),
        ("a stage that is its own far end", head, {}, (), second, first, "bad-terms"),
        ("a solo stage without the role tail", solo, NO_TAIL, (), second, third, "bad-terms"),
        ("a solo stage without the role head", solo, NO_HEAD, second, (), third, "bad-terms"),
        ("a tail before the last layer, with a successor", solo, {"span": Span(0, 29)}, (), second, third, "bad-terms"),
        ("a solo stage without the role tail, with no neighbours", solo, NO_TAIL, (), (), (), "bad-terms"),
        ("a tail before the last layer", solo, {"span": Span(0, 29)}, (), (), (), "bad-terms"),
        ("a head after the first layer", solo, {"span": Span(1, 30)}, (), (), (), "bad-terms"),
    ):
        sampling = GREEDY if Roles.TAIL in terms.get("roles", offer.record.roles) else b""
        changes = {"predecessor": before, "successor": after, "far_end": far, "sampling": sampling}
        yield opened(name, "INF-36", offer, node, terms, changes, expect)


NO_TAIL: Case = {"roles": Roles.HEAD, "codecs": (Codec.IDS, Codec.F32), "params": bytes(32)}
NO_HEAD: Case = {"roles": Roles.TAIL, "codecs": (Codec.F32, Codec.IDS)}


def no_prompt(offer: SignedRecord[Offer]) -> bytes:
    """A contract whose prompt is 0, which the code could not write."""
    array = msgpack.unpackb(encode(contract_on(offer)))
    array[1 + [one.name for one in fields(Contract)].index("prompt")] = 0
    return bytes(msgpack.packb(array))


def routes() -> Iterator[Case]:
    """Contracts of one generation, head first, that fit one another or do not."""

    def contracts(**changes: object) -> list[Contract]:
        """Three, the second of which is changed."""
        made = [contract_on(offer) for offer in route_offers(3, LAYERS, LIMITS)]
        return [made[0], replace(made[1], **changes), made[2]]  # type: ignore[arg-type]

    usual = contracts()
    for name, chosen, expect in (
        ("three that fit", usual, "ok"),
        ("another max_chunk", contracts(limits=replace(LIMITS, max_chunk=8)), "misfit"),
        ("another cadence", contracts(limits=replace(LIMITS, cadence=8)), "misfit"),
        ("another codec on one side of a boundary", contracts(codecs=(Codec.BF16, Codec.F32)), "misfit"),
        ("another codec on the other side", contracts(codecs=(Codec.F32, Codec.Q8O4)), "misfit"),
        ("a layer is left out", contracts(span=Span(11, 20)), "misfit"),
        ("a layer twice", contracts(span=Span(9, 20)), "misfit"),
        ("another prompt", contracts(prompt=2), "misfit"),
        ("another model", contracts(model=bytes(32)), "misfit"),
        ("another numerics class", contracts(numerics=2), "misfit"),
        ("not from the first layer", [replace(usual[0], span=Span(1, 10)), *usual[1:]], "misfit"),
        ("no tail", usual[:2], "misfit"),
        ("no head", usual[1:], "misfit"),
        ("other windows and prices", contracts(limits=replace(LIMITS, window=60), flat=7), "ok"),
    ):
        bodies = [encode(contract).hex() for contract in chosen]
        yield {"name": name, "rule": "INF-7", "prompt": 1, "contracts": bodies, "expect": expect}
