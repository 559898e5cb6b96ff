"""The values that go through the engine's door, plain and as bytes; `core/sessions/step.py` has steps and outputs.

Both sides of the door import this file; it imports neither torch nor trio.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from struct import Struct, pack, unpack_from
from typing import Final

import msgpack

from p2pinfer.core.records.draw import Sampling
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, Numerics, Roles, Span

CPU: Final = "cpu"  # the device
LENGTH_BYTES: Final = 4  # before each message of the door, little-endian


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """The shard that an engine loads, and its way to compute.

    config:   the model's config.json
    files:    safetensors files that hold the span's layers, for a head the embedding, for a tail norm and output head
    pages:    KV cache, in pages of 16 positions, shared by all sessions
    device:   as torch writes it: "cpu", "cuda", "cuda:1"
    threads:  of the CPU
    """

    config: Path
    files: tuple[Path, ...]
    span: Span
    roles: Roles
    numerics: Numerics
    pages: int
    device: str = CPU
    threads: int = 1

    def __post_init__(self) -> None:
        if self.pages < 1 or self.threads < 1:
            raise ValueError(f"{self.pages} pages and {self.threads} threads: each must be at least 1")


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a loaded shard; bytes are of memory held."""

    numerics: Numerics
    device: str
    threads: int
    kernel: str  # how linear layers run: "onednn" (prepacked), "aten" or "int_mm"
    width: int  # hidden size
    vocabulary: int
    context: int  # positions the model was made for
    weight_bytes: int
    cache_bytes: int
    pages: int


@dataclass(frozen=True, slots=True)
class EngineCall:
    """One call through the door: sessions that closed and opened since the last one, then a batch of steps."""

    closed: tuple[int, ...] = ()
    opened: tuple[tuple[int, tuple[int, ...]], ...] = ()  # slot, pages
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The outputs of a request's steps, in their order.

    seconds: computing time, without the way through the door
    """

    outputs: tuple[Output, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Loading:
    """While weights load: bytes of files read, of all."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The shard could not be loaded; the message is for a person."""

    text: str


WorkerMessage = Loading | Facts | Failed | Reply  # from the worker; a spec and then requests go to it

# Requests and replies are laid out for the kernel, which answers plain ones itself (`native/serve.c`); little-endian.
# A request: counts, closed slots, opened sessions, heads of all steps, their data.
_COUNTS: Final = Struct("<III")  # closed, opened, steps
_OPENED: Final = Struct("<II")  # slot, pages; then the pages
# Slot, position, bytes of data, codecs in and out; whether to sample; layers; temperature, top k, top p, seed
_STEP: Final = Struct("<IIIBB?xIIIII4xQ")
# A reply, after its kind: count, seconds, heads of all outputs; then of each output ids, text and data.
_REPLY: Final = Struct("<Id")
_OUTPUT: Final = Struct("<BBHI")  # code, ids, bytes of text, bytes of data
_ALL: Final = (0, 0)  # layers, for all of the shard's: no span has none

_KINDS: Final[tuple[type[WorkerMessage], ...]] = (Loading, Facts, Failed, Reply)  # by the first byte of a message


def pack_spec(spec: ShardSpec) -> bytes:
    """The first message to the worker, with its length."""
    plain = [
        str(spec.config),
        [str(path) for path in spec.files],
        [spec.span.first, spec.span.last],
        *(int(spec.roles), int(spec.numerics), spec.pages, spec.device, spec.threads),
    ]
    return _framed(msgpack.packb(plain))


def unpack_spec(body: bytes | bytearray) -> ShardSpec:
    config, files, span, roles, numerics, *rest = msgpack.unpackb(body)
    paths = tuple(Path(path) for path in files)
    return ShardSpec(Path(config), paths, Span(*span), Roles(roles), Numerics(numerics), *rest)


def pack_request(request: EngineCall) -> bytes:
    """Every later message to the worker, with its length."""
    steps = request.steps
    parts = [_COUNTS.pack(len(request.closed), len(request.opened), len(steps))]
    if request.closed or request.opened:
        parts.append(_packed_ints(request.closed))
        for slot, pages in request.opened:
            parts += (_OPENED.pack(slot, len(pages)), _packed_ints(pages))
    parts += [_step_head(step) for step in steps]
    parts += [step.data for step in steps]
    return _framed(b"".join(parts))


