"""Makes protocols/vectors/inference.json: python -m tests.vectors.make_inference

Bad messages are good ones with one thing wrong, written by hand-made msgpack, since the code could not write them.
Rows and samples come from an implementation in plain Python, made from inference.md and not from the engine.
"""

import json
import math
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgpack

from p2pinfer.core.records.draw import Purpose, uniform
from p2pinfer.core.records.sampling import SamplingRecord, encode_sampling, params_hash
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, PeerKey, SessionId
from p2pinfer.core.wire.message_codec import encode_message
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Credit,
    Finish,
    Forward,
    Neighbour,
    Open,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionRefused,
    Signed,
    Stored,
    pack_ids,
)
from tests.vectors.patience_cases import patience
from tests.vectors.ring_scripts import ring_cases
from tests.vectors.rings import generation_cases, stage_cases
from tests.vectors.route_cases import opens, routes

SEED: Final = 2
FILE: Final = Path(__file__).parents[2] / "protocols" / "vectors" / "inference.json"

Case = dict[str, Any]


def make() -> dict[str, Any]:
    rng = random.Random(SEED)
    return {
        "spec": "inference.md",
        "seed": SEED,
        "made_by": "tests/vectors/make_inference.py",
        "messages": [*good_messages(rng), *bad_messages(rng)],
        "longer": list(longer_messages(rng)),
        "sampling": [*good_sampling(), *bad_sampling()],
        "params": list(params(rng)),
        "draws": list(draws(rng)),
        "samples": list(samples(rng)),
        "rows": [*good_rows(rng), *bad_rows()],
        "opens": list(opens()),
        "routes": list(routes()),
        "stage": list(stage_cases()),
        "generation": list(generation_cases()),
        "patience": list(patience()),
        "rings": list(ring_cases()),
    }


def render(vectors: dict[str, Any]) -> str:
    return json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"


def plain(value: object) -> object:
    """A field's value as JSON has it."""
    match value:
        case bytes():
            return value.hex()
        case Neighbour():
            return {"key": value.key.hex(), "addresses": list(value.addresses)}
        case tuple():
            return [plain(item) for item in value]
    return value


# Messages


