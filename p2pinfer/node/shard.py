"""The shard that a node loads: which layers fit, how many pages of KV cache, and the engine that holds them.

Decides by the pure `placement`; files come from the store, computing is the engine's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.models.manifest import CONFIG, EMBEDDING, HEAD, TOKENIZER, Manifest, layer_file
from p2pinfer.core.models.text import Texts
from p2pinfer.core.sessions.pages import PAGE, pages_for
from p2pinfer.core.swarm.placement import WEIGHTS_SHARE, longest_span
from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.units import Numerics, Roles, Span
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.choice import read_config
from p2pinfer.engine.door import Engine, OpenEngine, Watch
from p2pinfer.engine.messages import ShardSpec
from p2pinfer.node.limits import usable_cores, usable_memory
from p2pinfer.node.settings import Serve, numerics_of

# Of weights in memory, with a scale for each 32 in the native engine's classes; and of the KV cache, with a scale for
# each 32 in i8g32k8-1
WEIGHT_BYTES: Final = {
    Numerics.F32_1: 4.0,
    Numerics.BF16_1: 2.0,
    Numerics.I8G32_1: 1 + 2 / 32,
    Numerics.I8G32K8_1: 1 + 2 / 32,
}
CACHE_BYTES: Final = {
    Numerics.F32_1: 4.0,
    Numerics.BF16_1: 2.0,
    Numerics.I8G32_1: 2.0,
    Numerics.I8G32K8_1: 1 + 2 / 32,
}
FILE_BYTES: Final = 2  # tensors are stored in bf16
MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LoadedSpan:
    """A span that is loaded. texts: the tokenizer, with the role tail."""

    model: StoredModel
    span: Span
    roles: Roles
    numerics: Numerics
    engine: Engine
    texts: Texts | None

    @property
    def manifest(self) -> Manifest:
        return self.model.manifest


def memory_of(serve: Serve) -> int:
    """Bytes the owner lets the node take."""
    return serve.memory_mb * MB if serve.memory_mb else usable_memory() // 2


def layers_that_fit(manifest: Manifest, serve: Serve) -> int:
    """Return how many layers the node may hold; here and below, `serve` names its numerics class (`defaults.py`).

    Raises UsageError if not even one fits.
    """
    scale = WEIGHT_BYTES[numerics_of(serve.numerics)] / FILE_BYTES
    sizes = [int(_size(manifest, layer_file(layer)) * scale) for layer in range(manifest.layers)]
    ends = int(max(_size(manifest, EMBEDDING), _size(manifest, HEAD)) * scale)
    count = longest_span(sizes, ends, memory_of(serve))
    if not count:
        needed = int((max(sizes) + ends) / WEIGHTS_SHARE / MB) + 1
        raise UsageError(
            f"{manifest.name}: one layer does not fit into {memory_of(serve) // MB} MB; "
            f"set serve.memory_mb to {needed} or more"
        )
    return count


def page_count(manifest: Manifest, span: Span, serve: Serve) -> int:
    """Pages of KV cache: what memory is left beside the weights' share, and no more than sessions could fill."""
    shape = manifest.shape
    value = CACHE_BYTES[numerics_of(serve.numerics)]
    page_bytes = int(PAGE * len(span) * 2 * shape.kv_heads * shape.head_size * value)
    fits = int(memory_of(serve) * (1 - WEIGHTS_SHARE)) // page_bytes
    wanted = serve.max_sessions * pages_for(max_positions(manifest, serve))
    return max(1, min(fits, wanted))


def longest_session(manifest: Manifest, span: Span, serve: Serve) -> int:
    """Positions one session can have: what the owner says, and no more than there are pages for."""
    return min(max_positions(manifest, serve), page_count(manifest, span, serve) * PAGE)


def max_positions(manifest: Manifest, serve: Serve) -> int:
    """Positions one session may reserve."""
    return min(serve.max_positions or manifest.context, manifest.context)


def shard_spec(store: Store, model: StoredModel, span: Span, serve: Serve) -> ShardSpec:
    """Return what the engine is to load.

    Raises ModelError for a file that is missing or was altered, and a config that is not the manifest's.
    """
    manifest = model.manifest
    config = store.path(model.id, CONFIG)
    read_config(config).check_fits(manifest)
    roles = manifest.roles_of(span)
    if Roles.TAIL in roles:
        store.path(model.id, TOKENIZER)  # it is read later, by us
    names = [file.name for file in manifest.files_of(span, roles) if file.name not in (CONFIG, TOKENIZER)]
    return ShardSpec(
        config=config,
        files=tuple(store.path(model.id, name) for name in names),
        span=span,
        roles=roles,
        numerics=numerics_of(serve.numerics),
        pages=page_count(manifest, span, serve),
        device=serve.device,
        threads=serve.threads or default_threads(),
    )


def default_threads() -> int:
    """All cores but one: threads that wait for a core somebody else has make a step many times slower."""
    return max(1, usable_cores() - 1)


@asynccontextmanager
async def open_shard(
    store: Store, model: StoredModel, spec: ShardSpec, open_engine: OpenEngine, progress: Watch
) -> AsyncIterator[LoadedSpan]:
    """Load a span into an engine, for as long as the block lasts. Raises as `process.open_engine` does."""
    texts = Texts(store.read(model.id, TOKENIZER), model.manifest) if Roles.TAIL in spec.roles else None
    async with open_engine(spec, progress) as engine:
        yield LoadedSpan(model, spec.span, spec.roles, spec.numerics, engine, texts)


def _size(manifest: Manifest, name: str) -> int:
    file = manifest.file(name)
    return file.size if file else 0
