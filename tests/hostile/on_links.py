"""What strangers say on links and in calls, at any time and without a session."""

from dataclasses import replace
from typing import Any

import trio
import trio.lowlevel
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from p2pinfer.core.records.offer import ServingState
from p2pinfer.core.records.records import sign
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import Span
from p2pinfer.core.wire.messages import (
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

from .actors import EDGE, Actors, actors, calls, codes, numbers, odd_addresses, pauses
from .strangers import hello, least, new_key, write


class OnLinks(Actors):
    """Links that come, go and break, and questions of all kinds."""

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
        state=st.sampled_from(ServingState),
        seq=numbers,
    )
    @precondition(lambda self: self._held)
    def announce(
        self,
        actor: int,
        pause: float,
        first: int,
        length: int,
        addresses: tuple[str, ...],
        state: ServingState,
        seq: int,
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
