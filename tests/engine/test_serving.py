"""Requests that the kernel answers without Python: the same answers, and nothing unusual is among them."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, Span, row_bytes
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.engine import codecs
from p2pinfer.engine.inbox import Inbox
from p2pinfer.engine.messages import LENGTH_BYTES, EngineCall, Reply, pack_request, unpack_message, unpack_request
from p2pinfer.engine.shard import Shard
from tests.node.middle import Middle

from .conftest import Tiny
from .test_native import EXACT, WIDTH, load

ROW = row_bytes(Codec.Q8O4, WIDTH)
SPANS = {"head": Span(0, 2), "middle": Span(1, 3), "tail": Span(2, 4), "whole": Span(0, 4)}


@dataclass(frozen=True)
class Served:
    """A shard whose requests come through a socket, and one like it that Python answers."""

    shard: Shard
    other: Shard
    near: socket.socket
    inbox: Inbox

    def ask(self, *requests: EngineCall | bytes) -> list[EngineCall]:
        """Send requests, and no more; what the kernel leaves to Python of them."""
        for request in requests:
            self.near.sendall(request if isinstance(request, bytes) else pack_request(request))
        self.near.shutdown(socket.SHUT_WR)
        left = []
        while True:
            try:
                left.append(unpack_request(self.inbox.receive()))
            except EOFError:
                return left

    def answers(self) -> list[Reply]:
        """What the kernel answered."""
        self.near.settimeout(0.0)
        data, replies = b"", []
        try:
            while part := self.near.recv(1 << 16):
                data += part
        except BlockingIOError:
            pass
        while data:
            size = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
            reply = unpack_message(data[LENGTH_BYTES:size])
            assert isinstance(reply, Reply)
            replies.append(reply)
            data = data[size:]
        return replies


@contextmanager
def served(tiny: Tiny, span: Span, *slots: int) -> Iterator[Served]:
    """With sessions of 48 positions in these slots."""
    near, far = socket.socketpair()
    with near, far:
        shard, other = load(EXACT, tiny, span), load(EXACT, tiny, span)
        opened = tuple((slot, (3 * slot, 3 * slot + 1, 3 * slot + 2)) for slot in slots)
        for one in (shard, other):
            one.answer(EngineCall(opened=opened))
        yield Served(shard, other, near, shard.open_inbox(far))


def data_for(span: Span, count: int, seed: int = 0) -> bytes:
    random = np.random.default_rng(seed)
    if span.first == 0:
        return pack_ids(int(id_) for id_ in random.integers(0, 211, count))
    return codecs.NUMPY.encode(random.standard_normal((count, WIDTH)).astype(np.float32))


def plain(span: Span, slot: int, position: int, count: int = 1, seed: int = 0) -> Step:
    """A step as a node asks for it."""
    tail = span.last == 4
    return Step(
        slot,
        position,
        data_for(span, count, seed),
        Codec.IDS if span.first == 0 else Codec.Q8O4,
        Codec.IDS if tail else Codec.Q8O4,
        GREEDY if tail else None,
        span,
    )


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_the_kernel_answers_as_python_does(even: Tiny, span: Span) -> None:
    requests = [
        EngineCall(steps=(plain(span, 5, 0, 20),)),
        EngineCall(steps=(plain(span, 5, 20, seed=1), plain(span, 2, 0, 9, seed=2), plain(span, 7, 0, seed=3))),
        EngineCall(steps=(replace(plain(span, 2, 9, 4, seed=4), sample=None), plain(span, 7, 1, seed=5))),
        EngineCall(steps=(plain(span, 5, 6, seed=6),)),  # back to an earlier position
        EngineCall(steps=(plain(span, 5, 7, seed=7),)),
    ]
    with served(even, span, 2, 5, 7) as door:
        assert door.ask(*requests) == []
        expected = [door.other.answer(request).outputs for request in requests]
        assert [reply.outputs for reply in door.answers()] == expected


@pytest.mark.parametrize("layers", SPANS.values(), ids=SPANS)
def test_the_kernel_answers_for_parts_of_its_span(even_llama: Tiny, layers: Span) -> None:
    """A route may use some of a stage's layers: it begins the model or ends it only where they do."""
    chunk, batch = (plain(layers, 5, 0, 20),), (plain(layers, 5, 20), plain(layers, 2, 0, 3))
    requests = [EngineCall(steps=chunk), EngineCall(steps=batch)]
    with served(even_llama, SPANS["whole"], 2, 5) as door:
        assert door.ask(*requests) == []
        expected = [door.other.answer(request).outputs for request in requests]
        assert [reply.outputs for reply in door.answers()] == expected


async def test_what_a_node_asks_for_is_plain(even_llama: Tiny) -> None:
    """With the codec that clients ask for, and the layers of a contract."""
    span = SPANS["middle"]
    middle = Middle(span=span, codec=Codec.Q8O4, width=WIDTH)
    middle.forward(3, Codec.Q8O4, data_for(span, 3))
    step = middle.session.steps.take(3)
    with served(even_llama, span, step.slot) as door:
        assert door.ask(EngineCall(steps=(step,))) == []
        assert [reply.outputs for reply in door.answers()] == [tuple(door.other.step([step]))]


def test_all_layers_need_no_numbers(even_llama: Tiny) -> None:
    span = SPANS["middle"]
    request = EngineCall(steps=(replace(plain(span, 2, 0), layers=None),))
    with served(even_llama, span, 2) as door:
        assert door.ask(request) == []
        assert [reply.outputs for reply in door.answers()] == [door.other.answer(request).outputs]


