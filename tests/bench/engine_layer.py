"""A layer of an 8B model's shape, with random weights: where arithmetic and memory are all that counts.

One token against the time that reading the layer takes; 64 tokens against torch's int8 linear layers (oneDNN), which do
less: they have neither attention nor norms nor rotary positions, and one scale for each token instead of one for each
32 values.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Final

import numpy as np
import torch
from torch import Tensor

from p2pinfer.core.models.architecture import ARCHITECTURES, Shape
from p2pinfer.core.models.bf16 import Bits
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.engine.native.kernel import Capacity, Kernel, Matrix, Vector
from p2pinfer.engine.native.library import instruction_sets, open_library, read_gb_s
from tests.bench.figures import Bound, Figure

ABOUT = "a layer of an 8B model's shape, random weights, in this process"
SHAPE: Final = Shape(
    layers=1,
    hidden=4096,
    intermediate=14_336,
    heads=32,
    kv_heads=8,
    head_size=128,
    vocabulary=4096,
    context=8192,
)
CONFIG: Final = ModelConfig(
    ARCHITECTURES["llama"],
    SHAPE,
    norm_eps=1e-5,
    rope_theta=500_000.0,
    rope_scaling=None,
    window=None,
    tied=False,
    biases=False,
)
QUERIES: Final = SHAPE.heads * SHAPE.head_size
KEYS: Final = SHAPE.kv_heads * SHAPE.head_size
SHAPES: Final = {  # outputs, inputs
    Matrix.QKV: (QUERIES + 2 * KEYS, SHAPE.hidden),
    Matrix.OUTPUT: (SHAPE.hidden, QUERIES),
    Matrix.GATE: (SHAPE.intermediate, SHAPE.hidden),
    Matrix.UP: (SHAPE.intermediate, SHAPE.hidden),
    Matrix.DOWN: (SHAPE.hidden, SHAPE.intermediate),
}
POSITION: Final = 255  # of the one token: it looks at 256
TOGETHER: Final = 64
THREADS: Final = 2
ROUNDS: Final = 9
STEPS: Final = 5  # in a round, of which the first is not counted
SETTLE_S: Final = 0.05  # between turns, for threads to go to sleep
FULL: Final = 127

SHIFTS: Final = (0, 128)

Step = Callable[[], object]
Linear = Callable[[Tensor], Tensor]


def run() -> Sequence[Figure]:
    torch.set_grad_enabled(False)
    torch.set_num_threads(THREADS)
    random = np.random.default_rng(1)
    weights = {which: _random(random, *shape) for which, shape in SHAPES.items()}
    library = open_library()
    kernel = _kernel(weights)
    size = kernel.weight_bytes + (POSITION + 1) * 2 * KEYS * 2
    one, many, theirs = _one_token(kernel, random), _many_tokens(kernel, random), _torch_layer(weights, random)
    one_s: list[float] = []
    many_s: list[float] = []
    theirs_s: list[float] = []
    floor_s: list[float] = []
    for _ in range(ROUNDS):
        for step, times in ((one, one_s), (many, many_s), (theirs, theirs_s)):
            times += _timed(step)
        floor_s.append(size / read_gb_s(library, size, THREADS) / 1e9)
    where = f"{kernel.instructions}, {THREADS} threads, {ROUNDS} rounds in turn"
    one_ms, floor_ms, many_ms, theirs_ms = (1000 * median(times) for times in (one_s, floor_s, many_s, theirs_s))
    return [
        Figure(
            "8B layer, one token, of the time to read it",
            one_ms / floor_ms,
            Bound.BELOW,
            1.15,
            "x",
            f"{one_ms:.2f} of {floor_ms:.2f} ms for {size / 1e6:.0f} MB; context {POSITION + 1}, {where}",
        ),
        Figure(
            f"8B layer, {TOGETHER} tokens, over torch's qlinear",
            theirs_ms / many_ms,
            Bound.AT_LEAST,
            1.0,
            "x",
            f"{many_ms:.1f} ms with attention, {theirs_ms:.1f} ms for the linear layers alone; {where}",
        ),
    ]


def _random(random: np.random.Generator, outputs: int, inputs: int) -> Bits:
    """Normal values of the size that trained weights have, as bfloat16."""
    values = random.standard_normal((outputs, inputs), np.float32) * np.float32(0.02)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _kernel(weights: dict[Matrix, Bits]) -> Kernel:
    library = open_library()
    kernel = Kernel(
        library,
        CONFIG,
        Capacity(1, 2 * pages_for(POSITION + 1), 2 * (POSITION + 1)),
        tail=False,
        threads=THREADS,
        instructions=instruction_sets(library)[0],
    )
    for which, rows in weights.items():
        assert kernel.set_matrix(0, which, 0, rows)
    for vector in (Vector.ATTENTION_NORM, Vector.MLP_NORM):
        assert kernel.set_vector(0, vector, 0, np.ones(SHAPE.hidden, np.float32))
    return kernel


def _one_token(kernel: Kernel, random: np.random.Generator) -> Step:
    """The last position of a session, again and again."""
    table = kernel.open_session(0, range(pages_for(POSITION + 1)))
    prompt = random.standard_normal((POSITION, SHAPE.hidden), np.float32)
    kernel.step(0, 1, prompt, range(POSITION), [table] * POSITION)
    row = random.standard_normal((1, SHAPE.hidden), np.float32)
    return lambda: kernel.step(0, 1, row.copy(), [POSITION], [table])


def _many_tokens(kernel: Kernel, random: np.random.Generator) -> Step:
    """The first positions of another session, in one step."""
    first = pages_for(POSITION + 1)
    table = kernel.open_session(0, range(first, first + pages_for(TOGETHER)))
    rows = random.standard_normal((TOGETHER, SHAPE.hidden), np.float32)
    return lambda: kernel.step(0, 1, rows.copy(), range(TOGETHER), [table] * TOGETHER)


def _torch_layer(weights: dict[Matrix, Bits], random: np.random.Generator) -> Step:
    """The linear layers and the gate between them; gate and up are one, as they read the same rows."""
    shift = _faster_shift(random)
    qkv, output, down = (_qlinear(weights[which], shift) for which in (Matrix.QKV, Matrix.OUTPUT, Matrix.DOWN))
    gate_up = _qlinear(np.concatenate([weights[Matrix.GATE], weights[Matrix.UP]]), shift)
    given = torch.from_numpy(random.standard_normal((TOGETHER, SHAPE.hidden), np.float32))

    def step() -> Tensor:
        rows = given + output(qkv(given)[:, :QUERIES])  # (tokens, hidden)
        joined = gate_up(rows)  # (tokens, 2 x feed-forward)
        gate, up = joined[:, : SHAPE.intermediate], joined[:, SHAPE.intermediate :]
        return rows + down(torch.nn.functional.silu(gate) * up)

    return step


def _qlinear(bits: Bits, shift: int) -> Linear:
    """A linear layer in int8 as oneDNN computes it: a scale for each output and, taken anew, for each token.

    shift: 128 where values are handed over as uint8 with that zero point, 0 for int8
    """
    weight = torch.from_numpy((bits.astype(np.uint32) << 16).view(np.float32))
    scales = weight.abs().amax(1) / FULL
    packed = torch.ops.onednn.qlinear_prepack((weight / scales[:, None]).round().to(torch.int8), None)
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    kind = torch.uint8 if shift else torch.int8

    def linear(rows: Tensor) -> Tensor:
        steps = rows.abs().amax(1, keepdim=True) / FULL
        values = (rows / steps).round_().add_(shift).to(kind)
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(values, 1.0, shift, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")
        )
        return result.mul_(steps)

    return linear


def _faster_shift(random: np.random.Generator) -> int:
    """How oneDNN takes activations faster here: without AMX, int8 goes to its reference, a hundred times slower."""
    bits, rows = _random(random, 256, 256), torch.ones(16, 256)
    steps = {shift: partial(_qlinear(bits, shift), rows) for shift in SHIFTS}
    return min(SHIFTS, key=lambda shift: median(_timed(steps[shift])))


def _timed(step: Step) -> list[float]:
    """Seconds of some steps."""
    taken_s = []
    for _ in range(STEPS):
        began = time.perf_counter()
        step()
        taken_s.append(time.perf_counter() - began)
    time.sleep(SETTLE_S)
    return taken_s[1:]
