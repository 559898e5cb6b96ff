"""Journals with a long past: as many signed records as a bench or a test wants, stored by the journal's own calls."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.records.receipt import FINAL, RUNNING, Receipt
from p2pinfer.core.records.records import countersign, sign
from p2pinfer.core.records.statement import Paid
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import SessionId
from p2pinfer.disk.journal import Journal, open_journal
from tests.core.paid_route import CLIENT, DAY_S, NODES, NOW, certificate_for, contract_on, key, route_offers

PROMPT: Final = 100
POSITIONS: Final = 200  # of each contract
LIFE_S: Final = 900
AT_ONCE: Final = 128  # contracts that share commits
UNSIGNED: Final = 50  # of so many contracts of a node one has a proposal that nobody signed,
BROKEN: Final = 70  # and of so many one was broken off


@dataclass(frozen=True)
class Past:
    """The past of a node, or of a client.

    contracts: in all, spread over `days`; stages: of each session, each at a node of its own
    clients:   who take turns; the first of them is CLIENT
    is_client: nodes have said that they store the receipts, and none is without one
    """

    contracts: int
    stages: int = 1
    clients: int = 1
    days: int = 100
    is_client: bool = False

    def session(self, number: int) -> SessionId:
        return SessionId((number // self.stages).to_bytes(16, "big"))

    def client(self, number: int) -> PrivateKey:
        return _client(number // self.stages % self.clients)

    def time(self, number: int) -> int:
        return NOW + number * self.days * DAY_S // self.contracts

    def is_unsigned(self, number: int) -> bool:
        return not self.is_client and number % UNSIGNED == UNSIGNED - 1


@cache
def _client(number: int) -> PrivateKey:
    return key(f"client {number}") if number else CLIENT


def make_past(path: Path, past: Past) -> None:
    """Write a journal."""
    trio.run(_make, path, past)


async def _make(path: Path, past: Past) -> None:
    async with open_journal(path) as journal:
        for node in NODES[: past.stages]:
            await journal.certify(certificate_for(node))
        numbered = enumerate(_entries(past))
        while batch := list(islice(numbered, AT_ONCE)):
            await _store(journal, past, batch)


async def _store(journal: Journal, past: Past, batch: Sequence[tuple[int, Paid]]) -> None:
    async with trio.open_nursery() as nursery:
        for number, entry in batch:
            nursery.start_soon(journal.agree, entry.contract, past.session(number))
    async with trio.open_nursery() as nursery:
        for number, entry in batch:
            complete = partial(journal.complete, stored=not past.is_client)
            nursery.start_soon(journal.propose if past.is_unsigned(number) else complete, entry.receipt)
    if past.is_client:
        async with trio.open_nursery() as nursery:
            for _, entry in batch:
                nursery.start_soon(journal.acknowledge, entry.contract.id, entry.receipt.record.seq)


def _entries(past: Past) -> Iterator[Paid]:
    offers = [contract_on(offer, prompt=PROMPT) for offer in route_offers(past.stages)]
    for number in range(past.contracts):
        place, client, time = number % past.stages, past.client(number), past.time(number)
        own = {"nonce": number.to_bytes(16, "big"), "client": client.public, "issued": time, "expires": time + LIFE_S}
        contract = countersign(sign(replace(offers[place], **own), client), NODES[place])  # type: ignore[arg-type]
        usage, amount = contract.record.work.usage(POSITIONS), contract.record.amount(POSITIONS)
        end = (RUNNING, Code.NONE) if number % BROKEN == BROKEN - 1 else (FINAL, Code.END)
        receipt = sign(Receipt(contract.id, 1, usage, amount, b"i" * 32, b"o" * 32, time, *end), NODES[place])
        yield Paid(contract, receipt if past.is_unsigned(number) else countersign(receipt, client))
