"""`p2pinfer owed`: the same receipts as the owners', from the other side."""

import json
import time
from pathlib import Path

import pytest
import trio

from p2pinfer.cli.words import time_words
from p2pinfer.core.values.keys import peer_name
from p2pinfer.disk.journal import open_journal
from p2pinfer.disk.journal_changes import UNSIGNED_S
from p2pinfer.disk.places import client_journal
from tests.cli.books import (
    NODE,
    PROMPT,
    Shell,
    amount,
    client_folder,
    leave_unsigned,
    node_folder,
    paid,
    store,
    write_key,
)
from tests.core.paid_route import DAY_S, NOW, OWNER, STRANGER

FIRST = [paid(1), paid(2, 300)]
OTHER = [paid(3, 400, owner=STRANGER.public, time=NOW + DAY_S)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return client_folder(tmp_path / "client", [*FIRST, *OTHER])


def told(p2pinfer: Shell, data: Path, *words: str) -> dict[str, object]:
    ran = p2pinfer("owed", "--json", *words, "--data", data)
    assert (ran.code, ran.err) == (0, "")
    found: dict[str, object] = json.loads(ran.out)
    return found


def test_what_is_owed_is_told_by_owner_most_first(p2pinfer: Shell, data: Path) -> None:
    found = told(p2pinfer, data)
    assert found["rows"] == [
        {"owner": peer_name(OWNER.public), "receipts": 2, "positions": 500, "owed_ncr": amount(FIRST), "self_ncr": 0},
        {
            "owner": peer_name(STRANGER.public),
            "receipts": 1,
            "positions": 400,
            "owed_ncr": amount(OTHER),
            "self_ncr": 0,
        },
    ]
    assert found["total"] == {
        "receipts": 3,
        "positions": 900,
        "owed_ncr": amount([*FIRST, *OTHER]),
        "self_ncr": 0,
    }


@pytest.mark.parametrize(
    ("by", "headings"),
    [("node", [peer_name(NODE.public)]), ("day", ["2026-09-21", "2026-09-22"])],
)
def test_it_is_told_under_other_headings_too(p2pinfer: Shell, data: Path, by: str, headings: list[str]) -> None:
    rows = told(p2pinfer, data, "--by", by)["rows"]
    assert isinstance(rows, list)
    assert [row[by] for row in rows] == headings


def test_sessions_lead_to_receipts(p2pinfer: Shell, data: Path) -> None:
    rows = told(p2pinfer, data, "--by", "session")["rows"]
    assert isinstance(rows, list)
    assert rows[-1]["contracts"] == [OTHER[0].contract.id.hex()]
    shown = p2pinfer("receipt", "show", rows[-1]["contracts"][0], "--data", data)
    assert "owed by you" in shown.out


def test_a_day_bounds_the_period(p2pinfer: Shell, data: Path) -> None:
    assert told(p2pinfer, data, "--since", "2026-09-22")["total"] == {
        "receipts": 1,
        "positions": 400,
        "owed_ncr": amount(OTHER),
        "self_ncr": 0,
    }


def test_what_is_owed_to_own_nodes_stands_apart(p2pinfer: Shell, data: Path) -> None:
    write_key(data / "owner.key", OWNER)
    total = told(p2pinfer, data)["total"]
    assert isinstance(total, dict)
    assert (total["owed_ncr"], total["self_ncr"]) == (amount(OTHER), amount(FIRST))
    assert "self: owed to your own nodes" in p2pinfer("owed", "--data", data).out


def test_an_owner_sees_the_same_amount_as_its_client(p2pinfer: Shell, tmp_path: Path) -> None:
    owed = told(p2pinfer, client_folder(tmp_path / "client", FIRST))["total"]
    earned = json.loads(p2pinfer("earnings", "--json", "--data", node_folder(tmp_path / "node", FIRST)).out)["total"]
    assert isinstance(owed, dict)
    assert owed["owed_ncr"] == earned["unbacked_ncr"] == amount(FIRST)


def test_receipts_that_no_node_has_confirmed_are_told(p2pinfer: Shell, data: Path) -> None:
    assert told(p2pinfer, data)["unconfirmed"] == 3
    trio.run(confirm, client_journal(data))
    assert told(p2pinfer, data)["unconfirmed"] == 1
    assert "Not confirmed yet: 1 receipt, sent again" in p2pinfer("owed", "--data", data).out


async def confirm(path: Path) -> None:
    async with open_journal(path) as journal:
        for entry in FIRST:
            await journal.acknowledge(entry.contract.id, 1)


@pytest.mark.parametrize("by", ["owner", "node", "day", "session"])
def test_a_table_fits_a_narrow_terminal(p2pinfer: Shell, data: Path, by: str) -> None:
    ran = p2pinfer("owed", "--by", by, "--data", data)
    assert ran.code == 0
    assert " 900 " in ran.out  # positions of all, by node or as the total
    assert max(map(len, ran.out.splitlines())) <= 80


def test_nothing_owed_is_said(p2pinfer: Shell, tmp_path: Path) -> None:
    folder = client_folder(tmp_path / "client", [])
    assert p2pinfer("owed", "--data", folder).out.startswith("nothing owed")
    assert told(p2pinfer, folder)["rows"] == []


def test_a_folder_without_journal_is_a_usage_error(p2pinfer: Shell, tmp_path: Path) -> None:
    ran = p2pinfer("owed", "--data", tmp_path / "empty")
    assert (ran.code, ran.out) == (2, "")
    assert "no journal" in ran.err


# What is unsigned

LATELY = int(time.time()) - 3_600
BROKEN = paid(4, 200, final=False, time=LATELY)
DELIVERED = 150  # ids; with the prompt of 100, 249 positions


@pytest.fixture
def broken(data: Path) -> Path:
    """A folder whose client lost its network 49 positions after its last signature."""
    trio.run(add_broken, client_journal(data))
    return data


async def add_broken(path: Path) -> None:
    async with open_journal(path) as journal:
        await store(journal, BROKEN)
    await leave_unsigned(path, BROKEN, DELIVERED)


def test_what_a_lost_link_left_unsigned_is_told_by_node(p2pinfer: Shell, broken: Path) -> None:
    terms = BROKEN.contract.record
    owed = terms.amount(PROMPT + DELIVERED - 1) - BROKEN.receipt.record.amount
    assert told(p2pinfer, broken)["unsigned"] == [
        {
            "node": peer_name(NODE.public),
            "contracts": [BROKEN.contract.id.hex()],
            "positions": 49,
            "owed_ncr": owed,
            "self_ncr": 0,
            "since": terms.issued,
        }
    ]
    out = p2pinfer("owed", "--data", broken).out
    assert f"49  {owed:>9}          0  {time_words(terms.issued)[:10]}" in " ".join(out.splitlines())
    assert "p2pinfer owed settle" in out
    assert told(p2pinfer, broken)["total"]["receipts"] == 4  # type: ignore[index]


def test_what_is_unsigned_for_own_nodes_stands_apart(p2pinfer: Shell, broken: Path) -> None:
    write_key(broken / "owner.key", OWNER)
    [one] = told(p2pinfer, broken)["unsigned"]  # type: ignore[misc]
    assert one["owed_ncr"] == 0
    assert one["self_ncr"] > 0


def test_where_all_is_signed_nothing_is_said_of_it(p2pinfer: Shell, data: Path) -> None:
    assert told(p2pinfer, data)["unsigned"] == []
    assert "owed settle" not in p2pinfer("owed", "--data", data).out


def test_what_every_node_has_forgotten_is_shown_no_more(p2pinfer: Shell, data: Path) -> None:
    """Nobody will ask for it, so nothing would ever take it off the list."""

    async def leave(expired: int, number: int) -> None:
        old = paid(number, 200, final=False, time=int(time.time()) - UNSIGNED_S - 4_000, expires=expired)
        async with open_journal(client_journal(data)) as journal:
            await store(journal, old)
        await leave_unsigned(client_journal(data), old, DELIVERED)

    edge = int(time.time()) - UNSIGNED_S
    trio.run(leave, edge, 5)
    assert told(p2pinfer, data)["unsigned"] == []
    assert "not met" not in p2pinfer("owed", "settle", "--data", data).out
    trio.run(leave, edge + 60, 6)
    assert len(told(p2pinfer, data)["unsigned"]) == 1  # type: ignore[arg-type]
