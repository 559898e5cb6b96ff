"""Offers and links in a crowd: the directory's own code, a thousand times in one process, on a clock that jumps.

Links are as thin as can be: what is sent arrives after LATENCY_S, and its bytes are counted. So no ping is among them
(`python -m tests.bench idle` measures a node's own), and time passes as fast as the processor computes. Who dies does
so without a word, as in a power cut: who is linked to it notices when pings tell, who calls it waits in vain.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import trio
from trio.testing import MockClock

from p2pinfer.core.records.offer import ServingState
from p2pinfer.core.records.records import sign
from p2pinfer.core.swarm.coverage import thinnest
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.source import NOWHERE, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import PeerKey, Roles, Span
from p2pinfer.core.wire.message_codec import encode_message
from p2pinfer.core.wire.messages import MAX_BODY, MAX_OFFERS, VERSION, Hello, Message, Offers
from p2pinfer.overlay.calls import CALL_S
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.pipe import Address, peer_of
from p2pinfer.overlay.pulse import PING_S, QUIET_S, SILENT_PINGS
from p2pinfer.overlay.reach import REACH_S
from p2pinfer.overlay.word import Word, word_of
from tests.bench.figures import Bound, Figure
from tests.core.paid_route import MODEL, NOW, certificate_for, key, offer_of

ABOUT = "offers and links among 20, 200 and 1,000 nodes, of which 64 a minute die"
LATENCY_S: Final = 0.03
RENEW_S: Final = 20.0
LAYERS: Final = 30
SPANS: Final = tuple(Span(first, first + 10) for first in (0, 10, 20)) + tuple(
    Span(first, first + 8) for first in (0, 7, 15, 22)
)
SETTLE_S: Final = 120.0
WATCH_S: Final = 120.0
SEEN_S: Final = 600.0  # in which every node is dialled by somebody: it asks for it if nobody did
SILENT_S: Final = PING_S * SILENT_PINGS  # from the first ping that is not answered


class World:
    """Who is there. lots: decides what nobody knows, such as when the next ping of a link is due"""

    def __init__(self, nursery: trio.Nursery, lots: random.Random) -> None:
        self.nursery, self.lots = nursery, lots
        self.peers: dict[PeerKey, ThinNetwork] = {}
        self.bytes: Counter[PeerKey] = Counter()
        self.dialled: set[PeerKey] = set()


class ThinLink:
    """One end of a link. What the peer's end takes it takes as a message that came."""

    def __init__(self, network: "ThinNetwork", peer: "ThinNetwork", dialled: bool) -> None:
        self.peer, self.source, self.dialled = peer.key, NOWHERE, dialled
        self.came_s = trio.current_time()
        self.hello = Hello(VERSION, 0, MAX_BODY, 0, bytes(range(16)), "")
        self.dead: LinkDead | None = None
        self.far: ThinLink
        self._network, self._other = network, peer

    @contextmanager
    def charged(self) -> Iterator[None]:
        yield

    def send_nowait(self, message: Message) -> None:
        if self.dead is not None:
            raise self.dead
        self._network.world.bytes[self._network.key] += len(encode_message(message)) + 4
        if self._other.key in self._network.world.peers:
            self._other.nursery.start_soon(self._arrive, message)

    async def _arrive(self, message: Message) -> None:
        await trio.sleep(LATENCY_S)
        if self.far.dead is None and isinstance(message, Offers):
            for hear in self._other.hearers:
                hear(self.far, message)

    def close(self, code: Code, text: str = "") -> None:
        for end in (self, self.far):
            end.end(LinkDead(text or code.label, code))

    def end(self, why: LinkDead) -> None:
        if self.dead is None:
            self.dead = why
            self._network.held.pop(self.peer, None)
            for mourn in self._network.mourners:
                mourn(self, why)

    def fail(self) -> None:
        raise AssertionError("a node could not take what another one said")

    async def notice(self) -> None:
        """The peer is gone: nobody says so."""
        await trio.sleep(self._network.world.lots.uniform(0.0, QUIET_S) + SILENT_S)
        self.end(LinkDead("no answer", Code.SILENT))


