"""Sixteen streams through three stages against one engine with sixteen sessions and two threads (figure 2)."""

from collections.abc import Sequence

import trio

from p2pinfer.core.values.units import Numerics
from tests.bench.figures import Bound, Comparison, Figure, rate_between, rate_together
from tests.bench.setting import FIRST, LAST, RUNS, decode_alone, gather_times, open_stages, open_whole

ABOUT = "16 streams at once through three stages, one thread each"
THINGS = (
    *("motor car", "bicycle", "steam engine", "printing press", "telephone", "railway", "compass", "clock"),
    *("telescope", "sailing ship", "windmill", "library", "lighthouse", "camera", "radio", "bridge"),
)
PROMPTS = [f"The history of the {thing} begins with" for thing in THINGS]


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    return [await _figure(numerics) for numerics in (Numerics.I8G32_1, Numerics.BF16_1)]


async def _figure(numerics: Numerics) -> Figure:
    ours, theirs = [], []
    async with open_stages(3, numerics) as (client, _), open_whole(2, numerics) as engine:
        await gather_times(client, PROMPTS)
        await decode_alone(engine, PROMPTS)
        for _ in range(RUNS):
            ours.append(rate_together(await gather_times(client, PROMPTS), FIRST))
            theirs.append(len(PROMPTS) * rate_between(await decode_alone(engine, PROMPTS), FIRST, LAST))
    both = Comparison(ours, theirs)
    name = f"16 streams, of the engine alone, {numerics.label}"
    return Figure(name, both.ratio, Bound.AT_LEAST, 0.55, "x", str(both))
