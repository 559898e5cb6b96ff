"""Records: one encoding, one id, one error; certificates, offers and contracts by their own rules."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.records.canonical import pack_array, unpack_array
from p2pinfer.core.records.certificate import (
    MAX_CERTIFICATE_S,
    NodeCert,
    NodeRevoke,
    verify_certificate,
    verify_revocation,
)
from p2pinfer.core.records.contract import (
    EXPIRY_S,
    MAX_BID,
    Contract,
    check_request,
    generation_of,
    verify_contract,
    verify_request,
)
from p2pinfer.core.records.offer import Offer, verify_offer
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.records.receipt import Receipt, verify_receipt
from p2pinfer.core.records.records import ZEROS, Record, countersign, decode, encode, record_id, sign
from p2pinfer.core.records.statement import Header
from p2pinfer.core.records.terms import CADENCE_PART, Limits
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused, RemoteProtocolError
from p2pinfer.core.values.units import OwnerKey, PeerKey, Roles, Span
from tests.core.paid_route import (
    CLIENT,
    DAY_S,
    LIMITS,
    NODES,
    NOW,
    OWNER,
    PRICES,
    SECRET,
    STRANGER,
    agreed,
    certificate_for,
    contract_on,
    offer_of,
    paid_route,
)

SHAPES: list[type[Record]] = [NodeCert, NodeRevoke, Offer, Contract, Receipt, Header]
NODE = NODES[0]
SPAN = Span(0, 10)
OFFER = offer_of(NODE, SPAN, Roles.HEAD)
CERTIFICATE = certificate_for(NODE)
CONTRACT = agreed(OFFER, NODE)
MIXED = bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")


def refused(call: Any, *args: Any) -> Code:
    with pytest.raises(RemoteProtocolError) as error:
        call(*args)
    return error.value.code


# The canonical form


@pytest.mark.parametrize(
    "items", [[1], [1, 0, 127, 128, 255, 256, 65_535, 65_536, 2**32, 2**53 - 1], [1, b"", [], [1, 2]]]
)
def test_an_array_gives_its_items_back(items: list[Any]) -> None:
    assert unpack_array(pack_array(items)) == items


@pytest.mark.parametrize(
    "data",
    [
        "",
        "c1",
        "01",
        "80",
        "c0",
        "91",
        "9101ff",
        "910101",
        "dc000101",
        "dd0000000101",
        "91cc01",
        "91cd0001",
        "91cf0000000000000001",
        "91d001",
        "91c3",
        "91c2",
        "91c0",
        "91cb3ff0000000000000",
        "91a0",
        "91a161",
        "91d90161",
        "91c5000100",
        "9180",
        "91d40000",
        "919190",
        "9191c3",
        "9191c40100",
    ],
)
def test_what_is_not_canonical_is_a_bad_record(data: str) -> None:
    assert refused(unpack_array, bytes.fromhex(data)) is Code.BAD_RECORD


def test_deep_nesting_is_a_bad_record() -> None:
    assert refused(unpack_array, b"\x91" * 1023 + b"\x90") is Code.BAD_RECORD


def test_a_long_body_is_a_bad_record() -> None:
    assert refused(unpack_array, pack_array([1, bytes(1020)])) is Code.BAD_RECORD


@given(st.binary(max_size=200))
def test_any_bytes_are_canonical_or_a_bad_record(data: bytes) -> None:
    try:
        items = unpack_array(data)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_RECORD
    else:
        assert pack_array(items) == data


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40) | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.integers(0, 9), inner, max_size=2),
)


@given(st.sampled_from(SHAPES), st.lists(PLAIN, max_size=24))
def test_any_array_is_a_record_or_a_bad_record(shape: type[Record], items: list[object]) -> None:
    body = msgpack.packb([1, *items])
    try:
        record = decode(shape, body)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_RECORD
    else:
        assert encode(record) == body


@given(st.data())
def test_any_change_of_one_byte_is_another_record_or_a_bad_record(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from([CERTIFICATE.body, OFFER.body, CONTRACT.body])))
    shape = {CERTIFICATE.body: NodeCert, OFFER.body: Offer, CONTRACT.body: Contract}[bytes(body)]
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    try:
        record = decode(shape, bytes(body))
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_RECORD
    else:
        assert encode(record) == bytes(body)


# What all records share


@pytest.mark.parametrize("signed", [CERTIFICATE, OFFER, CONTRACT], ids=lambda signed: signed.record.TYPE)
def test_a_record_gives_its_fields_back(signed: Any) -> None:
    assert decode(type(signed.record), signed.body) == signed.record
    assert record_id(type(signed.record), signed.body) == signed.id


def test_an_unknown_version_is_a_bad_record() -> None:
    items = msgpack.unpackb(OFFER.body)
    assert refused(decode, Offer, msgpack.packb([2, *items[1:]])) is Code.BAD_RECORD


@pytest.mark.parametrize("items", [[], [1], [b"1"], [[1]]])
def test_a_body_without_its_fields_is_a_bad_record(items: list[object]) -> None:
    assert refused(decode, Offer, msgpack.packb(items)) is Code.BAD_RECORD


def test_one_body_has_other_ids_as_other_records() -> None:
    assert record_id(Offer, b"") != record_id(Contract, b"")


def test_a_signature_does_not_serve_another_kind_of_record() -> None:
    body = encode(NodeRevoke(OwnerKey(OWNER.public), NODE.public, 1, NOW))
    signature = sign(NodeRevoke(OwnerKey(OWNER.public), NODE.public, 1, NOW), OWNER).signatures[0]
    assert verify_revocation(body, signature).record.serial == 1
    assert refused(verify_certificate, body, signature) is Code.BAD_RECORD


@pytest.mark.parametrize(
    ("signed", "longest"), [(CERTIFICATE, 100), (OFFER, 300), (CONTRACT, 480)], ids=["certificate", "offer", "contract"]
)
def test_records_are_short(signed: Any, longest: int) -> None:
    assert len(signed.body) <= longest


# Certificates


def test_a_certificate_covers_contracts_within_its_time() -> None:
    certificate = CERTIFICATE.record
    assert certificate.covers(certificate.not_before, certificate.not_after)
    assert not certificate.covers(certificate.not_before - 1, certificate.not_after)
    assert not certificate.covers(certificate.not_before, certificate.not_after + 1)


@pytest.mark.parametrize("life", [0, -1, MAX_CERTIFICATE_S + 1])
def test_a_certificate_of_another_life_is_a_bad_record(life: int) -> None:
    with pytest.raises(ValueError, match="valid for"):
        certificate_for(NODE, not_after=NOW - DAY_S + life)


def test_a_certificate_by_somebody_else_is_refused() -> None:
    other = sign(CERTIFICATE.record, STRANGER)
    assert refused(verify_certificate, other.body, other.signatures[0]) is Code.BAD_SIGNATURE


def test_a_certificate_for_a_bad_key_is_refused() -> None:
    signed = sign(replace(CERTIFICATE.record, node=PeerKey(MIXED)), OWNER)
    assert refused(verify_certificate, signed.body, signed.signatures[0]) is Code.BAD_KEY


@pytest.mark.parametrize(("serial", "issued", "voids"), [(1, NOW, True), (1, NOW - 1, False), (2, NOW, False)])
def test_a_revocation_voids_earlier_serials_from_its_time_on(serial: int, issued: int, voids: bool) -> None:
    revocation = NodeRevoke(OwnerKey(OWNER.public), NODE.public, 1, NOW)
    assert revocation.voids(certificate_for(NODE, serial=serial).record, issued) is voids


def test_a_revocation_leaves_other_nodes_alone() -> None:
    revocation = NodeRevoke(OwnerKey(OWNER.public), NODES[1].public, 1, NOW)
    assert not revocation.voids(CERTIFICATE.record, NOW)


# Offers


def test_an_offer_verifies() -> None:
    assert verify_offer(OFFER.body, OFFER.signatures[0]) == OFFER


def test_an_offer_signed_by_another_node_is_refused() -> None:
    signed = sign(OFFER.record, NODES[1])
    assert refused(verify_offer, signed.body, signed.signatures[0]) is Code.BAD_SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        {"life": 0},
        {"life": 61},
        {"until": NOW + 1},
        {"until": (NOW // 900 + 9) * 900},
        {"state": 3},
        {"roles": 4},
        {"seq": 1 << 32},
        {"boot": bytes(15)},
        {"log": (0,)},
        {"log": (0, 1)},
        {"log_root": b"r" * 32},
        {"span": (0, 10)},
    ],
)
def test_an_offer_out_of_range_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        offer_of(NODE, SPAN, Roles.HEAD, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        (0, 768, 128, 0, 256),
        (4096, 767, 128, 0, 256),
        (4096, 768, 0, 0, 256),
        (4096, 768, 128, 0, 0),
        (1 << 32, 768, 128, 0, 256),
    ],
)
def test_limits_out_of_range_cannot_be_made(values: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="Limits"):
        Limits(*values)


def test_cached_positions_cost_no_more_than_computed_ones() -> None:
    with pytest.raises(ValueError, match="cached"):
        Prices(1, 2, 3, 4)


# Contracts


def test_a_contract_verifies() -> None:
    client, node = CONTRACT.signatures
    assert verify_request(CONTRACT.body, client).id == CONTRACT.id
    assert verify_contract(CONTRACT.body, client, node) == CONTRACT


def test_a_contract_needs_both_signatures() -> None:
    client, node = CONTRACT.signatures
    assert refused(verify_contract, CONTRACT.body, node, client) is Code.BAD_SIGNATURE
    assert refused(verify_contract, CONTRACT.body, client, client) is Code.BAD_SIGNATURE
    assert refused(verify_request, CONTRACT.body, node) is Code.BAD_SIGNATURE


@pytest.mark.parametrize("name", ["owner", "node", "client"])
def test_a_contract_with_a_bad_key_is_refused(name: str) -> None:
    signed = sign(contract_on(OFFER, **{name: MIXED}), CLIENT)
    assert refused(verify_request, signed.body, signed.signatures[0]) is Code.BAD_KEY


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"client": NODE.public}, "one key"),
        ({"expires": NOW}, "open for 0 s"),
        ({"expires": NOW + DAY_S + 1}, "open for"),
        ({"codecs": (1, 1)}, "codecs"),
        ({"codecs": (0, 0)}, "codecs"),
        ({"params": b"p" * 32}, "sampling parameters"),
        ({"prompt": 0}, "a prompt of no ids"),
        ({"prompt": 4096}, "4096 positions for a prompt of 4096"),
        ({"prompt": 5, "seam": 4}, "a seam at 4"),
        ({"prompt": 5, "seam": 4096}, "a seam at 4096"),
        ({"prompt": 5, "start": 5}, "start 5"),
        ({"prompt": 5, "start": 7, "seam": 6}, "start 7"),
        ({"limits": replace(LIMITS, max_positions=26_843_546)}, "a receipt could not state"),
        ({"grant": b"g" * 32}, "reserved"),
        ({"terms": (0, 0, 1)}, "reserved"),
    ],
)
def test_a_contract_that_contradicts_itself_cannot_be_made(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        contract_on(OFFER, **change)


def asked(**changes: Any) -> Code:
    """The code with which a node answers a client's contract; NONE if it takes it."""
    secret, now, offer = changes.pop("secret", SECRET), changes.pop("now", NOW), changes.pop("on", OFFER)
    request = sign(contract_on(offer, **{"prompt": 512, **changes}), CLIENT)
    try:
        check_request(request, offer, CERTIFICATE, secret=secret, now=now)
    except Refused as error:
        return error.code
    return Code.NONE


