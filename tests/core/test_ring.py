"""The ring without network or engine: client and stages joined back to back over a toy model.

The toy model is a chain of byte-wise layers whose split is exact, so that the whole model's answer can be computed
beside it and every hop is really taken.
"""

from collections import deque
from collections.abc import Sequence

import pytest

from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.generation import Generation, Phase
from p2pinfer.core.sessions.stage import SessionState, StageSession
from p2pinfer.core.sessions.stage_terms import StageTerms
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LocalProtocolError, RemoteProtocolError
from p2pinfer.core.values.units import Codec, PeerKey, Roles, SessionId, Span
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
    pack_ids,
    unpack_ids,
)

SESSION = SessionId(b"s" * 16)
CLIENT = PeerKey(b"c" * 32)
PEERS = [PeerKey(bytes([n]) * 32) for n in range(4)]
STRANGER = PeerKey(b"?" * 32)
WIDTH = 2
VOCABULARY = 97
END_ID = 96
CHUNK = 4


class Letters:
    """Text of an id is one letter; a stop string is looked for in all of them."""

    rest = ""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stop: str | None = None
        self.text = ""
        self.stops = stops

    def add(self, id_: int) -> str:
        self.text += chr(97 + id_ % 26)
        self.stop = next((stop for stop in self.stops if stop in self.text), None)
        return self.text[-1]

    def finish(self) -> str:
        return ""


def layer(state: int, row: int) -> int:
    """One toy layer at one position: depends on all rows before it."""
    return (state * 31 + row * 7 + 1) % 65521


class ToyShard:
    """Layers that keep a running state each, as a KV cache does; id in, id out at the ends."""

    def __init__(self, layers: int, roles: Roles) -> None:
        self.states = [0] * layers
        self.roles = roles

    def compute(self, step: Step) -> Output:
        out = []
        for at in range(0, len(step.data), 4):
            value = int.from_bytes(step.data[at : at + 4], "big")
            for index, state in enumerate(self.states):
                value = self.states[index] = layer(state, value)
            out.append(value)
        if Roles.TAIL in self.roles:
            return Output(ids=(out[-1] % END_ID,) if step.sample else ())
        return Output(b"".join(value.to_bytes(4, "big") for value in out))


def whole(prompt: Sequence[int], count: int, layers: int) -> list[int]:
    """The toy model in one piece."""
    shard = ToyShard(layers, Roles.HEAD | Roles.TAIL)
    ids: list[int] = []
    data = pack_ids(prompt)
    while len(ids) < count:
        ids += shard.compute(Step(0, 0, data, Codec.IDS, Codec.IDS, GREEDY)).ids
        data = pack_ids(ids[-1:])
    return ids


