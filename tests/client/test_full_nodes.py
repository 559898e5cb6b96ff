"""When a request asks nodes again that had no room, whatever they say."""

from random import Random

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.full_nodes import LEAST_RETRY_S, FullNodes
from p2pinfer.client.waiting_room import WaitingRoom
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, Unreached
from p2pinfer.overlay.machine import Machine

NODE, OTHER = b"node", b"other"


class Nobody:
    """No other generation of ours has room."""

    is_held = False

    async def wait_left(self) -> None:
        await trio.sleep_forever()


async def test_a_turn_at_a_node_that_is_being_asked_is_no_news(autojump_clock: MockClock) -> None:
    full = FullNodes(Random(1))
    full.note_asked([NODE])
    full.note_word(NODE, trio.current_time(), True)
    assert not full
    full.note_word(NODE, trio.current_time() + 5.0, False)  # the refusal of what it is asked
    full.note_word(NODE, trio.current_time(), True)
    assert full.next_at == LEAST_RETRY_S


async def test_no_node_is_asked_again_at_once_not_even_with_others(autojump_clock: MockClock) -> None:
    """A tail that calls has us ask the whole route, and its head said that it had no room for long."""
    full = FullNodes(Random(1))
    full.note_asked([NODE, OTHER])
    full.note_word(NODE, 30.0, False)
    full.admit(30.0)
    assert full.nodes == {NODE}
    await trio.sleep(LEAST_RETRY_S)
    full.admit(30.0)
    assert not full


@pytest.mark.parametrize("failure", [None, Unreached("nobody answers")])
async def test_where_the_last_try_failed_otherwise_the_request_ends_in_words(
    autojump_clock: MockClock, failure: Unreached | None
) -> None:
    full = FullNodes(Random(1))
    full.note_word(NODE, 30.0, False)
    room = WaitingRoom(full, Nobody(), Machine(), 0.0, lambda _: None)
    with pytest.raises(GenerationFailed, match="there was no room") as error:
        await room.wait(failure)
    assert error.value.code is Code.BUSY
