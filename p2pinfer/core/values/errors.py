"""Every error that p2pinfer raises on purpose. The type says whose fault it is; the message holds the numbers.

P2pinferError
├── UsageError              the user's input, files or settings; the message says what to do
│   ├── ModelError          a model that cannot be imported, found, told apart or loaded
│   └── TooLong             prompt and answer together are longer than the model or its peers take
├── ProtocolError
│   ├── LocalProtocolError  our own bug: we were about to break the spec
│   └── RemoteProtocolError a peer broke the spec; `code` is what it is told
│       ├── Stranger        it sent a message of a session in which it has no part
│       └── Disputed        it did, or another stage of its route made it: nobody can tell
├── PeerError               a peer did what the spec allows, and we cannot go on with it
│   ├── LinkDead            the link closed; `code` says why, where the peer said so
│   │   └── Undialled       there is none, for our own limit on dials left the peer undialled
│   └── Refused             the peer refused an open or a call; `retry_s` says when to try again
│       └── TurnedAway      it is there, and has no room for a link to us
├── NoRoute                 nobody serves some layers, or no route fits the limits
│   ├── TooDear             every route may cost more than the request's price limit
│   └── Unreached           there are routes, and some stage of each cannot be reached
├── GenerationFailed        a generation ended for a reason that is not an answer
├── KeyInUse                another process uses our key
├── EngineError             the engine's process died, or was asked for more than it reserved
└── JournalError            a record could not be made durable (full disk, altered file)
"""

from p2pinfer.core.values.codes import Code


class P2pinferError(Exception):
    """Everything below; catching it catches every failure that is not a bug."""


class UsageError(P2pinferError):
    """The user's input is wrong; the message says what to do about it."""


class ModelError(UsageError):
    """A model cannot be imported, found, told apart or loaded."""


class TooLong(UsageError):
    """A prompt and its answer are together longer than the model or its peers take."""


class ProtocolError(P2pinferError):
    """The spec was broken; the subclass says by whom."""


class LocalProtocolError(ProtocolError):
    """We were about to break the spec: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """A peer broke the spec."""

    def __init__(self, message: str, code: Code = Code.BAD_FRAME) -> None:
        super().__init__(message)
        self.code = code


class Stranger(RemoteProtocolError):
    """A peer sent a message of a session in which it has no part: its link ends, and the session goes on."""


class Disputed(RemoteProtocolError):
    """A stage broke the spec, or another of its route made it, or lies about it: a client cannot tell which."""


class PeerError(P2pinferError):
    """A peer did what the spec allows, and we cannot go on with it."""


class LinkDead(PeerError):
    """The link to a peer has closed."""

    def __init__(self, message: str, code: Code = Code.LOST) -> None:
        super().__init__(message)
        self.code = code


class Undialled(LinkDead):
    """Our own limit on dials left a peer undialled, which says nothing of it."""


class Refused(PeerError):
    """A peer refused what we asked for.

    retry_s: when to try again; None is never
    ticket:  of a place among those who wait for room; empty where there is none
    before:  so many wait before it
    """

    def __init__(
        self, message: str, code: Code, retry_s: float | None = None, ticket: bytes = b"", before: int = 0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_s = retry_s
        self.ticket = ticket
        self.before = before


class TurnedAway(Refused):
    """A peer that we dialled has no room for a link to us."""


class NoRoute(P2pinferError):
    """No set of offers covers the model's layers within the limits.

    cost: nano-credits that were signed for routes that were tried before, and brought nothing
    """

    def __init__(self, message: str, cost: int = 0) -> None:
        super().__init__(message)
        self.cost = cost


class TooDear(NoRoute):
    """Every route may cost more than the request's price limit."""


class Unreached(NoRoute):
    """There are routes, and some stage of each cannot be reached."""


class GenerationFailed(P2pinferError):
    """A generation ended without an answer that may be called finished.

    cost: nano-credits that were signed for it, routes that were tried before included
    """

    def __init__(self, message: str, code: Code, cost: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.cost = cost


class EngineError(P2pinferError):
    """The engine's process died, or was asked for more than it reserved."""


class KeyInUse(P2pinferError):
    """Another process uses our key."""


class JournalError(P2pinferError):
    """A record could not be made durable, or the journal is damaged."""


def sole(error: BaseException) -> BaseException:
    """The error that a group comes down to: its only one, or the first of ours where there are no others.

    Tasks raise groups, and people catch plain errors. A group that holds more is returned as it is.
    """
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) > 1 and error.split(P2pinferError)[1] is not None:
            break
        error = error.exceptions[0]
    return error
