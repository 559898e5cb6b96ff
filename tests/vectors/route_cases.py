"""Cases of protocols/vectors/inference.json for what is opened: an Open at its stage, and the contracts of a route."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import msgpack

from p2pinfer.core.contract import Contract
from p2pinfer.core.message_codec import encode_message
from p2pinfer.core.offer import Offer
from p2pinfer.core.records import SignedRecord, encode, sign
from p2pinfer.core.session_messages import Open, pack_ids
from p2pinfer.core.terms import Limits
from p2pinfer.core.units import Codec, SessionId, Span
from tests.core.paid_route import CLIENT, NODES, NOW, PRICES, SECRET, certificate_for, contract_on, route_offers

Case = dict[str, Any]

SESSION = SessionId(b"session of a pay")
LAYERS = 30
LIMITS = Limits(max_positions=64, window=48, cadence=4, max_draft=0, max_chunk=4)


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
        ("a cadence below the offer's", {"limits": replace(LIMITS, cadence=3)}, {}, "bad-terms"),
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
        request = sign(contract_on(offer, **terms), CLIENT)  # type: ignore[arg-type]
        message = Open(SESSION, 0, request.body, request.signatures[0], SECRET, b"", (), (), (), ())
        body = encode_message(replace(message, **changes)).hex()
        here = {"offer": offer.body.hex(), "certificate": certificate_for(NODES[0]).body.hex(), "now": NOW}
        yield {"name": name, "rule": rule, **here, "body": body, "expect": expect}


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
        ("no tail", usual[:2], "misfit"),
        ("no head", usual[1:], "misfit"),
        ("other windows and prices", contracts(limits=replace(LIMITS, window=60), flat=7), "ok"),
    ):
        bodies = [encode(contract).hex() for contract in chosen]
        yield {"name": name, "rule": "INF-7", "prompt": 1, "contracts": bodies, "expect": expect}
