"""What strangers may take of a node, counted from outside."""

import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import trio

from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import domain, peer_name
from p2pinfer.core.values.units import Span
from p2pinfer.core.wire.messages import AskContacts, CallRefused, Contacts, Message
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Neighbour,
    Propose,
    Sampled,
    SessionRefused,
    Signed,
    Stored,
)
from p2pinfer.overlay.limits import ALL_DIALS_BURST, ALL_DIALS_RATE

from .conftest import Scene
from .good import open_good_client
from .strangers import Deal, Stranger, least, new_key, of_session, open_stranger
from .victims import Victim, open_victim

ATTACK_S = 3.0
QUIET_S = 1.0  # without an id, and none follows: each takes a millisecond
HOLDERS = 8  # keys
HELD = 16  # sessions of each of them


class Knocks:
    """A port that counts who connects, and says nothing."""

    def __init__(self) -> None:
        self.count = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._taken: list[socket.socket] = []

    def accept(self) -> None:
        with suppress(OSError):  # it is closed at the end
            while True:
                self._taken.append(self._listener.accept()[0])
                self.count += 1

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._taken):
            one.close()


@contextmanager
def knocks() -> Iterator[Knocks]:
    port = Knocks()
    thread = threading.Thread(target=port.accept)
    thread.start()
    try:
        yield port
    finally:
        port.close()
        thread.join()


def most_dials(seconds: float) -> float:
    """Dials on the word of others, in so many seconds."""
    return ALL_DIALS_BURST + ALL_DIALS_RATE * seconds


async def test_a_node_is_no_port_scanner_for_who_opens_sessions(victim: Victim) -> None:
    began = time.monotonic()
    with knocks() as port:
        async with open_stranger(victim.arena) as stranger:
            first = await stranger.plan()
            while time.monotonic() < began + ATTACK_S:
                for _ in range(50):
                    somebody = new_key().public
                    address = f"/ip4/127.0.0.1/tcp/{port.port}/p2p/{peer_name(somebody)}"
                    there = Neighbour(somebody, (address,) * 8)
                    await stranger.say(first.again().part(Span(1, 2), stranger.neighbour(), there))
                await trio.sleep(0.05)
        await trio.sleep(0.5)
        assert port.count <= most_dials(time.monotonic() - began)


async def test_a_node_is_no_port_scanner_for_who_answers_where_its_directory_is(victim: Victim) -> None:
    began = time.monotonic()
    with knocks() as port:
        while time.monotonic() < began + ATTACK_S:
            async with open_stranger(victim.arena) as stranger:
                await stranger.offer()
                with trio.move_on_after(0.3):
                    ask = await stranger.hear(AskContacts)
                    named = tuple(f"/ip4/127.0.0.1/tcp/{port.port}/p2p/{peer_name(new_key().public)}" for _ in range(8))
                    await stranger.say(Contacts(ask.call, named, named))
        await trio.sleep(0.5)
        assert port.count <= most_dials(time.monotonic() - began)


