"""What the owner left open and the machine decides: the numerics class."""

import logging
from dataclasses import replace

from p2pinfer.core.manifest import CONFIG
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.choice import fastest_numerics
from p2pinfer.node.settings import AUTO, Serve

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
