"""The engines of this machine beside each other, and beside what its memory allows.

Each runs in a process of its own, as it does in a node, and is timed by its own clock. They compute in turn, a few
steps each, never at once, so that whatever else the machine does slows all of them alike; medians are told.

The floor is time: a token cannot come sooner than the memory gives what it must read. As a speed it is the highest
that one session can have. Many sessions read the weights once for all of them, and together go beyond it.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import psutil
import trio

from p2pinfer.core.models.manifest import CONFIG, Manifest
from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.values.errors import EngineError, UsageError
from p2pinfer.core.values.units import Codec, Numerics
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.choice import engine_of, obstacles
from p2pinfer.engine.door import Engine
from p2pinfer.engine.gpu import look_at_gpu
from p2pinfer.engine.messages import CPU
from p2pinfer.engine.native.library import open_library, read_gb_s
from p2pinfer.engine.process import open_engine
from p2pinfer.node.settings import Serve
from p2pinfer.node.shard import CACHE_BYTES, FILE_BYTES, MB, WEIGHT_BYTES, shard_spec

CHUNK: Final = 256  # positions of a prompt in one step, the default of trust.max_chunk
PROMPTS: Final = 4  # times that a prompt is timed at least, after one that pays for what an engine sets up
ROUNDS: Final = 5  # in which each engine has its turn
TOKENS: Final = 64  # of one session in a round, fewer where there are more sessions
FEWEST: Final = 4  # steps in a round
COLD: Final = 4  # of so many steps of a round the first does not count: caches hold another engine's weights
SETTLE_S: Final = 0.05  # after an engine's turn its threads go to sleep
USUAL: Final = (Numerics.I8G32_1, Numerics.BF16_1)  # classes that are compared if nobody says which
USUAL_ON_GPU: Final = (Numerics.BF16_1,)

Watch = Callable[[str, int, int], None]  # what is done, how far, of how much


@dataclass(frozen=True, slots=True)
class Trial:
    """The settings of a measurement.

    sessions: numbers of them that decode together
    context:  positions that each of them has
    device:   where the engines compute: cpu, cuda, cuda:1
    """

    threads: int
    sessions: tuple[int, ...]
    context: int
    device: str = CPU

    def __post_init__(self) -> None:
        if not self.sessions or min(*self.sessions, self.threads, self.context) < 1:
            raise ValueError(f"{self.sessions} sessions of {self.context} positions with {self.threads} threads")


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine with a number of sessions; speeds are in tokens a second, of all of them together.

    prefill:  of one prompt, whatever the number of sessions
    of_floor: the decode speed as a multiple of the floor; None where the memory could not be measured
    """

    engine: str
    numerics: Numerics
    threads: int
    sessions: int
    decode: float
    prefill: float
    of_floor: float | None


@dataclass(frozen=True, slots=True)
class EngineComparison:
    """floor: tokens a second that one session could have of the first engine if nothing cost time but its memory.

    Both are None where nothing measures the memory: on a CPU without the native kernel, on a GPU that is full.
    """

    bandwidth_gb_s: float | None
    floor: float | None
    rows: tuple[EngineRow, ...]


def classes_here(
    store: Store, model: StoredModel, device: str, wanted: Sequence[Numerics] = ()
) -> tuple[Numerics, ...]:
    """The classes to compare, the fastest first: the wanted ones, or what is usual and can be computed here.

    Raises UsageError for a wanted one that cannot, or if none can, and ModelError for a config that is missing.
    """
    why = obstacles(store.path(model.id, CONFIG), device)
    usual = USUAL if device == CPU else USUAL_ON_GPU
    for numerics in wanted:
        if why[numerics]:
            raise UsageError(f"{numerics.label} cannot be computed here: {why[numerics]}")
    chosen = tuple(numerics for numerics in why if numerics in (wanted or usual))
    able = tuple(numerics for numerics in chosen if not why[numerics])
    if not able:
        raise UsageError(f"no engine can compute {model.name} here: {'; '.join(why[numerics] for numerics in chosen)}")
    return able


