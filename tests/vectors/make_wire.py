"""Makes protocols/vectors/wire.json: python -m tests.vectors.make_wire

Bad messages and streams are good ones with one thing wrong, written by hand-made msgpack, since the code could not
write them.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgpack

from p2pinfer.core.records.offer import Load, Speed
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.wire.frames import MAX_HELLO, encode_frame
from p2pinfer.core.wire.message_codec import encode_message
from p2pinfer.core.wire.messages import (
    MAX_BODY,
    MIN_BODY,
    VERSION,
    Ack,
    AskContacts,
    AskFile,
    AskOffers,
    CallRefused,
    Contacts,
    FilePart,
    Goodbye,
    Hello,
    Message,
    Offers,
    Ping,
    Pong,
    RelayedOffer,
    Renewal,
)
from tests.core.paid_route import NOW
from tests.vectors.link_scripts import scripts
from tests.vectors.stranger_cases import allowances, backlogs, crowds, dials, rooms, told

SEED: Final = 5
FILE: Final = Path(__file__).parents[2] / "protocols" / "vectors" / "wire.json"
NO_UTF8: Final = "\udcff\udcfe"  # written as the bytes ff fe
SURROGATE: Final = b"\xed\xa0\x80".decode(errors="surrogateescape")
CLOCK_MS: Final = 1_700_000_000_000

Case = dict[str, Any]


def make() -> dict[str, Any]:
    rng = random.Random(SEED)
    return {
        "spec": "wire.md",
        "seed": SEED,
        "made_by": "tests/vectors/make_wire.py",
        "messages": [*good_messages(rng), *bad_messages(rng)],
        "streams": list(streams(rng)),
        "links": list(links()),
        "scripts": list(scripts()),
        "pace": list(pace_cases()),
        "cuts": list(cuts()),
        "names": list(names()),
        "multistream": list(multistream()),
        "lookups": list(lookups()),
        "dials": list(dials()),
        "allowances": list(allowances()),
        "backlogs": list(backlogs()),
        "told": list(told()),
        "rooms": list(rooms()),
        "crowds": list(crowds()),
        "keys": list(keys(rng)),
    }


def render(vectors: dict[str, Any]) -> str:
    return json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"


def plain(value: object) -> object:
    """A field's value as JSON has it."""
    match value:
        case bytes():
            return value.hex()
        case RelayedOffer() | Renewal() | Load() | Speed():
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case tuple():
            return [plain(item) for item in value]
    return value


# Messages


def some_messages(rng: random.Random) -> list[tuple[str, Message]]:
    relayed = RelayedOffer(
        1250,
        rng.randbytes(60),
        rng.randbytes(64),
        rng.randbytes(40),
        rng.randbytes(64),
        ("/ip4/192.0.2.7/tcp/4001", "/dns4/car.example/tcp/4001"),
    )
    renewal = Renewal(3, 20_050, 7, NOW, 0, 1, Load(10_000, 5, 100), Speed(2_000, 40, 0), rng.randbytes(64))
    return [
        ("a hello", hello()),
        ("a hello with features of a later release", hello(features=(1 << 53) - 1, agent="other/2")),
        ("a hello that says where it sees the other", hello(seen="2001:db8::/64")),
        ("an ack", Ack(123_456, 9_876_543_210)),
        ("a ping", Ping(5)),
        ("a pong", Pong((1 << 53) - 1)),
        ("a goodbye", Goodbye(Code.LEAVING, "")),
        ("a goodbye with a code of a later version", Goodbye(200, "Feierabend – bis morgen")),
        ("offers of any model wanted", AskOffers(1, b"", 64)),
        ("offers of one model wanted", AskOffers((1 << 32) - 1, rng.randbytes(32), 1)),
        (
            "offers wanted that are newer than one that is known",
            AskOffers(3, rng.randbytes(32), 8, 1, 20, 28, bytes(8)),
        ),
        ("offers wanted by an asker that knows many", AskOffers(4, b"", 1, 0, 63, 0, rng.randbytes(512))),
        ("no offers", Offers(1, ())),
        ("an offer renewed", Offers(0, (), (renewal,))),
        ("an offer announced", Offers(0, (relayed,))),
        ("two offers", Offers(7, (relayed, relayed))),
        ("an offer and two renewals", Offers(5, (relayed,), (renewal, renewal))),
        ("a manifest wanted", AskFile(2, rng.randbytes(32), "", 0, 65_536)),
        ("part of a file wanted", AskFile(3, rng.randbytes(32), "layer-000.safetensors", 1 << 40, 1)),
        ("part of a file", FilePart(3, 1 << 33, rng.randbytes(20))),
        ("what is beyond a file", FilePart(4, 10, b"")),
        ("contacts wanted", AskContacts(5)),
        ("contacts", Contacts(5, ("/ip4/192.0.2.7/tcp/4001",), ("/ip4/192.0.2.7/tcp/4002",))),
        ("contacts of a peer that only dials", Contacts(5, (), ())),
        ("a refusal", CallRefused(6, Code.BUSY, "16 calls at once are enough", 1000)),
    ]


