"""The models that the native kernel can compute. The node asks this too, so it needs neither numpy nor torch."""

from typing import Final

from p2pinfer.core.models.model_config import ModelConfig

GROUP: Final = 32  # values that share a scale, shape.h
LANES: Final = 16  # lanes.h
MOST_HEAD: Final = 256  # size of a head, scratch.h
MOST_SHARED: Final = 32  # query heads of a key head, scratch.h


def unsupported(config: ModelConfig) -> str:
    """Return why the kernel cannot compute a model of this shape; empty if it can."""
    shape = config.shape
    for name, size in {
        "hidden size": shape.hidden,
        "feed-forward size": shape.intermediate,
        "heads x head size": shape.queries,
    }.items():
        if size % GROUP:
            return f"its {name} is {size}, no multiple of {GROUP}"
    if shape.head_size % LANES or shape.head_size > MOST_HEAD:
        return f"its head size is {shape.head_size}, no multiple of {LANES} up to {MOST_HEAD}"
    if shape.heads // shape.kv_heads > MOST_SHARED:
        return f"{shape.heads // shape.kv_heads} query heads share a key head, {MOST_SHARED} can"
    return ""
