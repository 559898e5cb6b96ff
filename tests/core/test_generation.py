"""The client's side of a generation, where it breaks off."""

import pytest

from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.generation import Generation
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.session_messages import Accept, Sampled

from .test_ending import Letters, ids_of

SESSION, TAIL, PROMPT = SessionId(bytes(16)), PeerKey(bytes(32)), (1, 2)


def running(stop: str) -> Generation:
    generation = Generation(SESSION, 0, PROMPT, (TAIL,), 26, Ending((), 9, Letters(stop)))
    generation.receive(TAIL, Accept(SESSION, 0, bytes(64), 0))
    return generation


def sampled(position: int, text: str, reason: Code = Code.NONE) -> Sampled:
    return Sampled(SESSION, 0, 0, len(PROMPT) + position, tuple(ids_of(text)), reason)


def test_what_was_held_back_for_a_stop_string_is_text_when_it_breaks_off() -> None:
    generation = running("bcd")
    generation.receive(TAIL, sampled(0, "ab"))
    generation.receive(TAIL, sampled(2, "c"))
    assert "".join(generation.pieces) == "a"
    generation.fail("it broke off", Code.LOST)
    assert "".join(generation.pieces) == "abc"
    generation.fail("again", Code.LOST)
    assert "".join(generation.pieces) == "abc"


def test_of_a_message_that_lies_nothing_is_text() -> None:
    generation = running("bcd")
    generation.receive(TAIL, sampled(0, "ab"))
    with pytest.raises(RemoteProtocolError, match="says end"):
        generation.receive(TAIL, sampled(2, "c", Code.END))
    generation.fail("it lied", Code.BAD_STATE)
    assert "".join(generation.pieces) == "ab"
    assert generation.ids == ids_of("ab")