def some_messages(rng: random.Random) -> list[tuple[str, Message]]:
    session, secret = SessionId(rng.randbytes(16)), rng.randbytes(32)
    neighbour = Neighbour(PeerKey(rng.randbytes(32)), ("/ip4/192.0.2.7/tcp/4001", "/ip6/2001:db8::7/tcp/4001"))
    other = Neighbour(PeerKey(rng.randbytes(32)), ())
    contract, signature = rng.randbytes(40), rng.randbytes(64)
    record = encode_sampling(SamplingRecord(max_tokens=64))
    return [
        ("an open to a head", Open(session, 0, contract, signature, secret, b"", (), (neighbour,), (other,), ())),
        ("an open to a tail", Open(session, 0, contract, signature, secret, record, (other,), (), (neighbour,), ())),
        ("an open to a solo stage", Open(session, 0, contract, signature, secret, record, (), (), (), ())),
        (
            "an open with page hashes of a later release",
            Open(session, 1, contract, signature, secret, b"", (other,), (neighbour,), (), (bytes(16), b"\1" * 16)),
        ),
        (
            "an open that continues a generation",
            Open(session, 1, contract, signature, secret, b"", (), (neighbour,), (other,), (), 1, pack_ids((21, 22))),
        ),
        (
            "an open that stands by for a generation",
            Open(session, 2, contract, signature, secret, b"", (other,), (neighbour,), (), (), 2),
        ),
        ("an open of a mode of a later release", Open(session, 0, contract, signature, secret, b"", (), (), (), (), 9)),
        (
            "an open of one who waited for room",
            Open(session, 0, contract, signature, secret, b"", (), (), (), (), ticket=bytes(range(16))),
        ),
        ("an accept", Accept(session, 0, signature, 0)),
        ("an accept with positions held", Accept(session, 7, signature, (1 << 32) - 1)),
        ("a refusal that says when to try again", SessionRefused(session, 0, Code.BUSY, "no room", 1000)),
        ("a refusal with a code of a later version", SessionRefused(session, 0, 200, "", 0)),
        ("a refusal with a place in the queue", SessionRefused(session, 0, Code.BUSY, "", 700, bytes(range(16)), 3)),
        ("a refusal of one whose turn it is now", SessionRefused(session, 0, Code.BUSY, "", 1, bytes(range(16)), 0)),
        ("a prompt of one id", Prompt(session, 0, pack_ids((0,)))),
        ("a prompt of five ids", Prompt(session, 0, pack_ids((1, 258, 65_537, 49_151, (1 << 32) - 1)))),
        ("one row of bf16", Forward(session, 0, 0, 5, 1, 6, Codec.BF16, rng.randbytes(8))),
        ("three rows of q8o4", Forward(session, 3, 1, 128, 3, 131, Codec.Q8O4, rng.randbytes(3 * 82))),
        ("one id", Sampled(session, 0, 0, 5, (21,), Code.NONE)),
        ("the last id", Sampled(session, 0, 0, 6, (2,), Code.END)),
        ("64 ids at once", Sampled(session, 0, 0, 70_000, tuple(range(64)), Code.STOP)),
        ("a finish", Finish(session, 0, 6, Code.LENGTH)),
        ("a credit", Credit(session, 0, 512)),
        ("a credit that says the first row needed", Credit(session, 1, 512, 130)),
        ("a proposal", Propose(session, rng.randbytes(120), signature)),
        ("a signed receipt", Signed(session, rng.randbytes(120), signature)),
        ("a receipt is stored", Stored(session, 4)),
        ("a client is back, with 17 ids", Resume(session, 0, 17)),
        ("a client gives up", Close(session, 0, Code.CANCELLED, 130, "")),
        ("a stage gives up", Close(session, 0, Code.ENGINE, 0, "Speicher voll: 16 GB – gar nichts mehr übrig")),
    ]


def good_messages(rng: random.Random) -> Iterator[Case]:
    for name, message in some_messages(rng):
        values = {field.name: plain(getattr(message, field.name)) for field in fields(message)}
        body = encode_message(message).hex()
        yield {"name": name, "body": body, "expect": type(message).__name__, "fields": values}


def longer_messages(rng: random.Random) -> Iterator[Case]:
    """Good messages in longer forms than the shortest, with the bytes that are written for them."""
    session = rng.randbytes(16)
    short = encode_message(Stored(SessionId(session), 4))
    bin16 = b"\xc4\x10" + session
    for name, body in (
        ("an integer in uint 8", b"\x93\x2b" + bin16 + b"\xcc\x04"),
        ("an integer in uint 64", b"\x93\x2b" + bin16 + b"\xcf" + bytes(7) + b"\x04"),
        ("an integer in int 8", b"\x93\x2b" + bin16 + b"\xd0\x04"),
        ("an integer in int 16", b"\x93\x2b" + bin16 + b"\xd1\0\x04"),
        ("an integer in int 32", b"\x93\x2b" + bin16 + b"\xd2\0\0\0\x04"),
        ("an integer in int 64", b"\x93\x2b" + bin16 + b"\xd3" + bytes(7) + b"\x04"),
        ("a bin with a length of two bytes", b"\x93\x2b\xc5\0\x10" + session + b"\x04"),
        ("a bin with a length of four bytes", b"\x93\x2b\xc6\0\0\0\x10" + session + b"\x04"),
    ):
        yield {"name": name, "rule": "INF-3", "body": body.hex(), "written": short.hex()}


def bad_messages(rng: random.Random) -> Iterator[Case]:
    for name, rule, body in (*malformed(rng), *wrong_fields(rng), *wrong_everywhere(rng)):
        yield {"name": name, "rule": rule, "body": body.hex(), "expect": Code.BAD_FRAME.label}


