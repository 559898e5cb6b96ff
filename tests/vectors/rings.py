"""Cases of protocols/vectors/inference.json for the two state machines: a session at one stage, and a generation.

A case is written as a script. What is sent follows from the text (`plain_ring.py`); what is refused and where it ends
is stated here, too, and held against it.
"""

from collections.abc import Iterator
from typing import Any, Final

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, SessionId, row_bytes
from p2pinfer.core.wire.message_codec import encode_message
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Credit,
    Finish,
    Forward,
    Open,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionMessage,
    SessionRefused,
    Signed,
    Stored,
    pack_ids,
)
from tests.vectors.plain_ring import Fault, PlainClient, PlainStage, Told

Case = dict[str, Any]

SESSION: Final = SessionId(b"session of rings")
TICKET: Final = bytes(range(16))
WIDTH: Final = 4
ROW: Final = row_bytes(Codec.BF16, WIDTH)


def written(told: Told) -> list[Case]:
    return [{"to": name, "message": encode_message(message).hex()} for name, message in told]


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
        self.stage = PlainStage(self.case["terms"], SESSION)

    def takes(self, part: str, *messages: SessionMessage) -> "Script":
        """It takes these messages."""
        for message in messages:
            told = self.stage.hear(part, message)
            self._step({"from": part, "message": encode_message(message).hex(), "sends": written(told)})
        return self

    def computes(self, count: int, sampled: int | None = None) -> "Script":
        """It computes so many positions; the layers give rows, or an id at the tail."""
        first = self.stage.computed
        tail = self.stage.is_tail
        rows = b"" if tail else b"".join(bytes([at]) * ROW for at in range(first, first + count))
        told = self.stage.compute(count, rows, sampled)
        given: Case = {"sampled": sampled} if tail else {"rows": rows.hex()}
        return self._step({"compute": count, **given, "sends": written(told)})

    def ready(self, count: int) -> "Script":
        """So many positions may be computed now."""
        assert self.stage.ready() == count
        return self._step({"ready": count})

    def refuses(self, part: str, message: SessionMessage, code: Code) -> Case:
        """It refuses this message; the session ends, or a stranger's link."""
        try:
            self.stage.hear(part, message)
        except Fault as fault:
            assert fault.code == code.label, (self.case["name"], fault.code)
            told = self.stage.closes(fault.code) if fault.ends == "session" else []
            step = {"from": part, "message": encode_message(message).hex(), "expect": fault.code, "ends": fault.ends}
            self._step({**step, "sends": written(told)})
            return self._case()
        raise AssertionError(f"{self.case['name']}: it is taken")

    def fails(self, code: Code) -> "Script":
        """It ends the session for a failure of its own."""
        told: Told = []
        if self.stage.state == "running":
            told = self.stage.closes(code.label)
            self.stage.end(code.label)
        return self._step({"fail": code.label, "sends": written(told)})

    def breaks(self) -> "Script":
        """The link to its client breaks."""
        self.stage.breaks()
        return self._step({"breaks": "client", "sends": []})

    def ends(self, reason: Code, computed: int) -> Case:
        assert (self.stage.state, self.stage.reason, self.stage.computed) == ("ended", reason.label, computed)
        return self._case()

    def runs(self, computed: int, received: int) -> Case:
        assert (self.stage.state, self.stage.computed, self.stage.rows) == ("running", computed, received)
        return self._case()

    def _step(self, step: Case) -> "Script":
        self.case["steps"].append(step)
        return self

    def _case(self) -> Case:
        stage = self.stage
        return {
            **self.case,
            "state": stage.state,
            "reason": stage.reason,
            "computed": stage.computed,
            "received": stage.rows,
        }


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


def accept(epoch: int = 0, held: int = 0) -> Accept:
    return Accept(SESSION, epoch, bytes(64), held)


def an_open() -> Open:
    return Open(SESSION, 0, b"", bytes(64), bytes(32), b"", (), (), (), ())


def resume(delivered: int, epoch: int = 0) -> Resume:
    return Resume(SESSION, epoch, delivered)


def stage_cases() -> Iterator[Case]:
    yield from head_cases()
    yield from head_refusals()
    yield from middle_cases()
    yield from middle_refusals()
    yield from tail_cases()
    yield from solo_cases()
    yield from returns()