async def compare(
    store: Store, model: StoredModel, classes: Sequence[Numerics], trial: Trial, watch: Watch
) -> EngineComparison:
    """Load the engines of these classes and time them in turn.

    Raises:
        UsageError: the model has no such context, or the memory is too small for all of the engines.
        ModelError: a file of the model is missing or was altered.
        EngineError: an engine failed.
    """
    await trio.to_thread.run_sync(_check, model.manifest, classes, trial)
    async with AsyncExitStack() as stack:
        racers = []
        for numerics in classes:
            racer = await stack.enter_async_context(open_racer(store, model, numerics, trial, watch))
            racers.append(racer)
        memory = Memory(racers[0].bytes_per_token, trial)
        for count in sorted(set(trial.sessions)):
            await _fill(racers, count, watch)
            for done in range(ROUNDS):
                for racer in racers:
                    await racer.decode(count)
                if count == min(trial.sessions):  # whose speed is held to the floor, so at the same time
                    await memory.read()
                watch(f"decode of {count}", done + 1, ROUNDS)
    return EngineComparison(memory.gb_s, memory.floor, tuple(_rows(racers, memory, trial)))


async def _fill(racers: Sequence["Racer"], count: int, watch: Watch) -> None:
    """Give each engine that many sessions, in turn."""
    first = len(racers[0])
    for at in range(first, count):
        for racer in racers:
            await racer.fill()
        watch(f"prompts for {count}", at + 1 - first, count - first)


def _rows(racers: Sequence["Racer"], memory: "Memory", trial: Trial) -> Iterator[EngineRow]:
    for racer in racers:
        for count in sorted(set(trial.sessions)):
            decode = racer.decode_speed(count)
            share = decode / memory.floor if memory.floor else None
            numerics = racer.engine.facts.numerics
            yield EngineRow(racer.name, numerics, trial.threads, count, decode, racer.prefill_speed, share)


def _check(manifest: Manifest, classes: Sequence[Numerics], trial: Trial) -> None:
    if trial.context > manifest.context:
        raise UsageError(f"{manifest.name} has a context of {manifest.context} positions, not of {trial.context}")
    needed = sum(_bytes(manifest, numerics, trial) for numerics in classes)
    free = psutil.virtual_memory().available if trial.device == CPU else look_at_gpu(trial.device).free
    if needed > free:
        raise UsageError(
            f"the engines would take {needed // MB:,} MB together, {free // MB:,} MB are free: "
            "compare fewer --sessions, or one --numerics at a time"
        )


def _bytes(manifest: Manifest, numerics: Numerics, trial: Trial) -> int:
    weights = manifest.size / FILE_BYTES * WEIGHT_BYTES[numerics]
    return int(weights) + max(trial.sessions) * trial.context * _position_bytes(manifest, numerics)


def _position_bytes(manifest: Manifest, numerics: Numerics) -> int:
    """Of KV cache, for one position of one session."""
    shape = manifest.shape
    return int(shape.layers * 2 * shape.kv_heads * shape.head_size * CACHE_BYTES[numerics])


class Memory:
    """The cost of reading memory, measured in turn with the engines."""

    def __init__(self, size: int, trial: Trial) -> None:
        """size: bytes that a token reads"""
        self.size = size
        self._trial = trial
        self._speeds: list[float] = []

    async def read(self) -> None:
        """Measure once more, if there is a kernel that can; a GPU's memory is its own, and once is enough."""
        device, threads = self._trial.device, self._trial.threads
        if device != CPU:
            if not self._speeds:
                gpu = await trio.to_thread.run_sync(look_at_gpu, device, self.size)
                self._speeds += [gpu.read_gb_s] if gpu.read_gb_s else []
            return
        try:
            library = open_library()
        except EngineError:
            return
        self._speeds.append(await trio.to_thread.run_sync(read_gb_s, library, self.size, threads))

    @property
    def gb_s(self) -> float | None:
        """Gigabytes a second."""
        return median(self._speeds) if self._speeds else None

    @property
    def floor(self) -> float | None:
        """Tokens a second."""
        return self.gb_s * 1e9 / self.size if self.gb_s else None


