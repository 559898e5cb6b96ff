"""A shard against transformers, and against itself: split, cached, batched, in chunks, rolled back."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from p2pinfer.core.records.draw import GREEDY, Sampling
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, Numerics, Span
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.engine.codecs import decode
from p2pinfer.engine.eager import span as eager
from p2pinfer.engine.messages import EngineCall
from p2pinfer.engine.shard import Shard

from .conftest import Tiny

PROMPT = tuple(int(id_) for id_ in np.random.default_rng(3).integers(0, 211, 37))
CLOSE = {"rtol": 2e-4, "atol": 2e-4}


def open_slots(shard: Shard, *slots: int, pages: int = 6) -> None:
    shard.answer(EngineCall(opened=tuple((slot, tuple(range(slot * pages, slot * pages + pages))) for slot in slots)))


def run(shard: Shard, *steps: Step) -> list[Output]:
    outputs = shard.step(steps)
    assert [output.code for output in outputs] == [Code.NONE] * len(steps), outputs
    return outputs


def chunk(slot: int, ids: Sequence[int], position: int = 0, sample: Sampling | None = GREEDY) -> Step:
    """A step of a whole model: ids in, an id out."""
    return Step(slot, position, pack_ids(ids), Codec.IDS, Codec.IDS, sample)


def first(slot: int, ids: Sequence[int], position: int = 0) -> Step:
    """A step of a first stage: ids in, rows out."""
    return Step(slot, position, pack_ids(ids), Codec.IDS, Codec.F32)


def rows(output: Output, width: int = 80) -> np.ndarray:
    return decode(output.data, Codec.F32, width)


def reference_hidden(tiny: Tiny, ids: Sequence[int], layers: int) -> np.ndarray:
    """Rows after so many layers, as transformers has them."""
    with torch.no_grad():
        states = tiny.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return states[layers][0].numpy()


def reference_ids(tiny: Tiny, ids: Sequence[int], count: int) -> list[int]:
    """A greedy answer, computed without a cache."""
    known = list(ids)
    with torch.no_grad():
        for _ in range(count):
            known.append(int(tiny.model(torch.tensor([known])).logits[0, -1].argmax()))
    return known[len(ids) :]


def answer(stages: Sequence[Shard], slot: int, ids: Sequence[int], count: int) -> list[int]:
    """A greedy answer through stages that pass f32 rows on."""
    sampled: list[int] = []
    data, position = pack_ids(ids), 0
    while len(sampled) < count:
        positions = len(data) // 4
        for number, stage in enumerate(stages):
            codec_in = Codec.F32 if number else Codec.IDS
            tail = number == len(stages) - 1
            step = Step(slot, position, data, codec_in, Codec.IDS if tail else Codec.F32, GREEDY if tail else None)
            [output] = run(stage, step)
            data = output.data
        sampled += output.ids
        data, position = pack_ids(output.ids), position + positions
    return sampled


def test_hidden_states_equal_those_of_transformers_at_every_split(tiny: Tiny) -> None:
    for layers in (1, 2, 3):
        shard = tiny.shard(Span(0, layers))
        open_slots(shard, 0)
        [output] = run(shard, first(0, PROMPT))
        np.testing.assert_allclose(rows(output), reference_hidden(tiny, PROMPT, layers), **CLOSE)


def test_a_greedy_answer_equals_that_of_transformers(tiny: Tiny) -> None:
    shard = tiny.shard()
    open_slots(shard, 0)
    assert answer([shard], 0, PROMPT, 40) == reference_ids(tiny, PROMPT, 40)


def test_a_model_split_at_every_layer_answers_as_the_whole(tiny: Tiny) -> None:
    stages = [tiny.shard(Span(layer, layer + 1)) for layer in range(4)]
    for stage in stages:
        open_slots(stage, 0)
    assert answer(stages, 0, PROMPT, 40) == reference_ids(tiny, PROMPT, 40)


def test_cached_rows_equal_rows_computed_at_once(tiny: Tiny) -> None:
    shard = tiny.shard(Span(0, 3))
    open_slots(shard, 0, 1)
    [whole] = run(shard, first(0, PROMPT))
    one_by_one = [run(shard, first(1, [id_], at))[0] for at, id_ in enumerate(PROMPT)]
    np.testing.assert_allclose(np.concatenate([rows(output) for output in one_by_one]), rows(whole), **CLOSE)


@pytest.mark.parametrize("size", [1, 2, 7, 16, 36])
def test_chunks_equal_the_whole_prompt(tiny: Tiny, size: int) -> None:
    shard = tiny.shard(Span(0, 3))
    open_slots(shard, 0, 1)
    [whole] = run(shard, first(0, PROMPT))
    parts = [run(shard, first(1, PROMPT[at : at + size], at))[0] for at in range(0, len(PROMPT), size)]
    np.testing.assert_allclose(np.concatenate([rows(output) for output in parts]), rows(whole), **CLOSE)


def test_a_batch_of_prefill_and_decode_equals_its_members_alone(tiny: Tiny) -> None:
    shard, alone = tiny.shard(Span(0, 3)), tiny.shard(Span(0, 3))
    for one in (shard, alone):
        open_slots(one, 0, 1, 2, 3)
        run(one, first(0, PROMPT[:20]))
        run(one, first(1, PROMPT[3:8]))
    steps = [first(0, [5], 20), first(1, [9], 5), first(2, PROMPT), first(3, PROMPT[:2])]
    together = run(shard, *steps)
    apart = [run(alone, step)[0] for step in steps]
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(rows(one), rows(other), **CLOSE)


def test_pages_in_any_order_equal_consecutive_ones(tiny: Tiny) -> None:
    shard = tiny.shard(Span(0, 3))
    shard.answer(EngineCall(opened=((0, (0, 1, 2)), (1, (9, 4, 7)))))
    [whole] = run(shard, first(0, PROMPT))
    parts = run(shard, first(1, PROMPT[:30])) + run(shard, first(1, PROMPT[30:], 30))
    np.testing.assert_allclose(np.concatenate([rows(output) for output in parts]), rows(whole), **CLOSE)


def test_writing_at_an_earlier_position_rolls_the_session_back(tiny: Tiny) -> None:
    shard = tiny.shard(Span(0, 3))
    open_slots(shard, 0, 1)
    run(shard, first(0, PROMPT))
    [again] = run(shard, first(0, [1, 2, 3], 20))
    run(shard, first(1, PROMPT[:20]))
    [straight] = run(shard, first(1, [1, 2, 3], 20))
    np.testing.assert_allclose(rows(again), rows(straight), **CLOSE)


def test_a_session_that_was_closed_leaves_nothing_behind(llama: Tiny) -> None:
    shard = llama.shard(Span(0, 3))
    open_slots(shard, 0)
    [before] = run(shard, first(0, PROMPT[:9]))
    run(shard, first(0, PROMPT, 9))
    shard.answer(EngineCall(closed=(0,), opened=((5, (0, 1)),)))
    [after] = run(shard, first(5, PROMPT[:9]))
    assert after.data == before.data


def test_bf16_is_close_to_f32(tiny: Tiny) -> None:
    exact, rounded = tiny.shard(Span(0, 3)), tiny.shard(Span(0, 3), Numerics.BF16_1)
    results = []
    for shard in (exact, rounded):
        open_slots(shard, 0)
        results.append(rows(run(shard, first(0, PROMPT))[0]))
    error = np.linalg.norm(results[0] - results[1], axis=1) / np.linalg.norm(results[0], axis=1)
    assert np.median(error) < 0.02


def test_bf16_does_not_depend_on_the_batch(tiny: Tiny) -> None:
    shard = tiny.shard(Span(0, 3), Numerics.BF16_1)
    open_slots(shard, 0, 1, 2)
    [alone] = run(shard, first(0, PROMPT))
    _, beside = run(shard, first(2, PROMPT[:5]), first(1, PROMPT))
    np.testing.assert_allclose(rows(alone), rows(beside), rtol=0.05, atol=0.05)


def test_a_chunk_that_does_not_end_the_prompt_samples_nothing(llama: Tiny) -> None:
    shard = llama.shard()
    open_slots(shard, 0)
    [output] = run(shard, chunk(0, PROMPT[:8], sample=None))
    assert output == Output()


def test_a_seeded_answer_is_the_same_twice_and_differs_between_seeds(llama: Tiny) -> None:
    shard = llama.shard()
    open_slots(shard, 0, 1, 2)
    hot = [Sampling(temperature=2_000_000, seed=seed) for seed in (1, 1, 2)]
    drawn = [[run(shard, chunk(slot, [7], at, hot[slot]))[0].ids for at in range(20)] for slot in range(3)]
    assert drawn[0] == drawn[1] != drawn[2]


FAULTS = {
    "a slot that is not open": (first(9, [1]), Code.UNKNOWN_SESSION),
    "a gap": (first(0, [1], 6), Code.BAD_POSITION),
    "more positions than were reserved": (first(0, range(92), 5), Code.BAD_POSITION),
    "more positions than the model takes": (first(0, [1] * 124, 5), Code.TOO_LONG),
    "an id past the vocabulary": (first(0, [1, 211], 5), Code.BAD_VALUES),
    "half an id": (Step(0, 5, b"\0\0", Codec.IDS, Codec.F32), Code.BAD_VALUES),
    "nothing": (first(0, [], 5), Code.BAD_VALUES),
    "rows at the head": (Step(0, 5, bytes(320), Codec.F32, Codec.F32), Code.UNSUPPORTED),
    "ids asked of a stage that is no tail": (Step(0, 5, bytes(4), Codec.IDS, Codec.IDS, GREEDY), Code.UNSUPPORTED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_step_fails_alone_and_changes_nothing(llama: Tiny, fault: str) -> None:
    step, code = FAULTS[fault]
    shard = llama.shard(Span(0, 2))
    open_slots(shard, 0, 1)
    [whole] = run(shard, first(1, PROMPT[:8]))
    run(shard, first(0, PROMPT[:5]))
    failed, good = shard.step([step, first(1, PROMPT[:8])])
    assert (failed.code, failed.data) == (code, b"")
    np.testing.assert_allclose(rows(good), rows(whole), **CLOSE)
    [after] = run(shard, first(0, PROMPT[5:8], 5))
    np.testing.assert_allclose(rows(after), rows(whole)[5:], **CLOSE)


def test_rows_that_are_not_finite_fail_alone(llama: Tiny) -> None:
    shard = llama.shard(Span(1, 2))
    open_slots(shard, 0, 1)
    good = np.ones((2, 80), np.float32).tobytes()
    bad = np.full((1, 80), np.inf, np.float32).tobytes()
    failed, other = shard.step([Step(0, 0, bad, Codec.F32, Codec.BF16), Step(1, 0, good, Codec.F32, Codec.BF16)])
    assert failed.code is Code.BAD_VALUES
    assert other.code is Code.NONE and len(other.data) == 2 * 160


def test_rows_that_overflow_fail_alone_and_are_dead(llama: Tiny) -> None:
    shard = llama.shard(Span(1, 2), Numerics.BF16_1)
    open_slots(shard, 0, 1)
    huge = np.full((1, 80), np.finfo(np.float32).max, np.float32).tobytes()  # infinite in bfloat16
    good = np.linspace(-1, 1, 80, dtype=np.float32)[None].tobytes()
    failed, other = shard.step([Step(0, 0, huge, Codec.F32, Codec.F32), Step(1, 0, good, Codec.F32, Codec.F32)])
    assert failed.code is Code.ENGINE
    [gap] = shard.step([Step(0, 1, good, Codec.F32, Codec.F32)])
    assert gap.code is Code.BAD_POSITION
    [again] = run(shard, Step(0, 0, good, Codec.F32, Codec.F32))
    np.testing.assert_allclose(rows(again), rows(other), rtol=0.05, atol=0.05)


def test_a_batch_that_finds_no_memory_fails_and_the_next_is_computed(
    llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = llama.shard(Span(1, 2))
    open_slots(shard, 0, 1)
    good = np.linspace(-1, 1, 80, dtype=np.float32)[None].tobytes()
    steps = [Step(slot, 0, good, Codec.F32, Codec.F32) for slot in range(2)]

    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(eager, "run_layer", full)
        for output in shard.step(steps):
            assert (output.code, output.text) == (Code.ENGINE, "no memory is left on cpu")
    [gap] = shard.step([Step(0, 1, good, Codec.F32, Codec.F32)])
    assert gap.code is Code.BAD_POSITION
    assert len(run(shard, *steps)) == 2


def test_an_overflow_does_not_reach_sessions_that_are_looked_at_together(llama: Tiny) -> None:
    shard, alone = llama.shard(Span(1, 3), Numerics.BF16_1), llama.shard(Span(1, 3), Numerics.BF16_1)
    values = np.random.default_rng(1).standard_normal((3, 80, 80), np.float32)

    def step(slot: int, first: int, last: int) -> Step:
        return Step(slot, first, values[slot, first:last].tobytes(), Codec.F32, Codec.F32)

    lengths = [20, 4, 39]
    for one in (shard, alone):
        one.answer(EngineCall(opened=((0, (0, 1)), (1, (2, 3)), (2, (4, 5, 6)))))
        run(one, *(step(slot, 0, length) for slot, length in enumerate(lengths)))
    expected = [run(alone, step(slot, length, length + 1))[0] for slot, length in enumerate(lengths)]
    huge = np.full((1, 80), np.finfo(np.float32).max, np.float32).tobytes()
    # all three are read 40 positions far: slot 0's piece has slot 1's new row in it, masked
    outputs = shard.step([step(0, 20, 21), Step(1, 4, huge, Codec.F32, Codec.F32), step(2, 39, 40)])
    assert [output.code for output in outputs] == [Code.NONE, Code.ENGINE, Code.NONE]
    after = shard.step([step(0, 20, 21), step(1, 4, 5), step(2, 39, 40)])
    for output, other in zip([outputs[0], *after[1:]], expected, strict=True):
        np.testing.assert_allclose(rows(output), rows(other), rtol=0.05, atol=0.1)


def test_many_sessions_that_decode_at_once_equal_each_alone(tiny: Tiny) -> None:
    shard = tiny.shard(Span(0, 3), pages=64)
    slots = range(8)
    open_slots(shard, *slots, pages=4)
    for slot in slots:
        run(shard, first(slot, PROMPT[: 20 + slot]))
    together = run(shard, *(first(slot, [slot], 20 + slot) for slot in slots))
    for slot in slots:
        [alone] = run(shard, first(slot, [slot], 20 + slot))
        np.testing.assert_allclose(rows(together[slot]), rows(alone), **CLOSE)


def test_two_steps_of_one_session_in_one_batch_are_refused(llama: Tiny) -> None:
    shard = llama.shard(Span(0, 1))
    open_slots(shard, 0)
    one, other = shard.step([first(0, [1]), first(0, [2], 1)])
    assert (one.code, other.code) == (Code.NONE, Code.BAD_STATE)


def test_sessions_may_use_different_codecs_in_one_batch(llama: Tiny) -> None:
    shard = llama.shard(Span(1, 2))
    open_slots(shard, 0, 1)
    values = np.linspace(-1, 1, 160, dtype=np.float32).reshape(2, 80)
    plain, packed = run(
        shard,
        Step(0, 0, values.tobytes(), Codec.F32, Codec.BF16),
        Step(1, 0, values.tobytes(), Codec.F32, Codec.Q8O4),
    )
    np.testing.assert_allclose(
        decode(plain.data, Codec.BF16, 80), decode(packed.data, Codec.Q8O4, 80), rtol=0.05, atol=0.05
    )


def test_a_session_may_use_some_of_a_shards_layers(tiny: Tiny) -> None:
    """Spans of a route overlap: each layer is computed once."""
    first_half, second_half = tiny.shard(Span(0, 3)), tiny.shard(Span(1, 4))
    for cut in (1, 2, 3):
        ids, data, sampled = PROMPT, pack_ids(PROMPT), []
        open_slots(first_half, cut)
        open_slots(second_half, cut)
        for position in (0, *range(len(PROMPT), len(PROMPT) + 9)):
            head = Step(cut, position, data, Codec.IDS, Codec.F32, None, Span(0, cut))
            [rows_out] = run(first_half, head)
            tail = Step(cut, position, rows_out.data, Codec.F32, Codec.IDS, GREEDY, Span(cut, 4))
            [output] = run(second_half, tail)
            sampled += output.ids
            data = pack_ids(output.ids)
        assert sampled == reference_ids(tiny, ids, 10)


def test_sessions_of_different_layers_run_in_one_batch(llama: Tiny) -> None:
    shard = llama.shard(Span(0, 3))
    open_slots(shard, 1, 2)
    steps = [
        Step(1, 0, pack_ids(PROMPT), Codec.IDS, Codec.F32, None, Span(0, 1)),
        Step(2, 0, pack_ids(PROMPT), Codec.IDS, Codec.F32, None, Span(0, 3)),
    ]
    for output, layers in zip(run(shard, *steps), (1, 3), strict=True):
        np.testing.assert_allclose(rows(output), reference_hidden(llama, PROMPT, layers), **CLOSE)


@pytest.mark.parametrize("span", [Span(0, 4), Span(3, 4), Span(1, 3)])
def test_layers_that_are_not_here_or_do_not_take_ids_fail_alone(llama: Tiny, span: Span) -> None:
    shard = llama.shard(Span(0, 3))
    open_slots(shard, 1)
    [output] = shard.step([Step(1, 0, pack_ids(PROMPT), Codec.IDS, Codec.F32, None, span)])
    assert output.code is Code.UNSUPPORTED
