"""config.json, which says a model's numbers (protocols/manifest.md, 5.1).

Hugging Face lets one thing be said in several ways, or not at all; what its own classes make of a file is what
`parse_config` makes of it. A file that says what they or we do not know is refused: nobody could tell whether answers
would be right. `config_json` has one way for each thing.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from p2pinfer.core.models.architecture import ARCHITECTURES, Architecture, Shape, Window
from p2pinfer.core.models.model_config import ModelConfig, RopeScaling
from p2pinfer.core.models.model_numbers import whole
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief, cut

SILU: Final = ("silu", "swish")  # two names of one function
ROPE_KINDS: Final = ("default", "linear", "llama3")
DEFAULT_THETA: Final = 10_000.0
DEFAULT_WINDOW: Final = 4096  # positions; where the config of an architecture that has windows does not say it
DEFAULT_WINDOW_LAYERS: Final = 28  # layers below see everything, where the config does not say how many

# What `parse_config` reads
_READ: Final = frozenset(
    (
        *("architectures", "attention_bias", "head_dim", "hidden_size", "intermediate_size", "layer_types"),
        *("max_position_embeddings", "max_window_layers", "model_type", "num_attention_heads", "num_hidden_layers"),
        *("num_key_value_heads", "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "sliding_window"),
        *("tie_word_embeddings", "use_sliding_window", "vocab_size", "bos_token_id", "eos_token_id"),
    )
)
# The only values that are computed; what is null has them, too
_ONLY: Final[Mapping[str, tuple[object, ...]]] = {
    "hidden_act": SILU,
    "mlp_bias": (False,),
    "partial_rotary_factor": (1.0,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "rope_interleaved": (False,),
    "is_causal": (True,),
    "use_bidirectional_attention": (False,),
    "use_mrope": (False,),
}
# What changes no logit, as what begins with `_` does: training, storage, classification, and how answers were sampled
# before there was a generation_config.json
_NO_MATTER: Final = frozenset(
    (
        *("transformers_version", "torch_dtype", "dtype", "use_cache", "transformers.js_config"),
        *("model_max_length", "max_sequence_length", "max_seq_len", "seq_length"),
        *("initializer_range", "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "pretraining_tp"),
        *("pad_token_id", "decoder_start_token_id", "sep_token_id", "unk_token_id", "tokenizer_class", "prefix"),
        *("output_attentions", "output_hidden_states", "output_scores", "return_dict", "return_dict_in_generate"),
        *("chunk_size_feed_forward", "is_decoder", "is_llama_config", "problem_type", "id2label", "label2id"),
        *("num_labels", "finetuning_task", "task_specific_params", "torchscript", "tf_legacy_loss", "use_bfloat16"),
        *("unsloth_fixed", "unsloth_version", "unsloth_training_args", "attn_implementation"),
        *("gradient_checkpointing", "pruned_heads", "cross_attention_hidden_size"),
        *("tie_encoder_decoder", "do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty"),
        *("length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "num_beams", "num_beam_groups"),
        *("diversity_penalty", "max_length", "min_length", "early_stopping", "num_return_sequences"),
        *("bad_words_ids", "begin_suppress_tokens", "suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"),
        *("exponential_decay_length_penalty", "remove_invalid_values"),
    )
)
_INSIDE: Final = frozenset(("rope_scaling", "rope_parameters"))  # objects of which we read what is inside
KNOWN: Final = _READ | _NO_MATTER | _ONLY.keys()
# In a description of rotary positions; those that its kind does not use are not looked at, nor are they elsewhere
_ROPE: Final = frozenset(
    (
        *("rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "low_freq_factor", "high_freq_factor"),
        *("original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow"),
    )
)


def parse_config(raw: Mapping[str, Any], ignored: Collection[str] = ()) -> ModelConfig:
    """Return the configuration that parsed JSON describes.

    ignored: keys that nobody here knows, and somebody who knows the model says change nothing

    Raises ModelError for what is no config, for what is not computed, and for a key that is known.
    """
    check_ignored(ignored, KNOWN | _ROPE | {"quantization_config"})
    try:
        return _parse(_without(raw, ignored))
    except KeyError as error:
        raise ModelError(f"it does not say {brief(error.args[0])}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError, IndexError) as error:
        raise ModelError(f"it has a value that cannot be: {cut(str(error))}") from None


def _without(raw: Mapping[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """Without the keys, here and in what is read of an object inside; nobody looks deeper, however deep it goes."""
    kept = {key: value for key, value in raw.items() if key not in ignored}
    for key in _INSIDE & kept.keys():
        if isinstance(inside := kept[key], dict):
            kept[key] = {name: value for name, value in inside.items() if name not in ignored}
    return kept


def _parse(raw: Mapping[str, Any]) -> ModelConfig:
    architecture = _architecture(raw)
    _check_known(raw)
    hidden, heads = whole(raw["hidden_size"]), whole(raw["num_attention_heads"])
    rope: Mapping[str, Any] = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    theta = _given(rope, "rope_theta", _given(raw, "rope_theta", DEFAULT_THETA))
    shape = Shape(
        layers=whole(raw["num_hidden_layers"]),
        hidden=hidden,
        intermediate=whole(raw["intermediate_size"]),
        heads=heads,
        kv_heads=_key_heads(architecture, raw, heads),
        head_size=whole(_given(raw, "head_dim", architecture.head_size or hidden // max(1, heads))),
        vocabulary=whole(raw["vocab_size"]),
        context=whole(raw["max_position_embeddings"]),
    )
    return ModelConfig(
        architecture,
        shape,
        norm_eps=float(raw["rms_norm_eps"]),
        rope_theta=float(theta),
        rope_scaling=_rope_scaling(rope),
        window=_window(architecture, raw, shape.layers),
        tied=_flag(raw, "tie_word_embeddings"),
        biases=_flag(raw, "attention_bias"),
    )


def _architecture(raw: Mapping[str, Any]) -> Architecture:
    named = raw.get("architectures") or ["none"]
    classes = {architecture.class_: architecture for architecture in ARCHITECTURES.values()}
    found = [classes[class_] for class_ in named if class_ in classes]
    if not found:
        raise ModelError(f"architecture {brief(named)} is not supported; these are: {', '.join(classes)}")
    if (type_ := _given(raw, "model_type", found[0].name)) != found[0].name:
        raise ModelError(f"model_type {brief(type_)} is not that of {found[0].class_}, which is {found[0].name}")
    return found[0]


def _check_known(raw: Mapping[str, Any]) -> None:
    """Raise ModelError for a switch that nobody here knows, or that is not computed."""
    if raw.get("quantization_config"):
        raise ModelError("weights in a quantised form of their own are not supported; import the bf16 model or a GGUF")
    said = {key: value for key, value in raw.items() if value is not None and not key.startswith("_")}
    for key, only in _ONLY.items():
        if key in said and said[key] not in only:
            raise ModelError(f"{key} {brief(said[key])} is not supported, only {' and '.join(map(repr, only))}")
    check_keys(said, KNOWN)


def check_keys(said: Mapping[str, object], known: Collection[str]) -> None:
    """Raise ModelError for a key that nobody here knows."""
    if unknown := sorted(set(said) - set(known)):
        key = unknown[0]
        raise ModelError(
            f"it says {brief(key)} is {brief(said[key])}, which nobody here knows: the model's answers might be "
            f"wrong. If it computes the same without that, import it with --ignore {cut(key, 60)}"
        )


def check_ignored(ignored: Collection[str], known: Collection[str]) -> None:
    """Raise ModelError for a key that is known: without it, the model would be another."""
    if own := sorted(set(ignored) & set(known)):
        raise ModelError(f"{brief(own[0])} cannot be ignored: it is known what it changes")


def _key_heads(architecture: Architecture, raw: Mapping[str, Any], heads: int) -> int:
    """Null is as many as heads; to say nothing may be another number."""
    missing = architecture.kv_heads if "num_key_value_heads" not in raw else 0
    return whole(_given(raw, "num_key_value_heads", missing or heads))


def _rope_scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = _given(rope, "rope_type", _given(rope, "type", "default"))
    if kind not in ROPE_KINDS:
        raise ModelError(f"rotary scaling {brief(kind)} is not supported; these are: {', '.join(ROPE_KINDS)}")
    check_keys({key: value for key, value in rope.items() if value is not None}, _ROPE)
    if _given(rope, "partial_rotary_factor", 1.0) != 1.0:
        raise ModelError("rotary positions in a part of each head are not supported")
    if kind == "default":
        return None
    factor = float(rope["factor"])
    if kind == "linear":
        return RopeScaling(kind, factor)
    high, low = float(rope["high_freq_factor"]), float(rope["low_freq_factor"])
    return RopeScaling(kind, factor, low, high, whole(rope["original_max_position_embeddings"]))


def _window(architecture: Architecture, raw: Mapping[str, Any], layers: int) -> int | None:
    """The window that all layers have. Raises ModelError where some have it and some have not."""
    if architecture.window is Window.NONE:
        return None
    window = raw.get("sliding_window", DEFAULT_WINDOW)
    if architecture.window is Window.SWITCHED and not _flag(raw, "use_sliding_window"):
        window = None
    kinds = set(raw.get("layer_types") or _window_kinds(architecture, raw, window, layers))
    if kinds == {"full_attention"} and (window is None or architecture.window is Window.SWITCHED):
        return None
    if kinds == {"sliding_attention"} and window is not None:
        return whole(window)
    raise ModelError("a sliding window in some layers only is not supported")


def _window_kinds(architecture: Architecture, raw: Mapping[str, Any], window: object, layers: int) -> set[str]:
    """The kinds that layers have, as the architecture's class fills in what the config leaves out.

    Nothing is made for each layer: their number is a stranger's, and not held against its range yet.
    """
    first = 0
    if architecture.window is Window.SWITCHED:
        first = whole(_given(raw, "max_window_layers", DEFAULT_WINDOW_LAYERS))
    if window is None or layers <= first:
        return {"full_attention"}
    return {"sliding_attention"} if first <= 0 else {"full_attention", "sliding_attention"}


def _given(raw: Mapping[str, Any], name: str, default: Any) -> Any:
    value = raw.get(name)
    return default if value is None else value


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name)
    if value is not None and type(value) is not bool:
        raise ValueError(f"{name} is {brief(value)}, which is neither true nor false")
    return value or False


def config_json(config: ModelConfig, bos: tuple[int, ...], ends: tuple[int, ...]) -> bytes:
    """The bytes of config.json: keys in order, no spaces, numbers as short as they can be."""
    shape, switched = config.shape, config.architecture.window is Window.SWITCHED and config.window is not None
    fields = {
        "architectures": [config.architecture.class_],
        "attention_bias": config.biases,
        "bos_token_id": bos[0] if bos else None,
        "eos_token_id": list(ends),
        "head_dim": shape.head_size,
        "hidden_act": SILU[0],
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.context,
        "model_type": config.architecture.name,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_scaling": _scaling_fields(config.rope_scaling),
        "rope_theta": config.rope_theta,
        "sliding_window": config.window,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "bfloat16",
        "vocab_size": shape.vocabulary,
        **({"max_window_layers": 0, "use_sliding_window": True} if switched else {}),
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _scaling_fields(scaling: RopeScaling | None) -> dict[str, float | str] | None:
    if scaling is None:
        return None
    fields: dict[str, float | str] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        fields |= {
            "high_freq_factor": scaling.high_freq_factor,
            "low_freq_factor": scaling.low_freq_factor,
            "original_max_position_embeddings": float(scaling.original_context),
        }
    return fields
