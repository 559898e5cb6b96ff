"""The description of a model: architecture, shape, template and the hash of every file (protocols/manifest.md).

A model's id is the hash of its manifest's bytes, so two machines that imported the same model agree on its id, and a
file from a stranger is as good as one from a friend. `disk` writes the files and `engine` reads them; this names them
and says which of them a stage or a client needs.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from p2pinfer.core.models.architecture import ARCHITECTURES, Shape
from p2pinfer.core.models.model_numbers import MAX_LAYERS, check_sizes
from p2pinfer.core.records.canonical import check_version, pack_array, unpack_any
from p2pinfer.core.records.draw import Sampling
from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import Bin, Many, Struct, Text, UInt, UInts
from p2pinfer.core.values.units import ModelId, Roles, Span, roles_of

VERSION: Final = 1
DOMAIN: Final = b"p2pinfer/1/manifest\0"
MAX_MANIFEST: Final = 1 << 20  # bytes; one part of a file call carries it whole
MAX_TEMPLATE: Final = 256 << 10  # bytes
MAX_MODEL_TEXT: Final = 64 << 20  # bytes of a file that is not weights; the largest tokenizers have about 35 MB

CONFIG: Final = "config.json"
TOKENIZER: Final = "tokenizer.json"
EMBEDDING: Final = "embedding.safetensors"
HEAD: Final = "head.safetensors"


# What controls a terminal, ends a line, turns text round or cannot be seen (manifest.md, 3.2)
_UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def is_name(name: str) -> bool:
    """People can read it: not empty, and every character shows."""
    return bool(name) and not _UNSEEN.search(name)


def layer_file(layer: int) -> str:
    """The file that holds one layer's tensors."""
    return f"layer-{layer:03d}.safetensors"


def model_id(manifest: bytes) -> ModelId:
    """The id of the model whose manifest has these bytes."""
    return ModelId(hashlib.sha256(DOMAIN + manifest).digest())


