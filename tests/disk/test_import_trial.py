"""Texts of strangers' models, before an import reads them: what they do to the trial's process is done to no other."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk.import_trial import TrialBounds, try_texts
from p2pinfer.disk.importing import Trials, import_model
from p2pinfer.disk.store import Store
from p2pinfer.disk.wishes import NO_WISHES, Wishes
from tests.disk.tiny import crashing_tokenizer, tiny_folder, tiny_gguf

TIGHT = TrialBounds(memory=350 << 20, work_s=20.0)
ODD = "secret_sauce"


def odd_folder(folder: Path) -> Path:
    """A model with a switch that nobody knows."""
    tiny_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {ODD: 1}))
    return folder


def test_texts_of_a_usual_model_come_through(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf")
    for source in (tiny_folder(tmp_path / "Tiny"), tmp_path / "a.gguf"):
        trials = Trials(partial(try_texts, bounds=TIGHT))
        assert import_model(str(source), store, trials=trials).id == import_model(str(source), store).id


@pytest.mark.parametrize("wishes", [NO_WISHES, Wishes(name="\ud800"), Wishes(ignored=["vocab_size"])])
def test_a_fault_is_told_as_an_import_tells_it(store: Store, tmp_path: Path, wishes: Wishes) -> None:
    folder = odd_folder(tmp_path / "Tiny")
    with pytest.raises(ModelError) as told:
        try_texts(folder, wishes)
    with pytest.raises(ModelError) as imported:
        import_model(str(folder), store, wishes)
    assert str(told.value) == str(imported.value)


def test_what_is_ignored_is_ignored_there_too(tmp_path: Path) -> None:
    try_texts(odd_folder(tmp_path / "Tiny"), Wishes(ignored=[ODD]))


def many_lists(name: str) -> Callable[[Path], None]:
    """A file of few bytes that takes thirty times as many as Python's values."""

    def write(folder: Path) -> None:
        (folder / name).write_text(f'{{"a": [{"[[]]," * 2_500_000}1]}}')

    return write


def crash(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(crashing_tokenizer())


SPOILT = [many_lists("config.json"), many_lists("tokenizer.json"), many_lists("tokenizer_config.json"), crash]


@pytest.mark.parametrize("spoil", SPOILT)
def test_texts_that_take_too_much_or_crash_end_their_own_process_alone(
    store: Store, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    spoil(folder)
    with pytest.raises(ModelError, match=r"take more than 20 s or 350 MiB to read, or crash what reads them"):
        import_model(str(folder), store, trials=Trials(partial(try_texts, bounds=TIGHT)))
    assert store.models() == []


def test_texts_that_take_too_long_end_their_own_process_alone(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"take more than 0.01 s"):
        try_texts(tiny_folder(tmp_path / "Tiny"), NO_WISHES, TrialBounds(work_s=0.01))
