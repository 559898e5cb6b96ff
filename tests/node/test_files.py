"""Files for peers: cut so that nothing waits long behind a part, and few enough a second beside sessions."""

import threading
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import ModelError, Refused
from p2pinfer.core.values.units import ModelId
from p2pinfer.core.wire.messages import MAX_PART, AskFile
from p2pinfer.core.wire.pace import MIN_FRAME
from p2pinfer.node.files import ModelFiles
from p2pinfer.overlay.limits import (
    ALL_FILES_BURST,
    FILES_BURST,
    FILES_RATE,
    LEAST_FILE_PART,
    MAX_FILE_PART,
    SESSION_SHARE,
)

FILE = bytes(range(256)) * 8192
ASK = AskFile(1, bytes(32), "tokenizer.json", 0, MAX_PART)
STRANGER = Source("198.41.0.4", Scope.PUBLIC)


class OneFile:
    """A store of one file."""

    def read_part(self, id_: ModelId, name: str, offset: int, limit: int) -> tuple[int, bytes]:
        if name != ASK.name:
            raise ModelError("no such file in /home/owner/models")
        return len(FILE), FILE[offset : offset + limit]


class At:
    """A link of some speed, from some network."""

    def __init__(self, source: Source = NOWHERE, budget: int = MIN_FRAME) -> None:
        self.source = source
        self.looks = 0  # that it was charged with
        self._budget = budget

    def frame_budget(self) -> int:
        return self._budget

    def charge_look(self) -> None:
        self.looks += 1


async def bytes_at_once(files: ModelFiles, link: At) -> int:
    """Bytes that are answered before the first refusal."""
    total = 0
    try:
        while True:
            total += len((await files.answer(link, ASK)).data)
    except Refused as refusal:
        assert (refusal.code, refusal.retry_s) == (Code.BUSY, 0.5)
    return total


@pytest.mark.parametrize(("budget", "size"), [(MIN_FRAME, MIN_FRAME), (40_000, 40_000), (1 << 20, MAX_FILE_PART)])
async def test_a_part_takes_no_longer_than_a_frame_may(budget: int, size: int) -> None:
    """WIRE-17"""
    part = await ModelFiles(OneFile()).answer(At(budget=budget), ASK)
    assert (part.size, part.data) == (len(FILE), FILE[:size])


async def test_what_is_not_here_is_not_found_and_no_folder_is_named() -> None:
    with pytest.raises(Refused, match="this peer does not have that file") as caught:
        await ModelFiles(OneFile()).answer(At(), AskFile(1, bytes(32), "other", 0, 1))
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("ask", "looks"),
    [
        (replace(ASK, name="not there"), 1),
        (replace(ASK, limit=1), 1),
        (replace(ASK, offset=len(FILE)), 1),
        (replace(ASK, limit=LEAST_FILE_PART), 0),
        (ASK, 0),
    ],
)
async def test_a_look_for_few_bytes_is_charged(ask: AskFile, looks: int) -> None:
    """Wire, 7.1: who asks for as much as its link carries pays in bytes."""
    link = At()
    with suppress(Refused):
        await ModelFiles(OneFile()).answer(link, ask)
    assert link.looks == looks


async def test_bytes_for_one_network_are_bounded(autojump_clock: MockClock) -> None:
    """WIRE-27"""
    files = ModelFiles(OneFile())
    assert await bytes_at_once(files, At(STRANGER, MAX_FILE_PART)) == FILES_BURST
    await trio.sleep(1)
    assert await bytes_at_once(files, At(STRANGER, MAX_FILE_PART)) == FILES_RATE


async def test_parts_of_few_bytes_are_bounded_too(autojump_clock: MockClock) -> None:
    """WIRE-27: each is read in a thread, however short it is."""
    count = await bytes_at_once(ModelFiles(OneFile()), At(STRANGER, 1))
    assert count == FILES_BURST / LEAST_FILE_PART


@pytest.mark.parametrize(("is_busy", "most"), [(False, ALL_FILES_BURST), (True, ALL_FILES_BURST / SESSION_SHARE)])
async def test_bytes_for_all_are_bounded_the_more_so_beside_sessions(
    autojump_clock: MockClock, is_busy: bool, most: int
) -> None:
    """WIRE-27"""
    assert await bytes_at_once(ModelFiles(OneFile(), lambda: is_busy), At(NOWHERE, MAX_FILE_PART)) == most


async def test_a_disk_that_hangs_keeps_nobody() -> None:
    """Who waits is let go; the thread is not, and counts as a reader."""
    woken, files = threading.Event(), ModelFiles(OneFile())
    files._store.read_part = lambda *_: (woken.wait(), b"")  # type: ignore[method-assign,assignment]
    try:
        with trio.move_on_after(0.05) as scope:
            await files.answer(At(), ASK)
        assert scope.cancelled_caught
        assert files._readers.borrowed_tokens == 1
    finally:
        woken.set()
