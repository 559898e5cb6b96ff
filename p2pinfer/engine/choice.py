"""Which engine computes a model here. The node asks before it starts one, so this imports neither numpy nor torch."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from p2pinfer.core.errors import EngineError
from p2pinfer.core.units import Numerics
from p2pinfer.engine.config import read_config
from p2pinfer.engine.native.library import open_library
from p2pinfer.engine.native.shapes import unsupported

PACKAGES: Final = {  # what the engine of a class imports
    Numerics.I8G32_1: ("numpy",),
    Numerics.BF16_1: ("numpy", "torch", "safetensors"),
    Numerics.F32_1: ("numpy", "torch", "safetensors"),
}


def fastest_numerics(config: Path, device: str) -> tuple[Numerics, str]:
    """The class of the fastest engine for a model, and why that is not the native one; empty if it is.

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


def obstacles(config: Path, device: str) -> dict[Numerics, str]:
    """Of every class, the fastest engine's first, why it cannot be computed here; empty where it can.

    Raises ModelError for a config that no engine can read.
    """
    _, why = fastest_numerics(config, device)
    return {
        numerics: (why if numerics is Numerics.I8G32_1 else "") or missing_words(packages)
        for numerics, packages in PACKAGES.items()
    }


def missing_words(packages: tuple[str, ...]) -> str:
    """Which of the packages are not installed, and how to get them; empty if all are."""
    missing = [name for name in packages if find_spec(name) is None]
    return f"it needs {' and '.join(missing)}: pip install 'p2pinfer[node]'" if missing else ""
