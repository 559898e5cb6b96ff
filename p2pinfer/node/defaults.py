"""The choices that the owner left to the machine: numerics class, a GPU's memory, and the model to look at."""

import logging
from dataclasses import replace
from typing import Final

from p2pinfer.core.models.manifest import CONFIG
from p2pinfer.core.values.errors import ModelError, UsageError
from p2pinfer.disk.demo import how_to_import
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.choice import fastest_numerics, obstacles
from p2pinfer.engine.gpu import look_at_gpu
from p2pinfer.engine.messages import CPU
from p2pinfer.node.settings import AUTO, Serve, numerics_of
from p2pinfer.node.shard import MB

DEMO_MODEL: Final = "smollm2-135m-instruct"

logger = logging.getLogger(__name__)


def decided(serve: Serve, store: Store, model: StoredModel) -> Serve:
    """The settings with a numerics class named, and for a GPU how much of its memory to take. Asking one takes seconds.

    Raises:
        ModelError: a model whose config no engine can read.
        UsageError: a GPU that cannot be used, or a class that cannot be computed here; a package may be missing.
    """
    config = store.path(model.id, CONFIG)
    if serve.numerics == AUTO:
        numerics, why = fastest_numerics(config, serve.device)
        if why:
            logger.warning("torch computes this model in %s, not the faster native engine: %s", numerics.label, why)
        serve = replace(serve, numerics=numerics.label)
    if why := obstacles(config, serve.device)[numerics_of(serve.numerics)]:
        raise UsageError(f"{model.name} cannot be served in {serve.numerics}: {why}")
    return serve if serve.device == CPU or serve.memory_mb else replace(serve, memory_mb=_half_of(serve.device) // MB)


def _half_of(device: str) -> int:
    """Half of a GPU's bytes of memory."""
    gpu = look_at_gpu(device)
    half = gpu.memory // 2
    if half > gpu.free:
        free, name = gpu.free // MB, gpu.name
        logger.warning("%s has %d MB free, less than the half that is taken: set serve.memory_mb", name, free)
    return half


def usual_model(store: Store, name: str = "") -> StoredModel:
    """The model of that name or id; without one, the only complete model of the store, or else the demo model.

    Raises ModelError where that is none, saying what to do.
    """
    if name:
        return store.find(name)
    models = [model for model in store.models() if not missing_files(store, model)]
    demos = [model for model in models if model.name == DEMO_MODEL]
    if len(models) == 1 or len(demos) == 1:
        return demos[0] if demos else models[0]
    if models:
        raise ModelError(f"{store.root} holds {', '.join(model.name for model in models)}: say which with --model")
    raise ModelError(f"there is no complete model in {store.root}; import one: {how_to_import()}")


def missing_files(store: Store, model: StoredModel) -> tuple[str, ...]:
    """Files of the model that the store does not have."""
    return store.missing(model.id, [file.name for file in model.manifest.files])
