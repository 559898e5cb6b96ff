"""Strangers in the hands of a test: a key, a link to the node, and whatever one likes to say on it."""

import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import trio

from p2pinfer.client.contracts import Order, Plan, StagePlan, make_plan
from p2pinfer.core.records.records import ZEROS, sign
from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.swarm.offers import KnownOffer, verify_relayed
from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, PeerKey, Roles, SessionId, Span
from p2pinfer.core.wire.frames import FrameDecoder, encode_frame
from p2pinfer.core.wire.messages import MAX_BODY, MAX_OFFERS, VERSION, AskOffers, Goodbye, Hello, Message, Offers
from p2pinfer.core.wire.session_messages import Neighbour, Open, Prompt, SessionMessage, pack_ids
from p2pinfer.overlay.greeting import Greeting, new_greeting
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Pipe, leads_to

from .arena import Arena

LAYERS = 3  # of the tiny model
KEPT = 256  # messages of those that came
HEAR_S = 20.0  # for an answer that has to come
ASK_AGAIN_S = 0.05
ANY_PRICE = (1 << 53) - 1
IDS = tuple(b"hello")

M = TypeVar("M", bound=Message)


def new_key() -> PrivateKey:
    return PrivateKey(os.urandom(32))


class Ears:
    """A receiver that keeps what came last, and does nothing with it."""

    def __init__(self) -> None:
        self.came: deque[tuple[Link, Message]] = deque(maxlen=KEPT)
        self.up: list[Link] = []
        self.closed: list[tuple[PeerKey, LinkDead]] = []
        self._changed = trio.Event()

    def on_link(self, link: Link) -> None:
        self.up.append(link)
        self._wake()

    def on_message(self, link: Link, message: Message) -> None:
        self.came.append((link, message))
        self._wake()

    def on_closed(self, link: Link, why: LinkDead) -> None:
        self.closed.append((link.peer, why))
        self._wake()

    def needed(self) -> Collection[PeerKey]:
        """Everybody: links here last as long as a test wants them."""
        return {link.peer for link in self.up}

    async def wait(self, found: Callable[[], Any]) -> Any:
        """Wait until something is found. Raises trio.TooSlowError after HEAR_S."""
        with trio.fail_after(HEAR_S):
            while not (result := found()):
                await self._changed.wait()
        return result

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@dataclass
class Stranger:
    """A peer that the test speaks for. offers: what it has learned."""

    key: PrivateKey
    network: Network
    ears: Ears
    address: str

    async def link(self) -> Link:
        """The link to the node, or a new one."""
        return await self.network.dial(self.address)

    async def say(self, *messages: Message) -> None:
        """On the link to the node, all in one write."""
        link = await self.link()
        with self.network.turn:
            for message in messages:
                link.send_nowait(message)

    async def hear(self, shape: type[M], which: Callable[[M], bool] = lambda message: True) -> M:
        """The first message of a kind that came and was not heard before."""

        def found() -> M | None:
            for at, (_, message) in enumerate(self.ears.came):
                if isinstance(message, shape) and which(message):
                    del self.ears.came[at]
                    return message
            return None

        heard: M = await self.ears.wait(found)
        return heard

    async def wait_closed(self) -> LinkDead:
        """How the link to the node ended, once it has."""
        why: LinkDead = (await self.ears.wait(lambda: self.ears.closed))[-1][1]
        return why

    async def offer(self) -> KnownOffer:
        """The node's own offer, once it serves and has one within its life."""
        node = leads_to(self.address)
        while True:
            for told in (await self._asked()).offers[:1]:  # the sender's own comes first
                known = verify_relayed(told, trio.current_time(), time.time())
                if known.node == node:
                    return known
            await trio.sleep(ASK_AGAIN_S)

    async def _asked(self) -> Offers:
        call = int.from_bytes(os.urandom(3), "big") + 1
        await self.say(AskOffers(call, b"", MAX_OFFERS))
        return await self.hear(Offers, lambda offers: offers.call == call)

    async def plan(self, prompt: int = len(IDS), max_tokens: int = 8, known: KnownOffer | None = None) -> "Deal":
        """Rightly signed contracts for the whole model, by an offer that is known, or asked for; see `Deal`."""
        known = known or await self.offer()
        record = known.offer.record
        stage = StagePlan(known.offer, known.addresses, record.span, known.certificate.record.not_after)
        sampling = SamplingRecord(0, 0, 1_000_000, 0, max_tokens, ())
        order = Order(record.span.last, prompt, sampling, Codec.F32, ANY_PRICE)
        made = make_plan(self.key, [stage], order, Machine())
        return Deal(self.key, made)

    def neighbour(self, addresses: Sequence[str] | None = None) -> Neighbour:
        """Itself, as an Open names it."""
        return Neighbour(self.key.public, tuple(self.network.addresses() if addresses is None else addresses)[:8])


