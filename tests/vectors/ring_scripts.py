"""Cases of protocols/vectors/inference.json for whole rings: who sends what to whom, then what.

Client and stages are those of `plain_ring.py`, joined; a case says in which order things happen and keeps the
transcript. An implementation replays its own part of it: what comes to it and what it computes are given, what it sends
must follow.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec
from p2pinfer.core.wire.message_codec import encode_message
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Credit,
    Finish,
    Forward,
    Prompt,
    Sampled,
    SessionMessage,
    SessionRefused,
)
from tests.vectors.plain_ring import Fault, PlainClient, PlainStage, Told
from tests.vectors.rings import ROW, SESSION, WIDTH

Case = dict[str, Any]


def stage_terms(case: Case, place: int) -> Case:
    """The terms of one stage of a ring, as the cases of `stage` have them."""
    stages = case["route"]
    role = "solo" if stages == 1 else "head" if place == 0 else "tail" if place == stages - 1 else "middle"
    return {
        **{name: case[name] for name in ("epoch", "vocabulary", "max_positions", "max_chunk", "max_tokens")},
        "role": role,
        "stages": stages,
        "prompt": len(case["prompt"]),
        "width": WIDTH,
        "codec_in": "ids" if place == 0 else "bf16",
        "codec_out": "ids" if place == stages - 1 else "bf16",
        "ends": case["ends"],
        "stops": case["stops"],
    }


def part_of(name: str, place: int, stages: int) -> str:
    """The part of somebody of a ring in the session of a stage."""
    parts = {"client": "client", f"stage {place - 1}": "predecessor", f"stage {place + 1}": "successor"}
    if stages > 2 and place in (0, stages - 1):
        parts[f"stage {stages - 1 - place}"] = "far end"
    return parts.get(name, "stranger")


def name_of(part: str, place: int, stages: int) -> str:
    """Who has a part in the session of a stage."""
    return {
        "client": "client",
        "predecessor": f"stage {place - 1}",
        "successor": f"stage {place + 1}",
        "far end": f"stage {stages - 1 - place}",
    }[part]


class Ring:
    """One case, as it happens. Messages wait until they are delivered, in order for each pair."""

    def __init__(self, name: str, rule: str, route: int = 2, **terms: Any) -> None:
        defaults: Case = {
            "epoch": 0,
            "prompt": [7, 8, 9, 10, 11],
            "vocabulary": 100,
            "ends": [2],
            "max_tokens": 2,
            "stops": [],
            "max_positions": 16,
            "max_chunk": 2,
        }
        self.case: Case = {"name": name, "rule": rule, "route": route, **defaults, **terms, "steps": []}
        self.client = PlainClient(self.case, SESSION)
        self.stages = [PlainStage(stage_terms(self.case, place), SESSION) for place in range(route)]
        self.waiting: deque[tuple[str, str, SessionMessage]] = deque()

    def accepts(self, *places: int) -> "Ring":
        """These stages, or all, accept."""
        for place in places or range(len(self.stages)):
            self.waiting.append((f"stage {place}", "client", Accept(SESSION, 0, bytes(64))))
        return self.delivers()

    def delivers(self, sender: str = "", to: str = "") -> "Ring":
        """Deliver what waits, from one to another or all; and what that brings about."""
        while chosen := next((item for item in self.waiting if sender in ("", item[0]) and to in ("", item[1])), None):
            self.waiting.remove(chosen)
            self._deliver(*chosen)
        return self

    def loses(self, sender: str, to: str) -> "Ring":
        """What waits from one to another never arrives."""
        for item in [item for item in self.waiting if item[:2] == (sender, to)]:
            self.waiting.remove(item)
            self._step(**{"from": sender}, to=to, message=encode_message(item[2]).hex(), lost=True)
        return self

    def says(self, sender: str, to: str, message: SessionMessage) -> "Ring":
        """Somebody sends what no honest peer in its place would; or it may be anybody."""
        self._deliver(sender, to, message, forged=True)
        return self

    def computes(self, place: int, count: int, sampled: int | None = None) -> "Ring":
        stage = self.stages[place]
        first = stage.computed
        rows = b"" if stage.is_tail else b"".join(bytes([at]) * ROW for at in range(first, first + count))
        assert count <= stage.ready(), self.case["name"]
        given: Case = {"sampled": sampled} if stage.is_tail else {"rows": rows.hex()}
        self._step(at=f"stage {place}", compute=count, **given)
        self._send(f"stage {place}", stage.compute(count, rows, sampled))
        return self

    def fails(self, place: int, code: Code) -> "Ring":
        """A stage ends its session for a failure of its own."""
        stage = self.stages[place]
        self._step(at=f"stage {place}", fail=code.label)
        told = stage.closes(code.label)
        stage.end(code.label)
        self._send(f"stage {place}", told)
        return self

    def breaks(self, *places: int) -> "Ring":
        """The links between the client and these stages break; nothing that is on them arrives."""
        for place in places:
            self.loses(f"stage {place}", "client").loses("client", f"stage {place}")
            self._step(at=f"stage {place}", breaks="client")
            self.stages[place].breaks()
        return self

    def resumes(self, *places: int) -> "Ring":
        """The client has links to these stages again."""
        for place in places:
            self._step(at="client", resumes=f"stage {place}")
            self._send("client", self.client.resumes(f"stage {place}"))
        return self

    def loses_client(self, place: int) -> "Ring":
        """A stage loses the client for good."""
        self._step(at=f"stage {place}", loses="client")
        self.stages[place].end("lost")
        return self

    def gives_up(self, code: Code = Code.CANCELLED) -> "Ring":
        self._step(at="client", fail=code.label)
        self._send("client", self.client.gives_up(code.label))
        return self

    def is_left(self, client: str, reason: Code, *ids: int, stages: Sequence[str] = ()) -> Case:
        """Where everybody ends, everything having been delivered. stages: what each ended with, where it differs."""
        self.delivers()
        name = self.case["name"]
        assert (self.client.state, self.client.reason, self.client.ids) == (client, reason.label, list(ids)), name
        assert [stage.reason for stage in self.stages] == list(stages or [reason.label] * len(self.stages)), name
        left = {"client": {"state": client, "reason": reason.label, "ids": list(ids)}}
        for place, stage in enumerate(self.stages):
            state = {"state": stage.state, "reason": stage.reason, "computed": stage.computed, "received": stage.rows}
            left[f"stage {place}"] = state
        return {**self.case, "left": left}

    def _deliver(self, sender: str, to: str, message: SessionMessage, *, forged: bool = False) -> None:
        step: Case = {"from": sender, "to": to, "message": encode_message(message).hex()}
        if forged:
            step["forged"] = True
        try:
            told = self._hear(sender, to, message)
        except Fault as fault:
            step |= {"expect": fault.code, "ends": fault.ends}
            told = self._closes(to, fault)
        self._step(**step)
        self._send_named(to, told)

    def _hear(self, sender: str, to: str, message: SessionMessage) -> list[tuple[str, SessionMessage]]:
        if to == "client":
            return self.client.hear(sender, message)
        place = int(to.removeprefix("stage "))
        told = self.stages[place].hear(part_of(sender, place, len(self.stages)), message)
        return [(name_of(part, place, len(self.stages)), answer) for part, answer in told]

    def _closes(self, to: str, fault: Fault) -> list[tuple[str, SessionMessage]]:
        if fault.ends == "link":
            return []
        if to == "client":
            return self.client.closes()
        place = int(to.removeprefix("stage "))
        told = self.stages[place].closes(fault.code)
        return [(name_of(part, place, len(self.stages)), close) for part, close in told]

    def _send(self, sender: str, told: Told) -> None:
        if sender != "client":
            place = int(sender.removeprefix("stage "))
            told = [(name_of(part, place, len(self.stages)), message) for part, message in told]
        self._send_named(sender, told)

    def _send_named(self, sender: str, told: Sequence[tuple[str, SessionMessage]]) -> None:
        self.waiting.extend((sender, to, message) for to, message in told)

    def _step(self, **step: Any) -> None:
        self.case["steps"].append(step)


def ring_cases() -> Iterator[Case]:
    yield from answers()
    yield from ends()
    yield from losses()
    yield from returns()
    yield from faults()
    yield from strangers()


def prefilled(name: str, rule: str, **terms: Any) -> Ring:
    """A ring of two whose head has sent the prompt's rows, and whose tail has sampled the first id."""
    ring = Ring(name, rule, **terms).accepts()
    for place, count in ((0, 2), (0, 2), (1, 2), (0, 1)):
        ring.computes(place, count).delivers()
    return ring.computes(1, 3, 21)


