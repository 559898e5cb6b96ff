import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pinfer.core.models.manifest import encode_manifest
from p2pinfer.core.values.errors import ModelError, RemoteProtocolError
from p2pinfer.core.values.units import ModelId
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.disk.wishes import Wishes
from tests.disk.tiny import tiny_folder, tiny_tokenizer

NOBODY = ModelId(bytes(32))


@pytest.fixture
def tiny(store: Store, tmp_path: Path) -> StoredModel:
    return import_model(str(tiny_folder(tmp_path / "Tiny")), store)


def other(store: Store, tmp_path: Path, **changes: object) -> StoredModel:
    """Another model of the same name."""
    return import_model(str(tiny_folder(tmp_path / "other" / "Tiny", **changes)), store)


# Finding


def test_a_model_is_found_by_name_in_any_case(store: Store, tiny: StoredModel) -> None:
    assert store.find("TINY") == store.find("tiny") == tiny


def test_a_model_is_found_by_its_id_or_the_beginning_of_it(store: Store, tiny: StoredModel) -> None:
    assert store.find(tiny.id.hex()) == store.find(tiny.id.hex()[:8].upper()) == tiny


def test_a_few_digits_are_no_id(store: Store, tiny: StoredModel) -> None:
    with pytest.raises(ModelError, match="no model"):
        store.find(tiny.id.hex()[:7])


def test_an_unknown_model_is_refused_with_the_names_there_are_and_how_to_import(
    store: Store, tiny: StoredModel
) -> None:
    with pytest.raises(ModelError, match=r"no model 'big'.* holds tiny; .*p2pinfer model import"):
        store.find("big")


def test_an_empty_store_says_so(store: Store) -> None:
    with pytest.raises(ModelError, match="which holds no model"):
        store.find("big")


def test_an_ambiguous_name_is_refused_with_the_ids(store: Store, tiny: StoredModel, tmp_path: Path) -> None:
    """MAN-8."""
    twin = other(store, tmp_path, rope_theta=20000.0)
    with pytest.raises(ModelError) as caught:
        store.find("tiny")
    assert tiny.id.hex() in str(caught.value)
    assert twin.id.hex() in str(caught.value)


def test_models_come_in_order_of_their_names(store: Store, tiny: StoredModel, tmp_path: Path) -> None:
    first = import_model(str(tmp_path / "Tiny"), store, Wishes(name="a"))
    assert store.models() == [first, tiny]


def test_another_process_finds_the_model(store: Store, tiny: StoredModel) -> None:
    assert Store(store.root).find("tiny") == tiny


def test_folders_of_other_names_are_no_models(store: Store, tiny: StoredModel) -> None:
    (store.root / "models" / "notes").mkdir()
    (store.root / "models" / ("Z" * 64)).mkdir()
    assert store.models() == [tiny]


def test_an_altered_manifest_is_damaged_and_no_model(store: Store, tiny: StoredModel) -> None:
    data = (tiny.folder / "manifest").read_bytes()
    (tiny.folder / "manifest").write_bytes(data.replace(b"tiny", b"tony"))
    fresh = Store(store.root)
    assert fresh.models() == []
    assert fresh.damaged() == [tiny.folder]


def test_a_store_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a folder")
    with pytest.raises(ModelError, match="cannot read the store"):
        Store(tmp_path).models()


# Reading


def test_a_file_is_read_whole(store: Store, tiny: StoredModel) -> None:
    assert store.read(tiny.id, "tokenizer.json") == tiny_tokenizer()


def test_a_file_is_read_in_parts(store: Store, tiny: StoredModel) -> None:
    whole = tiny_tokenizer()
    assert store.read_part(tiny.id, "tokenizer.json", 10, 5) == (len(whole), whole[10:15])


def test_a_part_past_the_end_is_empty(store: Store, tiny: StoredModel) -> None:
    assert store.read_part(tiny.id, "tokenizer.json", 1 << 40, 5) == (len(tiny_tokenizer()), b"")


def test_the_manifest_is_the_file_without_a_name(store: Store, tiny: StoredModel) -> None:
    data = encode_manifest(tiny.manifest)
    assert store.read_part(tiny.id, "", 0, 1 << 20) == (len(data), data)


@pytest.mark.parametrize("name", ["../../secret", "manifest", "/etc/passwd", "layer-002.safetensors", "."])
def test_no_name_reaches_what_the_manifest_does_not_name(store: Store, tiny: StoredModel, name: str) -> None:
    """MAN-7."""
    with pytest.raises(ModelError, match="has no file"):
        store.read_part(tiny.id, name, 0, 10)


@pytest.mark.parametrize("name", ["", "tokenizer.json"])
def test_a_part_of_an_unknown_model_is_refused(store: Store, name: str) -> None:
    with pytest.raises(ModelError, match="no model 00000000"):
        store.read_part(NOBODY, name, 0, 10)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\0" + data[1:]])
def test_an_altered_file_is_refused_when_first_read(
    store: Store, tiny: StoredModel, change: Callable[[bytes], bytes]
) -> None:
    path = tiny.folder / "layer-001.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelError, match="was altered"):
        Store(store.root).path(tiny.id, "layer-001.safetensors")


def test_a_lost_file_is_refused(store: Store, tiny: StoredModel) -> None:
    (tiny.folder / "head.safetensors").unlink()
    with pytest.raises(ModelError, match="is not there"):
        Store(store.root).path(tiny.id, "head.safetensors")


