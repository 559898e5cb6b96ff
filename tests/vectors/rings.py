"""Cases of protocols/vectors/inference.json for the two state machines: a session at one stage, and a generation.

A case is written as a script; what is sent is recorded from the code, what is refused and where it ends is stated here
and held against the code by the tests.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from p2pinfer.core.codes import Code
from p2pinfer.core.ending import Ending
from p2pinfer.core.generation import Generation
from p2pinfer.core.message_codec import decode_message, encode_message
from p2pinfer.core.sampling import SamplingRecord
from p2pinfer.core.session_messages import (
    Accept,
    Close,
    Credit,
    Finish,
    Forward,
    Prompt,
    Propose,
    Sampled,
    SessionMessage,
    SessionRefused,
    pack_ids,
)
from p2pinfer.core.stage import Result, Send, StageSession, StageTerms
from p2pinfer.core.units import Codec, PeerKey, Roles, SessionId, Span, row_bytes

Case = dict[str, Any]

SESSION: Final = SessionId(b"session of rings")
PARTS: Final = ("client", "predecessor", "successor", "far end", "stranger")
WIDTH: Final = 4
ROW: Final = row_bytes(Codec.BF16, WIDTH)


class Letters:
    """The text of id i is the letter number i mod 26."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stop: str | None = None
        self._text = ""
        self._stops = stops

    def add(self, id_: int) -> str:
        self._text += chr(97 + id_ % 26)
        self.stop = next((stop for stop in self._stops if stop in self._text), None)
        return self._text[-1]

    def finish(self) -> str:
        return ""


def key_of(part: str, stages: int) -> PeerKey:
    """With two stages the neighbour is the far end, too."""
    if stages == 2 and part in ("predecessor", "successor", "far end"):
        part = "neighbour"
    return PeerKey(part.encode().ljust(32, b"."))


def open_stage(terms: Case) -> StageSession:
    """The session that a case's terms describe."""
    role, stages = terms["role"], terms["stages"]
    roles = {"head": Roles.HEAD, "middle": Roles.MIDDLE, "tail": Roles.TAIL, "solo": Roles.HEAD | Roles.TAIL}[role]
    head, tail = Roles.HEAD in roles, Roles.TAIL in roles
    sampling = SamplingRecord(max_tokens=terms["max_tokens"], stops=tuple(s.encode() for s in terms["stops"]))
    stage_terms = StageTerms(
        session=SESSION,
        epoch=terms["epoch"],
        client=key_of("client", stages),
        predecessor=None if head else key_of("predecessor", stages),
        successor=None if tail else key_of("successor", stages),
        far_end=key_of("far end", stages) if head != tail else None,
        span=Span(0, 2),
        roles=roles,
        prompt=terms["prompt"],
        width=WIDTH,
        vocabulary=terms["vocabulary"],
        codec_in=Codec.IDS if head else Codec.BF16,
        codec_out=Codec.IDS if tail else Codec.BF16,
        max_positions=terms["max_positions"],
        max_chunk=terms["max_chunk"],
        sampling=sampling if tail else None,
    )
    ending = Ending(terms["ends"], terms["max_tokens"], Letters(terms["stops"])) if tail else None
    return StageSession(stage_terms, ending)


def part_of(key: PeerKey, stages: int) -> str:
    """How a case names a peer."""
    return next(part for part in PARTS if key_of(part, stages) == key)


def sent(sends: Sequence[Send], stages: int) -> list[Case]:
    return [{"to": part_of(send.to, stages), "message": encode_message(send.message).hex()} for send in sends]


