"""Cases of what is news to whom, and of offers renewed in short (protocols/offer.md, 3.7); made without the code."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgpack

from p2pinfer.core.records.offer import Load, Offer, Speed
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Roles, Span
from tests.core.paid_route import NODES, NOW, offer_of

Vector = dict[str, Any]
NODE = NODES[0]
SEQ, ISSUED, UNTIL, STATE, LOAD, SPEED = 5, 6, 8, 17, 18, 19  # places in an offer's body, its version in the first


def made(node: PrivateKey = NODE, /, **changes: object) -> SignedRecord[Offer]:
    return offer_of(node, Span(0, 10), Roles.HEAD, **changes)


def named(offer: SignedRecord[Offer], age_s: int, at: int = 0, state: int = 0) -> bytes:
    """An offer as a question names it, from its body's bytes."""
    plain = msgpack.unpackb(offer.body)
    for place, zero in ((SEQ, 0), (ISSUED, 0), (UNTIL, 0), (STATE, 0), (LOAD, [0, 0, 0]), (SPEED, [0, 0, 0])):
        plain[place] = zero
    terms = sha256(b"p2pinfer/1/terms\0" + msgpack.packb(plain)).digest()
    return offer.record.node[at : at + 4] + bytes([state * 64 + age_s]) + terms[:3]


def news() -> Iterable[Vector]:
    offer, joining, dearer, moved, other = made(), made(state=1), made(flat=1), made(moves=1), made(NODES[1])
    later = made(seq=2, issued=NOW + 20, load=Load(1, 2, 3), speed=Speed(4, 5, 6))
    for name, held, age_s, gain, at, known, expect in (
        ("an asker that knows nothing", offer, 0.0, 0, 0, b"", "whole"),
        ("an asker that knows another node's", offer, 0.0, 0, 0, named(other, 5), "whole"),
        ("the same age", offer, 5.0, 0, 0, named(offer, 5), "nothing"),
        ("a second younger", later, 4.0, 0, 0, named(offer, 5), "renewal"),
        ("less than a second younger, in the same whole one", later, 4.0, 0, 0, named(offer, 4), "nothing"),
        ("a second older", offer, 6.0, 0, 0, named(later, 5), "nothing"),
        ("younger by the gain", later, 5.0, 20, 0, named(offer, 25), "renewal"),
        ("younger by less than the gain", later, 5.875, 21, 0, named(offer, 25), "nothing"),
        ("of another state, and no younger", joining, 5.0, 20, 0, named(offer, 5), "renewal"),
        ("of another state, and older", joining, 6.0, 20, 0, named(offer, 5), "nothing"),
        ("other terms, younger", dearer, 1.0, 0, 0, named(offer, 5), "whole"),
        ("of a node that has moved, younger", moved, 1.0, 0, 0, named(offer, 5), "whole"),
        ("other terms, no younger", dearer, 5.0, 0, 0, named(offer, 5), "nothing"),
        ("named by the last bytes of the key", later, 4.0, 0, 28, named(offer, 5, 28), "renewal"),
        ("named by other bytes of the key than the question says", later, 4.0, 0, 3, named(offer, 5), "whole"),
        ("named second", later, 4.0, 0, 9, named(other, 5, 9) + named(offer, 5, 9), "renewal"),
        ("named twice", later, 4.0, 0, 0, named(offer, 63) + named(offer, 4), "nothing"),
        ("named twice, the younger first", later, 4.0, 0, 0, named(offer, 4) + named(offer, 63), "renewal"),
        ("of an age that the way would round up", later, 4.96, 0, 0, named(offer, 5), "renewal"),
        ("an age that no offer has", later, 4.0, 0, 0, named(offer, 63), "renewal"),
        ("a state that none has", later, 4.0, 0, 0, named(offer, 5, state=3), "renewal"),
    ):
        vector = {
            "name": name,
            "body": held.body.hex(),
            "signature": held.signatures[0].hex(),
            "age_s": age_s,
            "gain": gain,
            "at": at,
            "known": known.hex(),
            "expect": expect,
        }
        if expect == "renewal":
            place = known.rindex(held.record.node[at : at + 4]) // 8
            vector["renewal"] = renewal(held, place, round(age_s * 1000) + 50)
        yield vector


def renewal(offer: SignedRecord[Offer], place: int = 0, age_ms: int = 50, **changes: object) -> Vector:
    """The fields of a Renewal, as a message has them."""
    record = offer.record
    plain = {
        "place": place,
        "age_ms": age_ms,
        "seq": record.seq,
        "issued": record.issued,
        "until": record.until,
        "state": record.state,
        "load": [record.load.free_positions, record.load.queue_ms, record.load.busy],
        "speed": [record.speed.prefill, record.speed.decode, record.speed.uplink],
        "signature": offer.signatures[0].hex(),
    }
    return {**plain, **changes}


def renewals() -> Iterable[Vector]:
    base = made()
    later = made(seq=2, issued=NOW + 20, state=2, load=Load(1, 2, 3), speed=Speed(4, 5, 6))
    until = made(seq=3, issued=NOW + 40, until=(NOW // 900 + 3) * 900)
    for name, offer, expect in (("a newer offer", later, "ok"), ("one that says until when", until, "ok")):
        yield {
            "name": name,
            "base": base.body.hex(),
            "renewal": renewal(offer),
            "expect": expect,
            "body": offer.body.hex(),
        }
    for name, offer, changes, expect in (
        ("one of other terms", made(seq=2, flat=1), {}, "bad-signature"),
        ("one of another node", made(NODES[1], seq=2), {}, "bad-signature"),
        ("another number than was signed", later, {"seq": 3}, "bad-signature"),
        ("another load than was signed", later, {"load": [1, 2, 4]}, "bad-signature"),
        ("until a second that tells too much", later, {"until": NOW + 1}, "bad-record"),
        ("a state that is unknown", later, {"state": 3}, "bad-record"),
        ("past its life", later, {"age_ms": 60_000}, "unknown-offer"),
    ):
        yield {"name": name, "base": base.body.hex(), "renewal": renewal(offer, **changes), "expect": expect}
