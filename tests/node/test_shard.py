"""What a node loads is what the manifest says."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from p2pinfer.core.models.manifest import CONFIG, File, encode_manifest
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Span
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.settings import Serve
from p2pinfer.node.shard import shard_spec
from tests.disk.tiny import tiny_folder

SERVE = Serve(numerics="f32-1")


def stored(store: Store, model: StoredModel, **changes: object) -> StoredModel:
    """The model with another config.json, whose hash its manifest has."""
    config = json.dumps(json.loads((model.folder / CONFIG).read_text()) | changes).encode()
    entry = File(CONFIG, len(config), hashlib.sha256(config).digest())
    files = tuple(entry if file.name == CONFIG else file for file in model.manifest.files)
    with store.new_model() as draft:
        shutil.copytree(model.folder, draft, dirs_exist_ok=True)
        (draft / CONFIG).write_bytes(config)
        return store.add_model(draft, encode_manifest(replace(model.manifest, files=files)))


def test_a_config_of_another_model_is_not_loaded(tmp_path: Path) -> None:
    """MAN-14: else one stage takes ids that the next has no row for."""
    store = Store(tmp_path / "store")
    model = import_model(str(tiny_folder(tmp_path / "Tiny")), store)
    assert shard_spec(store, model, Span(0, 2), SERVE).span == Span(0, 2)
    assert shard_spec(store, stored(store, model, eos_token_id=[3]), Span(0, 2), SERVE).span == Span(0, 2)
    for changes in ({"vocab_size": 280}, {"tie_word_embeddings": True}, {"architectures": ["MistralForCausalLM"]}):
        with pytest.raises(ModelError, match=r"config\.json is of another model than the manifest"):
            shard_spec(store, stored(store, model, **changes), Span(0, 2), SERVE)
