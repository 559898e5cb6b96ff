from pathlib import Path

import pytest

from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.importing.hub import fetch
from p2pinfer.disk.store import Store
from p2pinfer.disk.wishes import Wishes
from tests.disk.hub import serving_hub
from tests.disk.test_import_huggingface import sharded
from tests.disk.tiny import tiny_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's cache, in a folder of the test."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_model_from_the_hub_is_the_one_from_its_folder(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    with serving_hub(folder, "org/Tiny") as endpoint:
        stored = import_model("hub:org/Tiny", store, Wishes(endpoint=endpoint))
    assert stored == import_model(str(folder), store)


def test_shards_are_fetched(store: Store, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "Tiny")
    with serving_hub(folder, "org/Tiny") as endpoint:
        assert import_model("hub:org/Tiny@main", store, Wishes(endpoint=endpoint)) == import_model(str(folder), store)


def test_only_what_an_import_needs_is_fetched(tmp_path: Path, cache: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    for name in ("pytorch_model.bin", "consolidated.safetensors", "vocab.txt"):
        (folder / name).write_bytes(b"large")
    with serving_hub(folder, "org/Tiny") as endpoint:
        fetched = fetch("org/Tiny", endpoint, cache)
    wanted = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in fetched.iterdir()) == wanted


def test_progress_is_told_in_bytes(tmp_path: Path, cache: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    seen: list[tuple[str, int, int]] = []
    with serving_hub(folder, "org/Tiny") as endpoint:
        fetch("org/Tiny", endpoint, cache, lambda *now: seen.append(now))
    total = sum(path.stat().st_size for path in folder.iterdir())
    assert seen[-1] == ("fetching", total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_text_that_is_too_long_is_not_fetched(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAN-16"""
    folder = tiny_folder(tmp_path / "Tiny")
    size = (folder / "tokenizer.json").stat().st_size
    monkeypatch.setattr("p2pinfer.disk.importing.hub.MAX_MODEL_TEXT", size - 1)
    told = f"org/Tiny on the hub: tokenizer.json has {size} bytes, limit {size - 1}"
    with serving_hub(folder, "org/Tiny", refused="tokenizer.json") as endpoint, pytest.raises(ModelError, match=told):
        fetch("org/Tiny", endpoint, cache)


def test_a_model_the_hub_does_not_have_is_refused(store: Store, tmp_path: Path) -> None:
    with (
        serving_hub(tiny_folder(tmp_path / "Tiny"), "org/Tiny") as endpoint,
        pytest.raises(ModelError, match="the hub has no model org/Other"),
    ):
        import_model("hub:org/Other", store, Wishes(endpoint=endpoint))


def test_a_name_that_cannot_be_is_refused(store: Store) -> None:
    with pytest.raises(ModelError, match="is not ORG/NAME"):
        import_model("hub:a/b/c", store, Wishes(endpoint="http://127.0.0.1:9"))


def test_a_hub_that_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(ModelError, match="cannot get org/Tiny from the hub"):
        import_model("hub:org/Tiny", store, Wishes(endpoint="http://127.0.0.1:9"))


def test_a_file_the_hub_does_not_give_out_is_said(store: Store, tmp_path: Path) -> None:
    with (
        serving_hub(tiny_folder(tmp_path / "Tiny"), "org/Tiny", refused="tokenizer.json") as endpoint,
        pytest.raises(ModelError, match="cannot get org/Tiny from the hub"),
    ):
        import_model("hub:org/Tiny", store, Wishes(endpoint=endpoint))
    assert store.models() == []


def test_a_model_without_safetensors_is_refused(store: Store, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "model.safetensors").unlink()
    with serving_hub(folder, "org/Tiny") as endpoint, pytest.raises(ModelError, match="only safetensors"):
        import_model("hub:org/Tiny", store, Wishes(endpoint=endpoint))