def unpack_request(body: bytes | bytearray) -> EngineCall:
    closed_count, opened_count, step_count = _COUNTS.unpack_from(body)
    at = _COUNTS.size
    closed, at = _ints(body, at, closed_count)
    opened: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(opened_count):
        slot, count = _OPENED.unpack_from(body, at)
        pages, at = _ints(body, at + _OPENED.size, count)
        opened.append((slot, pages))
    heads = [_STEP.unpack_from(body, at + i * _STEP.size) for i in range(step_count)]
    at += step_count * _STEP.size
    steps: list[Step] = []
    for head in heads:
        last = at + head[2]
        steps.append(_step(bytes(body[at:last]), head))
        at = last
    return EngineCall(closed, tuple(opened), tuple(steps))


def pack_message(message: WorkerMessage) -> bytes:
    """A message from the worker, with its length."""
    body = _packed_reply(message) if isinstance(message, Reply) else msgpack.packb(astuple(message))
    return _framed(bytes([_KINDS.index(type(message))]) + body)


def unpack_message(body: bytes | bytearray | memoryview) -> WorkerMessage:
    kind = _KINDS[body[0]]
    if kind is Reply:
        return _reply(body)
    items = msgpack.unpackb(body[1:], use_list=False)
    return Facts(Numerics(items[0]), *items[1:]) if kind is Facts else kind(*items)


def _step_head(step: Step) -> bytes:
    draw, layers = step.sample, step.layers
    first, last = _ALL if layers is None else (layers.first, layers.last)
    sample = (0, 0, 0, 0) if draw is None else (draw.temperature, draw.top_k, draw.top_p, draw.seed)
    codecs = step.codec_in, step.codec_out, draw is not None
    return _STEP.pack(step.slot, step.position, len(step.data), *codecs, first, last, *sample)


def _step(data: bytes, head: tuple[int, ...]) -> Step:
    """head: as `_STEP` has it"""
    slot, position, _, codec_in, codec_out, sampled, first, last, *sample = head
    sampling = Sampling(*sample) if sampled else None
    span = None if (first, last) == _ALL else Span(first, last)
    return Step(slot, position, data, Codec(codec_in), Codec(codec_out), sampling, span)


def _packed_reply(reply: Reply) -> bytes:
    parts = [_REPLY.pack(len(reply.outputs), reply.seconds)]
    texts = [output.text.encode() for output in reply.outputs]
    for output, text in zip(reply.outputs, texts, strict=True):
        parts.append(_OUTPUT.pack(output.code, len(output.ids), len(text), len(output.data)))
    for output, text in zip(reply.outputs, texts, strict=True):
        parts += (_packed_ints(output.ids), text, output.data)
    return b"".join(parts)


def _reply(body: bytes | bytearray | memoryview) -> Reply:
    count, seconds = _REPLY.unpack_from(body, 1)
    head_at = 1 + _REPLY.size
    at = head_at + count * _OUTPUT.size
    outputs: list[Output] = []
    for code, ids, text, data in _OUTPUT.iter_unpack(body[head_at:at]):
        last = at + 4 * ids + text + data
        outputs.append(_output(body[at:last], code, ids, text))
        at = last
    return Reply(tuple(outputs), seconds)


def _output(body: bytes | bytearray | memoryview, code: int, id_count: int, text_bytes: int) -> Output:
    if not code and not id_count:
        return Output(bytes(body))
    ids, at = _ints(body, 0, id_count)
    data_at = at + text_bytes
    return Output(bytes(body[data_at:]), ids, Code(code), str(body[at:data_at], "utf-8"))


def _packed_ints(values: Sequence[int]) -> bytes:
    return pack(f"<{len(values)}I", *values)


def _ints(body: bytes | bytearray | memoryview, at: int, count: int) -> tuple[tuple[int, ...], int]:
    """So many integers from there on, and where the next thing is."""
    return unpack_from(f"<{count}I", body, at), at + 4 * count


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES, "little") + body
