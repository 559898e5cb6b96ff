"""First peers are found without those that were named, on the memory network with a clock that jumps."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.book import SAVE_S
from p2pinfer.overlay.directory import MEET_S
from p2pinfer.overlay.first_peers import BATCH, MAX_BATCHES, NAMED_S, open_first_peers
from p2pinfer.overlay.leads import AGAIN_S, ALONE_AGAIN_S, HERE_S
from p2pinfer.overlay.memory import MemoryWorld
from p2pinfer.overlay.neighbours import HEAR_S
from p2pinfer.overlay.network import Network

from .conftest import KEYS
from .sides import Book, Near, OpenSide, address_of, look_until_linked, open_plain, open_sought

US, ONE, OTHER, DEAD = KEYS[:4]


async def test_a_peer_that_was_met_is_found_when_those_named_are_gone(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    async with open_plain(world, ONE):
        book = Book()
        async with open_sought(world, US, book, address_of(ONE)) as we:
            await we.directory.look()
            assert we.linked == {ONE.public}
        for named in ((), (address_of(DEAD),)):
            began = trio.current_time()
            async with open_sought(world, US, book, *named) as we:
                await we.directory.look()
                assert we.linked == {ONE.public}
            assert trio.current_time() - began == pytest.approx(NAMED_S if named else 0, abs=0.1)


async def test_one_that_was_met_is_met_again_where_it_was_though_somebody_else_is_linked(
    autojump_clock: MockClock,
) -> None:
    world, book = MemoryWorld(), Book()
    async with open_plain(world, ONE), open_plain(world, OTHER):
        async with open_sought(world, US, book, address_of(ONE)) as we:
            await we.directory.look()
        async with open_sought(world, US, book, address_of(OTHER)) as we:
            await we.directory.look()
            assert we.linked == {OTHER.public}
            await we.first_peers.meet({ONE.public, DEAD.public})
            assert we.linked == {ONE.public, OTHER.public}


async def test_a_directory_looks_on_when_nobody_finds_first_peers_any_more(
    autojump_clock: MockClock, open_side: OpenSide, world: MemoryWorld
) -> None:
    """As while a client closes."""
    book, peer = Book(), await open_side("peer")
    async with open_plain(world, ONE), open_sought(world, US, book, address_of(ONE)) as before:
        await before.directory.look()
    async with open_first_peers(peer.directory, book):
        pass
    assert await peer.directory.look() == []
    assert peer.linked() == set()


async def test_while_somebody_is_linked_nobody_is_sought(autojump_clock: MockClock) -> None:
    world, near = MemoryWorld(), Near()
    async with (
        open_plain(world, ONE),
        open_plain(world, OTHER),
        open_sought(world, US, Book(), address_of(ONE), here=[address_of(OTHER)], near=near) as we,
    ):
        await we.directory.look()
        assert (we.linked, we.read, near.opened) == ({ONE.public}, [], 0)
        await we.directory.look(widely=True)
        assert (we.linked, we.read, near.opened) == ({ONE.public, OTHER.public}, [address_of(OTHER)], 1)


async def test_a_node_of_this_machine_is_found_by_itself(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    here = [address_of(DEAD), address_of(ONE), "nonsense", address_of(US)]
    async with open_plain(world, ONE), open_sought(world, US, Book(), here=here) as we:
        await we.directory.look()
        assert we.linked == {ONE.public}
        assert trio.current_time() < 0.1


async def test_acquaintances_that_are_gone_hold_up_the_others_for_a_moment_only(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    book = Book()
    keys = [PrivateKey(bytes([seed]) * 32) for seed in range(100, 100 + 2 * BATCH)]
    async with open_plain(world, ONE):
        book.note_link(ONE.public, "", address_of(ONE), 1)
        await trio.sleep(10)
        for key in keys:  # met later than the one that is there
            book.note_link(key.public, "", address_of(key), 5)
        world.latency_s = 0.2
        async with open_sought(world, US, book) as we:
            began = trio.current_time()
            while not we.linked:
                await we.directory.look()
            assert trio.current_time() - began < MEET_S + 1
    dead = [one for one in book.to_dial(100) if one.is_away]
    assert len(dead) == 2 * BATCH


async def test_who_was_tried_in_vain_is_left_alone_for_a_while(autojump_clock: MockClock) -> None:
    world, book = MemoryWorld(), Book()
    book.note_link(DEAD.public, "", address_of(DEAD), 1)
    async with open_plain(world, ONE), open_sought(world, US, book, address_of(ONE)) as we:
        await we.directory.look(widely=True)
        dials = counted_dials(we.network)
        await trio.sleep(AGAIN_S - 10)
        await we.directory.look(widely=True)
        assert dials == []
        await trio.sleep(10)
        await we.directory.look(widely=True)
        assert dials == [DEAD.public]


async def test_while_nobody_is_linked_they_are_tried_again_soon(autojump_clock: MockClock) -> None:
    book = Book()
    book.note_link(DEAD.public, "", address_of(DEAD), 1)
    async with open_sought(MemoryWorld(), US, book) as we:
        dials = counted_dials(we.network)
        for _ in range(12):
            await we.directory.look()
            await trio.sleep(1)
        assert 2 <= len(dials) <= 1 + 12 * (1 + HEAR_S) / ALONE_AGAIN_S


def counted_dials(network: Network) -> list[PeerKey]:
    """Who is dialled from now on."""
    dials: list[PeerKey] = []
    reach = network.reach

    async def counted(peer: PeerKey, addresses: Sequence[str], word: Source) -> object:
        dials.append(peer)
        return await reach(peer, addresses, word)

    network.reach = counted  # type: ignore[method-assign, assignment]
    return dials


@pytest.mark.parametrize("strangers", [0, 3 * BATCH * MAX_BATCHES])
async def test_after_an_outage_somebody_is_met_again_within_seconds(autojump_clock: MockClock, strangers: int) -> None:
    """Whoever else is in the book, who does not answer any more."""
    world, book = MemoryWorld(), Book()
    async with open_plain(world, ONE):
        async with open_sought(world, US, book, address_of(ONE)) as we:
            await we.directory.look()
        for number in range(strangers):
            key = PrivateKey((1_000 + number).to_bytes(32))
            book.note_link(key.public, f"203.0.113.{number}", address_of(key), 1)
        async with open_sought(world, US, book) as we:
            await look_until_linked(we)
            world.unreachable.add(ONE.public)
            [link] = we.network.links()
            link.close(Code.LEAVING, "the network is gone")
            for _ in range(30):
                await we.directory.look()
                await trio.sleep(1)
            assert we.linked == set()
            world.unreachable.clear()
            began = trio.current_time()
            await look_until_linked(we)
            assert trio.current_time() - began < ALONE_AGAIN_S + 2 + strangers / 8


async def test_what_a_link_was_dialled_at_is_kept_and_where_it_came_from(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    world.sources = {ONE.public: Source("203.0.113.7", Scope.PUBLIC), US.public: Source("203.0.113.8", Scope.PUBLIC)}
    ours, theirs = Book(), Book()
    async with open_sought(world, ONE, theirs), open_sought(world, US, ours) as we:
        await we.network.dial(address_of(ONE))
        await trio.sleep(SAVE_S + 1)
    [known] = ours.to_dial(100)
    assert (known.network, known.places[0].address) == ("203.0.113.7", address_of(ONE))
    assert theirs.to_dial(100) == []  # we tell no address, so there is nothing to dial


async def test_a_book_that_names_another_peers_address_leads_to_nobody(autojump_clock: MockClock) -> None:
    book = Book()
    book.note_link(DEAD.public, "", address_of(ONE), 1)
    async with open_plain(world := MemoryWorld(), ONE), open_sought(world, US, book) as we:
        await we.directory.look()
        assert we.linked == set()


async def test_a_node_of_this_machine_that_starts_again_is_met_soon(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    async with open_sought(world, US, Book(), here=[address_of(ONE)]) as we:
        await we.directory.look()
        assert we.linked == set()
        await trio.sleep(HERE_S)
        async with open_plain(world, ONE):
            await we.directory.look()
            assert we.linked == {ONE.public}


async def test_it_is_known_when_only_others_than_those_named_are_there(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    async with open_plain(world, ONE), open_sought(world, US, Book(), address_of(DEAD), here=[address_of(ONE)]) as we:
        await we.directory.look()
        assert we.linked == {ONE.public}
        assert we.directory.misses_named
        async with open_plain(world, DEAD):
            await we.directory.look()
            assert not we.directory.misses_named
