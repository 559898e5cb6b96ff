"""Configurations as they are published, and that what is written of one is it again."""

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from p2pinfer.core.models.config_json import config_json, parse_config
from p2pinfer.core.models.model_config import RopeScaling
from p2pinfer.core.values.errors import ModelError

HUGE: Final = 3_000_000

USUAL: Final[dict[str, Any]] = {
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.0",
    "use_cache": True,
}
LLAMA_3_1: Final = USUAL | {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
SMOLLM2: Final = USUAL | {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_size": 576,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
    "vocab_size": 49152,
}
MISTRAL: Final = USUAL | {
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}
QWEN2_5: Final = USUAL | {
    "architectures": ["Qwen2ForCausalLM"],
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "use_mrope": False,  # of the distills from R1
    "use_sliding_window": False,
    "vocab_size": 152064,
}
QWEN3: Final = QWEN2_5 | {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "hidden_size": 1024,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "rope_scaling": None,
    "sliding_window": None,
    "tie_word_embeddings": True,
}
PUBLISHED: Final = {"Llama 3.1": LLAMA_3_1, "SmolLM2": SMOLLM2, "Mistral": MISTRAL, "Qwen2.5": QWEN2_5, "Qwen3": QWEN3}


@pytest.mark.parametrize("raw", PUBLISHED.values(), ids=PUBLISHED)
def test_what_is_written_of_a_published_config_is_it_again(raw: dict[str, Any]) -> None:
    config = parse_config(raw)
    assert parse_config(json.loads(config_json(config, (1,), (2,)))) == config


@pytest.mark.parametrize(
    ("raw", "head_size", "window"),
    [(LLAMA_3_1, 128, None), (SMOLLM2, 64, None), (MISTRAL, 128, 4096), (QWEN2_5, 128, None), (QWEN3, 128, None)],
    ids=PUBLISHED,
)
def test_published_configs_say_what_their_makers_mean(raw: dict[str, Any], head_size: int, window: int | None) -> None:
    config = parse_config(raw)
    assert (config.shape.head_size, config.window) == (head_size, window)


def test_the_scaling_of_llama_3_1_is_read() -> None:
    assert parse_config(LLAMA_3_1).rope_scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)


@contextmanager
def memory_for_few() -> Iterator[None]:
    """What is done within takes no more than 1 MiB."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("first", [0, HUGE - 1, HUGE, 2 * HUGE])
def test_layers_that_no_model_has_take_no_memory(first: int) -> None:
    """Nothing is made for each of them before their number is held against its range."""
    raw = QWEN2_5 | {"use_sliding_window": True, "sliding_window": 64}
    with memory_for_few(), pytest.raises(ModelError, match=f"{HUGE} layers, limit 999|in some layers only"):
        parse_config(raw | {"num_hidden_layers": HUGE, "max_window_layers": first})


def test_what_nobody_looks_at_may_nest_as_deep_as_it_likes() -> None:
    deep: object = {}
    for _ in range(5_000):
        deep = {"a": deep}
    assert parse_config(LLAMA_3_1 | {"task_specific_params": deep}) == parse_config(LLAMA_3_1)


def test_what_is_ignored_is_ignored_in_a_description_of_rotary_positions_too() -> None:
    scaling = LLAMA_3_1["rope_scaling"] | {"own": 1}
    with pytest.raises(ModelError, match="'own' is 1, which nobody here knows"):
        parse_config(LLAMA_3_1 | {"rope_scaling": scaling})
    assert parse_config(LLAMA_3_1 | {"rope_scaling": scaling}, ["own"]) == parse_config(LLAMA_3_1)


def test_a_window_in_all_layers_of_a_qwen_is_it_again() -> None:
    config = parse_config(QWEN2_5 | {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0})
    written = json.loads(config_json(config, (), ()))
    assert (written["use_sliding_window"], written["max_window_layers"]) == (True, 0)
    assert parse_config(written) == config


@pytest.mark.parametrize(
    "switch",
    [
        {"attn_logit_softcapping": 50.0},
        {"final_logit_softcapping": 30.0},
        {"attention_multiplier": 0.0078125},
        {"embedding_multiplier": 12.0},
        {"residual_multiplier": 0.22},
        {"logits_scaling": 8.0},
        {"query_pre_attn_scalar": 224},
        {"use_qk_norm": True},
        {"no_rope_layers": [1, 1, 1, 0]},
        {"num_experts": 8},
        {"clip_qkv": 8.0},
        {"attention_sinks": True},
        {"dual_chunk_attention_config": {"chunk_size": 262144}},
        {"is_causal": False},
        {"partial_rotary_factor": 0.5},
        {"rope_interleaved": True},
        {"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_switches_of_other_architectures_are_refused_where_they_are_said(switch: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(switch))):
        parse_config(QWEN3 | switch)
