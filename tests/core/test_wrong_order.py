"""Valid messages in any order, from anybody: the machines refuse them as the text does, and stay what they are.

`plain_ring.py` is the text in plain Python; the reference must do the same, message by message, whatever comes.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.sessions.stage import SessionState
from p2pinfer.core.values.codes import ANSWERS, Code
from p2pinfer.core.values.units import Codec, row_bytes
from p2pinfer.core.wire.message_codec import decode_message, encode_message
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
    pack_ids,
)
from tests.protocols.replaying import SESSION, ClientReplay, StageReplay
from tests.vectors.plain_ring import Fault, PlainClient, PlainStage
from tests.vectors.rings import written

WIDTH = 4
FEW = st.integers(0, 9)
BIG = (1 << 32) - 1
NUMBER = st.one_of(FEW, FEW, FEW, st.sampled_from([16, 17, BIG]))
ZERO = st.sampled_from([0, 0, 0, 0, 0, 1])
FAILURES = st.sampled_from([Code.CANCELLED, Code.BUSY, Code.ENGINE, 200])
IDS = st.lists(st.sampled_from([1, 2, 3, 21, 99, 100, BIG]), min_size=1, max_size=4).map(tuple)
PARTS = st.sampled_from(["client", "predecessor", "successor", "far end", "stranger"])
NAMES = st.sampled_from(["stage 0", "stage 1", "stage 2", "stranger"])


@st.composite
def rows(draw: st.DrawFn) -> Forward:
    count, codec = draw(st.integers(1, 5)), draw(st.sampled_from([Codec.BF16, Codec.BF16, Codec.BF16, Codec.F32]))
    data = bytes(count * row_bytes(codec, WIDTH))
    return Forward(SESSION, draw(ZERO), draw(ZERO), draw(NUMBER), count, draw(NUMBER), codec, data)


@st.composite
def ids(draw: st.DrawFn) -> Sampled:
    reason = draw(st.sampled_from([0, 0, 0, *sorted(ANSWERS)]))
    return Sampled(SESSION, draw(ZERO), draw(ZERO), draw(NUMBER), draw(IDS), reason)


MESSAGES: st.SearchStrategy[SessionMessage] = st.one_of(
    rows(),
    ids(),
    st.builds(lambda epoch, ids: Prompt(SESSION, epoch, pack_ids(ids)), ZERO, IDS),
    st.builds(lambda epoch, at, why: Finish(SESSION, epoch, at, why), ZERO, NUMBER, st.sampled_from(sorted(ANSWERS))),
    st.builds(lambda epoch, limit, first: Credit(SESSION, epoch, limit, first), ZERO, NUMBER, ZERO),
    st.builds(lambda epoch, delivered: Resume(SESSION, epoch, delivered), ZERO, NUMBER),
    st.builds(lambda epoch, code, at: Close(SESSION, epoch, code, at, ""), ZERO, FAILURES, NUMBER),
    st.builds(lambda epoch, held: Accept(SESSION, epoch, bytes(64), held), ZERO, ZERO),
    st.builds(lambda code: SessionRefused(SESSION, 0, code, "", 0), FAILURES),
    st.just(Propose(SESSION, b"", bytes(64))),
    st.just(Signed(SESSION, b"", bytes(64))),
    st.just(Stored(SESSION, 1)),
)


def terms_of(role: str, stages: int) -> dict[str, Any]:
    return {
        "role": role,
        "stages": stages,
        "epoch": 0,
        "prompt": 3,
        "width": WIDTH,
        "vocabulary": 100,
        "codec_in": "ids" if role in ("head", "solo") else "bf16",
        "codec_out": "ids" if role in ("tail", "solo") else "bf16",
        "max_positions": 9,
        "max_chunk": 2,
        "max_tokens": 5,
        "ends": [2],
        "stops": [],
    }


@pytest.mark.parametrize(
    ("role", "stages"), [("head", 3), ("head", 2), ("middle", 3), ("tail", 3), ("tail", 2), ("solo", 1)]
)
@given(data=st.data())
def test_a_stage_takes_any_order_of_messages_as_the_text_does(role: str, stages: int, data: st.DataObject) -> None:
    terms = terms_of(role, stages)
    plain, replay = PlainStage(terms, SESSION), StageReplay(terms)
    for _ in range(data.draw(st.integers(1, 14))):
        if data.draw(st.integers(0, 9)) == 0:
            plain.breaks()
            replay.step({"breaks": "client"})
        elif plain.ready() and data.draw(st.booleans()):
            count = data.draw(st.integers(1, plain.ready()))
            samples = plain.is_tail and plain.computed + count >= terms["prompt"]
            step = {"compute": count, "sampled": data.draw(st.sampled_from([1, 2, 21])) if samples else None}
            expected = {
                "sends": written(plain.compute(count, b"" if plain.is_tail else bytes(8) * count, step["sampled"]))
            }
            given_ = {"rows": ""} if plain.is_tail else {"rows": (bytes(8) * count).hex()}
            assert replay.step({**step, **given_}) == expected
        else:
            part, message = data.draw(st.one_of(st.just(due(plain)), st.tuples(PARTS, MESSAGES)))
            known = part if plain.parts(part) else "stranger"
            assert replay.hear(known, message)["sends"] == stage_told(plain, known, message)
        check_stage(replay, plain)


def due(plain: PlainStage) -> tuple[str, SessionMessage]:
    """What a good peer would send next, so that sessions get somewhere."""
    if plain.away:
        return "client", Resume(SESSION, 0, len(plain.kept))
    if not plain.is_head:
        data = bytes(row_bytes(Codec.BF16, WIDTH))
        return "predecessor", Forward(SESSION, 0, 0, plain.rows, 1, plain.rows + 1, Codec.BF16, data)
    if not plain.rows:
        return "client", Prompt(SESSION, 0, pack_ids((1, 2, 3)))
    return "far end", Sampled(SESSION, 0, 0, plain.rows, (21,), 0)


def stage_told(plain: PlainStage, part: str, message: SessionMessage) -> list[dict[str, str]]:
    try:
        return written(plain.hear(part, message))
    except Fault as fault:
        return written(plain.closes(fault.code)) if fault.ends == "session" else []


def check_stage(replay: StageReplay, plain: PlainStage) -> None:
    stage = replay.stage
    assert replay.left() == {
        "state": plain.state,
        "reason": plain.reason,
        "computed": plain.computed,
        "received": plain.rows,
    }
    assert stage.ready(stage.terms.max_positions) == plain.ready()
    assert stage.computed <= stage.received <= stage.terms.max_positions
    assert (stage.state is SessionState.ENDED) == (stage.reason is not Code.NONE)


@given(data=st.data())
def test_a_client_takes_any_order_of_messages_as_the_text_does(data: st.DataObject) -> None:
    case = {"route": 2, "epoch": 0, "prompt": [7, 8, 9], "vocabulary": 100, "ends": [2], "max_tokens": 4, "stops": []}
    plain, replay = PlainClient(case, SESSION), ClientReplay(case)
    if data.draw(st.booleans()):
        for name in plain.route:
            accept = Accept(SESSION, 0, bytes(64), 0)
            assert replay.hear(name, accept)["sends"] == written(plain.hear(name, accept))
    for _ in range(data.draw(st.integers(1, 10))):
        name, message = data.draw(NAMES), data.draw(MESSAGES)
        assert replay.hear(name, message)["sends"] == client_told(plain, name, message)
        assert replay.left() == {"state": plain.state, "reason": plain.reason, "ids": plain.ids}


def client_told(plain: PlainClient, name: str, message: SessionMessage) -> list[dict[str, str]]:
    try:
        return written(plain.hear(name, message))
    except Fault as fault:
        return written(plain.closes()) if fault.ends == "generation" else []


@given(message=MESSAGES)
def test_the_messages_generated_here_are_valid(message: SessionMessage) -> None:
    assert decode_message(encode_message(message)) == message
