"""Cases of receipts.md, 5.2 and 5.3: what a node proposes, and what its client signs; `make_records.py` writes them.

Receipts are made here from the text, with a tree and a count of its own, and not by the accounts that the cases check.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final

from p2pinfer.core.records.pricing import Usage
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord, sign
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey
from tests.core.paid_route import CLIENT, NODES, NOW, PRICES, SECRET, SMALL, agreed, ids_bytes, route_offers, row

Case = dict[str, Any]

LAYERS: Final = 2  # of each stage
PROMPT: Final = tuple(range(1, 7))
LONG: Final = tuple(range(1, 23))  # longer than the window by six
STAGES: Final = 3
CADENCE: Final = SMALL.cadence  # 4; the window is 16


def route(stages: int = STAGES, prompt: int = len(PROMPT)) -> list[SignedRecord[Any]]:
    """Contracts of a route, both signatures on them."""
    offers = route_offers(stages, LAYERS * stages, SMALL)
    return [agreed(offer, NODES[place], prompt=prompt) for place, offer in enumerate(offers)]


def id_of(position: int, prompt: Sequence[int] = PROMPT) -> int:
    """Ids of the prompt, then 1000 and the position."""
    return prompt[position] if position < len(prompt) else 1000 + position


def rows(boundary: int, stages: int, positions: range, prompt: Sequence[int] = PROMPT) -> list[bytes]:
    """Rows before stage number `boundary`: ids before the first and behind the last."""
    if boundary in (0, stages):
        return [ids_bytes([id_of(at, prompt)]) for at in positions]
    return [row(boundary, at) for at in positions]


# Counting, from receipts.md, 4.3 to 4.5


def root_of(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


def root(boundary: int, stages: int, positions: range, prompt: Sequence[int] = PROMPT) -> bytes:
    found: list[bytes] = []
    for at, one in zip(positions, rows(boundary, stages, positions, prompt), strict=True):
        found.append(sha256(b"\0" + SECRET + at.to_bytes(4, "big") + sha256(one).digest()).digest())
    return root_of(found)


def receipt(
    contracts: Sequence[SignedRecord[Any]],
    place: int,
    seq: int,
    p: int,
    prompt: Sequence[int] = PROMPT,
    reason: Code = Code.NONE,
    time: int = NOW,
    **changes: Any,
) -> Receipt:
    """What an honest stage states at p; final with a reason."""
    stages, count = len(contracts), len(prompt)
    tail = place == stages - 1
    usage = Usage(LAYERS * min(p, count), LAYERS * max(0, p - count), 0, max(0, p - count + 1) if tail else 0)
    usage = changes.pop("usage", usage)
    total = usage.prefill * PRICES.prefill + usage.decode * PRICES.decode + usage.sampled * PRICES.sampled
    made = Receipt(
        contract=contracts[place].id,
        seq=seq,
        usage=usage,
        amount=-(-total // 1_000_000),
        in_root=root(place, stages, range(p), prompt),
        out_root=root(place + 1, stages, range(count, p + 1) if tail else range(p), prompt),
        time=time,
        state=int(bool(reason)),
        reason=reason,
    )
    return replace(made, **changes)


# What the client signs


@dataclass
class Signing:
    """A case at the client of a route, step by step."""

    name: str
    rule: str
    stages: int = STAGES
    prompt: tuple[int, ...] = PROMPT
    steps: list[Case] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.contracts = route(self.stages, len(self.prompt))
        self.delivered = 0

    def step(self, then: Sequence[Case] | str, **event: Any) -> "Signing":
        """An event, and what the client does then, or the code with which it refuses what came."""
        told = {"expect": then} if isinstance(then, str) else {"then": list(then)}
        self.steps.append({**event, **told})
        return self

    def ids(self, count: int, *then: Case) -> "Signing":
        first = len(self.prompt) + self.delivered
        self.delivered += count
        return self.step(then, ids=[id_of(at, self.prompt) for at in range(first, first + count)])

    def proposes(
        self,
        place: int,
        seq: int,
        p: int,
        *then: Case,
        at: float = 0.0,
        expect: str | None = None,
        signer: PrivateKey | None = None,
        **changes: Any,
    ) -> "Signing":
        signed = sign(receipt(self.contracts, place, seq, p, self.prompt, **changes), signer or NODES[place])
        told = {"stage": place, "at": at, "receipt": signed.body.hex(), "signature": signed.signatures[0].hex()}
        return self.step(then if expect is None else expect, **told)

    def case(self) -> Case:
        return {
            "name": self.name,
            "rule": self.rule,
            "contracts": [contract.body.hex() for contract in self.contracts],
            "secret": SECRET.hex(),
            "prompt": list(self.prompt),
            "steps": self.steps,
        }


def signs(place: int, seq: int) -> Case:
    return {"stage": place, "signs": seq}


def repeats(place: int, seq: int) -> Case:
    return {"stage": place, "repeats": seq}


def refuses(place: int, seq: int, code: str) -> Case:
    return {"stage": place, "refuses": seq, "code": code}


MISMATCH_OF_HEAD: Final = refuses(0, 2, "receipt-mismatch")
MISMATCH_OF_NEXT: Final = refuses(1, 2, "receipt-mismatch")
ALL_FIRST: Final = (signs(0, 1), signs(1, 1), signs(2, 1))


def at_four(name: str, *then: Case, prompt: tuple[int, ...] = PROMPT) -> Signing:
    """All stages have proposed the first four positions of the prompt."""
    case = Signing(name, "RCT-9, 5", prompt=prompt)
    return case.proposes(0, 1, 4).proposes(1, 1, 4).proposes(2, 1, 4, *then)


def alone(name: str, prompt: int) -> Signing:
    """One stage that has delivered nothing, with a prompt of so many ids."""
    return Signing(name, "RCT-9, 5", stages=1, prompt=tuple(range(1, prompt + 1)))


def solo(name: str, rule: str) -> Signing:
    """One stage that has delivered three ids, so that eight positions are counted."""
    return Signing(name, rule, stages=1).ids(3)


def signing_cases() -> list[Case]:
    return [case.case() for case in (*_good_signing(), *_bad_signing())]


def _good_signing() -> Iterator[Signing]:
    yield from _before_the_first_id()
    final = at_four("the whole prompt is signed when its first id has come and all stages have proposed it")
    final.proposes(0, 2, 6, reason=Code.END).ids(1, *ALL_FIRST).proposes(1, 2, 6, reason=Code.END)
    yield final.proposes(2, 2, 6, signs(0, 2), signs(1, 2), signs(2, 2), reason=Code.END)
    waiting = Signing("a stage waits for its neighbours' roots", "RCT-9, 6").ids(3)
    yield waiting.proposes(1, 2, 8).proposes(0, 2, 8, signs(0, 2)).proposes(2, 2, 8, signs(1, 2), signs(2, 2))
    ahead = solo("a proposal beyond the count waits for its ids", "RCT-9, 4")
    yield ahead.proposes(0, 3, 12).ids(3).ids(1, signs(0, 3))
    ahead = Signing("stages that agree on more than was delivered wait for the ids", "RCT-9, 4").ids(1)
    ahead.proposes(0, 2, 8).proposes(1, 2, 8).proposes(2, 2, 8)
    yield ahead.ids(1).ids(1, signs(0, 2), signs(1, 2), signs(2, 2))
    late = solo("after two seconds it is refused, and signed if the ids come", "RCT-9, 4")
    late.proposes(0, 3, 12, at=10.0).step((), late=11.9)
    late.step([refuses(0, 3, "receipt-ahead")], late=12.0).step((), late=20.0)
    yield late.proposes(0, 3, 12, at=20.0).step((), late=30.0).ids(4, signs(0, 3))
    back = solo("a client that was away from a stage waits anew", "RCT-9, 4").proposes(0, 3, 12, at=10.0)
    back.step((), back=15.0).step((), late=16.9).step([refuses(0, 3, "receipt-ahead")], late=17.0)
    yield back.step((), back=20.0).step((), late=30.0).ids(4, signs(0, 3))
    whole = alone("the whole prompt is not ahead of the count before the first id", 16)
    yield whole.proposes(0, 4, 16, at=10.0).step((), late=99.0).ids(1, signs(0, 4))
    twice = solo("a body that came first stays good, whatever came under its number later", "RCT-9, 2")
    twice.proposes(0, 3, 12).proposes(0, 3, 12, expect="receipt-conflict", out_root=bytes(32))
    yield twice.proposes(0, 3, 12).ids(4, signs(0, 3))
    early = Signing("a root is compared as soon as its ids are there, within the count or not", "RCT-9, 6", stages=1)
    yield early.ids(2).proposes(0, 2, 8, expect="receipt-mismatch", in_root=bytes(32))
    early = Signing("a root whose ids are not there yet is not compared", "RCT-9, 6", stages=1).ids(2)
    yield early.proposes(0, 2, 8, out_root=bytes(32)).ids(1, refuses(0, 2, "receipt-mismatch"))
    again = solo("a number that was signed is answered with the highest signed", "RCT-9, 2")
    again.proposes(0, 1, 4, signs(0, 1)).proposes(0, 2, 8, signs(0, 2))
    yield again.proposes(0, 1, 4, repeats(0, 2)).proposes(0, 2, 8, repeats(0, 2))
    lost = Signing("neighbours of a lost stage are paid for what led to ids", "RCT-9, 6").ids(3)
    yield lost.proposes(0, 2, 8).proposes(2, 2, 8).step([signs(0, 2), signs(2, 2)], lost=1)
    last = Signing("a stage that is lost is signed for all the same", "RCT-9, 6").ids(3).proposes(1, 2, 8)
    last.step((), lost=1).proposes(0, 2, 8, signs(0, 2))
    yield last.proposes(2, 2, 8, signs(1, 2), signs(2, 2))
    over = Signing("a stage whose final was refused has ended", "RCT-9, 6").ids(3).proposes(0, 2, 8)
    over.proposes(2, 2, 7, reason=Code.END)
    over.proposes(1, 2, 7, expect="receipt-mismatch", reason=Code.END, out_root=bytes(32))
    yield over.ids(1, signs(0, 2), refuses(2, 2, "receipt-mismatch"))
    ended = Signing("after an id a stage that has ended need not have proposed the prompt", "RCT-9, 5").ids(1)
    ended.step((), lost=1).proposes(0, 2, 6, reason=Code.LOST)
    yield ended.proposes(2, 2, 6, signs(0, 2), signs(2, 2), reason=Code.LOST)
    false = solo("a proposal that the ids turn out not to justify is refused once", "RCT-9, 6")
    false.proposes(0, 3, 12, out_root=bytes(32)).ids(4, refuses(0, 3, "receipt-mismatch"))
    yield false.ids(1)
    jumped = solo("numbers may be left out", "RCT-9, 3")
    yield jumped.proposes(0, 2, 8, signs(0, 2))
    lower = solo("a lower number than one that was between multiples", "RCT-9, 3")
    yield lower.proposes(0, 3, 7, expect="receipt-mismatch").proposes(0, 2, 8, signs(0, 2))
    left_out = solo("a number that was left out is answered with the highest signed", "RCT-9, 2")
    yield left_out.proposes(0, 2, 8, signs(0, 2)).proposes(0, 1, 4, repeats(0, 2))
    early = solo("a proposal beyond the window of what was signed", "RCT-9, 3").proposes(0, 4, 16)
    yield early.proposes(0, 5, 20, expect="receipt-mismatch").ids(8, signs(0, 4)).proposes(0, 5, 20)
    several = solo("of several that may be signed the highest is", "RCT-9").proposes(0, 3, 12).proposes(0, 4, 16)
    yield several.ids(8, signs(0, 4))
    other = solo("a number that is not p / cadence", "RCT-9, 3").proposes(0, 5, 8, signs(0, 5))
    yield other.ids(2).proposes(0, 9, 10, signs(0, 9), reason=Code.END)
    twice = solo("the same body again, while it waits", "RCT-9, 3").proposes(0, 3, 12)
    yield twice.proposes(0, 3, 12).ids(4, signs(0, 3))
    beyond = Signing("a neighbour that is beyond p, and proposed nothing at it, is waited for", "RCT-9, 6").ids(3)
    beyond.proposes(1, 2, 8).proposes(0, 1, 4).proposes(2, 1, 4)
    yield beyond.proposes(1, 3, 8, signs(0, 1), signs(2, 1), reason=Code.LOST)
    cached = solo("cached positions lower the bill, and are signed", "RCT-9, 3")
    usage = Usage(8, 4, 4, 3)
    amount = -(-(8 * PRICES.prefill + 4 * PRICES.decode + 4 * PRICES.cached + 3 * PRICES.sampled) // 1_000_000)
    yield cached.proposes(0, 2, 8, signs(0, 2), usage=usage, amount=amount)
    yield solo("a final between multiples", "RCT-9, 3").proposes(0, 2, 7, signs(0, 2), reason=Code.CANCELLED)
    yield (
        solo("a final at a multiple, with a number of its own", "RCT-9, 3")
        .proposes(0, 2, 8, signs(0, 2))
        .proposes(0, 3, 8, signs(0, 3), reason=Code.END)
    )


def _before_the_first_id() -> Iterator[Signing]:
    """Nothing proves that anything was computed: what a long prompt needs is signed, and no more."""
    yield at_four("of a long prompt what all stages have proposed is signed", *ALL_FIRST, prompt=LONG)
    full = alone("where the window holds the prompt nothing is signed", 16).proposes(0, 1, 4).proposes(0, 2, 8)
    yield full.proposes(0, 3, 12).proposes(0, 4, 16).ids(1, signs(0, 4))
    for prompt in (17, 20):
        needed = alone(f"of a prompt of {prompt} ids, with a window of 16, the first four are signed", prompt)
        yield needed.proposes(0, 1, 4, signs(0, 1)).proposes(0, 2, 8).proposes(0, 3, 12).ids(1, signs(0, 3))
    more = alone("of a prompt of 21 ids, with a window of 16, the first eight are signed", 21)
    more.proposes(0, 1, 4, signs(0, 1)).proposes(0, 2, 8, signs(0, 2)).proposes(0, 3, 12)
    yield more.proposes(0, 2, 8, repeats(0, 2)).ids(1, signs(0, 3))
    final = alone("a final waits for the first id, be it of positions that are signed", len(LONG))
    yield final.proposes(0, 1, 4, signs(0, 1)).proposes(0, 2, 4, reason=Code.ENGINE).ids(1, signs(0, 2))
    final = alone("a final of more waits, too", len(LONG)).proposes(0, 1, 4, signs(0, 1))
    yield final.proposes(0, 2, 7, reason=Code.ENGINE).ids(1, signs(0, 2))
    early = Signing("a lost stage leaves the prompt unpaid", "RCT-9, 5", prompt=LONG)
    yield early.proposes(0, 1, 4).proposes(2, 1, 4).step((), lost=1)
    early = Signing(
        "a lost stage leaves it unpaid, also where it proposes as much at its next contact", "RCT-9, 5", prompt=LONG
    )
    yield early.proposes(0, 1, 4).proposes(2, 1, 4).step((), lost=1).proposes(1, 1, 4)
    ended = Signing("a stage whose final came leaves the prompt unpaid", "RCT-9, 5", prompt=LONG)
    yield ended.proposes(0, 1, 4).proposes(2, 1, 4).proposes(1, 1, 4, reason=Code.ENGINE)
    over = at_four("once the client has given up nothing more is signed", *ALL_FIRST, prompt=LONG)
    over.step((), closed=True).proposes(0, 2, 8).proposes(1, 2, 8).proposes(2, 2, 8)
    yield over.proposes(0, 1, 4, repeats(0, 1))
    over = Signing("once an id has come, giving up takes nothing from what it proves", "RCT-9, 5", stages=1)
    yield (
        over.proposes(0, 1, 4)
        .ids(1, signs(0, 1))
        .step((), closed=True)
        .proposes(0, 2, 6, signs(0, 2), reason=Code.CANCELLED)
    )


def _bad_signing() -> Iterator[Signing]:
    def refused(name: str, rule: str, expect: str, **changes: Any) -> Signing:
        return solo(name, rule).proposes(0, 2, 8, expect=expect, **changes)

    yield refused("signed by another node", "RCT-9, 1", "bad-signature", signer=NODES[1])
    yield refused("of another contract", "RCT-9, 1", "receipt-mismatch", contract=route()[1].id)
    yield refused("a nano-credit more", "RCT-9, 1", "receipt-mismatch", amount=999)
    yield refused("an id more", "RCT-9, 1", "receipt-mismatch", usage=Usage(12, 4, 0, 4))
    yield refused("a position of the prompt as decode", "RCT-9, 1", "receipt-mismatch", usage=Usage(10, 6, 0, 3))
    yield refused("a time after the contract's end", "RCT-9, 1", "receipt-mismatch", time=NOW + 3601)
    yield refused("other ids into the head", "RCT-9, 6", "receipt-mismatch", in_root=bytes(32))
    yield refused("other ids out of the tail", "RCT-9, 6", "receipt-mismatch", out_root=bytes(32))
    yield solo("running, between multiples", "RCT-9, 3").proposes(0, 2, 7, expect="receipt-mismatch")
    yield (
        solo("a second body under one number", "RCT-9, 2")
        .proposes(0, 2, 8, signs(0, 2))
        .proposes(0, 2, 8, expect="receipt-conflict", time=NOW + 1)
    )
    yield (
        solo("a second body under a number below the signed one", "RCT-9, 2")
        .proposes(0, 1, 4, signs(0, 1))
        .proposes(0, 2, 8, signs(0, 2))
        .proposes(0, 1, 4, expect="receipt-conflict", time=NOW + 1)
    )
    yield (
        solo("a second body under a number that waits", "RCT-9, 2")
        .proposes(0, 3, 12)
        .proposes(0, 3, 12, expect="receipt-conflict", time=NOW + 1)
    )
    yield (
        solo("a number after the final", "RCT-9, 3")
        .proposes(0, 2, 7, signs(0, 2), reason=Code.END)
        .proposes(0, 3, 8, expect="receipt-mismatch")
    )
    yield (
        solo("an earlier time under a higher number", "RCT-9, 3")
        .proposes(0, 1, 4, signs(0, 1))
        .proposes(0, 2, 8, expect="receipt-mismatch", time=NOW - 1)
    )
    yield (
        solo("less work under a higher number", "RCT-9, 3")
        .proposes(0, 2, 8, signs(0, 2))
        .proposes(0, 3, 4, expect="receipt-mismatch")
    )
    yield (
        solo("a lower number than one that waits", "RCT-9, 3")
        .proposes(0, 4, 12)
        .proposes(0, 3, 12, expect="receipt-mismatch")
    )
    differ = Signing("rows that the next stage did not get", "RCT-9, 6").ids(3).proposes(1, 2, 8)
    yield differ.proposes(0, 2, 8, expect="receipt-mismatch", out_root=bytes(32)).ids(1, MISMATCH_OF_NEXT)
    again = Signing("a body that was refused is refused again", "RCT-9, 3").ids(3).proposes(1, 2, 8)
    again.proposes(0, 2, 8, expect="receipt-mismatch", out_root=bytes(32))
    yield again.proposes(0, 2, 8, expect="receipt-mismatch", out_root=bytes(32))
    later = Signing("one that waits is not refused by a timer, nor by what is refused itself", "RCT-9, 6").ids(3)
    later.proposes(1, 2, 8).proposes(0, 2, 8, expect="receipt-mismatch", out_root=bytes(32)).step((), late=99.0)
    later.proposes(2, 2, 7, expect="receipt-mismatch", at=99.0)
    yield later.proposes(2, 3, 8, MISMATCH_OF_NEXT, signs(2, 3), at=99.0)
    yield (
        solo("a lower number than one whose roots were refused", "RCT-9, 3")
        .proposes(0, 2, 8, expect="receipt-mismatch", out_root=bytes(32))
        .proposes(0, 1, 4, expect="receipt-mismatch")
    )
    differ = Signing("rows that the stage before did not send", "RCT-9, 6").ids(3).proposes(0, 2, 8)
    yield differ.proposes(1, 2, 8, expect="receipt-mismatch", in_root=bytes(32)).ids(1, MISMATCH_OF_HEAD)
    yield (
        solo("other roots at one position", "RCT-9, 6")
        .proposes(0, 3, 12)
        .proposes(0, 4, 12, expect="receipt-mismatch", reason=Code.END, out_root=bytes(32))
    )


# What the node proposes


@dataclass
class Proposing:
    """A case at a solo stage, or at the head of several, step by step."""

    name: str
    rule: str
    stages: int = 1
    steps: list[Case] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.contracts = route(self.stages)
        self.computed = 0

    def step(self, **event: Any) -> "Proposing":
        self.steps.append(event)
        return self

    def computes(self, upto: int) -> "Proposing":
        """Ids of positions up to here came in, those after the prompt or rows went out."""
        came = range(self.computed, upto)
        first, self.computed = max(len(PROMPT), self.computed + 1), upto
        ids_in = [id_of(at) for at in came]
        if self.stages == 1:
            return self.step(ids_in=ids_in, ids_out=[id_of(at) for at in range(first, upto + 1)], computed=upto)
        rows_out = [one.hex() for one in rows(1, self.stages, came)]
        return self.step(ids_in=ids_in, rows_out=rows_out, computed=upto)

    def computes_each(self, upto: int) -> "Proposing":
        """One by one, as positions past the prompt are."""
        for at in range(self.computed + 1, upto + 1):
            self.computes(at)
        return self

    def is_due(self, *stated: tuple[int, int, Code], now: int = NOW, time: int | None = None) -> "Proposing":
        """Asked at `now`, the node proposes these: number, p and reason."""
        bodies = [self.body(seq, p, reason, now if time is None else time) for seq, p, reason in stated]
        return self.step(now=now, due=[body.hex() for body in bodies])

    def body(self, seq: int, p: int, reason: Code = Code.NONE, time: int = NOW) -> bytes:
        return sign(receipt(self.contracts, 0, seq, p, reason=reason, time=time), NODES[0]).body

    def left(self, unsigned: int, given_up: int) -> "Proposing":
        """Computed and not signed; of that, what nobody can sign any more."""
        return self.step(unsigned=unsigned, given_up=given_up)

    def signed(self, body: bytes, then: int | str | None, signer: PrivateKey = CLIENT) -> "Proposing":
        """The client's signature comes: the number of the receipt that is complete now, null for no news, or a code."""
        signature = signer.sign(b"p2pinfer/1/receipt\0", body)
        return self.step(receipt=body.hex(), signature=signature.hex(), expect=then)

    def case(self) -> Case:
        return {
            "name": self.name,
            "rule": self.rule,
            "contract": self.contracts[0].body.hex(),
            "secret": SECRET.hex(),
            "steps": self.steps,
        }


