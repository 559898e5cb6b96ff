"""The speed of a loaded shard: measured once before it serves, so that the first offer tells the truth.

The same steps warm the engine up. What is measured later, batch by batch, is `schedule.Speed`.
"""

from dataclasses import dataclass
from typing import Final

from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.sessions.pages import PAGE
from p2pinfer.core.sessions.schedule import BatchCost
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.values.errors import EngineError
from p2pinfer.core.values.units import Codec, Roles, row_bytes
from p2pinfer.node.shard import LoadedSpan

PREFILL: Final = 64  # positions
DECODES: Final = 6  # steps of one position, of which the first is not counted
SLOT: Final = 0  # sessions are numbered from 1


@dataclass(frozen=True, slots=True)
class Measured:
    """Positions a second through the whole span."""

    prefill: float
    decode: float
    speed: BatchCost


async def measure(shard: LoadedSpan) -> Measured:
    """Run a short prompt and a few decode steps of zeros."""
    engine = shard.engine
    await engine.open_session(SLOT, -(-(PREFILL + DECODES) // PAGE))
    try:
        await _timed(shard, 0, PREFILL)  # the first one pays for what torch sets up
        prefill_s = await _timed(shard, 0, PREFILL)
        decode_s = sorted([await _timed(shard, PREFILL + at, 1) for at in range(DECODES)][1:])
    finally:
        engine.close_session(SLOT)
    step_s = decode_s[len(decode_s) // 2]
    speed = BatchCost().observe(1, step_s).observe(PREFILL, prefill_s)
    return Measured(PREFILL / prefill_s, 1 / step_s, speed)


async def _timed(shard: LoadedSpan, position: int, count: int) -> float:
    """Seconds of computing for one step. Raises EngineError if it fails."""
    head, tail = Roles.HEAD in shard.roles, Roles.TAIL in shard.roles
    codec_in = Codec.IDS if head else Codec.BF16
    data = bytes(count * row_bytes(codec_in, shard.manifest.hidden))
    before_s = shard.engine.busy_s
    step = Step(SLOT, position, data, codec_in, Codec.IDS if tail else Codec.BF16, GREEDY if tail else None)
    output = (await shard.engine.step([step]))[0]
    if output.code:
        raise EngineError(f"the engine failed its first steps: {output.text}")
    return shard.engine.busy_s - before_s
