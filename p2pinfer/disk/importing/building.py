"""From a source's tensors to a model in the store: files, hashes, manifest (manifest.md, 5)."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from p2pinfer.core.models.manifest import CONFIG, TOKENIZER, File, Manifest, check_sizes, encode_manifest, layer_flops
from p2pinfer.core.models.text import Texts
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief
from p2pinfer.disk.importing.config import Config
from p2pinfer.disk.importing.layout import layout
from p2pinfer.disk.importing.safetensors_file import write_safetensors
from p2pinfer.disk.importing.tensors import Bits, Tensor, check_finite
from p2pinfer.disk.store import Store, StoredModel

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model as somebody else's files have it.

    tensors: by Hugging Face's names
    """

    name: str
    config: Config
    tokenizer: bytes
    template: str
    licence: str
    tensors: Mapping[str, Tensor]


def build(source: ModelSource, store: Store, progress: Progress = no_progress) -> StoredModel:
    """Put the model into the store, whole or not at all.

    Raises:
        ModelError: the source lacks something or is damaged, or the store has no room.
    """
    _check_sizes(source)
    _check_texts(source)
    files = layout(source.config)
    _check_tensors(source, files)
    with store.new_model() as draft:
        _check_room(files, draft)
        written = [_write(draft, CONFIG, source.config.to_json()), _write(draft, TOKENIZER, source.tokenizer)]
        for done, (name, shapes) in enumerate(files.items()):
            progress("importing", done, len(files))
            written.append(write_safetensors(draft / name, shapes, lambda tensor: _read(source, tensor)))
        progress("importing", len(files), len(files))
        return store.add_model(draft, encode_manifest(_manifest(source, written)))


def _manifest(source: ModelSource, files: list[File]) -> Manifest:
    try:
        return Manifest(
            name=source.name,
            architecture=source.config.architecture,
            licence=source.licence,
            dtype="bf16",
            sizes=tuple(source.config.shape),
            tied=int(source.config.tied),
            flops=layer_flops(source.config.shape),
            bos=source.config.bos,
            ends=source.config.ends,
            template=source.template,
            files=tuple(sorted(files)),
        )
    except ValueError as error:
        raise ModelError(f"{source.name} cannot be described: {error}") from None


def _check_sizes(source: ModelSource) -> None:
    """Before anything is made of as many parts as the source says it has."""
    try:
        check_sizes(source.config.shape)
    except ValueError as error:
        raise ModelError(f"{source.name} cannot be described: {error}") from None


def _check_texts(source: ModelSource) -> None:
    """A template that cannot be read is taken as it is: it is the model's, and plain prompts need none."""
    size, rows = Texts(source.tokenizer).size, source.config.shape.vocabulary
    if size > rows:
        raise ModelError(f"the tokenizer of {source.name} has ids up to {size - 1}, its embedding {rows} rows")


def _check_tensors(source: ModelSource, files: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    wanted = {name: shape for shapes in files.values() for name, shape in shapes.items()}
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


def _matters(name: str, config: Config) -> bool:
    if name.endswith("rotary_emb.inv_freq"):  # computed, and saved by old versions of transformers
        return False
    return not (config.tied and name == "lm_head.weight")


def _check_room(files: Mapping[str, Mapping[str, tuple[int, ...]]], folder: Path) -> None:
    need = sum(2 * prod(shape) for shapes in files.values() for shape in shapes.values())
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
