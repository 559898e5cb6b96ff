import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from p2pinfer.core.models.bf16 import to_bf16
from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk.importing import Trials, huggingface, import_model
from p2pinfer.disk.importing.safetensors_file import open_safetensors
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.disk.wishes import Wishes
from tests.disk.tiny import CONFIG, TEMPLATE, tiny_folder, tiny_tensors

FAMILIES = ["Llama", "Mistral", "Qwen2", "Qwen3"]


def all_bits(model: StoredModel) -> dict[str, list[int]]:
    """Every tensor of a stored model, as bf16 bits."""
    found = {}
    for path in model.folder.glob("*.safetensors"):
        found |= {name: tensor.read().ravel().tolist() for name, tensor in open_safetensors(path).items()}
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_what_transformers_saved_is_imported_value_for_value(family: str, store: Store, tmp_path: Path) -> None:
    import torch
    import transformers

    folder = tiny_folder(tmp_path / family)
    sizes = {
        key: value for key, value in CONFIG.items() if key.split("_")[0] in ("hidden", "intermediate", "num", "vocab")
    }
    model = getattr(transformers, f"{family}ForCausalLM")(
        getattr(transformers, f"{family}Config")(**sizes, max_position_embeddings=128, head_dim=4, pad_token_id=None)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(folder)
    expected = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    stored = import_model(str(folder), store)
    bits = {name: value.view(torch.uint16).ravel().tolist() for name, value in expected.items()}
    assert all_bits(stored) == bits
    assert stored.manifest.architecture == family.lower()


def test_the_manifest_says_what_the_folder_says(store: Store, tmp_path: Path) -> None:
    manifest = import_model(str(tiny_folder(tmp_path / "Tiny Model")), store).manifest
    assert (manifest.name, manifest.licence, manifest.template) == ("tiny-model", "apache-2.0", TEMPLATE)
    assert (manifest.bos, manifest.ends, manifest.layers, manifest.hidden) == ((258,), (259,), 2, 16)


def test_the_stored_configuration_is_canonical(store: Store, tmp_path: Path) -> None:
    stored = import_model(str(tiny_folder(tmp_path / "Tiny")), store)
    assert store.read(stored.id, "config.json") == (
        b'{"architectures":["LlamaForCausalLM"],"attention_bias":false,"bos_token_id":258,"eos_token_id":[259],'
        b'"head_dim":4,"hidden_act":"silu","hidden_size":16,"intermediate_size":24,"max_position_embeddings":128,'
        b'"model_type":"llama","num_attention_heads":4,"num_hidden_layers":2,"num_key_value_heads":2,'
        b'"rms_norm_eps":1e-05,"rope_scaling":null,"rope_theta":10000.0,"sliding_window":null,'
        b'"tie_word_embeddings":false,"torch_dtype":"bfloat16","vocab_size":260}'
    )


def test_import_is_deterministic(tmp_path: Path) -> None:
    folder = str(tiny_folder(tmp_path / "Tiny"))
    ids = {import_model(folder, Store(tmp_path / store)).id for store in ("a", "b")}
    assert len(ids) == 1


def test_shards_make_the_same_model_as_one_file(store: Store, tmp_path: Path) -> None:
    whole = import_model(str(tiny_folder(tmp_path / "Tiny")), store)
    assert import_model(str(sharded(tmp_path / "shards" / "Tiny")), store).id == whole.id


def test_bf16_weights_make_the_same_model_as_the_f32_they_came_from(store: Store, tmp_path: Path) -> None:
    rounded = {name: to_bf16(array) for name, array in tiny_tensors(CONFIG).items()}
    widened = {name: (bits.astype(np.uint32) << 16).view(np.float32) for name, bits in rounded.items()}
    whole = import_model(str(tiny_folder(tmp_path / "Tiny", widened)), store)
    assert whole.id == import_model(str(tiny_folder(tmp_path / "f32" / "Tiny")), store).id


def test_a_tied_matrix_is_stored_once(store: Store, tmp_path: Path) -> None:
    stored = import_model(str(tiny_folder(tmp_path / "Tiny", tie_word_embeddings=True)), store)
    with safe_open(stored.folder / "head.safetensors", "np") as file:
        assert list(file.keys()) == ["model.norm.weight"]


def test_a_tied_matrix_that_was_saved_twice_is_stored_once(store: Store, tmp_path: Path) -> None:
    tensors = tiny_tensors(CONFIG)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    twice = tiny_folder(tmp_path / "Tiny", tensors, tie_word_embeddings=True)
    once = tiny_folder(tmp_path / "once" / "Tiny", tie_word_embeddings=True)
    assert import_model(str(twice), store).manifest.size == import_model(str(once), store).manifest.size


def test_another_head_beside_the_embedding_it_should_be_tied_to_counts(store: Store, tmp_path: Path) -> None:
    """As in transformers, which says a word about it."""
    stored = import_model(str(tiny_folder(tmp_path / "Tiny", tiny_tensors(CONFIG), tie_word_embeddings=True)), store)
    assert not stored.manifest.tied
    assert json.loads(store.read(stored.id, "config.json"))["tie_word_embeddings"] is False


def test_files_have_no_metadata_and_tensors_in_order(store: Store, tmp_path: Path) -> None:
    stored = import_model(str(tiny_folder(tmp_path / "Tiny")), store)
    data = (stored.folder / "layer-000.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert list(header) == sorted(header)
    assert "__metadata__" not in header
    places = [entry["data_offsets"] for entry in header.values()]
    assert [start for start, _ in places] == [0, *(end for _, end in places[:-1])]
    assert len(data) == 8 + length + places[-1][1]


@pytest.mark.parametrize("eos", ["<|begin|>", {"content": "<|begin|>", "lstrip": False}], ids=str)
def test_the_end_that_templates_call_eos_comes_first(store: Store, tmp_path: Path, eos: object) -> None:
    folder = tiny_folder(tmp_path / "Tiny", eos_token_id=[259, 258])
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    assert import_model(str(folder), store).manifest.ends == (258, 259)


@pytest.mark.parametrize(("said", "bos"), [({}, (258,)), ({"bos_token": None}, ()), ({"bos_token": "<|end|>"}, (259,))])
def test_templates_get_the_bos_that_the_tokenizers_configuration_names(
    store: Store, tmp_path: Path, said: dict[str, object], bos: tuple[int, ...]
) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    assert import_model(str(folder), store).manifest.bos == bos


def test_what_templates_call_eos_is_an_end_whoever_else_says_so(store: Store, tmp_path: Path) -> None:
    """Else a chat would run on to its length."""
    folder = tiny_folder(tmp_path / "Tiny", eos_token_id=259)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|begin|>"}))
    assert import_model(str(folder), store).manifest.ends == (258, 259)


@pytest.mark.parametrize("eos", [None, "the", "<|none|>", 7, {"a": 1}, ["<|begin|>"]], ids=str)
def test_an_eos_that_is_no_end_changes_nothing(store: Store, tmp_path: Path, eos: object) -> None:
    folder = tiny_folder(tmp_path / "Tiny", eos_token_id=[259, 258])
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    assert import_model(str(folder), store).manifest.ends == (259, 258)


def test_a_template_is_tried_before_anything_is_stored(store: Store, tmp_path: Path) -> None:
    def never_ends(template: str) -> None:
        assert template == TEMPLATE
        raise KeyboardInterrupt  # of whoever waits for it

    with pytest.raises(KeyboardInterrupt):
        import_model(str(tiny_folder(tmp_path / "Tiny")), store, trials=Trials(template=never_ends))
    assert store.models() == []


def test_a_template_in_its_own_file_comes_first(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert import_model(str(folder), store).manifest.template == "{{ messages }}"


def test_of_several_templates_the_default_is_taken(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert import_model(str(folder), store).manifest.template == "y"


def test_end_ids_come_from_the_generation_configuration(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [259, 258, 259]}))
    assert import_model(str(folder), store).manifest.ends == (259, 258)


@pytest.mark.parametrize(
    ("said", "sampling"),
    [
        ({}, ()),
        ({"temperature": 0.6, "top_p": 0.9}, ()),
        ({"do_sample": False, "temperature": 0.6}, ()),
        ({"do_sample": True}, (1_000_000, 50, 1_000_000)),
        ({"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}, (600_000, 20, 950_000)),
        ({"do_sample": True, "temperature": 0, "top_k": 20}, ()),
        ({"do_sample": True, "temperature": None, "top_k": 0.0}, (1_000_000, 0, 1_000_000)),
    ],
    ids=str,
)
def test_ids_are_drawn_as_the_generation_configuration_says(
    store: Store, tmp_path: Path, said: dict[str, object], sampling: tuple[int, ...]
) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "generation_config.json").write_text(json.dumps(said))
    assert import_model(str(folder), store).manifest.sampling == sampling


@pytest.mark.parametrize("said", [{"temperature": "hot"}, {"temperature": -1}, {"top_p": 0}, {"top_k": 1.5}], ids=str)
def test_a_generation_configuration_that_cannot_be_is_refused(
    store: Store, tmp_path: Path, said: dict[str, object]
) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True} | said))
    with pytest.raises(ModelError, match=r"generation_config\.json says how to sample, and it cannot be"):
        import_model(str(folder), store)


