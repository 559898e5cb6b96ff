"""The backend of each numerics class, imported when it is asked for."""

from collections.abc import Callable

from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.engine.backend import Backend
from p2pinfer.engine.choice import NATIVE
from p2pinfer.engine.steps import ShardSpec

Progress = Callable[[int, int], None]  # bytes of files read, of all


def load_backend(spec: ShardSpec, config: ModelConfig, progress: Progress) -> Backend:
    """Raises ModelError for files that are not what the spec says, a device that is not there, too little memory."""
    if spec.numerics in NATIVE:
        from p2pinfer.engine.native.span import load_native  # does without torch: 200 MB and a second less

        return load_native(spec, config, progress)
    from p2pinfer.engine.eager import load_eager

    return load_eager(spec, config, progress)
