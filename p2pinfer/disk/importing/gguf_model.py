"""A model in GGUF files, as llama.cpp has it, in Hugging Face's names and order (manifest.md, 5.4)."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from math import pi
from pathlib import Path
from typing import Final

import numpy as np

from p2pinfer.core.models.architecture import ARCHITECTURES, Architecture, Bias, Shape, Window
from p2pinfer.core.models.bf16 import widened
from p2pinfer.core.models.config_json import check_ignored, check_keys
from p2pinfer.core.models.model_config import ModelConfig, RopeScaling
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief
from p2pinfer.disk.importing.building import ModelSource
from p2pinfer.disk.importing.drawing import sampling_of, unapplied
from p2pinfer.disk.importing.gguf_file import Gguf
from p2pinfer.disk.importing.gguf_parts import open_parts, without_part
from p2pinfer.disk.importing.gguf_tokenizer import id_of, tokenizer_json, turn_ends
from p2pinfer.disk.importing.naming import model_name
from p2pinfer.disk.importing.tensors import Tensor

BY_NAME: Final = {architecture.gguf: architecture for architecture in ARCHITECTURES.values() if architecture.gguf}
WINDOW: Final = "attention.sliding_window"
ROPE_FACTORS: Final = "rope_freqs.weight"
# What converters take over from the maker's configuration, and what each is where it is not said
SAMPLING: Final = {"general.sampling.temp": 1.0, "general.sampling.top_k": 0, "general.sampling.top_p": 1.0}
NO_SCALING: Final = (0.0, 1.0)  # factors

# control tokens that end a turn, whatever key a converter gave them; converters often call another one eos
TURN_ENDS: Final = frozenset(
    ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|eot|>", "<end_of_turn>", "<|end_of_turn|>")
)

# Metadata of an architecture that is read, or changes no logit
_KNOWN: Final = frozenset(
    (
        *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"),
        *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
        *("attention.layer_norm_rms_epsilon", WINDOW, "rope.dimension_count", "rope.freq_base"),
        *("rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.original_context_length"),
        *("rope.scaling.finetuned", "tensor_data_layout", "expert_count", "expert_used_count"),
    )
)


def read_gguf(path: Path, name: str = "", ignored: Collection[str] = ()) -> ModelSource:
    """The model in a GGUF file, or in the parts of one, its tensors not read yet.

    ignored: keys of metadata that change nothing, by the word of whoever imports it

    Raises:
        ModelError: it is no GGUF file, a part of one, or a model that is not supported.
    """
    file = _without(open_parts(path), ignored)
    try:
        config = _config(file)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    template = file.values.get("tokenizer.chat_template", "")
    licence = file.values.get("general.license", "")
    return ModelSource(
        name=model_name(name or without_part(path.stem)),
        config=config,
        bos=_ids(file, ("bos",)),
        ends=tuple(dict.fromkeys((*_ids(file, ("eos", "eot", "eom")), *turn_ends(file, TURN_ENDS)))),
        sampling=_sampling(file),
        tokenizer=tokenizer_json(file),
        template=template if isinstance(template, str) else "",
        licence=licence[:96] if isinstance(licence, str) else "",
        tensors=_tensors(file, config),
        notes=unapplied(file.values),
    )


def _without(file: Gguf, ignored: Collection[str]) -> Gguf:
    """The file without what changes nothing, which is the architecture's, and unknown, or a window."""
    prefix = f"{file.values.get('general.architecture')}."
    own = {key for key in file.values if not key.startswith(prefix)}
    try:
        check_ignored(ignored, own | {prefix + key for key in _KNOWN - {WINDOW}})
    except ModelError as error:
        raise ModelError(f"{file.path}: {error}") from None
    return replace(file, values={key: value for key, value in file.values.items() if key not in ignored})


def _sampling(file: Gguf) -> tuple[int, ...]:
    if not any(key in file.values for key in SAMPLING):
        return ()
    return sampling_of(file.path, *(file.values.get(key, default) for key, default in SAMPLING.items()))


def _tensors(file: Gguf, config: ModelConfig) -> dict[str, Tensor]:
    """By Hugging Face's names; what the model should not have keeps its own."""
    weights = {weight.gguf: weight for weights in config.files.values() for weight in weights}
    tensors = {}
    for name, tensor in file.tensors.items():
        if name == ROPE_FACTORS:
            continue  # in the configuration's rope_scaling
        weight = weights.get(name)
        if weight is None:
            tensors[name] = tensor
        elif config.architecture.turned:
            tensors[weight.name] = replace(tensor, heads=weight.heads)
        else:
            tensors[weight.name] = tensor
    return tensors


