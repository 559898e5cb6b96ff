"""A node's identity while it runs: certificates that end, wrong clocks, copies of its folder, starts that fail."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.records.certificate import MAX_CERTIFICATE_S
from p2pinfer.core.values.errors import KeyInUse, UsageError, sole
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Roles, Span
from p2pinfer.disk.boots import Boots
from p2pinfer.disk.identity import Identity, load_identity
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.memory_journal import MemoryDisk
from p2pinfer.disk.store import Store
from p2pinfer.node.certification import Certifying
from p2pinfer.node.daemon import Surroundings, open_node
from p2pinfer.node.doubles import Doubling
from p2pinfer.node.settings import Settings, change
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.core.paid_route import DAY_S, NODES, offer_of
from tests.node.wall import Wall

NOW = 1_790_000_000


@pytest.fixture
def clock() -> Wall:
    return Wall(NOW)


@pytest.fixture
def identity(tmp_path: Path, clock: Wall) -> Identity:
    return load_identity(tmp_path, clock.now)


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    async with MemoryDisk().open_journal(Path("journal")) as journal:
        yield journal


@pytest.fixture
def certifying(tmp_path: Path, identity: Identity, journal: Journal, clock: Wall) -> Certifying:
    return Certifying(tmp_path, identity, journal, clock.unix)


async def test_two_looks_at_once_renew_once(certifying: Certifying, clock: Wall, journal: Journal) -> None:
    clock.now = certifying.certificate.record.not_after
    async with trio.open_nursery() as nursery:
        nursery.start_soon(certifying.look)
        nursery.start_soon(certifying.look)
    assert await journal.read(JournalReader.certificates) == [certifying.certificate]


@pytest.mark.parametrize("passed_s", [MAX_CERTIFICATE_S - 30 * DAY_S, MAX_CERTIFICATE_S + DAY_S, -20_000 * DAY_S])
async def test_a_certificate_is_renewed_while_the_node_runs(
    certifying: Certifying, clock: Wall, journal: Journal, tmp_path: Path, passed_s: int
) -> None:
    """It ends soon, is over, or was made by a clock that was wrong."""
    first = certifying.certificate
    await certifying.look()
    assert certifying.certificate is first
    clock.now += passed_s
    await certifying.look()
    record = certifying.certificate.record
    assert (record.serial, record.not_before <= clock.now < record.not_after - 30 * DAY_S) == (2, True)
    assert await journal.read(JournalReader.certificates) == [certifying.certificate]
    assert load_identity(tmp_path, clock.now).certificate == certifying.certificate


async def test_an_owner_whose_key_is_away_is_told_a_week_ahead_once_a_day(
    certifying: Certifying, clock: Wall, tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    (tmp_path / "owner.key").rename(tmp_path / "elsewhere")
    clock.now = certifying.certificate.record.not_after - 7 * DAY_S
    await certifying.look()
    assert caplog.records == []
    clock.now += 1
    for _ in range(3):
        await certifying.look()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "put owner.key into" in record.getMessage()
    await trio.sleep(DAY_S)
    await certifying.look()
    assert len(caplog.records) == 2


async def test_another_owners_key_renews_nothing_while_the_node_runs(
    certifying: Certifying, clock: Wall, tmp_path: Path
) -> None:
    (tmp_path / "owner.key").write_text("11" * 32)
    clock.now += MAX_CERTIFICATE_S
    before = certifying.certificate
    await certifying.look()
    assert certifying.certificate is before


# Copies


@pytest.fixture
def boots(tmp_path: Path) -> Boots:
    return Boots(tmp_path / "boots", b"our own boot ...")


async def test_of_two_processes_with_one_key_the_later_one_ends(
    clock: Wall, autojump_clock: MockClock, boots: Boots
) -> None:
    doubling = Doubling(boots, clock.unix)
    await trio.sleep(30)
    offer = offer_of(NODES[0], Span(0, 3), Roles.HEAD, issued=NOW - 10, seq=5).record
    doubling.hear(offer)
    with pytest.raises(KeyInUse, match="was there first: is this data folder a copy"):
        await doubling.run()


async def test_of_two_copies_of_one_process_both_end(clock: Wall, autojump_clock: MockClock, boots: Boots) -> None:
    """They count on from one number, in one boot."""
    doubling = Doubling(boots, clock.unix)
    ours = offer_of(NODES[0], Span(0, 3), Roles.HEAD, boot=boots.boot, seq=boots.next_seq()).record
    boots.keep(ours)
    doubling.hear(ours)
    with trio.move_on_after(1) as scope:
        await doubling.run()
    assert scope.cancelled_caught
    doubling.hear(replace(ours, flat=7))
    with pytest.raises(KeyInUse, match="began as this one, before the machine was copied or set back"):
        await doubling.run()


async def test_the_earlier_one_goes_on_and_its_owner_is_told_once(
    clock: Wall, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, boots: Boots
) -> None:
    doubling = Doubling(boots, clock.unix)
    boots.made = 9
    await trio.sleep(30)
    for seq in (1, 2):
        doubling.hear(offer_of(NODES[0], Span(0, 3), Roles.HEAD, issued=NOW - 10, seq=seq).record)
    assert [record.getMessage()[:25] for record in caplog.records] == ["another process was start"]
    with trio.move_on_after(1) as scope:
        await doubling.run()
    assert scope.cancelled_caught


async def test_an_offer_of_an_earlier_start_ends_nobody(clock: Wall, autojump_clock: MockClock, tmp_path: Path) -> None:
    """The clock was set back between the two, and somebody kept the offer."""
    offer = offer_of(NODES[0], Span(0, 3), Roles.HEAD, issued=NOW - 10, seq=5).record
    earlier = Boots(tmp_path / "boots", offer.boot)
    while earlier.next_seq() < offer.seq:
        earlier.note()
    doubling = Doubling(Boots(tmp_path / "boots", b"our own boot ..."), clock.unix)
    await trio.sleep(30)
    doubling.hear(offer)
    with trio.move_on_after(1) as scope:
        await doubling.run()
    assert scope.cancelled_caught


# Starts that fail


def network(world: MemoryWorld):  # type: ignore[no-untyped-def]
    def open_(key: PrivateKey, exchange: Exchange, greeting: Greeting):  # type: ignore[no-untyped-def]
        return open_memory_network(world, key.public, exchange, greeting=greeting)

    return open_


async def fail_to_start(folder: Path) -> None:
    settings = change(Settings(), "serve", model="a model that is not there")
    with pytest.raises((UsageError, BaseExceptionGroup)) as failure:
        async with open_node(settings, folder, Store(folder / "store"), Surroundings(network(MemoryWorld()))):
            pass
    assert isinstance(sole(failure.value), UsageError)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"node.lock", "store"}


async def test_a_first_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    await fail_to_start(tmp_path / "data")
    assert left(tmp_path / "data") == set()


async def test_a_later_start_that_fails_takes_nothing_away(tmp_path: Path) -> None:
    async with open_node(Settings(), tmp_path, Store(tmp_path / "store"), Surroundings(network(MemoryWorld()))):
        pass
    before = left(tmp_path)
    assert {"node.key", "owner.key", "node.cert", "journal.sqlite"} <= before
    await fail_to_start(tmp_path)
    assert left(tmp_path) >= {"node.key", "owner.key", "node.cert", "journal.sqlite"}


async def test_a_key_that_was_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "owner.key").write_text("11" * 32)
    (tmp_path / "owner.key").chmod(0o600)
    await fail_to_start(tmp_path)
    assert (tmp_path / "owner.key").exists()
