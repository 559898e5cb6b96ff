"""Valid messages in wrong order, by wrong peers, at wrong times: strangers in the hands of hypothesis.

Each step is one rule of `Strangers`. Now and then one does the right thing next, so that sessions get far enough to be
hurt. However it goes, the node must go on, hold nothing for who is gone, log no bug, and answer a good client.
"""

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import trio
import trio.lowlevel
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from p2pinfer.core.codes import ANSWERS, Code
from p2pinfer.core.contract import Contract
from p2pinfer.core.errors import LinkDead, LocalProtocolError
from p2pinfer.core.keys import PrivateKey, domain, peer_name
from p2pinfer.core.message_codec import MESSAGES
from p2pinfer.core.messages import (
    Ack,
    AskContacts,
    AskFile,
    AskOffers,
    Contacts,
    FilePart,
    Goodbye,
    Message,
    Offers,
    Ping,
    Pong,
)
from p2pinfer.core.offer import State
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.receipt import Receipt
from p2pinfer.core.records import decode, sign
from p2pinfer.core.session_messages import (
    Close,
    Credit,
    Finish,
    Forward,
    Neighbour,
    Open,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionMessage,
    Signed,
    pack_ids,
)
from p2pinfer.core.units import Codec, Span
from tests.core.test_messages import any_message

from .damaged import damaged
from .strangers import Deal, Stranger, hello, least, new_key, open_stranger, write
from .yards import Yard

ACTORS = 3
WIDTH = 16  # of the tiny model's rows
ROW_BYTES = {Codec.F32: 4 * WIDTH, Codec.BF16: 2 * WIDTH, Codec.Q8O4: WIDTH + 2 + 16}
SPANS = [Span(0, 3), Span(0, 1), Span(0, 2), Span(1, 2), Span(2, 3), Span(1, 3)]
EDGE = 1 << 32
RENEW_S = 15.0  # after this an offer is asked for again: contracts name one that the node remembers
HEAR_S = 0.5  # for an offer of a node that may not give any
SPOKEN = 8  # messages that may be said again with a fault in them

M = TypeVar("M", bound=Message)

actors = st.integers(0, ACTORS - 1)
sessions = st.integers(0, 7)
pauses = st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.005])
numbers = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 40, 4095, 4096, EDGE - 1])
calls = st.sampled_from([1, 2, 3, 5, 8, 13, 40, 4095, EDGE - 64])
codes = st.sampled_from([code for code in Code if code not in ANSWERS and code is not Code.NONE])
odd_addresses = st.sampled_from(
    [
        (),
        ("/ip4/127.0.0.1/udp/53/p2p/{}",),
        ("/ip4/127.0.0.1/tcp/1/p2p/{}",),
        ("/memory/p2p/{}",),
        ("nothing of the kind",),
        ("/ip4/10.0.0.1/tcp/1/p2p/{}", "/dns4/localhost/tcp/1/p2p/{}", "/p2p/{}"),
    ]
)


@dataclass
class Held:
    """A session that somebody opened, and how far it has come. parts: who is client, predecessor and successor."""

    deal: Deal
    open: Open
    span: Span
    prompt: int
    parts: tuple[int, int, int]
    rows: int = 0  # of positions that were sent to it
    ids: int = 0  # that were sent to it as sampled
    away: bool = False  # its client's link broke, and the node may wait for it

    @property
    def session(self) -> Any:
        return self.open.session


