"""`p2pinfer owed settle` over a client that has met its nodes: what is asked of the person, and what is signed."""

import json
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
import trio

from p2pinfer.cli import settle as face
from p2pinfer.client import api
from p2pinfer.client.settlement import Claim
from p2pinfer.core.records.records import sign
from p2pinfer.core.values.keys import peer_name, short_name
from p2pinfer.core.values.units import PeerKey, RecordId
from p2pinfer.disk.journal import open_journal
from p2pinfer.disk.places import client_journal
from tests.cli.books import NODE, Shell, client_folder, leave_unsigned, paid, session_of, with_seq
from tests.core.paid_route import CLIENT

LATELY = int(time.time()) - 3_600
BROKEN = paid(4, 128, final=False, time=LATELY)
CLAIMED = with_seq(paid(4, time=LATELY), 2, 300)  # what its node proposes in the end


@dataclass
class Settled:
    """A client whose nodes propose one thing; it is the `settling` of itself."""

    claims: dict[RecordId, Claim] = field(default_factory=dict)
    signed: list[Claim] = field(default_factory=list)
    payers: list[PeerKey] = field(default_factory=list)
    away: bool = False

    @property
    def settling(self) -> "Settled":
        return self

    async def meet(self, nodes: Collection[PeerKey]) -> set[PeerKey]:
        return set() if self.away else set(nodes)

    async def sign(self, claim: Claim) -> None:
        self.signed.append(claim)

    def greet(self, nodes: Collection[PeerKey]) -> None:
        assert set(nodes) == {NODE.public}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Settled:
    client = Settled()

    @asynccontextmanager
    async def open_client(*_folders: object, payer: PeerKey, **_: object) -> AsyncIterator[Settled]:
        client.payers.append(payer)
        yield client

    monkeypatch.setattr(api, "open_client", open_client)
    monkeypatch.setattr(face, "ANSWER_S", 0.0)
    return client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return client_folder(tmp_path / "client", [BROKEN])


def claim() -> Claim:
    proposal = sign(CLAIMED.receipt.record, NODE)
    return Claim(BROKEN.contract, session_of(BROKEN), proposal, BROKEN.receipt)


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(text + "\n"))


def test_a_claim_is_shown_with_node_positions_amount_and_time_and_signed_after_a_yes(
    p2pinfer: Shell, client: Settled, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.claims = {BROKEN.contract.id: claim()}
    answering(monkeypatch, "yes")
    ran = p2pinfer("owed", "settle", "--data", data)
    assert ran.code == 0
    assert short_name(NODE.public) in ran.out
    assert BROKEN.contract.id.hex()[:12] in ran.out
    assert f" {claim().positions} " in ran.out
    assert f" {claim().amount:,} " in ran.out
    assert "Nothing" in ran.out
    assert client.signed == [claim()]
    assert set(client.payers) == {CLIENT.public}


@pytest.mark.parametrize("text", ["", "y", "no", "YES please"])
def test_nothing_else_is_a_yes(
    p2pinfer: Shell, client: Settled, data: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    client.claims = {BROKEN.contract.id: claim()}
    answering(monkeypatch, text)
    assert p2pinfer("owed", "settle", "--data", data).code == 0
    assert client.signed == []


def test_programs_are_told_and_sign_nothing(p2pinfer: Shell, client: Settled, data: Path) -> None:
    client.claims = {BROKEN.contract.id: claim()}
    told = json.loads(p2pinfer("owed", "settle", "--json", "--data", data).out)
    assert told["claims"] == [
        {
            "node": peer_name(NODE.public),
            "contract": BROKEN.contract.id.hex(),
            "positions": claim().positions,
            "amount_ncr": claim().amount,
            "since": BROKEN.contract.record.issued,
        }
    ]
    assert client.signed == []


def test_what_the_record_justified_is_told_as_signed(p2pinfer: Shell, client: Settled, data: Path) -> None:
    trio.run(leave_unsigned, client_journal(data), BROKEN, 60)

    async def meet(nodes: Collection[PeerKey]) -> set[PeerKey]:
        async with open_journal(client_journal(data)) as journal:
            await journal.complete(CLAIMED.receipt)
        return set(nodes)

    client.meet = meet  # type: ignore[method-assign]
    ran = p2pinfer("owed", "settle", "--data", data)
    assert (ran.code, ran.err) == (0, "")
    assert "all is signed that your own record justifies: 31 positions" in ran.out


def test_nodes_that_were_not_met_are_named(p2pinfer: Shell, client: Settled, data: Path) -> None:
    trio.run(leave_unsigned, client_journal(data), BROKEN, 60)
    client.away = True
    out = p2pinfer("owed", "settle", "--data", data).out
    assert f"not met: {short_name(NODE.public)}" in out


def test_where_nothing_is_unsigned_nobody_is_met(p2pinfer: Shell, client: Settled, tmp_path: Path) -> None:
    folder = client_folder(tmp_path / "done", [paid(9)])
    assert "nothing that is unsigned" in p2pinfer("owed", "settle", "--data", folder).out
    assert client.payers == []


def test_options_of_the_table_are_refused(p2pinfer: Shell, client: Settled, data: Path) -> None:
    ran = p2pinfer("owed", "--by", "node", "settle", "--data", data)
    assert ran.code == 2
    assert "--by is for the table" in ran.err