RUNNING: Final = Code.NONE


def proposing_cases() -> list[Case]:
    return [case.case() for case in (*_good_proposing(), *_bad_proposing())]


def _good_proposing() -> Iterator[Proposing]:
    jump = Proposing("a chunk that jumps over two multiples", "RCT-19").computes(3).is_due()
    yield jump.computes(11).is_due((1, 4, RUNNING), (2, 8, RUNNING)).is_due()
    end = Proposing("the end between multiples", "RCT-19").computes(9).step(close="end")
    yield end.is_due((1, 4, RUNNING), (2, 8, RUNNING), (3, 9, Code.END)).is_due()
    yield (
        Proposing("the end at a multiple", "RCT-19")
        .computes(8)
        .is_due((1, 4, RUNNING), (2, 8, RUNNING))
        .step(close="length")
        .is_due((3, 8, Code.LENGTH))
    )
    cap = Proposing("the client closes below what was committed", "RCT-24").computes(11)
    cap.is_due((1, 4, RUNNING), (2, 8, RUNNING)).step(close="cancelled", upto=9)
    cap.is_due((3, 9, Code.CANCELLED)).left(11, 2)
    yield cap.signed(cap.body(3, 9, Code.CANCELLED), 3).left(2, 2)
    cap = Proposing("multiples that have no proposal yet are proposed before the final", "RCT-24").computes(11)
    cap.step(close="cancelled", upto=9)
    yield cap.is_due((1, 4, RUNNING), (2, 8, RUNNING), (3, 9, Code.CANCELLED))
    cap = Proposing("the client closes below what was proposed", "RCT-24").computes(11)
    cap.is_due((1, 4, RUNNING), (2, 8, RUNNING)).step(close="cancelled", upto=5)
    yield cap.is_due((3, 8, Code.CANCELLED)).left(11, 3)
    back = Proposing("a clock that is set back", "RCT-28").computes(4).is_due((1, 4, RUNNING))
    yield back.computes(8).is_due((2, 8, RUNNING), now=NOW - 100, time=NOW)
    window = Proposing("the window begins at the highest complete receipt", "RCT-21").step(limit=16)
    window.computes(8).is_due((1, 4, RUNNING), (2, 8, RUNNING)).step(limit=16)
    yield window.signed(window.body(1, 4), 1).step(limit=20).signed(window.body(2, 8), 2).step(limit=24)
    full = Proposing("the limit ends with max_positions", "RCT-21").computes(64)
    full.is_due(*[(seq, 4 * seq, RUNNING) for seq in range(1, 17)])
    yield full.signed(full.body(13, 52), 13).step(limit=64).signed(full.body(16, 64), 16).step(limit=64)
    yield (
        Proposing("the end before any work", "RCT-24")
        .step(closed=False)
        .step(close="cancelled", upto=0)
        .is_due()
        .step(closed=True)
    )
    late = Proposing("a clock that is beyond the contract's end", "RCT-22").computes(4)
    yield late.is_due((1, 4, RUNNING), now=NOW + 3700, time=NOW + 3600)
    yield from _unsaid()
    back = (
        Proposing("a client that is back, and what it signed", "INF-43")
        .computes(8)
        .is_due((1, 4, RUNNING), (2, 8, RUNNING))
    )
    back.step(counted=0, expect="ok").signed(back.body(2, 8), 2).step(counted=8, expect="ok")
    yield (
        back.step(counted=9, expect="ok").step(counted=7, expect="bad-position").step(counted=0, expect="bad-position")
    )
    back = Proposing("a client that is back without an id, and signed of its prompt", "INF-43").computes(4)
    yield back.is_due((1, 4, RUNNING)).signed(back.body(1, 4), 1).step(counted=0, expect="ok")
    early = Proposing("the client signs nothing, and nothing was proposed", "RCT-24").computes(3)
    yield early.step(close="cancelled", upto=0).is_due().step(closed=True).left(3, 3)
    little = Proposing("one position is owed", "RCT-24").computes(3).step(close="cancelled", upto=1)
    little.is_due((1, 1, Code.CANCELLED)).step(closed=False)
    yield little.signed(little.body(1, 1, Code.CANCELLED), 1).step(closed=True)
    higher = Proposing("the higher one stands for the lower", "RCT-25").computes(8)
    higher.is_due((1, 4, RUNNING), (2, 8, RUNNING)).signed(higher.body(2, 8), 2)
    higher.signed(higher.body(1, 4), None).signed(higher.body(2, 8), None)
    yield higher.signed(higher.body(1, 4, time=NOW + 1), None)


