"""What strangers do to a node on purpose, again and again until they are stopped: the rows of a review, one each.

Each attack loops for ever. `python -m tests.hostile.attacks NAME ADDRESS SECONDS CPU` runs one in a process of its own,
held to so many cores. It says when it begins, and at the end as JSON what it took: CPU seconds, and how many times it
got through its loop.
"""

import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import trio
from Crypto.Util.asn1 import DerSequence
from libp2p.crypto.pb.crypto_pb2 import PublicKey
from libp2p.security.noise.pb.noise_pb2 import NoiseHandshakePayload

from p2pinfer.core.records.receipt import FINAL, Receipt
from p2pinfer.core.records.records import decode, sign
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import domain, peer_name
from p2pinfer.core.values.units import Codec, SessionId, Span
from p2pinfer.core.wire.messages import (
    AskContacts,
    AskFile,
    AskOffers,
    CallRefused,
    Contacts,
    FilePart,
    Message,
    Offers,
    Ping,
)
from p2pinfer.core.wire.session_messages import Accept, Close, Forward, Neighbour, Propose, Signed
from p2pinfer.overlay.libp2p.connection import CONNECTION_ERRORS, Handshaker
from p2pinfer.overlay.libp2p.tcp import dial_tcp
from p2pinfer.overlay.libp2p.yamux import Flag, Type, encode_header
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.pipe import Pipe, peer_of
from tests.disk.tiny import EVEN

from .arena import Arena, LiveArena, Pipes
from .dht_strangers import KAD, adding, open_dht_stranger
from .held import Hold
from .strangers import Stranger, hello, least, new_key, of_session, open_stranger, write

BUSY_S = 0.5  # after everything was refused
LATE_S = 60.0  # for the first time through the loop, on a machine that has others to serve
WIDTH = EVEN["hidden_size"]  # of the tiny model's rows
BROKEN = (LinkDead, trio.BrokenResourceError, trio.TooSlowError, OSError, *CONNECTION_ERRORS)

Run = Callable[[Arena, "Rounds"], Awaitable[None]]


@dataclass
class Rounds:
    """How often an attack got through its loop. It breathes there, where it may be held to a share of a core."""

    hold: Hold
    done: int = 0
    begun: trio.Event = field(default_factory=trio.Event)

    async def next(self) -> None:
        self.done += 1
        self.begun.set()
        await self.hold.breathe()


@dataclass(frozen=True)
class Attack:
    name: str
    sentence: str
    run: Run


ATTACKS: dict[str, Attack] = {}


def attack(name: str, sentence: str) -> Callable[[Run], Run]:
    def enter(run: Run) -> Run:
        ATTACKS[name] = Attack(name, sentence, run)
        return run

    return enter


@asynccontextmanager
async def _pipe(pipes: Pipes) -> AsyncIterator[Pipe]:
    pipe = await pipes.open()
    try:
        yield pipe
    finally:
        with trio.CancelScope(shield=True):
            await pipe.abort()


async def _again(rounds: Rounds, once: Callable[[], Awaitable[None]]) -> None:
    """Do it for ever, whatever breaks."""
    while True:
        try:
            with trio.fail_after(10):
                await once()
        except* BROKEN:  # alone, or in a group of a nursery
            await trio.sleep(BUSY_S)
        await rounds.next()


# What once ended a process