def answers() -> Iterator[Case]:
    ring = prefilled("two stages, to the length", "INF-19").delivers().computes(0, 1).delivers()
    yield ring.computes(1, 1, 22).is_left("answered", Code.LENGTH, 21, 22)
    ring = Ring("one stage, to an end id", "INF-19", route=1).accepts()
    ring.computes(0, 2).computes(0, 2).computes(0, 1, 21).delivers()
    yield ring.computes(0, 1, 2).is_left("answered", Code.END, 21, 2)
    ring = Ring("three stages, to a stop string", "INF-20", route=3, prompt=[7], stops=["vw"], max_tokens=9).accepts()
    for place, sampled in ((0, None), (1, None), (2, 21), (0, None), (1, None), (2, 22)):
        ring.computes(place, 1, sampled).delivers()
    yield ring.is_left("answered", Code.STOP, 21, 22)
    ring = Ring("a head waits for credit, and sends rows as it comes", "INF-12", max_tokens=1).accepts()
    ring.computes(0, 2).computes(0, 2).delivers().computes(1, 2).delivers().computes(0, 1).delivers()
    yield ring.computes(1, 3, 21).is_left("answered", Code.LENGTH, 21)
    ring = prefilled("an answer of one id, whose Finish comes after the client is done", "INF-18", max_tokens=1)
    yield ring.delivers("stage 1", "client").delivers().is_left("answered", Code.LENGTH, 21)