def test_a_scaled_rope_is_kept(store: Store, tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8,
        "low_freq_factor": 1,
        "high_freq_factor": 4,
        "original_max_position_embeddings": 64,
    }
    stored = import_model(str(tiny_folder(tmp_path / "Tiny", rope_scaling=scaling)), store)
    assert json.loads(store.read(stored.id, "config.json"))["rope_scaling"] == scaling


def test_a_name_may_be_given(store: Store, tmp_path: Path) -> None:
    assert import_model(str(tiny_folder(tmp_path / "Tiny")), store, Wishes(name="My Own")).name == "my-own"


# What cannot be imported


MISTRAL = {"architectures": ["MistralForCausalLM"]}
QWEN = {"architectures": ["Qwen2ForCausalLM"]}
FULL, SLIDING = "full_attention", "sliding_attention"
LLAMA3 = {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "'GPT2LMHeadModel'. is not supported; these are: LlamaForCausalLM, Mist",
        ),
        ({"architectures": []}, "architecture .'none'. is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"mlp_bias": True}, "mlp_bias True"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised form"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "'yarn' is not supported; these are: default"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4}}, "does not say 'high_freq_factor'"),
        (
            {"attention_multiplier": 0.5},
            "'attention_multiplier' is 0.5, which nobody here knows.* --ignore att",
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "mscale": 0.7}}, "'mscale' is 0.7, which nobody here"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
        ({"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "a part of each head"),
        ({"model_type": "granite"}, "model_type 'granite' is not that of LlamaForCausalLM, which is llama"),
        ({**QWEN, "sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}, "some layers only"),
        ({**QWEN, "sliding_window": 8, "use_sliding_window": True, "layer_types": [FULL, SLIDING]}, "some layers only"),
        ({**MISTRAL, "sliding_window": 8, "layer_types": [FULL, SLIDING]}, "some layers only"),
        ({**MISTRAL, "sliding_window": 8, "layer_types": [FULL, FULL]}, "some layers only"),
        ({**MISTRAL, "layer_types": ["chunked_attention"] * 2}, "some layers only"),
        ({"num_attention_heads": "four"}, "cannot be"),
        ({"num_attention_heads": 0}, "a size of nothing"),
        ({"num_key_value_heads": 0}, "a size of nothing"),
        ({"head_dim": 0}, "a size of nothing"),
        ({"num_attention_heads": 4.5}, "4.5 is no whole number"),
        ({"num_hidden_layers": True}, "True is no whole number"),
        ({"vocab_size": "260"}, "'260' is no whole number"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0.0; it must be above 0"),
        ({"rms_norm_eps": -1}, "rms_norm_eps is -1.0; it must be above 0"),
        ({"rope_theta": 0}, "rope_theta is 0.0; it must be from 1.0 to"),
        ({"rope_theta": -5}, "rope_theta is -5.0; it must be from 1.0 to"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor of rope_scaling is 0.0; it must be from 1.0"),
        ({"rope_scaling": {"rope_type": "llama3"} | LLAMA3 | {"factor": -8}}, "factor of rope_scaling is -8.0"),
        ({"rope_scaling": {"rope_type": "llama3"} | LLAMA3 | {"low_freq_factor": 4}}, "the first must be above 0 and"),
        ({"rope_scaling": {"rope_type": "llama3"} | LLAMA3 | {"low_freq_factor": 0}}, "the first must be above 0 and"),
        (
            {"rope_scaling": {"rope_type": "llama3"} | LLAMA3 | {"original_max_position_embeddings": 0}},
            "original_max_position_embeddings is 0; it must be whole",
        ),
        ({"rope_scaling": [1]}, "cannot be"),
        ({**MISTRAL, "sliding_window": 0}, "sliding_window is 0 positions; it must be from 1"),
        ({**MISTRAL, "sliding_window": -3}, "sliding_window is -3 positions; it must be from 1"),
        ({**MISTRAL, "sliding_window": 1 << 40}, "sliding_window is 1099511627776 positions"),
        ({"eos_token_id": -1}, "cannot be described"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no', which is neither true nor false"),
        ({"attention_bias": 1}, "attention_bias is 1, which is neither true nor false"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "has shape|described|cannot"),
        ({"num_hidden_layers": 3}, "lacks 9 tensors, the first of them model.layers.2"),
        ({"num_hidden_layers": 1}, "9 tensors nobody would use"),
        ({"hidden_size": 32}, "the configuration says"),
        ({"attention_bias": True}, "lacks 8 tensors"),
        ({"eos_token_id": 4000}, "past a vocabulary"),
    ],
    ids=str,
)
def test_an_unsupported_configuration_is_refused(
    store: Store, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    folder = tiny_folder(tmp_path / "Tiny", tiny_tensors(CONFIG), **changes)
    with pytest.raises(ModelError, match=reason):
        import_model(str(folder), store)
    assert store.models() == []


def test_a_switch_that_changes_nothing_by_the_word_of_its_owner_is_ignored(store: Store, tmp_path: Path) -> None:
    plain, odd = (
        tiny_folder(tmp_path / "Tiny"),
        tiny_folder(tmp_path / "odd" / "Tiny", tiny_tensors(CONFIG), secret_sauce=3),
    )
    with pytest.raises(ModelError, match="'secret_sauce' is 3, which nobody here knows"):
        import_model(str(odd), store)
    assert import_model(str(odd), store, Wishes(ignored=["secret_sauce"])).id == import_model(str(plain), store).id


@pytest.mark.parametrize("key", ["hidden_act", "sliding_window", "factor", "quantization_config"])
def test_what_is_known_cannot_be_ignored(store: Store, tmp_path: Path, key: str) -> None:
    with pytest.raises(ModelError, match=f"'{key}' cannot be ignored: it is known what it changes"):
        import_model(str(tiny_folder(tmp_path / "Tiny")), store, Wishes(ignored=[key]))


def test_a_configuration_without_a_number_is_refused(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(ModelError, match="does not say 'hidden_size'"):
        import_model(str(folder), store)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(store: Store, tmp_path: Path, name: str) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        import_model(str(folder), store)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe\xfd", b"[1]", b"[" * 5000], ids=len)
def test_a_damaged_file_is_named(store: Store, tmp_path: Path, name: str, data: bytes) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / name).write_bytes(data)
    with pytest.raises(ModelError, match=name):
        import_model(str(folder), store)


@pytest.mark.parametrize("keep", [4, 8, 100, -1])
def test_truncated_weights_are_refused(store: Store, tmp_path: Path, keep: int) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors.*cut short"):
        import_model(str(folder), store)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max])
def test_weights_that_are_not_finite_are_refused(store: Store, tmp_path: Path, value: float) -> None:
    """MAN-5."""
    tensors = tiny_tensors(CONFIG)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value  # the largest float32 becomes infinite in bf16
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight has 1 values that are not finite"):
        import_model(str(tiny_folder(tmp_path / "Tiny", tensors)), store)


def test_weights_of_other_types_are_refused(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    save_file({"model.norm.weight": np.zeros(16, np.int8)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="values of 'I8'"):
        import_model(str(folder), store)


def test_an_index_that_names_a_missing_shard_is_refused(store: Store, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "Tiny")
    (folder / "part-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks 'part-2\.safetensors'"):
        import_model(str(folder), store)


def test_an_index_may_not_name_files_outside_the_folder(store: Store, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "Tiny")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../secret"}}))
    with pytest.raises(ModelError, match="outside the folder"):
        import_model(str(folder), store)


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]}},
        {"x": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        {"x": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 1 << 82]}},
        {"x": {"dtype": "F32", "shape": [4.0], "data_offsets": [0, 16]}},
        {"x": {"dtype": "F32", "shape": [4]}},
        {"x": {"dtype": "F32", "shape": [4], "data_offsets": [16]}},
        {"x": {"dtype": "F32", "shape": [4] + [1] * 8, "data_offsets": [0, 16]}},
        {"x": 1},
    ],
    ids=str,
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, header: dict[str, object]) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(ModelError):
        open_safetensors(path)


@pytest.mark.parametrize("source", ["", "nowhere", "/nowhere/model.gguf", "org/name"])
def test_a_source_that_is_nothing_is_refused(
    store: Store, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        import_model(source, store)


def test_rounding_is_to_nearest_and_ties_to_even() -> None:
    values = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0xBF808000, 0x00000001, 0x7F7FFFFF, 0x7F800001])
    expected = [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xBF80, 0, 0x7F80, 0x7FC0]
    assert to_bf16(values.astype(np.uint32).view(np.float32)).tolist() == expected