class Script:
    """One case of a stage, written step by step. rule: what it is for."""

    def __init__(self, name: str, rule: str, role: str, **terms: Any) -> None:
        defaults: Case = {
            "role": role,
            "stages": 1 if role == "solo" else 3,
            "epoch": 0,
            "prompt": 3,
            "width": WIDTH,
            "vocabulary": 100,
            "codec_in": "ids" if role in ("head", "solo") else "bf16",
            "codec_out": "ids" if role in ("tail", "solo") else "bf16",
            "max_positions": 16,
            "max_chunk": 2,
            "max_tokens": 4,
            "ends": [2],
            "stops": [],
        }
        self.case: Case = {"name": name, "rule": rule, "terms": {**defaults, **terms}, "steps": []}
        self.stage = open_stage(self.case["terms"])

    def takes(self, part: str, *messages: SessionMessage) -> "Script":
        """It takes these messages."""
        for message in messages:
            sends = self.stage.receive(key_of(part, self._stages), message)
            self._step({"from": part, "message": encode_message(message).hex(), "sends": sent(sends, self._stages)})
        return self

    def computes(self, count: int, sampled: int | None = None) -> "Script":
        """It computes so many positions; the layers give rows, or an id at the tail."""
        work = self.stage.take(count)
        tail = self.stage.terms.successor is None
        rows = b"" if tail else b"".join(bytes([at]) * ROW for at in range(work.position, work.position + count))
        sends = self.stage.done(work, Result(rows, sampled))
        given: Case = {"sampled": sampled} if tail else {"rows": rows.hex()}
        return self._step({"compute": count, **given, "sends": sent(sends, self._stages)})

    def ready(self, count: int) -> "Script":
        """So many positions may be computed now."""
        return self._step({"ready": count})

    def refuses(self, part: str, message: SessionMessage, code: Code) -> Case:
        """It refuses this message, and the session ends, if it has not ended before."""
        self._step({"from": part, "message": encode_message(message).hex(), "expect": code.label})
        return self._end("ended", self.stage.reason or code, self.stage.computed, self.stage.computed)

    def ends(self, reason: Code, computed: int) -> Case:
        return self._end("ended", reason, computed, computed)

    def runs(self, computed: int, received: int) -> Case:
        return self._end("running", Code.NONE, computed, received)

    @property
    def _stages(self) -> int:
        return int(self.case["terms"]["stages"])

    def _step(self, step: Case) -> "Script":
        self.case["steps"].append(step)
        return self

    def _end(self, state: str, reason: Code, computed: int, received: int) -> Case:
        return {**self.case, "state": state, "reason": reason.label, "computed": computed, "received": received}


def prompt(*ids: int, epoch: int = 0) -> Prompt:
    return Prompt(SESSION, epoch, pack_ids(ids or (7, 8, 9)))


def forward(position: int, count: int, epoch: int = 0, round_: int = 0, codec: Codec = Codec.BF16) -> Forward:
    rows = bytes(range(position, position + count)) * row_bytes(codec, WIDTH)
    return Forward(SESSION, epoch, round_, position, count, position + count, codec, rows)


def sampled(position: int, *ids: int, reason: Code = Code.NONE, epoch: int = 0, round_: int = 0) -> Sampled:
    return Sampled(SESSION, epoch, round_, position, ids, reason)


def credit(limit: int, epoch: int = 0) -> Credit:
    return Credit(SESSION, epoch, limit)


def finish(committed: int, reason: Code = Code.END, epoch: int = 0) -> Finish:
    return Finish(SESSION, epoch, committed, reason)


def close(code: int = Code.CANCELLED, committed: int = 0, epoch: int = 0) -> Close:
    return Close(SESSION, epoch, code, committed, "")


def accept(epoch: int = 0) -> Accept:
    return Accept(SESSION, epoch, bytes(64), 0)


def stage_cases() -> Iterator[Case]:
    yield from head_cases()
    yield from head_refusals()
    yield from middle_cases()
    yield from middle_refusals()
    yield from tail_cases()
    yield from solo_cases()


def at_ring(name: str, rule: str, **terms: Any) -> Script:
    """A head that has sent its prompt's rows and waits for the first id."""
    return Script(name, rule, "head", **terms).takes("client", prompt()).computes(2).computes(1)


