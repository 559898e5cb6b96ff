"""Every architecture, every switch of its configuration, and GGUF, against transformers on the same files.

The reference is what transformers makes of a folder. The same folder is imported, and a GGUF file with the same
tensors; what both engines then compute has to be what the reference does: close logits, and the same greedy ids.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
import transformers
from gguf.constants import GGUFValueType
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from p2pinfer.core.models.architecture import ARCHITECTURES, Architecture, Window
from p2pinfer.core.models.config_json import KNOWN, parse_config
from p2pinfer.core.values.units import Numerics
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.backend import Asked, Batch, Part
from p2pinfer.engine.choice import read_config
from p2pinfer.engine.shard import load_backend
from p2pinfer.node.settings import Serve
from p2pinfer.node.shard import shard_spec
from tests.disk.tiny import tiny_gguf, tiny_tokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SIZES: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 260,
    "max_position_embeddings": 128,
}
PROMPT: Final = tuple(int(id_) for id_ in np.random.default_rng(3).integers(0, 260, 9))
ANSWER: Final = 30  # ids
# How far a logit may be off, of the largest. The weights are exact in int8, so what is left are activations rounded
# to int8, and keys and values to binary16
CLOSE: Final = {Numerics.F32_1: 1e-5, Numerics.I8G32_1: 0.05}

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A model. raw: what its config.json says otherwise than transformers wrote it; None takes a key away"""

    family: str
    config: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)
    twice: bool = False  # the file has an output head of its own, too


