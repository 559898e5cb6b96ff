"""Which engine computes a model here. The node asks before it starts one, so this imports neither numpy nor torch."""

from pathlib import Path

from p2pinfer.core.errors import EngineError
from p2pinfer.core.units import Numerics
from p2pinfer.engine.config import read_config
from p2pinfer.engine.native.library import open_library
from p2pinfer.engine.native.shapes import unsupported


def fastest_numerics(config: Path, device: str) -> tuple[Numerics, str]:
    """The class of the fastest engine for a model, and why that is not the native one; empty if it is.

    On a GPU that is bf16-1: whether i8h64-1 is faster there has not been measured.

    config: the model's config.json

    Raises ModelError for a config that no engine can read.
    """
    if why := f"it computes on the CPU, not on {device}" if device != "cpu" else unsupported(read_config(config)):
        return Numerics.BF16_1, why
    try:
        open_library()
    except EngineError as error:
        return Numerics.BF16_1, str(error)
    return Numerics.I8G32_1, ""
