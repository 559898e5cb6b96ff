"""`p2pinfer bench engine`: real engines with a tiny model; what they are timed at is nobody's business here."""

import json
from pathlib import Path

import pytest
from rich.text import Text

from p2pinfer.cli.bench import BAR, bar
from p2pinfer.core.values.errors import EngineError, UsageError
from p2pinfer.core.values.units import Numerics
from p2pinfer.diagnosis import engine_comparison as comparing
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store
from p2pinfer.disk.wishes import Wishes
from p2pinfer.engine import choice
from p2pinfer.engine.gpu import Gpu
from tests.cli.books import Ran, Shell
from tests.disk.tiny import tiny_folder

NATIVE = {"hidden_size": 64, "intermediate_size": 96}  # sizes that the native kernel can compute
QUICK = ("--sessions", "1,2", "--context", "20", "--threads", "1")
KEYS = ("engine", "class", "threads", "sessions", "decode_tokens_per_second", "prefill_tokens_per_second", "of_floor")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one model."""
    root = tmp_path_factory.mktemp("bench")
    import_model(str(tiny_folder(root / "Tiny", **NATIVE)), Store(root / "store"))
    return root / "store"


def told(ran: Ran) -> dict[str, object]:
    """The one object of a run that went well."""
    assert ran.code == 0, ran.err
    plain = json.loads(ran.out)
    assert isinstance(plain, dict)
    return plain


def no_kernel() -> None:
    raise EngineError("the native kernel is not built")


def test_programs_get_one_object(p2pinfer: Shell, store: Path) -> None:
    plain = told(p2pinfer("bench", "engine", *QUICK, "--store", store, "--json"))
    assert list(plain) == ["model", "device", "bandwidth_gb_s", "floor_tokens_per_second", "rows"]
    rows = plain["rows"]
    assert isinstance(rows, list)
    assert plain["model"] == "tiny"
    assert [tuple(row) for row in rows] == [KEYS] * 4
    assert [(row["class"], row["threads"], row["sessions"]) for row in rows] == [
        ("i8g32-1", 1, 1),
        ("i8g32-1", 1, 2),
        ("bf16-1", 1, 1),
        ("bf16-1", 1, 2),
    ]
    assert {row["engine"].split()[0] for row in rows} == {"native", "torch"}


def test_the_share_of_the_floor_follows_from_the_rest(p2pinfer: Shell, store: Path) -> None:
    plain = told(p2pinfer("bench", "engine", *QUICK, "--numerics", "i8g32-1", "--store", store, "--json"))
    floor, rows = plain["floor_tokens_per_second"], plain["rows"]
    assert isinstance(floor, float) and isinstance(rows, list)
    assert [row["of_floor"] for row in rows] == [
        pytest.approx(row["decode_tokens_per_second"] / floor, rel=0.1, abs=1e-3) for row in rows
    ]


def test_people_get_a_chart(p2pinfer: Shell, store: Path) -> None:
    classes = ("--numerics", "i8g32-1", "--numerics", "i8g32k8-1")
    ran = p2pinfer("bench", "engine", *QUICK, *classes, "--store", store)
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["tiny,", "1", "thread,", "20", "positions", "each"]
    assert [words[0] for words in lines[1:3]] == ["engine", "memory"]
    assert len([words for words in lines if words[:1] == ["prefill"]]) == len(classes) // 2


def test_without_a_kernel_torch_is_measured_and_no_floor(
    p2pinfer: Shell, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "open_library", no_kernel)
    monkeypatch.setattr(comparing, "open_library", no_kernel)
    plain = told(p2pinfer("bench", "engine", *QUICK, "--store", store, "--json"))
    assert (plain["bandwidth_gb_s"], plain["floor_tokens_per_second"]) == (None, None)
    rows = plain["rows"]
    assert isinstance(rows, list)
    assert [(row["class"], row["of_floor"]) for row in rows] == [("bf16-1", None)] * 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sessions", "0"], "'0' is not a list of numbers from 1 to 4096; write for example 1,4,16"),
        (["--sessions", "1,,2"], "is not a list of numbers"),
        (["--sessions", "9999"], "is not a list of numbers"),
        (["--context", "0"], "0 is not in the range"),
        (["--context", "129"], "tiny has a context of 128 positions, not of 129"),
        (["--threads", "-1"], "-1 is not in the range"),
        (["--numerics", "int3"], "'int3' is not one of"),
        (["--device", "tpu"], "unknown device 'tpu'; there are cpu, cuda, and cuda:N for one of several GPUs"),
        (["--model", "other"], "no model 'other'"),
        (["--store", "/dev/null/store"], "cannot read the store"),
    ],
    ids=str,
)
def test_wrong_words_are_told(p2pinfer: Shell, store: Path, words: list[str], sentence: str) -> None:
    ran = p2pinfer("bench", "engine", "--store", store, *words)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err


def test_an_empty_store_says_how_to_import(p2pinfer: Shell, tmp_path: Path) -> None:
    ran = p2pinfer("bench", "engine", "--store", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert "import one: p2pinfer model import demo" in ran.err


def test_of_several_models_one_must_be_named(p2pinfer: Shell, tmp_path: Path) -> None:
    for name in ("a", "b"):
        import_model(str(tiny_folder(tmp_path / "Tiny")), Store(tmp_path / "store"), Wishes(name))
    ran = p2pinfer("bench", "engine", "--store", tmp_path / "store")
    assert (ran.code, ran.out) == (2, "")
    assert "holds a, b: say which with --model" in ran.err


def test_an_engine_that_cannot_compute_is_refused_by_name(p2pinfer: Shell, tmp_path: Path) -> None:
    import_model(str(tiny_folder(tmp_path / "Tiny")), Store(tmp_path / "store"))
    ran = p2pinfer("bench", "engine", "--store", tmp_path / "store", "--numerics", "i8g32-1")
    assert (ran.code, ran.out) == (2, "")
    assert f"{Numerics.I8G32_1.label} cannot be computed here: its hidden size is 16, no multiple of 32" in ran.err


def test_too_many_sessions_for_the_memory_are_refused(
    p2pinfer: Shell, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        available = 1_000_000

    monkeypatch.setattr(comparing.psutil, "virtual_memory", Full)
    ran = p2pinfer("bench", "engine", "--sessions", "4096", "--context", "128", "--store", store)
    assert (ran.code, ran.out) == (2, "")
    assert "1 MB are free: compare fewer --sessions, or one --numerics at a time" in ran.err


def test_engines_that_do_not_fit_a_gpu_are_refused(
    p2pinfer: Shell, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "look_at_gpu", lambda device: Gpu("Card", 2_000_000, 1_000_000, 0.0))
    ran = p2pinfer("bench", "engine", "--sessions", "4096", "--context", "128", "--device", "cuda", "--store", store)
    assert (ran.code, ran.out) == (2, "")
    assert "1 MB are free: compare fewer --sessions, or one --numerics at a time" in ran.err


def test_on_a_gpu_its_classes_are_compared(store: Path) -> None:
    models = Store(store)
    assert comparing.classes_here(models, models.find("tiny"), "cuda") == (Numerics.BF16_1,)
    with pytest.raises(UsageError, match="i8g32-1 cannot be computed here: it computes on the CPU, not on cuda"):
        comparing.classes_here(models, models.find("tiny"), "cuda", [Numerics.I8G32_1])


@pytest.mark.parametrize(("value", "drawn"), [(100.0, "█" * BAR), (50.0, "█" * (BAR // 2)), (0.0, ""), (0.625, "▏")])
def test_a_bar_is_as_long_as_its_share(value: float, drawn: str) -> None:
    assert Text.from_markup(bar(value, 100.0, "green")).plain == drawn
