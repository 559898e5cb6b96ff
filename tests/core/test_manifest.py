import hashlib
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.models.manifest import (
    MAX_MANIFEST,
    File,
    Manifest,
    Shape,
    decode_manifest,
    encode_manifest,
    file_names,
    layer_flops,
    model_id,
)
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import to_list
from p2pinfer.core.values.units import Roles, Span

SHAPE = Shape(layers=3, hidden=16, intermediate=24, heads=4, kv_heads=2, head_size=4, vocabulary=260, context=128)
FILES = tuple(File(name, n, bytes([n]) * 32) for n, name in enumerate(sorted(file_names(3))))
TINY = Manifest(
    name="tiny",
    architecture="llama",
    licence="apache-2.0",
    dtype="bf16",
    sizes=tuple(SHAPE),
    tied=0,
    flops=layer_flops(SHAPE),
    bos=(258,),
    ends=(259,),
    template="",
    files=FILES,
)


def names(files: tuple[File, ...]) -> list[str]:
    return [file.name for file in files]


def test_a_manifest_survives_its_bytes() -> None:
    assert decode_manifest(encode_manifest(TINY)) == TINY


def test_the_id_is_the_hash_of_domain_and_bytes() -> None:
    data = encode_manifest(TINY)
    assert TINY.id == model_id(data) == hashlib.sha256(b"p2pinfer/1/manifest\0" + data).digest()


def test_another_name_is_another_id() -> None:
    assert replace(TINY, name="tiny2").id != TINY.id


def test_flops_are_two_for_each_weight_and_four_for_each_value_attended_to_in_half_the_context() -> None:
    weights = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 24
    assert layer_flops(SHAPE) == 2 * weights + 4 * 4 * 4 * 64


def test_a_middle_stage_needs_configuration_and_its_layers() -> None:
    assert names(TINY.files_of(Span(1, 2), Roles.MIDDLE)) == ["config.json", "layer-001.safetensors"]


def test_a_head_needs_the_embedding() -> None:
    wanted = ["config.json", "layer-000.safetensors", "embedding.safetensors"]
    assert names(TINY.files_of(Span(0, 1), Roles.HEAD)) == wanted


def test_a_tail_needs_norm_output_head_and_tokenizer() -> None:
    wanted = ["config.json", "layer-002.safetensors", "head.safetensors", "tokenizer.json"]
    assert names(TINY.files_of(Span(2, 3), Roles.TAIL)) == wanted


def test_a_tail_of_a_tied_model_needs_the_embedding_too() -> None:
    tied = replace(TINY, tied=1)
    wanted = ["config.json", "layer-002.safetensors", "embedding.safetensors", "head.safetensors", "tokenizer.json"]
    assert names(tied.files_of(Span(2, 3), Roles.TAIL)) == wanted


def test_a_solo_peer_needs_every_file_once() -> None:
    assert sorted(TINY.files_of(TINY.span, Roles.HEAD | Roles.TAIL)) == list(FILES)


@pytest.mark.parametrize(
    ("span", "roles"),
    [
        (Span(0, 1), Roles.HEAD),
        (Span(1, 2), Roles.MIDDLE),
        (Span(2, 3), Roles.TAIL),
        (Span(0, 3), Roles.HEAD | Roles.TAIL),
    ],
)
def test_roles_follow_from_the_span(span: Span, roles: Roles) -> None:
    assert TINY.roles_of(span) == roles


def test_a_span_past_the_last_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="layers 2:4 of a model of 3"):
        TINY.files_of(Span(2, 4), Roles.TAIL)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "two\nlines"},
        {"name": "n" * 97},
        {"architecture": "gpt2"},
        {"dtype": "f32"},
        {"tied": 2},
        {"tied": True},
        {"sizes": (*SHAPE[:7], 0)},
        {"sizes": SHAPE[:7]},
        {"sizes": tuple(SHAPE._replace(kv_heads=3))},
        {"sizes": tuple(SHAPE._replace(head_size=5))},
        {"sizes": tuple(SHAPE._replace(layers=1000))},
        {"sizes": tuple(SHAPE._replace(layers=2))},
        {"bos": (260,)},
        {"bos": (1, 2)},
        {"ends": (260,)},
        {"ends": (1, 1)},
        {"template": "t" * (256 * 1024 + 1)},
        {"template": "\ud800"},
        {"files": FILES[:-1]},
        {"files": FILES[::-1]},
        {"files": (*FILES, FILES[0])},
        {"files": (replace(FILES[0], name="../config.json"), *FILES[1:])},
    ],
    ids=str,
)
def test_what_cannot_be_is_no_manifest(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(TINY, **change)


def _array() -> list[object]:
    return [1, *to_list(TINY)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        msgpack.packb([]),
        msgpack.packb(1),
        msgpack.packb({}),
        msgpack.packb([2, *_array()[1:]]),
        msgpack.packb([True, *_array()[1:]]),
        msgpack.packb(_array()[:-1]),
        msgpack.packb([*_array(), 0]),
        msgpack.packb(_array()) + b"\0",
        msgpack.packb(_array())[:-1],
        msgpack.packb(_array(), use_bin_type=False),
        msgpack.packb(_array()).replace(b"\xa4tiny", b"\xd9\x04tiny"),
        b"\x91" * 1023 + b"\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xc0" * (MAX_MANIFEST + 1),
    ],
    ids=lambda data: f"{data[:6].hex()}+{len(data)}",
)
def test_bytes_that_are_no_manifest_are_a_bad_record(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_manifest(data)
    assert caught.value.code is Code.BAD_RECORD


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_a_bad_record(data: bytes) -> None:
    _decodes(data)


@given(st.integers(0, len(encode_manifest(TINY)) - 1), st.integers(0, 255))
def test_a_changed_byte_is_another_manifest_or_a_bad_record(place: int, byte: int) -> None:
    data = bytearray(encode_manifest(TINY))
    data[place] = byte
    _decodes(bytes(data))


def _decodes(data: bytes) -> None:
    try:
        assert encode_manifest(decode_manifest(data)) == data
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_RECORD