def at_ring(name: str, rule: str, **terms: Any) -> Script:
    """A head that has sent its prompt's rows and waits for the first id."""
    return Script(name, rule, "head", **terms).takes("client", prompt()).computes(2).computes(1)


def head_cases() -> Iterator[Case]:
    script = at_ring("a head, from the prompt to the end", "INF-19").takes("far end", sampled(3, 21)).computes(1)
    yield script.takes("far end", sampled(4, 22, reason=Code.LENGTH)).ready(0).ends(Code.LENGTH, 4)
    script = at_ring("a head of two stages, whose successor is the tail", "INF-40", stages=2)
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
    script.takes("far end", sampled(3, 21), close()).takes("successor", credit(8), close()).takes("client", prompt())
    yield script.takes("stranger", close(), forward(0, 1)).takes("client", accept()).ends(Code.CANCELLED, 3)
    script = at_ring("a head that fails tells everybody", "INF-32")
    yield script.fails(Code.ENGINE).ends(Code.ENGINE, 3)
    script = at_ring("a head of two stages tells its neighbour once", "INF-32", stages=2)
    yield script.fails(Code.IDLE).ends(Code.IDLE, 3)
    script = at_ring("a second failure tells nobody", "INF-32").fails(Code.ENGINE)
    yield script.fails(Code.IDLE).ends(Code.ENGINE, 3)
    for part in ("client", "successor", "far end"):
        script = at_ring(f"a close from the {part} is not passed on", "INF-32")
        yield script.takes(part, close(Code.LEAVING, 3)).ends(Code.LEAVING, 3)
    script = Script(
        "rows with a value that is not finite end it when they are decoded", "INF-25", "middle", codec_in="f32"
    )
    infinite = Forward(SESSION, 0, 0, 0, 1, 1, Codec.F32, b"\0\0\x80\x7f" * WIDTH)
    yield script.takes("predecessor", infinite).ready(1).fails(Code.BAD_VALUES).ends(Code.BAD_VALUES, 0)
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
    script = fresh("a second prompt of another epoch is dropped", "INF-5").takes("client", prompt())
    yield script.takes("client", prompt(epoch=1)).runs(0, 3)
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
    yield fresh("an id of the prompt's first position", "INF-15").refuses("far end", sampled(0, 21), Code.BAD_POSITION)
    script = at_ring("an id past the contract", "INF-15", max_positions=4).takes("far end", sampled(3, 21)).computes(1)
    yield script.refuses("far end", sampled(4, 22), Code.BAD_POSITION)
    yield at_ring("a credit that begins past the first row", "INF-34").refuses(
        "successor", Credit(SESSION, 0, 8, 1), Code.BAD_POSITION
    )
    yield at_ring("an id of another epoch, from a peer that may send none", "INF-17").refuses(
        "client", sampled(3, 21, epoch=1), Code.BAD_STATE
    )
    yield at_ring("a prompt of another epoch, from the successor", "INF-17").refuses(
        "successor", prompt(epoch=1), Code.BAD_STATE
    )
    yield at_ring("a resume from the successor", "INF-17").refuses("successor", resume(0), Code.BAD_STATE)
    yield at_ring("a credit past the contract", "INF-13").refuses("successor", credit(17), Code.BAD_POSITION)
    signed = Signed(SESSION, b"", bytes(64))
    for part in ("successor", "far end"):
        yield at_ring(f"a signed receipt from the {part}", "INF-17").refuses(part, signed, Code.BAD_STATE)