def head_cases() -> Iterator[Case]:
    script = at_ring("a head, from the prompt to the end", "INF-19").takes("far end", sampled(3, 21)).computes(1)
    yield script.takes("far end", sampled(4, 22, reason=Code.LENGTH)).ready(0).ends(Code.LENGTH, 4)
    script = at_ring("a head of two stages, whose successor is the tail", "INF-19", stages=2)
    yield script.takes("successor", sampled(3, 2, reason=Code.END)).ends(Code.END, 3)
    script = Script("a head stops at its successor's limit", "INF-12", "head", prompt=6)
    script.takes("client", prompt(1, 2, 3, 4, 5, 6)).ready(4).computes(2).computes(2).ready(0)
    yield script.takes("successor", credit(6)).ready(2).runs(4, 6)
    script = Script("a lower credit changes nothing", "INF-12", "head", prompt=6)
    yield script.takes("client", prompt(1, 2, 3, 4, 5, 6)).takes("successor", credit(2)).ready(4).runs(0, 6)
    script = Script("a credit of another epoch is dropped", "INF-5", "head", prompt=6, epoch=1)
    script.takes("client", prompt(1, 2, 3, 4, 5, 6, epoch=1))
    yield script.takes("successor", credit(6)).ready(4).runs(0, 6)
    yield Script("a prompt of another epoch is dropped", "INF-5", "head").takes("client", prompt(epoch=1)).runs(0, 0)
    script = at_ring("an id of another epoch is dropped", "INF-5")
    yield script.takes("far end", sampled(3, 21, epoch=1)).runs(3, 3)
    script = at_ring("an id of another round is dropped", "INF-5")
    yield script.takes("far end", sampled(3, 21, round_=1)).runs(3, 3)
    script = at_ring("what comes after the end is dropped", "INF-18").takes("client", close())
    yield (
        script.takes("far end", sampled(3, 21), close()).takes("successor", credit(8), close()).ends(Code.CANCELLED, 3)
    )
    script = at_ring("a close of another epoch counts", "INF-5")
    yield script.takes("client", close(epoch=9)).ends(Code.CANCELLED, 3)
    script = at_ring("a code of a later version ends the session", "INF-29")
    yield script.takes("successor", close(200)).ends(Code.UNKNOWN, 3)


def head_refusals() -> Iterator[Case]:
    def fresh(name: str, rule: str) -> Script:
        return Script(name, rule, "head")

    yield fresh("a prompt of fewer ids than announced", "INF-9").refuses("client", prompt(7, 8), Code.BAD_POSITION)
    yield fresh("a prompt of more ids than announced", "INF-9").refuses(
        "client", prompt(7, 8, 9, 10), Code.BAD_POSITION
    )
    yield fresh("a prompt with an id past the vocabulary", "INF-9").refuses(
        "client", prompt(7, 8, 100), Code.BAD_VALUES
    )
    script = fresh("a second prompt", "INF-9").takes("client", prompt())
    yield script.refuses("client", prompt(), Code.BAD_STATE)
    for part in ("successor", "far end", "stranger"):
        yield fresh(f"a prompt from the {part}", "INF-17").refuses(part, prompt(), Code.BAD_STATE)
    yield fresh("rows to a head", "INF-17").refuses("successor", forward(0, 1), Code.BAD_STATE)
    yield fresh("an id before the prompt", "INF-15").refuses("far end", sampled(3, 21), Code.BAD_POSITION)
    script = fresh("an id before the prompt is computed", "INF-15").takes("client", prompt()).computes(2)
    yield script.refuses("far end", sampled(3, 21), Code.BAD_POSITION)
    yield at_ring("an id that skips a position", "INF-15").refuses("far end", sampled(4, 21), Code.BAD_POSITION)
    script = at_ring("an id that comes twice", "INF-15").takes("far end", sampled(3, 21)).computes(1)
    yield script.refuses("far end", sampled(3, 21), Code.BAD_POSITION)
    script = at_ring("an id before the one before it is computed", "INF-15").takes("far end", sampled(3, 21))
    yield script.refuses("far end", sampled(4, 22), Code.BAD_POSITION)
    yield at_ring("two ids where no drafts were sent", "INF-15").refuses("far end", sampled(3, 1, 3), Code.BAD_POSITION)
    yield at_ring("an id past the vocabulary", "INF-15").refuses("far end", sampled(3, 100), Code.BAD_VALUES)
    for part in ("client", "successor", "stranger"):
        yield at_ring(f"an id from the {part}", "INF-17").refuses(part, sampled(3, 21), Code.BAD_STATE)
    for part in ("client", "far end", "stranger"):
        yield at_ring(f"a credit from the {part}", "INF-17").refuses(part, credit(8), Code.BAD_STATE)
    for part in ("client", "far end", "successor"):
        yield at_ring(f"a finish to a head, from the {part}", "INF-17").refuses(part, finish(3), Code.BAD_STATE)
    yield at_ring("a stranger's close", "INF-17").refuses("stranger", close(), Code.BAD_STATE)
    yield at_ring("an accept to a stage", "INF-17").refuses("client", accept(), Code.BAD_STATE)
    proposal = Propose(SESSION, b"", bytes(64))
    yield at_ring("a proposal to a stage", "INF-17").refuses("client", proposal, Code.BAD_STATE)
    script = at_ring("a prompt after the end", "INF-17").takes("client", close())
    yield script.refuses("client", prompt(), Code.BAD_STATE)


