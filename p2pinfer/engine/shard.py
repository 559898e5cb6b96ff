"""A loaded span: answers batches of steps. Here wire bytes become rows and rows wire bytes; a backend computes."""

import socket
import time
from collections.abc import Sequence
from typing import Final

from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.sessions.pages import Table
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import Codec, Roles, Span
from p2pinfer.engine import codecs
from p2pinfer.engine.backend import Asked, Backend, Batch, Part, TellProgress
from p2pinfer.engine.choice import NATIVE, read_config
from p2pinfer.engine.inbox import Inbox
from p2pinfer.engine.messages import EngineCall, Facts, Reply, ShardSpec
from p2pinfer.engine.sampler import draw_id

OVERFLOWED: Final = Output(code=Code.ENGINE, text="the layers gave values that are not finite")


def load_shard(spec: ShardSpec, progress: TellProgress) -> "Shard":
    """Read a shard's weights and take memory for its KV cache.

    Raises ModelError for files that are not what the spec says, a device that is not there, and too little memory.
    """
    config = read_config(spec.config)
    return Shard(spec, config, load_backend(spec, config, progress))


def load_backend(spec: ShardSpec, config: ModelConfig, progress: TellProgress) -> Backend:
    """The backend of the spec's class, imported when it is asked for. Raises as `load_shard` does."""
    if spec.numerics in NATIVE:
        from p2pinfer.engine.native.span import load_native  # does without torch: 200 MB and a second less

        return load_native(spec, config, progress)
    from p2pinfer.engine.eager.span import load_eager

    return load_eager(spec, config, progress)


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
        outputs: dict[int, Output] = {}  # by index in the batch, as parts are
        parts: dict[Span, dict[int, Part]] = {}
        slots: set[int] = set()
        for at, (step, given) in enumerate(zip(steps, self._decode(steps), strict=True)):
            try:
                if step.slot in slots:
                    raise RemoteProtocolError(f"two steps of slot {step.slot} in one batch", Code.BAD_STATE)
                parts.setdefault(step.layers or self._span, {})[at] = self._admit(step, given)
                slots.add(step.slot)
            except RemoteProtocolError as error:
                outputs[at] = Output(code=error.code, text=str(error))
        for span, alike in parts.items():
            outputs |= self._run(span, steps, dict(sorted(alike.items(), key=lambda one: one[1].order)))
        return [outputs[at] for at in range(len(steps))]

    def _run(self, span: Span, steps: Sequence[Step], parts: dict[int, Part]) -> dict[int, Output]:
        """A step with values that are not finite fails, and what it wrote is dead."""
        layers, tail = range(span.first - self._span.first, span.last - self._span.first), self._is_tail(span)
        try:
            results = self._backend.compute(Batch([*parts.values()], layers, tail))
        except MemoryError as error:
            for part in parts.values():
                part.table.held = part.positions.start
            return dict.fromkeys(parts, Output(code=Code.ENGINE, text=str(error)))
        outputs: dict[int, Output] = {}
        rows: dict[int, codecs.Rows] = {}  # to send on
        for (at, part), result in zip(parts.items(), results, strict=True):
            if result is None:
                part.table.held = part.positions.start
                outputs[at] = OVERFLOWED
            elif isinstance(result, int):
                outputs[at] = Output(ids=(result,))
            elif not tail:
                rows[at] = result
            else:
                sample = steps[at].sample
                outputs[at] = Output(ids=() if sample is None else (draw_id(result, sample, part.positions.stop),))
        wire = codecs.encode_each([(one, steps[at].codec_out) for at, one in rows.items()], self._backend.q8o4)
        return outputs | {at: Output(data) for at, data in zip(rows, wire, strict=True)}

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

    def _admit(self, step: Step, given: codecs.Input | RemoteProtocolError) -> Part:
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
        return Part(step.slot, table, range(step.position, last), given, _asked(step))


def _asked(step: Step) -> Asked:
    if step.sample is None:
        return Asked.NOTHING
    return Asked.BEST if step.sample.greedy else Asked.LOGITS
