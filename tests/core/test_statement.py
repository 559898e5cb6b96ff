"""Statements: what is written verifies, and nothing else does; earnings folded from the same receipts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.money.ledger import By, Earned, fold, fold_all
from p2pinfer.core.records.canonical import pack_array
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import ZEROS, countersign, sign
from p2pinfer.core.records.statement import (
    MAGIC,
    MAX_CERTIFICATES,
    MAX_RECEIPTS,
    MAX_STATEMENT,
    MAX_STATEMENT_FRAME,
    Paid,
    Stated,
    write_statement,
)
from p2pinfer.core.records.statement_check import Verdict, compare_statements, verify_statement
from p2pinfer.core.records.tree import Tree, leaf_of
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import Bin, Struct, UInt, UInts, Zero, kinds_of
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import OwnerKey, PeerKey, RecordId, Roles, SessionId, Span
from tests.core.paid_route import (
    CLIENT,
    NODES,
    NOW,
    OWNER,
    STRANGER,
    certificate_for,
    contract_on,
    offer_of,
)

NODE = NODES[0]
OFFER = offer_of(NODE, Span(0, 10), Roles.HEAD | Roles.TAIL)
CERTIFICATE = certificate_for(NODE)
NOBODY = RecordId(ZEROS)


def paid(
    number: int,
    positions: int = 200,
    client: PrivateKey = CLIENT,
    seq: int = 1,
    time: int = NOW,
    final: bool = True,
    **changes: object,
) -> Paid:
    """A contract and a receipt over `positions`, of a prompt of 100."""
    terms = contract_on(OFFER, nonce=number.to_bytes(16, "big"), client=client.public, prompt=100, **changes)
    contract = countersign(sign(terms, client), NODE)
    usage, amount = terms.work.usage(positions), terms.amount(positions)
    receipt = Receipt(contract.id, seq, usage, amount, b"i" * 32, b"o" * 32, time, int(final), Code.END if final else 0)
    return Paid(contract, countersign(sign(receipt, NODE), client))


FOUR = [paid(1), paid(2, 300), paid(3, 400, STRANGER), paid(4, 150)]


def written(entries: list[Paid], **changes: object) -> bytes:
    terms = {"number": 1, "prev": NOBODY, "since": NOW - 100, "until": NOW + 100, "created": NOW + 200, **changes}
    certificates = terms.pop("certificates", [CERTIFICATE])
    stated = Stated(OwnerKey(OWNER.public), **terms)  # type: ignore[arg-type]
    return write_statement(NODE, stated, certificates, entries)[1]  # type: ignore[arg-type]


def frames_of(data: bytes) -> list[bytes]:
    frames, at = [], len(MAGIC)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        frames.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return frames


def file_of(frames: list[bytes], **changes: object) -> bytes:
    """A file of these frames under a header that is made to fit them, and then changed."""
    verdict = verify_statement(written(FOUR))
    header = replace(verdict.header.record, root=Tree(map(leaf_of, frames)).root())
    signed = sign(replace(header, **changes), NODE)  # type: ignore[arg-type]
    first = pack_array([signed.body, signed.signatures[0]])
    return MAGIC + b"".join(len(frame).to_bytes(4, "big") + frame for frame in [first, *frames])


def refused(data: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as error:
        verify_statement(data)
    why = str(error.value)
    assert why.startswith("frame ") == data.startswith(MAGIC), why
    return why


def in_frame(number: int, data: bytes) -> bool:
    """Whether the fault is found there."""
    return refused(data).startswith(f"frame {number} of the statement: ")


def test_a_statement_verifies() -> None:
    verdict = verify_statement(written(FOUR))
    total = sum(entry.receipt.record.amount for entry in FOUR)
    assert (verdict.header.record.count, verdict.header.record.amount) == (4, total)
    assert {entry.contract.id for entry in verdict.entries} == {entry.contract.id for entry in FOUR}


def test_the_order_of_receipts_does_not_matter_to_the_writer() -> None:
    assert written(FOUR) == written(FOUR[::-1])


def test_a_verdict_says_what_each_payer_owes() -> None:
    verdict = verify_statement(written(FOUR))
    shares = {share.payer: (share.count, share.amount) for share in verdict.by_payer}
    mine = sum(entry.receipt.record.amount for entry in FOUR if entry.contract.record.client == CLIENT.public)
    assert shares == {CLIENT.public: (3, mine), STRANGER.public: (1, FOUR[2].receipt.record.amount)}


def test_a_verdict_says_what_is_not_proven() -> None:
    """RCT-12."""
    said = " ".join(verify_statement(written(FOUR)).not_proven)
    for word in ("correct", "can or will pay", "different people", "revoked", "paid before"):
        assert word in said


def test_a_statement_of_nothing_verifies() -> None:
    assert verify_statement(written([])).entries == ()


def test_a_statement_for_one_payer_holds_its_receipts_alone() -> None:
    entries = [FOUR[2]]
    assert verify_statement(written(entries, payer=STRANGER.public)).header.record.payer == STRANGER.public
    assert "another payer" in refused(written(FOUR, payer=STRANGER.public))


def test_contracts_under_a_renewed_certificate_are_stated_together() -> None:
    renewed = certificate_for(NODE, serial=2)
    later = paid(9, cert=renewed.id)
    verdict = verify_statement(written([*FOUR, later], certificates=[CERTIFICATE, renewed]))
    assert len(verdict.certificates) == 2


def test_every_byte_of_a_statement_is_covered() -> None:
    data = written([paid(1)])
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 1
        refused(bytes(altered))


@given(st.data())
def test_a_statement_cut_anywhere_is_refused(data: st.DataObject) -> None:
    whole = written([paid(1)])
    refused(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    refused(data)
    refused(MAGIC + data)
    refused(MAGIC + len(data).to_bytes(4, "big") + data)


def test_bytes_after_the_end_are_refused() -> None:
    refused(written(FOUR) + b"\0")


def test_a_length_beyond_the_limit_is_refused_before_it_is_read() -> None:
    assert "limit 4096" in refused(MAGIC + (1 << 31).to_bytes(4, "big") + bytes(5000))


def test_a_fault_in_the_header_names_its_frame() -> None:
    data = bytearray(written(FOUR))
    data[len(MAGIC) + 20] ^= 1
    assert in_frame(1, bytes(data))


def test_a_file_that_ends_after_its_first_line_has_no_first_frame() -> None:
    assert in_frame(1, MAGIC)


def test_a_fault_in_a_length_names_its_frame() -> None:
    certificate = frames_of(written(FOUR))[1]
    assert in_frame(2, file_of([certificate])[: -len(certificate) - 1])  # three bytes of a length
    assert in_frame(2, file_of([certificate])[:-1])
    assert in_frame(7, written(FOUR) + (1 << 31).to_bytes(4, "big"))


def test_a_receipt_more_than_counted_is_not_looked_at() -> None:
    certificate, *receipts = frames_of(written(FOUR))[1:]
    unsigned = receipts[-1][:-64] + bytes(64)
    assert in_frame(6, file_of([certificate, *receipts[:-1], unsigned], count=3))
    assert "there are more" in refused(file_of([certificate, *receipts], count=3))


def longest(shape: type) -> int:
    """Bytes of the longest array of these fields."""
    return 3 + sum(map(_longest_kind, (kind for _, kind in kinds_of(shape))))


def _longest_kind(kind: object) -> int:
    match kind:
        case UInt(bits):
            return len(pack_array([(1 << bits) - 1])) - 1
        case Bin(size):
            return size + 2
        case UInts(count, bits):
            return 1 + count * _longest_kind(UInt(bits))
        case Struct(shape):
            return longest(shape)
        case Zero(inner):
            return _longest_kind(inner)
    return 1 + 2 * _longest_kind(UInt(32))  # a span; roles are shorter


def test_no_statement_is_longer_than_a_reader_takes() -> None:
    """RCT-14"""
    frame = 4 + 2 + longest(Contract) + longest(Receipt) + 2 * 4 + 4 * (64 + 2)
    assert MAX_RECEIPTS * frame + (1 + MAX_CERTIFICATES) * (4 + MAX_STATEMENT_FRAME) < MAX_STATEMENT


@pytest.mark.parametrize("change", [{"count": 5}, {"amount": 1}, {"root": ZEROS}], ids=str)
def test_sums_that_do_not_fit_are_the_headers_fault(change: dict[str, object]) -> None:
    assert in_frame(1, file_of(frames_of(written(FOUR))[1:], **change))


def test_contracts_out_of_order_are_refused() -> None:
    certificate, *receipts = frames_of(written(FOUR))[1:]
    assert "not in order" in refused(file_of([certificate, *receipts[::-1]]))


def test_a_contract_that_stands_twice_is_refused() -> None:
    certificate, *receipts = frames_of(written(FOUR))[1:]
    assert "stands twice" in refused(file_of([certificate, receipts[0], *receipts], count=5))


def test_certificates_out_of_order_are_refused() -> None:
    frames = frames_of(written(FOUR, certificates=[CERTIFICATE, certificate_for(NODE, serial=2)]))
    assert "not in order" in refused(file_of([frames[2], frames[1], *frames[3:]]))


def test_a_certificate_after_a_receipt_is_refused() -> None:
    certificate, *receipts = frames_of(written(FOUR))[1:]
    other = frames_of(written([], certificates=[certificate_for(NODE, serial=2)]))[1]
    assert "after a receipt" in refused(file_of([certificate, *receipts, other]))


def test_a_statement_without_certificate_is_refused() -> None:
    assert "no certificate" in refused(file_of([], count=0, amount=0))


def test_a_frame_of_another_kind_is_refused() -> None:
    frames = frames_of(written(FOUR))[1:]
    for other in (pack_array([2, b""]), pack_array([]), pack_array([b"", b""]), frames[1][:-66]):
        refused(file_of([*frames, other]))


@pytest.mark.parametrize(
    "change", [{"count": 3}, {"amount": 1}, {"root": ZEROS}, {"until": NOW - 1}, {"since": NOW + 1, "until": NOW + 2}]
)
def test_a_header_that_does_not_fit_its_receipts_is_refused(change: dict[str, object]) -> None:
    refused(file_of(frames_of(written(FOUR))[1:], **change))


def test_a_header_signed_by_another_node_is_refused() -> None:
    frames = frames_of(written(FOUR))[1:]
    assert "another node or owner" in refused(file_of(frames, owner=STRANGER.public))
    verdict = verify_statement(written(FOUR))
    forged = sign(verdict.header.record, NODES[1])
    first = pack_array([forged.body, forged.signatures[0]])
    data = MAGIC + b"".join(len(frame).to_bytes(4, "big") + frame for frame in [first, *frames])
    assert "not signed by" in refused(data)


def test_a_contract_of_another_owner_is_refused() -> None:
    assert "another node or owner" in refused(written([paid(1, owner=STRANGER.public)]))


def test_a_contract_whose_certificate_is_missing_is_refused() -> None:
    assert "certificate is missing" in refused(written([paid(1, cert=b"c" * 32)]))


def test_a_contract_outside_its_certificate_is_refused() -> None:
    short = certificate_for(NODE, not_after=NOW + 60)
    assert "does not cover" in refused(written([paid(1, cert=short.id)], certificates=[short]))


def test_a_receipt_outside_the_period_is_refused() -> None:
    assert "outside the period" in refused(written([paid(1, time=NOW + 101)]))


@pytest.mark.parametrize("time", [NOW - 301, NOW + 3601])
def test_a_receipt_outside_its_contract_is_refused(time: int) -> None:
    assert "the contract runs" in refused(written([paid(1, time=time)], since=0, until=NOW + 9999))


def test_a_receipt_above_the_reserve_is_refused() -> None:
    assert "the reserve is" in refused(written([paid(1, reserve=1)]))


def altered(entry: Paid, **changes: object) -> Paid:
    receipt = replace(entry.receipt.record, **changes)  # type: ignore[arg-type]
    return Paid(entry.contract, countersign(sign(receipt, NODE), CLIENT))


def test_an_amount_that_does_not_follow_from_usage_is_refused() -> None:
    assert "usage and prices give" in refused(written([altered(FOUR[0], amount=1)]))


def test_a_receipt_the_client_did_not_sign_is_refused() -> None:
    entry = FOUR[0]
    forged = replace(entry.receipt, signatures=(entry.receipt.signatures[0], STRANGER.sign(b"", b"")))
    assert "not signed by" in refused(written([Paid(entry.contract, forged)]))


def test_a_contract_the_node_did_not_sign_is_refused() -> None:
    entry = FOUR[0]
    forged = replace(entry.contract, signatures=(entry.contract.signatures[0],) * 2)
    assert "not signed by" in refused(written([Paid(forged, entry.receipt)]))


# Overlap


def verdict_of(*entries: Paid) -> Verdict:
    return verify_statement(written(list(entries)))


def test_statements_without_a_common_contract_do_not_overlap() -> None:
    assert compare_statements(verdict_of(FOUR[0]), verdict_of(FOUR[1])).overlaps == ()


def test_a_contract_stated_twice_costs_only_what_was_added() -> None:
    (overlap,) = compare_statements(
        verdict_of(paid(1, 200, final=False)), verdict_of(paid(1, 300, seq=2), FOUR[1])
    ).overlaps
    assert overlap.contract == FOUR[0].contract.id
    assert overlap.extra == overlap.second - overlap.first > 0
    assert overlap.contradiction is None


def test_an_older_statement_costs_nothing() -> None:
    (overlap,) = compare_statements(verdict_of(paid(1, 300, seq=2)), verdict_of(paid(1, 200))).overlaps
    assert overlap.extra == 0


def test_two_bodies_under_one_number_are_named() -> None:
    (overlap,) = compare_statements(verdict_of(paid(1, 200)), verdict_of(paid(1, 300))).overlaps
    assert overlap.contradiction == "two bodies under number 1"


def test_work_taken_back_is_named() -> None:
    (overlap,) = compare_statements(verdict_of(paid(1, 300)), verdict_of(paid(1, 200, seq=2))).overlaps
    assert overlap.contradiction is not None


def test_other_roots_at_one_position_are_named() -> None:
    ended = paid(1, 200, seq=2)
    roots = altered(paid(1, 200, final=False), out_root=ZEROS)
    (overlap,) = compare_statements(verdict_of(roots), verdict_of(ended)).overlaps
    assert overlap.contradiction == "numbers 1 and 2 state other roots at one position"


def test_a_node_that_made_two_statements_of_one_number_is_named() -> None:
    first, second = (verify_statement(written([entry])) for entry in FOUR[:2])
    assert compare_statements(first, second).fork == "two statements under number 1"
    assert compare_statements(first, first).fork is None


def test_a_node_that_goes_on_from_an_earlier_statement_has_not_cheated() -> None:
    """Its folder was restored: RCT-29."""
    first, second = (verify_statement(written([], number=number, prev=RecordId(b"p" * 32))) for number in (2, 3))
    assert compare_statements(first, second).fork is None


# Ledger


def earned(entry: Paid, session: bytes = b"s" * 16) -> Earned:
    return Earned(entry.contract, entry.receipt, SessionId(session))


LATER = paid(5, 250, time=NOW + 3600)


def test_earnings_of_strangers_and_of_own_keys_are_never_added() -> None:
    total = fold_all([earned(entry).part for entry in FOUR], own={PeerKey(STRANGER.public), PeerKey(OWNER.public)})
    assert total.own == FOUR[2].receipt.record.amount
    assert total.unbacked == sum(FOUR[place].receipt.record.amount for place in (0, 1, 3))
    assert (total.receipts, total.positions) == (4, 200 + 300 + 400 + 150)


@pytest.mark.parametrize(("by", "headings"), [(By.DAY, 1), (By.MODEL, 1), (By.PAYER, 2), (By.SESSION, 4)])
def test_earnings_are_folded_under_headings(by: By, headings: int) -> None:
    totals = fold([earned(entry, bytes([place]) * 16).part for place, entry in enumerate(FOUR)], by)
    assert len(totals) == headings
    assert sum(total.unbacked for total in totals) == sum(entry.receipt.record.amount for entry in FOUR)


def test_a_day_is_one_of_utc() -> None:
    day = NOW // 86_400 * 86_400
    last, first = (
        paid(6, time=day + 86_399, issued=day, expires=day + 86_400),
        paid(7, time=day, issued=day, expires=day + 9),
    )
    assert [total.heading for total in fold([earned(last).part, earned(first).part], By.DAY)] == ["2026-09-21"]


def test_nothing_earned_is_no_heading() -> None:
    assert fold([], By.DAY) == []
    assert fold_all([]).unbacked == 0


def test_a_header_of_more_receipts_than_a_statement_holds_cannot_be_made() -> None:
    """RCT-18"""
    header = verify_statement(written([])).header.record
    assert replace(header, count=MAX_RECEIPTS).count == 65_536
    with pytest.raises(ValueError, match="65537 receipts"):
        replace(header, count=MAX_RECEIPTS + 1)


def test_a_header_of_a_reversed_period_cannot_be_made() -> None:
    header = verify_statement(written([])).header
    with pytest.raises(ValueError, match="a period"):
        replace(header.record, since=2, until=1)
