"""What goes through the engine's door: shard specs, steps and outputs, as plain values and as msgpack.

Both sides of the door import this file; it imports neither torch nor trio.
"""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import msgpack

from p2pinfer.core.codes import Code
from p2pinfer.core.draw import Sampling
from p2pinfer.core.units import Codec, Numerics, Roles, Span

LENGTH_BYTES: Final = 4  # before each message of the door, little-endian


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """What an engine loads and how it computes.

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
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.pages < 1 or self.threads < 1:
            raise ValueError(f"{self.pages} pages and {self.threads} threads: each must be at least 1")


@dataclass(frozen=True, slots=True)
class Step:
    """Consecutive positions of one session: a chunk of its prompt, or the latest id.

    slot:      the session's number at this engine
    position:  of the first row; at most the number of positions held. What the session held at or beyond it is dead
    data:      wire rows in `codec_in`; ids (u32be each) at the head
    codec_out: of the rows to send on; IDS at the tail
    sample:    at the tail, draw the id after the last row; None for a chunk that does not end the prompt
    layers:    of the model, within the shard's span, the same in all steps of a session; None for all of the shard's
    """

    slot: int
    position: int
    data: bytes
    codec_in: Codec
    codec_out: Codec
    sample: Sampling | None = None
    layers: Span | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What became of one step; where `code` is not NONE it failed, alone.

    A step that was refused left its session as it was; after one that overflowed nothing is held from its position on.

    data: wire rows in the step's `codec_out`, one for each position; empty at the tail
    ids:  drawn at the tail
    code: BAD_FRAME or BAD_VALUES for the rows that came in, BAD_POSITION for a gap or a full reservation,
          UNKNOWN_SESSION for a slot that is not open, ENGINE for values that overflowed here
    """

    data: bytes = b""
    ids: tuple[int, ...] = ()
    code: Code = Code.NONE
    text: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a loaded shard is; bytes are of memory held."""

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
class Request:
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
class Progress:
    """While weights load: bytes of files read, of all."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The shard could not be loaded; the message is for a person."""

    text: str


Message = Progress | Facts | Failed | Reply  # from the worker; a spec and then requests go to it


def pack_spec(spec: ShardSpec) -> bytes:
    """The first message to the worker, with its length."""
    return _framed(
        [
            str(spec.config),
            [str(path) for path in spec.files],
            [spec.span.first, spec.span.last],
            *(int(spec.roles), int(spec.numerics), spec.pages, spec.device, spec.threads),
        ]
    )


def unpack_spec(body: bytes | bytearray) -> ShardSpec:
    config, files, span, roles, numerics, *rest = msgpack.unpackb(body)
    paths = tuple(Path(path) for path in files)
    return ShardSpec(Path(config), paths, Span(*span), Roles(roles), Numerics(numerics), *rest)


def pack_request(request: Request) -> bytes:
    """Every later message to the worker, with its length."""
    return _framed([request.closed, request.opened, [_step_list(step) for step in request.steps]])


def unpack_request(body: bytes | bytearray) -> Request:
    closed, opened, steps = msgpack.unpackb(body, use_list=False)
    return Request(closed, opened, tuple(_step(*items) for items in steps))


def pack_message(message: Message) -> bytes:
    """A message from the worker, with its length."""
    match message:
        case Progress(done, total):
            return _framed([0, done, total])
        case Facts():
            return _framed([1, *astuple(message)])
        case Failed(text):
            return _framed([2, text])
        case Reply(outputs, seconds):
            return _framed([3, [(o.data, o.ids, int(o.code), o.text) for o in outputs], seconds])


def unpack_message(body: bytes | bytearray | memoryview) -> Message:
    tag, *items = msgpack.unpackb(body, use_list=False)
    match tag:
        case 0:
            return Progress(*items)
        case 1:
            return Facts(Numerics(items[0]), *items[1:])
        case 2:
            return Failed(*items)
        case _:
            outputs, seconds = items
            return Reply(tuple(Output(data, ids, Code(code), text) for data, ids, code, text in outputs), seconds)


def _step_list(step: Step) -> list[object]:
    draw, layers = step.sample, step.layers
    return [
        *(step.slot, step.position, step.data, int(step.codec_in), int(step.codec_out)),
        None if draw is None else (draw.temperature, draw.top_k, draw.top_p, draw.seed),
        None if layers is None else (layers.first, layers.last),
    ]


def _step(
    slot: int,
    position: int,
    data: bytes,
    codec_in: int,
    codec_out: int,
    sample: tuple[int, int, int, int] | None,
    layers: tuple[int, int] | None,
) -> Step:
    sampling = None if sample is None else Sampling(*sample)
    span = None if layers is None else Span(*layers)
    return Step(slot, position, data, Codec(codec_in), Codec(codec_out), sampling, span)


def _framed(plain: object) -> bytes:
    body: bytes = msgpack.packb(plain)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body
