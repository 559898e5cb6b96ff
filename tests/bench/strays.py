"""What one message costs a node that names nothing: a session, a call or a file that is not there.

Whoever has a link may send them without end. A stranger sends many of a kind, and then a ping; what the node's process
used until the pong came, its own part of answers among it, is shared among them.
"""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import trio

from p2pinfer.core.records.pricing import Usage
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import encode
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import domain
from p2pinfer.core.values.units import Codec, ModelId, RecordId, SessionId
from p2pinfer.core.wire.frames import FrameDecoder, encode_frame
from p2pinfer.core.wire.messages import (
    Ack,
    AskContacts,
    AskFile,
    AskOffers,
    CallRefused,
    Contacts,
    FilePart,
    Message,
    Offers,
    Ping,
    Pong,
)
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Credit,
    Finish,
    Forward,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionMessage,
    SessionRefused,
    Signed,
    Stored,
    pack_ids,
)
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store
from p2pinfer.overlay.pipe import Pipe
from tests.bench.figures import Bound, Figure
from tests.disk.tiny import tiny_folder
from tests.hostile.strangers import Deal, hello, least, new_key, open_stranger, write
from tests.hostile.victims import Victim, open_victim

ABOUT = "microseconds of a node for one message of a stranger that names nothing"
COUNT: Final = 1000  # messages at once: far within what reading may cost
ALONE: Final = 300  # messages that come one by one
APART_S: Final = 0.001  # between two of these
RUNS: Final = 3
BOUND_US: Final = 50.0
REST_S: Final = 1.5  # between two runs, in which what reading has cost is had back
LATE_S: Final = 0.3  # for what a message begins beside reading, such as a look into the journal
LAST: Final = Ping(4242)  # its pong says that all before it is read


def run() -> Sequence[Figure]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="p2pinfer-bench-")))
        store = Store(root / "store")
        import_model(str(tiny_folder(root / "tiny", num_hidden_layers=3, max_position_embeddings=4096)), store)
        victim = stack.enter_context(open_victim(root / "node", store.root))
        return trio.run(_run, victim)


async def _run(victim: Victim) -> Sequence[Figure]:
    async with open_stranger(victim.arena) as stranger:
        deal = await stranger.plan()
    return [await _figure(victim, name, messages) for name, messages in _kinds(deal).items()]


async def _figure(victim: Victim, name: str, messages: Sequence[Message]) -> Figure:
    at_once = [await _cost_us(victim, messages, len(messages)) for _ in range(RUNS)]
    alone = [await _cost_us(victim, messages[:ALONE], 1) for _ in range(RUNS)]
    detail = f"{COUNT} at once; {median(alone):.0f} us where each comes alone, and has to be waited for and decrypted"
    return Figure(name, median(at_once), Bound.BELOW, BOUND_US, "us", detail)


def _kinds(deal: Deal) -> dict[str, list[Message]]:
    """Messages of each kind, those of sessions each of another session."""
    kinds: dict[str, list[Message]] = {
        "Ping": [Ping(1)] * COUNT,
        "Ack": [Ack(0, 1)] * COUNT,
        "AskOffers": [AskOffers(call, b"", 64) for call in range(1, COUNT + 1)],
        "AskContacts": [AskContacts(call) for call in range(1, COUNT + 1)],
        "AskFile of no model": [
            AskFile(call, ModelId(bytes(32)), "config.json", 0, 1000) for call in range(1, COUNT + 1)
        ],
        "Offers, none": [Offers(0, ())] * COUNT,
        "Offers of no call": [Offers(7, ())] * COUNT,
        "Contacts of no call": [least(Contacts, call=7)] * COUNT,
        "FilePart of no call": [least(FilePart, call=7)] * COUNT,
        "CallRefused of no call": [least(CallRefused, call=7, code=Code.BUSY)] * COUNT,
    }
    # A contract that nobody signed under, so that nothing but the journal knows that it is none
    record = Receipt(
        RecordId(os.urandom(32)), 1, Usage(1, 0, 0, 0), 0, bytes(32), bytes(32), int(time.time()), 0, Code.NONE
    )
    body = encode(record)
    signature = deal.key.sign(domain(Receipt.TYPE), body)
    shapes: dict[str, SessionMessage] = {
        "Accept": least(Accept),
        "SessionRefused": least(SessionRefused, code=Code.BUSY),
        "Prompt": least(Prompt, ids=pack_ids([1])),
        "Forward": least(Forward, count=1, codec=Codec.F32.value, rows=bytes(64)),
        "Sampled": least(Sampled, ids=(1,)),
        "Finish": least(Finish, reason=Code.END),
        "Credit": least(Credit),
        "Propose": least(Propose),
        "Signed": least(Signed, receipt=body, signature=signature),
        "Stored": least(Stored),
        "Close": least(Close, code=Code.CANCELLED),
        "Resume": least(Resume),
        "Open of somebody else": deal.open,
    }
    for name, shape in shapes.items():
        kinds[name] = [replace(shape, session=SessionId(os.urandom(16))) for _ in range(COUNT)]
    return kinds


async def _cost_us(victim: Victim, messages: Sequence[Message], together: int) -> float:
    """Of one, where so many come in one write. A link that ends on the way ends the count."""
    frames = [encode_frame(message) for message in messages]
    async with victim.arena.pipes(new_key()) as pipes:
        pipe = await pipes.open()
        await write(pipe, hello())
        await trio.sleep(LATE_S)

        async def say() -> None:
            for first in range(0, len(frames), together):
                await pipe.write(b"".join(frames[first : first + together]))
                await trio.sleep(APART_S)
            await write(pipe, LAST)

        before = _used_us(victim)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            await _wait_read(pipe)
        await trio.sleep(LATE_S)
        cost_us = (_used_us(victim) - before) / len(messages)
    await trio.sleep(REST_S)
    return cost_us


async def _wait_read(pipe: Pipe) -> None:
    decoder = FrameDecoder()
    with trio.fail_after(60):
        while data := await pipe.read():
            decoder.feed(data)
            for message in iter(decoder.next_message, None):
                if isinstance(message, Pong) and message.at_us == LAST.at_us:
                    return
    raise AssertionError("the node closed the link")


def _used_us(victim: Victim) -> float:
    """Of the processor, by all threads of the node's process."""
    tasks = Path(f"/proc/{victim.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000