def test_a_contract_that_fits_the_offer_is_taken() -> None:
    assert asked() is Code.NONE


def test_a_bid_above_the_ask_is_taken() -> None:
    assert asked(prices=replace(PRICES, decode=90_000)) is Code.NONE


@pytest.mark.parametrize(
    "change",
    [
        {"span": Span(2, 8)},
        {"limits": replace(LIMITS, max_positions=600, window=768)},
        {"limits": replace(LIMITS, cadence=128 // CADENCE_PART)},
    ],
)
def test_less_than_was_offered_is_taken(change: dict[str, object]) -> None:
    assert asked(**change) is Code.NONE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"offer": ZEROS}, Code.UNKNOWN_OFFER),
        ({"now": NOW + 301}, Code.CLOCK_SKEW),
        ({"now": NOW - 301}, Code.CLOCK_SKEW),
        ({"now": NOW - 3600}, Code.CLOCK_SKEW),
        ({"prices": replace(PRICES, prefill=19_999)}, Code.TOO_CHEAP),
        ({"prices": replace(PRICES, sampled=0)}, Code.TOO_CHEAP),
        ({"limits": replace(LIMITS, max_positions=4097)}, Code.TOO_LONG),
        ({"limits": replace(LIMITS, window=769)}, Code.BAD_TERMS),
        ({"limits": replace(LIMITS, cadence=129, max_chunk=255)}, Code.BAD_TERMS),
        ({"limits": replace(LIMITS, cadence=128 // CADENCE_PART - 1)}, Code.BAD_TERMS),
        ({"limits": replace(LIMITS, max_draft=1)}, Code.BAD_TERMS),
        ({"owner": CLIENT.public}, Code.BAD_TERMS),
        ({"node": NODES[1].public, "generation": generation_of(SECRET, NODES[1].public)}, Code.BAD_TERMS),
        ({"cert": ZEROS}, Code.BAD_TERMS),
        ({"model": ZEROS}, Code.BAD_TERMS),
        ({"span": Span(0, 11)}, Code.BAD_TERMS),
        ({"roles": Roles.HEAD | Roles.TAIL, "codecs": (0, 0)}, Code.BAD_TERMS),
        ({"numerics": 2}, Code.BAD_TERMS),
        ({"codecs": (0, 9)}, Code.BAD_TERMS),
        ({"start": 1}, Code.UNSUPPORTED),
        ({"seam": 512}, Code.UNSUPPORTED),
        ({"generation": ZEROS}, Code.BAD_TERMS),
        ({"secret": bytes(32)}, Code.BAD_TERMS),
        ({"reserve": 100}, Code.BAD_TERMS),
        ({"expires": NOW + EXPIRY_S}, Code.BAD_TERMS),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(change: dict[str, object], code: Code) -> None:
    """Start and seam: INF-6. (RCT-16)"""
    assert asked(**change) is code


def test_a_contract_beyond_the_certificate_is_refused() -> None:
    certificate = certificate_for(NODE, not_after=NOW + 60)
    offer = offer_of(NODE, SPAN, Roles.HEAD, cert=certificate.id)
    with pytest.raises(Refused, match="certificate"):
        check_request(sign(contract_on(offer), CLIENT), offer, certificate, secret=SECRET, now=NOW)


def test_no_contract_comes_to_much_more_than_is_asked() -> None:
    """RCT-16, 9: a sum of promises would not fit a statement."""
    terms = contract_on(OFFER, prompt=512)
    most = 2**53 - 1
    flat = (MAX_BID - 1) * terms.most  # beside what the prices come to
    assert asked(flat=flat, reserve=most) is Code.NONE
    assert asked(flat=flat + 1, reserve=most) is Code.BAD_TERMS
    assert asked(prices=replace(PRICES, prefill=2**32 - 1, decode=2**32 - 1), reserve=most) is Code.BAD_TERMS


def test_a_node_that_asks_nothing_takes_no_promise() -> None:
    free = offer_of(NODE, SPAN, Roles.HEAD, prices=Prices(0, 0, 0, 0))
    assert asked(on=free) is Code.NONE
    assert asked(on=free, flat=1) is Code.BAD_TERMS


def test_the_reserve_must_cover_the_longest_session() -> None:
    most = contract_on(OFFER, prompt=512).most
    assert asked(reserve=most) is Code.NONE
    assert asked(reserve=most - 1) is Code.BAD_TERMS


# Receipts, offline


def test_a_complete_receipt_verifies_from_its_bytes() -> None:
    route = paid_route(stages=1, prompt=100)
    route.compute(256)
    route.deliver(157)
    complete = route.settle(route.propose(0))[-1]
    assert verify_receipt(complete.body, *complete.signatures, route.contracts[0]) == complete


def test_a_receipt_with_one_signature_is_not_complete() -> None:
    route = paid_route(stages=1, prompt=100)
    route.compute(256)
    signed = route.head.due(NOW)[0].signed
    node = signed.signatures[0]
    assert refused(verify_receipt, signed.body, node, node, route.contracts[0]) is Code.BAD_SIGNATURE


def test_a_receipt_above_the_reserve_is_refused() -> None:
    route = paid_route(stages=1, prompt=100)
    route.compute(256)
    signed = countersign(route.head.due(NOW)[-1].signed, CLIENT)
    poor = agreed(offer_of(NODE, Span(0, 30), Roles.HEAD | Roles.TAIL), NODE, reserve=100)
    changed = countersign(sign(replace(signed.record, contract=poor.id), NODE), CLIENT)
    assert refused(verify_receipt, changed.body, *changed.signatures, poor) is Code.RECEIPT_MISMATCH


@pytest.mark.parametrize("change", [{"seq": 0}, {"state": 2}, {"state": 1}, {"reason": 1}, {"amount": 1 << 53}])
def test_a_receipt_out_of_range_cannot_be_made(change: dict[str, int]) -> None:
    route = paid_route(stages=1, prompt=100)
    route.compute(128)
    with pytest.raises(ValueError, match=r"receipt|Receipt"):
        replace(route.head.due(NOW)[0].signed.record, **change)
