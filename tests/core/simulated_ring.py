"""A ring of stages in simulated time, each with a processor of its own: `next_batch` decides, costs are as measured.

What it shows is the scheduler's doing alone: nothing is lost, and nothing waits for a core or a disk.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final

from p2pinfer.core.sessions.schedule import GROUPS, BatchCost, ReadySession, next_batch

LEAST_S: Final = 0.0023  # ten layers of the demo model in int8 on one core: a batch of one position
DECODE_S: Final = 0.00028  # and each position of many
PREFILL_S: Final = 0.0004
NODE_S: Final = 0.0012  # that a batch takes in messages, hashes and books
CHUNK: Final = 256  # positions of a prompt in one step
CREDIT: Final = 2 * CHUNK
NOISE: Final = 0.2  # batches take up to so much longer
ROW: Final = 700  # bytes


@dataclass(eq=False)
class Stream:
    """A session on all stages, or a prompt that asks for one id. received, computed: positions, by stage"""

    slot: int
    prompt: int
    lasts: bool
    received: list[int]
    computed: list[int]
    served: list[int]
    waited: list[bool]
    taken: list[bool]
    ids_s: list[float] = field(default_factory=list)

    def decodes(self, stage: int) -> bool:
        return self.computed[stage] >= self.prompt


class Ring:
    """rate: bytes a second that a stage sends; 0 is without bound"""

    def __init__(self, stages: int, delay_s: float, rate: float = 0.0, seed: int = 0) -> None:
        self.now = 0.0
        self.streams: list[Stream] = []
        self.on_end: Callable[[], object] = lambda: None
        self._ended: list[Stream] = []
        self._stages, self._delay_s, self._rate = range(stages), delay_s, rate
        self._random, self._number = Random(seed), count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._busy, self._turns = [False] * stages, [0] * stages
        self._line_s = [0.0] * stages  # when the line out of a stage is free
        self._speeds = [BatchCost(LEAST_S, PREFILL_S)] * stages

    @property
    def prefilled(self) -> int:
        """Positions of prompts that are through all stages."""
        return sum(one.computed[-1] for one in (*self.streams, *self._ended) if not one.lasts)

    def add(self, prompt: int, *, lasts: bool) -> Stream:
        zeros, free = ([0] * len(self._stages) for _ in range(3)), ([False] * len(self._stages) for _ in range(2))
        stream = Stream(next(self._number), prompt, lasts, *zeros, *free)
        stream.received[0] = prompt
        self.streams.append(stream)
        self.after(0.0, self._begin, 0)
        return stream

    def after(self, delay_s: float, do: Callable[..., None], *what: object) -> None:
        heappush(self._events, (self.now + delay_s, next(self._number), do, what))

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now, _, do, what = heappop(self._events)
            do(*what)
        self.now = until_s

    def _ready(self, stream: Stream, stage: int) -> int:
        if stream.taken[stage]:
            return 0
        last = stage == self._stages[-1]
        granted = stream.received[stage] if last else stream.computed[stage + 1] + CREDIT
        return max(0, min(stream.received[stage], granted) - stream.computed[stage])

    def _begin(self, stage: int) -> None:
        if self._busy[stage]:
            return
        waiting = [
            ReadySession(one.slot, min(ready, CHUNK), one.decodes(stage), one.served[stage], one.waited[stage])
            for one in self.streams
            if (ready := self._ready(one, stage))
        ]
        decoding = sum(one.decodes(stage) for one in self.streams)
        by_slot = {one.slot: one for one in self.streams}
        batch = [(by_slot[slot], n) for slot, n in next_batch(waiting, self._speeds[stage], decoding, GROUPS)]
        if not batch:
            return
        self._busy[stage] = True
        work_s = sum(n * (DECODE_S if one.decodes(stage) else PREFILL_S) for one, n in batch)
        took_s = max(LEAST_S, work_s) * (1 + NOISE * self._random.random())
        holds = any(not one.decodes(stage) for one, _ in batch)
        for one, _ in batch:
            self._turns[stage] += 1
            one.served[stage], one.waited[stage], one.taken[stage] = self._turns[stage], False, True
        self.after(took_s + NODE_S, self._finish, stage, batch, took_s, holds)

    def _finish(self, stage: int, batch: list[tuple[Stream, int]], took_s: float, holds: bool) -> None:
        self._busy[stage] = False
        for one in self.streams:
            one.waited[stage] |= holds and one.decodes(stage) and bool(self._ready(one, stage))
        self._speeds[stage] = self._speeds[stage].observe(sum(n for _, n in batch), took_s)
        for one, n in batch:
            one.taken[stage] = False
            one.computed[stage] += n
            if stage != self._stages[-1]:
                self._send(stage, one, n)
            elif one.decodes(stage):
                self.after(self._delay_s, self._take_id, one)
        for behind in (stage, *range(stage)):  # which have credit again
            self.after(0.0, self._begin, behind)

    def _send(self, stage: int, stream: Stream, rows: int) -> None:
        if self._rate:
            self._line_s[stage] = max(self._line_s[stage], self.now) + rows * ROW / self._rate
        self.after(max(0.0, self._line_s[stage] - self.now) + self._delay_s, self._receive, stage + 1, stream, rows)

    def _receive(self, stage: int, stream: Stream, rows: int) -> None:
        stream.received[stage] += rows
        self._begin(stage)

    def _take_id(self, stream: Stream) -> None:
        stream.ids_s.append(self.now)
        if stream.lasts:
            self._receive(0, stream, 1)
        else:
            self.streams.remove(stream)
            self._ended.append(stream)
            self.on_end()