def ends() -> Iterator[Case]:
    """Who closes, and who is told (3.8)."""
    refusal = SessionRefused(SESSION, 0, Code.BUSY, "", 1000)
    ring = Ring("one stage refuses, another has accepted", "INF-33").accepts(0)
    ring.says("stage 1", "client", refusal)
    yield ring.is_left("failed", Code.BUSY, stages=["busy", "none"])
    ring = Ring("one stage refuses, and another accepts later", "INF-33", route=3)
    ring.says("stage 1", "client", refusal).loses("client", "stage 0").accepts(0, 2)
    yield ring.is_left("failed", Code.BUSY, stages=["busy", "none", "busy"])
    ring = Ring("a refusal with a code of a later version is not passed on", "INF-33").accepts(0)
    ring.says("stage 1", "client", SessionRefused(SESSION, 0, 200, "", 0))
    yield ring.is_left("failed", Code.UNKNOWN, stages=["cancelled", "none"])
    ring = prefilled("the client gives up before the first id", "INF-32").gives_up()
    yield ring.is_left("failed", Code.CANCELLED)
    ring = prefilled("the client gives up after an id", "INF-32").delivers().gives_up()
    yield ring.is_left("failed", Code.CANCELLED, 21)
    ring = Ring("a prompt on its way when the tail fails", "INF-18").accepts(0)
    ring.waiting.append(("stage 1", "client", Accept(SESSION, 0, bytes(64))))
    ring.delivers("stage 1", "client").fails(1, Code.ENGINE).delivers("stage 1", "stage 0")
    yield ring.delivers("client", "stage 0").is_left("failed", Code.ENGINE)
    ring = prefilled("a tail fails, and tells the head and the client", "INF-32").delivers().fails(1, Code.ENGINE)
    yield ring.is_left("failed", Code.ENGINE, 21)
    ring = Ring("a middle fails, and tells its neighbours and the client", "INF-32", route=3).accepts()
    ring.computes(0, 2).delivers().fails(1, Code.LEAVING)
    yield ring.is_left("failed", Code.LEAVING)
    ring = Ring("a middle fails, and the client's word is the tail's first", "INF-32", route=4).accepts()
    ring.fails(1, Code.IDLE).delivers("stage 1", "client").delivers("client", "stage 3")
    yield ring.is_left("failed", Code.IDLE)
    ring = Ring("a tail of four tells the head, which is its far end", "INF-32", route=4).accepts()
    ring.fails(3, Code.ENGINE).loses("stage 3", "client").loses("stage 3", "stage 2").delivers()
    yield ring.is_left("running", Code.NONE, stages=["engine", "none", "none", "engine"])
    ring = prefilled("a stage that closes after the answer", "INF-21", max_tokens=1).delivers()
    ring.says("stage 0", "client", Close(SESSION, 0, Code.LEAVING, 0, ""))
    ring.says("stage 1", "client", Sampled(SESSION, 0, 0, 6, (22,), Code.NONE))
    yield ring.is_left("answered", Code.LENGTH, 21)
    ring = prefilled("a close of both sides crosses", "INF-18").delivers().gives_up().fails(0, Code.IDLE)
    yield ring.is_left("failed", Code.CANCELLED, 21, stages=["idle", "cancelled"])


