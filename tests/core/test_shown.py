"""Values of strangers in messages: whatever they are, a message stays one that people read."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.models.safetensors import parse_header
from p2pinfer.core.values.shown import brief, cut

LONGEST = 1_000  # characters of a list of MAX_ITEMS, each as long as it may be


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7, "7"),
        (-1.5, "-1.5"),
        ("a\x1b[2J", r"'a\x1b[2J'"),
        ([1, 2], "[1, 2]"),
        ((1, "x"), "[1, 'x']"),
        (None, "None"),
        ([1] * 3_000_000, "[1, 1, 1, 1, 1, 1, 1, 1, … 3000000 in all]"),
        ([[1], {}, {"a": 1}], "[list of 1, dict of 0, dict of 1]"),
        (1 << 100_000, "a number of 100001 bits"),
        ("x" * 1_000_000, "'" + "x" * 79 + "…"),
    ],
    ids=lambda value: repr(value)[:20] if sys.getsizeof(value) < 200 else "long",
)
def test_a_value_is_shown_in_brief(value: object, words: str) -> None:
    assert brief(value) == words


JSON = st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists)


@given(JSON)
def test_no_value_is_long(value: object) -> None:
    assert len(brief(value)) <= LONGEST


def test_a_text_is_cut() -> None:
    assert (cut("short"), cut("x" * 1_000)) == ("short", "x" * 240 + "…")


@pytest.mark.parametrize(
    "entry",
    [
        b'{"dtype":"BF16","shape":[' + b"1," * 3_000_000 + b'1],"data_offsets":[0,16]}',
        b'{"dtype":"BF16","shape":[' + b"9" * 4_000 + b'],"data_offsets":[0,16]}',
        b'{"dtype":"BF16","shape":[8],"data_offsets":[0,' + b"9" * 4_000 + b"]}",
        b'{"dtype":"BF16","shape":[-8],"data_offsets":[' + b"0," * 1_000_000 + b"16]}",
        b'{"dtype":"' + b"x" * 1_000_000 + b'","shape":[8],"data_offsets":[0,16]}',
        b'{"dtype":["BF16"],"shape":[8],"data_offsets":[0,16]}',
        b'{"dtype":{},"shape":[8],"data_offsets":[0,16]}',
        b'{"shape":' + b"[" * 500 + b"]" * 500 + b',"dtype":"BF16","data_offsets":[0,16]}',
    ],
    ids=lambda entry: entry[:40].decode(),
)
def test_a_header_of_any_numbers_is_refused_in_brief(entry: bytes) -> None:
    for name in (b"x", b"x" * 1_000_000):
        text = b'{"' + name + b'":' + entry + b"}"
        with pytest.raises(ValueError) as caught:
            parse_header(text, 8 + len(text) + 16)
        assert len(str(caught.value)) <= LONGEST