class Ring:
    """A generation and its stages, with one queue of messages between them all."""

    def __init__(self, prompt: Sequence[int], splits: Sequence[int], max_tokens: int = 8, stops: Sequence[str] = ()):
        peers = PEERS[: len(splits)]
        self.prompt = tuple(prompt)
        self.queue: deque[tuple[PeerKey, PeerKey, SessionMessage]] = deque()
        self.trace: list[tuple[PeerKey, PeerKey, SessionMessage]] = []
        self.client = Generation(SESSION, 0, prompt, peers, VOCABULARY, Ending({END_ID}, max_tokens, Letters(stops)))
        self.stages: dict[PeerKey, StageSession] = {}
        self.shards: dict[PeerKey, ToyShard] = {}
        for index, (peer, layers) in enumerate(zip(peers, splits, strict=True)):
            last = len(splits) - 1
            roles = (Roles.HEAD if index == 0 else Roles(0)) | (Roles.TAIL if index == last else Roles(0))
            tail = Roles.TAIL in roles
            terms = StageTerms(
                session=SESSION,
                epoch=0,
                client=CLIENT,
                predecessor=peers[index - 1] if index else None,
                successor=peers[index + 1] if index < last else None,
                far_end=None if not last else peers[last] if index == 0 else peers[0] if index == last else None,
                span=Span(index, index + 1),
                roles=roles,
                prompt=len(prompt),
                width=1,
                vocabulary=VOCABULARY,
                codec_in=Codec.IDS if index == 0 else Codec.F32,
                codec_out=Codec.IDS if tail else Codec.F32,
                max_positions=len(prompt) + max_tokens,
                max_chunk=CHUNK,
                sampling=SamplingRecord(max_tokens=max_tokens) if tail else None,
            )
            ending = Ending({END_ID}, max_tokens, Letters(stops)) if tail else None
            self.stages[peer] = StageSession(terms, ending)
            self.shards[peer] = ToyShard(layers, roles)

    def accept_all(self) -> None:
        for peer in self.stages:
            self.queue.append((peer, CLIENT, Accept(SESSION, 0, bytes(64), 0)))

    def run(self, limit: int = 1 << 30) -> None:
        """Deliver and compute until nothing moves."""
        while self.queue or any(stage.ready(limit) for stage in self.stages.values()):
            while self.queue:
                sender, to, message = self.queue.popleft()
                self.trace.append((sender, to, message))
                taker = self.client if to == CLIENT else self.stages[to]
                self.queue.extend((to, send.to, send.message) for send in taker.receive(sender, message))
            for peer in self.stages:
                self.step(peer, limit)

    def step(self, peer: PeerKey, limit: int = 1 << 30) -> None:
        stage = self.stages[peer]
        if count := min(CHUNK, stage.ready(limit)):
            step = stage.take(count)
            sends = stage.done(step, self.shards[peer].compute(step))
            self.queue.extend((peer, send.to, send.message) for send in sends)


PROMPT = (5, 17, 80, 3, 44, 9, 61, 2, 33, 71, 12)


@pytest.mark.parametrize("splits", [(6,), (3, 3), (1, 2, 3), (2, 2, 1, 1)])
def test_any_split_answers_as_the_whole_model(splits: tuple[int, ...]) -> None:
    ring = Ring(PROMPT, splits)
    ring.accept_all()
    ring.run()
    assert ring.client.phase is Phase.ANSWERED
    assert ring.client.reason is Code.LENGTH
    assert ring.client.ids == whole(PROMPT, 8, 6)


@pytest.mark.parametrize("splits", [(6,), (3, 3), (1, 2, 3)])
def test_every_stage_ends_with_the_same_count(splits: tuple[int, ...]) -> None:
    ring = Ring(PROMPT, splits)
    ring.accept_all()
    ring.run()
    assert {stage.state for stage in ring.stages.values()} == {SessionState.ENDED}
    assert {stage.computed for stage in ring.stages.values()} == {len(PROMPT) + 8 - 1} == {ring.client.committed}


def test_the_last_id_is_never_computed() -> None:
    ring = Ring(PROMPT, (3, 3), max_tokens=1)
    ring.accept_all()
    ring.run()
    assert {stage.computed for stage in ring.stages.values()} == {len(PROMPT)}


def test_no_stage_computes_more_than_its_successor_takes() -> None:
    ring = Ring(PROMPT * 4, (3, 3))
    ring.accept_all()
    head, tail = PEERS[:2]
    while ring.queue:  # the accepts, then the prompt
        sender, to, message = ring.queue.popleft()
        taker = ring.client if to == CLIENT else ring.stages[to]
        ring.queue.extend((to, send.to, send.message) for send in taker.receive(sender, message))
    for _ in range(10):
        ring.step(head)
    assert ring.stages[head].computed == 2 * CHUNK
    assert ring.stages[tail].computed == 0


def test_a_window_that_is_full_stops_the_stage() -> None:
    ring = Ring(PROMPT, (6,))
    ring.accept_all()
    ring.run(limit=7)
    assert ring.stages[PEERS[0]].computed == 7


def test_a_stop_string_ends_the_answer() -> None:
    text = "".join(chr(97 + id_ % 26) for id_ in whole(PROMPT, 8, 6))
    ring = Ring(PROMPT, (3, 3), stops=[text[2:4]])
    ring.accept_all()
    ring.run()
    assert ring.client.reason is Code.STOP
    assert len(ring.client.ids) == text.index(text[2:4]) + 2