def test_importing_again_repairs_a_model(store: Store, tiny: StoredModel, tmp_path: Path) -> None:
    (tiny.folder / "head.safetensors").write_bytes(b"altered")
    import_model(str(tmp_path / "Tiny"), store)
    assert Store(store.root).path(tiny.id, "head.safetensors").exists()


# Adding in parts, as a client does


def test_a_client_keeps_manifest_and_tokenizer_only(tiny: StoredModel, tmp_path: Path) -> None:
    client = Store(tmp_path / "client")
    client.add_manifest(encode_manifest(tiny.manifest), tiny.id)
    client.add_file(tiny.id, "tokenizer.json", [tiny_tokenizer()[:7], tiny_tokenizer()[7:]])
    assert client.find("tiny").id == tiny.id
    assert client.read(tiny.id, "tokenizer.json") == tiny_tokenizer()
    assert client.missing(tiny.id, ["tokenizer.json", "config.json"]) == ("config.json",)


def test_a_model_in_part_is_completed_by_importing(tiny: StoredModel, tmp_path: Path) -> None:
    client = Store(tmp_path / "client")
    client.add_manifest(encode_manifest(tiny.manifest))
    import_model(str(tmp_path / "Tiny"), client)
    assert client.missing(tiny.id, [file.name for file in tiny.manifest.files]) == ()
    assert len(list((client.root / "models").iterdir())) == 1


def test_the_manifest_of_another_model_is_refused(tiny: StoredModel, tmp_path: Path) -> None:
    """MAN-6."""
    with pytest.raises(RemoteProtocolError, match="not of 00000000"):
        Store(tmp_path / "client").add_manifest(encode_manifest(tiny.manifest), NOBODY)
    assert not (tmp_path / "client").exists()


def test_bytes_that_are_no_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RemoteProtocolError, match="no manifest"):
        Store(tmp_path / "client").add_manifest(b"\x90")


@pytest.mark.parametrize(
    "parts", [[], [b"short"], [tiny_tokenizer(), b"more"], [tiny_tokenizer().replace(b"BPE", b"BPF")]], ids=len
)
def test_a_wrong_file_is_not_kept(tiny: StoredModel, tmp_path: Path, parts: list[bytes]) -> None:
    """MAN-6."""
    client = Store(tmp_path / "client")
    client.add_manifest(encode_manifest(tiny.manifest))
    with pytest.raises(RemoteProtocolError, match=r"tokenizer\.json"):
        client.add_file(tiny.id, "tokenizer.json", parts)
    assert [path.name for path in client.find("tiny").folder.iterdir()] == ["manifest"]


def test_a_file_the_manifest_does_not_name_is_refused(store: Store, tiny: StoredModel) -> None:
    with pytest.raises(ModelError, match="has no file"):
        store.add_file(tiny.id, "../evil", [b""])


def test_a_file_of_an_unknown_model_is_refused(store: Store) -> None:
    with pytest.raises(ModelError, match="no model"):
        store.add_file(NOBODY, "tokenizer.json", [b""])


# Trouble while building


def test_a_failed_import_leaves_nothing(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\xff\xff\xff\xff")  # the last value is no number now
    with pytest.raises(ModelError, match="not finite"):
        import_model(str(folder), store)
    assert list((store.root / "models").iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    program = (
        "import sys; from pathlib import Path\n"
        "from p2pinfer.disk.importing import import_model; from p2pinfer.disk.store import Store\n"
        "from p2pinfer.core.values.errors import ModelError\n"
        "try: import_model(sys.argv[1], Store(Path(sys.argv[2])))\n"
        "except ModelError as error: print(error)\n"
    )

    def no_big_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "store")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=no_big_files)
    assert result.stdout.startswith("cannot write the store: File too large")
    assert list((tmp_path / "store" / "models").iterdir()) == []


def test_what_a_killed_import_left_is_swept_by_a_later_one(store: Store, tmp_path: Path) -> None:
    leftover = store.root / "models" / ".new-killed"
    leftover.mkdir(parents=True)
    os.utime(leftover, (0, 0))
    import_model(str(tiny_folder(tmp_path / "Tiny")), store)
    assert not leftover.exists()


# Removing


def test_a_model_that_is_removed_leaves_nothing(store: Store, tiny: StoredModel, tmp_path: Path) -> None:
    kept = other(store, tmp_path, hidden_size=32)
    store.remove(tiny.id)
    assert store.models() == Store(store.root).models() == [kept]
    assert [path.name for path in (store.root / "models").iterdir()] == [kept.id.hex()]


def test_a_model_in_use_stays(store: Store, tiny: StoredModel) -> None:
    """A node that serves it reads its files again when it moves."""
    with store.in_use(tiny.id), store.in_use(tiny.id):
        with pytest.raises(ModelError, match="a node of this machine serves model"):
            Store(store.root).remove(tiny.id)
        assert not store.missing(tiny.id, [file.name for file in tiny.manifest.files])
    store.remove(tiny.id)


def test_a_model_that_is_gone_cannot_be_used(store: Store, tiny: StoredModel) -> None:
    store.remove(tiny.id)
    with pytest.raises(ModelError, match="is not there"), store.in_use(tiny.id):
        raise AssertionError("it is gone")
