"""The engines of this machine: how near the int8 kernel comes to the memory's speed, and how far torch is behind it.

Measured as `p2pinfer bench engine` does: each engine in a process of its own, timed by its own clock, in turn.
"""

from collections.abc import Sequence
from typing import Final

import trio

from p2pinfer.core.values.units import Numerics
from p2pinfer.diagnosis.engine_comparison import (
    ROUNDS,
    EngineComparison,
    EngineRow,
    Memory,
    Racer,
    Trial,
    compare,
    open_racer,
)
from tests.bench.figures import Bound, Figure
from tests.bench.setting import demo_model

ABOUT = "decode and prefill of the demo model: native and torch beside the memory's speed"
TRIAL: Final = Trial(threads=2, sessions=(1, 16, 64), context=256)
OVER_TORCH: Final = {1: 5.0, 16: 3.0, 64: 2.5}  # times torch's speed, by sessions
TRIALS: Final = tuple(Trial(threads, (1,), TRIAL.context) for threads in (1, 2))


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    store, model = demo_model()
    comparison = await compare(store, model, (Numerics.I8G32_1, Numerics.BF16_1), TRIAL, _unwatched)
    return [*_against_memory(comparison), *_against_torch(comparison), await _more_threads()]


def _unwatched(what: str, done: int, total: int) -> None:
    """Nobody looks."""


def _row(comparison: EngineComparison, numerics: Numerics, sessions: int) -> EngineRow:
    (row,) = [row for row in comparison.rows if (row.numerics, row.sessions) == (numerics, sessions)]
    return row


def _against_memory(comparison: EngineComparison) -> Sequence[Figure]:
    alone = _row(comparison, Numerics.I8G32_1, 1)
    assert alone.of_floor is not None and comparison.floor is not None
    detail = (
        f"{alone.engine}: {alone.decode:.0f} of {comparison.floor:.0f} tok/s at {comparison.bandwidth_gb_s:.1f} GB/s; "
        f"{_conditions()}"
    )
    return [Figure("int8, one session, of the memory floor", alone.of_floor, Bound.AT_LEAST, 0.80, "x", detail)]


def _against_torch(comparison: EngineComparison) -> Sequence[Figure]:
    figures = []
    for sessions, bound in OVER_TORCH.items():
        ours, theirs = (_row(comparison, numerics, sessions) for numerics in (Numerics.I8G32_1, Numerics.BF16_1))
        name = f"int8 over torch bf16, {sessions} session{'' if sessions == 1 else 's'}"
        detail = f"{ours.decode:.0f} of {theirs.decode:.0f} tok/s; {_conditions()}"
        figures.append(Figure(name, ours.decode / theirs.decode, Bound.AT_LEAST, bound, "x", detail))
    detail = f"{ours.prefill:.0f} of {theirs.prefill:.0f} tok/s; prompts of {TRIAL.context}, {TRIAL.threads} threads"
    figures.append(
        Figure("int8 over torch bf16, prefill", ours.prefill / theirs.prefill, Bound.AT_LEAST, 1.0, "x", detail)
    )
    return figures


async def _more_threads() -> Figure:
    """One session with one thread and with two, in turn."""
    store, model = demo_model()
    one, two = TRIALS
    async with (
        open_racer(store, model, Numerics.I8G32_1, one, _unwatched) as slow,
        open_racer(store, model, Numerics.I8G32_1, two, _unwatched) as fast,
    ):
        reads = await _in_turn(slow, fast)
    detail = (
        f"{fast.decode_speed(1):.0f} of {slow.decode_speed(1):.0f} tok/s; two threads read memory {reads:.2f} times as "
        f"fast; context {TRIAL.context}, {ROUNDS} rounds in turn"
    )
    ratio = fast.decode_speed(1) / slow.decode_speed(1)
    return Figure("int8, one session, two threads over one", ratio, Bound.AT_LEAST, 1.5, "x", detail)


async def _in_turn(slow: Racer, fast: Racer) -> float:
    """Decode; returned is how much faster two threads read the same bytes than one."""
    memories = [Memory(slow.bytes_per_token, trial) for trial in TRIALS]
    for _ in range(ROUNDS):
        for racer, memory in zip((slow, fast), memories, strict=True):
            await racer.decode(1)
            await memory.read()
    one, two = (memory.gb_s for memory in memories)
    return two / one if one and two else 0.0


def _conditions() -> str:
    return f"context {TRIAL.context}, {TRIAL.threads} threads, {ROUNDS} rounds in turn"
