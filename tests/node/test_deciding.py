"""What is decided where the owner left it open."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2pinfer.core.values.errors import EngineError, UsageError
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine import choice
from p2pinfer.engine.gpu import Gpu
from p2pinfer.node import defaults as deciding
from p2pinfer.node.defaults import decided
from p2pinfer.node.settings import Serve
from tests.disk.tiny import tiny_folder

CARD = Gpu("Card", memory=8_000_000_000, free=7_000_000_000, read_gb_s=0.0)


@pytest.fixture
def model(tmp_path: Path) -> tuple[Store, StoredModel]:
    """Of sizes that the native kernel can compute."""
    store = Store(tmp_path / "store")
    return store, import_model(str(tiny_folder(tmp_path / "Tiny", hidden_size=64, intermediate_size=96)), store)


def no_kernel() -> None:
    raise EngineError("the native kernel is not built")


def test_a_cpu_gets_the_native_engine(model: tuple[Store, StoredModel]) -> None:
    assert decided(Serve(), *model) == Serve(numerics="i8g32-1")


def test_without_the_kernel_it_is_torch(model: tuple[Store, StoredModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "open_library", no_kernel)
    assert decided(Serve(), *model).numerics == "bf16-1"


def test_a_gpu_gets_torch_and_gives_half_its_memory(
    model: tuple[Store, StoredModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "look_at_gpu", lambda device: CARD)
    assert decided(Serve(device="cuda"), *model) == Serve(device="cuda", numerics="bf16-1", memory_mb=4_000)


def test_what_the_owner_said_stays(model: tuple[Store, StoredModel]) -> None:
    serve = Serve(device="cuda", numerics="i8h64-1", memory_mb=1_000)  # nobody looks at the GPU
    assert decided(serve, *model) == serve


def unseen(device: str) -> Gpu:
    raise AssertionError("why should anybody look at the GPU?")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_class_that_cannot_be_computed_is_refused(
    model: tuple[Store, StoredModel], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(choice, "open_library", no_kernel)
    monkeypatch.setattr(deciding, "look_at_gpu", unseen)
    with pytest.raises(UsageError, match="tiny cannot be served in i8g32-1: "):
        decided(Serve(device=device, numerics="i8g32-1"), *model)


def test_a_package_that_is_missing_is_named(model: tuple[Store, StoredModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "torch" else object())
    assert decided(Serve(), *model).numerics == "i8g32-1"
    with pytest.raises(UsageError, match=r"in f32-1: it needs torch: pip install 'p2pinfer\[node\]'"):
        decided(Serve(numerics="f32-1"), *model)
    monkeypatch.setattr(deciding, "look_at_gpu", unseen)
    with pytest.raises(UsageError, match="in bf16-1: it needs torch"):
        decided(Serve(device="cuda"), *model)


def test_a_gpu_that_others_fill_is_told(
    model: tuple[Store, StoredModel], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deciding, "look_at_gpu", lambda device: replace(CARD, free=3_000_000_000))
    assert decided(Serve(device="cuda"), *model).memory_mb == 4_000
    assert "Card has 3000 MB free, less than the half that is taken: set serve.memory_mb" in caplog.text