def middle_cases() -> Iterator[Case]:
    script = Script("a middle, from the first rows to the end", "INF-19", "middle")
    script.takes("predecessor", forward(0, 2)).computes(2).takes("predecessor", forward(2, 1)).computes(1).ready(0)
    script.takes("predecessor", forward(3, 1)).computes(1)
    yield script.takes("predecessor", finish(4, Code.STOP)).ends(Code.STOP, 4)
    script = Script("credit is granted a chunk at a time", "INF-19", "middle", prompt=8)
    script.takes("predecessor", forward(0, 4)).computes(1).computes(1).computes(1).computes(1).takes(
        "successor", credit(8)
    )
    yield script.takes("predecessor", forward(4, 4)).computes(4).runs(8, 8)
    script = Script("credit ends where the contract does", "INF-19", "middle", prompt=4, max_positions=5)
    yield script.takes("predecessor", forward(0, 4)).computes(4).runs(4, 4)
    script = Script("rows in two messages are computed in one step", "INF-19", "middle")
    yield script.takes("predecessor", forward(0, 1), forward(1, 1)).ready(2).computes(2).runs(2, 2)
    script = Script("rows of another epoch are dropped", "INF-5", "middle")
    yield script.takes("predecessor", forward(0, 1, epoch=1)).runs(0, 0)
    script = Script("rows of another round are dropped", "INF-5", "middle")
    yield script.takes("predecessor", forward(0, 1, round_=1)).runs(0, 0)
    script = Script("a finish of another epoch is dropped", "INF-5", "middle")
    yield script.takes("predecessor", finish(0, epoch=1)).runs(0, 0)
    script = Script("rows after the end are dropped", "INF-18", "middle").takes("client", close())
    yield script.takes("predecessor", forward(0, 1), forward(0, 9), finish(7)).ends(Code.CANCELLED, 0)


