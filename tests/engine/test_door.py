"""The engine's process. What holds for its fake, too, is in `test_engines.py`."""

import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trio

from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import EngineError, ModelError
from p2pinfer.core.values.units import Codec, Numerics, Roles, Span
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.engine.door import Engine
from p2pinfer.engine.messages import (
    LENGTH_BYTES,
    EngineCall,
    Facts,
    Failed,
    Loading,
    Reply,
    ShardSpec,
    WorkerMessage,
    pack_message,
    pack_request,
    pack_spec,
    unpack_message,
    unpack_request,
    unpack_spec,
)
from p2pinfer.engine.process import open_engine

from .conftest import Tiny
from .test_shard import PROMPT, chunk, reference_ids

LIMIT_S = 60  # a worker imports torch; beyond this it hangs


async def answer(engine: Engine, slot: int, count: int) -> list[int]:
    """A greedy answer to PROMPT."""
    await engine.open_session(slot, 6)
    [output] = await engine.step([chunk(slot, PROMPT)])
    drawn = list(output.ids)
    while len(drawn) < count:
        [output] = await engine.step([chunk(slot, output.ids, len(PROMPT) + len(drawn) - 1)])
        drawn += output.ids
    return drawn


async def test_a_model_behind_the_door_answers_as_transformers(llama: Tiny) -> None:
    seen: list[tuple[int, int]] = []
    with trio.fail_after(LIMIT_S):
        async with open_engine(llama.spec(), lambda done, total: seen.append((done, total))) as engine:
            assert await answer(engine, 0, 20) == reference_ids(llama, PROMPT, 20)
            assert (engine.facts.vocabulary, engine.facts.numerics) == (211, Numerics.F32_1)
            assert engine.busy_s > 0
    done, total = zip(*seen, strict=True)
    assert list(done) == sorted(done) and done[-1] == total[0] > 0


async def test_an_idle_engine_that_dies_is_noticed(llama: Tiny) -> None:
    with trio.fail_after(LIMIT_S):
        async with open_engine(llama.spec()) as engine:
            os.kill(engine.pid, signal.SIGKILL)
            assert "signal 9" in str(await engine.wait_ended())


async def test_leaving_the_door_ends_the_process(llama: Tiny) -> None:
    with trio.fail_after(LIMIT_S):
        async with open_engine(llama.spec()) as engine:
            pid = engine.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EngineError, match="closed"):
        await engine.step([])


PARENT = """
import sys, trio
from p2pinfer.engine.messages import unpack_spec
from p2pinfer.engine.process import open_engine

async def main():
    async with open_engine(unpack_spec(bytes.fromhex(sys.argv[1]))) as engine:
        print(engine.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def test_the_worker_ends_when_its_parent_is_killed(llama: Tiny) -> None:
    spec = pack_spec(llama.spec())[LENGTH_BYTES:].hex()
    with subprocess.Popen([sys.executable, "-c", PARENT, spec], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        ended = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert select.select([ended], [], [], LIMIT_S)[0]
    finally:
        os.close(ended)


async def failure(spec: ShardSpec) -> str:
    """What a person reads when the shard cannot be loaded."""
    with trio.fail_after(LIMIT_S), pytest.raises(ModelError) as caught:
        async with open_engine(spec):
            pass
    return str(caught.value)


async def test_a_missing_file_is_named(llama: Tiny) -> None:
    spec = llama.spec()
    missing = llama.folder / "layer-009.safetensors"
    assert await failure(replace(spec, files=(*spec.files, missing))) == f"{missing}: No such file or directory"


def test_importing_the_door_imports_no_torch() -> None:
    check = "import sys, p2pinfer.engine.process; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


SPEC = ShardSpec(
    Path("/c.json"), (Path("/a"), Path("/b")), Span(2, 9), Roles.TAIL, Numerics.BF16_1, 7, "cuda:1", threads=3
)


def test_a_spec_goes_through_the_door_whole() -> None:
    assert unpack_spec(pack_spec(SPEC)[LENGTH_BYTES:]) == SPEC


def test_a_request_goes_through_the_door_whole() -> None:
    steps = (
        Step(3, 17, b"rows", Codec.Q8O4, Codec.BF16),
        Step(4, 0, pack_ids([7]), Codec.IDS, Codec.IDS, replace(GREEDY, seed=2**53 - 1)),
    )
    request = EngineCall((1, 2), ((5, (8, 9)), (6, ())), steps)
    assert unpack_request(pack_request(request)[LENGTH_BYTES:]) == request


@pytest.mark.parametrize(
    "message",
    [
        Loading(5, 70),
        Facts(Numerics.F32_1, "cpu", 2, "aten", 576, 49152, 8192, 10**10, 10**9, 100),
        Failed("no such file"),
        Reply((Output(b"rows"), Output(ids=(1, 2)), Output(code=Code.BAD_POSITION, text="a gap")), 0.25),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_goes_through_the_door_whole(message: WorkerMessage) -> None:
    assert unpack_message(pack_message(message)[LENGTH_BYTES:]) == message


@pytest.mark.parametrize(("pages", "threads"), [(0, 1), (1, 0)])
def test_a_spec_without_pages_or_threads_is_refused(pages: int, threads: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        replace(SPEC, pages=pages, threads=threads)


def test_rows_come_through_unchanged_in_size() -> None:
    data = np.random.default_rng(1).bytes(4_000_000)
    frame = pack_message(Reply((Output(data),), 0.0))
    message = unpack_message(frame[LENGTH_BYTES:])
    assert isinstance(message, Reply) and message.outputs[0].data == data