class ThinNetwork:
    """`Network` and `Exchange` of one peer, as far as a directory uses them."""

    def __init__(self, world: World, key_: PeerKey, nursery: trio.Nursery) -> None:
        self.key, self.world, self.nursery = key_, world, nursery
        self.machine = Machine(lambda: NOW, world.lots)
        self.held: dict[PeerKey, ThinLink] = {}
        self.hearers: list[Callable[[Any, Offers], None]] = []
        self.mourners: list[Callable[[Any, LinkDead], None]] = []
        self.greet: Callable[[Any], None] = lambda link: None
        self._answers: dict[type[Message], Callable[[Any, Any], Any]] = {}

    def addresses(self) -> tuple[Address, ...]:
        return (Address(f"/ip4/198.51.100.77/tcp/40001/p2p/{peer_name(self.key)}"),) * 2

    def link(self, peer: PeerKey) -> ThinLink | None:
        return self.held.get(peer)

    def links(self) -> tuple[ThinLink, ...]:
        return tuple(self.held.values())

    def told(self, to: Source) -> Sequence[str]:
        return self.addresses()

    def may_tell(self, address: str, to: Source) -> bool:
        return True

    def may_dial(self, address: str, word: Source) -> bool:
        return True

    def neighbours(self) -> tuple[()]:
        return ()

    def dialable(self, peer: PeerKey, addresses: Sequence[str], word: Source) -> Sequence[str]:
        return addresses

    def asleep_s(self) -> float:
        return 0.0

    def directory_addresses(self) -> tuple[()]:
        return ()

    async def find(self, key_: bytes) -> tuple[()]:
        return ()

    async def dial(self, address: str) -> ThinLink:
        return await self.reach(peer_of(address), (), word_of(NOWHERE))

    async def reach(self, peer: PeerKey, addresses: Sequence[str], word: Word) -> ThinLink:
        await trio.sleep(4 * LATENCY_S)
        if (there := self.held.get(peer)) is not None:
            return there
        other = self.world.peers.get(peer)
        if other is None or self.key not in self.world.peers:
            await trio.sleep(REACH_S)
            raise LinkDead("nobody is there", Code.UNREACHABLE)
        near, far = ThinLink(self, other, True), ThinLink(other, self, False)
        near.far, far.far = far, near
        self.held[peer], other.held[self.key] = near, far
        self.world.dialled.add(peer)
        self.greet(near)
        other.greet(far)
        return near

    def answer(self, ask: type[Message], answering: Callable[[Any, Any], Any]) -> None:
        self._answers[ask] = answering

    async def call(self, link: ThinLink, ask: Callable[[int], Message], expected: type[Message]) -> Message:
        question = ask(1)
        self.world.bytes[self.key] += len(encode_message(question)) + 4
        await trio.sleep(LATENCY_S)
        other = self.world.peers.get(link.peer)
        if link.dead is not None:
            raise link.dead
        if other is None:
            await trio.sleep(CALL_S)
            raise Refused(f"no answer within {CALL_S:.0f} s", Code.SILENT)
        answer: Message = await other._answers[type(question)](link.far, question)
        self.world.bytes[other.key] += len(encode_message(answer)) + 4
        await trio.sleep(LATENCY_S)
        return answer

    def engaged(self) -> Collection[PeerKey]:
        return ()

    def die(self) -> None:
        del self.world.peers[self.key]
        for link in self.links():
            self.world.nursery.start_soon(link.far.notice)
        self.nursery.cancel_scope.cancel()


@dataclass
class Member:
    network: ThinNetwork
    directory: Directory
    born_s: float


class Crowd:
    """Nodes that come and go."""

    def __init__(self, nursery: trio.Nursery, lots: random.Random) -> None:
        self.world, self.members = World(nursery, lots), dict[PeerKey, Member]()
        self._nursery, self._lots, self._count = nursery, lots, 0

    async def add(self) -> None:
        """One more node; it knows one of those that are there."""
        self._count += 1
        signer = key(f"crowd {self._count}")
        there = [member for peer, member in self.members.items() if peer in self.world.peers]
        met = self._lots.choice(there).network.addresses()[:1] if there else ()
        here = trio.Event()
        self._nursery.start_soon(self._live, signer, SPANS[self._count % len(SPANS)], met, here)
        await here.wait()

    async def _live(self, signer: PrivateKey, span: Span, met: Sequence[str], here: trio.Event) -> None:
        async with trio.open_nursery() as inner:
            network = ThinNetwork(self.world, signer.public, inner)
            directory = Directory(network, network, met)  # type: ignore[arg-type]
            network.greet = directory.greet
            self.world.peers[signer.public] = network
            self.members[signer.public] = Member(network, directory, trio.current_time())
            inner.start_soon(directory.keep_meeting)
            inner.start_soon(directory.keep_pulling)
            inner.start_soon(self._renew, signer, span, directory)
            here.set()
        del self.members[signer.public]

    async def _renew(self, signer: PrivateKey, span: Span, directory: Directory) -> None:
        roles = (Roles.HEAD if span.first == 0 else Roles.MIDDLE) | (
            Roles.TAIL if span.last == LAYERS else Roles.MIDDLE
        )
        offer, certificate = offer_of(signer, span, roles).record, certificate_for(signer)
        addresses = self.members[signer.public].network.addresses()
        seq = 0
        while True:
            seq += 1
            state = ServingState.JOINING if seq == 1 else ServingState.SERVING
            signed = sign(replace(offer, seq=seq, state=state), signer)
            directory.announce(KnownOffer(signed, certificate, addresses, trio.current_time()))
            await trio.sleep(1.0 if seq == 1 else RENEW_S)

    async def churn(self, a_minute: int) -> None:
        while True:
            await trio.sleep(60 / a_minute)
            self._lots.choice(list(self.members.values())).network.die()
            await self.add()


