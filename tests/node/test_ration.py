"""The bytes of files that peers have in a day: whatever the node, its disk and its clock do meanwhile."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.swarm.source import NOWHERE, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import ModelId
from p2pinfer.core.wire.messages import FilePart
from p2pinfer.core.wire.pace import MIN_FRAME
from p2pinfer.disk.places import node_served
from p2pinfer.disk.served import ServedFile
from p2pinfer.disk.store import Store
from p2pinfer.node.daemon import Surroundings, open_node
from p2pinfer.node.files import ModelFiles
from p2pinfer.node.ration import AGAIN_S, DAY_S, MB, NETWORK_PART, PIECE, WEIGHTS_PART, Ration
from p2pinfer.node.settings import Settings, change
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.core.paid_route import key
from tests.node.test_files import ASK, STRANGER, At, OneFile
from tests.node.wall import Wall

LIMIT = 4 * MB
PART = 100_000
HOUR_S = 3_600


@pytest.fixture
def wall() -> Wall:
    return Wall()


def start(folder: Path, wall: Wall, limit: int = LIMIT) -> Ration:
    """As a node's start does."""
    return Ration(limit, ServedFile(folder / "served", limit, wall.unix))


async def had(ration: Ration, most: int = 2 * LIMIT, *, weights: bool = False) -> int:
    """Bytes that peers of many networks get now."""
    total = 0
    try:
        while total < most:
            await ration.take(PART, f"network {total % (100 * PART)}", weights=weights)
            total += PART
    except Refused as refusal:
        assert refusal.code is Code.BUSY
    return total


