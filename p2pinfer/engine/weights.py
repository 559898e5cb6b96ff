"""From the store's safetensors files to a span's weights, laid out for computing.

Tensors have their Hugging Face names. Projections that read the same rows are joined into one matrix.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Numerics, Roles, Span
from p2pinfer.engine.config import ModelConfig
from p2pinfer.engine.finite import are_finite
from p2pinfer.engine.int8 import SIZES, Int8Linear, check_products
from p2pinfer.engine.linear import INT_MM, FloatLinear, Linear, best_kernel
from p2pinfer.engine.loading import Progress
from p2pinfer.engine.names import EMBEDDING, HEAD, NORM

DTYPES: Final = {  # of activations, norms, attention and KV cache
    Numerics.F32_1: torch.float32,
    Numerics.BF16_1: torch.bfloat16,
    Numerics.I8H64_1: torch.bfloat16,
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
    """What a span computes with; `embedding` is there for a head, `norm` and `head` for a tail."""

    layers: tuple[Layer, ...]
    embedding: Tensor | None  # as stored; on CPU mapped from its file: the rows of a prompt are read
    norm: Tensor | None
    head: Linear | None
    bytes: int
    kernel: str


def load_weights(
    config: ModelConfig,
    files: Iterable[Path],
    span: Span,
    roles: Roles,
    numerics: Numerics,
    device: torch.device,
    progress: Progress,
) -> Weights:
    """Read a span's weights.

    Raises ModelError for a file that is missing or damaged, and a tensor that is missing, has another shape, holds a
    value that is not finite, or is of a size that the numerics class cannot compute with; and for a device that cannot.
    """
    if span.last > config.layers:
        raise ModelError(f"layers {span} of a model that has {config.layers}")
    kernel = best_kernel(device, numerics)
    if kernel == INT_MM:
        check_products(device)
    with ExitStack() as stack:
        stored = _Files(files, stack)
        load = _Loader(config, stored, device, DTYPES[numerics], kernel)
        layers = []
        for number in range(span.first, span.last):
            layers.append(load.layer(number))
            progress((number + 1 - span.first) * stored.bytes // (len(span) + 1), stored.bytes)
        embedding = load.embedding() if roles & Roles.HEAD else None
        norm = load.tensor(NORM, config.hidden) if roles & Roles.TAIL else None
        head = load.head() if roles & Roles.TAIL else None
        progress(stored.bytes, stored.bytes)
    return Weights(tuple(layers), embedding, norm, head, load.bytes, kernel)


class _Files:
    """The tensors of several safetensors files, by name."""

    def __init__(self, paths: Iterable[Path], stack: ExitStack) -> None:
        """The files stay open as long as `stack`."""
        self.bytes = 0
        self._by_name: dict[str, safe_open] = {}
        for path in paths:
            try:
                self.bytes += path.stat().st_size
                file = stack.enter_context(safe_open(path, framework="pt"))
            except OSError as error:
                raise ModelError(f"{path}: {error.strerror or error}") from None
            except SafetensorError as error:
                raise ModelError(f"{path} is damaged: {error}") from None
            self._by_name |= dict.fromkeys(file.keys(), file)

    def tensor(self, name: str) -> Tensor:
        """The tensor, mapped from its file."""
        if name not in self._by_name:
            raise ModelError(f"the files hold no tensor {name}")
        stored: Tensor = self._by_name[name].get_tensor(name)  # type: ignore[no-untyped-call]
        return stored


class _Loader:
    """Takes tensors out of files, checks shapes and values, and brings them where they are computed with."""

    def __init__(
        self, config: ModelConfig, stored: _Files, device: torch.device, dtype: torch.dtype, kernel: str
    ) -> None:
        self.bytes = 0
        self._config = config
        self._stored = stored
        self._device = device
        self._dtype = dtype
        self._kernel = kernel

    def layer(self, number: int) -> Layer:
        config = self._config
        prefix = f"model.layers.{number}."
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
        projections = {attention + "q_proj": queries, attention + "k_proj": keys, attention + "v_proj": keys}
        return Layer(
            attention_norm=self.tensor(prefix + "input_layernorm.weight", config.hidden),
            qkv=self._linear(projections, config.hidden, config.qkv_bias),
            query_norm=self.tensor(attention + "q_norm.weight", config.head_size) if config.qk_norms else None,
            key_norm=self.tensor(attention + "k_norm.weight", config.head_size) if config.qk_norms else None,
            output=self._linear({attention + "o_proj": config.hidden}, queries, config.output_bias),
            mlp_norm=self.tensor(prefix + "post_attention_layernorm.weight", config.hidden),
            gate_up=self._linear(
                dict.fromkeys((mlp + "gate_proj", mlp + "up_proj"), config.feed_forward), config.hidden, False
            ),
            down=self._linear({mlp + "down_proj": config.hidden}, config.feed_forward, False),
        )

    def embedding(self) -> Tensor:
        stored = self._checked(EMBEDDING, self._config.vocabulary, self._config.hidden)
        return stored if self._device.type == "cpu" else self._moved(stored)

    def head(self) -> Linear:
        """The output head; a tied one is the embedding."""
        name = EMBEDDING if self._config.tied else HEAD
        return self._linear({name.removesuffix(".weight"): self._config.vocabulary}, self._config.hidden, False)

    def tensor(self, name: str, *shape: int) -> Tensor:
        return self._moved(self._checked(name, *shape))

    def _linear(self, outputs: Mapping[str, int], inputs: int, bias: bool) -> Linear:
        """Projections that read the same rows, as one: by name, the number of outputs of each."""
        weight = torch.cat([self._checked(f"{name}.weight", size, inputs) for name, size in outputs.items()])
        biases = [self._checked(f"{name}.bias", size) for name, size in outputs.items()] if bias else []
        linear = self._laid_out(weight, torch.cat(biases) if bias else None, next(iter(outputs)))
        self.bytes += linear.bytes
        return linear

    def _laid_out(self, weight: Tensor, bias: Tensor | None, name: str) -> Linear:
        """The layer for this kernel. name: of the first of its projections, for people"""
        if self._kernel != INT_MM:
            moved = None if bias is None else bias.to(self._device, self._dtype)
            return FloatLinear(weight.to(self._device, self._dtype), moved, self._kernel)
        if weight.shape[1] % SIZES:
            numbers = f"{weight.shape[1]} inputs, and {Numerics.I8H64_1.label} takes multiples of {SIZES}"
            raise ModelError(f"{name} has {numbers}; another numerics class has no such limit")
        return Int8Linear(weight, bias, self._device)

    def _moved(self, stored: Tensor) -> Tensor:
        moved = stored.to(self._device, self._dtype, copy=True)  # a copy lets go of the file
        self.bytes += moved.nbytes
        return moved

    def _checked(self, name: str, *shape: int) -> Tensor:
        stored = self._stored.tensor(name)
        if tuple(stored.shape) != shape:
            raise ModelError(f"the tensor {name} has the shape {tuple(stored.shape)}, the config says {shape}")
        if not are_finite(stored):
            raise ModelError(f"the tensor {name} holds a value that is not finite")
        return stored
