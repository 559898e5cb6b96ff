"""A GGUF model in several files, as `llama-gguf-split` and the hub have large ones: NAME-00001-of-00003.gguf and on."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief
from p2pinfer.disk.importing.gguf_file import Gguf, Value, open_gguf

_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.ASCII)
MAX_GGUF_PARTS: Final = 999  # each is a file that stays open


def without_part(stem: str) -> str:
    """A file's name, without what says which part it is."""
    match = _PART.fullmatch(stem)
    return match[1] if match else stem


def open_parts(path: Path) -> Gguf:
    """The file, with the tensors of all parts where it is one of several; any of them may be given.

    Raises ModelError as `open_gguf` does, and where a part is missing or is not one of this model.
    """
    file = open_gguf(path)
    count = _number(file, "split.count", 1)
    if count <= 1:
        return file
    match = _PART.fullmatch(path.stem)
    if match is None or int(match[3]) != count or count > MAX_GGUF_PARTS:
        raise ModelError(
            f"{path} is a part of a model in {brief(count)} files: give each its name, "
            f"NAME-00001-of-{min(count, 99_999):05}.gguf and on, in one folder"
        )
    names = [path.with_name(f"{match[1]}-{part:05}-of-{count:05}{path.suffix}") for part in range(1, count + 1)]
    parts = [_part(name, number, count) for number, name in enumerate(names)]
    tensors = [item for part in parts for item in part.tensors.items()]
    whole = dict(tensors)
    if len(whole) != len(tensors) or len(whole) != _number(parts[0], "split.tensors.count", len(whole)):
        raise ModelError(f"{path}: its {count} files are not the parts of one model, or a file is in them twice")
    values = {key: value for key, value in parts[0].values.items() if not key.startswith("split.")}
    return replace(parts[0], values=values, tensors=whole)


def _part(path: Path, number: int, count: int) -> Gguf:
    part = open_gguf(path)
    if _number(part, "split.count", 1) != count or _number(part, "split.no", -1) != number:
        raise ModelError(f"{path} is not part {number + 1} of {count}, as its name says")
    return part


def _number(file: Gguf, key: str, default: int) -> int:
    value: Value = file.values.get(key, default)
    if type(value) is not int:
        raise ModelError(f"{file.path}: {key} is {brief(value)}, which is no number")
    return value