def middle_refusals() -> Iterator[Case]:
    def begun(name: str, rule: str, **terms: Any) -> Script:
        return Script(name, rule, "middle", **terms).takes("predecessor", forward(0, 2))

    for part in ("client", "successor", "stranger"):
        yield begun(f"rows from the {part}", "INF-17").refuses(part, forward(2, 1), Code.BAD_STATE)
    yield begun("rows that leave a gap", "INF-10").refuses("predecessor", forward(3, 1), Code.BAD_POSITION)
    yield begun("rows that came before", "INF-10").refuses("predecessor", forward(1, 1), Code.BAD_POSITION)
    script = begun("rows past the contract", "INF-10", max_positions=3)
    yield script.refuses("predecessor", forward(2, 2), Code.BAD_POSITION)
    yield begun("rows past the credit", "INF-13").refuses("predecessor", forward(2, 3), Code.OVER_CREDIT)
    script = begun("more rows, with none computed", "INF-13").takes("predecessor", forward(2, 2))
    yield script.refuses("predecessor", forward(4, 1), Code.OVER_CREDIT)
    script = begun("rows of another codec", "INF-11")
    yield script.refuses("predecessor", forward(2, 1, codec=Codec.F32), Code.BAD_FRAME)
    wide = Forward(SESSION, 0, 0, 2, 1, 3, Codec.BF16, bytes(2 * ROW))
    yield begun("a row of twice the width", "INF-11").refuses("predecessor", wide, Code.BAD_FRAME)
    none = Forward(SESSION, 0, 0, 2, 1, 3, Codec.BF16, b"")
    yield begun("a row without bytes", "INF-11").refuses("predecessor", none, Code.BAD_FRAME)
    yield begun("a finish before the rows are computed", "INF-16").refuses("predecessor", finish(2), Code.BAD_POSITION)
    script = begun("a finish that hides rows", "INF-16").computes(2)
    yield script.refuses("predecessor", finish(1), Code.BAD_POSITION)
    script = begun("a finish that invents rows", "INF-16").computes(2)
    yield script.refuses("predecessor", finish(3), Code.BAD_POSITION)
    for part in ("client", "successor", "stranger"):
        yield begun(f"a finish from the {part}", "INF-17").computes(2).refuses(part, finish(2), Code.BAD_STATE)
    yield begun("an id to a middle", "INF-17").refuses("predecessor", sampled(3, 21), Code.BAD_STATE)
    yield begun("a prompt to a middle", "INF-17").refuses("client", prompt(), Code.BAD_STATE)
    yield begun("a credit from the predecessor", "INF-17").refuses("predecessor", credit(8), Code.BAD_STATE)


def tail_cases() -> Iterator[Case]:
    def prefilled(name: str, rule: str, first: int, **terms: Any) -> Script:
        script = Script(name, rule, "tail", **terms).takes("predecessor", forward(0, 3)).computes(2)
        return script.computes(1, first)

    script = prefilled("a tail, to the length", "INF-20", 21, max_tokens=2)
    script.takes("predecessor", forward(3, 1)).computes(1, 22).ready(0)
    yield script.takes("predecessor", finish(4, Code.LENGTH)).ends(Code.LENGTH, 4)
    yield prefilled("an end id is the first", "INF-23", 2).ends(Code.END, 3)
    yield prefilled("an end id at the length", "INF-23", 2, max_tokens=1).ends(Code.END, 3)
    yield prefilled("an end id whose letter is a stop string", "INF-23", 2, stops=["c"]).ends(Code.END, 3)
    yield prefilled("a stop string at the length", "INF-23", 1, stops=["b"], max_tokens=1).ends(Code.STOP, 3)
    script = prefilled("a stop string over two ids", "INF-23", 3, stops=["de"])
    yield script.takes("predecessor", forward(3, 1)).computes(1, 30).ends(Code.STOP, 4)
    script = prefilled("a tail of two stages", "INF-20", 21, stages=2)
    yield script.runs(3, 3)
    script = Script("a prompt to a tail", "INF-17", "tail")
    yield script.refuses("client", prompt(), Code.BAD_STATE)
    script = prefilled("an id to a tail", "INF-17", 21)
    yield script.refuses("far end", sampled(4, 21), Code.BAD_STATE)
    script = prefilled("a credit to a tail", "INF-17", 21)
    yield script.refuses("predecessor", credit(8), Code.BAD_STATE)


def solo_cases() -> Iterator[Case]:
    script = Script("a solo stage, to an end id", "INF-19", "solo").takes("client", prompt()).computes(3, 21)
    yield script.computes(1, 2).ready(0).ends(Code.END, 4)
    script = Script("a solo stage that is given up", "INF-18", "solo").takes("client", prompt()).computes(3, 21)
    yield script.takes("client", close(Code.CANCELLED, 3)).ready(0).ends(Code.CANCELLED, 3)
    script = Script("rows to a solo stage", "INF-17", "solo")
    yield script.refuses("client", forward(0, 1), Code.BAD_STATE)
    script = Script("a finish to a solo stage", "INF-17", "solo")
    yield script.refuses("client", finish(3), Code.BAD_STATE)