def _unsaid() -> Iterator[Proposing]:
    """What a client has not said: which ids it was given, and how far it signs."""

    def head(name: str) -> Proposing:
        return Proposing(name, "RCT-23", stages=2).computes(6).is_due((1, 4, RUNNING)).computes_each(8).is_due()

    yield head("a head counts a position when the next one reaches it").computes(9).is_due((2, 8, RUNNING))
    ended = head("at the end of an answer a head counts all it computed").step(close="end")
    yield ended.is_due((2, 8, RUNNING), (3, 8, Code.END)).left(8, 0)
    cancelled = head("a client signs further than a head counts").step(close="cancelled", upto=8)
    yield cancelled.is_due((2, 7, Code.CANCELLED)).left(8, 1)
    yield head("a head whose client is lost").step(close="lost").is_due((2, 7, Code.LOST)).left(8, 1)
    lost = Proposing("a client that is lost when all is proposed", "RCT-19").computes(8)
    yield lost.is_due((1, 4, RUNNING), (2, 8, RUNNING)).step(close="lost").is_due().step(closed=False)
    lost = Proposing("a client that is lost before all is proposed", "RCT-19").computes(9)
    yield lost.is_due((1, 4, RUNNING), (2, 8, RUNNING)).step(close="lost").is_due((3, 9, Code.LOST))
    failed = Proposing("a stage that failed, and its client has said nothing", "RCT-19").computes(8)
    yield failed.is_due((1, 4, RUNNING), (2, 8, RUNNING)).step(close="engine").is_due()
    failed = Proposing("a stage that failed, and its client says how far it signs", "RCT-24").computes(8)
    failed.is_due((1, 4, RUNNING), (2, 8, RUNNING)).step(close="engine", upto=8)
    yield failed.is_due((3, 8, Code.ENGINE))