def _config(file: Gguf) -> ModelConfig:
    name = file.values.get("general.architecture")
    architecture = BY_NAME.get(name) if isinstance(name, str) else None
    if architecture is None:
        raise ModelError(f"{file.path}: architecture {brief(name)} is not supported; {', '.join(BY_NAME)} are")
    keys = _Keys(file, architecture.gguf)
    keys.check()
    heads, hidden = keys.integer("attention.head_count"), keys.integer("embedding_length")
    shape = Shape(
        layers=keys.integer("block_count"),
        hidden=hidden,
        intermediate=keys.integer("feed_forward_length"),
        heads=heads,
        kv_heads=keys.integer("attention.head_count_kv", heads),
        head_size=keys.integer("attention.key_length", hidden // max(1, heads)),
        vocabulary=_vocabulary(file),
        context=keys.integer("context_length"),
    )
    if keys.integer("rope.dimension_count", shape.head_size) != shape.head_size:
        raise ModelError(f"{file.path}: rotary positions in a part of each head are not supported")
    if keys.integer("attention.value_length", shape.head_size) != shape.head_size:
        raise ModelError(f"{file.path}: values of another size than keys are not supported")
    _check_window(keys, architecture, shape.context)
    return ModelConfig(
        architecture,
        shape,
        norm_eps=keys.number("attention.layer_norm_rms_epsilon"),
        rope_theta=keys.number("rope.freq_base", 10_000.0),
        rope_scaling=_rope_scaling(file, keys, shape.head_size),
        window=None,
        tied="output.weight" not in file.tensors,
        biases=architecture.bias is Bias.IF_SAID and "blk.0.attn_output.bias" in file.tensors,
    )


def _check_window(keys: "_Keys", architecture: Architecture, context: int) -> None:
    """A window in such files is ignored by llama.cpp, and by Qwen's own classes; Mistral's keep to it.

    Raises ModelError where a model may be one of Mistral's.
    """
    window = keys.integer(WINDOW, 0)
    if 0 < window < context and architecture.window is not Window.SWITCHED:
        raise ModelError(
            f"{keys.file.path}: it says a sliding window of {window} positions, which llama.cpp ignores: a Mistral "
            "model keeps to it, a Llama model does not. Import a Mistral model from its Hugging Face folder, another "
            f"with --ignore {keys.prefix}.{WINDOW}"
        )


class _Keys:
    """The metadata under one architecture's prefix."""

    def __init__(self, file: Gguf, prefix: str) -> None:
        self.file = file
        self.prefix = prefix

    def check(self) -> None:
        """Raise ModelError for a switch that nobody here knows, or that is not computed."""
        said = {key: value for key, value in self.file.values.items() if key.startswith(f"{self.prefix}.")}
        try:
            check_keys(said, {f"{self.prefix}.{key}" for key in _KNOWN})
        except ModelError as error:
            raise ModelError(f"{self.file.path}: {error}") from None
        if self.integer("expert_count", 0):
            raise ModelError(f"{self.file.path}: a mixture of experts is not supported")

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
    found = [id_of(file, kind) for kind in kinds]
    return tuple(dict.fromkeys(id_ for id_ in found if id_ is not None))


def _rope_scaling(file: Gguf, keys: _Keys, head_size: int) -> RopeScaling | None:
    """A factor of which no kind is said is linear, as in the first such files."""
    kind = file.values.get(f"{keys.prefix}.rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        raise ModelError(f"{file.path}: rotary scaling {brief(kind)} is not supported; linear and llama3 are")
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1.0))
    linear = kind == "linear" and factor not in NO_SCALING
    if ROPE_FACTORS not in file.tensors:
        return RopeScaling("linear", factor) if linear else None
    if linear:
        raise ModelError(f"{file.path}: rotary factors and a linear factor of {factor} at once are not supported")
    return _llama3_scaling(file, keys.number("rope.freq_base", 10_000.0), head_size)


def _llama3_scaling(file: Gguf, theta: float, head_size: int) -> RopeScaling:
    """The numbers behind the factors that llama.cpp keeps in their place.

    Every model scaled so was extended from 8,192 positions with the bounds 1 and 4; to be sure, the factors are
    compared.
    """
    tensor = file.tensors[ROPE_FACTORS]
    if tensor.shape != (-(-head_size // 2),):  # before as many are made to compare: the head's size is a stranger's
        raise ModelError(f"{file.path}: rotary factors of shape {brief(tensor.shape)} for a head size of {head_size}")
    factors = widened(tensor.read())
    scaling = RopeScaling("llama3", float(factors.max()))
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    waves = 2 * pi * theta ** (np.arange(0, head_size, 2) / head_size)
    smooth = np.clip((scaling.original_context / waves - low) / (high - low), 0, 1)
    expected = 1 / ((1 - smooth) / scaling.factor + smooth)
    if not np.allclose(factors, expected, rtol=0.01):
        raise ModelError(f"{file.path}: its rotary factors are not those of llama3")
    return scaling
