"""protocols/vectors/manifest.json against the code, and against the program that made it."""

import json
import tempfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from p2pinfer.core.models.bf16 import to_bf16
from p2pinfer.core.models.config_json import parse_config
from p2pinfer.core.models.manifest import Manifest, decode_manifest, model_id
from p2pinfer.core.values.errors import ModelError, RemoteProtocolError
from p2pinfer.disk.importing.naming import model_name
from p2pinfer.disk.importing.safetensors_file import write_safetensors
from p2pinfer.engine.choice import read_config
from tests.vectors.make_manifest import (
    DEMO,
    GOOD_CONFIGS,
    GOOD_FITS,
    GOOD_MANIFESTS,
    PATH,
    REFUSED,
    Vector,
    again,
    text_of,
    vectors,
)

VECTORS: dict[str, list[Vector]] = json.loads(PATH.read_text())
GOOD = [vector for vector in VECTORS["manifests"] if vector["expect"] == "ok"]
BAD = [vector for vector in VECTORS["manifests"] if vector["expect"] != "ok"]


def test_the_file_is_what_the_program_makes() -> None:
    (demo,) = [bytes.fromhex(vector["manifest"]) for vector in GOOD if vector["name"] == DEMO]
    assert PATH.read_text() == text_of(vectors(demo))


def test_failures_outnumber_successes() -> None:
    assert len(BAD) > 5 * len(GOOD)


def test_every_vector_has_a_name_of_its_own() -> None:
    names = [vector["name"] for vector in VECTORS["manifests"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("vector", GOOD, ids=lambda vector: vector["name"])
def test_a_good_manifest_has_its_id(vector: Vector) -> None:
    data = bytes.fromhex(vector["manifest"])
    assert decode_manifest(data).id.hex() == model_id(data).hex() == vector["id"]


@pytest.mark.parametrize("vector", BAD, ids=lambda vector: vector["name"])
def test_a_bad_manifest_is_refused_with_its_code(vector: Vector) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_manifest(bytes.fromhex(vector["manifest"]))
    assert caught.value.code.label == vector["expect"]


def test_what_is_said_to_be_good_is_there() -> None:
    for group, good in (("manifests", GOOD_MANIFESTS), ("configs", GOOD_CONFIGS), ("fits", GOOD_FITS)):
        assert {vector["name"] for vector in VECTORS[group] if vector["expect"] == "ok"} == good


def engine_takes(text: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(text)
        try:
            read_config(path)
        except ModelError:
            return False
    return True


def fits(manifest: Manifest, config: str) -> bool:
    try:
        parse_config(json.loads(config)).check_fits(manifest)
    except ModelError:
        return False
    return True


@pytest.mark.parametrize("vector", VECTORS["configs"], ids=lambda vector: vector["name"])
def test_a_config_is_taken_or_refused(vector: Vector) -> None:
    assert engine_takes(vector["config"]) == (vector["expect"] == "ok")


@pytest.mark.parametrize("vector", VECTORS["fits"], ids=lambda vector: vector["name"])
def test_a_config_is_the_manifests_or_refused(vector: Vector) -> None:
    assert fits(decode_manifest(bytes.fromhex(vector["manifest"])), vector["config"]) == (vector["expect"] == "ok")


@pytest.mark.parametrize("vector", VECTORS["rounding"], ids=lambda vector: vector["name"])
def test_a_value_is_rounded(vector: Vector) -> None:
    rounded = int(to_bf16(np.frombuffer(bytes.fromhex(vector["f32"])[::-1], "<f4"))[0])
    is_finite = rounded & 0x7F80 != 0x7F80  # whoever imports refuses what is not
    assert (f"{rounded:04x}" if is_finite else REFUSED) == vector["expect"]


@pytest.mark.parametrize("vector", VECTORS["safetensors"], ids=lambda vector: vector["name"])
def test_a_file_has_these_bytes(vector: Vector, tmp_path: Path) -> None:
    tensors = {
        name: np.frombuffer(bytes.fromhex(values), "<u2").reshape(shape)
        for name, (shape, values) in vector["tensors"].items()
    }
    path = tmp_path / "x.safetensors"
    file = write_safetensors(path, {name: array.shape for name, array in tensors.items()}, tensors.__getitem__)
    assert path.read_bytes().hex() == vector["expect"]
    assert file.digest.hex() == sha256(path.read_bytes()).hexdigest() == vector["sha256"]


@pytest.mark.parametrize("vector", VECTORS["names"], ids=lambda vector: ascii(vector["given"]))
def test_a_source_names_its_model(vector: Vector) -> None:
    if vector["expect"] == REFUSED:
        with pytest.raises(ModelError):
            model_name(vector["given"])
    else:
        assert model_name(vector["given"]) == vector["expect"]


@pytest.mark.parametrize(
    ("group", "vector"),
    [(group, vector) for group in ("texts", "wholes", "chats") for vector in VECTORS[group]],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_a_text_is_what_the_vector_says(group: str, vector: Vector) -> None:
    assert again(group, vector) == vector
