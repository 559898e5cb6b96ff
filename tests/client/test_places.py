"""What a client makes of the place that a full node gave it."""

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.places import MISSED_S, Places
from p2pinfer.core.room.queue import MAX_RETRY_S, MAX_TOLD_S
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.session_messages import SessionRefused

NODE = PeerKey(bytes([7]) * 32)
TICKET = bytes([1]) * 16


@pytest.mark.parametrize(
    ("told_s", "words_s", "again_s"),
    [(4.0, 4.0, 4.0), (300.0, 300.0, MAX_RETRY_S), (1e6, MAX_TOLD_S, MAX_RETRY_S)],
    ids=["short", "long", "beyond belief"],
)
async def test_a_long_wait_is_told_and_asked_about_meanwhile(
    autojump_clock: MockClock, told_s: float, words_s: float, again_s: float
) -> None:
    news: list[tuple[float, bool]] = []
    places = Places(TICKET, lambda _node, at_s, is_turn: news.append((at_s, is_turn)))
    began_s = trio.current_time()
    places.note(NODE, SessionRefused(SessionId(bytes(16)), 0, Code.BUSY, "", round(1000 * told_s), TICKET, 9))
    assert places.words(NODE).endswith(f"9 wait before you, some {words_s:.0f} s")
    assert news == [(pytest.approx(began_s + again_s + MISSED_S), False)]
