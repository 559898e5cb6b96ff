"""A model's config.json from the disk. What it says and what is refused is in `core/models/config_json.py`."""

import json
from pathlib import Path

from p2pinfer.core.models.config_json import parse_config
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import cut


def read_config(path: Path) -> ModelConfig:
    """Raises ModelError for a file that is missing, damaged, or of a model that cannot be computed."""
    try:
        return parse_config(json.loads(path.read_bytes()))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except (ModelError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {cut(str(error))}") from None
