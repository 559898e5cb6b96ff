"""The class i8h64-1: its parts against plain arithmetic, its shards by the three laws and against f32."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from p2pinfer.core.models.manifest import CONFIG, TOKENIZER
from p2pinfer.core.models.text import Texts
from p2pinfer.core.sessions.pages import Table
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Codec, Numerics, Roles, Span
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.backend import Asked, Part
from p2pinfer.engine.choice import fastest_numerics
from p2pinfer.engine.config import read_config
from p2pinfer.engine.hadamard import group_of, hadamard, turn
from p2pinfer.engine.int8 import SLICE, Int8Linear, round_rows
from p2pinfer.engine.kv import Cache
from p2pinfer.engine.layers import norm, run_layer
from p2pinfer.engine.plan import plan_batch
from p2pinfer.engine.rope import Rope
from p2pinfer.engine.steps import Output, Step
from p2pinfer.engine.weights import DTYPES, load_weights

from .conftest import Tiny
from .test_shard import PROMPT, first, open_slots, rows, run

CPU = torch.device("cpu")


NEAR = 0.03  # median error of a row that one law allows
# Attention in bfloat16 rounds differently for other shapes (0.009 in bf16-1, whose error against f32 is 0.016); a value
# that lies at the border of two integers then takes the other one. Measured: 0.018, and 0.051 against f32.


def error(found: np.ndarray, reference: np.ndarray) -> float:
    """Of the middle row, relative to its length."""
    return float(np.median(np.linalg.norm(found - reference, axis=1) / np.linalg.norm(reference, axis=1)))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(("size", "group"), [(4096, 64), (576, 64), (96, 32), (80, 16), (112, 16), (8, 8), (7, 1)])
def test_a_group_is_the_largest_power_of_two_that_divides_a_row(size: int, group: int) -> None:
    assert group_of(size) == group


@pytest.mark.parametrize("group", [1, 2, 8, 16, 32, 64])
def test_turning_twice_gives_the_row_back(group: int) -> None:
    given, matrix = random(3, 2 * group), hadamard(group, CPU)
    torch.testing.assert_close(turn(turn(given, matrix), matrix), given)


def test_turning_spreads_one_large_value_over_its_group_alone() -> None:
    given = torch.zeros(1, 128)
    given[0, 70] = 64.0
    turned = turn(given, hadamard(64, CPU))
    assert turned.abs().tolist() == [[0.0] * 64 + [8.0] * 64]


def test_rounding_uses_the_whole_range_and_nothing_beyond() -> None:
    given = random(50, 64) * torch.logspace(-20, 20, 50)[:, None]
    whole, scales = round_rows(given)
    assert whole.abs().amax(1).tolist() == [127] * 50
    assert ((whole * scales - given).abs() <= 0.501 * scales).all()


def test_a_row_of_zeros_stays_one() -> None:
    whole, scales = round_rows(torch.zeros(1, 8))
    assert (whole * scales).tolist() == [[0.0] * 8]


@pytest.mark.parametrize(("count", "inputs", "outputs"), [(1, 80, 7), (31, 64, 8), (32, 576, 300), (33, 8, SLICE + 9)])
def test_a_product_is_near_that_of_floats(count: int, inputs: int, outputs: int) -> None:
    """Two roundings, each of at most half of 1/127 of the largest value: 0.01 of a row's length for normal values."""
    weight, bias, given = random(outputs, inputs), random(outputs), random(count, inputs)
    found = Int8Linear(weight, bias, CPU)(given)
    assert found.shape == (count, outputs)
    assert error(found.numpy(), (given @ weight.T + bias).numpy()) < 0.02


def test_a_large_value_costs_the_others_little() -> None:
    weight, given = random(96, 576), random(9, 576)
    given[:, 100] *= 300
    found = Int8Linear(weight, None, CPU)(given)
    others = torch.arange(576) != 100
    reference = (given @ weight.T).numpy()
    plain, scales = round_rows(given)
    unturned = ((plain * scales)[:, others] @ weight[:, others].T - given[:, others] @ weight[:, others].T).numpy()
    assert np.linalg.norm(found.numpy() - reference) < 0.5 * np.linalg.norm(unturned)


def test_a_row_is_the_same_bits_alone_and_beside_others() -> None:
    linear, given = Int8Linear(random(40, 128), None, CPU), random(70, 128).bfloat16()
    assert torch.equal(torch.cat([linear(row[None]) for row in given]), linear(given))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_spoils_its_own_row_alone(value: float) -> None:
    linear, given = Int8Linear(random(40, 128), None, CPU), random(3, 128)
    good = linear(given)
    given[1, 5] = value
    found = linear(given)
    assert not found[1].isfinite().any()
    assert torch.equal(found[::2], good[::2])


def test_a_shard_is_near_one_in_f32(tiny: Tiny) -> None:
    results = []
    for numerics in (Numerics.F32_1, Numerics.I8H64_1):
        shard = tiny.shard(Span(0, 3), numerics)
        open_slots(shard, 0)
        results.append(rows(run(shard, first(0, PROMPT))[0]))
    assert error(results[1], results[0]) < 0.08  # measured: 0.051; three layers of random weights, short rows


def test_a_split_shard_equals_the_whole(tiny: Tiny) -> None:
    whole = tiny.shard(Span(0, 3), Numerics.I8H64_1)
    stages = [tiny.shard(Span(layer, layer + 1), Numerics.I8H64_1) for layer in range(3)]
    for shard in (whole, *stages):
        open_slots(shard, 0)
    [expected] = run(whole, first(0, PROMPT))
    [found] = run(stages[0], first(0, PROMPT))
    for stage in stages[1:]:
        [found] = run(stage, Step(0, 0, found.data, Codec.F32, Codec.F32))
    assert error(rows(found), rows(expected)) < NEAR


