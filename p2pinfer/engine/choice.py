"""The architecture that a model's config.json tells, and the choice of the engine that computes it here.

The node asks before it starts one, so this imports neither numpy nor torch. What of a config is refused is in
`core/models/config_json.py`.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from p2pinfer.core.models.config_json import parse_config
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.values.errors import EngineError, ModelError
from p2pinfer.core.values.shown import cut
from p2pinfer.core.values.units import Numerics
from p2pinfer.engine.messages import CPU
from p2pinfer.engine.native.library import open_library
from p2pinfer.engine.native.shapes import unsupported

NATIVE: Final = frozenset({Numerics.I8G32_1, Numerics.I8G32K8_1})  # classes that the kernel computes; torch the others
EVERY_ENGINE: Final = ("numpy",)  # what each of them imports
TORCH: Final = (*EVERY_ENGINE, "torch")
PACKAGES: Final = {  # what the engine of a class imports
    Numerics.I8G32_1: EVERY_ENGINE,
    Numerics.I8G32K8_1: EVERY_ENGINE,
    Numerics.BF16_1: TORCH,
    Numerics.F32_1: TORCH,
}


def read_config(path: Path) -> ModelConfig:
    """Raises ModelError for a file that is missing, damaged, or of a model that cannot be computed."""
    try:
        return parse_config(json.loads(path.read_bytes()))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except (ModelError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {cut(str(error))}") from None


def engine_of(numerics: Numerics) -> str:
    """Return the engine of a class, in a word."""
    return "native" if numerics in NATIVE else "torch"


def fastest_numerics(config: Path, device: str) -> tuple[Numerics, str]:
    """The class of the fastest engine for a model on a device, and, on a CPU, why that is not the native one's.

    On a GPU that is bf16-1.

    config: the model's config.json

    Raises ModelError for a config that no engine can read.
    """
    if device != CPU:
        return Numerics.BF16_1, ""
    why = _why_not_native(config, device)
    return (Numerics.BF16_1, why) if why else (Numerics.I8G32_1, "")


def obstacles(config: Path | None, device: str) -> dict[Numerics, str]:
    """Of every class, the fastest engine's first, why it cannot be computed here; empty where it can.

    config: of a model; without one, the machine alone counts

    Raises ModelError for a config that no engine can read.
    """
    why = dict.fromkeys(NATIVE, _why_not_native(config, device))
    return {numerics: why.get(numerics) or missing_words(packages) for numerics, packages in PACKAGES.items()}


def _why_not_native(config: Path | None, device: str) -> str:
    if device != CPU:
        return f"it computes on the CPU, not on {device}"
    if config is not None and (why := unsupported(read_config(config))):
        return why
    try:
        open_library()
    except EngineError as error:
        return str(error)
    return ""


def missing_words(packages: tuple[str, ...]) -> str:
    """Return which of the packages are not installed, and how to get them; empty if all are."""
    missing = [name for name in packages if find_spec(name) is None]
    return f"it needs {' and '.join(missing)}: pip install 'p2pinfer[node]'" if missing else ""