def malformed(rng: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """Bodies that are no message at all."""
    session = rng.randbytes(16)
    stored = msgpack.packb([43, session, 4])
    yield "nothing", "INF-1", b""
    yield "an empty array", "INF-1", b"\x90"
    yield "a number alone, not in an array", "INF-1", b"\x2b"
    yield "an array whose items are missing", "INF-1", b"\x93\x2b"
    yield "a message cut short by one byte", "INF-1", stored[:-1]
    yield "a message with a byte after it", "INF-1", stored + b"\0"
    yield "two messages in one body", "INF-1", stored + stored
    yield "number 0", "INF-1", msgpack.packb([0, session, 4])
    yield "number 38, which is kept for drafts", "INF-1", msgpack.packb([38, session, 4])
    yield "number 46, of no message", "INF-1", msgpack.packb([46, session, 4])
    yield "number 127, of no message", "INF-1", msgpack.packb([127, session, 4])
    yield "a number of two bytes", "INF-3", b"\x93\xcc\x2b" + stored[2:]
    yield "an array of sixteen bits", "INF-3", b"\xdc\0\x03" + stored[1:]
    yield "an array of thirty-two bits", "INF-3", b"\xdd\0\0\0\x03" + stored[1:]
    yield "a negative number", "INF-1", b"\x93\xff" + stored[2:]
    yield "true for a number", "INF-2", b"\x93\xc3" + stored[2:]
    yield "nil for a number", "INF-2", b"\x93\xc0" + stored[2:]
    yield "a map", "INF-2", msgpack.packb({43: 4})
    yield "a float for a number", "INF-2", msgpack.packb([43.0, session, 4])
    yield "a number as text", "INF-2", msgpack.packb(["43", session, 4])
    yield "a byte that msgpack never uses", "INF-1", b"\x93\x2b\xc1\x04"
    yield "arrays within arrays", "INF-4", b"\x93\x2b" + b"\x91" * 1500 + b"\x04"
    yield "an array that claims four thousand million items", "INF-4", b"\x93\x2b\xdd\xff\xff\xff\xff"
    yield "a bin that claims four thousand million bytes", "INF-1", b"\x93\x2b\xc6\xff\xff\xff\xff\0"
    yield "five hundred empty arrays in place of a session", "INF-4", b"\x93\x2b\xdc\x01\xf4" + b"\x90" * 500 + b"\x04"
    yield "five hundred empty arrays in place of page hashes", "INF-4", empty_arrays(rng)


def empty_arrays(rng: random.Random) -> bytes:
    items = good_array(dict(some_messages(rng))["an open to a solo stage"])
    items[[item.name for item in fields(Open)].index("prefix") + 1] = [[] for _ in range(500)]
    return bytes(msgpack.packb(items))


def wrong_fields(rng: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """One field of a good message replaced."""
    good = {type(message).__name__: message for _, message in some_messages(rng)}
    for name, field, value, why, rule in (
        ("Open", "contract", bytes(1025), "a contract of 1,025 bytes", "INF-1"),
        ("Open", "secret", bytes(31), "a secret of 31 bytes", "INF-1"),
        ("Open", "signature", bytes(65), "a signature of 65 bytes", "INF-1"),
        ("Open", "sampling", bytes(8193), "a sampling record of 8,193 bytes", "INF-1"),
        ("Open", "predecessor", [[bytes(32), []]] * 2, "two predecessors", "INF-1"),
        ("Open", "predecessor", None, "nil for no predecessor", "INF-2"),
        ("Open", "successor", [bytes(32), []], "a successor that is no array of neighbours", "INF-1"),
        ("Open", "successor", [[bytes(32)]], "a neighbour without addresses", "INF-1"),
        ("Open", "successor", [[bytes(31), []]], "a neighbour's key of 31 bytes", "INF-1"),
        ("Open", "far_end", [[bytes(32), ["/ip4/192.0.2.7/tcp/1"] * 9]], "nine addresses", "INF-1"),
        ("Open", "far_end", [[bytes(32), ["a" * 257]]], "an address of 257 bytes", "INF-1"),
        ("Open", "far_end", [[bytes(32), [b"/ip4/192.0.2.7/tcp/1"]]], "an address as bytes", "INF-2"),
        ("Open", "prefix", [bytes(15)], "a page hash of 15 bytes", "INF-1"),
        ("Open", "mode", 256, "a mode of nine bits", "INF-1"),
        ("Open", "ids", bytes(6), "one id delivered and a half", "INF-1"),
        ("Open", "ids", [21], "ids delivered as an array", "INF-2"),
        ("Open", "ticket", bytes(15), "a ticket of 15 bytes", "INF-1"),
        ("Open", "ticket", None, "nil for no ticket", "INF-2"),
        ("SessionRefused", "ticket", b"", "an empty ticket", "INF-1"),
        ("SessionRefused", "place", -1, "a place below 0", "INF-1"),
        ("Credit", "first", 1 << 32, "a first row beyond 32 bits", "INF-1"),
        ("Resume", "delivered", None, "nil for the ids delivered", "INF-2"),
        ("Accept", "signature", bytes(63), "a signature of 63 bytes", "INF-1"),
        ("Accept", "signature", "a" * 64, "a signature as text", "INF-2"),
        ("Accept", "held", 1 << 32, "positions held beyond 32 bits", "INF-1"),
        ("Accept", "held", -1, "fewer positions than none", "INF-1"),
        ("Accept", "epoch", True, "true for epoch 1", "INF-2"),
        ("SessionRefused", "code", 0, "a refusal for no reason", "INF-14"),
        ("SessionRefused", "code", 1, "a refusal that says the answer ended", "INF-14"),
        ("SessionRefused", "code", 256, "a code of nine bits", "INF-1"),
        ("SessionRefused", "text", "é" * 129, "a text of 129 characters and 258 bytes", "INF-1"),
        ("SessionRefused", "text", b"busy", "a text as bytes", "INF-2"),
        ("SessionRefused", "retry_ms", 0.5, "half a millisecond", "INF-2"),
        ("Prompt", "ids", b"", "a prompt without ids", "INF-9"),
        ("Prompt", "ids", bytes(5), "a prompt of one id and a quarter", "INF-9"),
        ("Prompt", "ids", [1, 2, 3], "ids as an array", "INF-2"),
        ("Prompt", "ids", "abcd", "ids as text", "INF-2"),
        ("Forward", "count", 0, "no rows", "INF-1"),
        ("Forward", "count", 5, "246 bytes for five rows", "INF-1"),
        ("Forward", "rows", b"", "rows without bytes", "INF-1"),
        ("Forward", "codec", 0, "rows of ids", "INF-1"),
        ("Forward", "codec", 4, "rows of a codec that does not exist", "INF-1"),
        ("Forward", "position", 1 << 32, "a position beyond 32 bits", "INF-1"),
        ("Forward", "round", 1.0, "a float for round 1", "INF-2"),
        ("Forward", "round", False, "false for round 0", "INF-2"),
        ("Forward", "rows", "a" * 246, "rows as text", "INF-2"),
        ("Forward", "rows", None, "nil for rows", "INF-2"),
        ("Sampled", "ids", [], "no ids", "INF-1"),
        ("Sampled", "ids", [1] * 65, "65 ids", "INF-1"),
        ("Sampled", "ids", [1 << 32], "an id beyond 32 bits", "INF-1"),
        ("Sampled", "ids", [[1]], "an id in an array of its own", "INF-1"),
        ("Sampled", "ids", [True], "true for id 1", "INF-2"),
        ("Sampled", "ids", [2.0], "a float for id 2", "INF-2"),
        ("Sampled", "ids", 21, "an id alone", "INF-1"),
        ("Sampled", "ids", bytes(4), "ids as bytes", "INF-2"),
        ("Sampled", "reason", 4, "a cancelled generation as an answer", "INF-14"),
        ("Sampled", "reason", 128, "a loss as an answer", "INF-14"),
        ("Sampled", "reason", 255, "the code that is never sent", "INF-14"),
        ("Finish", "reason", 0, "a finish without a reason", "INF-14"),
        ("Finish", "reason", 5, "a finish because the stage leaves", "INF-14"),
        ("Finish", "committed", None, "nil for the positions committed", "INF-2"),
        ("Credit", "limit", 1 << 32, "a credit beyond 32 bits", "INF-1"),
        ("Credit", "limit", True, "true for a credit of 1", "INF-2"),
        ("Propose", "receipt", bytes(1025), "a receipt of 1,025 bytes", "INF-1"),
        ("Signed", "signature", b"", "an empty signature", "INF-1"),
        ("Stored", "seq", -1, "a receipt number below 0", "INF-1"),
        ("Stored", "seq", 1 << 53, "a receipt number of 54 bits", "INF-1"),
        ("Close", "code", 0, "a close for no reason", "INF-14"),
        ("Close", "code", 2, "a close that says the length was reached", "INF-14"),
        ("Close", "text", "a" * 257, "a text of 257 bytes", "INF-1"),
    ):
        message = good[name]
        items = good_array(message)
        items[1 + [item.name for item in fields(message)].index(field)] = value
        yield why, rule, msgpack.packb(items)


def wrong_everywhere(rng: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """What is wrong in the same way for every message."""
    for _, message in {type(message): (name, message) for name, message in some_messages(rng)}.values():
        name, items = type(message).__name__, good_array(message)
        yield f"{name} without its last field", "INF-1", msgpack.packb(items[:-1])
        yield f"{name} with one field more", "INF-1", msgpack.packb([*items, 0])
        yield f"{name} of a session of 15 bytes", "INF-1", msgpack.packb([items[0], bytes(15), *items[2:]])
        yield f"{name} of a session of 17 bytes", "INF-1", msgpack.packb([items[0], bytes(17), *items[2:]])
        yield f"{name} of no session", "INF-2", msgpack.packb([items[0], None, *items[2:]])
        yield (
            f"{name} with a timestamp for its session",
            "INF-2",
            msgpack.packb([items[0], msgpack.Timestamp(0), *items[2:]]),
        )


def good_array(message: Message) -> list[Any]:
    return list(msgpack.unpackb(encode_message(message)))


# Sampling


def good_sampling() -> Iterator[Case]:
    for name, record in (
        ("greedy, 256 ids", SamplingRecord()),
        ("all parameters", SamplingRecord(800_000, 40, 950_000, (1 << 53) - 1, 64, (b"\n\n", "Fin\u00e9".encode()))),
        ("the hottest", SamplingRecord(temperature=100_000_000, top_p=1, seed=7, max_tokens=(1 << 32) - 1)),
        ("sixteen stop strings, one of 256 bytes", SamplingRecord(stops=(*[b"x"] * 15, b"y" * 256))),
    ):
        values = {field.name: plain(getattr(record, field.name)) for field in fields(record)}
        yield {"name": name, "body": encode_sampling(record).hex(), "expect": "ok", "fields": values}


def bad_sampling() -> Iterator[Case]:
    good: list[Any] = [1, 800_000, 40, 950_000, 9, 64, [b"stop"]]
    body = bytes(msgpack.packb(good))

    def changed(place: int, value: object) -> bytes:
        return bytes(msgpack.packb([*good[:place], value, *good[place + 1 :]]))

    for name, bad in (
        ("nothing", b""),
        ("an empty array", b"\x90"),
        ("a number", b"\x01"),
        ("nil", b"\xc0"),
        ("version 2", changed(0, 2)),
        ("true for version 1", changed(0, True)),
        ("a temperature over 100", changed(1, 100_000_001)),
        ("a float for the temperature", changed(1, 0.8)),
        ("a negative temperature", changed(1, -1)),
        ("top_k beyond 32 bits", changed(2, 1 << 32)),
        ("top_p of 0", changed(3, 0)),
        ("top_p over 1", changed(3, 1_000_001)),
        ("a seed of 54 bits", changed(4, 1 << 53)),
        ("nil for the seed", changed(4, None)),
        ("no ids wanted", changed(5, 0)),
        ("max_tokens beyond 32 bits", changed(5, 1 << 32)),
        ("an empty stop string", changed(6, [b""])),
        ("a stop string of 257 bytes", changed(6, [b"x" * 257])),
        ("seventeen stop strings", changed(6, [b"x"] * 17)),
        ("a stop string that is no UTF-8", changed(6, [b"\xff"])),
        ("a stop string as text", changed(6, ["stop"])),
        ("a stop string that is not in an array", changed(6, b"stop")),
        ("a field is missing", bytes(msgpack.packb(good[:-1]))),
        ("a field too many", bytes(msgpack.packb([*good, 0]))),
        ("a map", bytes(msgpack.packb({1: 2}))),
        ("cut short", body[:-1]),
        ("a byte after the end", body + b"\0"),
        ("version 1 in two bytes", b"\x97\xcc\x01" + body[2:]),
        ("a stop string with a length of two bytes", body[:-6] + b"\xc5\0\x04stop"),
    ):
        yield {"name": name, "rule": "INF-26", "body": bad.hex(), "expect": Code.BAD_RECORD.label}


def params(rng: random.Random) -> Iterator[Case]:
    body = encode_sampling(SamplingRecord())
    for name, secret, record in (
        ("a greedy record", rng.randbytes(32), body),
        ("the same record with another secret", rng.randbytes(32), body),
        ("another record", bytes(32), encode_sampling(SamplingRecord(seed=1))),
    ):
        hash_ = params_hash(secret, record)
        assert hash_ == sha256(b"p2pinfer/1/params\0" + secret + record).digest()
        yield {"name": name, "rule": "INF-8", "secret": secret.hex(), "record": record.hex(), "hash": hash_.hex()}


# The sampler, from the text


def draws(rng: random.Random) -> Iterator[Case]:
    for seed, position, purpose in (
        (0, 0, 0),
        (0, 1, 0),
        (1, 0, 0),
        (0, 0, 1),
        (0, 0, 2),
        ((1 << 53) - 1, (1 << 32) - 1, 0),
        (rng.randrange(1 << 53), 512, 0),
    ):
        bits = draw_bits(seed, position, purpose)
        assert bits == uniform(seed, position, Purpose(purpose)) * 2**53
        name = f"seed {seed}, position {position}, purpose {purpose}"
        yield {"name": name, "rule": "INF-27", "seed": seed, "position": position, "purpose": purpose, "bits": bits}


def draw_bits(seed: int, position: int, purpose: int) -> int:
    message = b"p2pinfer/1/draw\0" + struct.pack(">QIB", seed, position, purpose)
    return int.from_bytes(sha256(message).digest(), "big") >> (256 - 53)


def sample(logits: Sequence[float], temperature: int, top_k: int, top_p: int, seed: int, position: int) -> int:
    """inference.md, 6.1, step by step."""
    order = sorted(range(len(logits)), key=lambda id_: (-logits[id_], id_))
    if temperature == 0:
        return order[0]
    kept = order[:top_k] if top_k else order
    heat = temperature / 1_000_000
    sums: list[float] = []
    for id_ in kept:
        weight = math.exp((logits[id_] - logits[kept[0]]) / heat)
        sums.append(sums[-1] + weight if sums else weight)
    if top_p < 1_000_000:
        enough = sums[-1] * (top_p / 1_000_000)
        del sums[next(n for n, total in enumerate(sums) if total >= enough) + 1 :]
    share = draw_bits(seed, position, 0) / 2**53 * sums[-1]
    return kept[next((n for n, total in enumerate(sums) if total > share), len(sums) - 1)]


def samples(rng: random.Random) -> Iterator[Case]:
    flat = [0.0] * 8
    spread = [float32(rng.gauss(0, 3)) for _ in range(40)]
    for name, logits, temperature, top_k, top_p in (
        ("greedy", spread, 0, 0, 1_000_000),
        ("greedy, whatever the others are", spread, 0, 3, 500_000),
        ("greedy, two are the highest", [1.0, 3.0, 2.0, 3.0], 0, 0, 1_000_000),
        ("greedy, a zero and a negative zero", [-1.0, -0.0, 0.0], 0, 0, 1_000_000),
        ("all are equal", flat, 1_000_000, 0, 1_000_000),
        ("all are equal, three kept", flat, 1_000_000, 3, 1_000_000),
        ("equal at the edge of top_k", [2.0, 1.0, 1.0, 1.0, 0.0], 2_000_000, 2, 1_000_000),
        ("half the probability of equal ones", flat, 1_000_000, 0, 500_000),
        ("top_p keeps the first alone", spread, 700_000, 0, 1),
        ("top_k above the vocabulary", spread, 1_000_000, 1000, 1_000_000),
        ("top_k, then top_p", spread, 1_300_000, 12, 800_000),
        ("warm", spread, 1_500_000, 0, 1_000_000),
        ("cold", spread, 100_000, 0, 1_000_000),
        ("so cold that others weigh nothing", [0.0, 1000.0, 0.0], 1, 0, 1_000_000),
        ("one candidate", [5.0], 1_000_000, 0, 900_000),
    ):
        for _ in range(1 if temperature == 0 else 3):
            seed, position = rng.randrange(1 << 53), rng.randrange(1, 4096)
            yield {
                "name": f"{name}, position {position}",
                "rule": "INF-28",
                "logits": struct.pack(f"<{len(logits)}f", *logits).hex(),
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "seed": seed,
                "position": position,
                "id": sample(logits, temperature, top_k, top_p, seed, position),
            }


# Codecs, from the text


def float32(value: float) -> float:
    """Rounded to binary32; a quotient of two binary32 rounded twice is the one rounded once."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def float16(value: float) -> bytes:
    return struct.pack("<e", max(-65504.0, min(65504.0, value)))


def encode_row(codec: Codec, row: Sequence[float]) -> bytes:
    """inference.md, 5."""
    if codec is Codec.F32:
        return struct.pack(f"<{len(row)}f", *row)
    if codec is Codec.BF16:
        return b"".join(bf16(value) for value in row)
    places = sorted(sorted(range(len(row)), key=lambda at: (-abs(row[at]), at))[:4])
    rest = [0.0 if at in places else value for at, value in enumerate(row)]
    values, scales = b"", b""
    for first in range(0, len(rest), 64):
        group = rest[first : first + 64]
        scale = float16(float32(max(map(abs, group)) / 127))
        step = struct.unpack("<e", scale)[0]
        scales += scale
        values += struct.pack(f"<{len(group)}b", *(quantised(value, step) for value in group))
    return values + scales + struct.pack("<4H", *places) + b"".join(float16(row[at]) for at in places)


def quantised(value: float, step: float) -> int:
    return max(-127, min(127, round(float32(value / step)))) if step else 0


def bf16(value: float) -> bytes:
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    upper = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return struct.pack("<H", upper & 0x8000 | min(upper & 0x7FFF, 0x7F7F))


def decode_row(codec: Codec, data: bytes, width: int) -> list[float]:
    if codec is Codec.F32:
        return list(struct.unpack(f"<{width}f", data))
    if codec is Codec.BF16:
        return [struct.unpack("<f", b"\0\0" + data[at : at + 2])[0] for at in range(0, len(data), 2)]
    groups = -(-width // 64)
    values = struct.unpack_from(f"<{width}b", data)
    scales = struct.unpack_from(f"<{groups}e", data, width)
    places = struct.unpack_from("<4H", data, width + 2 * groups)
    outliers = struct.unpack_from("<4e", data, width + 2 * groups + 8)
    row = [float32(value * scales[at // 64]) for at, value in enumerate(values)]
    for place, outlier in zip(places, outliers, strict=True):
        row[place] = outlier
    return row


def some_rows(rng: random.Random) -> Iterator[tuple[str, list[float]]]:
    def normal(width: int, scale: float = 1.0) -> list[float]:
        return [float32(rng.gauss(0, scale)) for _ in range(width)]

    yield "the least width", [1.0, -2.0, 3.0, -4.0]
    yield "zeros", [0.0] * 64
    yield "one group", normal(64)
    yield "a last group of four", normal(68)
    yield "two values far above the others", [250.0, -900.0, *normal(94)]
    yield "five equal magnitudes: the first four are outliers", [2.0, -2.0, 2.0, -2.0, 2.0, *normal(10, 0.1)]
    yield "quotients halfway between integers", [500.0] * 4 + [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]
    yield "values beyond binary16", [1e5, -1e6, 7e4, 65520.0, 3e5, -65504.0, 1.0, 0.25]
    yield "values beyond bfloat16", [3.4028234663852886e38, -3.4028234663852886e38, 3.39e38, 1.0, 0.0, -0.0]
    yield "a scale that rounds to zero", [1.0] * 4 + [1e-6, -3e-6, 2e-7, 0.0]
    yield "a scale below the least normal binary16", [1.0] * 4 + [1e-4, -5e-5, 3e-5, 0.0]
    yield "halfway between two bfloat16", [1.00390625, 1.01171875, -1.00390625, 1.0039063692092896]


def good_rows(rng: random.Random) -> Iterator[Case]:
    for name, row in some_rows(rng):
        row = [float32(value) for value in row]
        for codec in (Codec.F32, Codec.BF16, Codec.Q8O4):
            data = encode_row(codec, row)
            yield {
                "name": f"{name}, {codec.label}",
                "rule": "INF-24",
                "codec": codec.label,
                "width": len(row),
                "values": struct.pack(f"<{len(row)}f", *row).hex(),
                "row": data.hex(),
                "decodes": struct.pack(f"<{len(row)}f", *decode_row(codec, data, len(row))).hex(),
                "expect": "ok",
            }


def bad_rows() -> Iterator[Case]:
    def q8o4(values: bytes, scale: float, places: Sequence[int], outliers: Sequence[float]) -> bytes:
        return values + struct.pack("<e4H4e", scale, *places, *outliers)

    flat = bytes(8)
    inf, nan = math.inf, math.nan
    for name, codec, data in (
        ("an infinite value", Codec.F32, struct.pack("<8f", inf, *[0.0] * 7)),
        ("a negative infinity", Codec.F32, struct.pack("<8f", *[0.0] * 7, -inf)),
        ("a value that is no number", Codec.F32, struct.pack("<8f", nan, *[0.0] * 7)),
        ("an infinite value", Codec.BF16, bytes.fromhex("807f") + bytes(14)),
        ("a value that is no number", Codec.BF16, bytes(14) + bytes.fromhex("c07f")),
        ("an int8 of -128", Codec.Q8O4, q8o4(b"\x80" + bytes(7), 1.0, (0, 1, 2, 3), (1, 1, 1, 1))),
        ("an infinite scale", Codec.Q8O4, q8o4(flat, inf, (0, 1, 2, 3), (1, 1, 1, 1))),
        ("a scale that is no number", Codec.Q8O4, q8o4(flat, nan, (0, 1, 2, 3), (1, 1, 1, 1))),
        ("a negative scale", Codec.Q8O4, q8o4(flat, -1.0, (0, 1, 2, 3), (1, 1, 1, 1))),
        ("a scale of negative zero", Codec.Q8O4, q8o4(flat, -0.0, (0, 1, 2, 3), (1, 1, 1, 1))),
        ("an infinite outlier", Codec.Q8O4, q8o4(flat, 1.0, (0, 1, 2, 3), (1, 1, inf, 1))),
        ("an outlier that is no number", Codec.Q8O4, q8o4(flat, 1.0, (0, 1, 2, 3), (1, nan, 1, 1))),
        ("a place twice", Codec.Q8O4, q8o4(flat, 1.0, (0, 1, 1, 3), (1, 1, 1, 1))),
        ("places that descend", Codec.Q8O4, q8o4(flat, 1.0, (3, 2, 1, 0), (1, 1, 1, 1))),
        ("a place beyond the row", Codec.Q8O4, q8o4(flat, 1.0, (0, 1, 2, 8), (1, 1, 1, 1))),
    ):
        yield {
            "name": f"{name}, {codec.label}",
            "rule": "INF-25",
            "codec": codec.label,
            "width": 8,
            "row": data.hex(),
            "expect": Code.BAD_VALUES.label,
        }


if __name__ == "__main__":
    FILE.write_text(render(make()), encoding="utf-8")
