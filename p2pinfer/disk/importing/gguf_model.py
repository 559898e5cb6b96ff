"""A model in one GGUF file, as llama.cpp has it, in Hugging Face's names and order (manifest.md, 5.4)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import pi
from pathlib import Path
from typing import Final

import numpy as np

from p2pinfer.core.models.manifest import Shape
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief
from p2pinfer.disk.importing.building import ModelSource
from p2pinfer.disk.importing.config import Config
from p2pinfer.disk.importing.gguf_file import Gguf, open_gguf
from p2pinfer.disk.importing.gguf_tokenizer import tokenizer_json, turn_ends
from p2pinfer.disk.importing.layout import EMBED, NORM, OUTPUT
from p2pinfer.disk.importing.naming import model_name
from p2pinfer.disk.importing.tensors import Tensor

ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")  # llama.cpp calls Mistral llama, which it is
INTERLEAVED: Final = "llama"  # llama.cpp reorders its q and k for rotary positions; those of Qwen it leaves
ROPE_FACTORS: Final = "rope_freqs.weight"

# control tokens that end a turn, whatever key a converter gave them; converters often call another one eos
TURN_ENDS: Final = frozenset(
    ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|eot|>", "<end_of_turn>", "<|end_of_turn|>")
)
NO_ID: Final = (1 << 32) - 1  # how a converter writes that there is none; also -1

_NAMES: Final = {"token_embd.weight": EMBED, "output_norm.weight": NORM, "output.weight": OUTPUT}
_PARTS: Final = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER_TENSOR: Final = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


def read_gguf(path: Path, name: str = "") -> ModelSource:
    """The model in a GGUF file, its tensors not read yet.

    Raises:
        ModelError: it is no GGUF file, a part of one, or a model that is not supported.
    """
    file = open_gguf(path)
    try:
        config = _config(file)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    template = file.values.get("tokenizer.chat_template", "")
    licence = file.values.get("general.license", "")
    return ModelSource(
        name=model_name(name or path.stem),
        config=config,
        tokenizer=tokenizer_json(file),
        template=template if isinstance(template, str) else "",
        licence=licence[:96] if isinstance(licence, str) else "",
        tensors=_tensors(file, config),
    )


def _tensors(file: Gguf, config: Config) -> dict[str, Tensor]:
    tensors = {}
    for name, tensor in file.tensors.items():
        if name == ROPE_FACTORS:
            continue  # in the configuration's rope_scaling
        heads = {"attn_q": config.shape.heads, "attn_k": config.shape.kv_heads}
        match = _LAYER_TENSOR.fullmatch(name)
        if match is None:
            tensors[_NAMES.get(name, name)] = tensor
            continue
        layer, part, kind = match.groups()
        if file.values["general.architecture"] == INTERLEAVED and part in heads:
            tensor = replace(tensor, heads=heads[part])
        tensors[f"model.layers.{layer}.{_PARTS.get(part, part)}.{kind}"] = tensor
    return tensors


def _config(file: Gguf) -> Config:
    architecture = file.values.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{file.path}: architecture {brief(architecture)} is not supported; {', '.join(ARCHITECTURES)} are"
        )
    keys = _Keys(file, str(architecture))
    if keys.integer("expert_count", 0):
        raise ModelError(f"{file.path}: a mixture of experts is not supported")
    heads = keys.integer("attention.head_count")
    shape = Shape(
        layers=keys.integer("block_count"),
        hidden=keys.integer("embedding_length"),
        intermediate=keys.integer("feed_forward_length"),
        heads=heads,
        kv_heads=keys.integer("attention.head_count_kv", heads),
        head_size=keys.integer("attention.key_length", keys.integer("embedding_length") // max(1, heads)),
        vocabulary=_vocabulary(file),
        context=keys.integer("context_length"),
    )
    if keys.integer("rope.dimension_count", shape.head_size) != shape.head_size:
        raise ModelError(f"{file.path}: rotary positions in a part of each head are not supported")
    return Config(
        architecture=str(architecture),
        shape=shape,
        tied="output.weight" not in file.tensors,
        rms_norm_eps=keys.number("attention.layer_norm_rms_epsilon"),
        rope_theta=keys.number("rope.freq_base", 10_000.0),
        rope_scaling=_rope_scaling(file, keys, shape.head_size),
        sliding_window=keys.integer("attention.sliding_window", 0) or None,
        attention_bias=architecture != "qwen2" and "blk.0.attn_output.bias" in file.tensors,
        bos=_ids(file, ("bos",)),
        ends=tuple(dict.fromkeys((*_ids(file, ("eos", "eot", "eom")), *turn_ends(file, TURN_ENDS)))),
    )


class _Keys:
    """The metadata under one architecture's prefix."""

    def __init__(self, file: Gguf, prefix: str) -> None:
        self.file = file
        self.prefix = prefix

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.file.values.get(f"{self.prefix}.{key}", default)
        if not isinstance(value, int) or value < 0:
            raise ModelError(f"{self.file.path}: {self.prefix}.{key} is {brief(value)}, which is not a size")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A float32, as the shortest decimal that means it: 1e-05, not 9.999999747378752e-06."""
        value = self.file.values.get(f"{self.prefix}.{key}", default)
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise ModelError(f"{self.file.path}: {self.prefix}.{key} is {brief(value)}, which is not a number")
        return float(str(np.float32(value)))


def _vocabulary(file: Gguf) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelError(f"{file.path} has no token_embd.weight")
    return embedding.shape[0]


def _ids(file: Gguf, kinds: Sequence[str]) -> tuple[int, ...]:
    found = [file.values.get(f"tokenizer.ggml.{kind}_token_id") for kind in kinds]
    return tuple(dict.fromkeys(id_ for id_ in found if isinstance(id_, int) and 0 <= id_ < NO_ID))


def _rope_scaling(file: Gguf, keys: _Keys, head_size: int) -> Mapping[str, float | str] | None:
    kind = file.values.get(f"{keys.prefix}.rope.scaling.type", "none")
    if kind == "linear":
        return {"rope_type": "linear", "factor": keys.number("rope.scaling.factor")}
    if kind != "none":
        raise ModelError(f"{file.path}: rotary scaling {brief(kind)} is not supported; linear and llama3 are")
    if ROPE_FACTORS not in file.tensors:
        return None
    return _llama3_scaling(file, keys.number("rope.freq_base", 10_000.0), head_size)


def _llama3_scaling(file: Gguf, theta: float, head_size: int) -> Mapping[str, float | str]:
    """The numbers behind the factors that llama.cpp keeps in their place.

    Every model scaled so was extended from 8,192 positions with the bounds 1 and 4; to be sure, the factors are
    compared.
    """
    bits = file.tensors[ROPE_FACTORS].read()
    factors = (bits.astype(np.uint32) << 16).view(np.float32)
    factor, low, high, original = float(factors.max()), 1.0, 4.0, 8192.0
    waves = 2 * pi * theta ** (np.arange(0, head_size, 2) / head_size)
    smooth = np.clip((original / waves - low) / (high - low), 0, 1)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=0.01):
        raise ModelError(f"{file.path}: its rotary factors are not those of llama3")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "high_freq_factor": high,
        "low_freq_factor": low,
        "original_max_position_embeddings": original,
    }