def middle_cases() -> Iterator[Case]:
    script = Script("a middle, from the first rows to the end", "INF-40", "middle")
    script.takes("predecessor", forward(0, 2)).computes(2).takes("predecessor", forward(2, 1)).computes(1).ready(0)
    script.takes("predecessor", forward(3, 1)).computes(1)
    yield script.takes("predecessor", finish(4, Code.STOP)).ends(Code.STOP, 4)
    script = Script("credit is granted a chunk at a time", "INF-38", "middle", prompt=8)
    script.takes("predecessor", forward(0, 4)).computes(1).computes(1).computes(1).computes(1).takes(
        "successor", credit(8)
    )
    yield script.takes("predecessor", forward(4, 4)).computes(4).runs(8, 8)
    script = Script("credit ends where the contract does", "INF-38", "middle", prompt=4, max_positions=5)
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
    script = begun("rows past the contract", "INF-10", prompt=4, max_positions=3)
    yield script.refuses("predecessor", forward(2, 2), Code.BAD_POSITION)
    yield begun("rows past the credit", "INF-13", prompt=8).refuses("predecessor", forward(2, 3), Code.OVER_CREDIT)
    script = begun("more rows, with none computed", "INF-13", prompt=8).takes("predecessor", forward(2, 2))
    yield script.refuses("predecessor", forward(4, 1), Code.OVER_CREDIT)
    script = begun("rows of another codec", "INF-11")
    yield script.refuses("predecessor", forward(2, 1, codec=Codec.F32), Code.BAD_VALUES)
    narrow = Forward(SESSION, 0, 0, 2, 1, 3, Codec.F32, bytes(ROW))
    yield begun("a row that claims another codec", "INF-11").refuses("predecessor", narrow, Code.BAD_VALUES)
    wide = Forward(SESSION, 0, 0, 2, 1, 3, Codec.BF16, bytes(2 * ROW))
    yield begun("a row of twice the width", "INF-11").refuses("predecessor", wide, Code.BAD_VALUES)
    script = begun("a row of an id that is not sampled", "INF-10", prompt=2)
    yield script.refuses("predecessor", forward(2, 1), Code.BAD_POSITION)
    script = begun("two rows past the prompt", "INF-10", prompt=2).computes(2)
    yield script.refuses("predecessor", forward(2, 2), Code.BAD_POSITION)
    script = Script("rows of the prompt and past it", "INF-10", "middle", prompt=1)
    yield script.refuses("predecessor", forward(0, 2), Code.BAD_POSITION)
    script = Script("a finish before anything", "INF-16", "middle")
    yield script.refuses("predecessor", finish(0), Code.BAD_POSITION)
    script = begun("a finish before the prompt is computed", "INF-16").computes(2)
    yield script.refuses("predecessor", finish(2), Code.BAD_POSITION)
    script = begun("a finish before the last rows are computed", "INF-16", prompt=2).computes(2)
    script.takes("predecessor", forward(2, 1))
    yield script.refuses("predecessor", finish(2), Code.BAD_POSITION)
    yield begun("a finish before the rows are computed", "INF-16", prompt=2).refuses(
        "predecessor", finish(2), Code.BAD_POSITION
    )
    script = begun("a finish that hides rows", "INF-16").computes(2)
    yield script.refuses("predecessor", finish(1), Code.BAD_POSITION)
    script = begun("a finish that invents rows", "INF-16").computes(2)
    yield script.refuses("predecessor", finish(3), Code.BAD_POSITION)
    for part in ("client", "successor", "stranger"):
        yield begun(f"a finish from the {part}", "INF-17").computes(2).refuses(part, finish(2), Code.BAD_STATE)
    yield begun("an id to a middle", "INF-17").refuses("predecessor", sampled(3, 21), Code.BAD_STATE)
    yield begun("a prompt to a middle", "INF-17").refuses("client", prompt(), Code.BAD_STATE)
    yield begun("a prompt of another epoch to a middle", "INF-17").refuses("client", prompt(epoch=1), Code.BAD_STATE)
    yield begun("an open of a session that runs", "INF-17").refuses("client", an_open(), Code.BAD_STATE)
    yield begun("a stranger's open of a session that runs", "INF-17").refuses("stranger", an_open(), Code.BAD_STATE)
    script = begun("an open of a session that has ended is dropped", "INF-18").takes("client", close(), an_open())
    yield script.ends(Code.CANCELLED, 0)
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
    script = prefilled("a tail of two stages", "INF-39", 21, stages=2)
    yield script.runs(3, 3)
    script = Script("a prompt to a tail", "INF-17", "tail")
    yield script.refuses("client", prompt(), Code.BAD_STATE)
    script = prefilled("an id to a tail", "INF-17", 21)
    yield script.refuses("far end", sampled(4, 21), Code.BAD_STATE)
    script = prefilled("an id of another epoch to a tail of two stages", "INF-17", 21, stages=2)
    yield script.refuses("predecessor", sampled(4, 21, epoch=1), Code.BAD_STATE)
    script = prefilled("a finish of another epoch to a tail", "INF-17", 21)
    yield script.refuses("predecessor", finish(3, epoch=1), Code.BAD_STATE)
    script = prefilled("a credit to a tail", "INF-17", 21)
    yield script.refuses("predecessor", credit(8), Code.BAD_STATE)
    script = prefilled("a finish before the tail has ended", "INF-17", 21)
    yield script.refuses("predecessor", finish(3), Code.BAD_STATE)
    script = prefilled("a row beyond the id that is sampled", "INF-10", 21).takes("predecessor", forward(3, 1))
    yield script.refuses("predecessor", forward(4, 1), Code.BAD_POSITION)
    script = prefilled("two rows, with one id sampled", "INF-10", 21)
    yield script.refuses("predecessor", forward(3, 2), Code.BAD_POSITION)
    script = Script("two rows of a prompt of one id", "INF-10", "tail", prompt=1)
    yield script.refuses("predecessor", forward(0, 2), Code.BAD_POSITION)
    script = prefilled("a tail that fails tells everybody", "INF-32", 21)
    yield script.fails(Code.ENGINE).ends(Code.ENGINE, 3)


