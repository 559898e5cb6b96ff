"""When a generation ends: an end id before a stop string, a stop string before the length (INF-23)."""

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.values.codes import ANSWERS, Code

END_ID = 26


class Letters:
    """Ids 0 to 25 are letters; text is held back while it may begin a stop string. A reader, as `TextStream` is."""

    def __init__(self, *stops: str) -> None:
        self.stop: str | None = None
        self._stops = stops
        self._held = ""

    def add(self, id_: int) -> str:
        text = self._held + chr(97 + id_)
        self.stop = next((stop for stop in self._stops if stop in text), None)
        if self.stop is not None:
            self._held = ""
            return text[: text.index(self.stop)]
        sizes = [size for size in range(len(text), 0, -1) if any(stop.startswith(text[-size:]) for stop in self._stops)]
        settled = len(text) - max(sizes, default=0)
        self._held = text[settled:]
        return text[:settled]

    @property
    def rest(self) -> str:
        return self._held

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held


def ids_of(text: str) -> list[int]:
    return [ord(letter) - 97 for letter in text]


def read(ids: Collection[int], max_tokens: int, *stops: str) -> tuple[list[Code], str]:
    """The reasons after each id, and the text of all."""
    ending = Ending({END_ID}, max_tokens, Letters(*stops))
    reasons, text = [], ""
    for id_ in ids:
        reasons.append(ending.add(id_))
        text += ending.piece
    return reasons, text


def test_it_goes_on_until_the_length() -> None:
    assert read(ids_of("abc"), 3) == ([Code.NONE, Code.NONE, Code.LENGTH], "abc")


def test_an_end_id_ends_it_and_has_no_text() -> None:
    assert read([*ids_of("ab"), END_ID], 9) == ([Code.NONE, Code.NONE, Code.END], "ab")


def test_an_end_id_may_come_first() -> None:
    assert read([END_ID], 9) == ([Code.END], "")


def test_a_stop_string_ends_it_and_is_left_out() -> None:
    assert read(ids_of("abcd"), 9, "cd") == ([Code.NONE, Code.NONE, Code.NONE, Code.STOP], "ab")


def test_an_end_id_at_the_length_is_an_end() -> None:
    assert read([*ids_of("a"), END_ID], 2)[0][-1] is Code.END


def test_a_stop_string_at_the_length_is_a_stop() -> None:
    assert read(ids_of("ab"), 2, "b") == ([Code.NONE, Code.STOP], "a")


def test_what_was_held_back_comes_with_the_length() -> None:
    assert read(ids_of("abc"), 3, "cd") == ([Code.NONE, Code.NONE, Code.LENGTH], "abc")


def test_what_was_held_back_comes_with_an_end_id() -> None:
    assert read([*ids_of("abc"), END_ID], 9, "cd") == ([Code.NONE] * 3 + [Code.END], "abc")


def test_a_model_without_end_ids_ends_at_the_length() -> None:
    ending = Ending((), 2, Letters())
    assert [ending.add(END_ID - 1), ending.add(END_ID - 1)] == [Code.NONE, Code.LENGTH]


def test_a_length_of_one_ends_with_the_first_id() -> None:
    assert read(ids_of("a"), 1) == ([Code.LENGTH], "a")


@given(st.lists(st.integers(0, END_ID), min_size=1), st.integers(1, 40), st.lists(st.sampled_from(["a", "bc", "zz"])))
def test_there_is_at_most_one_reason_and_text_holds_no_stop_string(
    ids: list[int], max_tokens: int, stops: list[str]
) -> None:
    ending = Ending({END_ID}, max_tokens, Letters(*stops))
    text, reason = "", Code.NONE
    taken = 0
    while not reason and taken < len(ids):
        reason = ending.add(ids[taken])
        text += ending.piece
        taken += 1
    assert reason in ANSWERS or taken == len(ids)
    assert taken <= max_tokens
    assert not any(stop in text for stop in stops)


@pytest.mark.parametrize("stops", [(), ("ab",)])
def test_client_and_tail_agree_at_every_id(stops: tuple[str, ...]) -> None:
    ids = [*ids_of("aabba"), END_ID]
    assert read(ids, 9, *stops) == read(ids, 9, *stops)
