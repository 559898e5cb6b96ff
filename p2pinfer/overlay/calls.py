"""Calls that we make: a question to a peer, and its one answer (protocols/wire.md, 3.6). `answers.py` takes others'."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, RemoteProtocolError
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import (
    AskContacts,
    AskFile,
    AskOffers,
    CallRefused,
    Contacts,
    FilePart,
    Message,
    Offers,
    reason_given,
)
from p2pinfer.overlay.link import Link

CALL_S: Final = 5.0  # for an answer to a call

Ask = AskOffers | AskFile | AskContacts

A = TypeVar("A", Offers, FilePart, Contacts)


@dataclass(slots=True, eq=False)
class _Call:
    link: Link
    done: trio.Event = field(default_factory=trio.Event)
    answer: Message | LinkDead | None = None


class Calls:
    """Those under way."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}
        self._last = 0

    @property
    def peers(self) -> set[PeerKey]:
        """The peers that are asked."""
        return {call.link.peer for call in self._calls.values()}

    async def call(self, link: Link, ask: Callable[[int], Ask], expected: type[A]) -> A:
        """Ask the peer of a link; `ask` makes the question, given the call's number.

        Raises:
            Refused: the peer will not answer, or has not within CALL_S (code SILENT).
            LinkDead: the link died meanwhile.
            RemoteProtocolError: it answered something else.
        """
        self._last = number = self._last % ((1 << 32) - 1) + 1
        self._calls[number] = call = _Call(link)
        try:
            with trio.move_on_after(CALL_S):
                await link.send(ask(number))
                await call.done.wait()
        finally:
            del self._calls[number]
        match call.answer:
            case None:
                raise Refused(f"no answer within {CALL_S:.0f} s", Code.SILENT)
            case LinkDead() as why:
                raise why
            case CallRefused(code=code, text=text, retry_ms=retry_ms):
                raise Refused(reason_given(text, code), Code.read(code), retry_ms / 1000 or None)
            case answer if isinstance(answer, expected):
                return answer
            case answer:
                raise RemoteProtocolError(f"{type(answer).__name__} for an answer", Code.BAD_STATE)

    def take_answer(self, link: Link, answer: Offers | FilePart | Contacts | CallRefused) -> None:
        call = self._calls.get(answer.call)
        if call is not None and call.link is link:
            self._end(call, answer)
        # else it comes too late: the caller has given up

    def fail(self, link: Link, why: LinkDead) -> None:
        """The link is dead."""
        for call in self._calls.values():
            if call.link is link:
                self._end(call, why)

    @staticmethod
    def _end(call: _Call, answer: Message | LinkDead) -> None:
        if call.answer is None:
            call.answer = answer
            call.done.set()
