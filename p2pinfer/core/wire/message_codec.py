"""Messages as bytes, and bytes as messages: `[number, field, ...]` in msgpack (protocols/wire.md, 2).

A message is bounded before it is unpacked: the longest array and the number of arrays follow from the message's own
fields.
"""

from collections.abc import Callable
from typing import Final

import msgpack

from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import Many, Struct
from p2pinfer.core.wire.messages import (
    MAX_BODY,
    MAX_TEXT,
    Ack,
    AskContacts,
    AskFile,
    AskOffers,
    CallRefused,
    Contacts,
    FilePart,
    Goodbye,
    Hello,
    Message,
    Offers,
    Ping,
    Pong,
)
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Credit,
    Finish,
    Forward,
    Open,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionRefused,
    Signed,
    Stored,
)

SHORT: Final = 4096  # bytes of a body whose arrays take little memory, however many they are

MESSAGES: Final[dict[int, type[Message]]] = {
    shape.NUMBER: shape
    for shape in (
        *(Hello, Ack, Ping, Pong, Goodbye),
        *(AskOffers, Offers, AskFile, FilePart, AskContacts, Contacts, CallRefused),
        *(Open, Accept, SessionRefused, Prompt, Forward, Sampled, Finish, Credit),
        *(Propose, Signed, Stored, Close, Resume),
    )
}


def encode_message(message: Message) -> bytes:
    """The message's body: a msgpack array of its number and fields."""
    body: bytes = msgpack.packb([message.NUMBER, *fields.to_list(message)])
    return body


def decode_message(body: bytes | bytearray | memoryview) -> Message:
    """The message that `body` holds.

    Raises RemoteProtocolError (BAD_FRAME) for anything else.
    """
    try:
        shape = _shape_of(body)
        longest, arrays = _ARRAYS[shape]
        plain = msgpack.unpackb(
            body,
            max_bin_len=MAX_BODY,
            max_str_len=MAX_TEXT,
            max_array_len=min(longest, len(body)),
            max_map_len=0,
            max_ext_len=0,
            list_hook=None if len(body) <= SHORT else _counted(arrays),
            object_hook=_refuse_map,
        )
        return fields.from_list(shape, plain[1:])
    # msgpack raises its own errors, all of them ValueErrors, but for deep nesting
    except (ValueError, RecursionError, msgpack.StackError) as error:
        message = f"a frame of {len(body)} bytes is no message: {error}"
        raise RemoteProtocolError(message, Code.BAD_FRAME) from None


def _shape_of(body: bytes | bytearray | memoryview) -> type[Message]:
    """Return the kind of a message before anything is unpacked: array and number take one byte each."""
    if len(body) < 2 or body[0] >> 4 != 0x9 or body[1] > 0x7F:
        raise ValueError("not an array that begins with a number")
    if (shape := MESSAGES.get(body[1])) is None:
        raise ValueError(f"message number {body[1]} is unknown")
    return shape


def _counted(most: int) -> Callable[[list[object]], list[object]]:
    """A hook of msgpack: empty arrays take 60 times their bytes in memory, so they are counted as they come."""
    count = 0

    def hook(items: list[object]) -> list[object]:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError(f"more than {most} arrays")
        return items

    return hook


def _refuse_map(_: object) -> object:
    raise ValueError("a map")


def _arrays_of(shape: type[object]) -> tuple[int, int]:
    """Items of the longest array that may stand in a message, and how many arrays may."""
    parts = [_arrays_in(kind) for _, kind in fields.kinds_of(shape)]
    return max(len(parts) + 1, *(longest for longest, _ in parts)), 1 + sum(count for _, count in parts)


def _arrays_in(kind: fields.FieldKind) -> tuple[int, int]:
    match kind:
        case Many(inner, limit):
            longest, count = _arrays_in(inner)
            return max(limit, longest), 1 + limit * count
        case Struct(shape):
            return _arrays_of(shape)
    return 0, 0


_ARRAYS: Final = {shape: _arrays_of(shape) for shape in MESSAGES.values()}
