"""A loaded span: answers batches of steps. The one place where wire bytes become tensors, and tensors wire bytes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import ModelError, RemoteProtocolError
from p2pinfer.core.pages import Table
from p2pinfer.core.units import Codec, Numerics, Roles, Span
from p2pinfer.engine import codecs
from p2pinfer.engine.config import ModelConfig, read_config
from p2pinfer.engine.kv import Cache
from p2pinfer.engine.layers import norm, run_layer
from p2pinfer.engine.plan import Part, plan_batch
from p2pinfer.engine.rope import Rope
from p2pinfer.engine.sampler import draw_id
from p2pinfer.engine.steps import Facts, Output, Reply, Request, ShardSpec, Step
from p2pinfer.engine.weights import Progress, Weights, load_weights

DTYPES: Final = {Numerics.F32_1: torch.float32, Numerics.BF16_1: torch.bfloat16}
OVERFLOWED: Final = Output(code=Code.ENGINE, text="the layers gave values that are not finite")


def load_shard(spec: ShardSpec, progress: Progress) -> "Shard":
    """Read a shard's weights and take memory for its KV cache.

    Raises ModelError for files that are not what the spec says, a device that is not there, and too little memory.
    """
    torch.set_grad_enabled(False)
    torch.set_num_threads(spec.threads)
    device, dtype = _device(spec.device), DTYPES[spec.numerics]
    config = read_config(spec.config)
    try:
        weights = load_weights(config, spec.files, spec.span, spec.roles, device, dtype, progress)
        cache = Cache(config, len(spec.span), spec.pages, device, dtype)
        rope = Rope(config, device, dtype)
    except torch.OutOfMemoryError as error:
        raise ModelError(f"layers {spec.span} do not fit into {spec.device}: {error}") from None
    return Shard(spec, config, weights, cache, rope)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise ModelError(f"the device {name} cannot be used: {error}") from None
    return device


@dataclass(frozen=True, slots=True)
class _Entry:
    """A step that takes part in the forward pass."""

    at: int  # index in the batch
    step: Step
    rows: codecs.Input  # ids at the head
    part: Part
    span: Span


class Shard:
    """A span's weights, and the KV caches of its sessions."""

    def __init__(self, spec: ShardSpec, config: ModelConfig, weights: Weights, cache: Cache, rope: Rope) -> None:
        self._config = config
        self._weights = weights
        self._cache = cache
        self._rope = rope
        self._tables: dict[int, Table] = {}
        self._device = rope.table.device
        self._dtype = rope.table.dtype
        self._span = spec.span
        self._roles = spec.roles
        self.facts = Facts(
            numerics=spec.numerics,
            device=spec.device,
            threads=spec.threads,
            kernel=weights.kernel,
            width=config.hidden,
            vocabulary=config.vocabulary,
            context=config.context,
            weight_bytes=weights.bytes,
            cache_bytes=cache.bytes,
            pages=spec.pages,
        )

    def answer(self, request: Request) -> Reply:
        """Close and open sessions, then compute the steps."""
        began = time.perf_counter()
        for slot in request.closed:
            del self._tables[slot]
        for slot, pages in request.opened:
            self._tables[slot] = Table(pages)
        outputs = self.step(request.steps)
        return Reply(tuple(outputs), time.perf_counter() - began)

    def step(self, steps: Sequence[Step]) -> list[Output]:
        """One forward pass for each span that is asked for, of steps of different sessions; what fails, fails alone."""
        outputs: dict[int, Output] = {}
        entries: dict[int, _Entry] = {}  # by slot
        for at, (step, rows) in enumerate(zip(steps, self._decode(steps), strict=True)):
            try:
                if step.slot in entries:
                    raise RemoteProtocolError(f"two steps of slot {step.slot} in one batch", Code.BAD_STATE)
                entries[step.slot] = self._admit(at, step, rows)
            except RemoteProtocolError as error:
                outputs[at] = Output(code=error.code, text=str(error))
        for span in {entry.span for entry in entries.values()}:
            alike = [entry for entry in entries.values() if entry.span == span]
            alike.sort(key=lambda entry: entry.part.order)
            outputs |= self._leave(alike, self._compute(alike))
        return [outputs[at] for at in range(len(steps))]

    def _decode(self, steps: Sequence[Step]) -> list[codecs.Input | RemoteProtocolError]:
        """What each step brings, or what is wrong with it."""
        wrong = [not self._takes(step) for step in steps]
        rows = iter(
            codecs.decode_each(
                [(step.data, step.codec_in) for step, bad in zip(steps, wrong, strict=True) if not bad],
                self._config.hidden,
                self._config.vocabulary,
            )
        )
        message = "codecs that this stage does not take in or send on"
        return [RemoteProtocolError(message, Code.UNSUPPORTED) if bad else next(rows) for bad in wrong]

    def _takes(self, step: Step) -> bool:
        """Whether ids come in and go out where the step's layers begin and end the model, and rows elsewhere."""
        span = step.layers or self._span
        head = bool(self._roles & Roles.HEAD) and span.first == self._span.first
        tail = bool(self._roles & Roles.TAIL) and span.last == self._span.last
        return (step.codec_in == Codec.IDS, step.codec_out == Codec.IDS) == (head, tail)

    def _admit(self, at: int, step: Step, rows: codecs.Input | RemoteProtocolError) -> _Entry:
        """The step's place in the batch.

        Raises RemoteProtocolError for whatever keeps it out.
        """
        if isinstance(rows, RemoteProtocolError):
            raise rows
        if (table := self._tables.get(step.slot)) is None:
            raise RemoteProtocolError(f"slot {step.slot} is not open", Code.UNKNOWN_SESSION)
        span = step.layers or self._span
        if not self._span.covers(span):
            raise RemoteProtocolError(f"layers {span}, {self._span} are here", Code.UNSUPPORTED)
        last = step.position + len(rows)
        if last > self._config.context:
            message = f"{last} positions, the model's limit is {self._config.context}"
            raise RemoteProtocolError(message, Code.TOO_LONG)
        table.write(step.position, len(rows))
        return _Entry(at, step, rows, Part(table, range(step.position, last)), span)

    def _compute(self, entries: Sequence[_Entry]) -> Tensor:
        """Hidden states of all rows after the last layer of their one span: (rows, width).

        Steps that are looked at together read past each other's ends, masked; a value that is not finite gets through
        the mask. So where there is one, each step is computed again by itself, and only its own rows show it.
        """
        hidden = self._forward(entries)
        if len(entries) > 1 and not _are_finite(hidden):
            hidden = torch.cat([self._forward([entry]) for entry in entries])
        return hidden

    def _forward(self, entries: Sequence[_Entry]) -> Tensor:
        given = torch.from_numpy(np.concatenate([entry.rows for entry in entries]))
        first, last = (layer - self._span.first for layer in (entries[0].span.first, entries[0].span.last))
        if self._weights.embedding is not None and not first:
            given = self._weights.embedding[given.to(self._weights.embedding.device)]
        hidden = given.to(self._device, self._dtype)
        plan = plan_batch(self._config, self._rope, self._cache.positions, [entry.part for entry in entries])
        for number in range(first, last):
            hidden = run_layer(self._config, self._weights.layers[number], number, hidden, plan, self._cache)
        return hidden

    def _leave(self, entries: Sequence[_Entry], hidden: Tensor) -> dict[int, Output]:
        """Outputs by index in the batch; a step with values that are not finite fails, and what it wrote is dead."""
        finish = self._draw if entries[0].step.codec_out == Codec.IDS else _encode
        pieces = torch.split(hidden, [len(entry.rows) for entry in entries])
        well = list(zip(entries, pieces, strict=True))
        if _are_finite(hidden):
            return finish(well)
        outputs: dict[int, Output] = {}
        for entry, rows in well:
            if not _are_finite(rows):
                self._kill(entry.part)
                outputs[entry.at] = OVERFLOWED
        well = [(entry, rows) for entry, rows in well if entry.at not in outputs]
        return outputs | (finish(well) if well else {})

    def _kill(self, part: Part) -> None:
        """Forget positions whose values are not finite, and leave none in the pool: they would reach later batches."""
        part.table.held = part.positions.start
        places = part.table.rows(part.positions.start, part.positions.stop)
        self._cache.clear(torch.tensor(places, device=self._device))

    def _draw(self, well: Sequence[tuple[_Entry, Tensor]]) -> dict[int, Output]:
        """At the tail: the ids that were asked for."""
        outputs = {entry.at: Output() for entry, _ in well}
        asked = [(entry, rows[-1]) for entry, rows in well if entry.step.sample is not None]
        if not asked:
            return outputs
        for (entry, _), logits in zip(asked, self._logits(torch.stack([row for _, row in asked])), strict=True):
            assert entry.step.sample is not None
            if np.isfinite(logits).all():
                drawn = draw_id(logits, entry.step.sample, entry.part.positions.stop)
                outputs[entry.at] = Output(ids=(drawn,))
            else:
                outputs[entry.at] = OVERFLOWED
        return outputs

    def _logits(self, rows: Tensor) -> NDArray[np.float32]:
        """(rows, width) -> (rows, vocabulary)."""
        assert self._weights.norm is not None and self._weights.head is not None
        logits = self._weights.head(norm(rows, self._weights.norm, self._config.norm_eps))
        return _numpy(logits)


def _encode(well: Sequence[tuple[_Entry, Tensor]]) -> dict[int, Output]:
    """At other stages: the rows to send on."""
    rows = _numpy(torch.cat([rows for _, rows in well]) if len(well) > 1 else well[0][1])
    parts, first = [], 0
    for entry, _ in well:
        last = first + len(entry.rows)
        parts.append((rows[first:last], entry.step.codec_out))
        first = last
    return {entry.at: Output(data) for (entry, _), data in zip(well, codecs.encode_each(parts), strict=True)}


def _are_finite(values: Tensor) -> bool:
    """Whether all are. One sum says so; it may also overflow where no value does, and then each is looked at."""
    return isfinite(values.sum(dtype=torch.float32).item()) or bool(torch.isfinite(values).all())


def _numpy(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
