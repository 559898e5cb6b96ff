"""The worked example of inference.md, run: two stages and a client joined back to back, layers without arithmetic."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.generation import Generation
from p2pinfer.core.sessions.stage import Send, StageSession
from p2pinfer.core.sessions.stage_terms import StageTerms
from p2pinfer.core.sessions.step import Output
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, PeerKey, Roles, SessionId, Span
from p2pinfer.core.wire.session_messages import Accept, Credit, Finish, Forward, Prompt, Sampled, SessionMessage

SESSION: Final = SessionId(bytes(range(16)))
CLIENT, HEAD, TAIL = (PeerKey(name.ljust(32, b".")) for name in (b"client", b"head", b"tail"))
NAMES: Final = {CLIENT: "client", HEAD: "head", TAIL: "tail"}
PROMPT: Final = (11, 12, 13, 14, 15)
ANSWER: Final = (21, 22)
WIDTH: Final = 4
CHUNK: Final = 2


class Silent:
    """A reader of ids without text, for generations without stop strings."""

    stop: str | None = None
    rest = ""

    def add(self, id_: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


def stage(key: PeerKey) -> StageSession:
    """The head or the tail of the example."""
    tail = key == TAIL
    terms = StageTerms(
        session=SESSION,
        epoch=0,
        client=CLIENT,
        predecessor=HEAD if tail else None,
        successor=None if tail else TAIL,
        far_end=HEAD if tail else TAIL,
        span=Span(15, 30) if tail else Span(0, 15),
        roles=Roles.TAIL if tail else Roles.HEAD,
        prompt=len(PROMPT),
        width=WIDTH,
        vocabulary=100,
        codec_in=Codec.F32 if tail else Codec.IDS,
        codec_out=Codec.IDS if tail else Codec.F32,
        max_positions=len(PROMPT) + len(ANSWER),
        max_chunk=CHUNK,
        sampling=SamplingRecord(max_tokens=len(ANSWER)) if tail else None,
    )
    return StageSession(terms, Ending((), len(ANSWER), Silent()) if tail else None)


def run() -> list[str]:
    """Every message of the example, in order, as the spec writes it."""
    client = Generation(SESSION, 0, PROMPT, (HEAD, TAIL), 100, Ending((), len(ANSWER), Silent()))
    stages = {HEAD: stage(HEAD), TAIL: stage(TAIL)}
    queue: deque[tuple[PeerKey, Send]] = deque(
        (key, Send(CLIENT, Accept(SESSION, 0, bytes(64), 0))) for key in (HEAD, TAIL)
    )
    lines = []
    while queue or any(part.ready(1000) for part in stages.values()):
        while queue:
            sender, send = queue.popleft()
            lines.append(line(sender, send))
            taker = client if send.to == CLIENT else stages[send.to]
            queue.extend((send.to, answer) for answer in taker.receive(sender, send.message))
        for key, part in stages.items():
            queue.extend((key, send) for send in step(part))
    assert client.reason is Code.LENGTH
    return lines


def step(part: StageSession) -> Sequence[Send]:
    """Compute one chunk, if there is something to compute."""
    if not (count := min(CHUNK, part.ready(1000))):
        return []
    taken = part.take(count)
    ids = (ANSWER[part.sampled],) if taken.sample else ()
    return part.done(taken, Output(bytes(4 * WIDTH * count) if part.terms.successor else b"", ids))


def line(sender: PeerKey, send: Send) -> str:
    return f"{NAMES[sender]:<6} -> {NAMES[send.to]:<6}  {said(send.message)}"


def said(message: SessionMessage) -> str:
    match message:
        case Prompt():
            return f"Prompt   {len(message.ids) // 4} ids"
        case Forward():
            last = message.position + message.count - 1
            return f"Forward  positions {message.position}-{last}, computed {message.computed}"
        case Sampled():
            return f"Sampled  position {message.position}, id {message.ids[0]}, reason {Code(message.reason).label}"
        case Credit():
            return f"Credit   limit {message.limit}"
        case Finish():
            return f"Finish   committed {message.committed}, reason {Code(message.reason).label}"
        case _:
            return type(message).__name__
