"""protocols/vectors/numerics.json against the engine, and against the program that made it from the text."""

import json
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest

from p2pinfer.core.models.architecture import ARCHITECTURES, Shape
from p2pinfer.core.models.config_json import config_json, parse_config
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.engine.native.kernel import Capacity, Kernel, Matrix, Vector
from p2pinfer.engine.native.library import instruction_sets, open_library
from p2pinfer.engine.native.rotary import rotary_tables
from tests.vectors.make_numerics import FILE, make, render

VECTORS: Final[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
SIZES: Final = VECTORS["sizes"]
CONTEXT: Final = 131_072
SHAPE: Final = Shape(
    layers=1,
    hidden=SIZES["hidden"],
    intermediate=SIZES["feed_forward"],
    heads=SIZES["heads"],
    kv_heads=SIZES["kv_heads"],
    head_size=SIZES["head_size"],
    vocabulary=SIZES["vocabulary"],
    context=CONTEXT,
)
CONFIG: Final = ModelConfig(
    ARCHITECTURES["llama"],
    SHAPE,
    norm_eps=SIZES["norm_eps"],
    rope_theta=SIZES["rope_theta"],
    rope_scaling=None,
    window=None,
    tied=False,
    biases=False,
)
MATRICES: Final = {"o": Matrix.OUTPUT, "gate": Matrix.GATE, "up": Matrix.UP, "down": Matrix.DOWN, "head": Matrix.HEAD}
NORMS: Final = {"attention_norm": Vector.ATTENTION_NORM, "mlp_norm": Vector.MLP_NORM, "norm": Vector.FINAL_NORM}


def tensor(name: str) -> np.ndarray:
    stored = VECTORS["tensors"][name]
    return np.frombuffer(bytes.fromhex(stored["bf16"]), "<u2").reshape(stored["shape"])


KV_BYTES: Final = {"i8g32-1": 2, "i8g32k8-1": 1}


def kernel(instructions: str, kv_bytes: int, window: int | None = None) -> Kernel:
    made = Kernel(
        *(open_library(), replace(CONFIG, window=window), Capacity(1, 2, 32, kv_bytes)),
        tail=True,
        threads=2,
        instructions=instructions,
    )
    first = 0
    for name in "qkv":
        assert made.set_matrix(0, Matrix.QKV, first, tensor(name))
        first += len(tensor(name))
    for name, matrix in MATRICES.items():
        assert made.set_matrix(0, matrix, 0, tensor(name))
    for name, vector in NORMS.items():
        assert made.set_vector(0, vector, 0, (tensor(name).astype(np.uint32) << 16).view(np.float32))
    return made


@pytest.mark.slow
def test_the_text_gives_the_vectors() -> None:
    assert render(make()) == FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("instructions", instruction_sets(open_library()))
@pytest.mark.parametrize("name", VECTORS["classes"])
@pytest.mark.parametrize("window", [None, VECTORS["window"]["sliding_window"]])
def test_the_engine_gives_the_vectors(instructions: str, name: str, window: int | None) -> None:
    rows = np.frombuffer(bytes.fromhex("".join(VECTORS["rows"])), "<f4").reshape(-1, SHAPE.hidden).copy()
    made = kernel(instructions, KV_BYTES[name], window)
    expected = (VECTORS if window is None else VECTORS["window"])["classes"][name]
    session = made.open_session(0, (0, 1))
    assert not any(made.step(0, 1, rows, range(len(rows)), [session] * len(rows)))
    assert [row.tobytes().hex() for row in rows] == expected["after"]
    logits, _ = made.logits(rows[-1:].copy())
    assert logits[0].tobytes().hex() == expected["logits"]


@pytest.mark.parametrize("instructions", instruction_sets(open_library()))
@pytest.mark.parametrize("case", VECTORS["tiny"], ids=lambda case: case["name"])
def test_the_engine_takes_the_same_magnitudes_for_zero(instructions: str, case: dict[str, Any]) -> None:
    row = np.frombuffer(bytes.fromhex(case["row"]), "<f4").reshape(1, -1).copy()
    logits, _ = kernel(instructions, KV_BYTES["i8g32-1"]).logits(row)
    assert logits[0].tobytes().hex() == case["logits"]


@pytest.mark.parametrize("instructions", instruction_sets(open_library()))
@pytest.mark.parametrize("name", VECTORS["classes"])
@pytest.mark.parametrize("case", VECTORS["failing"], ids=lambda case: case["name"])
def test_a_step_fails_as_the_vectors_say(instructions: str, name: str, case: dict[str, Any]) -> None:
    rows = np.frombuffer(bytes.fromhex("".join(case["rows"])), "<f4").reshape(-1, SHAPE.hidden).copy()
    made = kernel(instructions, KV_BYTES[name])
    session = made.open_session(0, (0, 1))
    assert any(made.step(0, 1, rows, range(len(rows)), [session] * len(rows)))


def test_angles_are_those_of_the_vectors() -> None:
    cosines, sines = rotary_tables(CONFIG, CONTEXT)
    for pair, position, expected in VECTORS["angles"]:
        assert np.array([cosines[position, pair], sines[position, pair]]).tobytes().hex() == expected


@pytest.mark.parametrize("case", VECTORS["stretched"], ids=lambda case: case["rope_scaling"]["rope_type"])
def test_stretched_angles_are_those_of_the_vectors(case: dict[str, Any]) -> None:
    plain = json.loads(config_json(CONFIG, (), ())) | {"rope_scaling": case["rope_scaling"]}
    cosines, sines = rotary_tables(parse_config(plain), CONTEXT)
    for pair, position, expected in case["angles"]:
        assert np.array([cosines[position, pair], sines[position, pair]]).tobytes().hex() == expected


def test_angles_are_right() -> None:
    """Against the machine's own sine and cosine in binary64."""
    positions = np.arange(0, CONTEXT, 977)
    cosines, sines = rotary_tables(CONFIG, CONTEXT)
    angles = positions[:, None] * CONFIG.rope_theta ** (-2.0 * np.arange(SHAPE.head_size // 2) / SHAPE.head_size)
    np.testing.assert_allclose(cosines[positions], np.cos(angles), atol=1e-7)
    np.testing.assert_allclose(sines[positions], np.sin(angles), atol=1e-7)
