"""What the engine says of configs and files it cannot use."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from p2pinfer.core.models.config_json import parse_config
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Span
from p2pinfer.engine.choice import read_config
from p2pinfer.engine.eager.weights import are_finite
from p2pinfer.engine.shard import load_shard

from .conftest import Tiny

PLAIN: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": 100,
}


def test_what_a_config_leaves_out_has_the_usual_value() -> None:
    config = parse_config(PLAIN)
    assert (config.shape.head_size, config.window, config.rope_scaling) == (16, None, None)
    assert not (config.tied or config.biases)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel'. is not supported; these are: LlamaForCausalLM, "),
        ({"hidden_size": 1 << 17}, "a hidden size of 131072: rows have 4 to 65536 values"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn' is not supported"),
        ({"rope_theta": 0}, "rope_theta is 0.0; it must be from 1.0"),
        ({"attention_multiplier": 0.5}, "'attention_multiplier' is 0.5, which nobody here knows"),
    ],
)
def test_a_model_that_cannot_be_computed_is_refused(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PLAIN | change))
    with pytest.raises(ModelError, match=why):
        read_config(path)


@pytest.mark.parametrize("field", ["hidden_size", "rms_norm_eps"])
def test_a_config_without_a_field_names_it(tmp_path: Path, field: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({name: value for name, value in PLAIN.items() if name != field}))
    with pytest.raises(ModelError, match=f"does not say '{field}'"):
        read_config(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"x"'])
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_config(path)


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: No such file"):
        read_config(tmp_path / "config.json")


@pytest.fixture
def copy(llama: Tiny, tmp_path: Path) -> Tiny:
    """A tiny model whose files may be spoilt."""
    shutil.copytree(llama.folder, tmp_path / "copy")
    return Tiny(tmp_path / "copy", llama.model)


def test_a_truncated_file_is_damaged(copy: Tiny) -> None:
    path = copy.folder / "layer-001.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"layer-001\.safetensors is damaged"):
        copy.shard()


def test_a_file_of_something_else_is_damaged(copy: Tiny) -> None:
    (copy.folder / "layer-001.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(ModelError, match=r"layer-001\.safetensors is damaged"):
        copy.shard()


def test_a_tensor_that_no_file_holds_is_named(copy: Tiny) -> None:
    spec = copy.spec()
    files = tuple(path for path in spec.files if path.name != "layer-002.safetensors")
    with pytest.raises(ModelError, match=r"no tensor model\.layers\.2\."):
        load_shard(replace(spec, files=files), lambda done, total: None)


def test_a_tensor_of_another_shape_is_named(copy: Tiny) -> None:
    path = copy.folder / "layer-001.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.down_proj.weight"] = torch.zeros(80, 111)
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"down_proj\.weight has the shape \(80, 111\), the config says \(80, 112\)"):
        copy.shard()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("layer-001.safetensors", "model.layers.1.self_attn.k_proj.weight"),
        ("layer-003.safetensors", "model.layers.3.input_layernorm.weight"),
        ("embedding.safetensors", "model.embed_tokens.weight"),
        ("head.safetensors", "model.norm.weight"),
    ],
)
def test_a_tensor_with_a_value_that_is_not_finite_is_named(copy: Tiny, file: str, name: str, value: float) -> None:
    path = copy.folder / file
    tensors = load_file(path)
    tensors[name].view(-1)[7] = value
    save_file(tensors, path)
    with pytest.raises(ModelError, match=f"the tensor {re.escape(name)} holds a value that is not finite"):
        copy.shard()


def test_large_values_whose_sum_overflows_are_finite() -> None:
    assert are_finite(torch.full((9,), torch.finfo(torch.float32).max))


def test_layers_the_model_does_not_have_are_refused(llama: Tiny) -> None:
    with pytest.raises(ModelError, match="layers 2:5 of a model that has 4"):
        llama.shard(Span(2, 5))


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "meta:x"])
def test_a_device_that_is_not_there_is_refused(llama: Tiny, device: str) -> None:
    with pytest.raises(ModelError, match=f"the device {device} cannot be used"):
        load_shard(replace(llama.spec(), device=device), lambda done, total: None)


def test_a_middle_stage_reads_its_own_layers_only(llama: Tiny) -> None:
    spec = llama.spec(Span(1, 3))
    files = tuple(path for path in spec.files if path.name in ("layer-001.safetensors", "layer-002.safetensors"))
    whole = llama.shard().facts.weight_bytes
    assert load_shard(replace(spec, files=files), lambda done, total: None).facts.weight_bytes < whole / 2