@attack("hellos", "Hellos that take hardly any bytes, with questions at once")
async def hellos(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with arena.pipes(new_key()) as pipes, _pipe(pipes) as pipe:
            await write(pipe, hello(max_body=random.randrange(2000)), AskContacts(1), AskOffers(2, b"", 64))
            await pipe.read()

    await _again(rounds, once)


@attack("rows", "rows past the prompt, before the id that they follow is sampled")
async def rows(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with open_stranger(arena) as stranger:
            first = await stranger.plan(prompt=1)
            while True:
                deal = first.again()
                await stranger.say(deal.part(Span(2, 3), stranger.neighbour(), stranger.neighbour()))
                await stranger.hear(Accept, lambda message, at=deal.session: of_session(message, at))
                data = bytes(8 * WIDTH)
                await stranger.say(least(Forward, session=deal.session, count=2, codec=Codec.F32.value, rows=data))
                await rounds.next()

    await _again(rounds, once)


@attack("addresses", "Opens that name neighbours at addresses of all kinds, to have them dialled")
async def addresses(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with open_stranger(arena) as stranger:
            first = await stranger.plan()
            while True:
                for _ in range(20):
                    somebody = new_key().public
                    port = random.randrange(1, 65536)
                    named = [
                        f"/ip4/127.0.0.1/{kind}/{port}/p2p/{peer_name(somebody)}"
                        for kind in ("tcp", "udp")
                        for _ in range(4)
                    ]
                    there = Neighbour(somebody, tuple(named))
                    await stranger.say(first.again().part(Span(1, 2), stranger.neighbour(), there))
                await rounds.next()
                stranger.ears.came.clear()

    await _again(rounds, once)


@attack("vanishing", "clients that vanish as their last id is sampled")
async def vanishing(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with open_stranger(arena) as stranger:
            deal = await stranger.plan(max_tokens=2)
            await stranger.say(deal.open)
            await stranger.hear(Accept)
            await stranger.say(deal.prompt())
            await trio.sleep(random.uniform(0, 0.02))
            await cut(await stranger.link())

    await _again(rounds, once)


async def cut(link: Link) -> None:
    """End it as a broken wire would: no goodbye, and what is queued is lost."""
    await link._pipe.abort()


# Room that is taken


@attack("keys", "1,024 free keys, each with a link that it holds")
async def keys(arena: Arena, rounds: Rounds) -> None:
    async with trio.open_nursery() as nursery:
        limit = trio.CapacityLimiter(16)

        async def one() -> None:
            async with AsyncExitStack() as stack:
                async with limit:
                    pipes = await stack.enter_async_context(arena.pipes(new_key()))
                    pipe = await pipes.open()
                    await write(pipe, hello())
                    await rounds.next()
                while data := await pipe.read():  # what a quiet peer does, and nothing more
                    del data

        async def keep() -> None:
            while True:
                try:
                    await one()
                except* BROKEN:
                    await trio.sleep(BUSY_S)

        for _ in range(1024):
            nursery.start_soon(keep)
        await trio.sleep_forever()


@attack("handshakes", "200 connections that say nothing, or half of a handshake")
async def handshakes(arena: Arena, rounds: Rounds) -> None:
    _, _, host, _, port, *_ = arena.address.split("/")

    async def keep(number: int) -> None:
        async def once() -> None:
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                if number % 2:
                    await stream.send_all(b"\x13/multistream/1.0.0\n\x07/noise\n")
                while await stream.receive_some():
                    pass

        await _again(rounds, once)

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(keep, number)


@attack("idle-opens", "128 idle Opens of 8 keys, renewed as they end")
async def idle_opens(arena: Arena, rounds: Rounds) -> None:
    async def keep() -> None:
        async def once() -> None:
            async with open_stranger(arena) as stranger:
                first = await stranger.plan(prompt=100, max_tokens=3900)
                while True:
                    for _ in range(16):
                        await stranger.say(first.again().open)
                    await rounds.next()
                    await trio.sleep(2.0)

        await _again_long(rounds, once)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(keep)


@attack("hoarding", "a key that signs for a prompt, and then holds all sessions without one, renewed as they end")
async def hoarding(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with open_stranger(arena) as stranger:
            await _pay(stranger, 300)
            tiny = await stranger.plan(
                prompt=1, max_tokens=1
            )  # its credit is for as many of these as a node has room for
            while True:
                for _ in range(64):
                    await stranger.say(tiny.again().open)
                await rounds.next()
                stranger.ears.came.clear()
                await trio.sleep(2.0)

    await _again_long(rounds, once)


async def _pay(stranger: Stranger, count: int) -> None:
    """Have a prompt of so many ids computed, and sign for all of it."""
    deal = await stranger.plan(prompt=count, max_tokens=1)
    await stranger.say(deal.open)
    await stranger.hear(Accept)
    await stranger.say(deal.prompt([1] * count))
    state = 0
    while state != FINAL:
        proposal = await stranger.hear(Propose)
        signature = deal.key.sign(domain(Receipt.TYPE), proposal.receipt)
        await stranger.say(least(Signed, session=deal.session, receipt=proposal.receipt, signature=signature))
        state = decode(Receipt, proposal.receipt).state


async def _again_long(rounds: Rounds, once: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await once()
        except* BROKEN:
            await trio.sleep(BUSY_S)
        await rounds.next()


@attack("windows", "new keys that have their windows computed and sign nothing")
async def windows(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with open_stranger(arena) as stranger:
            deal = await stranger.plan(prompt=1000, max_tokens=8)
            await stranger.say(deal.open)
            await stranger.hear(Accept)
            await stranger.say(deal.prompt([1] * 1000))
            await trio.sleep(0.2)

    await _again(rounds, once)


# Memory


@attack("pings", "yamux pings whose answers nobody reads")
async def pings(arena: Arena, rounds: Rounds) -> None:
    flood = encode_header(Type.PING, Flag.SYN, 0, 1) * 5000

    async def once() -> None:
        async with arena.pipes(new_key()) as pipes, _pipe(pipes) as pipe:
            while True:
                with trio.fail_after(2):
                    async with pipe._writing:  # type: ignore[attr-defined]  # below what pipes are for
                        await pipe._records.write(flood)  # type: ignore[attr-defined]
                await rounds.next()

    await _again(rounds, once)


@attack("unread-files", "16 AskFile a link on 40 links that read nothing")
async def unread_files(arena: Arena, rounds: Rounds) -> None:
    async with open_stranger(arena) as stranger:
        model = (await stranger.offer()).offer.record.model

    async def keep() -> None:
        async def once() -> None:
            async with arena.pipes(new_key()) as pipes, _pipe(pipes) as pipe:
                asks = [AskFile(call, model, "layer-000.safetensors", 0, 1 << 20) for call in range(1, 17)]
                await write(pipe, hello(), *asks)
                await rounds.next()
                await trio.sleep(9)  # the link is dead by then, since no ping is answered

        await _again(rounds, once)

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(keep)


@attack("early-rows", "rows of sessions that nobody opened, as long as they may be")
async def early_rows(arena: Arena, rounds: Rounds) -> None:
    data = bytes(1 << 20)

    async def once() -> None:
        async with open_stranger(arena) as stranger:
            while True:
                session = SessionId(os.urandom(16))
                with trio.fail_after(5):
                    link = await stranger.link()
                    await link.send(least(Forward, session=session, count=1, codec=Codec.F32.value, rows=data))
                await rounds.next()

    await _again(rounds, once)


@attack("unread-offers", "questions for offers, contacts and pings whose answers nobody reads")
async def unread_offers(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with arena.pipes(new_key()) as pipes, _pipe(pipes) as pipe:
            await write(pipe, hello())
            asks: list[Message] = [AskOffers(1, b"", 64), AskContacts(2), Ping(1)] * 500
            while True:
                with trio.fail_after(2):
                    await write(pipe, *asks)
                await rounds.next()

    await _again(rounds, once)


# Work


@attack("weights", "weights asked for as fast as they come")
async def weights(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with open_stranger(arena) as stranger:
            model = (await stranger.offer()).offer.record.model
            for call in range(1, 17):
                await stranger.say(AskFile(call, model, "layer-000.safetensors", 0, 1 << 20))
            while True:
                answer = await stranger.hear(Message, lambda message: isinstance(message, FilePart | CallRefused))
                if isinstance(answer, CallRefused):
                    await trio.sleep(0.05)
                await stranger.say(AskFile(answer.call, model, "layer-000.safetensors", 0, 1 << 20))  # type: ignore
                await rounds.next()

    await _again(rounds, once)


@attack("opens", "Opens as fast as they can be signed, each closed at once")
async def opens(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with open_stranger(arena) as stranger:
            first = await stranger.plan()
            while True:
                deal = first.again()
                await stranger.say(deal.open, least(Close, session=deal.session, code=Code.CANCELLED))
                stranger.ears.came.clear()
                await rounds.next()

    await _again(rounds, once)


@attack("offers", "offers of nodes that are not there, 64 at once, at addresses that want dialling")
async def offers(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with open_stranger(arena) as stranger:
            known = await stranger.offer()
            while True:
                await stranger.say(Offers(0, tuple(_invented(stranger, known) for _ in range(64))))
                await rounds.next()

    await _again(rounds, once)


def _invented(stranger: Stranger, known: KnownOffer):  # type: ignore[no-untyped-def]
    node, owner = new_key(), new_key()
    certificate = sign(replace(known.certificate.record, node=node.public, owner=owner.public), owner)
    record = known.offer.record
    offer = sign(replace(record, node=node.public, owner=owner.public, cert=certificate.id, boot=os.urandom(16)), node)
    address = f"/ip4/127.0.0.1/tcp/{random.randrange(1, 65536)}/p2p/{peer_name(node.public)}"
    return KnownOffer(offer, certificate, (address,), trio.current_time()).relay(trio.current_time())


@attack("churn", "links that are opened and dropped as fast as handshakes go")
async def churn(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with arena.pipes(new_key()) as pipes, _pipe(pipes) as pipe:
            await write(pipe, hello())
            await pipe.read()

    await _again(rounds, once)


@attack("garbage", "bytes that are no frames, and frames that are longer than any")
async def garbage(arena: Arena, rounds: Rounds) -> None:
    async def once() -> None:
        async with arena.pipes(new_key()) as pipes, _pipe(pipes) as pipe:
            await write(pipe, hello())
            await pipe.write(
                random.choice([os.urandom(4096), b"\xff" * 4096, (4 << 20).to_bytes(4, "big") + bytes(60000)])
            )
            await pipe.read()

    await _again(rounds, once)


# At its part of the DHT


async def _dht_address(arena: Arena) -> str:
    async with open_stranger(arena) as stranger:
        while True:
            await stranger.say(AskContacts(7))
            if addresses := (await stranger.hear(Contacts)).directory:
                return addresses[0]
            await trio.sleep(BUSY_S)


@attack("providers", "messages to the DHT of 4 MB of addresses, and as many as it takes in one")
async def providers(arena: Arena, rounds: Rounds) -> None:
    address = await _dht_address(arena)
    long = adding(new_key(), os.urandom(32), 400_000)

    async def once() -> None:
        key = new_key()
        async with open_dht_stranger(address, key) as stranger:
            for _ in range(8):
                await stranger.open(KAD)
                await stranger.send(adding(key, os.urandom(32), 1_000))
            await stranger.send(long)
            await stranger.is_closed()

    await _again(rounds, once)


@attack("unread", "bytes on streams of the DHT that nobody reads")
async def unread(arena: Arena, rounds: Rounds) -> None:
    address = await _dht_address(arena)

    async def once() -> None:
        async with open_dht_stranger(address, new_key()) as stranger:
            for _ in range(16):
                await stranger.open("/no/protocol")
                await stranger.send(b"\xff" * 200_000)

    await _again(rounds, once)


@attack("key-parsers", "handshakes with RSA's private keys for the name of a peer")
async def key_parsers(arena: Arena, rounds: Rounds) -> None:
    primes = 3**160_000, 2**254_000  # of 32 kB each; that they have no common divisor is all that is looked at
    key = DerSequence([0, 15, 3, 3, *primes, 1, 1, 1]).encode()

    async def once() -> None:
        handshaker = Handshaker(new_key())
        name = PublicKey(key_type=0, data=key).SerializeToString()
        payload = NoiseHandshakePayload(identity_key=name, identity_sig=bytes(64))
        handshaker._identity = payload.SerializeToString()
        await handshaker.dial(await dial_tcp(arena.address), peer_of(arena.address))

    await _again(rounds, once)


async def main(name: str, address: str, seconds: float, cores: float) -> None:
    with Hold.of(cores) as hold:
        rounds = Rounds(hold)
        began = time.monotonic()
        sys.stdout.write("begins\n")
        sys.stdout.flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ATTACKS[name].run, LiveArena(address), rounds)
            await trio.sleep(seconds)
            with trio.move_on_after(LATE_S):
                await rounds.begun.wait()
            nursery.cancel_scope.cancel()
        told = {
            "cpu_s": hold.cpu_s(),
            "seconds": time.monotonic() - began,
            "rounds": rounds.done,
            "held_by": hold.means,
        }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
