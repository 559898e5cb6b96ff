"""A verifier of statements written from identity.md and receipts.md alone; it shares no line with p2pinfer.

It exists to show that the specs suffice: another library for signatures, its own reader of msgpack, its own tree.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

P: Final = 2**255 - 19
D: Final = -121665 * pow(121666, P - 2, P) % P
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
ZEROS: Final = bytes(32)
Item = int | bytes | list[int]
Point = tuple[int, int]


class Bad(Exception):
    """The file is not a good statement."""


def need(holds: bool, why: str) -> None:
    if not holds:
        raise Bad(why)


# identity.md, 3


def add(a: Point, b: Point) -> Point:
    t = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + t, P - 2, P) % P
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, P - 2, P) % P


def check_key(key: bytes, known: dict[bytes, bool] = {}) -> None:  # noqa: B006 - a cache, as ID-1 allows
    """ID-1."""
    if key not in known:
        known[key] = good_key(key)
    need(known[key], "bad-key")


def good_key(key: bytes) -> bool:
    if len(key) != 32:
        return False
    y = int.from_bytes(key, "little") & (1 << 255) - 1
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if x * x % P != xx:
        x = x * pow(2, (P - 1) // 4, P) % P
    sign = key[31] >> 7
    if y >= P or x * x % P != xx or (x == 0 and sign):
        return False
    point = (P - x if x & 1 != sign else x), y
    if point == (0, 1):
        return False
    total, power, left = (0, 1), point, ORDER
    while left:
        if left & 1:
            total = add(total, power)
        power, left = add(power, power), left >> 1
    return total == (0, 1)


def verify(key: bytes, kind: str, body: bytes, signature: bytes) -> None:
    """ID-3."""
    check_key(key)
    need(len(signature) == 64 and int.from_bytes(signature[32:], "little") < ORDER, "bad-signature")
    need(signature[:32] != (1).to_bytes(32, "little"), "bad-signature")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message(kind, body))
    except InvalidSignature:
        raise Bad("bad-signature") from None


def message(kind: str, body: bytes) -> bytes:
    return b"p2pinfer/1/" + kind.encode() + b"\0" + body


# receipts.md, 3


def read_array(data: bytes, limit: int) -> list[Item]:
    """RCT-1 to RCT-3, byte by byte."""
    need(len(data) <= limit, "bad-record")
    items, at = read_items(data, 0, 1)
    need(at == len(data), "bad-record")
    return items


def read_items(data: bytes, at: int, depth: int) -> tuple[list[Item], int]:
    need(at < len(data), "bad-record")
    if data[at] & 0xF0 == 0x90:
        count, at = data[at] & 15, at + 1
    else:
        need(data[at] == 0xDC, "bad-record")
        count, at = number(data, at, 2, 16)
    items: list[Item] = []
    for _ in range(count):
        item, at = read_item(data, at, depth)
        items.append(item)
    return items, at


def read_item(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    need(at < len(data), "bad-record")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    if 0xCC <= first <= 0xCF:
        value, at = number(data, at, 1 << first - 0xCC, (0x80, 0x100, 0x10000, 1 << 32)[first - 0xCC])
        need(value < 1 << 53, "bad-record")
        return value, at
    if first in (0xC4, 0xC5):
        need(depth == 1, "bad-record")
        size, at = number(data, at, first - 0xC3, (0, 0x100)[first - 0xC4])
        need(at + size <= len(data), "bad-record")
        return data[at : at + size], at + size
    need(depth == 1 and (first & 0xF0 == 0x90 or first == 0xDC), "bad-record")
    items, at = read_items(data, at, 2)
    return [item for item in items if isinstance(item, int)], at


def number(data: bytes, at: int, size: int, least: int) -> tuple[int, int]:
    """The big-endian number after a tag, which must need that many bytes."""
    need(at + 1 + size <= len(data), "bad-record")
    value = int.from_bytes(data[at + 1 : at + 1 + size], "big")
    need(value >= least, "bad-record")
    return value, at + 1 + size


KINDS: Final = {  # capitals: zeros
    "node-cert": "b32 b32 u53 u53 u53 U53",
    "contract": "b16 b32 b32 b32 b32 b32 B32 b32 b32 b32 2u32 u2 u16 2u8 u32 u32 u32 5u32 5u32 u53 u53 3U53 b32"
    " u53 u53",
    "receipt": "b32 u32 5u28 u53 b32 b32 u53 u1 u8",
    "statement": "b32 b32 b32 u53 b32 u53 u53 u53 u53 u53 b32 2U53 B32",
}


def read_record(kind: str, body: object) -> list[Item]:
    """RCT-4, RCT-5: the fields without the version."""
    assert isinstance(body, bytes)
    version, *items = read_array(body, 1024) or [0]
    kinds = KINDS[kind].split()
    need(version == 1 and len(items) == len(kinds), "bad-record")
    for item, text in zip(items, kinds, strict=True):
        found = re.fullmatch(r"(\d*)([buBU])(\d+)", text)
        assert found is not None
        many, letter, size = found[1], found[2], int(found[3])
        if letter in "bB":
            need(isinstance(item, bytes) and len(item) == size, "bad-record")
            need(letter == "b" or item == bytes(size), "bad-record")
            continue
        values = item if many else [item]
        need(isinstance(values, list) and len(values) == int(many or 1), "bad-record")
        need(all(isinstance(value, int) and value < 1 << size for value in values), "bad-record")
        need(letter == "u" or not any(values), "bad-record")
    return items


# receipts.md, 6


def root_of(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\1" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


def verify_statement(data: bytes) -> dict[str, object]:
    """RCT-11."""
    first = b"p2pinfer statement 1\n"
    need(data.startswith(first), "bad-record")
    at, frames = len(first), []
    while at < len(data):
        need(at + 4 <= len(data), "bad-record")
        size = int.from_bytes(data[at : at + 4], "big")
        need(size <= 4096 and at + 4 + size <= len(data), "bad-record")
        frames.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    need(bool(frames), "bad-record")
    body, signature = bins(read_array(frames[0], 4096), 2)
    header = read_record("statement", body)
    node, owner, payer = bins(header[:3], 3)
    verify(node, "statement", body, signature)
    if payer != ZEROS:
        check_key(payer)
    since, until, _, count, amount = ints(header[5:10])
    need(since <= until and count <= 65_536, "bad-record")
    certificates: dict[bytes, list[Item]] = {}
    contracts: list[bytes] = []
    owed: dict[bytes, tuple[int, int]] = {}
    for frame in frames[1:]:
        kind, *rest = read_array(frame, 4096) or [9]
        if kind == 0:
            need(not contracts and len(certificates) < 64, "bad-record")
            take_certificate(bins(rest, 2), node, owner, certificates)
        else:
            need(kind == 1 and len(contracts) < count, "bad-record")
            take_receipt(bins(rest, 6), (node, owner, payer), (since, until), certificates, contracts, owed)
    need(bool(certificates), "bad-record")
    need((count, amount) == (len(contracts), sum(a for _, a in owed.values())), "bad-record")
    need(header[10] == root_of([hashlib.sha256(b"\0" + frame).digest() for frame in frames[1:]]), "bad-record")
    return {"contracts": contracts, "owed": owed}


def bins(items: list[Item], count: int) -> list[bytes]:
    found = [item for item in items if isinstance(item, bytes)]
    need(len(items) == len(found) == count, "bad-record")
    return found


def ints(items: list[Item]) -> list[int]:
    return [item for item in items if isinstance(item, int)]


def take_certificate(parts: list[bytes], node: bytes, owner: bytes, known: dict[bytes, list[Item]]) -> None:
    body, signature = parts
    record = read_record("node-cert", body)
    not_before, not_after = ints(record[3:5])
    need(0 < not_after - not_before <= 7_776_000, "bad-record")
    signer, subject = bins(record[:2], 2)
    verify(signer, "node-cert", body, signature)
    check_key(subject)
    need((subject, signer) == (node, owner), "bad-record")
    id_ = hashlib.sha256(message("node-cert", body)).digest()
    need(not known or id_ > max(known), "bad-record")
    known[id_] = record


def take_receipt(
    parts: list[bytes],
    who: tuple[bytes, bytes, bytes],
    period: tuple[int, int],
    certificates: dict[bytes, list[Item]],
    contracts: list[bytes],
    owed: dict[bytes, tuple[int, int]],
) -> None:
    body, by_client, by_node, receipt_body, receipt_by_node, receipt_by_client = parts
    contract = read_record("contract", body)
    cert, owner, node, client = bins(contract[2:6], 4)
    check_contract(contract)
    verify(client, "contract", body, by_client)
    verify(node, "contract", body, by_node)
    check_key(owner)
    need((node, owner) == who[:2] and who[2] in (ZEROS, client), "bad-record")
    need(cert in certificates, "bad-record")
    issued, expires = ints(contract[23:25])
    need(certificates[cert][3] <= issued and expires <= certificates[cert][4], "bad-record")  # type: ignore[operator]
    receipt = read_record("receipt", receipt_body)
    assert isinstance(receipt[2], list)
    need(receipt[2][4] == 0, "bad-record")
    need(receipt[1] != 0 and (receipt[7] == 1) == (receipt[8] != 0), "bad-record")
    verify(node, "receipt", receipt_body, receipt_by_node)
    verify(client, "receipt", receipt_body, receipt_by_client)
    id_ = hashlib.sha256(message("contract", body)).digest()
    amount = check_fit(id_, contract, receipt)
    time = ints(receipt[6:7])[0]
    need(period[0] <= time <= period[1], "bad-record")
    need(not contracts or id_ > contracts[-1], "bad-record")
    contracts.append(id_)
    owed[client] = owed.get(client, (0, 0))[0] + 1, owed.get(client, (0, 0))[1] + amount


def check_contract(contract: list[Item]) -> None:
    """RCT-6, OFF-3 to OFF-5."""
    span, codecs, limits, prices = (contract[place] for place in (10, 13, 17, 18))
    assert isinstance(span, list) and isinstance(codecs, list) and isinstance(limits, list) and isinstance(prices, list)
    roles, prompt, start, seam, issued, expires = ints([contract[11], *contract[14:17], *contract[23:25]])
    need(contract[4] != contract[5] and 0 < expires - issued <= 86_400, "bad-record")
    need((codecs[0] == 0) == bool(roles & 1) and (codecs[1] == 0) == bool(roles & 2), "bad-record")
    need(bool(roles & 2) or contract[9] == ZEROS, "bad-record")
    positions, window, cadence, _, chunk = limits
    need(span[0] < span[1] and min(positions, cadence, chunk) > 0, "bad-record")
    need(window >= 2 * chunk + 2 * cadence and prices[2] <= prices[0] and prices[4] == 0, "bad-record")
    need(0 < prompt < positions and (seam == 0 or prompt <= seam < positions), "bad-record")
    need(start <= max(seam, prompt - 1) and (span[1] - span[0]) * positions < 1 << 28, "bad-record")


def check_fit(id_: bytes, contract: list[Item], receipt: list[Item]) -> int:
    """RCT-8; the amount."""
    why = "receipt-mismatch"
    span, limits, prices, usage = contract[10], contract[17], contract[18], receipt[2]
    assert isinstance(span, list) and isinstance(limits, list) and isinstance(prices, list) and isinstance(usage, list)
    roles, prompt, start, seam = ints([contract[11], *contract[14:17]])
    flat, reserve, issued, expires = *ints(contract[19:21]), *ints(contract[23:25])
    amount, time = ints([receipt[3], receipt[6]])
    total = sum(price * used for price, used in zip(prices, usage, strict=True))
    need(receipt[0] == id_ and amount == flat + (total + 999_999) // 1_000_000 <= reserve, why)
    need(issued - 300 <= time <= expires, why)
    layers = span[1] - span[0]
    p, c, g = start + (usage[0] + usage[1] + usage[2]) // layers, usage[2] // layers, max(prompt, seam)
    need(p <= limits[0] and c <= min(p, g) - start, why)
    sampled = max(0, p - max(seam, prompt - 1)) if roles & 2 else 0
    need(usage == [layers * (min(p, g) - start - c), layers * max(0, p - g), layers * c, sampled, 0], why)
    return amount


def contradict(first: bytes, second: bytes) -> bool:
    """RCT-28"""
    a, b = read_record("receipt", first), read_record("receipt", second)
    if a[0] != b[0] or first == second:
        return False
    low, high = (a, b) if ints(a[1:2]) <= ints(b[1:2]) else (b, a)
    used, more = low[2], high[2]
    assert isinstance(used, list) and isinstance(more, list)
    less = any(x < y for x, y in zip([*more, *ints([high[3], high[6]])], [*used, *ints([low[3], low[6]])], strict=True))
    return low[1] == high[1] or less or low[7] == 1 or (used == more and low[4:6] != high[4:6])


def fork(first: bytes, second: bytes) -> bool:
    """RCT-29, of two files that verify."""
    a, b = header_of(first), header_of(second)
    one, other = read_record("statement", a), read_record("statement", b)
    return a != b and one[0] == other[0] and one[3] == other[3]


def header_of(data: bytes) -> bytes:
    at = len(b"p2pinfer statement 1\n")
    return bins(read_array(data[at + 4 : at + 4 + int.from_bytes(data[at : at + 4], "big")], 4096), 2)[0]


def found(call: Callable[[], object]) -> str:
    """ "ok", or the code of what is wrong."""
    try:
        call()
    except Bad as error:
        return str(error)
    return "ok"