class Strangers(RuleBasedStateMachine):
    """Three of them, with sessions of any span of the node's, each any part of it."""

    yard: ClassVar[Yard]
    jumps: ClassVar[bool] = False  # time does, and nobody asks meanwhile: an honest client's deadlines would pass too
    leaves: ClassVar[bool] = False  # the node is told to stop on the way
    made: ClassVar[int] = 0  # sequences so far
    known: ClassVar[tuple[float, KnownOffer] | None] = None  # and when it was asked for

    trail: ClassVar[list[str]] = []  # the steps of this sequence, as hypothesis writes them
    failed: ClassVar[list[str]] = []  # those of the first one that did not end well: a race may not fail again

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        type(self).trail = []
        self._held: list[Held] = []
        self._spoken = deque[tuple[int, SessionMessage]](maxlen=SPOKEN)
        self._leaving = False
        self._actors: list[Stranger] = []
        self._scopes: list[tuple[trio.CancelScope, trio.Event]] = []  # and when who ran in it is gone

    @initialize()
    def come(self) -> None:
        if not self.jumps and not self.leaves:
            self.yard.begin_good()
        for _ in range(ACTORS):
            stranger, *scope = self.yard.start(self._keep_stranger, new_key())
            self._actors.append(stranger)
            self._scopes.append(tuple(scope))

    async def _keep_stranger(
        self, key: PrivateKey, *, task_status: trio.TaskStatus[tuple[Stranger, trio.CancelScope, trio.Event]]
    ) -> None:
        gone = trio.Event()
        with trio.CancelScope() as scope:
            async with open_stranger(self.yard.arena, key) as stranger:
                task_status.started((stranger, scope, gone))
                await trio.sleep_forever()
        gone.set()

    def teardown(self) -> None:
        kind = type(self)
        kind.failed, before = kind.failed or kind.trail, kind.failed
        self._end()
        kind.failed = before

    @classmethod
    def note(cls, line: str) -> None:
        """A line that hypothesis reports."""
        if line.startswith(("state.", "Draw")):
            cls.trail.append(line)

    def _end(self) -> None:
        try:
            if self._leaving:
                self.yard.wait_left()
                return
            self.yard.end_good()
            self._give_up_away()
            self.yard.call(self._go)
            self.yard.check()
            if self.jumps:
                self.yard.meet_again()
                self.yard.begin_good()
                self.yard.end_good()
        finally:
            self.yard.call(self._go)

    def _give_up_away(self) -> None:
        """The node would wait for them for half a minute."""
        for held in (held for held in self._held if held.away):
            self._say(held.parts[0], 0.0, least(Close, session=held.session, code=Code.CANCELLED))

    async def _go(self) -> None:
        for scope, _ in self._scopes:
            scope.cancel()
        await trio.lowlevel.checkpoint()

    # What strangers say

    async def _said(self, actor: int, pause: float, *messages: Message) -> None:
        """Say it, if the node takes links at all."""
        with suppress(LinkDead, LocalProtocolError):  # it closed the link, as it may
            await self._actors[actor].say(*messages)
        if pause:
            await trio.sleep(pause)

    def _say(self, actor: int, pause: float, *messages: Message) -> None:
        self._spoken.extend((actor, message) for message in messages if isinstance(message, SessionMessage))
        self.yard.call(self._said, actor, pause, *messages)

    def _one(self, number: int) -> Held:
        return self._held[number % len(self._held)]

    def _last(self, actor: int, session: bytes, shape: type[M]) -> M | None:
        """The latest message of a kind in a session that came to somebody."""
        for _, message in reversed(self._actors[actor].ears.came):
            if isinstance(message, shape) and getattr(message, "session", session) == session:
                return message
        return None

    def _deal(self, actor: int, prompt: int, tokens: int) -> Deal | None:
        """A contract by the node's latest offer; None while it gives none."""
        return self.yard.call(self._made_deal, actor, prompt, tokens)

    async def _made_deal(self, actor: int, prompt: int, tokens: int) -> Deal | None:
        if (known := await self._latest_offer(actor)) is None:
            return None
        return await self._actors[actor].plan(prompt, tokens, known)

    async def _latest_offer(self, actor: int) -> KnownOffer | None:
        kind, now = type(self), time.monotonic()
        if kind.known is None or kind.known[0] < now - RENEW_S:
            with trio.move_on_after(HEAR_S), suppress(LinkDead, LocalProtocolError):
                kind.known = now, await self._actors[actor].offer()
        return kind.known[1] if kind.known else None

    # Links and calls

    @rule(actor=actors, pause=pauses, number=st.one_of(numbers, st.integers(0, (1 << 53) - 1)), which=st.integers(0, 4))
    def say_what_links_say(self, actor: int, pause: float, number: int, which: int) -> None:
        messages = (Ack(number, number), Ping(number), Pong(number), hello(max_body=number % EDGE), hello())
        self._say(actor, pause, messages[which])

    @rule(actor=actors, code=codes)
    def leave_with_goodbye(self, actor: int, code: Code) -> None:
        self._say(actor, 0.0, Goodbye(code, "so long"))

    @rule(actor=actors)
    def vanish(self, actor: int) -> None:
        self._cut(actor)

    def _cut(self, actor: int) -> None:
        async def cut() -> None:
            for link in self._actors[actor].network.links():
                await link._pipe.abort()  # what a link never does: no goodbye, and what is queued is lost

        self.yard.call(cut)
        for held in (held for held in self._held if held.parts[0] == actor):
            held.away = True

    @rule(actor=actors, broken=st.booleans(), pause=pauses)
    def start_anew(self, actor: int, broken: bool, pause: float) -> None:
        """Under the same key, in another process, with another boot: what was open is not open there any more."""
        if broken:
            self._cut(actor)

        async def leave() -> None:
            scope, gone = self._scopes[actor]
            scope.cancel()
            await gone.wait()

        self.yard.call(leave)
        self._actors[actor], *scope = self.yard.start(self._keep_stranger, self._actors[actor].key)
        self._scopes[actor] = tuple(scope)
        self._say(actor, pause, Ping(1))

    @rule(max_body=numbers, version=st.sampled_from([0, 1, 2]), what=st.integers(0, 3))
    def greet_oddly(self, max_body: int, version: int, what: int) -> None:
        first: list[Message] = [hello(max_body=max_body, version=version), AskContacts(1), AskOffers(2, b"", 64)]

        async def greet() -> None:
            async with self.yard.arena.pipes(new_key()) as pipes:
                try:
                    pipe = await pipes.open()
                    await write(pipe, *(first[what:] if what else first))
                    with trio.move_on_after(0.01):
                        await pipe.read()
                except (LinkDead, trio.BrokenResourceError):
                    pass  # it takes no links, or broke this one

        self.yard.call(greet)

    @rule(
        actor=actors,
        pause=pauses,
        call=calls,
        model=st.sampled_from([b"", bytes(32)]),
        limit=st.integers(1, 64),
    )
    def ask_for_offers(self, actor: int, pause: float, call: int, model: bytes, limit: int) -> None:
        self._say(actor, pause, AskOffers(call, model, limit))

    @rule(
        actor=actors,
        pause=pauses,
        call=calls,
        own=st.booleans(),
        name=st.sampled_from(["", "config.json", "tokenizer.json", "../node.lock", "layer-0", "\x00", "." * 64]),
        offset=st.one_of(numbers, st.just((1 << 53) - 1)),
        limit=numbers,
        times=st.sampled_from([1, 1, 1, 20]),
    )
    def ask_for_files(
        self, actor: int, pause: float, call: int, own: bool, name: str, offset: int, limit: int, times: int
    ) -> None:
        deal = self._held[0].deal if self._held and own else None
        model = deal.plan.contracts[0].record.model if deal else bytes(32)
        ask = AskFile(call, model, name, offset, limit)  # type: ignore[arg-type]
        self._say(actor, pause, *(replace(ask, call=call + at) for at in range(times)))

    @rule(actor=actors, pause=pauses, call=calls, times=st.sampled_from([1, 40]))
    def ask_for_contacts(self, actor: int, pause: float, call: int, times: int) -> None:
        self._say(actor, pause, *(AskContacts(call + at) for at in range(times)))

    @rule(actor=actors, pause=pauses, addresses=odd_addresses)
    def answer_what_was_asked(self, actor: int, pause: float, addresses: tuple[str, ...]) -> None:
        """Whatever calls the node has open."""
        asked = [
            message for _, message in self._actors[actor].ears.came if isinstance(message, AskOffers | AskContacts)
        ]
        named = tuple(address.replace("{}", peer_name(new_key().public)) for address in addresses)
        answers: list[Message] = []
        for ask in asked:
            wrong = Contacts(ask.call, named, named) if isinstance(ask, AskOffers) else Offers(ask.call, ())
            answers += (wrong, least(FilePart, call=ask.call), wrong) if pause else (Contacts(ask.call, named, named),)
        self._say(actor, pause, *answers)

    @rule(
        actor=actors,
        pause=pauses,
        first=st.sampled_from([0, 1, 2, 3, 1 << 31]),
        length=st.sampled_from([1, 2, 3, (1 << 31) - 1]),
        addresses=odd_addresses,
        state=st.sampled_from(State),
        seq=numbers,
    )
    @precondition(lambda self: self._held)
    def announce(
        self, actor: int, pause: float, first: int, length: int, addresses: tuple[str, ...], state: State, seq: int
    ) -> None:
        """A sound offer of the node's model, of odd layers at odd addresses."""
        stage, owner = self._held[0].deal.plan.stages[0].offer.record, new_key()
        certificate = self.yard.call(self._certificate, actor, owner)
        key = self._actors[actor].key
        offer = replace(
            stage,
            node=key.public,
            owner=owner.public,
            cert=certificate.id,
            span=Span(first, min(first + length, EDGE - 1)),
            state=state,
            seq=seq,
        )
        named = tuple(address.replace("{}", peer_name(key.public)) for address in addresses)
        known = KnownOffer(sign(offer, key), certificate, named, 0.0)
        self._say(actor, pause, Offers(0, (known.relay(0.0),) * 2))

    async def _certificate(self, actor: int, owner: PrivateKey) -> Any:
        """Of an owner for a stranger, of the same times as the node's own."""
        known = await self._latest_offer(actor)
        assert known is not None  # a session was opened by it
        record = replace(known.certificate.record, owner=owner.public, node=self._actors[actor].key.public)
        return sign(record, owner)

    # Sessions

    @rule(
        client=actors,
        before=actors,
        after=actors,
        span=st.sampled_from(SPANS),
        prompt=st.sampled_from([1, 2, 5, 17, 40]),
        tokens=st.sampled_from([1, 2, 8, 64]),
        codec=st.sampled_from([Codec.F32, Codec.BF16, Codec.Q8O4]),
        pause=pauses,
        addresses=st.none() | odd_addresses,
    )
    def open(
        self,
        client: int,
        before: int,
        after: int,
        span: Span,
        prompt: int,
        tokens: int,
        codec: Codec,
        pause: float,
        addresses: tuple[str, ...] | None,
    ) -> None:
        if (made := self._deal(client, prompt, tokens)) is None:
            return
        message = made.open
        if span != SPANS[0]:
            message = made.part(span, self._neighbour(before, addresses), self._neighbour(after, addresses), codec)
        self._held.append(Held(made, message, span, prompt, (client, before, after)))
        self._say(client, pause, message)

    @rule(actor=actors, delay=st.sampled_from([0.0, 0.001, 0.003, 0.006, 0.01, 0.02]), goodbye=st.booleans())
    def vanish_near_the_end(self, actor: int, delay: float, goodbye: bool) -> None:
        """A short answer of which all is right, but that its client goes before it is signed."""
        if (deal := self._deal(actor, 1, 2)) is None:
            return
        self._held.append(Held(deal, deal.open, SPANS[0], 1, (actor, actor, actor), rows=1))
        self._say(actor, 0.002, deal.open)
        self._say(actor, delay, least(Prompt, session=deal.session, ids=pack_ids([1])))
        if goodbye:
            self._say(actor, 0.0, Goodbye(Code.LEAVING, ""))
        else:
            self._cut(actor)

    def _neighbour(self, actor: int, addresses: tuple[str, ...] | None) -> Neighbour:
        if addresses is None:
            return self._actors[actor].neighbour()
        somebody = new_key().public
        return Neighbour(somebody, tuple(address.replace("{}", peer_name(somebody)) for address in addresses))

    @rule(number=sessions, pause=pauses)
    @precondition(lambda self: self._held)
    def do_the_next_right_thing(self, number: int, pause: float) -> None:
        self._go_on(self._one(number), pause)

    def _go_on(self, held: Held, pause: float) -> None:
        """Say whatever the session waits for from its client and its neighbours."""
        client, before, _ = held.parts
        if held.away:
            held.away = False
            sampled = self._last(client, held.session, Sampled)
            delivered = sampled.position - held.prompt + len(sampled.ids) if sampled else 0
            self._say(client, pause, least(Resume, session=held.session, delivered=delivered))
        if proposal := self._last(client, held.session, Propose):
            self._say(client, 0.0, self._signed(proposal, held.deal.key))
        if held.span.first == 0 and not held.rows:
            held.rows = held.prompt
            self._say(client, pause, least(Prompt, session=held.session, ids=pack_ids([1] * held.prompt)))
        elif held.span.first == 0 and held.span.last < 3:
            position, held.ids = held.prompt + held.ids, held.ids + 1
            self._say(held.parts[2], pause, least(Sampled, session=held.session, position=position, ids=(5,)))
        elif held.span.first:
            rows = min(4, held.prompt - held.rows) if held.rows < held.prompt else 1
            self._say(before, pause, self._rows(held, held.rows, rows))
            held.rows += rows

    def _rows(self, held: Held, position: int, rows: int, fill: bytes = b"\0", codec: Codec | None = None) -> Forward:
        if codec is None:
            found = [Codec(one) for one in self._codecs(held) if one != Codec.IDS]
            codec = found[0] if found else Codec.F32
        data = (fill * (rows * ROW_BYTES[codec]))[: rows * ROW_BYTES[codec]]
        return least(Forward, session=held.session, position=position, count=rows, codec=codec.value, rows=data)

    def _codecs(self, held: Held) -> tuple[int, int]:
        return decode(Contract, held.open.contract).codecs

    def _signed(self, proposal: Propose, key: PrivateKey) -> Signed:
        signature = key.sign(domain(Receipt.TYPE), proposal.receipt)
        return least(Signed, session=proposal.session, receipt=proposal.receipt, signature=signature)

    @rule(actor=actors, number=sessions, pause=pauses, again=st.booleans())
    @precondition(lambda self: self._held)
    def open_again(self, actor: int, number: int, pause: float, again: bool) -> None:
        """The same Open, by anybody, or the same session with another contract."""
        held = self._one(number)
        message = held.open if again else replace(held.deal.again().open, session=held.session)
        self._say(actor, pause, message)

    @rule(actor=actors, number=sessions, pause=pauses, length=st.sampled_from([-1, 0, 0, 1, 4000]), id_=numbers)
    @precondition(lambda self: self._held)
    def prompt(self, actor: int, number: int, pause: float, length: int, id_: int) -> None:
        held = self._one(number)
        ids = pack_ids([id_] * max(1, held.prompt + length))
        self._say(actor, pause, least(Prompt, session=held.session, ids=ids))

    @rule(
        actor=actors,
        number=sessions,
        pause=pauses,
        at=st.sampled_from([-1, 0, 0, 0, 1, 100]),
        rows=st.sampled_from([1, 1, 2, 8, 16, 17, 64]),
        fill=st.sampled_from([b"\0", b"\x7f", b"\xff", b"\x00\x00\x80\x3f"]),
        codec=st.none() | st.sampled_from([Codec.F32, Codec.BF16, Codec.Q8O4]),
        epoch=st.sampled_from([0, 0, 0, 1]),
    )
    @precondition(lambda self: self._held)
    def forward(
        self, actor: int, number: int, pause: float, at: int, rows: int, fill: bytes, codec: Codec | None, epoch: int
    ) -> None:
        held = self._one(number)
        message = self._rows(held, max(0, held.rows + at), rows, fill, codec)
        if not at:
            held.rows += rows
        self._say(actor, pause, replace(message, epoch=epoch))

    @rule(
        actor=actors,
        number=sessions,
        pause=pauses,
        at=st.sampled_from([-1, 0, 0, 1, 50]),
        ids=st.sampled_from([(5,), (5, 6), (259,), (260,), (EDGE - 1,), (5,) * 64]),
        reason=st.sampled_from([Code.NONE, *ANSWERS]),
    )
    @precondition(lambda self: self._held)
    def sampled(self, actor: int, number: int, pause: float, at: int, ids: tuple[int, ...], reason: Code) -> None:
        held = self._one(number)
        position = max(0, held.prompt + held.ids + at)
        held.ids += not at
        self._say(actor, pause, least(Sampled, session=held.session, position=position, ids=ids, reason=reason))

    @rule(
        actor=actors,
        number=sessions,
        pause=pauses,
        at=st.sampled_from([-1, 0, 0, 1]),
        reason=st.sampled_from(sorted(ANSWERS)),
    )
    @precondition(lambda self: self._held)
    def finish(self, actor: int, number: int, pause: float, at: int, reason: Code) -> None:
        held = self._one(number)
        self._say(actor, pause, least(Finish, session=held.session, committed=max(0, held.rows + at), reason=reason))

    @rule(actor=actors, number=sessions, pause=pauses, limit=numbers)
    @precondition(lambda self: self._held)
    def credit(self, actor: int, number: int, pause: float, limit: int) -> None:
        self._say(actor, pause, least(Credit, session=self._one(number).session, limit=limit))

    @rule(actor=actors, number=sessions, pause=pauses, code=codes, committed=numbers)
    @precondition(lambda self: self._held)
    def close(self, actor: int, number: int, pause: float, code: Code, committed: int) -> None:
        self._say(actor, pause, least(Close, session=self._one(number).session, code=code, committed=committed))

    @rule(actor=actors, number=sessions, pause=pauses, delivered=numbers, epoch=st.sampled_from([0, 0, 0, 1]))
    @precondition(lambda self: self._held)
    def resume(self, actor: int, number: int, pause: float, delivered: int, epoch: int) -> None:
        self._say(actor, pause, least(Resume, session=self._one(number).session, delivered=delivered, epoch=epoch))

    @rule(actor=actors, number=sessions, pause=pauses, again=st.booleans())
    @precondition(lambda self: self._held)
    def break_and_come_back(self, actor: int, number: int, pause: float, again: bool) -> None:
        """The links of a session's client, or of somebody else, who then says that it has nothing."""
        held = self._one(number)
        client = held.parts[0] if again else actor
        self._cut(client)
        messages: list[Message] = [least(Resume, session=held.session)]
        if held.span.first == 0:
            held.rows = held.prompt
            messages.append(least(Prompt, session=held.session, ids=pack_ids([1] * held.prompt)))
        self._say(client, pause, *messages)

    @rule(number=sessions, pause=pauses, steps=st.integers(0, 3), times=st.sampled_from([1, 1, 2, 5]))
    @precondition(lambda self: self._held)
    def lose_its_link(self, number: int, pause: float, steps: int, times: int) -> None:
        """A client in the middle of an answer loses its link, once or more, and each time comes back as it should."""
        held = self._one(number)
        for _ in range(times):
            self._cut(held.parts[0])
            for _ in range(steps):
                self._go_on(held, pause)

    @rule(ago=st.integers(0, SPOKEN - 1), other=st.none() | actors, field=st.integers(0, 15), bit=st.integers(0, 4095))
    @precondition(lambda self: self._spoken)
    def say_it_damaged(self, ago: int, other: int | None, field: int, bit: int) -> None:
        """What was said just now, again, but for a bit."""
        actor, message = self._spoken[-1 - ago % len(self._spoken)]
        self._say(actor if other is None else other, 0.0, damaged(message, field, bit))

    @rule(actor=actors, number=sessions, other=sessions, pause=pauses, own=st.booleans(), which=st.integers(0, 3))
    @precondition(lambda self: self._held)
    def sign(self, actor: int, number: int, other: int, pause: float, own: bool, which: int) -> None:
        """A receipt of this session or of another, by the client's key or somebody else's, once or twice."""
        held, source = self._one(number), self._one(other)
        proposal = self._last(source.parts[0], source.session, Propose)
        if proposal is None:
            return
        signed = self._signed(proposal, held.deal.key if own else self._actors[actor].key)
        moved = replace(signed, session=held.session)
        messages = ([signed], [moved], [signed, signed], [replace(signed, receipt=signed.receipt[:-1])])[which]
        self._say(actor, pause, *messages)

    @rule(actor=actors, number=sessions, pause=pauses, data=st.data())
    @precondition(lambda self: self._held)
    def say_anything(self, actor: int, number: int, pause: float, data: st.DataObject) -> None:
        """Any message of any kind."""
        shape = data.draw(st.sampled_from(sorted(MESSAGES.values(), key=lambda kind: kind.NUMBER)))
        message = data.draw(any_message(shape))
        assert isinstance(message, Message)
        if isinstance(message, SessionMessage):
            message = replace(message, session=self._one(number).session)
        self._say(actor, pause, message)

    # Time

    @rule(seconds=st.sampled_from([0.2, 2.1, 7.0, 11.0, 61.0, 301.0]))
    @precondition(lambda self: self.jumps)
    def let_time_pass(self, seconds: float) -> None:
        self.yard.jump(seconds)

    @rule(pause=st.sampled_from([0.0, 0.02]))
    @precondition(lambda self: self.leaves and not self._leaving)
    def stop_the_node(self, pause: float) -> None:
        self._leaving = True
        self.yard.leave()
        self.yard.call(trio.sleep, pause)


class WithJumps(Strangers):
    """Deadlines pass on the way."""

    jumps = True


class WhileLeaving(Strangers):
    """The node is told to stop on the way."""

    leaves = True


def machine_for(yard: Yard, shape: type[Strangers] = Strangers) -> type[Strangers]:
    """The machine of one yard."""
    return type(shape.__name__, (shape,), {"yard": yard, "known": None, "made": 0, "trail": [], "failed": []})
