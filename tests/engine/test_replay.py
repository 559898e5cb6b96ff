"""Recorded decode steps against the same steps computed operator by operator.

On CPU they are recorded by nobody, or by the tape that stands in for CUDA graphs. Graphs themselves need a GPU.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.sessions.pages import Table
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, Numerics, Span
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.engine.backend import NOTHING, Asked, Part
from p2pinfer.engine.choice import read_config
from p2pinfer.engine.eager import tape
from p2pinfer.engine.eager.buckets import Bucket, bucket_of
from p2pinfer.engine.eager.graphs import Graphs
from p2pinfer.engine.eager.replay import Compute, Recorder
from p2pinfer.engine.eager.span import load_eager
from p2pinfer.engine.messages import EngineCall
from p2pinfer.engine.shard import Shard

from .conftest import Tiny
from .test_shard import CLOSE, PROMPT, answer, first, open_slots, reference_ids, rows, run

NEAR = 0.03  # median error of a row; attention in bfloat16 rounds differently for other shapes: measured .009


def error(found: np.ndarray, reference: np.ndarray) -> float:
    """Of the middle row, relative to its length."""
    return float(np.median(np.linalg.norm(found - reference, axis=1) / np.linalg.norm(reference, axis=1)))


@dataclass(frozen=True)
class Way:
    """Where and how steps are recorded."""

    device: str
    recorder: Callable[[], Recorder]

    def shard(self, tiny: Tiny, span: Span | None = None, numerics: Numerics = Numerics.F32_1) -> Shard:
        return recorded(tiny, self.recorder(), span, numerics, self.device)


NO_GPU = "CUDA graphs need a GPU, and torch finds none here"
WAYS = [
    pytest.param(Way("cpu", lambda: as_it_is), id="as it is"),
    pytest.param(Way("cpu", lambda: tape.record), id="tape"),
    pytest.param(
        Way("cuda", lambda: Graphs(torch.device("cuda")).record),
        id="CUDA graph",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU),
    ),
]


def as_it_is(compute: Compute) -> Compute:
    return compute


def recorded(
    tiny: Tiny, record: Recorder, span: Span | None = None, numerics: Numerics = Numerics.F32_1, device: str = "cpu"
) -> Shard:
    spec = replace(tiny.spec(span, numerics), device=device)
    config = read_config(spec.config)
    return Shard(spec, config, load_eager(spec, config, lambda done, total: None, record))


def decoded(shard: Shard, *steps: tuple[int, int, int]) -> np.ndarray:
    """Rows of single steps in one batch: slot, id, position."""
    return np.concatenate([rows(output) for output in run(shard, *(first(slot, [id_], at) for slot, id_, at in steps))])


def decoded_by_both(recorded_one: Shard, plain: Shard) -> tuple[np.ndarray, np.ndarray]:
    """Rows of many steps: sessions come and go, lie scattered, and differ in length."""
    opened = ((0, (5, 2, 9)), (1, (0, 1, 3)), (2, (20, 4, 21)), (3, (6, 7, 8)), (4, (63, 62, 61)))
    batches = [
        [(0, 7, 20), (1, 8, 3), (2, 9, 36)],
        [(0, 1, 21), (1, 2, 4), (2, 3, 37)],
        [(1, 6, 5)],
        [(1, 5, 6), (3, 4, 15)],
        [(4, 1, 1), (3, 4, 16), (1, 5, 7), (0, 3, 22), (2, 2, 38)],
        [(3, 4, 17), (4, 8, 2), (0, 7, 22), (1, 7, 8), (2, 2, 5)],  # back to a bucket; two sessions are rolled back
    ]
    results = []
    for shard in (recorded_one, plain):
        shard.answer(EngineCall(opened=opened))
        for slot, count in enumerate((20, 3, 36, 15, 1)):
            run(shard, first(slot, PROMPT[:count]))
        results.append(np.concatenate([decoded(shard, *batch) for batch in batches]))
    return results[0], results[1]


@pytest.mark.parametrize("way", WAYS)
def test_recorded_steps_equal_plain_ones(tiny: Tiny, way: Way) -> None:
    found, expected = decoded_by_both(way.shard(tiny, Span(0, 3)), tiny.shard(Span(0, 3)))
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("way", WAYS)
def test_recorded_steps_are_near_plain_ones_in_bf16(tiny: Tiny, way: Way) -> None:
    found, expected = decoded_by_both(
        way.shard(tiny, Span(0, 3), Numerics.BF16_1), tiny.shard(Span(0, 3), Numerics.BF16_1)
    )
    assert error(found, expected) < NEAR


@pytest.mark.parametrize("way", WAYS)
def test_a_recorded_answer_equals_that_of_transformers(tiny: Tiny, way: Way) -> None:
    shard = way.shard(tiny)
    open_slots(shard, 0)
    assert answer([shard], 0, PROMPT, 40) == reference_ids(tiny, PROMPT, 40)


@pytest.fixture
def long(llama: Tiny, tmp_path: Path) -> Tiny:
    """With a context that takes several buckets."""
    shutil.copytree(llama.folder, tmp_path / "long")
    config = json.loads((llama.folder / "config.json").read_text())
    (tmp_path / "long" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 600}))
    return Tiny(tmp_path / "long", llama.model)


@pytest.mark.parametrize("way", WAYS)
def test_long_sessions_equal_plain_ones_across_buckets(long: Tiny, way: Way) -> None:
    ids = [at % 211 for at in range(300)]
    results = []
    for shard in (way.shard(long, Span(0, 2)), long.shard(Span(0, 2))):
        open_slots(shard, 0, 1, pages=20)
        run(shard, first(0, ids[:126]), first(1, ids[:254]))
        steps = [((0, 5, 126 + at), (1, 6, 254 + at)) for at in range(4)]
        results.append(np.concatenate([decoded(shard, *step) for step in steps]))
        results[-1] = np.concatenate([results[-1], decoded(shard, (0, 5, 130))])
    np.testing.assert_allclose(results[0], results[1], **CLOSE)


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_fill_a_batch_up_leave_every_session_alone(llama: Tiny, way: Way) -> None:
    shard, alone = way.shard(llama, Span(0, 2)), llama.shard(Span(0, 2))
    for one in (shard, alone):
        open_slots(one, *range(10))  # the pool is theirs
        for slot in range(10):
            run(one, first(slot, PROMPT[slot : slot + 9]))
    decoded(shard, *((slot, 3, 9) for slot in range(5)))  # three rows more
    for slot in range(5, 10):
        np.testing.assert_allclose(decoded(shard, (slot, 1, 9)), decoded(alone, (slot, 1, 9)), **CLOSE)


@pytest.mark.parametrize("way", WAYS)
def test_an_overflow_in_a_recorded_batch_fails_alone(llama: Tiny, way: Way) -> None:
    shard, alone = way.shard(llama, Span(1, 3), Numerics.BF16_1), llama.shard(Span(1, 3), Numerics.BF16_1)
    good = np.linspace(-1, 1, 80, dtype=np.float32)[None].tobytes()
    huge = np.full((1, 80), np.finfo(np.float32).max, np.float32).tobytes()  # infinite in bfloat16
    for one in (shard, alone):
        open_slots(one, 0, 1, 2, 3)
    data = [good, good, good, huge]
    outputs = shard.step([Step(slot, 0, data[slot], Codec.F32, Codec.F32) for slot in range(4)])
    assert [output.code for output in outputs] == [Code.NONE] * 3 + [Code.ENGINE]
    [expected] = run(alone, Step(0, 0, good, Codec.F32, Codec.F32))
    after = run(shard, *(Step(slot, 0, good, Codec.F32, Codec.F32) for slot in range(1, 4)))  # the same bucket
    for output in (*outputs[:3], *after):
        np.testing.assert_allclose(rows(output), rows(expected), rtol=0.05, atol=0.1)


def test_a_bucket_is_recorded_once_and_chunks_and_part_spans_never(llama: Tiny) -> None:
    buckets: list[int] = []

    def note(compute: Compute) -> Compute:
        buckets.append(len(compute()))
        return compute

    shard = recorded(llama, note, Span(0, 3))
    open_slots(shard, 0, 1, 2)
    run(shard, first(0, PROMPT), first(1, PROMPT))
    run(shard, first(0, [1], 37), first(2, PROMPT))
    run(shard, Step(1, 37, pack_ids([1]), Codec.IDS, Codec.F32, None, Span(0, 2)))
    assert buckets == []
    for at in (38, 39):
        run(shard, first(0, [1], at))
        run(shard, first(0, [1], at), first(1, [1], at), first(2, [1], 37))
    assert buckets == [1, 4]


def test_on_a_cpu_nothing_is_recorded_unasked(llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device) -> Graphs:
        raise AssertionError(device)

    monkeypatch.setattr("p2pinfer.engine.eager.span.Graphs", fail)
    shard = llama.shard()
    open_slots(shard, 0)
    run(shard, Step(0, 0, pack_ids([1]), Codec.IDS, Codec.IDS, GREEDY))


def parts(*positions: range) -> Sequence[Part]:
    return [Part(slot, Table(()), one, NOTHING, Asked.NOTHING) for slot, one in enumerate(positions)]


@pytest.mark.parametrize(
    ("rows", "position", "bucket"),
    [
        (1, 0, Bucket(1, 8)),
        (2, 127, Bucket(2, 8)),
        (3, 128, Bucket(4, 10)),
        (128, 1023, Bucket(128, 64)),
        (128, 1024, None),  # too many pages
        (129, 0, None),
        (1, 131071, Bucket(1, 8192)),
    ],
)
def test_a_batch_is_brought_to_the_next_bucket(rows: int, position: int, bucket: Bucket | None) -> None:
    assert bucket_of(parts(range(position, position + 1), *[range(1)] * (rows - 1))) == bucket


def test_a_chunk_has_no_bucket() -> None:
    assert bucket_of(parts(range(1), range(2))) is None


def test_a_tape_plays_with_new_inputs_at_the_old_place() -> None:
    given = torch.ones(3)
    play = tape.record(lambda: (given.view(1, 3) * 2 + given).clamp_max(10.0))
    first_result = play()
    given[1] = 2
    assert play().tolist() == [[3.0, 6.0, 3.0]]
    assert play().data_ptr() == first_result.data_ptr()


def test_a_tape_refuses_what_reads_values_back() -> None:
    with pytest.raises(TypeError, match="read back"):
        tape.record(lambda: torch.ones(3) * torch.ones(3).sum().item())
