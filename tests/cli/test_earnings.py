"""`p2pinfer earnings`: what strangers owe is never added to anything, and the export verifies."""

import csv
import json
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from shutil import copytree

import pytest
import trio

from p2pinfer.core.records.records import ZEROS
from p2pinfer.core.records.statement_check import Verdict, verify_statement
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import ModelId
from p2pinfer.disk.journal import open_journal
from p2pinfer.disk.places import node_journal
from p2pinfer.disk.statement_export import Wanted, export_statement
from p2pinfer.disk.store import Store
from tests.cli.books import (
    CERTIFICATE,
    DAY,
    NODE,
    Ran,
    Shell,
    amount,
    client_folder,
    node_folder,
    paid,
    store,
    tamper,
    write_key,
)
from tests.core.paid_route import CLIENT, DAY_S, NODES, NOW, OWNER, STRANGER, certificate_for
from tests.disk.tiny import tiny_folder

MINE = [paid(1), paid(2, 300)]
THEIRS = [paid(3, 400, STRANGER, NOW + DAY_S)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return node_folder(tmp_path / "node", [*MINE, *THEIRS])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "november.statement"


def rows(ran: Ran) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(ran.out)["rows"]
    return found


def verdict(file: Path) -> Verdict:
    return verify_statement(file.read_bytes())


# The table


def test_earnings_by_day_are_the_default(p2pinfer: Shell, data: Path) -> None:
    found = rows(p2pinfer("earnings", "--json", "--data", data))
    assert [(row["day"], row["receipts"], row["unbacked_ncr"]) for row in found] == [
        ("2026-09-21", 2, amount(MINE)),
        ("2026-09-22", 1, amount(THEIRS)),
    ]


def test_earnings_by_payer_begin_with_who_owes_most(p2pinfer: Shell, data: Path) -> None:
    found = rows(p2pinfer("earnings", "--by", "payer", "--json", "--data", data))
    assert [(row["payer"], row["unbacked_ncr"]) for row in found] == [
        (peer_name(CLIENT.public), amount(MINE)),
        (peer_name(STRANGER.public), amount(THEIRS)),
    ]


def test_what_own_keys_owe_stands_apart(p2pinfer: Shell, data: Path) -> None:
    write_key(data / "client.key", CLIENT)
    total = json.loads(p2pinfer("earnings", "--json", "--data", data).out)["total"]
    assert (total["unbacked_ncr"], total["self_ncr"]) == (amount(THEIRS), amount(MINE))


def test_an_owner_whose_key_is_elsewhere_is_still_no_stranger(p2pinfer: Shell, tmp_path: Path) -> None:
    entry = paid(1, client=OWNER)
    total = json.loads(p2pinfer("earnings", "--json", "--data", node_folder(tmp_path / "n", [entry])).out)["total"]
    assert (total["unbacked_ncr"], total["self_ncr"]) == (0, amount([entry]))


def test_earnings_by_session_lead_to_receipts(p2pinfer: Shell, data: Path) -> None:
    found = rows(p2pinfer("earnings", "--by", "session", "--json", "--data", data))
    assert found[-1]["contracts"] == [THEIRS[0].contract.id.hex()]
    assert found[-1]["time"] == NOW + DAY_S


def test_a_model_is_called_by_the_name_in_the_store(p2pinfer: Shell, tmp_path: Path) -> None:
    p2pinfer("model", "import", tiny_folder(tmp_path / "Tiny"), "--store", tmp_path / "store")
    (model,) = Store(tmp_path / "store").models()
    unknown = ModelId(b"u" * 32)
    folder = node_folder(tmp_path / "node", [paid(1, model=model.id), paid(2, 300, model=unknown)])
    words = ("earnings", "--by", "model", "--data", folder, "--store", tmp_path / "store")
    found = rows(p2pinfer(*words, "--json"))
    assert [(row["name"], row["model"]) for row in found] == [("", unknown.hex()), ("tiny", model.id.hex())]
    line = next(line for line in p2pinfer(*words).out.splitlines() if line.startswith("tiny"))
    assert line.split()[1] == model.id.hex()[:12]


def test_several_folders_are_added_up(p2pinfer: Shell, data: Path, tmp_path: Path) -> None:
    theirs = [paid(4, 200, node=NODES[1])]
    second = node_folder(tmp_path / "second", theirs, [certificate_for(NODES[1])], NODES[1])
    both = ("--data", data, "--data", second, "--data", data)
    told = json.loads(p2pinfer("earnings", "--by", "node", "--json", *both).out)
    assert told["total"]["unbacked_ncr"] == amount([*MINE, *THEIRS, *theirs])
    assert [row["node"] for row in told["rows"]] == [peer_name(node.public) for node in NODES[:2]]
    write_key(second / "client.key", STRANGER)  # who pays out of one folder pays the other's node in vain
    told = json.loads(p2pinfer("earnings", "--json", *both).out)
    assert told["total"]["self_ncr"] == amount(THEIRS)


def test_a_copy_of_a_folder_is_not_added_to_it(p2pinfer: Shell, data: Path, tmp_path: Path) -> None:
    copytree(data, tmp_path / "copy")
    ran = p2pinfer("earnings", "--data", data, "--data", tmp_path / "copy")
    assert (ran.code, ran.out) == (2, "")
    assert "hold earnings of the same node: one is a copy" in ran.err


def test_a_statement_is_of_one_folder(p2pinfer: Shell, data: Path, out: Path, tmp_path: Path) -> None:
    ran = p2pinfer("earnings", "--data", data, "--data", tmp_path, "export", out)
    assert (ran.code, out.exists()) == (2, False)
    assert "export one for each data folder" in ran.err


def test_a_day_bounds_the_period(p2pinfer: Shell, data: Path) -> None:
    found = rows(p2pinfer("earnings", "--since", "2026-09-22", "--json", "--data", data))
    assert [row["day"] for row in found] == ["2026-09-22"]


def test_a_number_of_days_counts_today(p2pinfer: Shell, tmp_path: Path) -> None:
    today = int(time.time()) // DAY_S * DAY_S
    entries = [paid(1, time=today), paid(2, time=today - DAY_S), paid(3, time=today - 2 * DAY_S)]
    folder = node_folder(tmp_path / "node", entries)
    assert len(rows(p2pinfer("earnings", "--since", "2d", "--json", "--data", folder))) == 2


def test_people_read_what_unbacked_means(p2pinfer: Shell, data: Path) -> None:
    ran = p2pinfer("earnings", "--data", data)
    assert "on its word alone" in ran.out
    assert "so the money stays yours" not in ran.out


def test_people_read_what_self_means_where_it_occurs(p2pinfer: Shell, data: Path) -> None:
    write_key(data / "client.key", CLIENT)
    assert "so the money stays yours" in p2pinfer("earnings", "--data", data).out


def test_a_table_has_a_bar_and_a_total(p2pinfer: Shell, data: Path) -> None:
    lines = p2pinfer("earnings", "--data", data).out.splitlines()
    first = next(line for line in lines if line.startswith("2026-09-21"))
    total = next(line for line in lines if line.startswith("total"))
    assert "━" in first
    assert total.split()[-2:] == [f"{amount(MINE) + amount(THEIRS):,}", "0"]


@pytest.mark.parametrize("by", ["day", "model", "payer", "node", "session"])
def test_a_table_fits_a_narrow_terminal(p2pinfer: Shell, data: Path, by: str) -> None:
    ran = p2pinfer("earnings", "--by", by, "--data", data)
    assert ran.code == 0
    assert not re.search(r"\S…", ran.out)  # nothing was cut at its end
    assert max(map(len, ran.out.splitlines())) <= 80


def test_large_amounts_are_exact_credits(p2pinfer: Shell, tmp_path: Path) -> None:
    entry = paid(1, flat=2_000_000_001, reserve=1 << 40)
    out = p2pinfer("earnings", "--data", node_folder(tmp_path / "node", [entry])).out
    assert "credits" in out
    assert f"2.{amount([entry]) - 2_000_000_000:09d}" in out


def test_nothing_earned_is_said(p2pinfer: Shell, tmp_path: Path) -> None:
    folder = node_folder(tmp_path / "node", [])
    assert p2pinfer("earnings", "--data", folder).out.startswith("nothing earned")
    assert rows(p2pinfer("earnings", "--json", "--data", folder)) == []


async def propose_only(path: Path) -> None:
    async with open_journal(path) as journal:
        entry = paid(9)
        await journal.agree(entry.contract, b"s" * 16)  # type: ignore[arg-type]
        await journal.propose(entry.receipt)


def test_what_nobody_signed_is_not_earned(p2pinfer: Shell, tmp_path: Path) -> None:
    folder = node_folder(tmp_path / "node", [])
    trio.run(propose_only, node_journal(folder))
    assert json.loads(p2pinfer("earnings", "--json", "--data", folder).out)["unsigned"] == 1
    assert "not earned: work under 1 contract" in p2pinfer("earnings", "--data", folder).out


def test_a_folder_without_journal_is_a_usage_error(p2pinfer: Shell, tmp_path: Path) -> None:
    ran = p2pinfer("earnings", "--data", tmp_path / "empty")
    assert (ran.code, ran.out) == (2, "")
    assert "no journal" in ran.err


def test_a_damaged_journal_is_a_failure(p2pinfer: Shell, data: Path) -> None:
    node_journal(data).write_bytes(b"not a database" * 100)
    ran = p2pinfer("earnings", "--data", data)
    assert (ran.code, ran.err.startswith("Error: ")) == (1, True)


@pytest.mark.parametrize(
    "words", [["--by", "week"], ["--since", "yesterday"], ["--since", "0d"], ["--since", "2026-13-01"]]
)
def test_wrong_words_are_usage_errors(p2pinfer: Shell, data: Path, words: list[str]) -> None:
    ran = p2pinfer("earnings", *words, "--data", data)
    assert (ran.code, ran.out) == (2, "")


# The export


def test_an_export_verifies(p2pinfer: Shell, data: Path, out: Path) -> None:
    ran = p2pinfer("earnings", "export", out, "--data", data)
    assert (ran.code, re.search(r"statement \d+: 3 receipts", ran.out) is not None) == (0, True)
    header = verdict(out).header.record
    assert (header.count, header.amount, header.node) == (3, amount([*MINE, *THEIRS]), NODE.public)


def test_an_export_is_a_table_too(p2pinfer: Shell, data: Path, out: Path) -> None:
    p2pinfer("earnings", "export", out, "--data", data)
    with out.with_name("november.statement.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert sum(int(row["amount_ncr"]) for row in table) == amount([*MINE, *THEIRS])
    assert {row["contract"] for row in table} == {entry.contract.id.hex() for entry in (*MINE, *THEIRS)}
    row = next(row for row in table if row["payer"] == peer_name(STRANGER.public))
    assert (row["time"], row["positions"], row["prefill_units"]) == ("2026-09-22T14:13:20Z", "400", "1000")


def test_an_export_is_private(p2pinfer: Shell, data: Path, out: Path) -> None:
    p2pinfer("earnings", "export", out, "--data", data)
    files = sorted(file for file in out.parent.iterdir() if file.is_file())
    assert [file.name for file in files] == ["november.statement", "november.statement.csv"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_exports_are_numbered_and_name_the_one_before(p2pinfer: Shell, data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    p2pinfer("earnings", "export", first, "--data", data)
    told = json.loads(p2pinfer("earnings", "export", second, "--json", "--data", data).out)
    assert verdict(second).header.record.number == told["number"] > verdict(first).header.record.number
    assert verdict(second).header.record.prev == verdict(first).header.id


def test_more_receipts_than_a_statement_holds_are_stated_by_shorter_periods(
    p2pinfer: Shell, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pinfer.disk.statement_export.MAX_RECEIPTS", 2)
    ran = p2pinfer("earnings", "export", out, "--data", data)
    assert (ran.code, "3 receipts, a statement holds 2: state shorter periods" in ran.err) == (2, True)
    assert not out.exists()


def test_promises_beyond_what_a_statement_can_say_are_named(p2pinfer: Shell, tmp_path: Path, out: Path) -> None:
    most = 2**53 - 1
    liar = {"client": STRANGER, "flat": most - 10_000, "reserve": most}
    data = node_folder(tmp_path / "node", [paid(1), *(paid(number, **liar) for number in (2, 3))])
    ran = p2pinfer("earnings", "export", out, "--data", data)
    assert (ran.code, out.exists()) == (2, False)
    assert f"{peer_name(STRANGER.public)} alone promises {2 * (most - 10_000) + 2 * 165:,}" in ran.err
    assert p2pinfer("earnings", "export", out, "--payer", peer_name(CLIENT.public), "--data", data).code == 0


def test_promises_without_sense_are_summed_and_shown_all_the_same(p2pinfer: Shell, tmp_path: Path) -> None:
    most = 2**53 - 1
    liar = {"flat": most - 10_000, "reserve": most}
    data = node_folder(tmp_path / "node", [paid(number, **liar) for number in range(1, 9)])
    mine = client_folder(tmp_path / "client", [paid(number, **liar) for number in range(1, 9)])
    for command, folder in (("earnings", data), ("owed", mine)):
        assert p2pinfer(command, "--data", folder).code == 0
        assert str(8 * (most - 10_000 + 165)) in p2pinfer(command, "--json", "--data", folder).out
    assert p2pinfer("backup", tmp_path / "copy", "--data", data).code == 0


def test_one_payer_sees_no_other(p2pinfer: Shell, data: Path, out: Path) -> None:
    p2pinfer("earnings", "export", out, "--payer", peer_name(STRANGER.public), "--data", data)
    assert [share.payer for share in verdict(out).by_payer] == [STRANGER.public]
    assert verdict(out).header.record.payer == STRANGER.public


def test_the_end_of_a_name_stands_for_a_payer(p2pinfer: Shell, data: Path, out: Path) -> None:
    shown = p2pinfer("earnings", "--by", "payer", "--data", data).out
    end = f"…{peer_name(CLIENT.public)[-8:]}"
    assert end in shown
    assert p2pinfer("earnings", "export", out, "--payer", end, "--data", data).code == 0
    assert verdict(out).header.record.payer == CLIENT.public


@pytest.mark.parametrize("payer", ["abc", "zzzzzzzz", "12D3KooWnobodyOfThatName", "12D3KooW" + "1" * 44])
def test_an_unknown_payer_is_a_usage_error(p2pinfer: Shell, data: Path, out: Path, payer: str) -> None:
    assert p2pinfer("earnings", "export", out, "--payer", payer, "--data", data).code == 2
    assert not out.exists()


def test_a_period_has_both_its_days(p2pinfer: Shell, data: Path, out: Path) -> None:
    p2pinfer("earnings", "export", out, "--since", "2026-09-21", "--until", "2026-09-21", "--data", data)
    header = verdict(out).header.record
    assert (header.count, header.since, header.until) == (2, DAY, DAY + DAY_S - 1)


def test_a_reversed_period_is_a_usage_error(p2pinfer: Shell, data: Path, out: Path) -> None:
    words = ("--since", "2026-09-22", "--until", "2026-09-21")
    assert p2pinfer("earnings", "export", out, *words, "--data", data).code == 2


def test_options_may_stand_before_the_subcommand(p2pinfer: Shell, data: Path, out: Path) -> None:
    assert p2pinfer("earnings", "--data", data, "--since", "2026-09-22", "export", out).code == 0
    assert verdict(out).header.record.count == 1


def test_an_option_of_the_table_is_not_dropped_silently(p2pinfer: Shell, data: Path, out: Path) -> None:
    assert p2pinfer("earnings", "--by", "payer", "export", out, "--data", data).code == 2
    assert not out.exists()


@pytest.mark.parametrize("name", ["november.statement", "november.statement.csv"])
def test_a_file_that_is_there_is_not_replaced(p2pinfer: Shell, data: Path, out: Path, name: str) -> None:
    out.with_name(name).write_text("dear")
    for words in ([], ["--force"]):
        ran = p2pinfer("earnings", "export", out, "--data", data, *words)
        assert (ran.code, "choose another name, or remove it yourself" in ran.err) == (2, True)
    assert out.with_name(name).read_text() == "dear"
    assert [path.name for path in out.parent.iterdir() if path != data] == [name]


def test_a_statement_is_replaced_where_that_is_asked_for(p2pinfer: Shell, data: Path, out: Path) -> None:
    assert p2pinfer("earnings", "export", out, "--data", data).code == 0
    first = verdict(out).header
    ran = p2pinfer("earnings", "export", out, "--data", data)
    assert (ran.code, "replace it with --force" in ran.err) == (2, True)
    assert p2pinfer("earnings", "export", out, "--data", data, "--force").code == 0
    assert verdict(out).header.record.prev == first.id


def test_a_refused_export_takes_no_number(p2pinfer: Shell, data: Path, out: Path) -> None:
    out.write_text("dear")
    assert p2pinfer("earnings", "export", out, "--force", "--data", data).code == 2
    out.unlink()
    assert p2pinfer("earnings", "export", out, "--data", data).code == 0
    assert verdict(out).header.record.prev == ZEROS


@pytest.mark.parametrize("name", ["x.csv", "nowhere/x", "."])
def test_a_name_that_cannot_be_used_is_a_usage_error(p2pinfer: Shell, data: Path, tmp_path: Path, name: str) -> None:
    assert p2pinfer("earnings", "export", tmp_path / name, "--data", data).code == 2


def test_a_disk_that_refuses_is_a_failure(p2pinfer: Shell, data: Path) -> None:
    ran = p2pinfer("earnings", "export", "/proc/x", "--data", data)
    assert (ran.code, "cannot write /proc/x" in ran.err) == (1, True)


def test_work_for_an_earlier_owner_is_left_out_and_told(p2pinfer: Shell, tmp_path: Path, out: Path) -> None:
    sold = certificate_for(NODE, STRANGER, not_before=NOW)
    later = paid(5, time=NOW + 60, owner=STRANGER.public, cert=sold.id)
    folder = node_folder(tmp_path / "node", [*MINE, later], [CERTIFICATE, sold])
    ran = p2pinfer("earnings", "export", out, "--data", folder)
    assert "left out: 2 receipts" in ran.out
    assert (verdict(out).header.record.owner, verdict(out).header.record.count) == (STRANGER.public, 1)


def test_a_journal_that_was_tampered_with_is_not_exported(p2pinfer: Shell, data: Path, out: Path) -> None:
    tamper(node_journal(data), "UPDATE receipt SET client_signature = node_signature")
    ran = p2pinfer("earnings", "export", out, "--data", data)
    assert (ran.code, "does not verify" in ran.err, out.exists()) == (1, True, False)


def test_a_folder_without_certificate_is_a_usage_error(p2pinfer: Shell, tmp_path: Path, out: Path) -> None:
    ran = p2pinfer("earnings", "export", out, "--data", node_folder(tmp_path / "node", [], []))
    assert (ran.code, "start the node once" in ran.err) == (2, True)


def test_a_client_earns_nothing(p2pinfer: Shell, tmp_path: Path, out: Path) -> None:
    folder = client_folder(tmp_path / "client", MINE)
    assert p2pinfer("earnings", "--data", folder).code == 2
    assert p2pinfer("earnings", "export", out, "--data", folder).code == 2


async def test_a_node_may_be_writing_meanwhile(data: Path, out: Path) -> None:
    command = partial(subprocess.run, capture_output=True, text=True, check=True)
    words = [sys.executable, "-m", "p2pinfer", "earnings"]
    async with open_journal(node_journal(data)) as journal:
        await store(journal, paid(7, 250))
        shown = await trio.to_thread.run_sync(command, [*words, "--json", "--data", str(data)])
        await trio.to_thread.run_sync(command, [*words, "export", str(out), "--data", str(data)])
        await store(journal, paid(8, 250))
    assert json.loads(shown.stdout)["total"]["receipts"] == 4
    assert verdict(out).header.record.count == 4


async def test_exports_at_once_never_share_a_number(data: Path, tmp_path: Path) -> None:
    told: list[str] = []

    async def export(file: Path) -> None:
        try:
            await export_statement(data, node_journal(data), file, Wanted(0, NOW + 2 * DAY_S, NOW))
        except* JournalError as group:
            told.extend(map(str, group.exceptions))

    files = [tmp_path / "first", tmp_path / "second"]
    async with trio.open_nursery() as nursery:
        for file in files:
            nursery.start_soon(export, file)
    headers = [verdict(file).header.record for file in files if file.exists()]
    assert len({header.number for header in headers}) == len({header.prev for header in headers}) == len(headers)
    assert len(headers) + len(told) == 2
    assert all("run this one again" in words for words in told)
