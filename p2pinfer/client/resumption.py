"""A client whose links break in the middle of an answer comes back (protocols/inference.md, 4.4).

Each stage whose link broke is dialled again until it is there, and told how many ids we have; then the answer goes on.
While we are away from any, our patience with all of them stands still, for none can go on without the others. Before
the first id other nodes may do as well: we try for a moment only, and our patience runs on.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import trio

from p2pinfer.client.contracts import Plan
from p2pinfer.client.patience import Patience
from p2pinfer.core.sessions.generation import Generation, Phase
from p2pinfer.core.sessions.suspension import Suspension
from p2pinfer.core.values.codes import BROKEN
from p2pinfer.core.values.errors import LinkDead, Refused
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import Prompt, SessionMessage
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import hear_nothing

MOMENT_S: Final = 2.0  # before the first id: a dial of those that take their time
FIRST_S: Final = 0.2  # at most, before the first dial: many answers lose a link at once
AGAIN_S: Final = 2.0  # at most, between two dials; at first less

logger = logging.getLogger(__name__)


Dial = Callable[[PeerKey, Sequence[str]], Awaitable[Link]]  # links to a peer, given its key and addresses


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways back into a generation.

    send: sends a stage what it is told
    lose: takes a stage that does not come back
    back: called when nobody is away any more
    """

    send: Callable[[PeerKey, SessionMessage], None] = hear_nothing
    lose: Callable[[PeerKey, LinkDead], None] = hear_nothing
    back: Callable[[], None] = hear_nothing


class Returning:
    """Of one generation.

    was_away: a link broke at some time
    back_s:   when a stage was last told that we are back; 0 where none was
    """

    def __init__(
        self, plan: Plan, generation: Generation, patience: Patience, network: Network, dial: Dial | None, ways: Ways
    ) -> None:
        """dial: None where nobody comes back"""
        self.has_begun = False  # the contracts are stored, so the prompt may be sent
        self.was_away = False
        self.back_s = 0.0
        self._addresses = {stage.key: stage.addresses for stage in plan.stages}
        self._generation = generation
        self._patience = patience
        self._link_to = network.link
        self._lots = network.machine.lots
        self._dial_again = dial
        self._ways = ways
        self._away: dict[PeerKey, LinkDead] = {}
        self._undialled: list[PeerKey] = []
        self._lost = trio.Event()
        self._back_on: dict[PeerKey, Link] = {}  # the link on which a stage was told last that we are back
        self._until = inf  # for all of them to be back
        self._suspension = Suspension()  # its bound holds for us, too: a stage may break its link again and again

    def takes(self, peer: PeerKey, why: LinkDead, unsettled: bool) -> bool:
        """True if the stage whose link is dead is dialled again, so that its loss is none yet.

        unsettled: it may have something to say even after the answer
        """
        if (link := self._back_on.get(peer)) is not None and link is self._link_to(peer):
            return True  # of a link before that one we hear only now
        phase = self._generation.phase
        may_go_on = phase is Phase.RUNNING or (phase is Phase.ANSWERED and unsettled)
        if self._dial_again is None or why.code not in BROKEN or not may_go_on:
            return False
        if peer not in self._away:
            self._leave(peer, why)
        return True

    @property
    def is_away(self) -> bool:
        """A link is broken, and dialled again."""
        return bool(self._away)

    def stop(self) -> Collection[PeerKey]:
        """Dial no more; return the stages that we are away from."""
        self._dial_again = None
        away, self._away = self._away, {}
        return away

    async def run(self) -> None:
        """Dial whoever is lost, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while self._undialled:
                    nursery.start_soon(self._return_to, self._undialled.pop())
                self._lost = trio.Event()
                await self._lost.wait()

    def _leave(self, peer: PeerKey, why: LinkDead) -> None:
        now = trio.current_time()
        if not self._away:
            self._suspension.begin(now)
            self._until = min(self._suspension.ends, inf if self._generation.ids else now + MOMENT_S)
        logger.info("the link to stage %s broke in mid-answer, and is dialled again: %s", short_name(peer), why)
        self.was_away = True
        self._away[peer] = why
        self._patience.pause(now)
        self._undialled.append(peer)
        self._lost.set()

    async def _return_to(self, peer: PeerKey) -> None:
        pause_s = FIRST_S
        while peer in self._away:
            await trio.sleep(self._lots.uniform(pause_s / 2, pause_s))
            pause_s = min(AGAIN_S, 2 * pause_s)
            if (link := await self._dial(peer)) is not None:
                self._come_back(peer, link)
            elif trio.current_time() >= self._until:
                if (why := self._away.get(peer)) is not None:
                    self._ways.lose(peer, why)
                return

    async def _dial(self, peer: PeerKey) -> Link | None:
        """The link, if there is one now."""
        if self._dial_again is None:
            return None
        with trio.move_on_at(self._until):
            try:
                link = await self._dial_again(peer, self._addresses[peer])
            except Refused:
                return None
            return link if link.dead is None else None
        return None

    def _come_back(self, peer: PeerKey, link: Link) -> None:
        if self._away.pop(peer, None) is None:
            return  # meanwhile nobody waits any more
        self._back_on[peer] = link
        self.back_s = trio.current_time()
        for send in self._generation.resume(peer):
            if self.has_begun or not isinstance(send.message, Prompt):
                self._ways.send(send.to, send.message)
        if not self._away:
            self._suspension.end(self.back_s)
            self._patience.go_on(self.back_s)
            self._ways.back()

    def let_go(self) -> None:
        """All is over: hold whoever holds this no longer, so that both go without a search for garbage."""
        self._ways = Ways()
