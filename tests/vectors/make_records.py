"""Makes protocols/vectors/{identity,offer,receipts}.json: `python -m tests.vectors.make_records`.

Every key comes from a fixed seed and Ed25519 draws no random numbers, so that the files come out the same each time.
A vector states inputs in hex and what a reader must find: "ok" with what follows from it, or the code of the error.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256, sha512
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgpack
from base58 import b58encode
from nacl import bindings

from p2pinfer.core.records.canonical import pack_array
from p2pinfer.core.records.certificate import MAX_CERTIFICATE_S, NodeCert, NodeRevoke
from p2pinfer.core.records.contract import Contract, generation_of
from p2pinfer.core.records.counting import Work
from p2pinfer.core.records.offer import Offer
from p2pinfer.core.records.pricing import Prices, amount_of
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import ZEROS, Record, SignedRecord, countersign, encode, sign
from p2pinfer.core.records.statement import MAGIC, RECEIPT, Paid, Stated, write_statement
from p2pinfer.core.records.statement_check import verify_statement
from p2pinfer.core.records.tree import Salt, Tree, leaf_of
from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey, domain, peer_name
from p2pinfer.core.values.units import OwnerKey, RecordId, Roles, Span
from tests.core.paid_route import (
    CLIENT,
    DAY_S,
    NODES,
    NOW,
    OWNER,
    SECRET,
    STRANGER,
    certificate_for,
    contract_on,
    offer_of,
)
from tests.vectors.account_cases import proposing_cases, signing_cases
from tests.vectors.news_cases import news, renewals
from tests.vectors.placing_cases import leaving, passed

SEED: Final = 0  # nothing is drawn
FOLDER: Final = Path(__file__).parents[2] / "protocols" / "vectors"
Vector = dict[str, object]

ORDER: Final = 2**252 + 27742317777372353535851937790883648493
SMALL_ORDER: Final = {
    "the identity": "0100000000000000000000000000000000000000000000000000000000000000",
    "order 2": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4": "0000000000000000000000000000000000000000000000000000000000000000",
    "order 4, other sign": "0000000000000000000000000000000000000000000000000000000000000080",
    "order 8": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, other sign": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, other point": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, other point and sign": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}
BASE_POINT: Final = bytes.fromhex("58" + "66" * 31)
FORGED: Final = BASE_POINT + (1).to_bytes(32, "little")  # holds for any message under the identity as key: R = S*B
RECEIPT_START: Final = bytes([0x97, RECEIPT])  # of a statement's frame
NODE: Final = NODES[0]
SOLO: Final = offer_of(NODE, Span(0, 10), Roles.HEAD | Roles.TAIL)
CERTIFICATE: Final = certificate_for(NODE)


def flipped(data: bytes, bit: int) -> bytes:
    altered = bytearray(data)
    altered[bit // 8] ^= 1 << bit % 8
    return bytes(altered)


def with_item(body: bytes, place: int, value: object) -> bytes:
    """The array with one element replaced; what comes out need not be a record."""
    items = msgpack.unpackb(body)
    items[place] = value
    return bytes(msgpack.packb(items))


# identity.json


def identity() -> dict[str, list[Vector]]:
    return {
        "keys": list(_keys()),
        "signatures": list(_signatures()),
        "names": list(_names()),
        "certificates": list(_certificates()),
        "covers": list(_covers()),
        "voids": list(_voids()),
    }


def _keys() -> Iterable[Vector]:
    for name, private in (("an owner", OWNER), ("a node", NODE), ("a client", CLIENT)):
        yield {"name": name, "seed": private.seed.hex(), "key": private.public.hex(), "expect": "ok"}
    for name, small in SMALL_ORDER.items():
        yield {"name": f"small order: {name}", "key": small, "expect": "bad-key"}
    mixed = bindings.crypto_core_ed25519_add(NODE.public, bytes.fromhex(SMALL_ORDER["order 8"]))
    yield {"name": "mixed order: a good key plus a point of order 8", "key": mixed.hex(), "expect": "bad-key"}
    prime = 2**255 - 19
    sign_bit = 1 << 255
    for name, value in (
        ("p + 3, not canonical", prime + 3),
        ("all ones", 2**256 - 1),
        ("y = 2, no point", 2),
        ("y = 1 with the sign bit set, though x is 0", sign_bit | 1),
        ("y = p - 1 with the sign bit set, though x is 0", sign_bit | prime - 1),
    ):
        yield {"name": name, "key": value.to_bytes(32, "little").hex(), "expect": "bad-key"}
    yield {"name": "31 bytes", "key": NODE.public[:31].hex(), "expect": "bad-key"}


def _signatures() -> Iterable[Vector]:
    body, kind = b"body", "receipt"
    good = NODE.sign(domain(kind), body)
    larger = int.from_bytes(good[32:], "little") + ORDER
    cases = [
        ("a signature", kind, body, good, "ok"),
        ("one bit of R flipped", kind, body, flipped(good, 5), "bad-signature"),
        ("one bit of S flipped", kind, body, flipped(good, 300), "bad-signature"),
        ("one bit of the body flipped", kind, flipped(body, 0), good, "bad-signature"),
        ("under another domain", "contract", body, good, "bad-signature"),
        ("S plus the group order", kind, body, good[:32] + larger.to_bytes(32, "little"), "bad-signature"),
        ("R the identity, S to match", kind, body, _with_r_identity(kind, body), "bad-signature"),
        ("63 bytes", kind, body, good[:63], "bad-signature"),
    ]
    for name, type_, data, signature, expect in cases:
        yield {
            "name": name,
            "key": NODE.public.hex(),
            "type": type_,
            "body": data.hex(),
            "signature": signature.hex(),
            "expect": expect,
        }
    small = bytes.fromhex(SMALL_ORDER["the identity"])
    forged = {"name": "a key that verifies every message", "key": small.hex(), "type": kind, "body": body.hex()}
    yield {**forged, "signature": FORGED.hex(), "expect": "bad-key"}


def _with_r_identity(kind: str, body: bytes) -> bytes:
    """A signature that satisfies the equation with R the identity; libraries differ on it."""
    secret = int.from_bytes(sha512(NODE.seed).digest()[:32], "little") & ((1 << 254) - 8) | 1 << 254
    r = (1).to_bytes(32, "little")
    challenge = int.from_bytes(sha512(r + NODE.public + domain(kind) + body).digest(), "little") % ORDER
    return r + (challenge * secret % ORDER).to_bytes(32, "little")


def _names() -> Iterable[Vector]:
    for private in (NODE, CLIENT):
        yield {"name": "a peer", "text": peer_name(private.public), "key": private.public.hex(), "expect": "ok"}
    good = peer_name(NODE.public)
    bad_key = peer_name(bytes.fromhex(SMALL_ORDER["order 2"]))
    for name, text in (
        ("of another kind of key, as long", _name_of("002408021220", NODE.public)),
        ("of a key of 33 bytes", _name_of("002408011220", NODE.public + b"\0")),
        ("a character that base58 lacks", good[:-1] + "0"),
        ("a zero byte before it", "1" + good),
        ("one character less", good[:-1]),
        ("an RSA key's name", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"),
        ("a key of small order", bad_key),
        ("nothing", ""),
    ):
        yield {"name": name, "text": text, "expect": "bad-name"}


def _name_of(prefix: str, key: bytes) -> str:
    return b58encode(bytes.fromhex(prefix) + key).decode()


def _certificates() -> Iterable[Vector]:
    good = CERTIFICATE
    yield _one("a certificate", good, expect="ok", owner=OWNER.public.hex(), node=NODE.public.hex())
    longest = certificate_for(NODE, not_before=NOW, not_after=NOW + MAX_CERTIFICATE_S)
    yield _one("of the longest life", longest, expect="ok", owner=OWNER.public.hex(), node=NODE.public.hex())
    yield _one("signed by the node", sign(good.record, NODE), expect="bad-signature")
    yield _one(
        "one bit of the signature flipped", good, signature=flipped(good.signatures[0], 77), expect="bad-signature"
    )
    yield _one("one bit of the serial flipped", good, body=flipped(good.body, 8 * 70 + 1), expect="bad-signature")
    other_node = good.body.replace(NODE.public, _good_neighbour(NODE.public))
    yield _one(
        "one bit of the node's key flipped, which gives another good key", good, body=other_node, expect="bad-signature"
    )
    for name, place, value, expect in (
        ("another version", 0, 2, "bad-record"),
        ("a life of 0 s", 5, good.record.not_before, "bad-record"),
        ("a life of 90 days and 1 s", 5, good.record.not_before + MAX_CERTIFICATE_S + 1, "bad-record"),
        ("a serial of 2^53", 3, 2**53, "bad-record"),
        ("caps that are not zero", 6, 7, "bad-record"),
        ("caps of no bytes", 6, b"", "bad-record"),
        ("a node's key of no bytes, but a number", 2, 0, "bad-record"),
        ("bytes for a serial", 3, b"\x01", "bad-record"),
        ("an array for a serial", 3, [1], "bad-record"),
        ("false for a serial", 3, False, "bad-record"),
        ("nil for a serial", 3, None, "bad-record"),
        ("a float for a serial", 3, 1.0, "bad-record"),
        ("a negative serial", 3, -1, "bad-record"),
        ("true for a serial", 3, True, "bad-record"),
        ("a text for a serial", 3, "1", "bad-record"),
        ("a node's key of 31 bytes", 2, NODE.public[:31], "bad-record"),
        ("a node's key of small order", 2, bytes.fromhex(SMALL_ORDER["order 8"]), "bad-key"),
        ("an owner's key of small order", 1, bytes.fromhex(SMALL_ORDER["the identity"]), "bad-key"),
    ):
        body = with_item(good.body, place, value)
        yield _one(name, good, body=body, signature=OWNER.sign(domain("node-cert"), body), expect=expect)
    for name, body in _encodings(good.body):
        yield _one(name, good, body=body, signature=OWNER.sign(domain("node-cert"), body), expect="bad-record")


def _good_neighbour(key: bytes) -> bytes:
    """A good key that differs from this one in a bit."""
    others = (flipped(key, bit) for bit in range(8 * len(key)))
    return next(other for other in others if bindings.crypto_core_ed25519_is_valid_point(other))


def _encodings(body: bytes) -> Iterable[tuple[str, bytes]]:
    """Other encodings of the same values, and bytes that are none."""
    yield "a byte after the end", body + b"\0"
    yield "the last byte missing", body[:-1]
    if body[0] != 0xDC:
        yield "an array header that is longer than needed", b"\xdc\x00" + bytes([body[0] & 15]) + body[1:]
    at = _header(body)
    yield "an integer that is longer than needed: cc", body[:at] + b"\xcc\x01" + body[at + 1 :]
    long = body.index(b"\x01", 1)  # the version
    for tag, size in ((0xCD, 2), (0xCE, 4), (0xCF, 8), (0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
        other = bytes([tag]) + (1).to_bytes(size, "big")
        yield f"an integer that is longer than needed: {tag:x}", body[:long] + other + body[long + 1 :]
    bin_at = body.index(b"\xc4\x20")
    for tag, size in ((0xC5, 2), (0xC6, 4)):
        other = bytes([tag]) + (32).to_bytes(size, "big")
        yield f"a length of bytes that is longer than needed: {tag:x}", body[:bin_at] + other + body[bin_at + 2 :]
    yield "a text in place of bytes", body[:bin_at] + b"\xd9\x20" + bytes(32) + body[bin_at + 34 :]
    yield "an array header of 32 bits", b"\xdd\0\0\0" + bytes([len(msgpack.unpackb(body))]) + body[_header(body) :]
    yield "an integer and no array", b"\x01"
    yield "a map and no array", b"\x81\x01\x02"
    yield "a field missing", bytes(msgpack.packb(msgpack.unpackb(body)[:-1]))
    yield "a field too many", bytes(msgpack.packb([*msgpack.unpackb(body), 0]))
    yield "nothing", b""
    yield "1,023 arrays, each in the other", b"\x91" * 1022 + b"\x90"
    yield "1,025 bytes", bytes(msgpack.packb([1, bytes(1020)]))


def _header(body: bytes) -> int:
    """Bytes of the array's header."""
    return 3 if body[0] == 0xDC else 1


