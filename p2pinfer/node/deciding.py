"""What the owner left open and the machine decides: the numerics class, and the model to look at."""

import logging
from dataclasses import replace
from typing import Final

from p2pinfer.core.errors import ModelError
from p2pinfer.core.manifest import CONFIG
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.choice import fastest_numerics
from p2pinfer.node.settings import AUTO, Serve

DEMO_MODEL: Final = "smollm2-135m-instruct"

logger = logging.getLogger(__name__)


def decided(serve: Serve, store: Store, model: StoredModel) -> Serve:
    """The settings with a numerics class named.

    Raises ModelError for a model whose config no engine can read.
    """
    if serve.numerics != AUTO:
        return serve
    numerics, why = fastest_numerics(store.path(model.id, CONFIG), serve.device)
    if why:
        logger.warning("torch computes this model in %s, not the faster native engine: %s", numerics.label, why)
    return replace(serve, numerics=numerics.label)


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
    raise ModelError(f"there is no complete model in {store.root}; import one: p2pinfer model import demo")


def missing_files(store: Store, model: StoredModel) -> tuple[str, ...]:
    """Files of the model that the store does not have."""
    return store.missing(model.id, [file.name for file in model.manifest.files])
