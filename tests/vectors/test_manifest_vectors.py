import json

import pytest

from p2pinfer.core.models.manifest import check_sizes, decode_manifest, model_id
from p2pinfer.core.values.errors import ModelError, RemoteProtocolError
from p2pinfer.disk.importing.config import read_config
from tests.vectors.make_manifest import DEMO, PATH, Vector, again, engine_takes, text_of, vectors

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


@pytest.mark.parametrize("vector", VECTORS["configs"], ids=lambda vector: vector["name"])
def test_an_engine_and_an_import_take_the_same_numbers(vector: Vector) -> None:
    assert engine_takes(vector["config"]) == import_takes(vector["config"]) == (vector["expect"] == "ok")


@pytest.mark.parametrize(
    ("group", "vector"),
    [(group, vector) for group in ("texts", "wholes", "chats") for vector in VECTORS[group]],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_a_text_is_what_the_vector_says(group: str, vector: Vector) -> None:
    assert again(group, vector) == vector


def import_takes(text: str) -> bool:
    try:
        check_sizes(read_config(json.loads(text), {}).shape)
    except (ModelError, ValueError):
        return False
    return True