# The client


def stage_key(name: str) -> PeerKey:
    return PeerKey(name.encode().ljust(32, b"."))


def open_generation(case: Case) -> Generation:
    """The generation that a case describes."""
    route = [stage_key(f"stage {place}") for place in range(case["route"])]
    ending = Ending(case["ends"], case["max_tokens"], Letters(case["stops"]))
    return Generation(SESSION, case["epoch"], case["prompt"], route, ending)


class Story:
    """One case of a client, written step by step."""

    def __init__(self, name: str, rule: str, *, accepted: bool = True, **terms: Any) -> None:
        defaults: Case = {"route": 2, "epoch": 0, "prompt": [7, 8, 9], "ends": [2], "max_tokens": 4, "stops": []}
        self.case: Case = {"name": name, "rule": rule, **defaults, **terms, "steps": []}
        self.generation = open_generation(self.case)
        self.tail = f"stage {self.case['route'] - 1}"
        for place in range(self.case["route"]) if accepted else ():
            self.takes(f"stage {place}", accept())

    def takes(self, name: str, *messages: SessionMessage) -> "Story":
        for message in messages:
            sends = self.generation.receive(stage_key(name), message)
            step: Case = {"from": name, "message": encode_message(message).hex(), "sends": []}
            for send in sends:
                to = send.to.rstrip(b".").decode()
                step["sends"].append({"to": to, "message": encode_message(send.message).hex()})
            self.case["steps"].append(step)
        return self

    def refuses(self, name: str, message: SessionMessage, code: Code) -> Case:
        """It refuses this message, and the generation fails, if it was not over."""
        ids = list(self.generation.ids)
        step = {"from": name, "message": encode_message(message).hex(), "expect": code.label}
        self.case["steps"].append(step)
        over = self.generation.over
        state, reason = (self.generation.phase.name.lower(), self.generation.reason) if over else ("failed", code)
        return {**self.case, "state": state, "reason": reason.label, "ids": ids}

    def is_left(self, state: str, reason: Code, *ids: int) -> Case:
        return {**self.case, "state": state, "reason": reason.label, "ids": list(ids)}


def generation_cases() -> Iterator[Case]:
    yield from answers()
    yield from failures()
    yield from client_refusals()


def answers() -> Iterator[Case]:
    story = Story("two stages, to the length", "INF-23", max_tokens=2)
    story.takes("stage 1", sampled(3, 21), sampled(4, 22, reason=Code.LENGTH))
    yield story.is_left("answered", Code.LENGTH, 21, 22)
    story = Story("one stage, to an end id", "INF-23", route=1).takes("stage 0", sampled(3, 2, reason=Code.END))
    yield story.is_left("answered", Code.END, 2)
    story = Story("a stop string over two ids", "INF-23", stops=["vw"])
    story.takes("stage 1", sampled(3, 21), sampled(4, 22, reason=Code.STOP))
    yield story.is_left("answered", Code.STOP, 21, 22)
    story = Story("several ids in one message", "INF-22").takes("stage 1", sampled(3, 5, 6, 2, reason=Code.END))
    yield story.is_left("answered", Code.END, 5, 6, 2)
    story = Story("ids of another epoch are dropped", "INF-5").takes("stage 1", sampled(3, 21, epoch=1))
    yield story.is_left("running", Code.NONE)
    story = Story("a close after the answer is dropped", "INF-18", route=1)
    story.takes("stage 0", sampled(3, 2, reason=Code.END), close(Code.LEAVING))
    yield story.is_left("answered", Code.END, 2)


