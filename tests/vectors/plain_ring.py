"""A stage and a client as inference.md has them, in plain Python: made from the text and not from the reference code.

The vectors of sessions come from these two, and tests hold the reference to them over generated messages. Peers have
names here: `client`, `predecessor`, `successor`, `far end`, or `stage 0` and so on at a client. Messages are the
reference's values, whose bytes have vectors of their own.
"""

from collections.abc import Sequence
from typing import Any, Final

from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Credit,
    Finish,
    Forward,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionMessage,
    SessionRefused,
    Signed,
    Stored,
)
from tests.protocols.reading import REGISTRY

Terms = dict[str, Any]
Told = list[tuple[str, SessionMessage]]

CODES: Final[dict[str, int]] = {entry["name"]: entry["number"] for entry in REGISTRY["codes"]}
NAMES: Final = {number: name for name, number in CODES.items()}
CODECS: Final[dict[str, int]] = {entry["name"]: entry["number"] for entry in REGISTRY["codecs"]}
ROW: Final = {"ids": lambda width: 4, "f32": lambda width: 4 * width, "bf16": lambda width: 2 * width}


class Fault(Exception):
    """A message that is refused. ends: `session`, `generation`, or the `link` of a stranger."""

    def __init__(self, code: str, ends: str) -> None:
        super().__init__(code)
        self.code = code
        self.ends = ends


def code_name(number: int) -> str:
    """INF-29"""
    return NAMES.get(number, "unknown")


class Rule:
    """When a generation ends (4.3); the text of id i is the letter number i mod 26."""

    def __init__(self, terms: Terms) -> None:
        self.ends, self.most, self.stops = terms["ends"], terms["max_tokens"], terms["stops"]
        self.count = 0
        self.text = ""

    def add(self, id_: int) -> str:
        self.count += 1
        if id_ in self.ends:
            return "end"
        self.text += chr(97 + id_ % 26)
        if any(stop in self.text for stop in self.stops):
            return "stop"
        return "length" if self.count == self.most else "none"