def solo_cases() -> Iterator[Case]:
    script = Script("a solo stage, to an end id", "INF-39", "solo").takes("client", prompt()).computes(2)
    script.computes(1, 21)
    yield script.computes(1, 2).ready(0).ends(Code.END, 4)
    script = Script("a solo stage that is given up", "INF-18", "solo").takes("client", prompt()).computes(2)
    script.computes(1, 21)
    yield script.takes("client", close(Code.CANCELLED, 3)).ready(0).ends(Code.CANCELLED, 3)
    script = Script("rows to a solo stage", "INF-17", "solo")
    yield script.refuses("client", forward(0, 1), Code.BAD_STATE)
    script = Script("a finish to a solo stage", "INF-17", "solo")
    yield script.refuses("client", finish(3), Code.BAD_STATE)


def returns() -> Iterator[Case]:
    """A client whose link breaks, and that comes back (4.4)."""

    def tail(name: str, rule: str = "INF-43", **terms: Any) -> Script:
        script = Script(name, rule, "tail", **terms).takes("predecessor", forward(0, 3)).computes(3, 21)
        return script.takes("predecessor", forward(3, 1)).computes(1, 22)

    script = at_ring("a stage whose client is away takes what comes, and computes nothing", "INF-43").breaks()
    script.takes("far end", sampled(3, 21)).ready(0)
    yield script.takes("client", resume(0)).ready(1).computes(1).runs(4, 4)
    script = tail("a tail sends again what its client lacks").breaks()
    yield script.takes("client", resume(1)).runs(4, 4)
    script = tail("a tail sends nothing to a client that lacks nothing").breaks()
    yield script.takes("client", resume(2)).runs(4, 4)
    script = tail("ids of a step that was at work", max_tokens=3).takes("predecessor", forward(4, 1)).breaks()
    yield script.computes(1, 23).takes("client", resume(0)).ends(Code.LENGTH, 5)
    script = Script("more ids than one message holds", "INF-43", "solo", max_positions=99, max_tokens=99)
    script.takes("client", prompt()).computes(2).computes(1, 50)
    for _ in range(65):
        script.computes(1, 50)
    yield script.breaks().takes("client", resume(1)).runs(68, 69)
    script = Script("a prompt that was lost", "INF-35", "head").breaks()
    yield script.takes("client", resume(0), prompt()).ready(3).runs(0, 3)
    script = Script("a prompt that came before the link broke", "INF-35", "head").takes("client", prompt()).breaks()
    yield script.takes("client", resume(0), prompt()).ready(3).runs(0, 3)
    script = Script("a prompt that comes a third time", "INF-35", "head").takes("client", prompt()).breaks()
    yield script.takes("client", resume(0), prompt()).refuses("client", prompt(), Code.BAD_STATE)
    script = at_ring("a second prompt of a client that has ids", "INF-35").takes("far end", sampled(3, 21)).breaks()
    yield script.takes("client", resume(1)).refuses("client", prompt(), Code.BAD_STATE)
    script = at_ring("a client that is away gives up on another link", "INF-32").breaks()
    yield script.takes("client", close()).ends(Code.CANCELLED, 3)
    script = at_ring("a link that breaks twice", "INF-43").breaks().takes("client", resume(0)).breaks().ready(0)
    yield script.takes("far end", sampled(3, 21)).takes("client", resume(0)).ready(1).runs(3, 4)
    yield tail("a client that is back, and was not away").refuses("client", resume(2), Code.BAD_STATE)
    script = tail("a client that is back twice").breaks().takes("client", resume(2))
    yield script.refuses("client", resume(2), Code.BAD_STATE)
    yield tail("a client with an id that was not sampled").breaks().refuses("client", resume(3), Code.BAD_POSITION)
    script = at_ring("a client with ids that a head cannot have computed", "INF-43").breaks()
    yield script.refuses("client", resume(2), Code.BAD_POSITION)
    script = Script("a client with an id before the prompt is computed", "INF-43", "middle").breaks()
    yield script.refuses("client", resume(1), Code.BAD_POSITION)
    script = tail("a resume of another epoch is dropped", "INF-5").breaks().takes("client", resume(2, epoch=1))
    yield script.ready(0).runs(4, 4)
    script = tail("a stranger's resume", "INF-17").breaks()
    yield script.refuses("stranger", resume(2), Code.BAD_STATE)
    script = tail("what is lacked of an answer that is complete", "INF-44", max_tokens=2).breaks()
    yield script.takes("client", resume(0)).ends(Code.LENGTH, 4)
    script = tail("a client with an id after the end", "INF-44", max_tokens=2).breaks()
    yield script.takes("client", resume(3)).ends(Code.LENGTH, 4)
    script = tail("a client that is back after the end, and was not away", "INF-18", max_tokens=2)
    yield script.takes("client", resume(1)).ends(Code.LENGTH, 4)
    script = tail("a resume of another epoch, after the end", "INF-5", max_tokens=2).breaks()
    yield script.takes("client", resume(1, epoch=1)).ends(Code.LENGTH, 4)
    script = tail("a session that ended without an answer meanwhile", "INF-44").breaks()
    yield script.takes("predecessor", close(Code.ENGINE)).takes("client", resume(2)).ends(Code.ENGINE, 4)
    script = tail("a neighbour's resume after the end", "INF-18", max_tokens=2).breaks()
    yield script.takes("predecessor", resume(1)).ends(Code.LENGTH, 4)