def test_cached_rows_are_near_rows_computed_at_once(tiny: Tiny) -> None:
    shard = tiny.shard(Span(0, 3), Numerics.I8H64_1)
    open_slots(shard, 0, 1)
    [whole] = run(shard, first(0, PROMPT))
    one_by_one: list[Output] = [run(shard, first(1, [id_], at))[0] for at, id_ in enumerate(PROMPT)]
    assert error(np.concatenate([rows(output) for output in one_by_one]), rows(whole)) < NEAR


def test_a_batch_is_near_its_members_alone(tiny: Tiny) -> None:
    shard, alone = tiny.shard(Span(0, 3), Numerics.I8H64_1), tiny.shard(Span(0, 3), Numerics.I8H64_1)
    steps = [first(slot, PROMPT[slot : slot + 20]) for slot in range(3)]
    later = [first(0, [5], 20), first(1, [9], 20), first(3, PROMPT), first(2, [3], 20)]
    for one in (shard, alone):
        open_slots(one, 0, 1, 2, 3)
    together = [*run(shard, *steps), *run(shard, *later)]
    apart = [run(alone, step)[0] for step in (*steps, *later)]
    for one, other in zip(together, apart, strict=True):
        assert error(rows(one), rows(other)) < NEAR


def test_weights_take_a_byte_each(llama: Tiny) -> None:
    facts, wide = llama.shard(numerics=Numerics.I8H64_1).facts, llama.shard(numerics=Numerics.BF16_1).facts
    assert facts.kernel == "int_mm"
    assert facts.weight_bytes < 0.6 * wide.weight_bytes  # the rows are short, so that scales count
    assert facts.cache_bytes == wide.cache_bytes


def test_int8_is_not_what_a_gpu_gets_unasked(llama: Tiny) -> None:
    """Nobody has measured it there."""
    assert fastest_numerics(llama.folder / "config.json", "cuda")[0] is Numerics.BF16_1


def test_a_size_that_int8_cannot_take_is_named(llama: Tiny, tmp_path: Path) -> None:
    config = replace(read_config(llama.folder / "config.json"), feed_forward=111)
    files = tmp_path / "short"
    files.mkdir()
    spec = llama.spec()
    for path in spec.files:
        tensors = load_file(path)
        for name, tensor in tensors.items():
            if "gate_proj" in name or "up_proj" in name:
                tensors[name] = tensor[:111].contiguous()
            if "down_proj" in name:
                tensors[name] = tensor[:, :111].contiguous()
        save_file(tensors, files / path.name)
    load = partial(load_weights, config, tuple(files.iterdir()), spec.span, spec.roles)
    load(Numerics.BF16_1, CPU, lambda done, total: None)
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.down_proj has 111 inputs, and i8h64-1 takes multiples of 8"):
        load(Numerics.I8H64_1, CPU, lambda done, total: None)


def test_a_device_that_does_not_multiply_int8_is_refused(llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(torch, "_int_mm", fail)
    with pytest.raises(ModelError, match="cpu does not multiply int8, use another numerics class: no such kernel"):
        llama.shard(numerics=Numerics.I8H64_1)


TEXT = """The harbour had been quiet since the ferry stopped running, and the gulls had taken over the benches where
tourists used to wait. Every morning old Marten walked down with a thermos of coffee, two newspapers and a radio that
only received one station. He said the sea was easier to understand than the news, because it repeated itself more
honestly. When the engineers came to measure the pier for a new kind of turbine, he showed them where the current was
strongest, and asked in return only that they leave the northern steps alone, since his daughter had learned to swim
there in 1987 and might one day want to see them again."""


@pytest.mark.slow
def test_the_demo_model_in_int8_is_near_f32(demo_model: tuple[Store, StoredModel]) -> None:
    """The bounds of issue 3, item 5. Measured: KL .0056, top-1 agreement 97 %."""
    store, stored = demo_model
    ids = Texts(store.read(stored.id, TOKENIZER), stored.manifest).encode(TEXT)
    exact, found = (demo_logits(store, stored, ids, numerics) for numerics in (Numerics.F32_1, Numerics.I8H64_1))
    divergence = (exact.exp() * (exact - found)).sum(1).mean()
    agreement = (exact.argmax(1) == found.argmax(1)).float().mean()
    assert divergence < 0.012
    assert agreement > 0.94


def demo_logits(store: Store, stored: StoredModel, ids: tuple[int, ...], numerics: Numerics) -> torch.Tensor:
    """Logarithms of the probabilities after each id: (ids, vocabulary)."""
    path = Path(store.path(stored.id, CONFIG))
    config, dtype = read_config(path), DTYPES[numerics]
    whole, files = Span(0, config.layers), tuple(path.parent.glob("*.safetensors"))
    with torch.inference_mode():
        weights = load_weights(config, files, whole, Roles.HEAD | Roles.TAIL, numerics, CPU, lambda done, total: None)
        cache = Cache(config, config.layers, 16, CPU, dtype)
        part = Part(0, Table(tuple(range(16))), range(len(ids)), np.array(ids), asked=Asked.LOGITS)
        plan = plan_batch(config, Rope(config, CPU, dtype), cache.positions, [part])
        assert weights.embedding is not None and weights.norm is not None and weights.head is not None
        hidden = weights.embedding[torch.tensor(ids)].to(dtype)
        for number, layer in enumerate(weights.layers):
            hidden = run_layer(config, layer, number, hidden, plan, cache)
        return weights.head(norm(hidden, weights.norm, config.norm_eps)).float().log_softmax(1)
