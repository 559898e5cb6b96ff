"""Names of imported models (manifest.md, 5.5): they are part of the id, so one rule for everybody."""

import re
from typing import Final

from p2pinfer.core.models.manifest import is_name
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief

# Unicode's White_Space, which is less than what Python takes for it
_SPACES: Final = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
# the endings that say how a GGUF file is quantised, not what the model is
_QUANTISED: Final = re.compile(r"[._-](i?q\d\w*|bf16|f16|f32|fp16)$", re.ASCII)


def model_name(given: str) -> str:
    """A name in lower case, white space as hyphens, without what a file's name says about quantisation."""
    name = _QUANTISED.sub("", "-".join(filter(None, _SPACES.split(given.lower()))))
    if not is_name(name) or not _is_text(name) or len(name.encode()) > 96:
        raise ModelError(f"{brief(given)} cannot be a model's name; give one: --name NAME")
    return name


def _is_text(name: str) -> bool:
    """Every character is whole, as those of a file's name may not be."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