# The client


class Story:
    """One case of a client, written step by step."""

    def __init__(self, name: str, rule: str, *, accepted: bool = True, **terms: Any) -> None:
        defaults: Case = {"route": 2, "epoch": 0, "prompt": [7, 8, 9], "vocabulary": 100, "ends": [2], "max_tokens": 4}
        self.case: Case = {"name": name, "rule": rule, **defaults, "stops": [], **terms, "steps": []}
        self.client = PlainClient(self.case, SESSION)
        for place in range(self.case["route"]) if accepted else ():
            self.takes(f"stage {place}", accept())

    def takes(self, name: str, *messages: SessionMessage) -> "Story":
        for message in messages:
            told = self.client.hear(name, message)
            self._step({"from": name, "message": encode_message(message).hex(), "sends": written(told)})
        return self

    def resumes(self, name: str) -> "Story":
        """The link to a stage broke, and is there again."""
        return self._step({"resumes": name, "sends": written(self.client.resumes(name))})

    def gives_up(self, code: Code) -> "Story":
        """The client ends it for a reason of its own."""
        return self._step({"fail": code.label, "sends": written(self.client.gives_up(code.label))})

    def refuses(self, name: str, message: SessionMessage, code: Code) -> Case:
        """It refuses this message; the generation fails, or a stranger's link ends."""
        try:
            self.client.hear(name, message)
        except Fault as fault:
            assert fault.code == code.label, (self.case["name"], fault.code)
            told = self.client.closes() if fault.ends == "generation" else []
            step = {"from": name, "message": encode_message(message).hex(), "expect": fault.code, "ends": fault.ends}
            self._step({**step, "sends": written(told)})
            return self._case()
        raise AssertionError(f"{self.case['name']}: it is taken")

    def is_left(self, state: str, reason: Code, *ids: int) -> Case:
        client = self.client
        assert (client.state, client.reason, client.ids) == (state, reason.label, list(ids)), self.case["name"]
        return self._case()

    def _step(self, step: Case) -> "Story":
        self.case["steps"].append(step)
        return self

    def _case(self) -> Case:
        return {**self.case, "state": self.client.state, "reason": self.client.reason, "ids": list(self.client.ids)}


def generation_cases() -> Iterator[Case]:
    yield from answers()
    yield from failures()
    yield from client_returns()
    yield from client_refusals()


