"""Valid messages in wrong order, by wrong peers, at wrong times: strangers in the hands of hypothesis.

Each step is one rule of `Strangers`. Now and then one does the right thing next, so that sessions get far enough to be
hurt. However it goes, the node must go on, hold nothing for who is gone, log no bug, and answer a good client.
"""

from dataclasses import replace

import trio
import trio.lowlevel
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import decode
from p2pinfer.core.values.codes import ANSWERS, Code
from p2pinfer.core.values.keys import PrivateKey, domain, peer_name
from p2pinfer.core.values.units import Codec, Span
from p2pinfer.core.wire.message_codec import MESSAGES
from p2pinfer.core.wire.messages import Goodbye, Message
from p2pinfer.core.wire.session_messages import (
    Close,
    Credit,
    Finish,
    Forward,
    Neighbour,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionMessage,
    Signed,
    pack_ids,
)
from tests.core.test_messages import any_message

from .actors import (
    EDGE,
    ROW_BYTES,
    SPANS,
    SPOKEN,
    Held,
    actors,
    codes,
    numbers,
    odd_addresses,
    pauses,
    sessions,
)
from .damaged import damaged
from .on_links import OnLinks
from .strangers import least, new_key
from .yards import Yard


class Strangers(OnLinks):
    """Three of them, with sessions of any span of the node's, each any part of it."""

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
