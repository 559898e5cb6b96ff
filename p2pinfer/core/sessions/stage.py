"""One session on one stage, without I/O: which rows may be computed now, and what to send when they are.

Implements the stage's side of protocols/inference.md. The node feeds it messages (`receive`) and results of steps
(`done`), and does what they return. `core/money/stage_account.py` has signatures, receipts and the window;
`schedule.py` says which other sessions wait for the engine.

    RUNNING --Finish, last Sampled, own last sample, Close, fault, failure--> ENDED

A fault is answered by `fail`; a stranger's message is no fault of the session. While the link to the client is broken
(`suspend`), nothing is computed; what neighbours say is taken, as far as credit goes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.stage_terms import Relation, StageTerms
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.sessions.tail_ids import TailIds
from p2pinfer.core.values.codes import ANSWERS, Code
from p2pinfer.core.values.errors import LocalProtocolError, RemoteProtocolError, Stranger
from p2pinfer.core.values.units import PeerKey, Roles, row_bytes
from p2pinfer.core.wire.messages import Message, cut_text
from p2pinfer.core.wire.session_messages import (
    Close,
    Credit,
    Finish,
    Forward,
    Prompt,
    Resume,
    Sampled,
    SessionMessage,
    Signed,
    pack_ids,
    unpack_ids,
)

CREDIT_CHUNKS: Final = 2  # chunks a receiver takes before it grants more: one computes while the next is on its way


class SessionState(Enum):
    RUNNING = auto()
    ENDED = auto()


# Who may send what, and when. In RUNNING anything else is a fault; in ENDED it was sent before its sender knew, and is
# dropped. What is signed is for the account.
ALLOWED: Final[dict[tuple[SessionState, type[Message]], Relation]] = {
    (SessionState.RUNNING, Prompt): Relation.CLIENT,
    (SessionState.RUNNING, Forward): Relation.PREDECESSOR,
    (SessionState.RUNNING, Sampled): Relation.FAR_END,
    (SessionState.RUNNING, Finish): Relation.PREDECESSOR,
    (SessionState.RUNNING, Credit): Relation.SUCCESSOR,
    (SessionState.RUNNING, Signed): Relation.CLIENT,
    (SessionState.RUNNING, Close): Relation.CLIENT | Relation.PREDECESSOR | Relation.SUCCESSOR | Relation.FAR_END,
    (SessionState.RUNNING, Resume): Relation.CLIENT,
    (SessionState.ENDED, Signed): Relation.CLIENT,
    (SessionState.ENDED, Resume): Relation.CLIENT,
}


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to `to`."""

    to: PeerKey
    message: SessionMessage