class PlainStage:
    """rows: positions that came. computed: positions that went through the layers. ids: sampled, as far as it knows."""

    def __init__(self, terms: Terms, session: bytes) -> None:
        self.terms = terms
        self.session: Any = session
        self.is_head = terms["role"] in ("head", "solo")
        self.is_tail = terms["role"] in ("tail", "solo")
        self.state, self.reason = "running", "none"
        self.rows = self.computed = self.ids = 0
        self.may_send = self.may_come = 2 * terms["max_chunk"]
        self.rule = Rule(terms) if self.is_tail else None
        self.last: tuple[str, SessionMessage] | None = None
        self.away = self.again = False  # the client is; and has said that it is back, with no id
        self.kept: list[int] = []  # ids that it sampled

    def parts(self, name: str) -> set[str]:
        """What a peer is; in a ring of two the neighbour is the far end as well."""
        has = {"client"}
        has |= set() if self.is_head else {"predecessor"}
        has |= set() if self.is_tail else {"successor"}
        has |= {"far end"} if self.is_head != self.is_tail else set()
        if self.terms["stages"] == 2 and name in has - {"client"}:
            return has - {"client"}
        return {name} & has

    def told(self) -> list[str]:
        """Everybody in the session, once each (3.8)."""
        names: list[str] = ["client"]
        for name in ("predecessor", "successor", "far end"):
            if not any(self.parts(name) <= self.parts(other) for other in names):
                names.append(name)
        return names

    def hear(self, name: str, message: SessionMessage) -> Told:
        """Take a message. Raises Fault; one that ends the session has ended it, and `closes` says what is told."""
        parts = self.parts(name)
        if self.state == "ended":
            return self._late(message) if isinstance(message, Resume) and name == "client" else []
        if not parts:
            raise Fault("bad-state", "link")
        try:
            return self._hear(parts, message)
        except Fault as fault:
            self.end(fault.code)
            raise

    def closes(self, code: str) -> Told:
        return [(name, Close(self.session, self.terms["epoch"], CODES[code], 0, "")) for name in self.told()]

    def _hear(self, parts: set[str], message: SessionMessage) -> Told:
        wanted = {
            Prompt: "client",
            Signed: "client",
            Resume: "client",
            Forward: "predecessor",
            Finish: "predecessor",
            Sampled: "far end",
            Credit: "successor",
        }.get(type(message))
        if isinstance(message, Close):
            self.end(code_name(message.code))
            return []
        takes = {Prompt: self.is_head, Sampled: self.is_head, Finish: not self.is_tail}
        if wanted not in parts or not takes.get(type(message), True):
            raise Fault("bad-state", "session")
        if getattr(message, "epoch", self.terms["epoch"]) != self.terms["epoch"] or getattr(message, "round", 0):
            return []
        match message:
            case Resume():
                return self._resume(message)
            case Prompt():
                self._prompt(message)
            case Forward():
                self._forward(message)
            case Sampled():
                return self._sampled(message)
            case Finish():
                return self._finish(message)
            case Credit():
                if message.limit > self.terms["max_positions"] or message.first > 0:
                    raise Fault("bad-position", "session")
                self.may_send = max(self.may_send, message.limit)
        return []

    def breaks(self) -> None:
        """The client's link breaks, and the client may be back (4.4)."""
        self.away, self.again = True, False

    def _late(self, message: Resume) -> Told:
        """INF-44: of a session that has ended while its client was away."""
        if not self.away or message.epoch != self.terms["epoch"]:
            return []
        if self.reason not in ("end", "length", "stop"):
            return [self._close(self.reason)]
        try:
            return self._resume(message)
        except Fault as fault:
            return [self._close(fault.code)]

    def _close(self, code: str) -> tuple[str, SessionMessage]:
        number = CODES.get(code, 255)
        return "client", Close(self.session, self.terms["epoch"], number, 0, "")

    def _resume(self, message: Resume) -> Told:
        has = message.delivered
        if not self.away:
            raise Fault("bad-state", "session")
        if has and self.terms["prompt"] + has - 1 > self.computed:
            raise Fault("bad-position", "session")
        self.away, self.again = False, has == 0
        told: Told = []
        for at in range(has, len(self.kept), 64):
            ids = tuple(self.kept[at : at + 64])
            last = self.state == "ended" and at + len(ids) == len(self.kept)
            reason = CODES[self.reason] if last else 0
            told.append(("client", Sampled(self.session, message.epoch, 0, self.terms["prompt"] + at, ids, reason)))
        return told

    def _prompt(self, message: Prompt) -> None:
        if self.rows and self.again:
            self.again = False
            return
        if self.rows:
            raise Fault("bad-state", "session")
        if len(message.ids) != 4 * self.terms["prompt"]:
            raise Fault("bad-position", "session")
        ids = [int.from_bytes(message.ids[at : at + 4], "big") for at in range(0, len(message.ids), 4)]
        self._known(ids)
        self.rows = len(ids)

    def _known(self, ids: Sequence[int]) -> None:
        if any(id_ >= self.terms["vocabulary"] for id_ in ids):
            raise Fault("bad-values", "session")

    def _forward(self, message: Forward) -> None:
        terms, end = self.terms, message.position + message.count
        if message.position != self.rows or end > terms["max_positions"]:
            raise Fault("bad-position", "session")
        if end > terms["prompt"] and not (message.count == 1 and self.computed == self.rows):
            raise Fault("bad-position", "session")  # the id of that position is not sampled
        if end > self.may_come:
            raise Fault("over-credit", "session")
        row = ROW[terms["codec_in"]](terms["width"])
        if message.codec != CODECS[terms["codec_in"]] or len(message.rows) != message.count * row:
            raise Fault("bad-values", "session")
        self.rows = end

    def _sampled(self, message: Sampled) -> Told:
        due = self.terms["prompt"] + self.ids
        if (
            message.position != due
            or self.computed != due
            or len(message.ids) > 1
            or due >= self.terms["max_positions"]
        ):
            raise Fault("bad-position", "session")
        self._known(message.ids)
        self.ids += 1
        if message.reason:
            return self._end_ring(message.reason)
        self.rows += 1
        return []

    def _finish(self, message: Finish) -> Told:
        if not (message.committed == self.computed == self.rows and message.committed >= self.terms["prompt"]):
            raise Fault("bad-position", "session")
        return self._end_ring(message.reason)

    def _end_ring(self, reason: int) -> Told:
        self.end(code_name(reason))
        return [("successor", Finish(self.session, self.terms["epoch"], self.computed, reason))]

    def end(self, reason: str) -> None:
        self.state, self.reason, self.rows = "ended", reason, self.computed

    def ready(self) -> int:
        """Positions that may be computed now."""
        most = self.terms["max_positions"] if self.is_tail else self.may_send
        return (
            0
            if self.state == "ended" or self.away
            else max(0, min(self.rows, most, self.terms["max_positions"]) - self.computed)
        )

    def compute(self, count: int, rows: bytes, sampled: int | None) -> Told:
        """The layers have done `count` positions: `rows` go out, or an id was `sampled`."""
        terms, first = self.terms, self.computed
        self.computed += count
        told: Told = []
        limit = min(self.computed + 2 * terms["max_chunk"], terms["max_positions"])
        enough = limit >= self.may_come + terms["max_chunk"] or limit == terms["max_positions"]
        if not self.is_head and limit > self.may_come and enough:
            self.may_come = limit
            told.append(("predecessor", Credit(self.session, terms["epoch"], limit)))
        if not self.is_tail:
            codec = CODECS[terms["codec_out"]]
            forward = Forward(self.session, terms["epoch"], 0, first, count, self.computed, codec, rows)
            told.append(("successor", forward))
        elif sampled is not None:
            told += self._sample(sampled)
        return told

    def _sample(self, id_: int) -> Told:
        assert self.rule is not None
        reason = self.rule.add(id_)
        position = self.terms["prompt"] + self.ids
        self.ids += 1
        self.kept.append(id_)
        message = Sampled(self.session, self.terms["epoch"], 0, position, (id_,), CODES[reason])
        back = "predecessor" if self.terms["stages"] == 2 else "far end"
        told: Told = [*([] if self.is_head else [(back, message)]), *([] if self.away else [("client", message)])]
        if reason != "none":
            self.end(reason)
        elif self.is_head:
            self.rows += 1
        return told