LLAMA3: Final = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SLIDING: Final = {"use_sliding_window": True, "sliding_window": 7}
CASES: Final = {
    **{family: Case(family) for family in ("Llama", "Mistral", "Qwen2", "Qwen3")},
    "tied": Case("Llama", {"tie_word_embeddings": True}),
    "tied, and another head in the file": Case("Llama", raw={"tie_word_embeddings": True}, twice=True),
    "heads that share none": Case("Llama", {"num_key_value_heads": 4}),
    "one key head": Case("Qwen2", {"num_key_value_heads": 1}),
    "key heads that are not said": Case("Llama", {"num_key_value_heads": 4}, {"num_key_value_heads": None}),
    "a head size that is not said": Case("Llama", {"head_dim": 16}, {"head_dim": None}),
    "Qwen3 with a head size that is not said": Case("Qwen3", {"head_dim": 128}, {"head_dim": None}),
    "biases": Case("Llama", {"attention_bias": True}),
    "Qwen3 with biases": Case("Qwen3", {"attention_bias": True}),
    "a large epsilon": Case("Llama", {"rms_norm_eps": 0.05}),
    "Qwen3 with a large epsilon": Case("Qwen3", {"rms_norm_eps": 0.05}),
    "another theta": Case("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    "a theta as older files say it": Case("Llama", raw={"rope_parameters": None, "rope_theta": 50.0}),
    "no theta": Case("Llama", raw={"rope_parameters": None}),
    "stretched linearly": Case("Qwen2", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "stretched, as older files say it": Case(
        "Llama", raw={"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 4.0}}
    ),
    "stretched as llama3": Case("Llama", {"rope_parameters": LLAMA3 | {"rope_theta": 1e4}}),
    "llama3, as older files say it": Case(
        "Llama", raw={"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": LLAMA3}
    ),
    "Llama with a window, which it ignores": Case("Llama", raw={"sliding_window": 7}),
    "Mistral with a window": Case("Mistral", {"sliding_window": 7}),
    "Mistral without a window": Case("Mistral", {"sliding_window": None}),
    "Mistral whose window is not said": Case("Mistral", raw={"sliding_window": None}),
    "Qwen2 with a window that is off": Case("Qwen2", raw={"sliding_window": 7, "use_sliding_window": False}),
    "Qwen2 with a window that nobody switched on": Case("Qwen2", raw={"sliding_window": 7, "layer_types": None}),
    "Qwen2 with a window from a layer that it has not": Case("Qwen2", SLIDING | {"max_window_layers": 3}),
    "Qwen2 with a window in all layers": Case("Qwen2", SLIDING | {"max_window_layers": 0}),
    "Qwen3 with a window in all layers": Case("Qwen3", SLIDING | {"layer_types": ["sliding_attention"] * 3}),
    "stretched in two places, of which the older counts": Case(
        "Llama",
        raw={
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0},
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        },
    ),
    "the same activation by its other name": Case("Llama", raw={"hidden_act": "swish"}),
}


def make_folder(case: Case, folder: Path) -> Path:
    """A Hugging Face folder with random weights that int8 in groups of 32 holds exactly."""
    config = getattr(transformers, f"{case.family}Config")(**SIZES | case.config)
    torch.manual_seed(1)
    model: PreTrainedModel = getattr(transformers, f"{case.family}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(_vector(parameter) if parameter.dim() == 1 else _matrix(parameter))
    model.save_pretrained(folder)
    raw = json.loads((folder / "config.json").read_text()) | case.raw
    raw = {key: value for key, value in raw.items() if case.raw.get(key, ...) is not None}
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "tokenizer.json").write_bytes(tiny_tokenizer())
    return folder


def _vector(parameter: torch.Tensor) -> torch.Tensor:
    return (parameter + 0.2 * torch.randn_like(parameter)).to(torch.bfloat16).float()


def _matrix(parameter: torch.Tensor) -> torch.Tensor:
    rows, columns = parameter.shape
    grid = torch.randint(-126, 127, (rows, columns))
    grid[:, ::32] = 127
    return grid * 2.0**-9


@dataclass(frozen=True)
class Reference:
    """What transformers makes of a folder: a greedy answer, and the logits that each of its ids was taken from."""

    folder: Path
    ids: tuple[int, ...]  # of prompt and answer
    logits: Logits  # (answer, vocabulary)


def reference(folder: Path) -> Reference:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(ANSWER):
            logits = model(torch.tensor([ids])).logits[0]
            ids.append(int(logits[-1].argmax()))
    return Reference(folder, tuple(ids), logits[len(PROMPT) - 1 :].numpy())


def engine_logits(store: Store, stored: StoredModel, numerics: Numerics, ids: Sequence[int]) -> Logits:
    """The logits of the answer's ids: the prompt is computed at once, then id by id."""
    serve = Serve(numerics=numerics.label, threads=1, max_sessions=1)
    spec = shard_spec(store, stored, stored.manifest.span, serve)
    config = read_config(spec.config)
    backend = load_backend(spec, config, lambda done, total: None)
    table = backend.open_session(0, range(8))
    parts = [range(len(PROMPT)), *(range(at, at + 1) for at in range(len(PROMPT), len(ids) - 1))]
    found = []
    for positions in parts:
        given = np.array(ids[positions.start : positions.stop])
        part = Part(0, table, positions, given, Asked.LOGITS)
        found += backend.compute(Batch([part], range(stored.manifest.layers), tail=True))
        table.held = positions.stop
    return np.stack(found)


@pytest.fixture(scope="module", params=CASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(CASES[request.param], tmp_path_factory.mktemp("reference") / "model")


@pytest.fixture(scope="module")
def expected(folder: Path) -> Reference:
    return reference(folder)


@pytest.mark.parametrize("numerics", CLOSE, ids=lambda numerics: numerics.label)
def test_a_folder_is_computed_as_transformers_does(expected: Reference, store: Store, numerics: Numerics) -> None:
    stored = import_model(str(expected.folder), store)
    check(engine_logits(store, stored, numerics, expected.ids), expected, numerics)


@pytest.mark.parametrize("numerics", CLOSE, ids=lambda numerics: numerics.label)
def test_another_architecture_is_an_entry_of_one_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store, numerics: Numerics
) -> None:
    """Of Ministral; nobody needs it, as its models have windows in some layers only."""
    ministral = Architecture("ministral", "MinistralForCausalLM", "", window=Window.ALL, kv_heads=8)
    monkeypatch.setitem(ARCHITECTURES, ministral.name, ministral)
    folder = make_folder(Case("Ministral", {"sliding_window": 7}), tmp_path / "model")
    stored, expected = import_model(str(folder), store), reference(folder)
    check(engine_logits(store, stored, numerics, expected.ids), expected, numerics)
    assert stored.manifest.architecture == "ministral"


@dataclass(frozen=True)
class File:
    """A GGUF file of a model. keys: what its metadata says beside sizes; factors: of llama3"""

    case: Case
    architecture: str = "llama"
    keys: dict[str, Any] = field(default_factory=dict)
    factors: bool = False


LINEAR: Final = Case("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}})
LONG: Final = LLAMA3 | {"rope_theta": 1e4, "original_max_position_embeddings": 8192}
KIND: Final = ("linear", GGUFValueType.STRING)
FACTOR: Final = (4.0, GGUFValueType.FLOAT32)
FILES: Final = {
    "Llama": File(Case("Llama")),
    "Mistral, which llama.cpp calls llama": File(Case("Mistral")),
    "Qwen2": File(Case("Qwen2"), "qwen2"),
    "Qwen3": File(Case("Qwen3"), "qwen3"),
    "tied": File(Case("Qwen2", {"tie_word_embeddings": True}), "qwen2"),
    "heads that share none": File(Case("Llama", {"num_key_value_heads": 4})),
    "biases": File(Case("Llama", {"attention_bias": True})),
    "a large epsilon": File(Case("Qwen3", {"rms_norm_eps": 0.05}), "qwen3"),
    "stretched": File(
        LINEAR, keys={"llama.rope.scaling.type": ("linear", GGUFValueType.STRING), "llama.rope.scaling.factor": FACTOR}
    ),
    "stretched, and no kind": File(LINEAR, keys={"llama.rope.scaling.factor": FACTOR}),
    "stretched, as the first files say it": File(LINEAR, keys={"llama.rope.scale_linear": FACTOR}),
    "stretched as llama3": File(Case("Llama", {"rope_parameters": LONG}), factors=True),
    "Qwen2 with a window that is off": File(
        Case("Qwen2"), "qwen2", {"qwen2.attention.sliding_window": (7, GGUFValueType.UINT32)}
    ),
}


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reference]:
    file, folder = FILES[request.param], tmp_path_factory.mktemp("gguf")
    model = make_folder(file.case, folder / "model")
    tensors = load_file(model / "model.safetensors")
    sizes = SIZES | {"rms_norm_eps": 1e-6} | file.case.config
    extra = {"rope_freqs.weight": _llama3_factors(model)} if file.factors else {}
    tiny_gguf(folder / "model.gguf", file.architecture, extra=extra, sizes=sizes, tensors=tensors, **file.keys)
    return folder / "model.gguf", reference(model)


def _llama3_factors(folder: Path) -> NDArray[np.float32]:
    """What llama.cpp's converter writes: by how much each frequency is divided."""
    config = AutoConfig.from_pretrained(folder)
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    size = config.head_dim
    plain = 1 / config.rope_parameters["rope_theta"] ** (torch.arange(0, size, 2).float() / size)
    return (plain / stretched).numpy()


@pytest.mark.parametrize("numerics", CLOSE, ids=lambda numerics: numerics.label)
def test_a_gguf_file_is_computed_as_transformers_does_its_folder(
    file: tuple[Path, Reference], store: Store, numerics: Numerics
) -> None:
    path, expected = file
    stored = import_model(str(path), store)
    check(engine_logits(store, stored, numerics, expected.ids), expected, numerics)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda architecture: architecture.name)
def test_every_switch_of_an_architecture_is_known(architecture: Architecture) -> None:
    """A later transformers may have more of them, and then somebody has to look what they change."""
    config = AutoConfig.for_model(architecture.name)
    switches = {key for key in config.to_dict() if not key.startswith("_")} | {"rope_theta", "rope_scaling"}
    assert switches <= KNOWN
    assert architecture.class_ == AutoModelForCausalLM._model_mapping[type(config)].__name__


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda architecture: architecture.name)
def test_what_a_config_leaves_out_is_what_transformers_fills_in(architecture: Architecture) -> None:
    given = {"hidden_size": 64, "num_attention_heads": 32, "num_hidden_layers": 3, "intermediate_size": 96}
    said = given | {"vocab_size": 260, "max_position_embeddings": 16_384, "rms_norm_eps": 1e-5}
    theirs = AutoConfig.for_model(architecture.name, **said)
    ours = parse_config({"architectures": [architecture.class_], **said})
    assert ours.shape.kv_heads == theirs.num_key_value_heads
    assert ours.shape.head_size == (getattr(theirs, "head_dim", None) or 2)
    assert ours.window == getattr(theirs, "sliding_window", None)
    assert (ours.tied, ours.biases) == (theirs.tie_word_embeddings, getattr(theirs, "attention_bias", False))
    assert (ours.rope_theta, ours.rope_scaling) == (theirs.rope_parameters["rope_theta"], None)


def check(logits: Logits, expected: Reference, numerics: Numerics) -> None:
    largest = np.abs(expected.logits).max()
    off = np.abs(logits - expected.logits).max() / largest
    assert off < CLOSE[numerics], f"{off:.2g} of {largest:.2f}"
    best = expected.logits.max(1)
    ours = np.take_along_axis(expected.logits, logits.argmax(1)[:, None], 1)[:, 0]
    assert (ours >= best - 2 * CLOSE[numerics] * largest).all()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
