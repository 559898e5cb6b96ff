"""One stream through three stages against the same engine alone, both with one thread (figure 1).

Where a cache is shared with other guests of a machine, weights that are read again at once may still lie in it, and
those of a stage, which waits for the others first, have gone. So the engine is also measured at the stages' pace: that
it then takes longer is no cost of messages.
"""

from collections.abc import Sequence
from typing import Final

import trio

from p2pinfer.core.values.units import Numerics
from tests.bench.figures import Bound, Comparison, Figure, rate_between
from tests.bench.setting import FIRST, LAST, RUNS, ask, decode_alone, open_stages, open_whole

ABOUT = "three stages on loopback, one stream, links warm, tokens 16 to 128"
# A step in int8 takes a fifth of the time, and the messages between the stages take what they take
BOUNDS: Final = {Numerics.I8G32_1: 0.75, Numerics.BF16_1: 0.80}
PROMPT = "The history of the motor car begins with"


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    return [figure for numerics, bound in BOUNDS.items() for figure in await _figures(numerics, bound)]


async def _figures(numerics: Numerics, bound: float) -> Sequence[Figure]:
    ours, alone, paced = [], [], []
    async with open_stages(3, numerics) as (client, _), open_whole(1, numerics) as engine:
        await ask(client, PROMPT)  # links, caches and codecs are warm after it
        await decode_alone(engine, [PROMPT])
        for _ in range(RUNS):
            ours.append(rate_between(await ask(client, PROMPT), FIRST, LAST))
            alone.append(rate_between(await decode_alone(engine, [PROMPT]), FIRST, LAST))
            at_our_pace = await decode_alone(engine, [PROMPT], every_s=1 / ours[-1])
            paced.append(rate_between(at_our_pace, FIRST, LAST))
    return [
        _figure(f"one stream, of the engine alone, {numerics.label}", bound, Comparison(ours, alone)),
        _figure(f"the same, of the engine at the stages' pace, {numerics.label}", bound, Comparison(ours, paced)),
    ]


def _figure(name: str, bound: float, both: Comparison) -> Figure:
    return Figure(name, both.ratio, Bound.AT_LEAST, bound, "x", str(both))