def sharded(folder: Path) -> Path:
    """The tiny folder with its tensors in two files."""
    tensors = tiny_tensors(CONFIG)
    tiny_folder(folder)
    (folder / "model.safetensors").unlink()
    places = {name: f"part-{1 + n % 2}.safetensors" for n, name in enumerate(sorted(tensors))}
    for part in sorted(set(places.values())):
        save_file({name: tensors[name] for name in places if places[name] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


# Numbers of strangers


def test_many_tensors_hold_few_files_open(tmp_path: Path) -> None:
    save_file({f"t{number}": np.zeros(1, np.float32) for number in range(2000)}, tmp_path / "many.safetensors")
    before = len(list(Path("/proc/self/fd").iterdir()))
    tensors = open_safetensors(tmp_path / "many.safetensors")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    assert len(tensors) == 2000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_hidden_layers": 100_000_000}, "100000000 layers, limit 999"),
        ({"num_hidden_layers": -1}, "a size of nothing"),
        ({"vocab_size": 1 << 40}, "more than 32 bits"),
        ({"num_hidden_layers": float("inf")}, "inf is no whole number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan; it must be above 0"),
        ({"rope_theta": 10**400}, "a value that cannot be"),
        ({"architectures": 5}, "a value that cannot be"),
        ({"architectures": [["LlamaForCausalLM"]]}, "a value that cannot be"),
    ],
    ids=str,
)
def test_a_number_that_no_model_has_is_refused_before_memory_is_taken(
    store: Store, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    tracemalloc.start()
    with pytest.raises(ModelError, match=reason):
        import_model(str(folder), store)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "README.md"])
def test_a_text_that_never_ends_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """MAN-16"""
    monkeypatch.setattr(huggingface, "MAX_MODEL_TEXT", 1 << 20)
    folder = tiny_folder(tmp_path / "Tiny")
    with (folder / name).open("r+b") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(ModelError, match="more than 1 MiB, which no such file needs"):
        import_model(str(folder), store)


def test_a_header_as_long_as_the_file_says_is_not_read(tmp_path: Path) -> None:
    """MAN-16"""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((1 << 30).to_bytes(8, "little"))
        file.truncate((1 << 30) + 8)
    with pytest.raises(ModelError, match="a header of 1073741824 bytes, limit 16777216"):
        open_safetensors(path)


def test_an_index_that_names_a_file_no_file_system_has_is_refused(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "x" * 300}}))
    with pytest.raises(ModelError, match=r"cannot read 'xxx.* which model\.safetensors\.index\.json names: File name"):
        import_model(str(folder), store)
