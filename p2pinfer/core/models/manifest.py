"""The description of a model: architecture, shape, template and the hash of every file (protocols/manifest.md).

A model's id is the hash of its manifest's bytes, so two machines that imported the same model agree on its id, and
a file from a stranger is as good as one from a friend. What stands in the files is for `disk` to write and `engine`
to read; this names them and says which of them a stage or a client needs.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

import msgpack

from p2pinfer.core.models.model_numbers import check_context
from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import Bin, Many, Struct, Text, UInt, UInts
from p2pinfer.core.values.units import ModelId, Roles, Span

VERSION: Final = 1
DOMAIN: Final = b"p2pinfer/1/manifest\0"
MAX_MANIFEST: Final = 1 << 20  # bytes; one part of a file call carries it whole
MAX_LAYERS: Final = 999  # three digits, so that files sort by layer
MAX_TEMPLATE: Final = 256 << 10  # bytes
ARCHITECTURES: Final = ("llama", "mistral", "qwen2", "qwen3")

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


class Shape(NamedTuple):
    """The sizes of a model, in the order the manifest has them."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int  # positions


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model (manifest.md, 3).

    name:     what people call it; part of the id, but nothing keeps two models from one name
    flops:    floating point operations of one layer for one position, attention to half the context included
    bos:      the id a text begins with, where the model wants one
    ends:     ids that end a generation; the first is what the template calls eos_token
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
        if [file.name for file in self.files] != sorted(file_names(self.shape.layers)):
            raise ValueError(f"the files are not those of {self.shape.layers} layers, in order")

    @property
    def shape(self) -> Shape:
        return Shape(*self.sizes)

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
        head = Roles.HEAD if span.first == 0 else Roles.MIDDLE
        return head | Roles.TAIL if span.last == self.layers else head

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


def check_sizes(shape: Shape) -> None:
    """Raise ValueError for sizes that no model has."""
    if min(shape) < 1 or max(shape) >= 1 << 32:
        raise ValueError(f"a size of nothing, or of more than 32 bits: {shape}")
    if shape.layers > MAX_LAYERS:
        raise ValueError(f"{shape.layers} layers, limit {MAX_LAYERS}")
    check_context(shape.context)
    if shape.heads % shape.kv_heads:
        raise ValueError(f"{shape.heads} heads cannot share {shape.kv_heads} key and value heads")
    if shape.head_size % 2:
        raise ValueError(f"rotary positions need an even head size, not {shape.head_size}")


def file_names(layers: int) -> Iterable[str]:
    """Every file of a model of that many layers."""
    return (CONFIG, TOKENIZER, EMBEDDING, HEAD, *(layer_file(layer) for layer in range(layers)))


def layer_flops(shape: Shape) -> int:
    """Operations of one layer for one position (manifest.md, 3.4): products, and attention to half the context."""
    queries = shape.heads * shape.head_size
    keys = shape.kv_heads * shape.head_size
    weights = shape.hidden * (2 * queries + 2 * keys + 3 * shape.intermediate)
    return 2 * weights + 2 * queries * shape.context


def encode_manifest(manifest: Manifest) -> bytes:
    """The one form of a manifest in bytes."""
    data: bytes = msgpack.packb([VERSION, *fields.to_list(manifest)])
    return data


def decode_manifest(data: bytes) -> Manifest:
    """The manifest these bytes are.

    Raises:
        RemoteProtocolError: they are none, are too long, or are not the one form of it.
    """
    if len(data) > MAX_MANIFEST:
        raise RemoteProtocolError(f"a manifest of {len(data)} bytes, limit {MAX_MANIFEST}", Code.BAD_RECORD)
    try:
        plain = msgpack.unpackb(
            data, max_array_len=MAX_LAYERS + 4, max_str_len=MAX_TEMPLATE, max_bin_len=32, max_map_len=0, max_ext_len=0
        )
        if not isinstance(plain, list) or plain[:1] != [VERSION] or type(plain[0]) is not int:
            raise ValueError(f"not an array that begins with version {VERSION}")
        manifest = fields.from_list(Manifest, plain[1:])
        if encode_manifest(manifest) != data:
            raise ValueError("not the shortest encoding")
    except (ValueError, RecursionError, msgpack.StackError) as error:  # msgpack's other errors are ValueErrors
        raise RemoteProtocolError(f"no manifest: {error}", Code.BAD_RECORD) from None
    return manifest