@asynccontextmanager
async def open_racer(
    store: Store, model: StoredModel, numerics: Numerics, trial: Trial, watch: Watch
) -> AsyncIterator["Racer"]:
    """An engine with the whole model, loaded and warm. Raises as `compare` does."""
    serve = Serve(numerics=numerics.label, threads=trial.threads, device=trial.device)
    spec = await trio.to_thread.run_sync(shard_spec, store, model, model.manifest.span, serve)
    spec = replace(spec, pages=max(trial.sessions) * pages_for(trial.context))
    async with open_engine(spec, lambda done, total: watch(f"loading {numerics.label}", done, total)) as engine:
        size = engine.facts.weight_bytes + trial.context * _position_bytes(model.manifest, numerics)
        racer = Racer(engine, trial.context, size)
        await racer.warm()
        yield racer


class Racer:
    """An engine with sessions of one length, and what it was timed at.

    bytes_per_token: what a token of one session reads: weights, head, and the KV cache of its context
    """

    def __init__(self, engine: Engine, context: int, bytes_per_token: int) -> None:
        self.engine = engine
        self.bytes_per_token = bytes_per_token
        self._context = context
        self._sessions = 0
        self._prefill_s: list[float] = []
        self._decode_s: dict[int, list[float]] = defaultdict(list)

    def __len__(self) -> int:
        """Sessions it has."""
        return self._sessions

    @property
    def name(self) -> str:
        """The engine's name, and how it computes."""
        facts = self.engine.facts
        return f"{engine_of(facts.numerics)} {facts.kernel}"

    @property
    def prefill_speed(self) -> float:
        """Positions a second."""
        return self._context / median(self._prefill_s)

    def decode_speed(self, sessions: int) -> float:
        """Tokens a second, of all sessions together."""
        return sessions / median(self._decode_s[sessions])

    async def warm(self) -> None:
        """Open a session, and compute its prompt a few times; the first one does not count."""
        await self.fill()
        self._prefill_s.clear()
        for _ in range(PROMPTS):
            await self._prompt(0)

    async def fill(self) -> None:
        """Open one more session, with a prompt of the whole context."""
        await self.engine.open_session(self._sessions, pages_for(self._context))
        self._sessions += 1
        await self._prompt(self._sessions - 1)

    async def decode(self, sessions: int) -> None:
        """Some steps of so many sessions. Each writes the last position of the context anew, and so reads it all."""
        last = self._context - 1
        steps = [self._step(slot, last, last + 1) for slot in range(sessions)]
        times = [await self._timed(steps) for _ in range(max(FEWEST, TOKENS // sessions))]
        self._decode_s[sessions] += times[len(times) // COLD :]
        await trio.sleep(SETTLE_S)

    async def _prompt(self, slot: int) -> None:
        ends = [*range(CHUNK, self._context, CHUNK), self._context]
        chunks = [self._step(slot, first, last) for first, last in zip([0, *ends], ends, strict=False)]
        self._prefill_s.append(sum([await self._timed([chunk]) for chunk in chunks]))

    def _step(self, slot: int, first: int, last: int) -> Step:
        """Ids that are spread over the vocabulary; the next one is drawn at the end of the context alone."""
        vocabulary = self.engine.facts.vocabulary
        ids = [(1 + slot * 7919 + at * 104_729) % vocabulary for at in range(first, last)]
        sample = GREEDY if last == self._context else None
        return Step(slot, first, pack_ids(ids), Codec.IDS, Codec.IDS, sample)

    async def _timed(self, steps: Sequence[Step]) -> float:
        """Seconds of computing. Raises EngineError where a step fails."""
        before_s = self.engine.busy_s
        for output in await self.engine.step(steps):
            if output.code:
                raise EngineError(f"{self.name} failed a step: {output.text}")
        return self.engine.busy_s - before_s
