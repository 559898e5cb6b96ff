"""A session on a stage that is head and tail, with a prompt of one id. The test is its client and its engine."""

import trio

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.stage import StageSession
from p2pinfer.core.sessions.stage_terms import StageTerms
from p2pinfer.core.sessions.step import Output
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import Codec, PeerKey, Roles, Span
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import Prompt, Resume, pack_ids
from p2pinfer.node.session import Session, Wakes
from p2pinfer.overlay.machine import JumpingClock, Machine
from tests.core.paid_route import CLIENT, NODES, NOW, SECRET, SMALL, agreed, offer_of
from tests.node.middle import SESSION, LinkedTo, MemoryLink, NotedJournal

NODE = NODES[0]


class Letters:
    """Every id is a letter."""

    stop = None
    rest = ""

    def add(self, id_: int) -> str:
        return "a"

    def finish(self) -> str:
        return ""


class Solo:
    def __init__(self, max_tokens: int) -> None:
        roles, span, now = Roles.HEAD | Roles.TAIL, Span(0, 3), NOW
        offer = offer_of(NODE, span, roles, SMALL)
        self.contract = agreed(offer, NODE, prompt=1, issued=now, expires=now + 3600)
        terms = StageTerms(
            session=SESSION,
            epoch=0,
            client=CLIENT.public,
            predecessor=None,
            successor=None,
            far_end=None,
            span=span,
            roles=roles,
            prompt=1,
            width=8,
            vocabulary=100,
            codec_in=Codec.IDS,
            codec_out=Codec.IDS,
            max_positions=SMALL.max_positions,
            max_chunk=SMALL.max_chunk,
            sampling=SamplingRecord(0, 0, 1_000_000, 0, max_tokens, ()),
        )
        self.account = StageAccount(self.contract, SECRET, NODE)
        self.links = {CLIENT.public: MemoryLink()}
        self.journal = NotedJournal()
        self.send, self.incoming = trio.open_memory_channel[tuple[PeerKey, object]](1)
        self.session = Session(
            StageSession(terms, Ending((), max_tokens, Letters()), self.account.check_counted),
            self.account,
            1,
            self.journal,  # type: ignore[arg-type]
            LinkedTo(self.links, Machine(JumpingClock(NOW))),  # type: ignore[arg-type]
            Wakes(),
        )
        self.session.take_message(CLIENT.public, Prompt(SESSION, 0, pack_ids((7,))))

    async def run(self) -> None:
        async with self.journal.open():
            await self.session.run(self.incoming)  # type: ignore[arg-type]

    def compute(self) -> None:
        step = self.session.steps.take(1)
        self.session.done(step, Output(ids=(9,)))
        self.session.note_change()

    def lose(self) -> None:
        """The client's link breaks."""
        self.links.pop(CLIENT.public).dead = True
        self.send.send_nowait((CLIENT.public, LinkDead("gone")))

    def come_back(self, delivered: int) -> None:
        self.links[CLIENT.public] = MemoryLink()
        self.session.take_message(CLIENT.public, Resume(SESSION, 0, delivered))

    def said(self, shape: type[Message]) -> list[Message]:
        return [message for message in self.links[CLIENT.public].sent if isinstance(message, shape)]