@dataclass(frozen=True)
class Deal:
    """A contract of a solo node, rightly signed, and what else may be made of it by the same hand."""

    key: PrivateKey
    plan: Plan

    @property
    def session(self) -> SessionId:
        return self.plan.session

    @property
    def open(self) -> Open:
        return self.plan.opens[0]

    def again(self) -> "Deal":
        """The same terms under another session; the contract is another too."""
        session = SessionId(os.urandom(16))
        contract = sign(replace(self.plan.contracts[0].record, nonce=os.urandom(16)), self.key)
        signed = {"contract": contract.body, "signature": contract.signatures[0]}
        opens = (replace(self.open, session=session, **signed),)  # type: ignore[arg-type]
        return Deal(self.key, replace(self.plan, session=session, contracts=(contract,), opens=opens))

    def changed(self, message: Open | None = None, **terms: object) -> Open:
        """An Open whose contract has other terms, signed all the same."""
        signed = sign(replace(self.plan.contracts[0].record, **terms), self.key)  # type: ignore[arg-type]
        return replace(message or self.open, contract=signed.body, signature=signed.signatures[0])

    def part(self, span: Span, before: Neighbour, after: Neighbour, codec: Codec = Codec.F32) -> Open:
        """The Open of a node that is to serve a part of its layers, between these two."""
        record, layers = self.plan.contracts[0].record, self.plan.contracts[0].record.span.last
        head, tail = span.first == 0, span.last == layers
        roles = (Roles.HEAD if head else Roles.MIDDLE) | (Roles.TAIL if tail else Roles.MIDDLE)
        changed = self.changed(
            span=span,
            roles=roles,
            codecs=(Codec.IDS if head else codec, Codec.IDS if tail else codec),
            params=record.params if tail else ZEROS,
        )
        far_end = () if head == tail else (after if head else before,)
        return replace(
            changed,
            sampling=changed.sampling if tail else b"",
            predecessor=() if head else (before,),
            successor=() if tail else (after,),
            far_end=far_end,
        )

    def prompt(self, ids: Sequence[int] = IDS) -> Prompt:
        return Prompt(self.session, self.open.epoch, pack_ids(ids))


@asynccontextmanager
async def open_stranger(
    arena: Arena, key: PrivateKey | None = None, greeting: Greeting | None = None
) -> AsyncIterator[Stranger]:
    key, ears = key or new_key(), Ears()
    async with arena.network(key, ears, greeting or new_greeting()) as network:
        yield Stranger(key, network, ears, arena.address)


# Raw pipes


def hello(**changes: object) -> Hello:
    """A Hello as it should be, but for the changes."""
    return forged(Hello(VERSION, 0, MAX_BODY, int(time.time() * 1000), os.urandom(16), "stranger"), **changes)


def forged(message: M, **changes: object) -> M:
    """A message with other fields, which its own constructor might refuse."""
    made = object.__new__(type(message))
    for name, _ in fields.kinds_of(type(message)):
        object.__setattr__(made, name, changes.get(name, getattr(message, name)))
    return made


def least(shape: type[M], **given: object) -> M:
    """A message with the least of everything but what is given."""
    found: dict[str, object] = {}
    for name, kind in fields.kinds_of(shape):
        match kind:
            case fields.UInt():
                found[name] = 0
            case fields.Bin(size):
                found[name] = bytes(size)
            case fields.Blob():
                found[name] = b""
            case fields.Text():
                found[name] = ""
            case _:
                found[name] = ()
    return shape(**found | given)


async def write(pipe: Pipe, *messages: Message) -> None:
    await pipe.write(b"".join(map(encode_frame, messages)))


async def read_goodbye(pipe: Pipe) -> Code:
    """The code of the Goodbye that has to come."""
    decoder = FrameDecoder()
    with trio.fail_after(HEAR_S):
        while data := await pipe.read():
            decoder.feed(data)
            for message in iter(decoder.next_message, None):
                if isinstance(message, Goodbye):
                    return Code(message.code)
    raise AssertionError("no goodbye came")


def of_session(message: Message, session: SessionId) -> bool:
    return isinstance(message, SessionMessage) and message.session == session
