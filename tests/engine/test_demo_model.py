"""The demo model, as the store has it, against transformers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from p2pinfer.core.models.manifest import CONFIG, TOKENIZER
from p2pinfer.core.models.text import Texts
from p2pinfer.core.values.units import Numerics, Span
from p2pinfer.disk.store import Store, StoredModel

from .conftest import Tiny
from .test_shard import answer, open_slots

TEXT = "The three laws of thermodynamics, each explained in one sentence a child understands, are:"
COUNT = 64


@pytest.fixture(scope="module")
def smol(demo_model: tuple[Store, StoredModel]) -> Tiny:
    """The demo model, whole: transformers' and the store's."""
    store, stored = demo_model
    plain = json.loads(store.read(stored.id, CONFIG))
    rope = {"rope_type": "default", "rope_theta": plain.pop("rope_theta")}
    del plain["rope_scaling"], plain["torch_dtype"]
    model = LlamaForCausalLM(LlamaConfig(**plain, rope_parameters=rope)).eval()
    folder = Path(store.path(stored.id, CONFIG)).parent
    tensors = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    model.tie_weights()
    return Tiny(folder, model)


@pytest.fixture(scope="module")
def prompt(demo_model: tuple[Store, StoredModel]) -> tuple[int, ...]:
    store, stored = demo_model
    return Texts(store.read(stored.id, TOKENIZER), stored.manifest).encode(TEXT)


@pytest.fixture(scope="module")
def expected(smol: Tiny, prompt: tuple[int, ...]) -> list[int]:
    """Transformers' greedy answer."""
    with torch.no_grad():
        done = smol.model.generate(torch.tensor([prompt]), max_new_tokens=COUNT, do_sample=False, eos_token_id=None)
    return [int(id_) for id_ in done[0, len(prompt) :]]


def test_the_whole_model_answers_as_transformers(smol: Tiny, prompt: tuple[int, ...], expected: list[int]) -> None:
    shard = smol.shard()
    open_slots(shard, 0)
    assert answer([shard], 0, prompt, COUNT) == expected


def test_three_stages_answer_as_transformers(smol: Tiny, prompt: tuple[int, ...], expected: list[int]) -> None:
    stages = [smol.shard(Span(first, first + 10)) for first in (0, 10, 20)]
    for stage in stages:
        open_slots(stage, 0)
    assert answer(stages, 0, prompt, COUNT) == expected


def test_bf16_begins_as_transformers_does(smol: Tiny, prompt: tuple[int, ...], expected: list[int]) -> None:
    """bf16-1 is a tolerance class: the whole answer may come to differ."""
    shard = smol.shard(numerics=Numerics.BF16_1)
    open_slots(shard, 0)
    assert answer([shard], 0, prompt, 4) == expected[:4]
    assert shard.facts.weight_bytes < 300_000_000
