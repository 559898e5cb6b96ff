"""A model's config.json as the engine reads it: the Llama family, with what tells its members apart.

The fields are Hugging Face's. What this engine cannot compute is refused here, before weights are read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from p2pinfer.core.models import manifest
from p2pinfer.core.models.manifest import Manifest, Shape
from p2pinfer.core.models.model_numbers import check_numbers, whole
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief, cut
from p2pinfer.core.values.units import Q8O4_OUTLIERS

ARCHITECTURES: Final = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
MAX_WIDTH: Final = 1 << 16  # the codec q8o4 writes places in a row in 16 bits


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched. linear: all by `factor`; llama3: the slow ones, with a ramp between."""

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192  # positions


NO_SCALING: Final = RopeScaling("default", 1.0)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shapes and constants of one model."""

    architecture: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int  # positions
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    window: int | None  # positions attended to, the own one included; None: all
    tied: bool  # the output head is the embedding
    qkv_bias: bool
    output_bias: bool  # of attention's output projection
    qk_norms: bool  # an RMS norm of each query and key head

    def __post_init__(self) -> None:
        sizes = (self.layers, self.hidden, self.feed_forward, self.heads, self.kv_heads, self.head_size, self.context)
        if any(type(size) is not int or size < 1 for size in (*sizes, self.vocabulary)):
            raise ValueError("a size is no whole number, or not positive")
        if not Q8O4_OUTLIERS <= self.hidden <= MAX_WIDTH:
            raise ValueError(f"a hidden size of {self.hidden}: rows have {Q8O4_OUTLIERS} to {MAX_WIDTH} values")
        if self.heads % self.kv_heads or self.head_size % 2:
            raise ValueError(f"{self.heads} heads of {self.head_size} for {self.kv_heads} key heads")
        if self.window is not None and type(self.window) is not int:
            raise ValueError(f"a sliding window of {brief(self.window)} positions")
        scaling = self.rope_scaling or NO_SCALING
        check_numbers(
            eps=self.norm_eps,
            theta=self.rope_theta,
            context=self.context,
            window=self.window,
            factor=scaling.factor,
            low=scaling.low_freq_factor,
            high=scaling.high_freq_factor,
            original=scaling.original_context,
        )

    def check_fits(self, model: Manifest) -> None:
        """Raise ModelError where this is not the config of the model with that manifest."""
        sizes = (self.layers, self.hidden, self.feed_forward, self.heads, self.kv_heads, self.head_size)
        ours = (
            dict(zip(ARCHITECTURES, manifest.ARCHITECTURES, strict=True))[self.architecture],
            Shape(*sizes, self.vocabulary, self.context),
            self.tied,
        )
        theirs = (model.architecture, model.shape, bool(model.tied))
        if ours != theirs:
            raise ModelError(
                f"{model.name}: config.json is of another model than the manifest ({ours}, not {theirs}): whoever made "
                "them made a mistake; import the model from its source"
            )


def read_config(path: Path) -> ModelConfig:
    """Raises ModelError for a file that is missing, damaged, or of a model this engine cannot compute."""
    try:
        return parse_config(json.loads(path.read_bytes()))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except KeyError as error:
        raise ModelError(f"{path}: the field {error} is missing") from None
    except (ValueError, TypeError, AttributeError, ArithmeticError, IndexError, RecursionError) as error:
        raise ModelError(f"{path}: {cut(str(error))}") from None


def parse_config(plain: Mapping[str, Any]) -> ModelConfig:
    """The config that parsed JSON stands for.

    Raises ModelError for what the engine cannot compute; and ValueError, TypeError, AttributeError, ArithmeticError or
    LookupError for what is no config.
    """
    architecture = plain["architectures"][0]
    if architecture not in ARCHITECTURES:
        raise ModelError(f"the architecture {brief(architecture)} is not supported; {', '.join(ARCHITECTURES)} are")
    if plain.get("hidden_act", "silu") != "silu" or plain.get("mlp_bias"):
        raise ModelError("only feed-forward layers with silu and without bias are supported")
    heads = plain["num_attention_heads"]
    bias = bool(plain.get("attention_bias", False))
    return ModelConfig(
        architecture=architecture,
        layers=plain["num_hidden_layers"],
        hidden=plain["hidden_size"],
        feed_forward=plain["intermediate_size"],
        heads=heads,
        kv_heads=_given(plain, "num_key_value_heads", heads),
        head_size=_given(plain, "head_dim", plain["hidden_size"] // heads),
        vocabulary=plain["vocab_size"],
        context=plain["max_position_embeddings"],
        norm_eps=float(plain["rms_norm_eps"]),
        rope_theta=float(_given(plain, "rope_theta", 10_000.0)),
        rope_scaling=_rope_scaling(plain.get("rope_scaling")),
        window=plain.get("sliding_window"),
        tied=bool(plain.get("tie_word_embeddings", False)),
        qkv_bias=bias or architecture == "Qwen2ForCausalLM",
        output_bias=bias,
        qk_norms=architecture == "Qwen3ForCausalLM",
    )


def _given(plain: Mapping[str, Any], name: str, default: Any) -> Any:
    value = plain.get(name)
    return default if value is None else value


def _rope_scaling(plain: Mapping[str, Any] | None) -> RopeScaling | None:
    kind = (plain or {}).get("rope_type", (plain or {}).get("type", "default"))
    if plain is None or kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind, float(plain["factor"]))
    if kind == "llama3":
        low, high = float(plain["low_freq_factor"]), float(plain["high_freq_factor"])
        return RopeScaling(kind, float(plain["factor"]), low, high, whole(plain["original_max_position_embeddings"]))
    raise ModelError(f"rope scaling of the kind {brief(kind)} is not supported; linear and llama3 are")