def losses() -> Iterator[Case]:
    """Links that die, and limits that pass: what is said then, and to whom."""
    ring = prefilled("a tail loses its link to the head", "INF-41").delivers().fails(1, Code.LOST)
    yield ring.loses("stage 1", "stage 0").is_left("failed", Code.LOST, 21)
    ring = prefilled("all stages lose the client, and say nothing", "INF-41").delivers()
    yield ring.loses_client(0).loses_client(1).is_left("running", Code.NONE, 21, stages=["lost", "lost"])
    ring = prefilled("a head waits too long for ids", "INF-41").loses("stage 1", "stage 0").delivers()
    yield ring.fails(0, Code.IDLE).is_left("failed", Code.IDLE, 21)
    ring = prefilled("a contract's time is over at the tail", "INF-41").delivers().fails(1, Code.EXPIRED)
    yield ring.is_left("failed", Code.EXPIRED, 21)
    ring = prefilled("a client waits too long for ids", "INF-42").loses("stage 1", "client").gives_up(Code.SILENT)
    yield ring.is_left("failed", Code.SILENT)
    ring = prefilled("a client loses its link to the tail", "INF-42").delivers().gives_up(Code.LOST)
    yield ring.loses("client", "stage 1").loses_client(1).is_left("failed", Code.LOST, 21)
    ring = Ring("a client waits too long for a stage to accept", "INF-36").accepts(0).gives_up(Code.SILENT)
    yield ring.loses("client", "stage 1").is_left("failed", Code.SILENT, stages=["silent", "none"])


def returns() -> Iterator[Case]:
    """Links to the client that break in mid-answer, and come back (4.4)."""
    ring = prefilled("an id that was lost is sent again", "INF-43").breaks(1).resumes(1).delivers()
    ring.computes(0, 1).delivers().computes(1, 1, 22)
    yield ring.is_left("answered", Code.LENGTH, 21, 22)
    ring = prefilled("a ring of which one stage lost the client", "INF-43").delivers().breaks(0)
    ring.resumes(0).delivers().computes(0, 1).delivers().computes(1, 1, 22)
    yield ring.is_left("answered", Code.LENGTH, 21, 22)
    ring = prefilled("the answer is complete while the client is away from the tail", "INF-44").delivers().breaks(1)
    ring.resumes(1).computes(0, 1).delivers().computes(1, 1, 22).breaks(1)
    yield ring.resumes(1).is_left("answered", Code.LENGTH, 21, 22)
    ring = Ring("a prompt that is lost with its link is sent again", "INF-43").accepts(0)
    ring.waiting.append(("stage 1", "client", Accept(SESSION, 0, bytes(64))))
    ring.delivers("stage 1", "client").breaks(0, 1).resumes(0, 1).delivers()
    for place, count in ((0, 2), (0, 2), (1, 2), (0, 1)):
        ring.computes(place, count).delivers()
    yield ring.computes(1, 3, 2).is_left("answered", Code.END, 2)
    ring = prefilled("links that break again and again", "INF-43").delivers()
    for _ in range(3):
        ring.breaks(0, 1).resumes(1, 0).breaks(1).delivers().resumes(1).delivers()
    ring.computes(0, 1).delivers().computes(1, 1, 22)
    yield ring.is_left("answered", Code.LENGTH, 21, 22)
    ring = prefilled("the client gives up while it is away from one stage", "INF-32").delivers().breaks(0)
    ring.gives_up().loses("client", "stage 0").delivers()
    yield ring.loses_client(0).is_left("failed", Code.CANCELLED, 21, stages=["lost", "cancelled"])
    ring = prefilled("a stage fails while the client is away from it", "INF-44").delivers().breaks(1)
    ring.fails(1, Code.ENGINE).loses("stage 1", "client").loses("stage 1", "stage 0").resumes(1)
    yield ring.is_left("failed", Code.ENGINE, 21)