def client_returns() -> Iterator[Case]:
    """What stages are told whose link broke and is there again (4.4)."""
    story = Story("a head is told, and gets the prompt once more, before the first id", "INF-45").resumes("stage 0")
    yield story.is_left("running", Code.NONE)
    story = Story("a tail is told before the first id", "INF-45").resumes("stage 1").takes("stage 1", sampled(3, 21))
    yield story.is_left("running", Code.NONE, 21)
    story = Story("a head is told after two ids", "INF-45").takes("stage 1", sampled(3, 21), sampled(4, 22))
    yield story.resumes("stage 0").is_left("running", Code.NONE, 21, 22)
    story = Story("ids that come again, with the end", "INF-45", max_tokens=3).takes("stage 1", sampled(3, 21))
    story.resumes("stage 1").takes("stage 1", sampled(4, 22, 23, reason=Code.LENGTH))
    yield story.is_left("answered", Code.LENGTH, 21, 22, 23)
    story = Story("a tail is told after the answer", "INF-45").takes("stage 1", sampled(3, 2, reason=Code.END))
    yield story.resumes("stage 1").is_left("answered", Code.END, 2)
    story = Story("a stage that has not kept the session", "INF-45").takes("stage 1", sampled(3, 21))
    yield story.resumes("stage 1").takes("stage 1", close(Code.LOST)).is_left("failed", Code.LOST, 21)
    story = Story("an id that a tail sends again", "INF-22").takes("stage 1", sampled(3, 21)).resumes("stage 1")
    yield story.refuses("stage 1", sampled(3, 21), Code.BAD_POSITION)


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
    story = Story("ids of another round are dropped", "INF-5").takes("stage 1", sampled(3, 21, round_=1))
    yield story.is_left("running", Code.NONE)
    story = Story("what comes after the answer is dropped", "INF-21", route=1)
    story.takes("stage 0", sampled(3, 2, reason=Code.END), close(Code.LEAVING), sampled(4, 21), accept(), finish(3))
    yield story.takes("stranger", sampled(4, 21)).gives_up(Code.CANCELLED).is_left("answered", Code.END, 2)


def failures() -> Iterator[Case]:
    story = Story("the prompt waits for every stage", "INF-37", accepted=False).takes("stage 1", accept())
    yield story.is_left("opening", Code.NONE)
    story = Story("the prompt is sent when the last stage accepts", "INF-37", accepted=False)
    yield story.takes("stage 1", accept()).takes("stage 0", accept()).is_left("running", Code.NONE)
    refusal = SessionRefused(SESSION, 0, Code.BUSY, "", 1000)
    story = Story("a stage refuses", "INF-23", accepted=False).takes("stage 0", accept()).takes("stage 1", refusal)
    yield story.is_left("failed", Code.BUSY)
    refusal = SessionRefused(SESSION, 0, 200, "", 0)
    story = Story("a refusal with a code of a later version", "INF-29", accepted=False).takes("stage 1", refusal)
    yield story.is_left("failed", Code.UNKNOWN)
    refusal = SessionRefused(SESSION, 7, Code.BUSY, "", 0)
    story = Story("a refusal of another epoch counts", "INF-5", accepted=False).takes("stage 1", refusal)
    yield story.is_left("failed", Code.BUSY)
    story = Story("a stage that refused accepts after all", "INF-33", accepted=False).takes("stage 0", refusal)
    yield story.takes("stage 0", accept()).is_left("failed", Code.BUSY)
    refusal, turn = (SessionRefused(SESSION, 0, Code.BUSY, "", retry_ms, TICKET, 0) for retry_ms in (1000, 1))
    story = Story("a stage without room says when there is some", "INF-46", accepted=False).takes("stage 0", accept())
    yield story.takes("stage 1", refusal, turn, turn).is_left("failed", Code.BUSY)
    story = Story("a stage without room says so of a session that another stage ended", "INF-46", accepted=False)
    yield story.takes("stage 0", close(Code.ENGINE)).takes("stage 1", refusal, turn).is_left("failed", Code.ENGINE)
    refusal = SessionRefused(SESSION, 7, Code.BUSY, "", 0)
    story = Story("a stranger after the failure is dropped", "INF-21").takes("stage 0", close(Code.LEAVING))
    yield story.takes("stranger", accept(), sampled(3, 21), close()).is_left("failed", Code.LEAVING)
    refusal = SessionRefused(SESSION, 0, 200, "", 0)
    story = Story("a stage gives up while others open", "INF-23", accepted=False).takes("stage 0", close(Code.ENGINE))
    yield story.is_left("failed", Code.ENGINE)
    story = Story("a stage gives up after two ids", "INF-23").takes("stage 1", sampled(3, 21), sampled(4, 22))
    yield story.takes("stage 0", close(Code.LEAVING)).is_left("failed", Code.LEAVING, 21, 22)
    story = Story("what comes after the failure is dropped", "INF-21").takes("stage 0", close(Code.LEAVING))
    yield story.takes("stage 1", sampled(3, 21), close(Code.LOST)).is_left("failed", Code.LEAVING)
    story = Story("an accept after the failure is answered", "INF-33", accepted=False).takes("stage 0", refusal)
    yield story.takes("stage 1", accept()).is_left("failed", Code.UNKNOWN)
    story = Story("accepts of another epoch after the failure", "INF-33", accepted=False).takes("stage 0", refusal)
    yield story.takes("stage 1", accept(epoch=7), accept(epoch=7)).is_left("failed", Code.UNKNOWN)
    story = Story("two stages refuse", "INF-33", accepted=False, route=3).takes("stage 0", refusal)
    yield story.takes("stage 1", refusal).takes("stage 2", accept()).is_left("failed", Code.UNKNOWN)
    story = Story("a client that gives up before the first id", "INF-33").gives_up(Code.CANCELLED)
    yield story.is_left("failed", Code.CANCELLED)
    story = Story("a client that gives up after two ids", "INF-33").takes("stage 1", sampled(3, 21), sampled(4, 22))
    yield story.gives_up(Code.CANCELLED).is_left("failed", Code.CANCELLED, 21, 22)
    story = Story("a client that gives up while stages open", "INF-33", accepted=False).takes("stage 0", accept())
    yield story.gives_up(Code.SILENT).is_left("failed", Code.SILENT)