def _bad_proposing() -> Iterator[Proposing]:
    def proposed(name: str, rule: str) -> Proposing:
        return Proposing(name, rule).computes(8).is_due((1, 4, RUNNING), (2, 8, RUNNING))

    case = proposed("signed by another", "RCT-25")
    yield case.signed(case.body(2, 8), "bad-signature", signer=NODES[1])
    case = proposed("the complete one again, signed by another", "RCT-25")
    yield case.signed(case.body(2, 8), 2).signed(case.body(2, 8), None, signer=NODES[1])
    case = proposed("another body under a number that waits", "RCT-25")
    yield case.signed(case.body(2, 8, time=NOW + 1), "receipt-conflict")
    case = proposed("another body under the complete number", "RCT-25")
    yield case.signed(case.body(2, 8), 2).signed(case.body(2, 8, time=NOW + 1), "receipt-conflict")
    case = proposed("a number that was never proposed", "RCT-25")
    yield case.signed(case.body(3, 12), "receipt-mismatch")
    case = proposed("a number that was never proposed, and that its client did not sign", "RCT-25")
    yield case.signed(case.body(3, 12), "receipt-mismatch", signer=NODES[1])
    case = proposed("another body that its client did not sign", "RCT-25")
    yield case.signed(case.body(2, 8, time=NOW + 1), "bad-signature", signer=NODES[1])
    case = proposed("no receipt", "RCT-25")
    yield case.signed(b"\x90", "bad-record")