class StageSession:
    """computed: positions whose rows have gone through this stage's layers

    received: positions whose rows (ids at the head) have arrived

    limit: positions that may be computed before the successor grants more

    reason: why the session ended; NONE while it runs. After a failure of ours or of a neighbour the node ends the
    session from outside with `end`.

    is_suspended: the link to the client broke, and it has not come back since
    """

    def __init__(
        self,
        terms: StageTerms,
        ending: Ending | None,
        check_return: Callable[[int], None] = lambda counted: None,
    ) -> None:
        """check_return: raises RemoteProtocolError where a client may not come back that counts so many positions"""
        assert (Roles.TAIL in terms.roles) == (ending is not None) == (terms.sampling is not None)
        self.terms = terms
        self.state = SessionState.RUNNING
        self.reason = Code.NONE
        self.computed = 0
        self.received = 0
        self.sampled = 0
        self.limit = terms.max_positions if terms.successor is None else CREDIT_CHUNKS * terms.max_chunk
        self.is_suspended = False
        self._check_return = check_return
        self._has_prompt_twice = False  # a client that came back without an id sends the prompt once more
        self._tail_ids = TailIds(terms, ending) if ending is not None else None
        self._draw = None if terms.sampling is None else terms.sampling.draw
        self._row = row_bytes(terms.codec_in, terms.width)
        self._waiting = bytearray()  # rows or ids of positions from `computed` on
        self._granted = CREDIT_CHUNKS * terms.max_chunk  # positions the predecessor may send
        self._taken = 0  # positions of the step that is not done
        self._admitted: set[tuple[PeerKey, type[SessionMessage]]] = set()  # who may send what, of what has come

    @property
    def is_computing(self) -> bool:
        """A step was taken, and is not done."""
        return self._taken > 0

    def ready(self, limit: int) -> int:
        """Return how many positions may be computed now, none of them at or beyond `limit`."""
        if self._taken or self.is_suspended or self.state is SessionState.ENDED:
            return 0
        return max(0, min(self.received, self.limit, limit) - self.computed)

    def take(self, count: int, slot: int = 0) -> Step:
        """The step of the next `count` positions; `done` must follow before the next one.

        slot: the session's number at the engine
        """
        if self._taken or self.state is SessionState.ENDED or count > self.received - self.computed:
            raise LocalProtocolError(f"{count} positions from {self.computed} are not ready")
        self._taken = count
        terms, data = self.terms, bytes(self._waiting[: count * self._row])
        draw = self._draw if self.computed + count >= terms.prompt else None
        return Step(slot, self.computed, data, terms.codec_in, terms.codec_out, draw, terms.span)

    def done(self, step: Step, output: Output) -> list[Send]:
        """Take what became of a step that did not fail; return what to send. After the end there is nothing to send."""
        count, self._taken = self._taken, 0
        if self.state is SessionState.ENDED:
            return []
        del self._waiting[: len(step.data)]
        self.computed += count
        sends = self._grant()
        if self.terms.successor is not None:
            sends.append(Send(self.terms.successor, self._forward(step.position, count, output.data)))
        elif output.ids:
            sends += self._sample(output.ids[0])
        return sends

    def receive(self, sender: PeerKey, message: SessionMessage) -> list[Send]:
        """Take a message of this session; return what to send for it. After the end only a Resume is answered.

        Raises:
            Stranger: the sender has no part in the session, which goes on.
            RemoteProtocolError: the sender may not send it, or not now; `fail` has to follow.
        """
        if self.state is SessionState.ENDED:
            return self._late(sender, message)
        if (sender, type(message)) not in self._admitted:
            self._admit(sender, type(message))
        match message:
            case Prompt():
                return self._prompt(message)
            case Forward():
                return self._rows(message)
            case Sampled():
                return self._sampled(message)
            case Finish():
                return self._finish(message)
            case Credit():
                return self._take_credit(message)
            case Close():
                self.end(Code.read(message.code))
            case Resume():
                return self._resume(message)
        return []

    def _late(self, sender: PeerKey, message: SessionMessage) -> list[Send]:
        """After the end a client that comes back gets what it lacks of the answer, or the word that there is none."""
        if not isinstance(message, Resume) or not self.terms.parts(sender) & Relation.CLIENT:
            return []
        if not self.is_suspended or message.epoch != self.terms.epoch:
            return []
        if self.reason not in ANSWERS:
            return [Send(sender, self._close(self.reason, "it has ended"))]
        try:
            return self._resume(message)
        except RemoteProtocolError as error:
            return [Send(sender, self._close(error.code, str(error)))]

    def suspend(self) -> None:
        """The link to the client broke: compute nothing until it is back."""
        self.is_suspended, self._has_prompt_twice = True, False

    def _resume(self, message: Resume) -> list[Send]:
        """The client is back, and has so many ids: send those after them."""
        if message.epoch != self.terms.epoch:
            return []
        if not self.is_suspended:
            raise RemoteProtocolError("a client is back whose link did not break", Code.BAD_STATE)
        if (counted := message.counted(self.terms.prompt)) > self.computed:
            raise RemoteProtocolError(f"{counted} positions counted, {self.computed} computed", Code.BAD_POSITION)
        self._check_return(counted)
        self.is_suspended, self._has_prompt_twice = False, not message.delivered
        if self._tail_ids is None:
            return []
        return [Send(self.terms.client, sampled) for sampled in self._tail_ids.after(message.delivered)]

    def fail(self, code: Code, text: str) -> list[Send]:
        """End the session for a fault or a failure; return the word of it to everybody, unless it has ended."""
        if self.state is SessionState.ENDED:
            return []
        self.end(code)
        close = self._close(code, text)
        return [Send(peer, close) for peer in self.terms.peers]

    def _close(self, code: Code, text: str) -> Close:
        return Close(self.terms.session, self.terms.epoch, code, 0, cut_text(text))

    def end(self, reason: Code) -> None:
        """End the session without a word to others; what was computed stays counted."""
        if self.state is SessionState.RUNNING:
            self.state, self.reason = SessionState.ENDED, reason
            self.received = self.computed
            self._waiting.clear()
            self._admitted.clear()

    def _admit(self, sender: PeerKey, kind: type[SessionMessage]) -> None:
        """Raises RemoteProtocolError where the sender may not send such a message."""
        who = self.terms.parts(sender)
        if not who:
            raise Stranger(f"{kind.__name__} of a session of others", Code.BAD_STATE)
        if not ALLOWED.get((self.state, kind), Relation.NOBODY) & who:
            raise RemoteProtocolError(f"{who.name} sent {kind.__name__} while {self.state.name}", Code.BAD_STATE)
        self._admitted.add((sender, kind))

    def _prompt(self, message: Prompt) -> list[Send]:
        if Roles.HEAD not in self.terms.roles:
            raise RemoteProtocolError("a prompt to a stage that is no head", Code.BAD_STATE)
        if message.epoch != self.terms.epoch:
            return []
        if self.received and self._has_prompt_twice:
            self._has_prompt_twice = False
            return []
        if self.received:
            raise RemoteProtocolError("a second prompt", Code.BAD_STATE)
        count = len(message.ids) // 4
        if count != self.terms.prompt:
            raise RemoteProtocolError(f"{count} ids, {self.terms.prompt} were announced", Code.BAD_POSITION)
        self._check_ids(unpack_ids(message.ids))
        self._wait(message.ids, count)
        return []

    def _rows(self, message: Forward) -> list[Send]:
        if (message.epoch, message.round) != (self.terms.epoch, 0):
            return []  # of an older route: dropped, not computed
        last = message.position + message.count
        # Past the prompt a row belongs to an id, and that was sampled once the row before it was computed
        sampled = max(self.terms.prompt, self.computed + 1)  # positions that have an id, as far as this stage can know
        if message.position != self.received or last > min(sampled, self.terms.max_positions):
            text = f"rows {message.position}:{last}, {self.received} is next and {sampled} the first not sampled"
            raise RemoteProtocolError(text, Code.BAD_POSITION)
        if last > self._granted:
            raise RemoteProtocolError(f"rows up to {last}, granted {self._granted}", Code.OVER_CREDIT)
        if message.codec != self.terms.codec_in or len(message.rows) != message.count * self._row:
            raise RemoteProtocolError(
                f"{len(message.rows)} bytes of codec {message.codec} for {message.count} rows", Code.BAD_VALUES
            )
        self._wait(message.rows, message.count)
        return []

    def _sampled(self, message: Sampled) -> list[Send]:
        if Roles.HEAD not in self.terms.roles:
            raise RemoteProtocolError("ids sent to a stage that is no head", Code.BAD_STATE)
        if (message.epoch, message.round) != (self.terms.epoch, 0):
            return []
        # An id is due when every position before it has been computed here
        due = self.received
        if due < self.terms.prompt or due != self.computed or due >= self.terms.max_positions:
            raise RemoteProtocolError(f"an id from {message.position}, and none is due", Code.BAD_POSITION)
        if message.position != due or len(message.ids) != 1:
            raise RemoteProtocolError(
                f"{len(message.ids)} ids from {message.position}, {self.received} is next", Code.BAD_POSITION
            )
        self._check_ids(message.ids)
        self.sampled += 1
        if message.reason:
            return self._finish_ring(Code(message.reason))
        self._wait(pack_ids(message.ids), 1)
        return []

    def _finish(self, message: Finish) -> list[Send]:
        if Roles.TAIL in self.terms.roles:
            raise RemoteProtocolError("a finish to the tail, which has not sampled the last id", Code.BAD_STATE)
        if message.epoch != self.terms.epoch:
            return []
        committed = message.committed
        if committed < self.terms.prompt or committed != self.computed or committed != self.received:
            raise RemoteProtocolError(
                f"finished at {message.committed}, {self.computed} of {self.received} were computed", Code.BAD_POSITION
            )
        return self._finish_ring(Code(message.reason))

    def _finish_ring(self, reason: Code) -> list[Send]:
        self.end(reason)
        if self.terms.successor is None:
            return []
        finish = Finish(self.terms.session, self.terms.epoch, self.computed, reason)
        return [Send(self.terms.successor, finish)]

    def _take_credit(self, message: Credit) -> list[Send]:
        if message.epoch == self.terms.epoch:
            if message.limit > self.terms.max_positions or message.first:
                text = f"credit from {message.first} to {message.limit} of {self.terms.max_positions} positions"
                raise RemoteProtocolError(text, Code.BAD_POSITION)
            self.limit = max(self.limit, message.limit)
        return []

    def _sample(self, id_: int) -> list[Send]:
        assert self._tail_ids is not None
        terms, message = self.terms, self._tail_ids.add(id_)
        self.sampled += 1
        sends = [] if self.is_suspended else [Send(terms.client, message)]
        if terms.far_end is not None:
            sends.insert(0, Send(terms.far_end, message))  # the ring waits for it
        elif not message.reason:
            self._wait(pack_ids((id_,)), 1)  # solo: the ring is this stage alone
        if message.reason:
            self.end(self._tail_ids.reason)
        return sends

    def _wait(self, data: bytes, count: int) -> None:
        """Rows or ids of the next so many positions have come."""
        self._waiting += data
        self.received += count

    def _forward(self, position: int, count: int, rows: bytes) -> Forward:
        terms = self.terms
        return Forward(terms.session, terms.epoch, 0, position, count, self.computed, terms.codec_out, rows)

    def _grant(self) -> list[Send]:
        """More credit for the predecessor, a chunk at a time."""
        limit = min(self.computed + CREDIT_CHUNKS * self.terms.max_chunk, self.terms.max_positions)
        if self.terms.predecessor is None or limit < min(
            self._granted + self.terms.max_chunk, self.terms.max_positions
        ):
            return []
        if limit <= self._granted:
            return []
        self._granted = limit
        return [Send(self.terms.predecessor, Credit(self.terms.session, self.terms.epoch, limit))]

    def _check_ids(self, ids: tuple[int, ...]) -> None:
        if max(ids) >= self.terms.vocabulary:
            raise RemoteProtocolError(f"id {max(ids)}, the vocabulary has {self.terms.vocabulary}", Code.BAD_VALUES)