async def test_what_never_became_work_leaves_no_trace_in_the_journal(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("traces")
    with open_victim(root, scene.store) as victim:
        async with open_stranger(victim.arena) as stranger:
            first = await stranger.plan()
            for _ in range(100):
                deal = first.again()
                await stranger.say(deal.open)
                answer = await answer_to(stranger, deal)
                if isinstance(answer, Accept):
                    await stranger.say(least(Close, session=deal.session, code=Code.CANCELLED))
        await trio.to_thread.run_sync(victim.stop)
    assert rows(root, "contract") <= 1  # the last one may not have been looked at yet


def rows(root: Path, table: str) -> int:
    with closing(sqlite3.connect(root / "node" / "journal.sqlite")) as journal:
        found: int = journal.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


async def answer_to(stranger: Stranger, deal: Deal) -> Accept | SessionRefused:
    answer = await stranger.hear(
        Message, lambda message: isinstance(message, Accept | SessionRefused) and of_session(message, deal.session)
    )
    assert isinstance(answer, Accept | SessionRefused)
    return answer


@pytest.mark.slow
async def test_idle_sessions_of_newcomers_shut_no_newcomer_out(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever others hold and do not use, who asks gets room, within the time that an answer may take to begin."""
    root = tmp_path_factory.mktemp("idle")
    with open_victim(root, scene.store) as victim:
        async with trio.open_nursery() as nursery:
            for _ in range(HOLDERS):
                await nursery.start(hold_sessions, victim)
            with open_good_client(root, scene.store, victim.address) as good:
                await good.check_async()
            nursery.cancel_scope.cancel()
        victim.check()


async def hold_sessions(victim: Victim, *, task_status: trio.TaskStatus[None]) -> None:
    """Open sessions as long as there may be, and say nothing on them; renew those that end."""
    async with open_stranger(victim.arena) as stranger:
        first, held = await stranger.plan(prompt=100, max_tokens=3900), False
        with suppress(LinkDead):
            while True:
                for _ in range(HELD):
                    await stranger.say(first.again().open)
                await stranger.offer()  # all of them were looked at
                if not held:
                    task_status.started()
                held = True
                await trio.sleep(1.0)


@pytest.mark.slow
async def test_who_signed_one_position_gets_no_whole_window_for_nothing(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Credit grows with what was signed in full, and never above it."""
    root = tmp_path_factory.mktemp("credit")
    config = "[trust]\ncadence = 4\nmax_chunk = 8\nwindow = 24\nclient_window = 96\nclient_window_max = 960\n"
    with open_victim(root, scene.store, config=config) as victim:
        async with open_stranger(victim.arena) as stranger:
            unsigned = await free_work(stranger)
            await pay_for_one(stranger)
            assert await free_work(stranger) <= unsigned + 24
        victim.check()


async def pay_for_one(stranger: Stranger) -> None:
    """A session of a prompt of one id and an answer of one, signed as it should be."""
    deal = await stranger.plan(prompt=1, max_tokens=1)
    await stranger.say(deal.open)
    if isinstance(await answer_to(stranger, deal), SessionRefused):
        return
    await stranger.say(deal.prompt([1]))
    proposal = await stranger.hear(Propose, lambda message: of_session(message, deal.session))
    signature = deal.key.sign(domain(Receipt.TYPE), proposal.receipt)
    await stranger.say(least(Signed, session=deal.session, receipt=proposal.receipt, signature=signature))
    await stranger.hear(Stored, lambda message: of_session(message, deal.session))


async def free_work(stranger: Stranger) -> int:
    """Ids that are sampled for sessions of which nothing is signed, until the node takes no more of them."""
    found = 0
    while True:
        deal = await stranger.plan(prompt=1, max_tokens=60)
        await stranger.say(deal.open)
        if isinstance(await answer_to(stranger, deal), SessionRefused):
            return found
        await stranger.say(deal.prompt([1]))
        quiet = False
        while not quiet:
            with trio.move_on_after(QUIET_S) as scope:
                await stranger.hear(Sampled, lambda message, at=deal.session: of_session(message, at))
                found += 1
            quiet = scope.cancelled_caught
        await stranger.say(least(Close, session=deal.session, code=Code.CANCELLED))


@pytest.mark.slow
async def test_who_takes_ids_and_says_that_it_did_not_gets_no_more_than_it_may_leave_unsigned(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every session ends before anything is proposed, by a Close that takes nothing. (RCT-24, RCT-27)"""
    root = tmp_path_factory.mktemp("untaken")
    config = "[trust]\ncadence = 64\nmax_chunk = 8\nwindow = 144\nclient_window = 288\nclient_window_max = 288\n"
    with open_victim(root, scene.store, config=config) as victim:
        async with open_stranger(victim.arena) as stranger:
            taken = [await take_and_deny(stranger) for _ in range(10)]
            assert taken[0] > 0
            assert sum(taken) <= 288
        victim.check()


async def take_and_deny(stranger: Stranger) -> int:
    """Take most of an answer, and close as if nothing of it had come; return the ids that came."""
    deal = await stranger.plan(prompt=1, max_tokens=70)
    await stranger.say(deal.open)
    if isinstance(await answer_to(stranger, deal), SessionRefused):
        return 0
    await stranger.say(deal.prompt([1]))
    found = 0
    while found < 50:
        found += len((await stranger.hear(Sampled, lambda message: of_session(message, deal.session))).ids)
    await stranger.say(least(Close, session=deal.session, code=Code.CANCELLED))
    return found


async def test_a_peer_that_asks_for_more_at_once_than_is_answered_is_refused(victim: Victim) -> None:
    async with open_stranger(victim.arena) as stranger:
        await stranger.say(*(AskContacts(call) for call in range(1, 200)))
        answers = [
            await stranger.hear(Message, lambda message: isinstance(message, Contacts | CallRefused))
            for _ in range(199)
        ]
        refused = [answer for answer in answers if isinstance(answer, CallRefused)]
        assert {answer.code for answer in refused} <= {Code.BUSY}
        assert len({answer.call for answer in answers}) == 199  # type: ignore[attr-defined]


async def test_a_stranger_does_not_fill_the_log(victim: Victim) -> None:
    """Of what it signs for nothing a line a minute is said, however much of it there is."""
    victim.new_words()
    async with open_stranger(victim.arena) as stranger:
        for call in range(1, 5):
            await stranger.say(*(least(Signed, receipt=b"\x90") for _ in range(50)), AskContacts(call))
            await stranger.hear(Contacts)
    assert victim.new_words().count("a receipt of an earlier session is not kept") <= 1
