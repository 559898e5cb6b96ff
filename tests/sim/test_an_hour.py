"""An hour of nodes and their client in seconds, and what the books of both sides say of it."""

from pathlib import Path

import trio
from trio.testing import MockClock

from p2pinfer.client.answer import Answer
from p2pinfer.client.api import Client
from p2pinfer.core.values.codes import Code
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_reader import JournalReader

from .clocks import clock_that_waits
from .town import Town

HOUR_S = 3_600
PROMPTS = ("hello", "the other day", "what is a distributed hash table?")
TOKENS = 12
PAUSE_S = 30.0, 90.0  # between one answer and the next question
JUMPS = ((600, 200), (1_200, -200), (1_800, 86_400), (2_400, -86_400))  # of all clocks: when, and how far
CRASH_S = 600.0  # between two crashes, at least
RESTART_S = 20.0
LOOK_S = 0.1


async def ask_for_an_hour(client: Client, town: Town) -> list[Answer]:
    answers: list[Answer] = []
    until = trio.current_time() + HOUR_S
    while trio.current_time() < until:
        answers.append(await client.answer(PROMPTS[len(answers) % len(PROMPTS)], max_tokens=TOKENS))
        await trio.sleep(town.lots.uniform(*PAUSE_S))
    return answers


def check_same(answers: list[Answer]) -> None:
    """Every answer is whole, and the one that its prompt always has."""
    assert len(answers) > HOUR_S / PAUSE_S[1] - 5
    assert {(answer.tokens, answer.reason) for answer in answers} == {(TOKENS, Code.LENGTH)}
    assert len({(number % len(PROMPTS), answer.ids) for number, answer in enumerate(answers)}) == len(PROMPTS)


async def signed(journal: Journal) -> int:
    """Nano-credits of all receipts."""
    return sum(total.amount for total in await journal.read(JournalReader.totals))


async def unpaid(journal: Journal) -> int:
    """Contracts that are not paid in full."""
    return len(await journal.read(lambda reader: reader.unfinished(0)))


async def set_clocks(town: Town) -> None:
    began = trio.current_time()
    for at_s, by_s in JUMPS:
        await trio.sleep_until(began + at_s)
        for home in town.homes:
            home.clock.jump(by_s)


async def test_an_hour_of_requests_takes_seconds_and_the_books_agree(autojump_clock: MockClock, tmp_path: Path) -> None:
    town = Town(tmp_path)
    with clock_that_waits(autojump_clock):
        async with town.node("node") as node, trio.open_nursery() as nursery:
            async with town.client("client", node.addresses) as client:
                nursery.start_soon(set_clocks, town)
                answers = await ask_for_an_hour(client, town)
            async with town.client_journal("client") as kept:
                found = [(await signed(journal), await unpaid(journal)) for journal in (node.journal, kept)]
            nursery.cancel_scope.cancel()
    check_same(answers)
    assert found == [(sum(answer.cost for answer in answers), 0)] * 2