@dataclass
class Seen:
    """What was measured of a crowd, a node and second where nothing else is said."""

    bytes_s: float
    cpu: float
    degree: float
    most_links: int
    known: float
    dead: float  # part of all offers in answers
    uncovered: int  # answers that do not cover the model, of so many
    answers: int
    undialled: int  # of those that were there for as long as the crowd had to settle


async def watch(count: int, a_minute: int, settle_s: float, watch_s: float, seed: int = 1) -> Seen:
    lots = random.Random(seed)
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery, lots)
        for _ in range(count):
            await crowd.add()
            await trio.sleep(10 / count)
        if a_minute:
            nursery.start_soon(crowd.churn, a_minute)
        await trio.sleep(settle_s)
        crowd.world.bytes.clear()
        crowd.world.dialled = {peer for peer in crowd.world.dialled if peer in crowd.world.peers}
        cpu, began = time.process_time(), trio.current_time()
        dead = told = uncovered = answers = 0
        while trio.current_time() < began + watch_s:
            await trio.sleep(10)
            for member in lots.sample(list(crowd.members.values()), min(20, count)):
                answer = await answer_of(member)
                told += len(answer)
                dead += sum(known.node not in crowd.world.peers for known in answer)
                answers += 1
                uncovered += not covered(answer)
        cpu = time.process_time() - cpu
        settled = [peer for peer, member in crowd.members.items() if member.born_s < trio.current_time() - settle_s]
        seen = Seen(
            sum(crowd.world.bytes.values()) / count / watch_s,
            cpu / count / watch_s,
            sum(len(one.network.held) for one in crowd.members.values()) / len(crowd.members),
            max(len(one.network.held) for one in crowd.members.values()),
            sum(len(one.directory.offers()) for one in crowd.members.values()) / len(crowd.members),
            dead / max(1, told),
            uncovered,
            answers,
            sum(peer not in crowd.world.dialled for peer in settled),
        )
        nursery.cancel_scope.cancel()
    return seen


async def answer_of(member: Member) -> list[KnownOffer]:
    """Offers that a node would tell a client that knows none."""
    directory = member.directory
    own = [directory.own] if directory.own is not None else []
    others = directory.table.spread(trio.current_time(), MODEL, MAX_OFFERS - len(own))
    return [*own, *others]


def covered(answer: Sequence[KnownOffer]) -> bool:
    return thinnest(known.offer.record for known in answer) > 0


def measure(count: int, a_minute: int = 0, settle_s: float = SETTLE_S, watch_s: float = WATCH_S, seed: int = 1) -> Seen:
    return trio.run(watch, count, a_minute, settle_s, watch_s, seed, clock=MockClock(autojump_threshold=0))


def run() -> Sequence[Figure]:
    few, many = measure(20), measure(200)
    crowd = measure(1000, 64, SEEN_S, 60.0)
    how = f"in {WATCH_S:.0f} s, without pings; {many.known:.0f} offers known"
    return [
        Figure("20 nodes idle, offers", few.bytes_s, Bound.BELOW, 500, "B/s", f"sent by each, {few.degree:.1f} links"),
        Figure("200 nodes idle, offers", many.bytes_s, Bound.BELOW, 500, "B/s", f"sent by each {how}"),
        Figure("200 nodes idle, links", many.degree, Bound.BELOW, 13, "", f"{many.most_links} at most"),
        Figure(
            "200 nodes idle, CPU", 100 * many.cpu, Bound.BELOW, 0.3, "%", "of a core each, the simulation's among it"
        ),
        Figure("1,000 nodes, dead in answers", 100 * crowd.dead, Bound.BELOW, 10, "%", "64 die a minute"),
        Figure("1,000 nodes, no route in an answer", crowd.uncovered, Bound.BELOW, 1, "", f"of {crowd.answers}"),
        Figure("1,000 nodes, dialled by nobody", crowd.undialled, Bound.BELOW, 1, "", "of those there for ten minutes"),
        Figure(
            "1,000 nodes, offers", crowd.bytes_s, Bound.BELOW, 1000, "B/s", f"sent by each; {crowd.degree:.1f} links"
        ),
    ]