async def test_no_more_than_the_limit_in_a_day_and_as_much_in_the_next(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ration = start(tmp_path, wall)
    assert await had(ration, MB) == MB
    await trio.sleep(DAY_S - HOUR_S)
    assert await had(ration) == LIMIT - MB
    with pytest.raises(Refused) as caught:
        ration.check(1, "another", weights=False)
    assert caught.value.retry_s == pytest.approx(HOUR_S)
    assert caplog.text.count("peers have had the 4 MB of files they may have a day") == 1
    await trio.sleep(HOUR_S + 1)
    assert await had(ration) == LIMIT


async def test_who_fetches_weights_leaves_the_rest_to_clients(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock
) -> None:
    """Without manifest and tokenizer nobody can ask a model anything."""
    ration = start(tmp_path, wall)
    assert await had(ration, weights=True) == LIMIT // WEIGHTS_PART
    assert await had(start(tmp_path, wall), weights=True) == 0
    with pytest.raises(Refused, match="no more of weights today") as caught:
        ration.check(1, "another", weights=True)
    assert caught.value.retry_s == pytest.approx(DAY_S)
    assert await had(ration) == LIMIT - LIMIT // WEIGHTS_PART
    await trio.sleep(DAY_S)
    assert await had(ration) == LIMIT
    assert await had(ration, weights=True) == 0


@pytest.mark.parametrize(("name", "is_left"), [("", True), (TOKENIZER, True), ("layer-000.safetensors", False)])
async def test_manifest_and_tokenizer_are_what_clients_need(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock, name: str, is_left: bool
) -> None:
    ration = start(tmp_path, wall)
    await had(ration, weights=True)
    files = ModelFiles(AnyFile(), ration=ration)  # type: ignore[arg-type]
    try:
        part = await files.answer(At(STRANGER), replace(ASK, name=name))  # type: ignore[arg-type]
    except Refused:
        part = None
    assert (part is not None) == is_left


class AnyFile(OneFile):
    """A store that has what is asked for."""

    def read_part(self, id_: ModelId, name: str, offset: int, limit: int) -> tuple[int, bytes]:
        return super().read_part(id_, ASK.name, offset, limit)


async def test_who_gives_up_while_it_is_noted_has_had_nothing(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs, as where a call's time is up."""
    ration, woken = start(tmp_path, wall), threading.Event()
    with monkeypatch.context() as hanging:
        hanging.setattr(ServedFile, "write", lambda *_: woken.wait())
        for _ in range(LIMIT // PART):
            with trio.move_on_after(0.01) as scope:
                await ration.take(PART, "a network", weights=False)
            assert scope.cancelled_caught
        woken.set()
    assert await had(ration) == LIMIT


async def test_a_kill_gives_nobody_more(tmp_path: Path, wall: Wall, autojump_clock: MockClock) -> None:
    """A node that is killed has noted more than it handed out, by a piece at most."""
    total = 0
    for _ in range(20):
        total += await had(start(tmp_path, wall), 2 * PART)
    assert LIMIT / 8 < total <= LIMIT
    assert await had(start(tmp_path, wall)) == 0


@pytest.mark.parametrize(
    ("away_s", "more"),
    [(0, 0), (HOUR_S, 0), (DAY_S - 60, 0), (DAY_S, LIMIT), (-DAY_S, 0), (-1_800_000_000, 0)],
)
async def test_time_passes_while_the_node_is_away_and_never_back(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock, away_s: float, more: int
) -> None:
    assert await had(start(tmp_path, wall)) == LIMIT
    wall.now += away_s
    assert await had(start(tmp_path, wall)) == more


async def test_a_clock_that_jumps_while_the_node_runs_changes_nothing(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock
) -> None:
    ration = start(tmp_path, wall)
    assert await had(ration, MB) == MB
    for jump_s in (10 * DAY_S, -20 * DAY_S, -wall.now):
        wall.now = max(0, wall.now + jump_s)
        assert await had(ration, MB) == MB
    assert await had(ration) == 0
    await trio.sleep(DAY_S)
    assert await had(ration) == LIMIT


async def test_a_day_ends_though_the_clock_once_stood_years_ahead(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock
) -> None:
    wall.now += 5_000 * DAY_S
    assert await had(start(tmp_path, wall)) == LIMIT
    wall.now -= 5_000 * DAY_S
    ration = start(tmp_path, wall)
    assert await had(ration) == 0
    await trio.sleep(DAY_S)
    assert await had(ration) == LIMIT


@pytest.mark.parametrize("text", [b"", b"what is this", b"1 2\n", b"9" * 100, b"-5 0 0\n"])
async def test_what_cannot_be_read_counts_as_all_of_a_day(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "served").write_bytes(text)
    ration = start(tmp_path, wall)
    assert "so peers get no files for a day" in caplog.text
    assert await had(ration) == 0
    await trio.sleep(DAY_S)
    assert await had(ration) == LIMIT


async def test_nothing_is_handed_out_that_cannot_be_counted(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    ration = start(folder, Wall())
    for _ in range(100):
        assert await had(ration) == 0
    assert caplog.text.count("cannot be counted") == 1
    folder.mkdir()
    await trio.sleep(AGAIN_S)
    assert await had(ration) == LIMIT


async def test_parts_asked_for_at_once_are_noted_once_and_all_counted(
    tmp_path: Path, wall: Wall, autojump_clock: MockClock
) -> None:
    ration, parts = start(tmp_path, wall), []

    async def take() -> None:
        await ration.take(PART, "a network", weights=False)
        parts.append(PART)

    async with trio.open_nursery() as nursery:
        for _ in range(PIECE // PART):
            nursery.start_soon(take)
    assert await had(ration) + sum(parts) == LIMIT


@pytest.mark.parametrize(("source", "most"), [(STRANGER, LIMIT // NETWORK_PART), (NOWHERE, 2 * LIMIT)])
async def test_files_for_other_machines_are_within_it_and_one_network_has_a_part(
    tmp_path: Path, source: Source, most: int
) -> None:
    files, total = ModelFiles(OneFile(), ration=start(tmp_path, Wall())), 0  # type: ignore[arg-type]
    try:
        while total < most:
            part = await files.answer(At(source), ASK)  # type: ignore[arg-type]
            total += len(part.data)
    except Refused as refusal:
        assert refusal.retry_s == pytest.approx(DAY_S, abs=HOUR_S)
    assert abs(total - most) < MIN_FRAME


@pytest.mark.parametrize(
    ("limit_mb", "text", "code"),
    [(100, b"", Code.BUSY), (100, b"0 0 0\n", Code.NOT_FOUND), (0, b"", Code.UNSUPPORTED)],
)
async def test_a_node_says_to_strangers_what_its_owner_lets_it(
    tmp_path: Path, limit_mb: int, text: bytes, code: Code
) -> None:
    """WIRE-27"""
    world, data = MemoryWorld(), tmp_path / "node"
    world.sources[key("asker").public] = STRANGER
    settings = change(Settings(), "network", files_mb_per_day=limit_mb)
    network = lambda key, exchange, greeting: open_memory_network(world, key.public, exchange, greeting)  # noqa: E731
    data.mkdir()
    node_served(data).write_bytes(text)
    opened = open_node(settings, data, Store(tmp_path / "store"), Surroundings(network))
    async with opened as node, trio.open_nursery() as n:
        exchange = Exchange(n)
        async with open_memory_network(world, key("asker").public, exchange) as asker:
            link = await asker.dial(node.addresses[0])
            with pytest.raises(Refused) as caught:
                await exchange.call(link, lambda call: replace(ASK, call=call), FilePart)
        n.cancel_scope.cancel()
    assert caught.value.code is code