def client_refusals() -> Iterator[Case]:
    story = Story("ids before every stage accepted", "INF-21", accepted=False).takes("stage 1", accept())
    yield story.refuses("stage 1", sampled(3, 21), Code.BAD_STATE)
    story = Story("ids of another epoch before every stage accepted", "INF-21", accepted=False)
    yield story.refuses("stage 1", sampled(3, 21, epoch=1), Code.BAD_STATE)
    yield Story("ids of another epoch from the head", "INF-21").refuses(
        "stage 0", sampled(3, 21, epoch=1), Code.BAD_STATE
    )
    story = Story("an accept that comes twice", "INF-21", accepted=False).takes("stage 1", accept())
    yield story.refuses("stage 1", accept(), Code.BAD_STATE)
    story = Story("an accept of another epoch", "INF-21", accepted=False)
    yield story.refuses("stage 1", accept(epoch=1), Code.BAD_STATE)
    story = Story("an accept with positions held", "INF-34", accepted=False)
    yield story.refuses("stage 1", accept(held=1), Code.BAD_POSITION)
    yield Story("an accept after the opening", "INF-21").refuses("stage 1", accept(), Code.BAD_STATE)
    refusal = SessionRefused(SESSION, 0, Code.BUSY, "", 0)
    yield Story("a refusal after the accept", "INF-21").refuses("stage 1", refusal, Code.BAD_STATE)
    yield Story("ids from the head", "INF-21").refuses("stage 0", sampled(3, 21), Code.BAD_STATE)
    yield Story("ids from a stranger", "INF-17").refuses("stranger", sampled(3, 21), Code.BAD_STATE)
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
    yield Story("an id past the vocabulary", "INF-22").refuses("stage 1", sampled(3, 100), Code.BAD_VALUES)
    for message in (Propose(SESSION, b"", bytes(64)), Stored(SESSION, 1)):
        name = type(message).__name__
        story = Story(f"a {name} before every stage accepted", "INF-21", accepted=False).takes("stage 0", accept())
        yield story.refuses("stage 0", message, Code.BAD_STATE)
    for message in (Signed(SESSION, b"", bytes(64)), credit(8), prompt()):
        name = type(message).__name__
        yield Story(f"a {name} to the client", "INF-21").refuses("stage 0", message, Code.BAD_STATE)
    yield Story("a stranger's close", "INF-17").refuses("stranger", close(), Code.BAD_STATE)
    story = Story("a stranger's accept", "INF-17", accepted=False)
    yield story.refuses("stranger", accept(), Code.BAD_STATE)
