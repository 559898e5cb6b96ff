"""What row hashes and receipts cost, as a share of a stage's time (figure 6).

The calls a session makes for every position (leaves of the rows in and out, the commitment, whether a receipt is due)
and at every cadence (the proposal, its two writes to the journal, the client's signature checked) are made here for a
middle stage as the node makes them, beside steps of an engine with the same layers. CPU time of the whole process is
counted, the journal's thread included; the client's signing is not, nor is waiting for the disk, for steps wait for
neither.

Sessions settle in tasks of their own, as in the node, so that receipts that are due at one step share commits. The
figure is of sessions that began together; `alone` says what a step costs when each receipt has its commits to itself.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import trio

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import countersign, sign
from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.values.keys import domain
from p2pinfer.core.values.units import Codec, SessionId, Span, row_bytes
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.engine.door import Engine
from p2pinfer.engine.process import open_engine
from p2pinfer.node.defaults import decided
from p2pinfer.node.settings import Serve
from p2pinfer.node.shard import shard_spec
from tests.bench.figures import Bound, Figure
from tests.bench.setting import MEMORY_MB, RUNS, demo_model
from tests.core.paid_route import CLIENT, LIMITS, NODES, NOW, SECRET, certificate_for, contract_on, route_offers

ABOUT = "row hashes and receipts, of a stage's time, cadence 128"
PROMPT = 32
CADENCE = LIMITS.cadence
POSITIONS = 1024  # counted for each session: eight receipts
STEPS = 48
BOUNDS = {1: 1.0, 16: 3.0}  # percent, by streams


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    store, model = demo_model()
    spec = shard_spec(store, model, Span(10, 20), decided(Serve(threads=1, memory_mb=MEMORY_MB), store, model))
    figures = []
    async with open_engine(spec) as engine:
        row = await _row(model.manifest.hidden)
        await _counted_s(1, row, 0)  # what is loaded and set up at a first receipt costs once
        for streams, bound in BOUNDS.items():
            step_s, counted_s, alone_s = await _in_turn(engine, streams, row)
            detail = (
                f"{1e6 * counted_s:.0f} us (alone {1e6 * alone_s:.0f}) "
                f"a step of {1e3 * step_s:.1f} ms with {streams} rows, 10 layers; {RUNS} runs in turn"
            )
            share = 100 * counted_s / step_s
            figures.append(Figure(f"receipts, {streams} streams", share, Bound.BELOW, bound, "%", detail))
    return figures


async def _in_turn(engine: Engine, streams: int, row: bytes) -> tuple[float, float, float]:
    """Seconds of a step, of counting for it, and of counting where each receipt has its commits to itself: medians."""
    steps_s, counted_s, alone_s = [], [], []
    for _ in range(RUNS):
        steps_s.append(await _step_s(engine, streams, row))
        counted_s.append(await _counted_s(streams, row, 0))
        alone_s.append(await _counted_s(streams, row, CADENCE // streams))
    return median(steps_s), median(counted_s), median(alone_s)


async def _row(width: int) -> bytes:
    """A wire row that an engine takes: what the head makes of an id."""
    store, model = demo_model()
    spec = shard_spec(store, model, Span(0, 1), decided(Serve(threads=1, memory_mb=MEMORY_MB), store, model))
    async with open_engine(spec) as head:
        await head.open_session(0, 1)
        row = (await head.step([Step(0, 0, pack_ids([1]), Codec.IDS, Codec.Q8O4)]))[0].data
    assert len(row) == row_bytes(Codec.Q8O4, width)
    return row


async def _step_s(engine: Engine, streams: int, row: bytes) -> float:
    """Median seconds of a decode step."""
    for slot in range(streams):
        await engine.open_session(slot, pages_for(PROMPT + STEPS))
        await engine.step([Step(slot, 0, row * PROMPT, Codec.Q8O4, Codec.Q8O4)])
    steps_s = []
    for position in range(PROMPT, PROMPT + STEPS):
        before_s = engine.busy_s
        await engine.step([Step(slot, position, row, Codec.Q8O4, Codec.Q8O4) for slot in range(streams)])
        steps_s.append(engine.busy_s - before_s)
    for slot in range(streams):
        engine.close_session(slot)
    return median(steps_s)


async def _counted_s(streams: int, row: bytes, apart: int) -> float:
    """CPU seconds of counting for one step of so many sessions, each `apart` positions ahead of the one before."""
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        async with open_journal(Path(folder) / "journal.sqlite") as journal:
            await journal.certify(certificate_for(NODES[1]))
            prompts = [PROMPT + apart * at for at in range(streams)]
            accounts = [await _account(journal, prompt) for prompt in prompts]
            for account, prompt in zip(accounts, prompts, strict=True):
                _count(account, 0, row * prompt, prompt)
            client = _Client()
            began = time.process_time()
            for _ in range(POSITIONS):
                for account in accounts:
                    _count(account, account.committed, row, 1)
                if due := [account for account in accounts if account.is_due]:
                    async with trio.open_nursery() as nursery:
                        for account in due:
                            nursery.start_soon(_settle, account, journal, client)
            return (time.process_time() - began - client.spent_s) / POSITIONS


class _Client:
    """Signs, and counts the CPU seconds of it."""

    spent_s = 0.0

    def sign(self, body: bytes) -> bytes:
        began = time.thread_time()
        signature = CLIENT.sign(domain(Receipt.TYPE), body)
        self.spent_s += time.thread_time() - began
        return signature


async def _account(journal: Journal, prompt: int) -> StageAccount:
    offer = route_offers()[1]
    terms = replace(contract_on(offer, prompt=prompt), nonce=os.urandom(16), codecs=(Codec.Q8O4, Codec.Q8O4))
    contract = countersign(sign(terms, CLIENT), NODES[1])
    await journal.agree(contract, SessionId(os.urandom(16)))
    return StageAccount(contract, SECRET, NODES[1])


def _count(account: StageAccount, position: int, rows: bytes, count: int) -> None:
    account.add_inputs(position, rows, count)
    account.add_outputs(position, rows, count)
    account.commit(position + count)


async def _settle(account: StageAccount, journal: Journal, client: _Client) -> None:
    for proposal in account.due(NOW):
        await journal.propose(proposal.signed)
        complete = account.sign(proposal.signed.body, client.sign(proposal.signed.body))
        assert complete is not None
        await journal.complete(complete)