def test_answers_of_the_kernel_and_of_python_follow_one_another(even_llama: Tiny) -> None:
    span = SPANS["head"]
    chunk = EngineCall(steps=(plain(span, 0, 0, 20),))
    unusual = EngineCall(steps=(replace(plain(span, 0, 20, seed=1), codec_out=Codec.F32),))
    last = plain(span, 0, 21, seed=2)
    with served(even_llama, span, 0) as door:
        assert door.ask(chunk, unusual) == [unusual]
        door.shard.answer(unusual)
        assert (
            door.shard.step([last])
            == [door.other.answer(r).outputs[0] for r in (chunk, unusual, EngineCall(steps=(last,)))][2:]
        )


UNUSUAL: dict[str, Callable[[Span], EngineCall]] = {
    "no step": lambda span: EngineCall(),
    "a session that closed": lambda span: EngineCall(closed=(2,), steps=(plain(span, 0, 0),)),
    "a session that opened": lambda span: EngineCall(opened=((9, (40,)),), steps=(plain(span, 0, 0),)),
    "a slot that is not open": lambda span: EngineCall(steps=(plain(span, 0, 0), plain(span, 8, 0))),
    "two steps of a slot": lambda span: EngineCall(steps=(plain(span, 0, 0), plain(span, 0, 0))),
    "a gap": lambda span: EngineCall(steps=(plain(span, 0, 1),)),
    "a far position": lambda span: EngineCall(steps=(plain(span, 0, 2**32 - 1),)),
    "more than was reserved": lambda span: EngineCall(steps=(plain(span, 0, 0, 49),)),
    "layers that are elsewhere": lambda span: EngineCall(steps=(replace(plain(span, 0, 0), layers=Span(4, 5)),)),
    "layers after the span": lambda span: EngineCall(steps=(replace(plain(span, 0, 0), layers=Span(span.first, 5)),)),
    "layers of two kinds": lambda span: EngineCall(
        steps=(plain(span, 0, 0), replace(plain(span, 2, 0), layers=Span(span.first + 1, span.last)))
    ),
    "another codec in": lambda span: EngineCall(steps=(replace(plain(span, 0, 0), codec_in=Codec.BF16),)),
    "another codec out": lambda span: EngineCall(steps=(replace(plain(span, 0, 0), codec_out=Codec.BF16),)),
    "a draw": lambda span: EngineCall(steps=(replace(plain(span, 0, 0), sample=replace(GREEDY, temperature=1)),)),
    "no data": lambda span: EngineCall(steps=(replace(plain(span, 0, 0), data=b""),)),
    "half a row": lambda span: EngineCall(steps=(replace(plain(span, 0, 0), data=plain(span, 0, 0).data[:-1]),)),
    "what no codec writes": lambda span: EngineCall(steps=(replace(plain(span, 0, 0), data=b"\xff" * (4 * ROW)),)),
}


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("make", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_is_left_to_python_as_it_came(
    even_llama: Tiny, span: Span, make: Callable[[Span], EngineCall]
) -> None:
    request, after = make(span), EngineCall(steps=(plain(span, 2, 0, 3),))
    with served(even_llama, span, 0, 2) as door:
        assert door.ask(request, after) == [request]
        assert [reply.outputs for reply in door.answers()] == [tuple(door.other.step(after.steps))]


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_a_request_that_is_left_has_changed_nothing(even_llama: Tiny, span: Span) -> None:
    """Its good step was not taken: the session still begins at 0."""
    bad = EngineCall(steps=(plain(span, 0, 0, 4), plain(span, 2, 1)))
    gap = EngineCall(steps=(plain(span, 0, 1),))
    with served(even_llama, span, 0, 2) as door:
        assert door.ask(bad, gap) == [bad, gap]
        assert door.answers() == []


def test_values_that_overflow_are_left_to_python(even_llama: Tiny, tmp_path: Path) -> None:
    """A norm so large that no key fits binary16. What the kernel computed before it found out is not kept."""
    for file in even_llama.folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    tensors = load_file(tmp_path / "layer-001.safetensors")
    tensors["model.layers.1.input_layernorm.weight"] *= 1e30
    (tmp_path / "layer-001.safetensors").unlink()
    save_file(tensors, tmp_path / "layer-001.safetensors")
    span = SPANS["middle"]
    step, later = EngineCall(steps=(plain(span, 0, 0),)), EngineCall(steps=(plain(span, 0, 1),))
    with served(replace(even_llama, folder=tmp_path), span, 0) as door:
        assert door.ask(step, later) == [step, later]
        assert [output.code for output in door.shard.step([*step.steps])] == [Code.ENGINE]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), cut=st.integers(0, 200))
def test_bytes_of_any_kind_harm_nothing(even_llama: Tiny, changes: Sequence[tuple[int, int]], cut: int) -> None:
    """Whatever a request is changed into, the one after it is answered as if nothing had been before."""
    span = SPANS["middle"]
    body = bytearray(pack_request(EngineCall(steps=(plain(span, 0, 0, 3), plain(span, 2, 0))))[LENGTH_BYTES:])
    for at, value in changes:
        body[at % len(body)] = value
    body = body[: max(1, len(body) - cut)]
    after = EngineCall(steps=(plain(span, 4, 0, 2),))
    with served(even_llama, span, 0, 2, 4) as door:
        door.near.sendall(len(body).to_bytes(LENGTH_BYTES, "little") + body)
        door.near.sendall(pack_request(after))
        door.near.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            while door.inbox.receive():
                pass
        assert door.answers()[-1].outputs == tuple(door.other.step(after.steps))
