"""A model's numbers, which the engine needs beside its tensors, in the one form of config.json (manifest.md, 5.1).

The names are Hugging Face's. Where they let one thing be said in two ways, or not at all, here is one way.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from p2pinfer.core.models.manifest import Shape
from p2pinfer.core.models.model_numbers import check_numbers, whole
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief, cut

# Hugging Face's name of a class -> our name of the architecture
CLASSES: Final = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
ROPE_TYPES: Final = ("default", "linear", "llama3")
SCALING: Final = {  # numbers of rope_scaling, as they are checked
    "factor": "factor",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "original": "original_max_position_embeddings",
}
_LLAMA3_FIELDS: Final = ("factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings")


@dataclass(frozen=True, slots=True)
class Config:
    """A model's numbers.

    Raises ValueError for a number that makes no sense.

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

    def __post_init__(self) -> None:
        scaling = self.rope_scaling or {}
        given = {name: float(scaling[field]) for name, field in SCALING.items() if field in scaling}
        check_numbers(
            eps=self.rms_norm_eps,
            theta=self.rope_theta,
            context=self.shape.context,
            window=self.sliding_window,
            **given,
        )

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
        heads, hidden = whole(raw["num_attention_heads"]), whole(raw["hidden_size"])
        shape = Shape(
            layers=whole(raw["num_hidden_layers"]),
            hidden=hidden,
            intermediate=whole(raw["intermediate_size"]),
            heads=heads,
            kv_heads=whole(_given(raw, "num_key_value_heads", heads)),
            head_size=whole(_given(raw, "head_dim", hidden // max(1, heads))),
            vocabulary=whole(raw["vocab_size"]),
            context=whole(raw["max_position_embeddings"]),
        )
        rope = _rope(raw)
        return Config(
            architecture=architecture,
            shape=shape,
            tied=_flag(raw, "tie_word_embeddings", False),
            rms_norm_eps=_number(raw["rms_norm_eps"]),
            rope_theta=_number(rope.get("rope_theta", raw.get("rope_theta", 10_000.0))),
            rope_scaling=rope_scaling(rope),
            sliding_window=_window(raw),
            attention_bias=_flag(raw, "attention_bias", False) and architecture in ("llama", "qwen3"),
            bos=_ids(generation.get("bos_token_id", raw.get("bos_token_id"))),
            ends=_ids(generation.get("eos_token_id", raw.get("eos_token_id"))),
        )
    except KeyError as error:
        raise ModelError(f"config.json does not say {brief(error.args[0])}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"config.json has a value that cannot be: {cut(str(error))}") from None


def _given(raw: Mapping[str, Any], name: str, default: int) -> object:
    value = raw.get(name)
    return default if value is None else value


def _flag(raw: Mapping[str, Any], name: str, default: bool) -> bool:
    value = raw.get(name)
    if value is not None and type(value) is not bool:
        raise ValueError(f"{name} is {brief(value)}, which is neither true nor false")
    return default if value is None else value


def _architecture(raw: Mapping[str, Any]) -> str:
    named = raw.get("architectures") or ["none"]
    supported = [class_ for class_ in named if class_ in CLASSES]
    if not supported:
        raise ModelError(f"architecture {brief(named)} is not supported; these are: {', '.join(CLASSES)}")
    for name, only in (("hidden_act", "silu"), ("mlp_bias", False), ("partial_rotary_factor", 1.0)):
        if raw.get(name, only) not in (only, None):
            raise ModelError(f"{name} {brief(raw[name])} is not supported, only {only!r} is")
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
        raise ModelError(f"rotary scaling {brief(kind)} is not supported; these are: {', '.join(ROPE_TYPES)}")
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
    if window is None or not _flag(raw, "use_sliding_window", True):
        return None
    if "use_sliding_window" in raw:  # Qwen: some layers have the window, some have not
        raise ModelError("a sliding window in some layers only is not supported")
    return whole(window)


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(dict.fromkeys(map(whole, value))) if isinstance(value, list) else (whole(value),)
