"""From the store's tensors to the kernel's int8 matrices, a few rows at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Roles, Span
from p2pinfer.engine.config import ModelConfig
from p2pinfer.engine.loading import Progress
from p2pinfer.engine.names import EMBEDDING, HEAD, NORM
from p2pinfer.engine.native.files import TensorFiles, widened
from p2pinfer.engine.native.kernel import Kernel, Matrix, Vector

ROWS: Final = 4096  # quantised at once, so that few pages of a file are held


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a tensor goes: to outputs from `first` on of a matrix or a vector of a layer."""

    name: str
    to: Matrix | Vector
    first: int
    shape: tuple[int, ...]


def fill(kernel: Kernel, config: ModelConfig, files: TensorFiles, span: Span, roles: Roles, progress: Progress) -> None:
    """Quantise a span's weights.

    Raises ModelError for a tensor that is missing, has another shape, or holds a value that is not finite.
    """
    for layer in range(len(span)):
        for place in _places(config, f"model.layers.{span.first + layer}."):
            _put(kernel, files, layer, place)
        progress((layer + 1) * files.bytes // (len(span) + 1), files.bytes)
    if Roles.TAIL in roles:
        head = EMBEDDING if config.tied else HEAD
        _put(kernel, files, 0, Destination(head, Matrix.HEAD, 0, (config.vocabulary, config.hidden)))
        _put(kernel, files, 0, Destination(NORM, Vector.FINAL_NORM, 0, (config.hidden,)))
    progress(files.bytes, files.bytes)


def _put(kernel: Kernel, files: TensorFiles, layer: int, place: Destination) -> None:
    stored = files.tensor(place.name, *place.shape)
    if isinstance(place.to, Vector):
        finite = kernel.set_vector(layer, place.to, place.first, widened(stored))
    else:
        starts = range(0, len(stored), ROWS)
        matrix = place.to
        finite = all(kernel.set_matrix(layer, matrix, place.first + at, stored[at : at + ROWS]) for at in starts)
    if not finite:
        raise ModelError(f"the tensor {place.name} holds a value that is not finite")


def _places(config: ModelConfig, prefix: str) -> Iterator[Destination]:
    """The tensors of one layer."""
    attention, mlp, hidden = prefix + "self_attn.", prefix + "mlp.", config.hidden
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    yield Destination(prefix + "input_layernorm.weight", Vector.ATTENTION_NORM, 0, (hidden,))
    yield Destination(prefix + "post_attention_layernorm.weight", Vector.MLP_NORM, 0, (hidden,))
    for name, first, size in (("q", 0, queries), ("k", queries, keys), ("v", queries + keys, keys)):
        yield Destination(f"{attention}{name}_proj.weight", Matrix.QKV, first, (size, hidden))
        if config.qkv_bias:
            yield Destination(f"{attention}{name}_proj.bias", Vector.QKV_BIAS, first, (size,))
    yield Destination(attention + "o_proj.weight", Matrix.OUTPUT, 0, (hidden, queries))
    if config.output_bias:
        yield Destination(attention + "o_proj.bias", Vector.OUTPUT_BIAS, 0, (hidden,))
    if config.qk_norms:
        yield Destination(attention + "q_norm.weight", Vector.QUERY_NORM, 0, (config.head_size,))
        yield Destination(attention + "k_norm.weight", Vector.KEY_NORM, 0, (config.head_size,))
    yield Destination(mlp + "gate_proj.weight", Matrix.GATE, 0, (config.feed_forward, hidden))
    yield Destination(mlp + "up_proj.weight", Matrix.UP, 0, (config.feed_forward, hidden))
    yield Destination(mlp + "down_proj.weight", Matrix.DOWN, 0, (hidden, config.feed_forward))