def test_a_prompt_of_another_length_than_announced_is_refused() -> None:
    stage = Ring(PROMPT, (6,)).stages[PEERS[0]]
    with pytest.raises(RemoteProtocolError, match="were announced"):
        stage.receive(CLIENT, Prompt(SESSION, 0, pack_ids(PROMPT[:-1])))


def test_an_id_past_the_vocabulary_is_refused() -> None:
    stage = Ring(PROMPT, (6,)).stages[PEERS[0]]
    with pytest.raises(RemoteProtocolError, match="vocabulary"):
        stage.receive(CLIENT, Prompt(SESSION, 0, pack_ids((*PROMPT[:-1], VOCABULARY))))


def test_a_second_prompt_is_refused() -> None:
    stage = Ring(PROMPT, (6,)).stages[PEERS[0]]
    stage.receive(CLIENT, Prompt(SESSION, 0, pack_ids(PROMPT)))
    with pytest.raises(RemoteProtocolError, match="a second prompt"):
        stage.receive(CLIENT, Prompt(SESSION, 0, pack_ids(PROMPT)))


def rows(position: int, count: int, epoch: int = 0) -> Forward:
    return Forward(SESSION, epoch, 0, position, count, position, Codec.F32, bytes(4 * count))


@pytest.mark.parametrize("sender", [CLIENT, STRANGER, PEERS[2]])
def test_rows_from_anybody_but_the_predecessor_are_refused(sender: PeerKey) -> None:
    stage = Ring(PROMPT, (2, 2, 2)).stages[PEERS[1]]
    with pytest.raises(RemoteProtocolError) as caught:
        stage.receive(sender, rows(0, 1))
    assert caught.value.code is Code.BAD_STATE


@pytest.mark.parametrize("position", [1, 5, 18])
def test_rows_that_leave_a_gap_are_refused(position: int) -> None:
    stage = Ring(PROMPT, (3, 3)).stages[PEERS[1]]
    with pytest.raises(RemoteProtocolError) as caught:
        stage.receive(PEERS[0], rows(position, 1))
    assert caught.value.code is Code.BAD_POSITION


def test_rows_past_the_credit_are_refused() -> None:
    stage = Ring(PROMPT, (3, 3)).stages[PEERS[1]]
    stage.receive(PEERS[0], rows(0, 2 * CHUNK))
    with pytest.raises(RemoteProtocolError) as caught:
        stage.receive(PEERS[0], rows(2 * CHUNK, 1))
    assert caught.value.code is Code.OVER_CREDIT


def test_rows_of_another_size_than_the_codec_are_refused() -> None:
    stage = Ring(PROMPT, (3, 3)).stages[PEERS[1]]
    with pytest.raises(RemoteProtocolError, match="bytes of codec"):
        stage.receive(PEERS[0], Forward(SESSION, 0, 0, 0, 2, 0, Codec.F32, bytes(4)))


def test_rows_of_an_older_epoch_are_dropped() -> None:
    stage = Ring(PROMPT, (3, 3)).stages[PEERS[1]]
    assert stage.receive(PEERS[0], rows(0, 2, epoch=1)) == []
    assert stage.received == 0


def test_an_id_before_the_rows_it_follows_is_refused() -> None:
    stage = Ring(PROMPT, (3, 3)).stages[PEERS[0]]
    stage.receive(CLIENT, Prompt(SESSION, 0, pack_ids(PROMPT)))
    with pytest.raises(RemoteProtocolError) as caught:
        stage.receive(PEERS[1], Sampled(SESSION, 0, 0, len(PROMPT), (1,), 0))
    assert caught.value.code is Code.BAD_POSITION


def test_an_end_that_hides_rows_is_refused() -> None:
    stage = Ring(PROMPT, (2, 2, 2)).stages[PEERS[1]]
    with pytest.raises(RemoteProtocolError, match="were computed"):
        stage.receive(PEERS[0], Finish(SESSION, 0, 3, Code.END))


