"""One stream through three stages against the same engine alone, both with one thread (figure 1)."""

from collections.abc import Sequence

import trio

from tests.bench.figures import Bound, Comparison, Figure, rate_between
from tests.bench.setting import FIRST, LAST, RUNS, ask, decode_alone, open_stages, open_whole

ABOUT = "three stages on loopback, one stream, links warm, tokens 16 to 128"
PROMPT = "The history of the motor car begins with"


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    ours, theirs = [], []
    async with open_stages(3) as (client, _), open_whole(threads=1) as engine:
        await ask(client, PROMPT)  # links, caches and codecs are warm after it
        await decode_alone(engine, [PROMPT])
        for _ in range(RUNS):
            ours.append(rate_between(await ask(client, PROMPT), FIRST, LAST))
            theirs.append(rate_between(await decode_alone(engine, [PROMPT]), FIRST, LAST))
    both = Comparison(ours, theirs)
    return [Figure("one stream, of the engine alone", both.ratio, Bound.AT_LEAST, 0.80, "x", str(both))]