def hello(
    version: int = VERSION, features: int = 0, max_body: int = MAX_BODY, agent: str = "test", seen: str = ""
) -> Hello:
    return Hello(version, features, max_body, CLOCK_MS, bytes(16), agent, seen)


def good_messages(rng: random.Random) -> Iterator[Case]:
    for name, message in some_messages(rng):
        values = {field.name: plain(getattr(message, field.name)) for field in fields(message)}
        yield {
            "name": name,
            "body": encode_message(message).hex(),
            "expect": type(message).__name__,
            "fields": values,
        }


def bad_messages(rng: random.Random) -> Iterator[Case]:
    for name, body in (*wrong_fields(rng), *wrong_everywhere(rng)):
        yield {"name": name, "rule": "INF-1", "body": body.hex(), "expect": Code.BAD_FRAME.label}


def wrong_fields(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """One field of a good message replaced."""
    good = {type(message).__name__: message for _, message in some_messages(rng)}
    offer, renewal = good_array(good["Offers"])[2][0], good_array(good["Offers"])[3][0]
    for name, field, value, why in (
        ("Hello", "version", 65_536, "a version of 17 bits"),
        ("Hello", "version", True, "true for version 1"),
        ("Hello", "features", 1 << 53, "features of 54 bits"),
        ("Hello", "max_body", 1 << 32, "bodies beyond 32 bits"),
        ("Hello", "max_body", MIN_BODY - 1, "bodies one byte shorter than every peer takes"),
        ("Hello", "clock_ms", -1, "a clock before 1970"),
        ("Hello", "clock_ms", 1.7e12, "a clock that is a float"),
        ("Hello", "boot", bytes(15), "a boot of 15 bytes"),
        ("Hello", "boot", "a" * 16, "a boot as text"),
        ("Hello", "agent", "a" * 65, "an agent of 65 bytes"),
        ("Hello", "agent", b"test", "an agent as bytes"),
        ("Hello", "seen", "a" * 65, "a network of 65 bytes"),
        ("Ack", "received", -1, "fewer bytes than none"),
        ("Ack", "at_us", 1 << 53, "a time of 54 bits"),
        ("Ping", "at_us", None, "nil for a time"),
        ("Pong", "at_us", [5], "a time in an array"),
        ("Goodbye", "code", 256, "a code of nine bits"),
        ("Goodbye", "text", NO_UTF8, "a text that is no UTF-8"),
        ("Hello", "agent", NO_UTF8, "an agent that is no UTF-8"),
        ("Goodbye", "text", SURROGATE, "a text with half of a character of UTF-16"),
        ("Goodbye", "text", "é" * 129, "a text of 129 characters and 258 bytes"),
        ("AskOffers", "call", 1 << 32, "a call beyond 32 bits"),
        ("AskOffers", "call", 0, "offers asked for with call 0"),
        ("AskOffers", "model", bytes(33), "a model of 33 bytes"),
        ("AskOffers", "model", bytes(31), "a model to ask for of 31 bytes"),
        ("AskOffers", "model", bytes(1), "a model to ask for of one byte"),
        ("AskOffers", "limit", 65, "65 offers wanted"),
        ("AskOffers", "limit", 0, "no offers wanted"),
        ("AskOffers", "limit", 256, "a limit of nine bits"),
        ("AskOffers", "seek", 2, "a seek that is neither yes nor no"),
        ("AskOffers", "gain", 64, "a gain beyond every life"),
        ("AskOffers", "at", 29, "four bytes from the 30th on"),
        ("AskOffers", "known", bytes(520), "65 offers that are known"),
        ("AskOffers", "known", bytes(9), "an offer named in nine bytes"),
        ("Offers", "renewals", [renewal] * 65, "65 renewals"),
        ("Offers", "renewals", [renewal[:-1]], "a renewal without a signature"),
        ("Offers", "renewals", [[256, *renewal[1:]]], "a place of nine bits"),
        ("Offers", "renewals", [[*renewal[:5], 4, *renewal[6:]]], "a state of three bits"),
        ("Offers", "renewals", [[*renewal[:6], [0, 0], *renewal[7:]]], "a load of two numbers"),
        ("Offers", "offers", [offer] * 65, "65 offers"),
        ("Offers", "offers", offer, "an offer that is in no array"),
        ("Offers", "offers", [offer[:-1]], "an offer without addresses"),
        ("Offers", "offers", [[*offer[:1], bytes(1025), *offer[2:]]], "an offer of 1,025 bytes"),
        ("Offers", "offers", [[*offer[:2], bytes(63), *offer[3:]]], "an offer's signature of 63 bytes"),
        ("Offers", "offers", [[1 << 32, *offer[1:]]], "an age beyond 32 bits"),
        ("Offers", "offers", [[*offer[:5], ["a"] * 9]], "nine addresses of one peer"),
        ("AskFile", "call", 0, "a file asked for with call 0"),
        ("AskContacts", "call", 0, "contacts asked for with call 0"),
        ("AskFile", "model", bytes(31), "a model of 31 bytes"),
        ("AskFile", "name", "a" * 65, "a name of 65 bytes"),
        ("AskFile", "name", b"", "a name as bytes"),
        ("AskFile", "offset", -1, "an offset before the file"),
        ("FilePart", "data", bytes((1 << 20) + 1)[:0] or "data", "data as text"),
        ("FilePart", "size", 1 << 53, "a size of 54 bits"),
        ("Contacts", "link", ["/ip4/192.0.2.7/tcp/4001"] * 9, "nine link addresses"),
        ("Contacts", "directory", ["a" * 257], "an address of 257 bytes"),
        ("Contacts", "link", "/ip4/192.0.2.7/tcp/4001", "an address that is in no array"),
        ("CallRefused", "code", -1, "a code below 0"),
        ("CallRefused", "retry_ms", 0.5, "half a millisecond"),
    ):
        message = good[name]
        items = good_array(message)
        items[1 + [item.name for item in fields(message)].index(field)] = value
        yield why, msgpack.packb(items, unicode_errors="surrogateescape")


def wrong_everywhere(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """What is wrong in the same way for every message."""
    for message in {type(message): message for _, message in some_messages(rng)}.values():
        name, items = type(message).__name__, good_array(message)
        yield f"{name} without its last field", msgpack.packb(items[:-1])
        yield f"{name} with one field more", msgpack.packb([*items, 0])
        yield f"{name} with nil for its first field", msgpack.packb([items[0], None, *items[2:]])
    for number in (0, 6, 15, 23, 31, 127):
        yield f"number {number}, of no message", msgpack.packb([number, 1])


def good_array(message: Message) -> list[Any]:
    return list(msgpack.unpackb(encode_message(message)))


# Streams: frames from the beginning


def streams(rng: random.Random) -> Iterator[Case]:
    first = encode_frame(hello())
    contacts = encode_frame(AskContacts(1))
    for name, data, messages, expect in (
        ("a hello", first, ["Hello"], None),
        ("a hello and two messages", first + contacts + encode_frame(Ping(1)), ["Hello", "AskContacts", "Ping"], None),
        ("a message that has not all come", first + contacts[:-1], ["Hello"], None),
        ("a length that has not all come", first + b"\0\0\0", ["Hello"], None),
        ("nothing", b"", [], None),
        ("a first frame of no bytes", bytes(4), [], Code.BAD_FRAME),
        ("a first frame one byte too long", (MAX_HELLO + 1).to_bytes(4, "big"), [], Code.BAD_FRAME),
        ("a first frame of 4 GB", b"\xff\xff\xff\xff", [], Code.BAD_FRAME),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n", [], Code.BAD_FRAME),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", [], Code.BAD_FRAME),
        ("a later frame of no bytes", first + bytes(4), ["Hello"], Code.BAD_FRAME),
        ("a later frame one byte too long", first + (MAX_BODY + 1).to_bytes(4, "big"), ["Hello"], Code.BAD_FRAME),
        ("a frame of 70 MB", first + (70_000_000).to_bytes(4, "big"), ["Hello"], Code.BAD_FRAME),
        ("a length in the other order", first + (3).to_bytes(4, "little") + contacts[4:], ["Hello"], Code.BAD_FRAME),
        ("a body one byte short", first + b"\0\0\0\x02" + contacts[4:], ["Hello"], Code.BAD_FRAME),
        ("a body one byte long", first + b"\0\0\0\x04" + contacts[4:] + b"\0", ["Hello"], Code.BAD_FRAME),
        ("a body that is no message", first + b"\0\0\0\x08" + rng.randbytes(8), ["Hello"], Code.BAD_FRAME),
        ("good, bad, good", first + contacts + bytes(4) + contacts, ["Hello", "AskContacts"], Code.BAD_FRAME),
    ):
        yield {
            "name": name,
            "rule": "WIRE-3",
            "bytes": data.hex(),
            "messages": messages,
            "expect": expect.label if expect else "ok",
        }


# Links: what a dialler says, and the Goodbye it gets


def links() -> Iterator[Case]:
    for name, rule, messages, expect in (
        ("a message before the hello", "WIRE-5", [AskContacts(1)], Code.BAD_STATE),
        ("a ping before the hello", "WIRE-5", [Ping(1)], Code.BAD_STATE),
        ("a goodbye before the hello", "WIRE-5", [Goodbye(Code.IDLE, "")], Code.BAD_STATE),
        ("a second hello", "WIRE-5", [hello(), hello()], Code.BAD_STATE),
        ("version 0", "WIRE-6", [hello(version=0)], Code.BAD_VERSION),
        ("version 2", "WIRE-6", [hello(version=2)], Code.BAD_VERSION),
        ("an ack of bytes never sent", "WIRE-7", [hello(), Ack(1_000_000, 1)], Code.BAD_STATE),
        ("an ack of fewer bytes than before", "WIRE-7", [hello(), Ack(20, 1), Ack(19, 2)], Code.BAD_STATE),
        ("a pong of a time that has not been", "WIRE-9", [hello(), Pong((1 << 53) - 1)], Code.BAD_STATE),
        ("a pong of no ping", "WIRE-9", [hello(), Pong(0)], Code.BAD_STATE),
    ):
        says = [encode_frame(message).hex() for message in messages]
        yield {"name": name, "rule": rule, "says": says, "expect": expect.label}
    for size in (0, MIN_BODY - 1):
        says = [frame(short_hello(size)).hex()]
        yield {
            "name": f"bodies of at most {size:,} bytes",
            "rule": "WIRE-4",
            "says": says,
            "expect": Code.BAD_FRAME.label,
        }


def short_hello(max_body: int) -> bytes:
    items = good_array(hello())
    items[3] = max_body
    return bytes(msgpack.packb(items))


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


# Pace: a sender's window


Step = tuple[str, int] | tuple[str, int, int]


def pace_cases() -> Iterator[Case]:
    busy: list[Step] = [("sent", 10_000_000), *(("ack", 31_250 * n, 25_000 * n) for n in range(1, 13))]
    fast: list[Step] = [("sent", 900_000_000), *(("ack", 2_500_000 * n, 25_000 * n) for n in range(1, 5))]
    slower: list[Step] = [*busy, *(("ack", 375_000 + 2_500 * n, 300_000 + 25_000 * n) for n in range(1, 10))]
    lull: list[Step] = [*busy, ("ack", 10_000_000, 9_000_000), ("sent", 500), ("ack", 10_000_500, 19_000_000)]
    for name, steps in (
        ("a link that was never measured", [("sent", 1000)]),
        ("10 Mbit/s without a round trip", busy),
        ("10 Mbit/s over 50 ms", [("rtt_us", 50_000), *busy]),
        ("the least of some round trips counts", [("rtt_us", 90_000), ("rtt_us", 50_000), ("rtt_us", 70_000), *busy]),
        ("100 MB/s over 1 ms", [("rtt_us", 1000), *fast]),
        ("a path that became slower", [("rtt_us", 50_000), *slower]),
        ("a lull on a link with little to carry", [("rtt_us", 50_000), *lull]),
        (
            "acks too near each other to measure",
            [("sent", 90_000), *(("ack", 9000 * n, 1000 * n) for n in range(1, 10))],
        ),
        ("a receiver whose clock runs backwards", [("sent", 90_000), ("ack", 10_000, 900_000), ("ack", 20_000, 1)]),
        ("two acks exactly 20 ms apart", [("sent", 100_000), ("ack", 10_000, 0), ("ack", 20_000, 20_000)]),
        ("two acks a microsecond less apart", [("sent", 100_000), ("ack", 10_000, 0), ("ack", 20_000, 19_999)]),
        ("slower samples, with MIN_FRAME bytes left each time", left(16_384)),
        ("slower samples, with a byte more left each time", left(16_385)),
        ("of sixteen round trips the least counts", [("rtt_us", 50_000), *[("rtt_us", 70_000)] * 15, *busy]),
        ("a seventeenth makes the first forgotten", [("rtt_us", 50_000), *[("rtt_us", 70_000)] * 16, *busy]),
        ("an ack of a byte never sent", [("sent", 100), ("ack", 101, 5)]),
        ("an ack of a byte less than before", [("sent", 100), ("ack", 50, 5), ("ack", 49, 6)]),
    ):
        yield {"name": name, "rule": "WIRE-29", "steps": list(walk(steps))}


def left(unacknowledged: int) -> list[Step]:
    """A fast sample, then nine of a tenth of it, after each of which so many bytes are still unacknowledged."""
    acked = 1_000_000
    steps: list[Step] = [("sent", acked + unacknowledged), ("ack", 0, 0), ("ack", acked, 100_000)]
    for number in range(1, 10):
        steps += [("sent", 25_000), ("ack", acked + 25_000 * number, 100_000 + 25_000 * number)]
    return steps


def walk(steps: list[Step]) -> Iterator[Case]:
    """What follows from WIRE-29 and WIRE-17, step by step, in exact fractions."""
    sent = acked = 0
    trips_us: list[int] = []
    rates: list[Fraction] = []  # bytes a second, of the samples that counted
    began: tuple[int, int] | None = None
    for kind, amount, *at_us in steps:
        step: Case = {kind: amount, **({"at_us": at_us[0]} if at_us else {})}
        if kind == "sent":
            sent += amount
        elif kind == "rtt_us":
            trips_us.append(amount)
        elif not acked <= amount <= sent:
            yield {**step, "expect": "bad-state"}
            return
        else:
            acked = amount
            if began is None or at_us[0] - began[1] >= 20_000:
                if began is not None:
                    rate = Fraction((acked - began[0]) * 1_000_000, at_us[0] - began[1])
                    if sent - acked > 16_384 or rate > max(rates[-8:], default=0):
                        rates.append(rate)
                began = acked, at_us[0]
        rate = max(rates[-8:], default=Fraction(0))
        trip_s = Fraction(min(trips_us[-16:], default=0), 1_000_000)
        window = max(65_536, rate * (trip_s + Fraction(1, 100)) + 16_384)
        frame = min(1_048_576, max(16_384, rate * Fraction(1, 200)))
        yield {**step, "window": int(window), "frame": int(frame), "rate": round(rate)}


# Rows and files: how they are cut


def cuts() -> Iterator[Case]:
    for name, row, count, rate, forwards in (
        ("rows that fit", 4_240, 3, 0, [3]),
        ("rows of a link that was never measured", 4_240, 8, 0, [3, 3, 2]),
        ("a row longer than the budget is not cut", 40_000, 2, 0, [1, 1]),
        ("10 MB/s", 4_240, 24, 10_000_000, [11, 11, 2]),
        ("a link so fast that the longest frame binds", 400_000, 6, 1_000_000_000, [2, 2, 2]),
    ):
        yield {"name": name, "rule": "WIRE-17", "rate": rate, "row": row, "rows": count, "forwards": forwards}
    for name, wanted, rate, most in (
        ("part of a file, on a link that was never measured", 1_048_576, 0, 16_384),
        ("part of a file at 10 MB/s", 1_048_576, 10_000_000, 50_000),
        ("less of a file than a frame takes", 100, 10_000_000, 100),
        ("part of a file on the fastest link", 1_048_576, 1_000_000_000, 1_048_576),
    ):
        yield {"name": name, "rule": "WIRE-17", "rate": rate, "wanted": wanted, "most": most}


# Connections: who is there, and what is spoken


def names() -> Iterator[Case]:
    mine, other = (PrivateKey(bytes([seed]) * 32).public for seed in (1, 2))
    for name, dialled, proven, expect in (
        ("the peer that the address names", mine, mine, "ok"),
        ("another peer at the address", mine, other, "closed"),
        ("a key that is no peer: of small order", mine, b"\1" + bytes(31), "closed"),
    ):
        address = f"/ip4/192.0.2.7/tcp/4001/p2p/{peer_name(dialled)}"
        yield {"name": name, "rule": "WIRE-1", "address": address, "proven": proven.hex(), "expect": expect}


def multistream() -> Iterator[Case]:
    """What a dialler says at the beginning of a stream, and what it hears."""

    def line(text: str) -> bytes:
        return bytes([len(text) + 1]) + text.encode() + b"\n"

    greeting, link = line("/multistream/1.0.0"), line("/p2pinfer/link/1")
    for name, says, hears in (
        ("ours", greeting + link, greeting + link),
        ("another, then ours", greeting + line("/ipfs/id/1.0.0") + link, greeting + line("na") + link),
        ("another alone", greeting + line("/ipfs/kad/1.0.0"), greeting + line("na")),
        ("one of a later version", greeting + line("/p2pinfer/link/2"), greeting + line("na")),
        ("ours in capitals", greeting + line("/P2PINFER/LINK/1"), greeting + line("na")),
    ):
        yield {"name": name, "rule": "WIRE-2", "says": says.hex(), "hears": hears.hex()}


def lookups() -> Iterator[Case]:
    """Look-ups at some times, in order; each provider answers after so many seconds, or never."""
    for name, providers, steps in (
        ("two that answer", {"a": 0.1, "b": 0.5}, [(0, ["a", "b"], 0.5)]),
        ("one that is away", {"a": 0.1, "b": None}, [(0, ["a"], 2.0), (3, ["a"], 0.1), (299, ["a"], 0.1)]),
        ("one that is asked again", {"a": 0.1, "b": None}, [(0, ["a"], 2.0), (300, ["a"], 2.0)]),
        ("one that answers too late", {"a": 1.9, "b": 2.1}, [(0, ["a"], 2.0)]),
        ("all are away", dict.fromkeys("abcde"), [(0, [], 2.0), (10, [], 0.0)]),
    ):
        looks = [{"at_s": at, "found": found, "took_s": took} for at, found, took in steps]
        yield {"name": name, "rule": "WIRE-18", "providers": providers, "lookups": looks}


# Keys in the DHT


def keys(rng: random.Random) -> Iterator[Case]:
    for name in ("a model", "another model"):
        model = rng.randbytes(32)
        key = sha256(b"p2pinfer/1/model\0" + model + b"\0").digest()
        yield {"name": name, "model": model.hex(), "depth": 0, "key": key.hex()}


if __name__ == "__main__":
    FILE.write_text(render(make()), encoding="utf-8")
