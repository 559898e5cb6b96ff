"""A model's numbers, which the engine needs beside its tensors, in the one form of config.json (manifest.md, 5.1).

The names are Hugging Face's. Where they let one thing be said in two ways, or not at all, here is one way.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from p2pinfer.core.errors import ModelError
from p2pinfer.core.manifest import Shape

# Hugging Face's name of a class -> our name of the architecture
CLASSES: Final = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
ROPE_TYPES: Final = ("default", "linear", "llama3")
_LLAMA3_FIELDS: Final = ("factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings")


@dataclass(frozen=True, slots=True)
class Config:
    """A model's numbers.

    rope_scaling:   None, or `rope_type` and its numbers
    sliding_window: positions attention looks back on, in every layer; None is all
    attention_bias: llama and qwen3 only: q, k, v and o have biases (qwen2 always has q's, k's and v's)
    """

    architecture: str
    shape: Shape
    tied: bool
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Mapping[str, float | str] | None
    sliding_window: int | None
    attention_bias: bool
    bos: tuple[int, ...]
    ends: tuple[int, ...]

    def to_json(self) -> bytes:
        """The bytes of config.json: keys in order, no spaces, numbers as short as they can be."""
        shape = self.shape
        classes = {name: class_ for class_, name in CLASSES.items()}
        fields = {
            "architectures": [classes[self.architecture]],
            "attention_bias": self.attention_bias,
            "bos_token_id": self.bos[0] if self.bos else None,
            "eos_token_id": list(self.ends),
            "head_dim": shape.head_size,
            "hidden_act": "silu",
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "max_position_embeddings": shape.context,
            "model_type": self.architecture,
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "num_key_value_heads": shape.kv_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": dict(self.rope_scaling) if self.rope_scaling else None,
            "rope_theta": self.rope_theta,
            "sliding_window": self.sliding_window,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "bfloat16",
            "vocab_size": shape.vocabulary,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def read_config(raw: Mapping[str, Any], generation: Mapping[str, Any]) -> Config:
    """The numbers in a Hugging Face config.json and generation_config.json; the second may be empty.

    Raises:
        ModelError: an architecture, or a part of one, that is not supported, or a number that is missing.
    """
    try:
        architecture = _architecture(raw)
        heads = int(raw["num_attention_heads"])
        shape = Shape(
            layers=int(raw["num_hidden_layers"]),
            hidden=int(raw["hidden_size"]),
            intermediate=int(raw["intermediate_size"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_size=int(raw.get("head_dim") or int(raw["hidden_size"]) // heads),
            vocabulary=int(raw["vocab_size"]),
            context=int(raw["max_position_embeddings"]),
        )
        rope = _rope(raw)
        return Config(
            architecture=architecture,
            shape=shape,
            tied=bool(raw.get("tie_word_embeddings", False)),
            rms_norm_eps=_number(raw["rms_norm_eps"]),
            rope_theta=_number(rope.get("rope_theta", raw.get("rope_theta", 10_000.0))),
            rope_scaling=rope_scaling(rope),
            sliding_window=_window(raw),
            attention_bias=architecture in ("llama", "qwen3") and bool(raw.get("attention_bias", False)),
            bos=_ids(generation.get("bos_token_id", raw.get("bos_token_id"))),
            ends=_ids(generation.get("eos_token_id", raw.get("eos_token_id"))),
        )
    except KeyError as error:
        raise ModelError(f"config.json does not say {error}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"config.json has a value that cannot be: {error}") from None


def _architecture(raw: Mapping[str, Any]) -> str:
    named = raw.get("architectures") or ["none"]
    supported = [class_ for class_ in named if class_ in CLASSES]
    if not supported:
        raise ModelError(f"architecture {', '.join(map(str, named))} is not supported; these are: {', '.join(CLASSES)}")
    for name, only in (("hidden_act", "silu"), ("mlp_bias", False), ("partial_rotary_factor", 1.0)):
        if raw.get(name, only) not in (only, None):
            raise ModelError(f"{name} {raw[name]!r} is not supported, only {only!r} is")
    if raw.get("quantization_config"):
        raise ModelError("weights in a quantised form of their own are not supported; import the bf16 model or a GGUF")
    return CLASSES[supported[0]]


def _rope(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary parameters, whichever of its three places the file has them in."""
    rope: Mapping[str, Any] = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    return rope


def rope_scaling(rope: Mapping[str, Any]) -> Mapping[str, float | str] | None:
    """The scaling in `rope`, without what has no effect.

    Raises ModelError if it is not supported.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise ModelError(f"rotary scaling {kind!r} is not supported; these are: {', '.join(ROPE_TYPES)}")
    if kind == "default":
        return None
    names = _LLAMA3_FIELDS if kind == "llama3" else ("factor",)
    return {"rope_type": kind} | {name: _number(rope[name]) for name in names}


def _number(value: Any) -> float:
    """A value that JSON can say again."""
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"{number} is not a number to compute with")
    return number


def _window(raw: Mapping[str, Any]) -> int | None:
    window = raw.get("sliding_window")
    if window is None or not raw.get("use_sliding_window", True):
        return None
    if "use_sliding_window" in raw:  # Qwen: some layers have the window, some have not
        raise ModelError("a sliding window in some layers only is not supported")
    return int(window)


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(dict.fromkeys(map(int, value))) if isinstance(value, list) else (int(value),)
