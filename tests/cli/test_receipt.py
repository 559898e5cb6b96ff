"""`p2pinfer receipt show`: every field in words, and the journal's word is not taken for the signatures."""

import json
from dataclasses import fields
from itertools import count
from pathlib import Path

import pytest
import trio

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import encode, record_id
from p2pinfer.core.records.statement import Paid
from p2pinfer.core.values.keys import peer_name
from p2pinfer.disk.journal import open_journal
from p2pinfer.disk.places import node_journal
from tests.cli.books import (
    NODE,
    PROMPT,
    Shell,
    client_folder,
    node_folder,
    paid,
    session_of,
    tamper,
    terms_of,
    write_key,
)
from tests.core.paid_route import CLIENT, STRANGER, certificate_for

MINE, THEIRS = paid(1), paid(2, 300, STRANGER)
ID = MINE.contract.id.hex()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return node_folder(tmp_path / "node", [MINE, THEIRS])


def alter(folder: Path, change: str) -> None:
    tamper(node_journal(folder), change)


def test_a_receipt_is_shown_by_its_first_digits(p2pinfer: Shell, data: Path) -> None:
    ran = p2pinfer("receipt", "show", ID[:8], "--data", data)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"contract {ID}\n")
    assert "both signatures verify" in ran.out


def test_the_bill_follows_from_work_and_prices(p2pinfer: Shell, data: Path) -> None:
    out = p2pinfer("receipt", "show", ID, "--data", data).out
    assert "1,000 layer-tokens at 20,000 per million = 20\n" in out
    assert "101 ids at 640,000 per million = 64.64\n" in out
    assert "amount        165 nano-credits" in out


def test_people_read_words_for_codes(p2pinfer: Shell, data: Path) -> None:
    out = p2pinfer("receipt", "show", ID, "--data", data).out
    assert "final: the model ended its answer" in out
    assert "0:10 (10 layers), as head and tail" in out
    assert "200, of which 100 were the prompt's" in out
    assert "2026-09-21 14:13:20 UTC" in out


HUGE = Prices(*[(1 << 32) - 1] * 4)


@pytest.mark.parametrize(
    "entry",
    [
        MINE,
        paid(5, 4000, flat=7, final=False),
        paid(6, 2000, prices=HUGE, flat=1 << 40, reserve=(1 << 53) - 1),
    ],
)
def test_no_line_is_wider_than_a_terminal(p2pinfer: Shell, tmp_path: Path, entry: Paid) -> None:
    ran = p2pinfer("receipt", "show", entry.contract.id.hex(), "--data", node_folder(tmp_path / "node", [entry]))
    assert ran.code == 0
    assert entry.receipt.record.in_root.hex() in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_programs_read_every_field(p2pinfer: Shell, data: Path) -> None:
    told = json.loads(p2pinfer("receipt", "show", ID, "--json", "--data", data).out)
    assert (told["contract"], told["verified"], told["amount_ncr"]) == (ID, True, 165)
    assert (told["payer"], told["prompt_tokens"], told["positions"]) == (peer_name(CLIENT.public), PROMPT, 200)
    other_names = {"amount": "amount_ncr", "flat": "flat_ncr", "reserve": "reserve_ncr", "span": "layers"}
    other_names |= {
        "client": "payer",
        "model": "model_id",
        "cert": "certificate",
        "state": "final",
        "prompt": "prompt_tokens",
    }
    for field in (*fields(Contract), *fields(Receipt)):
        assert other_names.get(field.name, field.name) in told


@pytest.mark.parametrize(("own", "kind"), [(CLIENT, "self"), (STRANGER, "unbacked")])
def test_own_keys_are_told_from_strangers(p2pinfer: Shell, data: Path, own: object, kind: str) -> None:
    write_key(data / "client.key", own)  # type: ignore[arg-type]
    assert json.loads(p2pinfer("receipt", "show", ID, "--json", "--data", data).out)["kind"] == kind


def test_a_client_sees_what_it_owes(p2pinfer: Shell, tmp_path: Path) -> None:
    folder = client_folder(tmp_path / "client", [MINE])
    ran = p2pinfer("receipt", "show", ID, "--data", folder)
    assert (ran.code, "owed by you" in ran.out) == (0, True)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE receipt SET client_signature = node_signature",
        "UPDATE receipt SET node_signature = zeroblob(64)",
        "UPDATE contract SET client_signature = zeroblob(64)",
        "UPDATE contract SET node_signature = zeroblob(64)",
    ],
)
def test_a_signature_that_is_none_is_a_failure(p2pinfer: Shell, data: Path, change: str) -> None:
    alter(data, change)
    ran = p2pinfer("receipt", "show", ID, "--data", data)
    assert (ran.code, "DOES NOT VERIFY" in ran.out) == (1, True)
    assert "the receipt does not verify" in ran.err


def test_a_wrong_signature_is_false_for_programs(p2pinfer: Shell, data: Path) -> None:
    alter(data, "UPDATE receipt SET client_signature = node_signature")
    ran = p2pinfer("receipt", "show", ID, "--json", "--data", data)
    told = json.loads(ran.out)
    assert (ran.code, told["verified"]) == (1, False)
    assert "not signed by" in told["why"]


def test_a_certificate_that_does_not_cover_is_a_failure(p2pinfer: Shell, tmp_path: Path) -> None:
    short = certificate_for(NODE, serial=9, not_after=MINE.contract.record.expires - 1)
    entry = paid(4, cert=short.id)
    folder = node_folder(tmp_path / "node", [entry], [short])
    ran = p2pinfer("receipt", "show", entry.contract.id.hex(), "--data", folder)
    assert (ran.code, "does not cover" in ran.err) == (1, True)


def alike() -> tuple[int, int]:
    """Numbers of two contracts whose ids begin with the same four digits."""
    seen: dict[bytes, int] = {}
    for number in count():
        beginning = record_id(Contract, encode(terms_of(number)))[:2]
        if beginning in seen:
            return seen[beginning], number
        seen[beginning] = number
    raise AssertionError("ids are drawn from all of them")


def test_digits_of_several_contracts_are_a_usage_error(p2pinfer: Shell, tmp_path: Path) -> None:
    both = [paid(number) for number in alike()]
    digits = both[0].contract.id.hex()[:4]
    ran = p2pinfer("receipt", "show", digits, "--data", node_folder(tmp_path / "node", both))
    assert ran.code == 2
    assert all(entry.contract.id.hex()[:16] in ran.err for entry in both)


@pytest.mark.parametrize("digits", ["", "2d2", "not-hex-at-all", "0000000000"])
def test_digits_of_no_receipt_are_a_usage_error(p2pinfer: Shell, data: Path, digits: str) -> None:
    ran = p2pinfer("receipt", "show", digits, "--data", data)
    assert (ran.code, ran.out) == (2, "")


async def propose_only(path: Path) -> None:
    async with open_journal(path) as journal:
        await journal.agree(MINE.contract, session_of(MINE))
        await journal.propose(MINE.receipt)


def test_a_contract_nobody_signed_for_is_a_failure(p2pinfer: Shell, tmp_path: Path) -> None:
    folder = node_folder(tmp_path / "node", [])
    trio.run(propose_only, node_journal(folder))
    ran = p2pinfer("receipt", "show", ID[:8], "--data", folder)
    assert (ran.code, "has not signed" in ran.err) == (1, True)


def test_an_unused_folder_is_a_usage_error(p2pinfer: Shell, tmp_path: Path) -> None:
    ran = p2pinfer("receipt", "show", ID, "--data", tmp_path)
    assert (ran.code, "name another with --data" in ran.err) == (2, True)