def _covers() -> Iterable[Vector]:
    certificate = CERTIFICATE.record
    first, last = certificate.not_before, certificate.not_after
    for name, issued, expires, expect in (
        ("within", NOW, NOW + 3600, True),
        ("from the first second to the last", first, last, True),
        ("one second early", first - 1, NOW, False),
        ("one second late", NOW, last + 1, False),
    ):
        yield {"name": name, "body": CERTIFICATE.body.hex(), "issued": issued, "expires": expires, "expect": expect}


def _voids() -> Iterable[Vector]:
    revocation = sign(NodeRevoke(OwnerKey(OWNER.public), NODE.public, 1, NOW), OWNER)
    earlier = certificate_for(NODE, serial=0)
    for name, certificate, issued, expect in (
        ("issued at its time", CERTIFICATE, NOW, True),
        ("an earlier serial", earlier, NOW, True),
        ("issued before it", CERTIFICATE, NOW - 1, False),
        ("a later serial", certificate_for(NODE, serial=2), NOW, False),
        ("another node", certificate_for(NODES[1]), NOW, False),
        ("another owner", certificate_for(NODE, owner=STRANGER), NOW, False),
    ):
        yield _void(name, revocation.body, revocation.signatures[0], certificate, issued, expect)
    later = sign(NodeRevoke(OwnerKey(OWNER.public), NODE.public, 9, NOW + 600), OWNER)
    for name, both, issued, expect in (
        ("a later one of a higher serial revives nothing", (revocation, later), NOW, True),
        ("the other order of the two", (later, revocation), NOW, True),
        ("before both", (revocation, later), NOW - 1, False),
    ):
        told = [(one.body, one.signatures[0]) for one in both]
        yield _void_by(f"two revocations: {name}", told, CERTIFICATE, issued, expect)
    body, kind = revocation.body, domain("node-revoke")
    yield _void("a revocation the node signed", body, NODE.sign(kind, body), CERTIFICATE, NOW, "bad-signature")
    wrong = domain("node-cert")
    yield _void("signed as a certificate", body, OWNER.sign(wrong, body), CERTIFICATE, NOW, "bad-signature")
    identity_point = bytes.fromhex(SMALL_ORDER["the identity"])
    forged = with_item(body, 1, identity_point)
    yield _void("a revocation by an owner's key that verifies everything", forged, FORGED, CERTIFICATE, NOW, "bad-key")
    for name, place, value, expect in (
        ("a revocation of another version", 0, 2, "bad-record"),
        ("a revocation with a serial of 2^53", 3, 2**53, "bad-record"),
        ("a revocation with an array for a serial", 3, [1], "bad-record"),
        ("a revocation of a node's key of small order", 2, bytes.fromhex(SMALL_ORDER["order 8"]), "bad-key"),
    ):
        altered = with_item(body, place, value)
        yield _void(name, altered, OWNER.sign(kind, altered), CERTIFICATE, NOW, expect)
    for name, altered in _encodings(body):
        yield _void(f"a revocation with {name}", altered, OWNER.sign(kind, altered), CERTIFICATE, NOW, "bad-record")


def _void(
    name: str, body: bytes, signature: bytes, certificate: SignedRecord[NodeCert], issued: int, expect: object
) -> Vector:
    return _void_by(name, [(body, signature)], certificate, issued, expect)


def _void_by(
    name: str,
    revocations: Iterable[tuple[bytes, bytes]],
    certificate: SignedRecord[NodeCert],
    issued: int,
    expect: object,
) -> Vector:
    return {
        "name": name,
        "revocations": [{"body": body.hex(), "signature": signature.hex()} for body, signature in revocations],
        "certificate": certificate.body.hex(),
        "issued": issued,
        "expect": expect,
    }