def faults() -> Iterator[Case]:
    """What one peer does wrong, and how everybody ends."""
    ring = prefilled("a tail invents a second id", "INF-15").delivers()
    ring.says("stage 1", "stage 0", Sampled(SESSION, 0, 0, 6, (22,), Code.NONE))
    yield ring.is_left("failed", Code.BAD_POSITION, 21)
    ring = Ring("a head sends rows past the prompt of one id", "INF-10", prompt=[7]).accepts()
    rows = Forward(SESSION, 0, 0, 0, 2, 2, Codec.BF16, bytes(2 * ROW))
    yield ring.says("stage 0", "stage 1", rows).is_left("failed", Code.BAD_POSITION)
    ring = Ring("a head sends rows of another codec", "INF-11").accepts()
    rows = Forward(SESSION, 0, 0, 0, 1, 1, Codec.F32, bytes(2 * ROW))
    yield ring.says("stage 0", "stage 1", rows).is_left("failed", Code.BAD_VALUES)
    ring = Ring("a client sends another prompt than it has a contract for", "INF-9").accepts(0)
    ring.says("client", "stage 0", Prompt(SESSION, 0, bytes(4)))
    yield ring.is_left("failed", Code.BAD_POSITION, stages=["bad-position", "bad-position"])
    ring = prefilled("a tail claims an end that is none", "INF-23").delivers().computes(0, 1).delivers()
    ring.says("stage 1", "client", Sampled(SESSION, 0, 0, 6, (22,), Code.END))
    yield ring.is_left("failed", Code.BAD_STATE, 21)
    ring = prefilled("two ids in one Sampled, to the client", "INF-22").loses("stage 1", "client")
    ring.says("stage 1", "client", Sampled(SESSION, 0, 0, 5, (21, 22), Code.LENGTH)).delivers()
    yield ring.gives_up().is_left("answered", Code.LENGTH, 21, 22, stages=["none", "none"])
    ring = Ring("a head finishes before anything", "INF-16", route=3).accepts()
    ring.says("stage 0", "stage 1", Finish(SESSION, 0, 0, Code.LENGTH))
    yield ring.is_left("failed", Code.BAD_POSITION)
    ring = Ring("a stage that sends what only stages get", "INF-21").accepts()
    ring.says("stage 0", "client", Credit(SESSION, 0, 4))
    yield ring.is_left("failed", Code.BAD_STATE)


def strangers() -> Iterator[Case]:
    ring = prefilled("strangers change nothing", "INF-17").delivers()
    for to in ("stage 0", "stage 1", "client"):
        ring.says("stranger", to, Close(SESSION, 0, Code.CANCELLED, 0, ""))
    ring.says("stranger", "stage 0", Sampled(SESSION, 0, 0, 6, (2,), Code.END)).computes(0, 1).delivers()
    yield ring.computes(1, 1, 22).is_left("answered", Code.LENGTH, 21, 22)
    ring = prefilled("strangers after the end", "INF-18", max_tokens=1).delivers()
    for to in ("stage 0", "stage 1", "client"):
        ring.says("stranger", to, Close(SESSION, 0, Code.CANCELLED, 0, ""))
    yield ring.is_left("answered", Code.LENGTH, 21)
    ring = Ring("a middle is a stranger to the far end", "INF-17", route=4).accepts()
    ring.says("stage 1", "stage 3", Close(SESSION, 0, Code.LEAVING, 0, "")).gives_up()
    yield ring.is_left("failed", Code.CANCELLED)
