"""Fields of messages and records: what may stand in each place of a positional msgpack array.

A message or record is a frozen dataclass whose fields are annotated with a kind:

    position: Annotated[int, UInt(32)]

`check` holds a value to its kinds (constructors call it, so a bad value can be neither sent nor received); `to_list`
and `from_list` go between a value and the plain array msgpack writes. The callers know what the array means, its domain
and its limits (`core/wire/messages.py`, `core/records/records.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final, Protocol, TypeVar, get_type_hints

MAX_INT_BITS: Final = 53  # every integer fits a double, so that any language can read it

T = TypeVar("T")


class FieldKind(Protocol):
    """The values that may stand in a field, and their looks inside a msgpack array."""

    def check(self, value: object) -> None:
        """Raise ValueError if `value` may not stand here."""

    def pack(self, value: Any) -> object:
        """The plain value msgpack writes for a checked `value`."""

    def unpack(self, plain: object) -> object:
        """The field's value for what msgpack read; `check` comes after."""


class _Plain:
    """A kind that msgpack writes as it is."""

    def pack(self, value: object) -> object:
        return value

    def unpack(self, plain: object) -> object:
        return plain


@dataclass(frozen=True)
class UInt(_Plain):
    """An integer from 0 to 2**bits - 1. True is not 1."""

    bits: int = MAX_INT_BITS

    def check(self, value: object) -> None:
        # IntEnum and IntFlag members are written as integers, so they pass; bool does not
        if type(value) is int and 0 <= value < 1 << self.bits:
            return  # nearly always
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << self.bits:
            raise ValueError(f"{shown(value)} is not an integer of {self.bits} bits")

    def pack(self, value: Any) -> object:
        return int(value)


@dataclass(frozen=True)
class Bin(_Plain):
    """Exactly `size` bytes."""

    size: int

    def check(self, value: object) -> None:
        if type(value) is not bytes or len(value) != self.size:
            raise ValueError(f"{shown(value)} is not {self.size} bytes")


@dataclass(frozen=True)
class Blob(_Plain):
    """At most `limit` bytes."""

    limit: int

    def check(self, value: object) -> None:
        if type(value) is not bytes or len(value) > self.limit:
            raise ValueError(f"{shown(value)}, limit {self.limit} bytes")


@dataclass(frozen=True)
class Text(_Plain):
    """UTF-8 text of at most `limit` bytes."""

    limit: int

    def check(self, value: object) -> None:
        if type(value) is not str or len(value.encode(errors="surrogatepass")) > self.limit:
            raise ValueError(f"{shown(value)} is not text of at most {self.limit} bytes")
        value.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError


@dataclass(frozen=True)
class UInts:
    """A flat array of exactly `count` integers below 2**bits; a tuple in Python."""

    count: int
    bits: int = MAX_INT_BITS

    def check(self, value: object) -> None:
        if type(value) is not tuple or len(value) != self.count:
            raise ValueError(f"{shown(value)} is not {self.count} integers")
        for item in value:
            UInt(self.bits).check(item)

    def pack(self, value: Sequence[int]) -> object:
        return [int(item) for item in value]

    def unpack(self, plain: object) -> object:
        return tuple(plain) if isinstance(plain, list) else plain


@dataclass(frozen=True)
class Zero:
    """A reserved field: zeros of its kind. A later version that gives it a meaning has another number."""

    kind: FieldKind

    def check(self, value: Any) -> None:
        self.kind.check(value)
        if any(value if isinstance(value, bytes | tuple) else (value,)):
            raise ValueError(f"{shown(value)} where zeros are due: the field is reserved")

    def pack(self, value: Any) -> object:
        return self.kind.pack(value)

    def unpack(self, plain: object) -> object:
        return self.kind.unpack(plain)


@dataclass(frozen=True)
class Many:
    """At most `limit` items of one kind; a tuple in Python."""

    kind: FieldKind
    limit: int

    def check(self, value: object) -> None:
        if type(value) is not tuple or len(value) > self.limit:
            raise ValueError(f"{shown(value)}, limit {self.limit} items")
        for item in value:
            self.kind.check(item)

    def pack(self, value: Sequence[Any]) -> object:
        return [self.kind.pack(item) for item in value]

    def unpack(self, plain: object) -> object:
        if not isinstance(plain, list):
            return plain
        return tuple(plain) if isinstance(self.kind, _Plain) else tuple(map(self.kind.unpack, plain))


@dataclass(frozen=True)
class Struct:
    """Another dataclass of fields, as a nested array."""

    shape: type[Any]

    def check(self, value: object) -> None:
        if type(value) is not self.shape:
            raise ValueError(f"{shown(value)} is no {self.shape.__name__}")

    def pack(self, value: Any) -> object:
        return to_list(value)

    def unpack(self, plain: object) -> object:
        return from_list(self.shape, plain)


def shown(value: object) -> str:
    """A value as an error says it: short, and never the work of writing out megabytes that a peer sent."""
    if isinstance(value, bytes | str | list | tuple | dict):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value)[:60]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Facts about a dataclass of fields; reading its annotations takes longer than a message.

    read:   gives the fields' values in order
    nested: places and kinds of the fields that msgpack does not write as they are
    """

    kinds: tuple[tuple[str, FieldKind], ...]
    checks: tuple[Callable[[object], None], ...]
    read: Callable[[object], tuple[object, ...]]
    nested: tuple[tuple[int, FieldKind], ...]


def kinds_of(shape: type[Any]) -> tuple[tuple[str, FieldKind], ...]:
    """The fields of `shape` in order, each with its kind."""
    return _shape_of(shape).kinds


def _shape_of(shape: type[Any]) -> _Shape:
    if (known := _SHAPES.get(shape)) is None:
        hints = get_type_hints(shape, include_extras=True)
        kinds = tuple((field.name, hints[field.name].__metadata__[0]) for field in fields(shape))
        names = [name for name, _ in kinds]
        known = _SHAPES[shape] = _Shape(
            kinds,
            tuple(kind.check for _, kind in kinds),
            attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),),
            tuple((place, kind) for place, (_, kind) in enumerate(kinds) if not isinstance(kind, _Plain)),
        )
    return known


_SHAPES: Final[dict[type[Any], _Shape]] = {}


def check(value: object) -> None:
    """Hold every field of a dataclass to its kind.

    Raises ValueError naming the field.
    """
    shape = _SHAPES.get(type(value)) or _shape_of(type(value))
    at = 0
    try:
        for at, item in enumerate(shape.read(value)):
            shape.checks[at](item)
    except ValueError as error:
        raise ValueError(f"{type(value).__name__}.{shape.kinds[at][0]}: {error}") from None


def to_list(value: object) -> list[object]:
    """The array msgpack writes for a checked dataclass."""
    shape = _shape_of(type(value))
    if not shape.nested:
        return [*shape.read(value)]
    return [kind.pack(item) for (_, kind), item in zip(shape.kinds, shape.read(value), strict=True)]


def from_list(shape: type[T], plain: object) -> T:
    """The value an array stands for; its constructor checks it.

    Raises ValueError for anything else.
    """
    known = _shape_of(shape)
    if not isinstance(plain, list) or len(plain) != len(known.kinds):
        raise ValueError(f"{shape.__name__} has {len(known.kinds)} fields, not {shown(plain)}")
    if not known.nested:
        return shape(*plain)
    values = [*plain]
    for place, kind in known.nested:
        values[place] = kind.unpack(values[place])
    return shape(*values)