def failures() -> Iterator[Case]:
    refusal = SessionRefused(SESSION, 0, Code.BUSY, "", 1000)
    story = Story("a stage refuses", "INF-23", accepted=False).takes("stage 0", accept()).takes("stage 1", refusal)
    yield story.is_left("failed", Code.BUSY)
    refusal = SessionRefused(SESSION, 0, 200, "", 0)
    story = Story("a refusal with a code of a later version", "INF-29", accepted=False).takes("stage 1", refusal)
    yield story.is_left("failed", Code.UNKNOWN)
    story = Story("a stage gives up while others open", "INF-23", accepted=False).takes("stage 0", close(Code.ENGINE))
    yield story.is_left("failed", Code.ENGINE)
    story = Story("a stage gives up after two ids", "INF-23").takes("stage 1", sampled(3, 21), sampled(4, 22))
    yield story.takes("stage 0", close(Code.LEAVING)).is_left("failed", Code.LEAVING, 21, 22)
    story = Story("what comes after the failure is dropped", "INF-18").takes("stage 0", close(Code.LEAVING))
    yield story.takes("stage 1", sampled(3, 21), close(Code.LOST)).is_left("failed", Code.LEAVING)


def client_refusals() -> Iterator[Case]:
    story = Story("ids before every stage accepted", "INF-21", accepted=False).takes("stage 1", accept())
    yield story.refuses("stage 1", sampled(3, 21), Code.BAD_STATE)
    story = Story("an accept that comes twice", "INF-21", accepted=False).takes("stage 1", accept())
    yield story.refuses("stage 1", accept(), Code.BAD_STATE)
    story = Story("an accept of another epoch", "INF-21", accepted=False)
    yield story.refuses("stage 1", accept(epoch=1), Code.BAD_STATE)
    yield Story("an accept after the opening", "INF-21").refuses("stage 1", accept(), Code.BAD_STATE)
    refusal = SessionRefused(SESSION, 0, Code.BUSY, "", 0)
    yield Story("a refusal after the accept", "INF-21").refuses("stage 1", refusal, Code.BAD_STATE)
    yield Story("ids from the head", "INF-21").refuses("stage 0", sampled(3, 21), Code.BAD_STATE)
    yield Story("ids from a stranger", "INF-21").refuses("stranger", sampled(3, 21), Code.BAD_STATE)
    yield Story("rows to the client", "INF-21").refuses("stage 1", forward(0, 1), Code.BAD_STATE)
    yield Story("a finish to the client", "INF-21").refuses("stage 1", finish(3), Code.BAD_STATE)
    yield Story("an id that skips one", "INF-22").refuses("stage 1", sampled(4, 21), Code.BAD_POSITION)
    story = Story("an id that comes twice", "INF-22").takes("stage 1", sampled(3, 21))
    yield story.refuses("stage 1", sampled(3, 21), Code.BAD_POSITION)
    yield Story("an id of the prompt's last position", "INF-22").refuses("stage 1", sampled(2, 21), Code.BAD_POSITION)
    for name, terms, ids, reason in (
        ("an end that no id gives", {}, (21,), Code.END),
        ("an end id that is passed over", {}, (2,), Code.NONE),
        ("an end id that is called the length", {"max_tokens": 1}, (2,), Code.LENGTH),
        ("a length that is not reached", {}, (21,), Code.LENGTH),
        ("a length that is passed over", {"max_tokens": 1}, (21,), Code.NONE),
        ("a stop string that is not there", {"stops": ["x"]}, (21,), Code.STOP),
        ("a stop string that is passed over", {"stops": ["v"]}, (21,), Code.NONE),
        ("a stop string that is called the length", {"stops": ["v"], "max_tokens": 1}, (21,), Code.LENGTH),
        ("ids after an end id", {}, (2, 21), Code.NONE),
        ("ids after an end id, then an end", {}, (2, 2), Code.END),
    ):
        yield Story(name, "INF-23", **terms).refuses("stage 1", sampled(3, *ids, reason=reason), Code.BAD_STATE)
    story = Story("ids after the answer", "INF-21").takes("stage 1", sampled(3, 2, reason=Code.END))
    yield story.refuses("stage 1", sampled(4, 21), Code.BAD_STATE)


def message_of(step: Case) -> SessionMessage:
    """The message of a step."""
    message = decode_message(bytes.fromhex(step["message"]))
    assert isinstance(message, SessionMessage)
    return message