def test_what_arrives_after_the_end_is_dropped() -> None:
    stage = Ring(PROMPT, (3, 3)).stages[PEERS[1]]
    stage.receive(CLIENT, Close(SESSION, 0, Code.CANCELLED, 0, ""))
    assert stage.receive(PEERS[0], rows(0, 1)) == []
    assert stage.reason is Code.CANCELLED


def test_a_client_is_not_paid_credit() -> None:
    stage = Ring(PROMPT, (6,)).stages[PEERS[0]]
    with pytest.raises(RemoteProtocolError):
        stage.receive(CLIENT, Credit(SESSION, 0, 100))


def test_a_step_is_not_taken_twice() -> None:
    stage = Ring(PROMPT, (6,)).stages[PEERS[0]]
    stage.receive(CLIENT, Prompt(SESSION, 0, pack_ids(PROMPT)))
    stage.take(2)
    assert stage.ready(100) == 0
    with pytest.raises(LocalProtocolError):
        stage.take(2)


def test_a_stage_says_that_it_computes() -> None:
    ring = Ring(PROMPT, (6,))
    stage = ring.stages[PEERS[0]]
    stage.receive(CLIENT, Prompt(SESSION, 0, pack_ids(PROMPT)))
    assert not stage.is_computing
    step = stage.take(2)
    assert stage.is_computing
    stage.done(step, ring.shards[PEERS[0]].compute(step))
    assert not stage.is_computing


def test_a_result_after_the_end_is_dropped() -> None:
    ring = Ring(PROMPT, (6,))
    stage = ring.stages[PEERS[0]]
    stage.receive(CLIENT, Prompt(SESSION, 0, pack_ids(PROMPT)))
    step = stage.take(2)
    stage.end(Code.CANCELLED)
    assert stage.done(step, ring.shards[PEERS[0]].compute(step)) == []
    assert stage.computed == 0


def test_a_refusal_fails_the_generation_with_its_code() -> None:
    ring = Ring(PROMPT, (3, 3))
    ring.client.receive(PEERS[1], SessionRefused(SESSION, 0, Code.BUSY, "full", 1000))
    assert ring.client.failure is not None
    assert ring.client.failure.code is Code.BUSY


def test_a_tail_that_calls_a_truncated_answer_finished_is_caught() -> None:
    client = Ring(PROMPT, (6,)).client
    client.receive(PEERS[0], Accept(SESSION, 0, bytes(64), 0))
    with pytest.raises(RemoteProtocolError, match="says end"):
        client.receive(PEERS[0], Sampled(SESSION, 0, 0, len(PROMPT), (1,), Code.END))


def test_a_tail_that_goes_on_past_the_end_is_caught() -> None:
    client = Ring(PROMPT, (6,)).client
    client.receive(PEERS[0], Accept(SESSION, 0, bytes(64), 0))
    with pytest.raises(RemoteProtocolError, match="it is end"):
        client.receive(PEERS[0], Sampled(SESSION, 0, 0, len(PROMPT), (END_ID,), Code.NONE))


def test_ids_from_another_stage_than_the_tail_are_refused() -> None:
    client = Ring(PROMPT, (3, 3)).client
    for peer in PEERS[:2]:
        client.receive(peer, Accept(SESSION, 0, bytes(64), 0))
    with pytest.raises(RemoteProtocolError, match="not the tail"):
        client.receive(PEERS[0], Sampled(SESSION, 0, 0, len(PROMPT), (1,), Code.NONE))


def test_a_skipped_id_is_refused() -> None:
    client = Ring(PROMPT, (6,)).client
    client.receive(PEERS[0], Accept(SESSION, 0, bytes(64), 0))
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(PEERS[0], Sampled(SESSION, 0, 0, len(PROMPT) + 1, (1,), Code.NONE))
    assert caught.value.code is Code.BAD_POSITION


def test_ids_are_packed_big_endian() -> None:
    assert pack_ids((1, 258)) == bytes.fromhex("0000000100000102")
    assert unpack_ids(pack_ids((1, 258))) == (1, 258)
