"""What once ended a process, with one message or two: each ends one link or session now, and the node goes on."""

import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import Codec, Span
from p2pinfer.core.wire.messages import AskContacts, AskOffers
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Forward,
    Neighbour,
    Prompt,
    Sampled,
    SessionRefused,
    pack_ids,
)
from tests.disk.tiny import EVEN

from .conftest import Scene
from .good import GoodClient, open_good_client
from .strangers import HEAR_S, IDS, Deal, Stranger, hello, new_key, of_session, open_stranger, write
from .victims import Victim, open_victim

WIDTH = EVEN["hidden_size"]  # of the tiny model's rows
ROW = 4 * WIDTH
CODEC = Codec.F32.value
TAIL = Span(2, 3)


async def accepted(stranger: Stranger, deal: Deal) -> None:
    await stranger.hear(Accept, lambda message: of_session(message, deal.session))


async def closed(stranger: Stranger, deal: Deal) -> Close:
    return await stranger.hear(Close, lambda message: of_session(message, deal.session))


@pytest.mark.parametrize("max_body", [0, 1, 100, 1023])
async def test_a_hello_that_takes_hardly_any_bytes_ends_its_own_link(victim: Victim, max_body: int) -> None:
    async with victim.arena.pipes(new_key()) as pipes:
        pipe = await pipes.open()
        await write(pipe, hello(max_body=max_body), AskContacts(1), AskOffers(2, b"", 64))
        with trio.fail_after(HEAR_S):
            while await pipe.read():
                pass


async def test_rows_past_the_prompt_before_their_id_is_sampled_end_their_session(victim: Victim) -> None:
    async with open_stranger(victim.arena) as stranger:
        deal = await stranger.plan(prompt=1)
        await stranger.say(deal.part(TAIL, stranger.neighbour(), stranger.neighbour()))
        await accepted(stranger, deal)
        await stranger.say(Forward(deal.session, 0, 0, 0, 2, 0, CODEC, bytes(2 * ROW)))
        assert (await closed(stranger, deal)).code == Code.BAD_POSITION


ODD_ADDRESSES = [
    "/ip4/127.0.0.1/udp/53/p2p/{}",
    "/ip4/127.0.0.1/p2p/{}",
    "/ip4/127.0.0.1/tcp/0/p2p/{}",
    "/ip4/127.0.0.1/tcp/1/ws/p2p/{}",
    "/dns4/localhost/tcp/1/p2p/{}",
    "/unix/tmp/p2p/{}",
    "/p2p/{}",
    "/ip4/127.0.0.1/tcp/1/p2p/{}/p2p-circuit/p2p/{}",
    "nothing of the kind",
    "\x1b]0;title\x07/p2p/{}",
    "/ip4/127.0.0.1/tcp/99999/p2p/{}",
    "/ip6zone/\x00/ip6/fe80::1/tcp/1/p2p/{}",
]


@pytest.mark.parametrize("address", ODD_ADDRESSES, ids=range(len(ODD_ADDRESSES)))
async def test_an_odd_address_of_a_neighbour_refuses_its_session(victim: Victim, address: str) -> None:
    somebody = new_key().public
    there = Neighbour(somebody, (address.replace("{}", peer_name(somebody)),))
    async with open_stranger(victim.arena) as stranger:
        deal = await stranger.plan()
        await stranger.say(deal.part(Span(1, 2), stranger.neighbour(), there))
        refused = await stranger.hear(SessionRefused, lambda message: of_session(message, deal.session))
        assert refused.code == Code.UNREACHABLE


async def test_a_client_that_vanishes_as_the_last_id_is_sampled_ends_nothing_but_its_session(victim: Victim) -> None:
    chance = random.Random(1)
    for _ in range(25):
        async with open_stranger(victim.arena) as stranger:
            deal = await stranger.plan(max_tokens=2)
            await stranger.say(deal.open)
            await accepted(stranger, deal)
            await stranger.say(deal.prompt())
            await trio.sleep(chance.uniform(0, 0.02))
            (await stranger.link())._scope.cancel()  # no goodbye: the connection is gone at once


async def test_opens_while_a_node_leaves_are_refused(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("leaving")
    with open_victim(root, scene.store) as victim:
        async with open_stranger(victim.arena) as stranger:
            deal = await stranger.plan()
            held = deal.again()
            await stranger.say(held.open)  # an open session keeps the node from leaving at once
            await accepted(stranger, held)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, victim.stop)
                with trio.move_on_after(HEAR_S), suppress(LinkDead):  # at last it takes no links any more
                    while not stranger.ears.closed:
                        await stranger.say(deal.again().open)
                        await trio.sleep(0.002)
            refused = [message for _, message in stranger.ears.came if isinstance(message, SessionRefused)]
            assert {message.code for message in refused} <= {Code.LEAVING, Code.WINDOW_FULL, Code.BUSY}


async def test_one_signal_to_the_whole_group_lets_open_answers_be_paid(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("group")
    with open_victim(root, scene.store) as victim, open_good_client(root, scene.store, victim.address) as good:
        async with trio.open_nursery() as nursery:
            answers: list[dict[str, object]] = []

            async def ask() -> None:
                answers.append(await trio.to_thread.run_sync(lambda: good.ask(max_tokens=4000)))

            # The node has stored that it was paid before, and said so: it takes a long contract
            await wait_row(root / "good" / "client.sqlite", "receipt WHERE final AND stored", 1)
            nursery.start_soon(ask)
            await wait_row(root / "node" / "journal.sqlite", "contract", 2)  # it has worked, and wants to be paid
            await trio.to_thread.run_sync(lambda: victim.stop(whole_group=True))
        assert "gave up" in str(answers[0].get("error")), answers
    assert paid_in_full(root) == 2  # the answer before it, and this one, as far as it came


async def wait_row(path: Path, rows: str, count: int) -> None:
    """Until a journal has so many of these."""
    with trio.fail_after(HEAR_S), closing(sqlite3.connect(path)) as journal:
        while journal.execute(f"SELECT count(*) FROM {rows}").fetchone()[0] < count:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


def paid_in_full(root: Path) -> int:
    """Contracts of which the node has the final receipt, signed by both, and wants nothing more."""
    with closing(sqlite3.connect(root / "node" / "journal.sqlite")) as journal:
        assert journal.execute("SELECT count(*) FROM proposal").fetchone() == (0,)
        found: int = journal.execute("SELECT count(*) FROM receipt WHERE final").fetchone()[0]
        return found


async def test_a_session_that_anybody_names_is_not_harmed(victim: Victim) -> None:
    """Session ids need not be secret: a message of somebody else's session never changes it."""
    async with open_stranger(victim.arena) as client, open_stranger(victim.arena) as other:
        deal = await client.plan(max_tokens=200)
        await client.say(deal.open)
        await accepted(client, deal)
        await other.say(Close(deal.session, 0, Code.CANCELLED, 0, ""))
        await other.wait_closed()
        await client.say(deal.prompt())
        await client.hear(Sampled, lambda message: of_session(message, deal.session))


async def test_a_prompt_before_its_open_is_no_session(victim: Victim, good: GoodClient) -> None:
    async with open_stranger(victim.arena) as stranger:
        deal = await stranger.plan()
        await stranger.say(deal.prompt(), deal.open)
        await accepted(stranger, deal)
        await stranger.say(Prompt(deal.session, 0, pack_ids(IDS)))
