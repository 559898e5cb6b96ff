"""A loaded span: answers batches of steps. Here wire bytes become rows and rows wire bytes; a backend computes."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.sessions.pages import Table
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import Codec, Roles, Span
from p2pinfer.engine import codecs
from p2pinfer.engine.backend import Asked, Backend, Batch, Part, Result
from p2pinfer.engine.config import read_config
from p2pinfer.engine.inbox import Inbox
from p2pinfer.engine.loading import Progress, load_backend
from p2pinfer.engine.sampler import draw_id
from p2pinfer.engine.steps import EngineCall, Facts, Output, Reply, ShardSpec, Step

OVERFLOWED: Final = Output(code=Code.ENGINE, text="the layers gave values that are not finite")


def load_shard(spec: ShardSpec, progress: Progress) -> "Shard":
    """Read a shard's weights and take memory for its KV cache.

    Raises ModelError for files that are not what the spec says, a device that is not there, and too little memory.
    """
    config = read_config(spec.config)
    return Shard(spec, config, load_backend(spec, config, progress))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A step that takes part in the forward pass."""

    at: int  # index in the batch
    step: Step
    part: Part
    span: Span


class Shard:
    """A span's weights, and the KV caches of its sessions."""

    def __init__(self, spec: ShardSpec, config: ModelConfig, backend: Backend) -> None:
        self._config = config
        self._backend = backend
        self._tables: dict[int, Table] = {}
        self._span = spec.span
        self._roles = spec.roles
        self.facts = Facts(
            numerics=spec.numerics,
            device=spec.device,
            threads=spec.threads,
            kernel=backend.kernel,
            width=config.shape.hidden,
            vocabulary=config.shape.vocabulary,
            context=config.shape.context,
            weight_bytes=backend.weight_bytes,
            cache_bytes=backend.cache_bytes,
            pages=spec.pages,
        )

    def open_inbox(self, door: socket.socket) -> Inbox:
        """Open the inbox that takes requests from the parent.

        A request that the backend answers itself is as if `answer` had done it.
        """
        return self._backend.open_inbox(door)

    def answer(self, request: EngineCall) -> Reply:
        """Close and open sessions, then compute the steps."""
        began = time.perf_counter()
        for slot in request.closed:
            del self._tables[slot]
            self._backend.close_session(slot)
        for slot, pages in request.opened:
            self._tables[slot] = self._backend.open_session(slot, pages)
        outputs = self.step(request.steps)
        return Reply(tuple(outputs), time.perf_counter() - began)

    def step(self, steps: Sequence[Step]) -> list[Output]:
        """One forward pass for each span that is asked for, of steps of different sessions; what fails, fails alone."""
        outputs: dict[int, Output] = {}
        entries: dict[int, _Entry] = {}  # by slot
        for at, (step, given) in enumerate(zip(steps, self._decode(steps), strict=True)):
            try:
                if step.slot in entries:
                    raise RemoteProtocolError(f"two steps of slot {step.slot} in one batch", Code.BAD_STATE)
                entries[step.slot] = self._admit(at, step, given)
            except RemoteProtocolError as error:
                outputs[at] = Output(code=error.code, text=str(error))
        for span in {entry.span for entry in entries.values()}:
            alike = [entry for entry in entries.values() if entry.span == span]
            alike.sort(key=lambda entry: entry.part.order)
            outputs |= self._run(span, alike)
        return [outputs[at] for at in range(len(steps))]

    def _run(self, span: Span, entries: Sequence[_Entry]) -> dict[int, Output]:
        """Outputs by index in the batch."""
        try:
            results = self._backend.compute(self._batch(span, entries))
        except MemoryError as error:
            for entry in entries:
                entry.part.table.held = entry.part.positions.start
            return {entry.at: Output(code=Code.ENGINE, text=str(error)) for entry in entries}
        return self._finish(entries, results)

    def _decode(self, steps: Sequence[Step]) -> list[codecs.Input | RemoteProtocolError]:
        """Return what each step brings, or what is wrong with it."""
        wrong = [not self._takes(step) for step in steps]
        given = iter(
            codecs.decode_each(
                [(step.data, step.codec_in) for step, bad in zip(steps, wrong, strict=True) if not bad],
                self._config.shape.hidden,
                self._config.shape.vocabulary,
                self._backend.q8o4,
            )
        )
        message = "codecs that this stage does not take in or send on"
        return [RemoteProtocolError(message, Code.UNSUPPORTED) if bad else next(given) for bad in wrong]

    def _takes(self, step: Step) -> bool:
        """Return True if ids come in and go out where the step's layers begin and end the model, and rows elsewhere."""
        span = step.layers or self._span
        head = bool(self._roles & Roles.HEAD) and span.first == self._span.first
        return (step.codec_in == Codec.IDS, step.codec_out == Codec.IDS) == (head, self._is_tail(span))

    def _is_tail(self, span: Span) -> bool:
        return bool(self._roles & Roles.TAIL) and span.last == self._span.last

    def _admit(self, at: int, step: Step, given: codecs.Input | RemoteProtocolError) -> _Entry:
        """The step's place in the batch.

        Raises RemoteProtocolError for whatever keeps it out.
        """
        if isinstance(given, RemoteProtocolError):
            raise given
        if (table := self._tables.get(step.slot)) is None:
            raise RemoteProtocolError(f"slot {step.slot} is not open", Code.UNKNOWN_SESSION)
        span = step.layers or self._span
        if not self._span.covers(span):
            raise RemoteProtocolError(f"layers {span}, {self._span} are here", Code.UNSUPPORTED)
        last = step.position + len(given)
        if last > self._config.shape.context:
            message = f"{last} positions, the model's limit is {self._config.shape.context}"
            raise RemoteProtocolError(message, Code.TOO_LONG)
        table.write(step.position, len(given))
        part = Part(step.slot, table, range(step.position, last), given, _asked(step))
        return _Entry(at, step, part, span)

    def _batch(self, span: Span, entries: Sequence[_Entry]) -> Batch:
        layers = range(span.first - self._span.first, span.last - self._span.first)
        return Batch([entry.part for entry in entries], layers, self._is_tail(span))

    def _finish(self, entries: Sequence[_Entry], results: Sequence[Result]) -> dict[int, Output]:
        """Outputs by index in the batch; a step with values that are not finite fails, and what it wrote is dead."""
        outputs: dict[int, Output] = {}
        rows: list[tuple[_Entry, codecs.Rows]] = []
        for entry, result in zip(entries, results, strict=True):
            if result is None:
                entry.part.table.held = entry.part.positions.start
                outputs[entry.at] = OVERFLOWED
            elif isinstance(result, int):
                outputs[entry.at] = Output(ids=(result,))
            elif not self._is_tail(entry.span):
                rows.append((entry, result))
            elif entry.step.sample is None:
                outputs[entry.at] = Output()
            else:
                outputs[entry.at] = Output(ids=(draw_id(result, entry.step.sample, entry.part.positions.stop),))
        return outputs | self._encode(rows)

    def _encode(self, rows: Sequence[tuple[_Entry, codecs.Rows]]) -> dict[int, Output]:
        """Before the tail: the rows to send on."""
        if not rows:
            return {}
        wire = codecs.encode_each([(one, entry.step.codec_out) for entry, one in rows], self._backend.q8o4)
        return {entry.at: Output(data) for (entry, _), data in zip(rows, wire, strict=True)}


def _asked(step: Step) -> Asked:
    if step.sample is None:
        return Asked.NOTHING
    return Asked.BEST if step.sample.greedy else Asked.LOGITS
