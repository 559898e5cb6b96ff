"""Messages that were right until one field was touched: most get past the first check, and not past the next."""

from typing import Any

from p2pinfer.core.values import fields

from .strangers import M, forged


def damaged(message: M, field: int, bit: int) -> M:
    """The message with one bit of one field turned, or with more or less of what there is a list of.

    field: which, of all; bit: which, of all that the field has
    """
    named = fields.kinds_of(type(message))
    name, kind = named[field % len(named)]
    return forged(message, **{name: _changed(getattr(message, name), kind, bit)})


def _changed(value: Any, kind: fields.FieldKind, bit: int) -> object:
    match value, kind:
        case int(), fields.UInt(bits):
            return value ^ 1 << bit % bits
        case bytes(), _:
            return _turned(value, bit)
        case str(), _:
            return value[:-1] if bit % 2 else value + "\x00"
        case tuple(), _:
            return value[:-1] if bit % 2 else value + value
    return value


def _turned(data: bytes, bit: int) -> bytes:
    if not data:
        return b"\x00"
    byte = bit // 8 % len(data)
    return data[:byte] + bytes([data[byte] ^ 1 << bit % 8]) + data[byte + 1 :]
