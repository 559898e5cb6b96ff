"""From the store's files to a span's weights, laid out for computing: what reads the same rows is one matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

import torch
from torch import Tensor

from p2pinfer.core.models.architecture import Slot, Weight
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Numerics, Roles
from p2pinfer.engine.backend import TellProgress
from p2pinfer.engine.eager.linear import Linear, best_kernel
from p2pinfer.engine.files import Files
from p2pinfer.engine.messages import ShardSpec

DTYPES: Final = {  # of activations, norms, attention and KV cache
    Numerics.F32_1: torch.float32,
    Numerics.BF16_1: torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer's weights."""

    attention_norm: Tensor
    qkv: Linear  # queries, keys, values
    query_norm: Tensor | None
    key_norm: Tensor | None
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a span; `embedding` is there for a head, `norm` and `head` for a tail."""

    layers: tuple[Layer, ...]
    embedding: Tensor | None  # as stored; on CPU mapped from its file: the rows of a prompt are read
    norm: Tensor | None
    head: Linear | None
    bytes: int
    kernel: str


def load_weights(spec: ShardSpec, config: ModelConfig, device: torch.device, progress: TellProgress) -> Weights:
    """Read a span's weights.

    Raises ModelError for a file that is missing or damaged, and a tensor that is missing, has another shape, or holds a
    value that is not finite.
    """
    span, roles = spec.span, spec.roles
    if span.last > config.shape.layers:
        raise ModelError(f"layers {span} of a model that has {config.shape.layers}")
    kernel = best_kernel(device, spec.numerics)
    stored = Files(spec.files)
    load = _Loader(config, stored, device, DTYPES[spec.numerics], kernel)
    layers = []
    for number in range(span.first, span.last):
        layers.append(load.layer(number))
        progress((number + 1 - span.first) * stored.bytes // (len(span) + 1), stored.bytes)
    embedding = load.embedding() if roles & Roles.HEAD else None
    norm = load.tensor(config.final_norm) if roles & Roles.TAIL else None
    head = load.head() if roles & Roles.TAIL else None
    progress(stored.bytes, stored.bytes)
    return Weights(tuple(layers), embedding, norm, head, load.bytes, kernel)


class _Loader:
    """Takes tensors out of files, checks shapes and values, and brings them where they are computed with."""

    def __init__(
        self, config: ModelConfig, stored: Files, device: torch.device, dtype: torch.dtype, kernel: str
    ) -> None:
        self.bytes = 0
        self._config = config
        self._stored = stored
        self._device = device
        self._dtype = dtype
        self._kernel = kernel

    def layer(self, number: int) -> Layer:
        weights = self._config.layer_weights(number)
        by_slot = {slot: [weight for weight in weights if weight.slot is slot] for slot in Slot}

        def vector(slot: Slot) -> Tensor | None:
            return self.tensor(*by_slot[slot]) if by_slot[slot] else None

        attention_norm, mlp_norm = vector(Slot.ATTENTION_NORM), vector(Slot.MLP_NORM)
        assert attention_norm is not None and mlp_norm is not None
        return Layer(
            attention_norm=attention_norm,
            qkv=self._linear(by_slot[Slot.QKV], by_slot[Slot.QKV_BIAS]),
            query_norm=vector(Slot.QUERY_NORM),
            key_norm=vector(Slot.KEY_NORM),
            output=self._linear(by_slot[Slot.OUTPUT], by_slot[Slot.OUTPUT_BIAS]),
            mlp_norm=mlp_norm,
            gate_up=self._linear([*by_slot[Slot.GATE], *by_slot[Slot.UP]]),
            down=self._linear(by_slot[Slot.DOWN]),
        )

    def embedding(self) -> Tensor:
        stored = self._checked(self._config.embedding)
        return stored if self._device.type == "cpu" else self._moved(stored)

    def head(self) -> Linear:
        return self._linear([self._config.head])

    def tensor(self, weight: Weight) -> Tensor:
        return self._moved(self._checked(weight))

    def _linear(self, weights: Sequence[Weight], biases: Sequence[Weight] = ()) -> Linear:
        """Projections that read the same rows, as one."""
        matrix = torch.cat([self._checked(weight) for weight in weights])
        bias = torch.cat([self._checked(one) for one in biases]) if biases else None
        moved = None if bias is None else bias.to(self._device, self._dtype)
        linear = Linear(matrix.to(self._device, self._dtype), moved, self._kernel)
        self.bytes += linear.bytes
        return linear

    def _moved(self, stored: Tensor) -> Tensor:
        moved = stored.to(self._device, self._dtype, copy=True)  # a copy lets go of the file
        self.bytes += moved.nbytes
        return moved

    def _checked(self, weight: Weight) -> Tensor:
        """The tensor, mapped from its file."""
        stored = torch.from_numpy(self._stored.tensor(weight.name, *weight.shape)).view(torch.bfloat16)
        if not are_finite(stored):
            raise ModelError(f"the tensor {weight.name} holds a value that is not finite")
        return stored


def are_finite(values: Tensor) -> bool:
    """Return True if all values are finite: one infinite value or NaN reaches others through masks and sums.

    One sum says so. It may also overflow where no value does, and then each value is looked at.
    """
    return isfinite(values.sum(dtype=torch.float32).item()) or bool(torch.isfinite(values).all())
