"""Tiny random models of all four families: as transformers computes them, and as files of the store."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from p2pinfer.core.values.units import Numerics, Span, roles_of
from p2pinfer.engine.messages import ShardSpec
from p2pinfer.engine.shard import Shard, load_shard

SIZES: dict[str, Any] = {
    "hidden_size": 80,  # no multiple of 64: the last group of q8o4 is short
    "intermediate_size": 112,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 211,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,  # so that attention is not flat and logits differ
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
# What the native kernel takes: groups of 32, heads of 16 x n
EVEN_SIZES = SIZES | {"hidden_size": 96, "intermediate_size": 160, "head_dim": 32}

Family = tuple[type[PreTrainedModel], PreTrainedConfig]


def families(sizes: dict[str, Any]) -> dict[str, Family]:
    """A model of each family, of these sizes."""
    return {
        "llama": (LlamaForCausalLM, LlamaConfig(**sizes, tie_word_embeddings=True)),
        "llama with stretched rope and biases": (
            LlamaForCausalLM,
            LlamaConfig(**sizes, rope_parameters=LLAMA3, attention_bias=True),
        ),
        "mistral": (MistralForCausalLM, MistralConfig(**sizes, sliding_window=None)),
        "mistral with a window": (MistralForCausalLM, MistralConfig(**sizes, sliding_window=7)),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config(**sizes)),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config(**{"head_dim": 32} | sizes)),
    }


FAMILIES = families(SIZES)


@dataclass(frozen=True)
class Tiny:
    """A tiny model: transformers' and the store's."""

    folder: Path
    model: PreTrainedModel

    def spec(self, span: Span | None = None, numerics: Numerics = Numerics.F32_1, pages: int = 64) -> ShardSpec:
        layers = self.model.config.num_hidden_layers
        span = span or Span(0, layers)
        roles = roles_of(span, layers)
        return ShardSpec(
            self.folder / "config.json", tuple(self.folder.glob("*.safetensors")), span, roles, numerics, pages
        )

    def shard(self, span: Span | None = None, numerics: Numerics = Numerics.F32_1, pages: int = 64) -> Shard:
        return load_shard(self.spec(span, numerics, pages), lambda done, total: None)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    """Loading a shard turns gradients off in its process; tests turn them on again."""
    yield
    torch.set_grad_enabled(True)


@pytest.fixture(scope="session", params=FAMILIES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Every family in turn."""
    return make_tiny(FAMILIES[request.param], tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session", params=families(EVEN_SIZES))
def even(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Every family in turn, in sizes that the native kernel takes."""
    return make_tiny(families(EVEN_SIZES)[request.param], tmp_path_factory.mktemp("even"))


@pytest.fixture(scope="session")
def even_llama(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(families(EVEN_SIZES)["llama"], tmp_path_factory.mktemp("even-llama"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(FAMILIES["llama"], tmp_path_factory.mktemp("llama"))


def make_tiny(family: Family, folder: Path) -> Tiny:
    shape, config = family
    torch.manual_seed(1)
    model = shape(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
        parameter.data = parameter.data.to(torch.bfloat16).float()  # what the store can hold
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    for file in sorted({_file(name) for name in tensors}):
        save_file({name: tensor for name, tensor in tensors.items() if _file(name) == file}, folder / file)
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": [shape.__name__]}, default=str))
    return Tiny(folder, model)


def _file(name: str) -> str:
    if ".layers." in name:
        return f"layer-{int(name.split('.')[2]):03d}.safetensors"
    return "embedding.safetensors" if "embed" in name else "head.safetensors"
