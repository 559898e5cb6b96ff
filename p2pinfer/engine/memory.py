"""An engine without weights, process or threads: for simulations, and for trying what a node does with its engine.

`MemoryComputer.open_engine` stands in for `process.open_engine`. Behind the same door works a toy model: a position's
row is a digest of the row below it and of the rows before it, layer by layer, and the id drawn is a digest of the last
row. So a split model answers as the whole one does, a cached answer as one without a cache, and a batch as its members.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from math import inf
from typing import Final

import trio

from p2pinfer.core.models.config_json import parse_config
from p2pinfer.core.records.draw import Sampling
from p2pinfer.core.sessions.pages import PAGE
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import Codec, Roles, Span, row_bytes
from p2pinfer.core.wire.session_messages import unpack_ids
from p2pinfer.engine.door import Engine, Watch
from p2pinfer.engine.messages import EngineCall, Facts, Reply, ShardSpec

DIGEST: Final = 16  # bytes of a row that tell something; the rest repeats them
KILLED: Final = "the engine was killed"
CLOSED: Final = "the engine is closed"
OVERFLOWED: Final = Output(code=Code.ENGINE, text="the layers gave values that are not finite")


class MemoryComputer:
    """A computer whose engines run in memory, all at one speed.

    batch_s, position_s: seconds that a batch takes, and each position of it more
    hangs:     what is asked from now on is never answered
    overflows: every step fails
    engines:   that are open
    """

    def __init__(self, *, batch_s: float = 0.02, position_s: float = 0.001) -> None:
        self.batch_s = batch_s
        self.position_s = position_s
        self.hangs = False
        self.overflows = False
        self.engines: list[Engine] = []

    @asynccontextmanager
    async def open_engine(self, spec: ShardSpec, progress: Watch = lambda done, total: None) -> AsyncIterator[Engine]:
        """A shard of the toy model, in the sizes that the model's config.json has."""
        shape = parse_config(json.loads(spec.config.read_bytes())).shape
        sizes = shape.hidden, shape.vocabulary, shape.context
        facts = Facts(spec.numerics, "memory", spec.threads, "digests", *sizes, 0, 0, spec.pages)
        worker = _MemoryWorker(self, _ToyShard(spec, facts))
        engine = Engine(facts, worker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.take_replies)
            self.engines.append(engine)
            await trio.lowlevel.checkpoint()
            progress(1, 1)
            try:
                yield engine
            finally:
                self.engines.remove(engine)
                engine.end(CLOSED)
                nursery.cancel_scope.cancel()

    def kill(self) -> None:
        """End all engines, as a kernel that crashes does."""
        for engine in self.engines:
            engine.end(KILLED)


class _MemoryWorker:
    """`Worker` of one engine."""

    def __init__(self, computer: MemoryComputer, shard: "_ToyShard") -> None:
        self._computer = computer
        self._shard = shard
        self._call: EngineCall | None = None
        self._asked = trio.Event()

    def ask(self, call: EngineCall) -> None:
        assert self._call is None  # one at a time
        self._call = call
        self._asked.set()

    async def receive(self) -> Reply:
        await self._asked.wait()
        assert self._call is not None
        call, self._call, self._asked = self._call, None, trio.Event()
        computer = self._computer
        outputs = tuple(self._shard.answer(call, overflows=computer.overflows))
        positions = sum(self._shard.count(step) for step in call.steps)
        seconds = computer.batch_s + computer.position_s * positions
        await trio.sleep(inf if computer.hangs else seconds)
        return Reply(outputs, seconds)


class _ToyShard:
    """The other side of the door, as of `shard.py`."""

    def __init__(self, spec: ShardSpec, facts: Facts) -> None:
        self._spec = spec
        self._facts = facts
        self._sessions: dict[int, _ToySession] = {}

    def count(self, step: Step) -> int:
        """Positions of a step."""
        return len(step.data) // row_bytes(step.codec_in, self._facts.width)

    def answer(self, call: EngineCall, *, overflows: bool) -> Sequence[Output]:
        for slot in call.closed:
            self._sessions.pop(slot, None)
        for slot, pages in call.opened:
            self._sessions[slot] = _ToySession(len(pages) * PAGE)
        return [OVERFLOWED if overflows else self._output(step) for step in call.steps]

    def _output(self, step: Step) -> Output:
        try:
            return self._step(step)
        except RemoteProtocolError as error:
            return Output(code=error.code, text=str(error))

    def _step(self, step: Step) -> Output:
        """Raises RemoteProtocolError for whatever the step may not ask."""
        session, span = self._sessions.get(step.slot), step.layers or self._spec.span
        if session is None:
            raise RemoteProtocolError(f"slot {step.slot} is not open", Code.UNKNOWN_SESSION)
        if not self._spec.span.covers(span):
            raise RemoteProtocolError(f"layers {span}, {self._spec.span} are here", Code.UNSUPPORTED)
        rows = session.run(step.position, self._rows(step), span)
        if Roles.TAIL not in self._spec.roles or span.last != self._spec.span.last:
            size = row_bytes(step.codec_out, self._facts.width)
            return Output(b"".join((row * (size // DIGEST + 1))[:size] for row in rows))
        return Output(ids=() if step.sample is None else (self._draw(rows[-1], step.sample),))

    def _rows(self, step: Step) -> list[bytes]:
        """Return what comes in: ids, or rows of the stage before."""
        size = row_bytes(step.codec_in, self._facts.width)
        if not step.data or len(step.data) % size:
            raise RemoteProtocolError(f"{len(step.data)} bytes are no rows of {size} bytes", Code.BAD_VALUES)
        if step.codec_in is Codec.IDS and max(unpack_ids(step.data)) >= self._facts.vocabulary:
            raise RemoteProtocolError("an id that the model does not have", Code.BAD_VALUES)
        return [step.data[at : at + size][:DIGEST] for at in range(0, len(step.data), size)]

    def _draw(self, row: bytes, sampling: Sampling) -> int:
        seed = sampling.seed if sampling.temperature else 0
        return int.from_bytes(_digest(row, seed.to_bytes(8, "big"))) % self._facts.vocabulary


class _ToySession:
    """The cache of one session: of each layer the digest of its rows so far, after every position."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: dict[int, list[bytes]] = {}
        self._count = 0

    def run(self, position: int, rows: Sequence[bytes], span: Span) -> list[bytes]:
        """The rows after these layers; what was held at or beyond `position` is dead."""
        if position > self._count or position + len(rows) > self._room:
            text = f"positions {position} to {position + len(rows)} where {self._count} of {self._room} are held"
            raise RemoteProtocolError(text, Code.BAD_POSITION)
        self._count = position + len(rows)
        for layer in range(span.first, span.last):
            held = self._held.setdefault(layer, [])
            del held[position:]
            for row in rows:
                held.append(_digest(layer.to_bytes(4, "big"), row, held[-1] if held else b""))
            rows = held[position:]
        return list(rows)


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=DIGEST).digest()