@dataclass(frozen=True, slots=True, order=True)
class File:
    """One file of a model, by name, size in bytes and SHA-256."""

    name: Annotated[str, Text(64)]
    size: Annotated[int, UInt()]
    digest: Annotated[bytes, Bin(32)]

    def __post_init__(self) -> None:
        fields.check(self)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model (manifest.md, 3).

    name:     what people call it; part of the id, but nothing keeps two models from one name
    flops:    floating point operations of one layer for one position, attention to half the context included
    bos:      the id a text begins with, where the model wants one
    ends:     ids that end a generation; the first is what the template calls eos_token
    sampling: how ids are drawn where nobody asks otherwise, as `draw.Sampling` has it without seed; empty is greedy
    template: the chat template in Jinja's language; empty if the model has none
    files:    by name, each once
    """

    name: Annotated[str, Text(96)]
    architecture: Annotated[str, Text(32)]
    licence: Annotated[str, Text(96)]  # as the source names it; empty if it does not
    dtype: Annotated[str, Text(16)]  # of the tensors in the files: bf16
    sizes: Annotated[tuple[int, ...], UInts(8, 32)]  # see `shape`
    tied: Annotated[int, UInt(1)]  # the output head is the embedding matrix
    flops: Annotated[int, UInt()]
    bos: Annotated[tuple[int, ...], Many(UInt(32), 1)]
    ends: Annotated[tuple[int, ...], Many(UInt(32), 16)]
    sampling: Annotated[tuple[int, ...], Many(UInt(32), 3)]
    template: Annotated[str, Text(MAX_TEMPLATE)]
    files: Annotated[tuple[File, ...], Many(Struct(File), MAX_LAYERS + 4)]

    def __post_init__(self) -> None:
        fields.check(self)
        if not is_name(self.name):
            raise ValueError(f"{self.name!r} is not a name for people")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture {self.architecture!r} is none of {', '.join(ARCHITECTURES)}")
        if self.dtype != "bf16":
            raise ValueError(f"dtype {self.dtype!r} is not bf16")
        check_sizes(self.shape)
        if self.flops != layer_flops(self.shape):
            raise ValueError(f"{self.flops} operations a layer, {layer_flops(self.shape)} by its sizes")
        if any(id_ >= self.shape.vocabulary for id_ in (*self.bos, *self.ends)):
            raise ValueError(f"bos {self.bos} or ends {self.ends} past a vocabulary of {self.shape.vocabulary}")
        if len(set(self.ends)) < len(self.ends):
            raise ValueError(f"ends {self.ends} name an id twice")
        if self.sampling and (len(self.sampling) < 3 or self.draw.greedy):
            raise ValueError(f"sampling {self.sampling} is neither nothing nor three numbers, the first above 0")
        if [file.name for file in self.files] != sorted(file_names(self.shape.layers)):
            raise ValueError(f"the files are not those of {self.shape.layers} layers, in order")

    @property
    def shape(self) -> Shape:
        return Shape(*self.sizes)

    @property
    def draw(self) -> Sampling:
        """The way to draw ids where nobody asks otherwise. Raises ValueError for numbers that make no sense."""
        return Sampling(*self.sampling)

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return self.sizes[0]

    @property
    def hidden(self) -> int:
        """Values in one position's row between layers."""
        return self.sizes[1]

    @property
    def vocabulary(self) -> int:
        """Ids the model knows: 0 to this less one."""
        return self.sizes[6]

    @property
    def context(self) -> int:
        """Positions the model was made for."""
        return self.sizes[7]

    @property
    def span(self) -> Span:
        """All layers."""
        return Span(0, self.layers)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def id(self) -> ModelId:
        return model_id(encode_manifest(self))

    def file(self, name: str) -> File | None:
        """The file of that name, if the model has it."""
        return next((file for file in self.files if file.name == name), None)

    def roles_of(self, span: Span) -> Roles:
        """The roles that a stage of this span has."""
        return roles_of(span, self.layers)

    def files_of(self, span: Span, roles: Roles) -> tuple[File, ...]:
        """The files of the model that a stage needs, those of its layers in order.

        A tail whose output head is the embedding matrix needs that file too; a tail needs the tokenizer, because
        it looks for stop strings.
        """
        if span.last > self.layers:
            raise ValueError(f"layers {span} of a model of {self.layers}")
        names = [CONFIG, *(layer_file(layer) for layer in range(span.first, span.last))]
        if Roles.HEAD in roles or (Roles.TAIL in roles and self.tied):
            names.append(EMBEDDING)
        if Roles.TAIL in roles:
            names += [HEAD, TOKENIZER]
        by_name = {file.name: file for file in self.files}
        return tuple(by_name[name] for name in names)


def file_names(layers: int) -> Iterable[str]:
    """Every file of a model of that many layers."""
    return (CONFIG, TOKENIZER, EMBEDDING, HEAD, *(layer_file(layer) for layer in range(layers)))


def layer_flops(shape: Shape) -> int:
    """Operations of one layer for one position (manifest.md, 3.4): products, and attention to half the context."""
    weights = shape.hidden * (2 * shape.queries + 2 * shape.keys + 3 * shape.intermediate)
    return 2 * weights + 2 * shape.queries * shape.context


def encode_manifest(manifest: Manifest) -> bytes:
    """The one form of a manifest in bytes."""
    return pack_array([VERSION, *fields.to_list(manifest)])


def decode_manifest(data: bytes) -> Manifest:
    """The manifest these bytes are.

    Raises:
        RemoteProtocolError: they are none, are too long, or are not the one form of it.
    """
    items = unpack_any(data, MAX_MANIFEST, MAX_LAYERS + 4, MAX_TEMPLATE)
    try:
        return fields.from_list(Manifest, check_version(items, VERSION))
    except ValueError as error:
        raise RemoteProtocolError(f"no manifest: {error}", Code.BAD_RECORD) from None