class PlainClient:
    """ids: delivered. The route's stages are `stage 0` and so on."""

    def __init__(self, case: Terms, session: bytes) -> None:
        self.case = case
        self.session: Any = session
        self.route = [f"stage {place}" for place in range(case["route"])]
        self.state, self.reason = "opening", "none"
        self.ids: list[int] = []
        self.rule = Rule(case)
        self.accepted: set[str] = set()
        self.refused: set[str] = set()

    def hear(self, name: str, message: SessionMessage) -> Told:
        """Take a message. Raises Fault; one that ends the generation has ended it, and `closes` says what is told."""
        if self.state in ("answered", "failed"):
            late = self.state == "failed" and isinstance(message, Accept) and name in self.route
            return [(name, self._close())] if late else []
        if name not in self.route:
            raise Fault("bad-state", "link")
        try:
            return self._hear(name, message)
        except Fault as fault:
            self.state, self.reason = "failed", fault.code
            raise

    def closes(self) -> Told:
        return [(name, self._close()) for name in self.route if name not in self.refused]

    def resumes(self, name: str) -> Told:
        """What a stage is told to which the link broke and is there again (4.4)."""
        told: Told = [(name, Resume(self.session, self.case["epoch"], len(self.ids)))]
        return [*told, (name, self._prompt())] if name == "stage 0" and not self.ids else told

    def _prompt(self) -> Prompt:
        ids = b"".join(id_.to_bytes(4, "big") for id_ in self.case["prompt"])
        return Prompt(self.session, self.case["epoch"], ids)

    def gives_up(self, code: str) -> Told:
        if self.state in ("answered", "failed"):
            return []
        self.state, self.reason = "failed", code
        return self.closes()

    def _close(self) -> Close:
        code = "cancelled" if self.reason == "unknown" else self.reason
        committed = len(self.case["prompt"]) + len(self.ids) - 1 if self.ids else 0
        return Close(self.session, self.case["epoch"], CODES[code], committed, "")

    def _hear(self, name: str, message: SessionMessage) -> Told:
        opening = self.state == "opening"
        match message:
            case Close():
                return self.gives_up(code_name(message.code))
            case Accept() if opening:
                return self._accept(name, message)
            case SessionRefused() if opening:
                self.refused.add(name)
                return self.gives_up(code_name(message.code))
            case Sampled() if not opening:
                self._sampled(name, message)
            case Propose() | Stored() if not opening:
                pass  # receipts.md
            case _:
                raise Fault("bad-state", "generation")
        return []

    def _accept(self, name: str, message: Accept) -> Told:
        if name in self.accepted or message.epoch != self.case["epoch"]:
            raise Fault("bad-state", "generation")
        if message.held > 0:
            raise Fault("bad-position", "generation")
        self.accepted.add(name)
        if len(self.accepted) < len(self.route):
            return []
        self.state = "running"
        return [("stage 0", self._prompt())]

    def _sampled(self, name: str, message: Sampled) -> None:
        if name != self.route[-1]:
            raise Fault("bad-state", "generation")
        if message.epoch != self.case["epoch"] or message.round:
            return
        if message.position != len(self.case["prompt"]) + len(self.ids):
            raise Fault("bad-position", "generation")
        if any(id_ >= self.case["vocabulary"] for id_ in message.ids):
            raise Fault("bad-values", "generation")
        said = ["none"] * (len(message.ids) - 1) + [code_name(message.reason)]
        if [self.rule.add(id_) for id_ in message.ids] != said:
            raise Fault("bad-state", "generation")
        self.ids += message.ids
        if message.reason:
            self.state, self.reason = "answered", said[-1]