def _one(name: str, signed: SignedRecord[Record], **values: object) -> Vector:  # type: ignore[type-var]
    """A vector of a record with one signature."""
    vector: Vector = {"name": name, "body": signed.body.hex(), "signature": signed.signatures[0].hex()}
    changes = {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}
    if values["expect"] == "ok":
        vector["id"] = signed.id.hex()
    return {**vector, **changes}


# offer.json


def offer() -> dict[str, list[Vector]]:
    return {
        "offers": list(_offers()),
        "relayed": list(_relayed()),
        "order": list(_order()),
        "news": list(news()),
        "renewals": list(renewals()),
        "passed": list(passed()),
        "leaving": list(leaving()),
    }


def _offers() -> Iterable[Vector]:
    good = offer_of(NODE, Span(0, 10), Roles.HEAD)
    yield _one("an offer", good, expect="ok", fields=_plain(good.record))
    for name, changes in (
        ("until a quarter of an hour that is known", {"until": (NOW // 900 + 3) * 900}),
        ("joining", {"state": 1}),
        ("of a numerics class that is not known", {"numerics": 999}),
    ):
        signed = offer_of(NODE, Span(0, 10), Roles.HEAD, **changes)  # type: ignore[arg-type]
        yield _one(name, signed, expect="ok", fields=_plain(signed.record))
    yield _one("signed by another node", sign(good.record, NODES[1]), expect="bad-signature")
    yield _one(
        "one bit of the price flipped", good, body=flipped(good.body, _bit_of_price(good)), expect="bad-signature"
    )
    yield _one(
        "one bit of the signature flipped", good, signature=flipped(good.signatures[0], 1), expect="bad-signature"
    )
    for name, place, value, expect in (
        ("another version", 0, 2, "bad-record"),
        ("a life of 0 s", 7, 0, "bad-record"),
        ("a life of 61 s", 7, 61, "bad-record"),
        ("until a second that tells too much", 8, NOW + 1, "bad-record"),
        ("until more than two hours ahead", 8, (NOW // 900 + 9) * 900, "bad-record"),
        ("layers that end where they begin", 10, [10, 10], "bad-record"),
        ("layers backwards", 10, [10, 0], "bad-record"),
        ("one layer number too many", 10, [0, 5, 10], "bad-record"),
        ("layers from below the first", 10, [-1, 10], "bad-record"),
        ("a layer of 2^32", 10, [0, 2**32], "bad-record"),
        ("a number for the layers", 10, 10, "bad-record"),
        ("a role that is unknown", 11, 4, "bad-record"),
        ("roles of -1", 11, -1, "bad-record"),
        ("roles as bytes", 11, b"\x01", "bad-record"),
        ("limits of 2^32", 14, [2**32, 768, 128, 0, 256], "bad-record"),
        ("four limits", 14, [4096, 768, 128, 0], "bad-record"),
        ("six limits", 14, [4096, 768, 128, 0, 256, 0], "bad-record"),
        ("a number for the limits", 14, 4096, "bad-record"),
        ("a queue of 2^32 ms", 18, [0, 2**32, 0], "bad-record"),
        ("a speed of 2^32", 19, [2**32, 0, 0], "bad-record"),
        ("a log of one number", 20, [0], "bad-record"),
        ("a window below two chunks and two receipts", 14, [4096, 767, 128, 0, 256], "bad-record"),
        *((name, 14, limits, "bad-record") for name, limits in _NO_LIMITS),
        ("cached positions that cost more than computed ones", 15, [1, 1, 2, 1, 0], "bad-record"),
        ("a price of 2^32", 15, [2**32, 1, 0, 1, 0], "bad-record"),
        ("a price of kv", 15, [1, 1, 0, 1, 1], "bad-record"),
        ("a log that is not zero", 20, [0, 9], "bad-record"),
        ("a log's root that is not zero", 21, b"r" * 32, "bad-record"),
        ("a state that is unknown", 17, 3, "bad-record"),
        ("2^32 moves", 22, 2**32, "bad-record"),
        ("a number of 2^32", 5, 2**32, "bad-record"),
        ("an array within an inner array", 18, [0, [0], 0], "bad-record"),
        ("an owner's key of small order", 2, bytes.fromhex(SMALL_ORDER["order 4"]), "bad-key"),
        ("a node's key of small order", 1, bytes.fromhex(SMALL_ORDER["order 2"]), "bad-key"),
    ):
        body = with_item(good.body, place, value)
        yield _one(name, good, body=body, signature=NODE.sign(domain("offer"), body), expect=expect)
    for name, body in _encodings(good.body):
        yield _one(name, good, body=body, signature=NODE.sign(domain("offer"), body), expect="bad-record")


def _relayed() -> Iterable[Vector]:
    """An offer as a peer passes it on, and the receiver's wall clock."""
    offer = offer_of(NODE, Span(0, 10), Roles.HEAD)
    renewed, of_another = certificate_for(NODE, serial=2), certificate_for(NODES[1])
    foreign = certificate_for(NODE, owner=STRANGER)
    mixed = offer_of(NODE, Span(0, 10), Roles.HEAD, owner=STRANGER.public)
    for name, sent, certificate, age_ms, clock, expect in (
        ("as it was signed", offer, CERTIFICATE, 0, NOW, "ok"),
        ("in its last millisecond", offer, CERTIFICATE, 59_999, NOW, "ok"),
        ("past its life", offer, CERTIFICATE, 60_000, NOW, "unknown-offer"),
        ("of an age beyond every life", offer, CERTIFICATE, 2**32 - 1, NOW, "unknown-offer"),
        ("a clock an hour behind", offer, CERTIFICATE, 0, NOW - 3600, "ok"),
        ("a day ahead of the clock", offer, CERTIFICATE, 0, NOW - DAY_S, "ok"),
        ("a day and a second ahead of the clock", offer, CERTIFICATE, 0, NOW - DAY_S - 1, "unknown-offer"),
        ("a day behind the clock", offer, CERTIFICATE, 0, NOW + DAY_S, "ok"),
        (
            "a day and a second behind the clock, said to be new",
            offer,
            CERTIFICATE,
            0,
            NOW + DAY_S + 1,
            "unknown-offer",
        ),
        ("another certificate of the same node and owner", offer, renewed, 0, NOW, "bad-signature"),
        ("a certificate of another node", offer, of_another, 0, NOW, "bad-signature"),
        ("a certificate of another owner", offer, foreign, 0, NOW, "bad-signature"),
        ("an owner that is not the certificate's", mixed, CERTIFICATE, 0, NOW, "bad-signature"),
    ):
        yield {
            "name": name,
            "age_ms": age_ms,
            "offer": sent.body.hex(),
            "signature": sent.signatures[0].hex(),
            "certificate": certificate.body.hex(),
            "owner_signature": certificate.signatures[0].hex(),
            "clock": clock,
            "expect": expect,
        }


def _order() -> Iterable[Vector]:
    """Offers of one node, in the order in which they are heard."""
    known = {"boot": b"a" * 16, "seq": 7, "issued": NOW}
    other = {"boot": b"b" * 16, "seq": 9, "issued": NOW - 1}
    for name, heard, expect in (
        ("a higher number", [(20, {"seq": 8, "issued": NOW + 20})], 1),
        ("a lower number", [(20, {"seq": 6, "issued": NOW - 20})], 0),
        ("a lower number, once the first is over", [(60, {"seq": 6, "issued": NOW - 20})], 1),
        ("a higher number by a clock that was set back", [(20, {"seq": 8, "issued": NOW - 900})], 1),
        ("the same bytes", [(20, {})], 0),
        ("the same bytes again, of more age", [(20, {"age_s": 59}), (59, {"seq": 6})], 0),
        (
            "the same bytes again, of more age, once they are over by the first",
            [(20, {"age_s": 59}), (60, {"seq": 6})],
            2,
        ),
        ("the same bytes again, of less age", [(20, {"age_s": 10}), (69, {"seq": 6})], 0),
        ("the same bytes again, of less age, once they are over by it", [(20, {"age_s": 10}), (70, {"seq": 6})], 2),
        ("a higher number, told to be older than the lower", [(20, {"seq": 8, "age_s": 59}), (59, {"seq": 6})], 1),
        (
            "a higher number, told to be older than the lower, once that would be over",
            [(20, {"seq": 8, "age_s": 59}), (60, {"seq": 6})],
            2,
        ),
        (
            "a higher number, told to be older than the lower, and then of its own age",
            [(20, {"seq": 8, "age_s": 59}), (21, {"seq": 8, "age_s": 1}), (79, {"seq": 6})],
            1,
        ),
        (
            "another boot, as old as it is told to be",
            [(20, {**other, "issued": NOW + 1, "age_s": 59}), (21, {"seq": 6})],
            2,
        ),
        ("the same bytes, once the first are over", [(60, {}), (80, {"seq": 6, "issued": NOW - 20})], 1),
        ("another body under one number", [(20, {"flat": 1})], None),
        (
            "a higher number, while one of two contradicting ones is fresh",
            [(20, {"flat": 1}), (79, {"seq": 8})],
            None,
        ),
        ("a higher number, once neither is fresh", [(20, {"flat": 1}), (80, {"seq": 8})], 2),
        ("an offer from before two that contradict each other", [(10, {"seq": 8}), (20, {"seq": 8, "flat": 1})], None),
        (
            "a higher number, heard when neither is fresh, and made before",
            [(20, {"flat": 1}), (90, {"seq": 8, "age_s": 11})],
            None,
        ),
        ("a higher number, made when neither was fresh", [(20, {"flat": 1}), (90, {"seq": 8, "age_s": 10})], 2),
        ("another body under one number, once the first is over", [(60, {"flat": 1})], 1),
        ("another boot, issued later", [(20, {**other, "issued": NOW + 1})], 1),
        ("another boot, issued in the same second", [(20, {**other, "issued": NOW})], 0),
        ("another boot, issued earlier", [(20, other)], 0),
        ("another boot, issued earlier, in the last second", [(59, other)], 0),
        ("another boot, issued earlier, once the first is over", [(60, other)], 1),
        ("another boot, issued earlier and made before the first is over", [(61, {**other, "age_s": 5})], 1),
        ("one number of two boots", [(20, {**other, "seq": 7, "issued": NOW + 1})], 1),
    ):
        yield {
            "name": name,
            "heard": [_heard(after_s, {**known, **changes}) for after_s, changes in [(0, {}), *heard]],
            "expect": expect,
        }


def _heard(after_s: int, fields: dict[str, Any]) -> Vector:
    age_s = fields.pop("age_s", 0)
    return {"after_s": after_s, "age_s": age_s, "body": offer_of(NODE, Span(0, 10), Roles.HEAD, **fields).body.hex()}


_NO_LIMITS: Final = (
    ("max_positions of 0", [0, 768, 128, 0, 256]),
    ("a cadence of 0", [4096, 768, 0, 0, 256]),
    ("max_chunk of 0", [4096, 768, 128, 0, 0]),
)


def _bit_of_price(signed: SignedRecord[Record]) -> int:  # type: ignore[type-var]
    """A bit inside the prefill price, 20,000, which stands as cd 4e 20."""
    return 8 * (signed.body.index(bytes.fromhex("cd4e20")) + 2)


def _plain(record: Record) -> list[object]:
    """The fields as JSON writes them: bins in hex."""

    def plain(item: object) -> object:
        return item.hex() if isinstance(item, bytes) else item

    return [plain(item) for item in fields.to_list(record)]


# receipts.json


def receipts() -> dict[str, list[Vector]]:
    return {
        "usage": list(_usage()),
        "amounts": list(_amounts()),
        "leaves": list(_leaves()),
        "roots": list(_roots()),
        "hashes": list(_hashes()),
        "contracts": list(_contracts()),
        "requests": list(_requests()),
        "receipts": list(_receipts()),
        "signing": signing_cases(),
        "proposing": proposing_cases(),
        "contradictions": list(_contradictions()),
        "statements": list(_statements()),
        "comparisons": list(_comparisons()),
    }


def _usage() -> Iterable[Vector]:
    for name, work, committed, cached in (
        ("the example, head or middle", Work(10, 512, False), 575, 0),
        ("the example, tail", Work(10, 512, True), 575, 0),
        ("the tail one position before the prompt's end", Work(10, 512, True), 511, 0),
        ("the tail at the prompt's end has sampled one id", Work(10, 512, True), 512, 0),
        ("nothing yet", Work(10, 512, True), 0, 0),
        ("a replacement computes again what was generated, as prefill", Work(10, 512, False, 0, 540), 575, 0),
        ("a replacement at the tail is paid for ids from the seam on", Work(10, 512, True, 0, 540), 575, 0),
        ("a tail that goes on is paid from its start, for ids from the seam on", Work(10, 512, True, 512, 540), 575, 0),
        ("a start at the seam", Work(10, 512, True, 540, 540), 575, 0),
        ("nothing yet after a start", Work(10, 512, True, 540, 540), 540, 0),
        ("a start within the prompt, no id delivered", Work(10, 512, True, 384, 0), 575, 0),
        ("positions that were cached", Work(10, 512, False), 575, 496),
        ("positions after a start that were cached", Work(10, 512, False, 384, 0), 575, 128),
    ):
        usage = fields.to_list(work.usage(committed, cached))
        asked = {"layers": work.layers, "prompt": work.prompt, "tail": work.tail}
        asked |= {"start": work.start, "seam": work.seam}
        yield {"name": name, **asked, "committed": committed, "cached": cached, "expect": usage}


def _amounts() -> Iterable[Vector]:
    prices = Prices(20_000, 80_000, 2_000, 640_000)
    most = Prices(*[2**32 - 1] * 4)
    for name, at, flat, usage in (
        ("the example, head or middle", prices, 0, Work(10, 512, False).usage(575)),
        ("the example, tail", prices, 0, Work(10, 512, True).usage(575)),
        ("nothing", prices, 0, Work(10, 512, True).usage(0)),
        ("one unit is rounded up", prices, 0, Work(1, 1, False).usage(1)),
        ("a flat price", prices, 1_000, Work(1, 1, False).usage(1)),
        ("the largest product of one field", most, 0, replace(Work(1, 1, False).usage(0), prefill=2**28 - 1)),
    ):
        values = {"prices": fields.to_list(at), "flat": flat, "usage": fields.to_list(usage)}
        yield {"name": name, **values, "expect": amount_of(at, flat, usage)}


def _leaves() -> Iterable[Vector]:
    salt = Salt(SECRET)
    for name, position, row in (("an id", 0, bytes.fromhex("0000002a")), ("a row", 70_000, bytes(range(64)))):
        values = {"secret": SECRET.hex(), "position": position, "row": row.hex()}
        yield {"name": name, **values, "expect": salt.leaf(position, row).hex()}


def _roots() -> Iterable[Vector]:
    leaves = [sha256(b"leaf %d" % number).digest() for number in range(9)]
    for size in (0, 1, 2, 3, 7, 8, 9):
        shown = [leaf.hex() for leaf in leaves[:size]]
        yield {"name": f"{size} leaves", "leaves": shown, "expect": Tree(leaves).root(size).hex()}


def _hashes() -> Iterable[Vector]:
    yield {
        "name": "generation",
        "secret": SECRET.hex(),
        "node": NODE.public.hex(),
        "expect": generation_of(SECRET, NODE.public).hex(),
    }


def _paid(
    number: int,
    positions: int = 200,
    client: PrivateKey = CLIENT,
    seq: int = 2,
    final: bool = True,
    time: int = NOW + 60,
    change: Callable[[Receipt], Receipt] = lambda receipt: receipt,
    **terms: object,
) -> Paid:
    """A contract and a receipt on it, for a prompt of 100 ids."""
    nonce = number.to_bytes(16, "big")
    given = {"nonce": nonce, "client": client.public, "prompt": 100, **terms}
    contract = countersign(sign(contract_on(SOLO, **given), client), NODE)
    rows = [sha256(b"in" if side else b"out").digest() for side in (0, 1)]
    reason = Code.END if final else Code.NONE
    usage, amount = contract.record.work.usage(positions), contract.record.amount(positions)
    receipt = change(Receipt(contract.id, seq, usage, amount, rows[0], rows[1], time, int(final), reason))
    return Paid(contract, countersign(sign(receipt, NODE), client))


def _contract_vector(name: str, contract: SignedRecord[Contract], expect: str, **changes: bytes) -> Vector:
    client, node = contract.signatures
    values = {"body": contract.body, "client_signature": client, "node_signature": node, **changes}
    vector: Vector = {"name": name, **{key: value.hex() for key, value in values.items()}, "expect": expect}
    return {**vector, "id": contract.id.hex(), "fields": _plain(contract.record)} if expect == "ok" else vector


def _contracts() -> Iterable[Vector]:
    good = _paid(1).contract
    client, node = good.signatures
    yield _contract_vector("a contract", good, "ok")
    continued = _paid(1, 300, start=128, seam=150).contract
    yield _contract_vector("one that continues a session", continued, "ok")
    resumed = _paid(1, 300, start=99, seam=0).contract
    yield _contract_vector("one that continues a session of which no id was delivered", resumed, "ok")
    longest = _paid(1, limits=replace(SOLO.record.limits, max_positions=26_843_545), reserve=2**53 - 1).contract
    yield _contract_vector("as many positions as a receipt can state", longest, "ok")
    later = _paid(1, numerics=999, roles=Roles.MIDDLE, codecs=(200, 201), params=ZEROS).contract
    yield _contract_vector("a numerics class and codecs that are not known", later, "ok")
    yield _contract_vector("one bit of the reserve flipped", good, "bad-signature", body=_raised_reserve(good))
    yield _contract_vector("signatures exchanged", good, "bad-signature", client_signature=node, node_signature=client)
    yield _contract_vector("signed by the node alone", good, "bad-signature", client_signature=node)
    yield _contract_vector("signed by the client alone", good, "bad-signature", node_signature=client)
    for name, place, value, expect in (
        ("another version", 0, 2, "bad-record"),
        ("node and client are one key", 6, NODE.public, "bad-record"),
        ("a client's key of small order", 6, bytes.fromhex(SMALL_ORDER["the identity"]), "bad-key"),
        ("an owner's key of small order", 4, bytes.fromhex(SMALL_ORDER["order 8"]), "bad-key"),
        ("rows into a head", 14, [1, 0], "bad-record"),
        ("rows out of a tail", 14, [0, 1], "bad-record"),
        ("a codec of 256", 14, [0, 256], "bad-record"),
        ("three codecs", 14, [0, 0, 0], "bad-record"),
        ("a number for the codecs", 14, 0, "bad-record"),
        ("a node's key of small order", 5, bytes.fromhex(SMALL_ORDER["order 4"]), "bad-key"),
        ("a prompt of 0", 15, 0, "bad-record"),
        ("a prompt as long as the session", 15, 4096, "bad-record"),
        ("a prompt of 2^32", 15, 2**32, "bad-record"),
        ("a start past the prompt, with no seam", 16, 100, "bad-record"),
        ("a seam within the prompt", 17, 99, "bad-record"),
        ("a seam at the last position's end", 17, 4096, "bad-record"),
        ("one position more than a receipt can state", 18, [26_843_546, 768, 128, 0, 256], "bad-record"),
        ("a window below two chunks and two receipts", 18, [4096, 767, 128, 0, 256], "bad-record"),
        *((name, 18, limits, "bad-record") for name, limits in _NO_LIMITS),
        ("cached positions that cost more than computed ones", 19, [1, 1, 2, 1, 0], "bad-record"),
        ("a price of kv", 19, [20_000, 80_000, 2_000, 640_000, 1], "bad-record"),
        ("a reserve of 2^53", 21, 2**53, "bad-record"),
        ("a grant that is not zero", 7, b"g" * 32, "bad-record"),
        ("terms that are not zero", 22, [0, 500, 0], "bad-record"),
        ("open for 0 s", 25, NOW, "bad-record"),
        ("open for a day and a second", 25, NOW + DAY_S + 1, "bad-record"),
    ):
        body = with_item(good.body, place, value)
        signed = [private.sign(domain("contract"), body) for private in (CLIENT, NODE)]
        yield _contract_vector(name, good, expect, body=body, client_signature=signed[0], node_signature=signed[1])
    for name, body in (
        ("sampling parameters without the role tail", with_item(with_item(good.body, 12, 1), 14, [0, 1])),
        ("a start past the seam", with_item(with_item(good.body, 16, 151), 17, 150)),
        ("a codec of 256, in the middle", with_item(later.body, 14, [1, 256])),
    ):
        signed = [private.sign(domain("contract"), body) for private in (CLIENT, NODE)]
        yield _contract_vector(
            name, good, "bad-record", body=body, client_signature=signed[0], node_signature=signed[1]
        )


def _requests() -> Iterable[Vector]:
    """A client's contract as a node is asked to open it, beside the node's own offer and certificate."""
    offer = offer_of(NODE, Span(0, 10), Roles.HEAD, flat=5)
    terms, limits = offer.record, offer.record.limits
    asked = contract_on(offer, prompt=512)
    other = NODES[1].public
    elsewhere = {"node": other, "generation": generation_of(SECRET, other)}
    solo = {"roles": Roles.HEAD | Roles.TAIL, "codecs": (0, 0)}
    for name, changes, expect in (
        ("a contract that fits", {}, "ok"),
        ("a bid above the ask", {"prices": replace(terms.prices, decode=90_000), "flat": 6}, "ok"),
        ("fewer layers and positions", {"span": Span(2, 8), "limits": _LESS}, "ok"),
        ("a cadence of a quarter of the offer's", {"limits": replace(limits, cadence=32)}, "ok"),
        ("16 times what is asked", {"flat": 5 + 15 * asked.most, "reserve": 2**53 - 1}, "ok"),
        ("a reserve that just suffices", {"reserve": asked.most}, "ok"),
        ("a clock that is 300 s behind", {"now": NOW + 300}, "ok"),
        ("a clock that is 301 s behind", {"now": NOW + 301}, "clock-skew"),
        ("a clock that is 301 s ahead", {"now": NOW - 301}, "clock-skew"),
        ("11 s before it expires", {"expires": NOW + 11}, "ok"),
        ("10 s before it expires", {"expires": NOW + 10}, "bad-terms"),
        ("another offer", {"offer": ZEROS}, "unknown-offer"),
        ("a price below the offer's", {"prices": replace(terms.prices, sampled=0)}, "too-cheap"),
        ("a flat price below the offer's", {"flat": 4}, "too-cheap"),
        ("more positions than offered", {"limits": replace(limits, max_positions=4097)}, "too-long"),
        ("a start", {"start": 1}, "unsupported"),
        ("a seam", {"seam": 512}, "unsupported"),
        ("another node", elsewhere, "bad-terms"),
        ("another owner", {"owner": STRANGER.public}, "bad-terms"),
        ("another certificate", {"cert": ZEROS}, "bad-terms"),
        ("beyond the certificate's end", {"issued": _LAST, "expires": _LAST + 61, "now": _LAST}, "bad-terms"),
        ("another model", {"model": ZEROS}, "bad-terms"),
        ("a layer more at the end", {"span": Span(0, 11)}, "bad-terms"),
        ("a role that is not offered", solo, "bad-terms"),
        ("another numerics class", {"numerics": 2}, "bad-terms"),
        ("a codec that is not offered", {"codecs": (0, 9)}, "bad-terms"),
        ("a larger window than offered", {"limits": replace(limits, window=769)}, "bad-terms"),
        ("a longer cadence than offered", {"limits": replace(limits, cadence=129, max_chunk=255)}, "bad-terms"),
        ("a cadence below a quarter of the offer's", {"limits": replace(limits, cadence=31)}, "bad-terms"),
        (
            "a nano-credit beyond 16 times what is asked",
            {"flat": 6 + 15 * asked.most, "reserve": 2**53 - 1},
            "bad-terms",
        ),
        ("prices that no sum could hold", {"prices": _DEAR, "reserve": 2**53 - 1}, "bad-terms"),
        ("more drafts than offered", {"limits": replace(limits, max_draft=1)}, "bad-terms"),
        ("another generation", {"generation": ZEROS}, "bad-terms"),
        ("a reserve of a nano-credit too little", {"reserve": asked.most - 1}, "bad-terms"),
        ("an owner's key of small order", {"owner": bytes.fromhex(SMALL_ORDER["order 2"])}, "bad-key"),
        ("a node's key of small order", {"node": bytes.fromhex(SMALL_ORDER["order 2"])}, "bad-key"),
        ("the client's signature missing", {"signer": NODE}, "bad-signature"),
    ):
        yield _request(name, offer, CERTIFICATE, expect, **changes)
    middle = offer_of(NODE, Span(5, 15), Roles.MIDDLE)
    yield _request("a layer more at the beginning", middle, CERTIFICATE, "bad-terms", span=Span(4, 15))
    roomy = offer_of(NODE, Span(0, 10), Roles.HEAD, replace(limits, window=1024))
    chunk = replace(limits, window=1024, max_chunk=257)
    yield _request("a larger chunk than offered", roomy, CERTIFICATE, "bad-terms", limits=chunk)
    renewed = certificate_for(NODE, serial=2)
    yield _request("a certificate that the offer does not name", offer, renewed, "bad-terms")


_LESS: Final = replace(SOLO.record.limits, max_positions=600, cadence=127, max_chunk=255)
_DEAR: Final = Prices(2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1)
_LAST: Final = CERTIFICATE.record.not_after - 60


def _request(
    name: str, on: SignedRecord[Offer], certificate: SignedRecord[NodeCert], expect: str, /, **changes: object
) -> Vector:
    now, signer = changes.pop("now", NOW), changes.pop("signer", CLIENT)
    contract = sign(contract_on(on, **{"prompt": 512, **changes}), signer)
    return {
        "name": name,
        "body": contract.body.hex(),
        "signature": contract.signatures[0].hex(),
        "offer": on.body.hex(),
        "certificate": certificate.body.hex(),
        "secret": SECRET.hex(),
        "now": now,
        "expect": expect,
    }


def _raised_reserve(contract: SignedRecord[Contract]) -> bytes:
    return encode(replace(contract.record, reserve=contract.record.reserve ^ 1))


def _receipt_vector(name: str, entry: Paid, expect: str, **changes: bytes) -> Vector:
    node, client = entry.receipt.signatures
    values = {"contract": entry.contract.body, "body": entry.receipt.body, "node_signature": node}
    values |= {"client_signature": client, **changes}
    vector: Vector = {"name": name, **{key: value.hex() for key, value in values.items()}, "expect": expect}
    return {**vector, "fields": _plain(entry.receipt.record)} if expect == "ok" else vector


def _receipts() -> Iterable[Vector]:
    good = _paid(1)
    node, client = good.receipt.signatures
    yield _receipt_vector("a final receipt", good, "ok")
    yield _receipt_vector("a running receipt", _paid(1, 128, seq=1, final=False), "ok")
    yield _receipt_vector("cached positions", _paid(1, change=_cached), "ok")
    for name, fits in _FITTING:
        yield _receipt_vector(name, _paid(1, change=fits), "ok")
    continued = _paid(1, 300, start=128, seam=150)
    yield _receipt_vector("of a contract that continues a session", continued, "ok")
    yield _receipt_vector("nothing charged yet after a start", _paid(1, 128, start=128, seam=150), "ok")
    for name, change in _MISCOUNTED:
        yield _receipt_vector(name, _paid(1, change=change), "receipt-mismatch")
    yield _receipt_vector("a signature of 63 bytes", good, "bad-signature", client_signature=client[:63])
    yield _receipt_vector("sampled ids without the role tail", _head_that_sampled(1), "receipt-mismatch")
    body = encode(replace(good.receipt.record, amount=good.receipt.record.amount ^ 1))
    yield _receipt_vector("one bit of the amount flipped", good, "bad-signature", body=body)
    yield _receipt_vector("signatures exchanged", good, "bad-signature", node_signature=client, client_signature=node)
    yield _receipt_vector("signed by the node alone", good, "bad-signature", client_signature=node)
    other = replace(_paid(2), contract=good.contract)
    yield _receipt_vector("of another contract", other, "receipt-mismatch")
    for name, change in (
        ("an amount that does not follow from usage", lambda r: replace(r, amount=r.amount + 1)),
        ("usage of no whole position", lambda r: _recount(r, prefill=r.usage.prefill + 1)),
        ("cached layer-tokens of no whole position", lambda r: _recount(r, prefill=995, cached=5)),
        ("more positions than the limit", lambda r: _recount(r, decode=39_970, sampled=3_998)),
        ("before the contract by 301 s", lambda r: replace(r, time=NOW - 301)),
        ("after the contract's end", lambda r: replace(r, time=NOW + 3601)),
    ):
        yield _receipt_vector(name, _paid(1, change=change), "receipt-mismatch")
    yield _receipt_vector("above the reserve", _paid(1, reserve=164), "receipt-mismatch")
    for name, place, value in (
        ("number 0", 2, 0),
        ("a number of 2^32", 2, 2**32),
        ("usage of 2^28", 3, [2**28, 0, 0, 0, 0]),
        ("usage of four parts", 3, [1, 0, 0, 0]),
        ("usage of kv", 3, [1000, 1000, 0, 101, 3]),
        ("a root of 31 bytes", 5, bytes(31)),
        ("final without a reason", 9, 0),
        ("running with a reason", 8, 0),
        ("a state that is unknown", 8, 2),
    ):
        body = with_item(good.receipt.body, place, value)
        signed = [private.sign(domain("receipt"), body) for private in (NODE, CLIENT)]
        changes = {"body": body, "node_signature": signed[0], "client_signature": signed[1]}
        yield _receipt_vector(name, good, "bad-record", **changes)
    for name, body in _encodings(good.receipt.body):
        signed = [private.sign(domain("receipt"), body) for private in (NODE, CLIENT)]
        changes = {"body": body, "node_signature": signed[0], "client_signature": signed[1]}
        yield _receipt_vector(name, good, "bad-record", **changes)


_FITTING: Final[tuple[tuple[str, Callable[[Receipt], Receipt]], ...]] = (
    ("final with a reason that is not known", lambda r: replace(r, reason=255)),
)
_MISCOUNTED: Final[tuple[tuple[str, Callable[[Receipt], Receipt]], ...]] = (
    ("prefill and decode of no whole positions, their sum of one", lambda r: _recount(r, prefill=1001, decode=999)),
    ("a position of the prompt as decode", lambda r: _recount(r, prefill=990, decode=1010)),
    ("a generated position as prefill", lambda r: _recount(r, prefill=1010, decode=990)),
    ("more cached than the prompt", lambda r: _recount(r, prefill=0, decode=990, cached=1010)),
    ("one id more than positions give, at the tail", lambda r: _recount(r, sampled=102)),
    ("one id less than positions give, at the tail", lambda r: _recount(r, sampled=100)),
)


def _head_that_sampled(number: int) -> Paid:
    terms = {"roles": Roles.HEAD, "codecs": (0, 1), "params": ZEROS}
    return _paid(number, change=lambda receipt: _recount(receipt, sampled=1), **terms)


def _recount(receipt: Receipt, **usage: int) -> Receipt:
    changed = replace(receipt.usage, **usage)
    return replace(receipt, usage=changed, amount=amount_of(SOLO.record.prices, 0, changed))


def _cached(receipt: Receipt) -> Receipt:
    return _recount(receipt, prefill=200, cached=800)


def _contradictions() -> Iterable[Vector]:
    first = _paid(1, 128, seq=1, final=False)
    for name, other, expect in (
        ("more work under a higher number", _paid(1, 200), False),
        ("the same bytes", first, False),
        ("the same number with another body", _paid(1, 200, seq=1), True),
        ("less work under a higher number", _paid(1, 127), True),
        ("an earlier time under a higher number", _paid(1, 200, time=NOW), True),
        (
            "a lower amount alone under a higher number",
            _paid(1, 200, change=lambda r: replace(r, amount=first.receipt.record.amount - 1)),
            True,
        ),
        (
            "less in one field of usage alone under a higher number",
            _paid(1, 200, change=lambda r: replace(r, usage=replace(r.usage, prefill=999))),
            True,
        ),
        ("a final at one position with one in_root and out_root", _paid(1, 128), False),
        ("another in_root at one position", _paid(1, 128, change=lambda r: replace(r, in_root=ZEROS)), True),
        ("another out_root at one position", _paid(1, 128, change=lambda r: replace(r, out_root=ZEROS)), True),
        ("more cached at one position", _paid(1, 128, change=lambda r: _recount(r, prefill=990, cached=10)), True),
        ("the same number on another contract", _paid(2, 200, seq=1), False),
        ("less work on another contract", _paid(2, 127), False),
    ):
        yield _pair(name, first, other, expect)
    yield _pair("more work under a higher number, which is given first", _paid(1, 200), first, False)
    yield _pair("less work under a higher number, which is given first", _paid(1, 127), first, True)
    yield _pair("a receipt after the final one", _paid(1, 128, seq=1), _paid(1, 200), True)


def _pair(name: str, first: Paid, second: Paid, expect: bool) -> Vector:
    return {
        "name": name,
        "first": first.receipt.body.hex(),
        "second": second.receipt.body.hex(),
        "expect": expect,
    }


def _written(entries: list[Paid], **changes: object) -> bytes:
    terms: dict[str, object] = {"number": 1, "prev": RecordId(ZEROS), "since": NOW, "until": NOW + 3600}
    terms |= {"created": NOW + 4000, "certificates": [CERTIFICATE], **changes}
    certificates = terms.pop("certificates")
    stated = Stated(OwnerKey(OWNER.public), **terms)  # type: ignore[arg-type]
    return write_statement(NODE, stated, certificates, entries)[1]  # type: ignore[arg-type]


def _frames(data: bytes) -> list[bytes]:
    frames, at = [], len(MAGIC)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        frames.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return frames


def _file(frames: Iterable[bytes]) -> bytes:
    return MAGIC + b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def _reheaded(
    frames: list[bytes],
    signer: PrivateKey = NODE,
    raw: tuple[int, object] | None = None,
    cut: int = 64,
    **changes: object,
) -> bytes:
    """Frames under a header that fits them, root, count and amount, but for `changes`.

    raw: a place in the header, and a value that it may not have
    cut: bytes of the header's signature
    """
    amounts = [msgpack.unpackb(_array(frame)[4])[4] for frame in frames if frame[:2] == RECEIPT_START]
    fitting = {"count": len(amounts), "amount": sum(amounts), "root": Tree(map(leaf_of, frames)).root()}
    header = verify_statement(_written(_ENTRIES)).header.record
    body = encode(replace(header, **{**fitting, **changes}))  # type: ignore[arg-type]
    body = body if raw is None else with_item(body, *raw)
    return _file([pack_array([body, signer.sign(domain("statement"), body)[:cut]]), *frames])


def _array(frame: bytes) -> list[Any]:
    """The array at the beginning of a frame, whatever follows it."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(frame)
    items: list[Any] = unpacker.unpack()
    return items


def _certified(certificates: Iterable[SignedRecord[NodeCert]]) -> list[bytes]:
    """Frames of certificates, in order."""
    ordered = sorted(certificates, key=lambda certificate: certificate.id)
    return [pack_array([0, certificate.body, certificate.signatures[0]]) for certificate in ordered]


_ENTRIES: Final = [_paid(1), _paid(2, 300), _paid(3, 400, STRANGER)]


def _statements() -> Iterable[Vector]:
    whole = _written(_ENTRIES)
    renewed = certificate_for(NODE, serial=2)
    for name, data in (
        ("three receipts of two payers", whole),
        ("no receipts", _written([])),
        ("one payer's receipts", _written([_ENTRIES[2]], payer=STRANGER.public)),
        ("two certificates", _written([*_ENTRIES, _paid(9, cert=renewed.id)], certificates=[CERTIFICATE, renewed])),
        ("two payers of one amount", _written([_paid(1), _paid(2, client=STRANGER)])),
        ("a contract that continues a session", _written([_paid(1, 300, start=128, seam=150)])),
        *((name, _written([_paid(1, change=change)])) for name, change in _FITTING),
    ):
        yield _good_statement(name, data)
    for name, data, expect in _bad_statements(whole, renewed):
        yield {"name": name, "file": data.hex(), "expect": expect}


def _good_statement(name: str, data: bytes) -> Vector:
    verdict = verify_statement(data)
    payers = [[share.payer.hex(), share.count, share.amount] for share in verdict.by_payer]
    return {
        "name": name,
        "file": data.hex(),
        "expect": "ok",
        "id": verdict.header.id.hex(),
        "header": _plain(verdict.header.record),
        "contracts": [entry.contract.id.hex() for entry in verdict.entries],
        "payers": payers,
    }


def _bad_statements(whole: bytes, renewed: SignedRecord[NodeCert]) -> Iterable[tuple[str, bytes, str]]:
    header, certificate, *paid = _frames(whole)
    yield "another first line", whole.replace(b"statement 1", b"statement 2"), "bad-record"
    yield "nothing", b"", "bad-record"
    yield "the first line alone", MAGIC, "bad-record"
    yield "the last byte missing", whole[:-1], "bad-record"
    yield "a byte after the end", whole + b"\0", "bad-record"
    yield "the last receipt missing", _file([header, certificate, *paid[:-1]]), "bad-record"
    yield "a length of 2 GiB", MAGIC + bytes.fromhex("80000000") + whole, "bad-record"
    long = pack_array([1, bytes(4092)])
    assert len(long) == 4097
    yield "a frame of 4,097 bytes, which is no receipt's", _reheaded([certificate, *paid, long]), "bad-record"
    yield (
        "one bit of the root flipped",
        _file([flipped(header, 8 * (len(header) - 110)), certificate, *paid]),
        "bad-signature",
    )
    in_root = 8 * paid[0].index(sha256(b"in").digest())
    altered = [certificate, flipped(paid[0], in_root), *paid[1:]]
    yield "one bit of a receipt's in_root flipped", _reheaded(altered), "bad-signature"
    altered = [certificate, flipped(paid[0], 8 * (len(paid[0]) - 40)), *paid[1:]]
    yield "one bit of a receipt's last signature flipped", _reheaded(altered), "bad-signature"
    yield "receipts out of order", _reheaded([certificate, *paid[::-1]]), "bad-record"
    yield "a contract twice", _reheaded([certificate, paid[0], *paid]), "bad-record"
    yield "no certificate", _reheaded([]), "bad-record"
    yield "receipts without certificate", _reheaded(paid), "bad-record"
    (other,) = _certified([renewed])
    many = _certified(certificate_for(NODE, serial=serial) for serial in range(2, 67))
    yield "65 certificates", _reheaded(many), "bad-record"
    yield "a count of 65,537 receipts", _reheaded([certificate, *paid], raw=(9, 65_537)), "bad-record"
    yield "one receipt more than counted", _reheaded([certificate, *paid], count=2), "bad-record"
    yield "certificates out of order", _reheaded([*_certified([CERTIFICATE, renewed])[::-1], *paid]), "bad-record"
    yield "a certificate twice", _reheaded([certificate, certificate, *paid]), "bad-record"
    for name, foreign in (
        ("a certificate of another owner", certificate_for(NODE, owner=STRANGER)),
        ("a certificate of another node", certificate_for(NODES[1])),
    ):
        yield name, _reheaded([*_certified([CERTIFICATE, foreign]), *paid]), "bad-record"
    longer = pack_array([0, CERTIFICATE.body, CERTIFICATE.signatures[0] + b"\0"])
    yield "a certificate's signature of 65 bytes", _reheaded([longer, *paid]), "bad-signature"
    longer = pack_array([0, CERTIFICATE.body, bytes(1025)])
    yield "a certificate's signature of 1,025 bytes", _reheaded([longer, *paid]), "bad-signature"
    yield "a header's signature of 63 bytes", _reheaded([certificate, *paid], cut=63), "bad-signature"
    after = next(late for serial in count(3) if (late := certificate_for(NODE, serial=serial)).id > CERTIFICATE.id)
    for name, late in (("", other), (", in the order of certificates", _certified([after])[0])):
        yield f"a certificate after a receipt{name}", _reheaded([certificate, *paid, late]), "bad-record"
    mine = CERTIFICATE.body, CERTIFICATE.signatures[0]
    for name, frame in (
        ("a certificate's frame of kind 2", [2, *mine]),
        ("a certificate's frame of kind false", [False, *mine]),
        ("a certificate's frame with an element more", [0, *mine, 0]),
        ("a certificate's frame without its signature", [0, CERTIFICATE.body]),
        ("a certificate's frame with a number for its signature", [0, CERTIFICATE.body, 0]),
    ):
        yield name, _reheaded([bytes(msgpack.packb(frame)), *paid]), "bad-record"
    (one,) = paid[:1]
    items = msgpack.unpackb(one)
    for name, frame in (
        ("a receipt's frame of kind 2", [2, *items[1:]]),
        ("a receipt's frame of kind true", [True, *items[1:]]),
        ("a receipt's frame with an element more", [*items, 0]),
        ("a receipt's frame without its last signature", items[:-1]),
    ):
        fitting = {"count": 1, "amount": msgpack.unpackb(items[4])[4]}
        yield name, _reheaded([certificate, bytes(msgpack.packb(frame))], **fitting), "bad-record"
    for name, frames in (
        ("a byte after a certificate's array, within its frame", [certificate + b"\0", *paid]),
        ("a byte after a receipt's array, within its frame", [certificate, one + b"\0", *paid[1:]]),
        ("a kind that is longer than needed", [certificate[:1] + b"\xcc" + certificate[1:], *paid]),
        ("a kind of 64 bits", [certificate[:1] + b"\xcf" + bytes(7) + certificate[1:], *paid]),
        ("a frame that is no array", [certificate, *paid, b"\x01"]),
        ("a frame of nothing", [certificate, *paid, b""]),
    ):
        yield name, _reheaded(frames), "bad-record"
    yield "a byte after the header's array, within its frame", _file([header + b"\0", certificate, *paid]), "bad-record"
    yield "a header's frame with an element more", _file([b"\x93" + header[1:] + b"\0", certificate]), "bad-record"
    yield "a frame of another kind", _reheaded([certificate, *paid, pack_array([2, b""])]), "bad-record"
    yield "one receipt less than counted", _reheaded([certificate, *paid], count=4), "bad-record"
    yield "a sum that is wrong", _reheaded([certificate, *paid], amount=1), "bad-record"
    yield "a root that is wrong", _reheaded([certificate, *paid], root=ZEROS), "bad-record"
    yield "a header signed by another node", _reheaded([certificate, *paid], signer=NODES[1]), "bad-signature"
    yield "a header of another owner", _reheaded([certificate, *paid], owner=STRANGER.public), "bad-record"
    yield "receipts of another payer", _reheaded([certificate, *paid], payer=CLIENT.public), "bad-record"
    yield "a receipt after the period", _reheaded([certificate, *paid], until=NOW + 59), "bad-record"
    yield "a receipt before the period", _reheaded([certificate, *paid], since=NOW + 61), "bad-record"
    for name, place, value in (
        ("a period that ends before it begins", 7, NOW - 1),
        ("a header's log that is not zero", 12, [3, 9]),
        ("a header's log root that is not zero", 13, b"r" * 32),
    ):
        yield name, _reheaded([certificate], raw=(place, value)), "bad-record"
    yield from ((name, _written([_paid(1, change=change)]), "receipt-mismatch") for name, change in _MISCOUNTED)
    identity_point = bytes.fromhex(SMALL_ORDER["the identity"])
    weak = encode(replace(CERTIFICATE.record, owner=OwnerKey(identity_point)))
    weak_owner = _reheaded([pack_array([0, weak, FORGED])], owner=identity_point)
    yield "an owner of small order, in header and certificate", weak_owner, "bad-key"
    yield "a payer of small order", _reheaded([certificate], payer=identity_point), "bad-key"
    yield "a contract of another owner", _written([_paid(1, owner=STRANGER.public)]), "bad-record"
    yield "a contract whose certificate is missing", _written([_paid(1, cert=b"c" * 32)]), "bad-record"
    short = certificate_for(NODE, not_after=NOW + 60)
    uncovered = _written([_paid(1, cert=short.id)], certificates=[short])
    yield "a contract that outlives its certificate", uncovered, "bad-record"
    late = certificate_for(NODE, not_before=NOW + 1)
    uncovered = _written([_paid(1, cert=late.id)], certificates=[late])
    yield "a contract issued before its certificate begins", uncovered, "bad-record"
    yield "sampled ids without the role tail", _written([_head_that_sampled(1)]), "receipt-mismatch"
    yield (
        "an amount that does not follow",
        _written([_paid(1, change=lambda r: replace(r, amount=1))]),
        "receipt-mismatch",
    )
    yield "an amount above the reserve", _written([_paid(1, reserve=1)]), "receipt-mismatch"
    yield "a receipt after its contract", _written([_paid(1, time=NOW + 3601)], until=NOW + 9999), "receipt-mismatch"
    lone = _paid(1)
    forged = replace(lone, receipt=replace(lone.receipt, signatures=(lone.receipt.signatures[0],) * 2))
    yield "a receipt the client did not sign", _written([forged]), "bad-signature"
    forged = replace(lone, receipt=replace(lone.receipt, signatures=(lone.receipt.signatures[1],) * 2))
    yield "a receipt the node did not sign", _written([forged]), "bad-signature"
    forged = replace(lone, contract=replace(lone.contract, signatures=(lone.contract.signatures[1],) * 2))
    yield "a contract the client did not sign", _written([forged]), "bad-signature"
    forged = replace(lone, contract=replace(lone.contract, signatures=(lone.contract.signatures[0],) * 2))
    yield "a contract the node did not sign", _written([forged]), "bad-signature"


def _comparisons() -> Iterable[Vector]:
    first = _written([_paid(1, 200, seq=1, final=False), _paid(2)])
    second: dict[str, object] = {"number": 2, "prev": RecordId(b"1" * 32)}
    grown, other = _paid(1, 300), _paid(3)
    taken_back = _paid(1, 199)
    foreign = sign(replace(verify_statement(first).header.record, node=NODES[1].public, count=0, amount=0), NODES[1])
    empty = Tree(map(leaf_of, _certified([certificate_for(NODES[1])]))).root()
    foreign = sign(replace(foreign.record, root=empty), NODES[1])
    of_another = _file([pack_array([foreign.body, *foreign.signatures]), *_certified([certificate_for(NODES[1])])])
    for name, data, overlaps, fork in (
        ("no contract in both", _written([other], **second), [], False),
        ("the same file", first, [(1, False), (2, False)], False),
        ("a contract of which more was paid", _written([grown], **second), [(1, False)], False),
        ("a contract of which less was paid", _written([taken_back], **second), [(1, True)], False),
        ("another statement of one number", _written([other], prev=RecordId(b"1" * 32)), [], True),
        ("another number after one and the same statement", _written([other], number=2), [], False),
        ("the same number by another node", of_another, [], False),
    ):
        pair = [verify_statement(first), verify_statement(data)]
        amounts = [{one.contract.id.hex(): one.receipt.record.amount for one in verdict.entries} for verdict in pair]
        ids = {number: _paid(number).contract.id.hex() for number, _ in overlaps}
        told = [[ids[number], amounts[0][ids[number]], amounts[1][ids[number]], bad] for number, bad in overlaps]
        yield {"name": name, "first": first.hex(), "second": data.hex(), "overlaps": sorted(told), "fork": fork}


FILES: Final = {"identity.json": identity, "offer.json": offer, "receipts.json": receipts}


def text_of(name: str) -> str:
    """The file, to the byte."""
    about = {"spec": name.replace(".json", ".md"), "seed": SEED, "made_by": "tests/vectors/make_records.py"}
    return json.dumps({**about, **FILES[name]()}, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (FOLDER / name).write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
