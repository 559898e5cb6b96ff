"""From the store's tensors to the kernel's int8 matrices, a few rows at a time."""

from collections.abc import Mapping
from typing import Final

from p2pinfer.core.models.architecture import Slot, Weight
from p2pinfer.core.models.bf16 import widened
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Roles, Span
from p2pinfer.engine.backend import TellProgress
from p2pinfer.engine.files import Files
from p2pinfer.engine.native.kernel import Kernel, Matrix, Vector

ROWS: Final = 4096  # quantised at once, so that few pages of a file are held


PLACES: Final[Mapping[Slot, Matrix | Vector]] = {
    Slot.ATTENTION_NORM: Vector.ATTENTION_NORM,
    Slot.QKV: Matrix.QKV,
    Slot.QKV_BIAS: Vector.QKV_BIAS,
    Slot.QUERY_NORM: Vector.QUERY_NORM,
    Slot.KEY_NORM: Vector.KEY_NORM,
    Slot.OUTPUT: Matrix.OUTPUT,
    Slot.OUTPUT_BIAS: Vector.OUTPUT_BIAS,
    Slot.MLP_NORM: Vector.MLP_NORM,
    Slot.GATE: Matrix.GATE,
    Slot.UP: Matrix.UP,
    Slot.DOWN: Matrix.DOWN,
    Slot.FINAL_NORM: Vector.FINAL_NORM,
    Slot.EMBEDDING: Matrix.HEAD,  # a tied one
    Slot.HEAD: Matrix.HEAD,
}


def fill(kernel: Kernel, config: ModelConfig, files: Files, span: Span, roles: Roles, progress: TellProgress) -> None:
    """Quantise a span's weights.

    Raises ModelError for a tensor that is missing, has another shape, or holds a value that is not finite.
    """
    for layer in range(len(span)):
        filled = dict.fromkeys(Slot, 0)  # outputs
        for weight in config.layer_weights(span.first + layer):
            _put(kernel, files, layer, weight, filled[weight.slot])
            filled[weight.slot] += weight.shape[0]
        progress((layer + 1) * files.bytes // (len(span) + 1), files.bytes)
    if Roles.TAIL in roles:
        for weight in (config.head, config.final_norm):
            _put(kernel, files, 0, weight, 0)
    progress(files.bytes, files.bytes)


def _put(kernel: Kernel, files: Files, layer: int, weight: Weight, first: int) -> None:
    """Set outputs from `first` on of the weight's matrix or vector."""
    stored, place = files.tensor(weight.name, *weight.shape), PLACES[weight.slot]
    if isinstance(place, Vector):
        finite = kernel.set_vector(layer, place, first, widened(stored))
    else:
        starts = range(0, len(stored), ROWS)
        finite = all(kernel.set_matrix(layer, place, first + at, stored[at : at + ROWS]) for at in starts)
    if not finite:
        raise ModelError(f"the tensor {weight.name} holds a value that is not finite")
