"""Which engine computes a model here, and what is said where it is not the fastest."""

from pathlib import Path

import pytest

from p2pinfer.core.values.errors import EngineError, ModelError
from p2pinfer.core.values.units import Numerics
from p2pinfer.engine import choice
from p2pinfer.engine.choice import NATIVE, fastest_numerics, obstacles
from p2pinfer.engine.native.library import open_library

from .conftest import Tiny


def test_the_native_engine_is_the_fastest(even_llama: Tiny) -> None:
    assert fastest_numerics(even_llama.folder / "config.json", "cpu") == (Numerics.I8G32_1, "")


def test_a_shape_it_does_not_take_goes_to_torch(llama: Tiny) -> None:
    numerics, why = fastest_numerics(llama.folder / "config.json", "cpu")
    assert (numerics, why) == (Numerics.BF16_1, "its hidden size is 80, no multiple of 32")


def test_without_the_kernel_torch_computes(even_llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise EngineError("the native kernel is not built")

    monkeypatch.setattr(choice, "open_library", missing)
    expected = (Numerics.BF16_1, "the native kernel is not built")
    assert fastest_numerics(even_llama.folder / "config.json", "cpu") == expected


def test_it_is_said_of_every_class_whether_it_can_be_computed(even_llama: Tiny, llama: Tiny) -> None:
    assert obstacles(even_llama.folder / "config.json", "cpu") == dict.fromkeys(Numerics, "")
    why = obstacles(llama.folder / "config.json", "cpu")
    assert {numerics for numerics in Numerics if why[numerics]} == NATIVE


def test_a_file_that_is_no_kernel_is_named(tmp_path: Path) -> None:
    (tmp_path / "kernel.so").write_bytes(b"no library")
    with pytest.raises(EngineError, match=r"cannot be loaded: .*kernel\.so"):
        open_library(tmp_path / "kernel.so")


def test_a_config_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        fastest_numerics(tmp_path / "config.json", "cpu")
