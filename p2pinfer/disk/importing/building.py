"""From a source's tensors to a model in the store: files, hashes, manifest (manifest.md, 5)."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from p2pinfer.core.models.architecture import Weight, output_head
from p2pinfer.core.models.bf16 import Bits
from p2pinfer.core.models.config_json import config_json
from p2pinfer.core.models.manifest import (
    CONFIG,
    MAX_MODEL_TEXT,
    TOKENIZER,
    File,
    Manifest,
    encode_manifest,
    layer_flops,
)
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.models.text import Texts
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief
from p2pinfer.disk.importing.safetensors_file import write_safetensors
from p2pinfer.disk.importing.tensors import Tensor, are_equal, check_finite
from p2pinfer.disk.store import Store, StoredModel

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model as somebody else's files have it.

    bos:     the id that templates know as bos_token, if there is one
    ends:    ids that end an answer, the one first that templates know as eos_token
    sampling: temperature, top-k and top-p in millionths, as a manifest has them; empty is greedy
    tensors: by Hugging Face's names
    notes:   what whoever imports it should know
    """

    name: str
    config: ModelConfig
    bos: tuple[int, ...]
    ends: tuple[int, ...]
    sampling: tuple[int, ...]
    tokenizer: bytes
    template: str
    licence: str
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def build(source: ModelSource, store: Store, progress: Progress = no_progress) -> StoredModel:
    """Put the model into the store, whole or not at all.

    Raises:
        ModelError: the source lacks something or is damaged, or the store has no room.
    """
    check_texts(source)
    source = _untied(source)
    files = source.config.files
    _check_tensors(source, files)
    config = config_json(source.config, source.bos, source.ends)
    with store.new_model() as draft:
        _check_room(files, draft)
        written = [_write(draft, CONFIG, config), _write(draft, TOKENIZER, source.tokenizer)]
        for done, (name, weights) in enumerate(files.items()):
            progress("importing", done, len(files))
            shapes = {weight.name: weight.shape for weight in weights}
            written.append(write_safetensors(draft / name, shapes, lambda tensor: _read(source, tensor)))
        progress("importing", len(files), len(files))
        return store.add_model(draft, encode_manifest(_manifest(source, written)))


def _manifest(source: ModelSource, files: list[File]) -> Manifest:
    try:
        return Manifest(
            name=source.name,
            architecture=source.config.architecture.name,
            licence=source.licence,
            dtype="bf16",
            sizes=tuple(source.config.shape),
            tied=int(source.config.tied),
            flops=layer_flops(source.config.shape),
            bos=source.bos,
            ends=source.ends,
            sampling=source.sampling,
            template=source.template,
            files=tuple(sorted(files)),
        )
    except ValueError as error:
        raise ModelError(f"{source.name} cannot be described: {error}") from None


def _untied(source: ModelSource) -> ModelSource:
    """The source; a head that was saved beside the embedding it should be tied to, and is another one, counts."""
    config = source.config
    own, embedding = source.tensors.get(output_head(config.shape).name), source.tensors.get(config.embedding.name)
    if not config.tied or own is None or embedding is None or are_equal(own, embedding):
        return source
    return replace(source, config=replace(config, tied=False))


def check_texts(source: ModelSource) -> None:
    """Raise ModelError where the tokenizer is none, or has ids that the model has not.

    A template that cannot be read is taken as it is: it is the model's, and plain prompts need none.
    """
    if len(source.tokenizer) > MAX_MODEL_TEXT:
        raise ModelError(f"the tokenizer of {source.name} has {len(source.tokenizer)} bytes, limit {MAX_MODEL_TEXT}")
    size, rows = Texts(source.tokenizer).size, source.config.shape.vocabulary
    if size > rows:
        raise ModelError(f"the tokenizer of {source.name} has ids up to {size - 1}, its embedding {rows} rows")


def _check_tensors(source: ModelSource, files: Mapping[str, tuple[Weight, ...]]) -> None:
    wanted = {weight.name: weight.shape for weights in files.values() for weight in weights}
    if missing := sorted(set(wanted) - set(source.tensors)):
        raise ModelError(f"{source.name} lacks {len(missing)} tensors, the first of them {missing[0]}")
    for name, shape in wanted.items():
        if source.tensors[name].shape != shape:
            raise ModelError(f"{name} has shape {brief(source.tensors[name].shape)}, the configuration says {shape}")
    # an unknown tensor of a layer would change the answers if it were left out
    unknown = sorted(name for name in set(source.tensors) - set(wanted) if _matters(name, source.config))
    if unknown:
        raise ModelError(
            f"{source.name} has {len(unknown)} tensors nobody would use, the first of them {brief(unknown[0])}"
        )


def _matters(name: str, config: ModelConfig) -> bool:
    if name.endswith("rotary_emb.inv_freq"):  # computed, and saved by old versions of transformers
        return False
    return not (config.tied and name == output_head(config.shape).name)


def _check_room(files: Mapping[str, tuple[Weight, ...]], folder: Path) -> None:
    need = sum(2 * prod(weight.shape) for weights in files.values() for weight in weights)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ModelError(f"the model takes {need >> 20} MiB, {folder.parent} has {free >> 20} MiB free")


def _write(folder: Path, name: str, data: bytes) -> File:
    (folder / name).write_bytes(data)
    return File(name, len(data), hashlib.sha256(data).digest())


def _read(source: ModelSource, name: str) -> Bits:
    bits = source.tensors[name].read()
    check_finite(name, bits)
    return bits
