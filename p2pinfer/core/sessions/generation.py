"""A generation as its client sees it, without I/O: stages accept, ids come, the end is checked.

Implements the client's side of protocols/inference.md. The client library feeds it messages and does what they
return. Contracts, signatures and receipts are `core/money/client_account.py`'s.

    OPENING --Accept of every stage--> RUNNING --last Sampled--> ANSWERED
       |                                  |
       +------- refusal, Close, fault ----+--------------------> FAILED

Once it is over, whatever comes is dropped; a stage that accepts too late is told.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.stage import Send
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Disputed, GenerationFailed, RemoteProtocolError, Stranger
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.messages import Message, reason_given
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionMessage,
    SessionRefused,
    Stored,
    pack_ids,
)


class Phase(Enum):
    OPENING = auto()
    RUNNING = auto()
    ANSWERED = auto()
    FAILED = auto()


# What stages may send, and when. In OPENING and RUNNING anything else is a fault; later it is dropped. What is proposed
# and stored is for the account.
ALLOWED: Final[frozenset[tuple[Phase, type[Message]]]] = frozenset(
    {
        (Phase.OPENING, Accept),
        (Phase.OPENING, SessionRefused),
        (Phase.OPENING, Close),
        (Phase.RUNNING, Sampled),
        (Phase.RUNNING, Propose),
        (Phase.RUNNING, Stored),
        (Phase.RUNNING, Close),
        (Phase.ANSWERED, Propose),
        (Phase.ANSWERED, Stored),
        (Phase.FAILED, Accept),
        (Phase.FAILED, Propose),
        (Phase.FAILED, Stored),
    }
)


class Generation:
    """ids: sampled so far, the truth after any failure. pieces: the text of each, in order; after a failure, the rest.

    failure: why it FAILED.
    """

    def __init__(
        self,
        session: SessionId,
        epoch: int,
        prompt: Sequence[int],
        route: Sequence[PeerKey],
        vocabulary: int,
        ending: Ending,
    ) -> None:
        self.session = session
        self.epoch = epoch
        self.prompt = tuple(prompt)
        self.route = tuple(route)
        self.phase = Phase.OPENING
        self.over = False  # ANSWERED or FAILED
        self.reason = Code.NONE
        self.ids: list[int] = []
        self.pieces: list[str] = []
        self.failure: GenerationFailed | None = None
        self._vocabulary = vocabulary
        self._ending = ending
        self._rest = ""  # text of the ids that is in no piece yet
        self._awaited = set(route)  # stages that have not accepted yet
        self._refused: set[PeerKey] = set()

    @property
    def committed(self) -> int:
        """Positions that the ids at hand prove computed by every stage: P + N - 1, or none before the first id."""
        return len(self.prompt) + len(self.ids) - 1 if self.ids else 0

    @property
    def opening(self) -> bool:
        """Not every stage has accepted yet."""
        return self.phase is Phase.OPENING

    @property
    def begun(self) -> bool:
        """An id has come, or none will."""
        return bool(self.ids) or self.over

    def receive(self, sender: PeerKey, message: SessionMessage) -> list[Send]:
        """Take a message of this session; return what to send for it.

        A signature in it has been checked.

        Raises:
            Stranger: the sender is no stage of the route; the generation goes on.
            RemoteProtocolError: the sender may not send it, or not now; `fail` has to follow. Disputed where another
                stage may have made it do so.
        """
        if type(message) is Sampled and self.phase is Phase.RUNNING and sender == self.route[-1]:
            self._sampled(message)  # nearly always
            return []
        if self.over:
            too_late = self.phase is Phase.FAILED and isinstance(message, Accept) and sender in self.route
            return [Send(sender, self._close())] if too_late else []
        if sender not in self.route:
            raise Stranger(f"{type(message).__name__} of a session of others", Code.BAD_STATE)
        if (self.phase, type(message)) not in ALLOWED:
            fault = Disputed if self._may_come_of_others(sender, message) else RemoteProtocolError
            raise fault(f"{type(message).__name__} while {self.phase.name}", Code.BAD_STATE)
        match message:
            case Accept():
                return self._accept(sender, message)
            case SessionRefused():
                self._refused.add(sender)
                return self._fail_by(sender, "refused", message)
            case Close():
                return self._fail_by(sender, "gave up", message)
            case Sampled():
                raise RemoteProtocolError("ids from a stage that is not the tail", Code.BAD_STATE)
        return []

    def fail(self, text: str, code: Code) -> list[Send]:
        """End the generation without an answer; return the word of it to every stage that has not refused.

        The first reason stays.
        """
        if self.over:
            return []
        self.phase, self.over, self.reason = Phase.FAILED, True, code
        self.pieces.append(self._rest)
        self.failure = GenerationFailed(text, code)
        return [Send(stage, self._close()) for stage in self.route if stage not in self._refused]

    def resume(self, stage: PeerKey) -> list[Send]:
        """Return what to tell a stage whose link broke and is there again; nothing is known of what was on its way."""
        sends = [Send(stage, Resume(self.session, self.epoch, len(self.ids)))]
        if stage == self.route[0] and not self.ids:
            sends.append(Send(stage, self._first_message()))
        return sends

    def _first_message(self) -> Prompt:
        return Prompt(self.session, self.epoch, pack_ids(self.prompt))

    def _may_come_of_others(self, sender: PeerKey, message: SessionMessage) -> bool:
        """Too early, but of a stage that has accepted: another sent it rows and keeps its own Accept from us."""
        at_work = isinstance(message, Propose) or (isinstance(message, Sampled) and sender == self.route[-1])
        return self.opening and at_work and sender not in self._awaited

    def _fail_by(self, stage: PeerKey, did: str, message: SessionRefused | Close) -> list[Send]:
        why = reason_given(message.text, message.code)
        return self.fail(f"stage {short_name(stage)} {did}: {why}", Code.read(message.code))

    def _close(self) -> Close:
        """The client's word that it is over, and how far it signs. A code that we cannot read is not passed on."""
        code = Code.CANCELLED if self.reason is Code.UNKNOWN else self.reason
        return Close(self.session, self.epoch, code, self.committed, "")

    def _accept(self, sender: PeerKey, message: Accept) -> list[Send]:
        if message.epoch != self.epoch or sender not in self._awaited:
            raise RemoteProtocolError("a second accept, or one of another epoch", Code.BAD_STATE)
        if message.held:
            raise RemoteProtocolError(f"{message.held} positions held of a new generation", Code.BAD_POSITION)
        self._awaited.remove(sender)
        if self._awaited:
            return []
        self.phase = Phase.RUNNING
        return [Send(self.route[0], self._first_message())]

    def _sampled(self, message: Sampled) -> None:
        if (message.epoch, message.round) != (self.epoch, 0):
            return
        due = len(self.prompt) + len(self.ids)
        if message.position != due:
            raise RemoteProtocolError(f"ids from position {message.position}, {due} is next", Code.BAD_POSITION)
        if max(message.ids) >= self._vocabulary:
            raise RemoteProtocolError(f"id {max(message.ids)}, the vocabulary has {self._vocabulary}", Code.BAD_VALUES)
        pieces = []
        for index, id_ in enumerate(message.ids, 1):
            ended = self._ending.add(id_)
            pieces.append(self._ending.piece)
            claimed = message.reason if index == len(message.ids) else Code.NONE
            if claimed != ended:
                raise RemoteProtocolError(
                    f"the tail says {Code.read(claimed).label} at id {len(self.ids) + index}, it is {ended.label}",
                    Code.BAD_STATE,
                )
        self.ids += message.ids  # all or none: ids of a message that lies are no one's answer
        self.pieces += pieces
        self._rest = self._ending.rest
        if message.reason:
            self.phase, self.over, self.reason = Phase.ANSWERED, True, Code(message.reason)
