"""Fields: what each kind takes, how it is packed, and that nothing else passes."""

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.fields import Bin, Blob, FieldKind, Many, Struct, Text, UInt, UInts
from p2pinfer.core.values.units import Roles


@dataclass(frozen=True, slots=True)
class Inner:
    number: Annotated[int, UInt(8)]

    def __post_init__(self) -> None:
        fields.check(self)


@dataclass(frozen=True, slots=True)
class Outer:
    name: Annotated[str, Text(4)]
    pair: Annotated[tuple[int, ...], UInts(2, 8)]
    inner: Annotated[tuple[Inner, ...], Many(Struct(Inner), 2)]

    def __post_init__(self) -> None:
        fields.check(self)


GOOD: list[tuple[FieldKind, Any]] = [
    (UInt(), 0),
    (UInt(), (1 << 53) - 1),
    (UInt(8), 255),
    (UInt(8), Code.UNKNOWN),
    (UInt(8), Roles.HEAD | Roles.TAIL),
    (Bin(0), b""),
    (Bin(2), b"ab"),
    (Blob(2), b""),
    (Blob(2), b"ab"),
    (Text(2), ""),
    (Text(2), "é"),
    (UInts(2, 8), (0, 255)),
    (Many(UInt(8), 2), ()),
    (Many(UInt(8), 2), (1, 2)),
    (Many(Bin(1), 2), (b"a",)),
    (Struct(Inner), Inner(3)),
]

BAD: list[tuple[FieldKind, Any]] = [
    (UInt(), -1),
    (UInt(), 1 << 53),
    (UInt(8), 256),
    (UInt(8), True),
    (UInt(8), 1.0),
    (UInt(8), None),
    (UInt(8), "1"),
    (UInt(8), b"\1"),
    (UInt(8), [1]),
    (Bin(2), b"a"),
    (Bin(2), b"abc"),
    (Bin(2), "ab"),
    (Bin(2), bytearray(b"ab")),
    (Bin(2), None),
    (Blob(2), b"abc"),
    (Blob(2), "ab"),
    (Blob(2), [97, 98]),
    (Text(2), "abc"),
    (Text(2), "éa"),
    (Text(2), b"ab"),
    (Text(8), "\ud800"),
    (UInts(2, 8), (1,)),
    (UInts(2, 8), (1, 2, 3)),
    (UInts(2, 8), [1, 2]),
    (UInts(2, 8), (1, 256)),
    (UInts(2, 8), (1, True)),
    (UInts(2, 8), b"ab"),
    (Many(UInt(8), 2), (1, 2, 3)),
    (Many(UInt(8), 2), [1]),
    (Many(UInt(8), 2), (1, -1)),
    (Many(UInt(8), 2), None),
    (Struct(Inner), Outer("a", (1, 2), ())),
    (Struct(Inner), (3,)),
]


@pytest.mark.parametrize(("kind", "value"), GOOD)
def test_a_value_of_a_kind_passes_and_comes_back(kind: FieldKind, value: object) -> None:
    kind.check(value)
    assert kind.unpack(kind.pack(value)) == value


@pytest.mark.parametrize(("kind", "value"), BAD)
def test_another_value_is_refused(kind: FieldKind, value: object) -> None:
    with pytest.raises(ValueError):
        kind.check(value)


def test_members_of_enums_are_packed_as_plain_integers() -> None:
    assert type(UInt(8).pack(Code.END)) is int


def test_an_error_names_the_field() -> None:
    with pytest.raises(ValueError, match=r"Inner\.number: 256"):
        Inner(256)


@pytest.mark.parametrize("long", ["x" * 100_000, bytes(100_000), [bytes(100_000)], 10**1000, None])
def test_an_error_does_not_repeat_all_that_was_sent(long: object) -> None:
    with pytest.raises(ValueError) as caught:
        fields.from_list(Outer, [long, [1, 2], []])
    assert len(str(caught.value)) < 200


def test_a_value_becomes_an_array_and_comes_back() -> None:
    value = Outer("ab", (1, 2), (Inner(3), Inner(4)))
    assert fields.to_list(value) == ["ab", [1, 2], [[3], [4]]]
    assert fields.from_list(Outer, fields.to_list(value)) == value


@pytest.mark.parametrize(
    "array",
    [
        None,
        "ab",
        {},
        [],
        ["ab", [1, 2]],
        ["ab", [1, 2], [], 0],
        ["ab", [1, 2], [3]],
        ["ab", [1, 2], [[3], [4], [5]]],
        ["ab", [1, 2], [[]]],
        ["ab", [1, 2], [[3, 4]]],
        ["ab", [1, 2], {}],
        ["ab", (1, 2), [[True]]],
        [b"ab", [1, 2], []],
        [["ab"], [1, 2], []],
    ],
)
def test_an_array_of_something_else_is_refused(array: object) -> None:
    with pytest.raises(ValueError):
        fields.from_list(Outer, array)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), lambda inner: st.lists(inner)
)


@given(anything)
def test_any_plain_value_is_read_or_a_value_error(plain: object) -> None:
    try:
        value = fields.from_list(Outer, plain)
    except ValueError:
        return
    assert fields.to_list(value) == plain
