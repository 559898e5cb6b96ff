"""Models small enough to make in a test: a Hugging Face folder and a GGUF file, with seeded random weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType
from numpy.typing import NDArray
from safetensors.numpy import save_file

from p2pinfer.core.models.config_json import parse_config
from p2pinfer.core.models.spelling import byte_characters

TEMPLATE = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}<|assistant|>"
NAMES = [*sorted(byte_characters(), key=lambda c: byte_characters()[c]), "th", "the", "<|begin|>", "<|end|>"]
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 258,
    "eos_token_id": 259,
    "hidden_act": "silu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 260,
}

# The native engine takes it; with three layers the greedy answer to "hello" has no end within the context
EVEN: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 96, "head_dim": 16}
FLAGS: dict[str, Any] = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
PIECES = ["\u2581", "\u2581hi", "h", "i", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]

Arrays = dict[str, NDArray[np.float32]]


def tiny_tokenizer() -> bytes:
    """Byte level, with two merges and two special names."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": id_, "content": name, "special": True, **FLAGS} for id_, name in enumerate(NAMES) if id_ > 257
            ],
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": None,
            "decoder": level,
            "model": {
                "type": "BPE",
                "vocab": {name: id_ for id_, name in enumerate(NAMES)},
                "merges": [["t", "h"], ["th", "e"]],
            },
        }
    ).encode()


def tiny_sentencepiece(**changes: Any) -> bytes:
    """Sentencepiece, with PIECES and no merges; `changes` replace parts of the description."""
    description = {
        "version": "1.0",
        "added_tokens": [{"id": id_, "content": PIECES[id_], "special": True, **FLAGS} for id_ in (4, 5)],
        "normalizer": {"type": "Prepend", "prepend": "\u2581"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {piece: id_ for id_, piece in enumerate(PIECES)},
            "merges": [],
        },
    }
    return json.dumps(description | changes).encode()


def crashing_tokenizer() -> bytes:
    """One name so long that the tokenizers library overflows its stack when it forgets the vocabulary."""
    description: dict[str, Any] = {
        **dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor")),
        "version": "1.0",
        "added_tokens": [],
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a" * 3_000_000, -1.0]]},
    }
    return json.dumps(description).encode()


def tiny_tensors(config: dict[str, Any]) -> Arrays:
    """Random float32 values under Hugging Face's names."""
    random = np.random.default_rng(1)
    shapes = {weight.name: weight.shape for weights in parse_config(config).files.values() for weight in weights}
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def tiny_folder(folder: Path, tensors: Arrays | None = None, **changes: Any) -> Path:
    """A Hugging Face folder; `changes` go into its config.json."""
    config = CONFIG | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(tiny_tokenizer())
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    (folder / "README.md").write_text("---\nlanguage:\n- en\nlicense: apache-2.0\n---\n# Tiny\n")
    save_file(tiny_tensors(config) if tensors is None else tensors, folder / "model.safetensors")
    return folder


def tiny_gguf(
    path: Path,
    architecture: str = "llama",
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    extra: Arrays | None = None,
    sizes: Mapping[str, Any] = CONFIG,
    tensors: Arrays | None = None,
    **changes: Any,
) -> Arrays:
    """A GGUF file as llama.cpp's converter writes it; the tensors as Hugging Face has them are returned.

    extra:   tensors added as they are
    sizes:   by the names of config.json
    tensors: as Hugging Face has them; None draws them
    changes: metadata by key, each a value and its type; None leaves it out
    """
    class_ = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[architecture] + "ForCausalLM"
    head_size = sizes.get("head_dim", sizes["hidden_size"] // sizes["num_attention_heads"])
    if tensors is None:
        tensors = tiny_tensors({**sizes, "architectures": [class_], "head_dim": head_size})
    writer = GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    writer.add_license("apache-2.0")
    writer.add_block_count(sizes["num_hidden_layers"])
    writer.add_context_length(sizes["max_position_embeddings"])
    writer.add_embedding_length(sizes["hidden_size"])
    writer.add_feed_forward_length(sizes["intermediate_size"])
    writer.add_head_count(sizes["num_attention_heads"])
    writer.add_head_count_kv(sizes["num_key_value_heads"])
    writer.add_key_length(head_size)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(sizes["rms_norm_eps"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(NAMES)
    writer.add_token_types([1] * 258 + [3, 3])
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(258)
    writer.add_eos_token_id(259)
    writer.add_chat_template(TEMPLATE)
    for key, value in changes.items():
        writer.kv_data[0].pop(key, None)
        if value is not None:
            writer.add_key_value(key, *value)
    for name, array in tensors.items():
        _add(writer, name, _interleaved(name, array, sizes) if architecture == "llama" else array, kind)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def _add(writer: GGUFWriter, name: str, array: NDArray[np.float32], kind: GGMLQuantizationType) -> None:
    short = name.replace("model.layers.", "blk.")
    for theirs, ours in PARTS.items():
        short = short.replace(theirs, ours)
    if array.ndim == 2 and kind == GGMLQuantizationType.F16:
        array = array.astype(np.float16)
    writer.add_tensor(short, array)


def _interleaved(name: str, array: NDArray[np.float32], sizes: Mapping[str, Any]) -> NDArray[np.float32]:
    """What llama.cpp's converter does to the rows of q and k."""
    heads = (
        sizes["num_attention_heads"] if "q_proj" in name else sizes["num_key_value_heads"] if "k_proj" in name else 0
    )
    if not heads:
        return array
    rows = array.shape[0]
    return array.reshape(heads, 2, rows // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
