"""A model in a Hugging Face folder: config.json, tokenizer.json, and safetensors in one file or several."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from p2pinfer.core.models.config_json import parse_config
from p2pinfer.core.models.manifest import MAX_MODEL_TEXT
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.models.model_numbers import whole
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief, cut
from p2pinfer.disk.importing.building import ModelSource
from p2pinfer.disk.importing.drawing import sampling_of, unapplied
from p2pinfer.disk.importing.naming import model_name
from p2pinfer.disk.importing.safetensors_file import open_safetensors
from p2pinfer.disk.importing.tensors import Tensor
from p2pinfer.disk.plain import read_small

CONFIG: Final = "config.json"
GENERATION: Final = "generation_config.json"
TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
TEMPLATE: Final = "chat_template.jinja"
README: Final = "README.md"
WEIGHTS: Final = "model.safetensors"
MAX_CARD: Final = 64 << 10  # characters of a model card's header
INDEX: Final = "model.safetensors.index.json"
SAMPLING: Final = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}  # where they are not said
TEXT_FILES: Final = (CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, TEMPLATE, README, INDEX)  # of which some may lack

_LICENCE: Final = re.compile(r"^---\n(?:.*\n)*?license:[ \t]*([\w.+-]+)[ \t]*\n(?:.*\n)*?---$", re.MULTILINE)


def read_folder(folder: Path, name: str = "", ignored: Collection[str] = ()) -> ModelSource:
    """The model in a folder, its tensors not read yet.

    ignored: keys of config.json that change nothing, by the word of whoever imports it

    Raises:
        ModelError: a file is missing or damaged, or the model is not supported.
    """
    raw = _json(folder / CONFIG)
    tokens = _Tokens(folder)
    generation = _json(folder / GENERATION, optional=True)
    return ModelSource(
        name=model_name(name or folder.resolve().name),
        config=_config(folder, raw, ignored),
        bos=tokens.bos(_ids(folder, "bos_token_id", generation, raw)),
        ends=tokens.ends(_ids(folder, "eos_token_id", generation, raw)),
        sampling=_sampling(folder / GENERATION, generation),
        tokenizer=_read(folder / TOKENIZER),
        template=_template(folder),
        licence=_licence(folder),
        tensors=_tensors(folder),
        notes=unapplied(generation),
    )


def _config(folder: Path, raw: Mapping[str, Any], ignored: Collection[str]) -> ModelConfig:
    try:
        return parse_config(raw, ignored)
    except ModelError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from None


def weight_files(index: Mapping[str, Any]) -> list[str]:
    """The files an index names.

    Raises:
        ModelError: one of them lies outside the folder, or the index is none.
    """
    places = index.get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f"{INDEX} has no weight_map")
    names = sorted(set(places.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise ModelError(f"{INDEX} names a file outside the folder: {brief(outside[0])}")
    return names


def _tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / INDEX).exists():
        names = weight_files(_json(folder / INDEX))
    elif (folder / WEIGHTS).exists():
        names = [WEIGHTS]
    else:
        raise ModelError(f"{folder} has neither {WEIGHTS} nor {INDEX}: only safetensors can be imported")
    tensors: dict[str, Tensor] = {}
    for name in names:
        try:
            missing = not (folder / name).exists()
        except OSError as error:  # as of a name that is too long for any file
            raise ModelError(f"cannot read {brief(name)} in {folder}, which {INDEX} names: {error.strerror}") from None
        if missing:
            raise ModelError(f"{folder} lacks {brief(name)}, which {INDEX} names")
        tensors |= open_safetensors(folder / name)
    return tensors


def _ids(folder: Path, name: str, *places: Mapping[str, Any]) -> tuple[int, ...]:
    """One id or several, from the first place that has the name."""
    value = next((place[name] for place in places if name in place), None)
    try:
        ids = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(dict.fromkeys(map(whole, ids)))
    except ValueError as error:
        raise ModelError(f"{folder}: {name} has a value that cannot be: {cut(str(error))}") from None


def _sampling(path: Path, generation: Mapping[str, Any]) -> tuple[int, ...]:
    """As transformers samples where nobody says otherwise: greedily unless the file says `do_sample`."""
    if generation.get("do_sample") is not True:
        return ()
    said = {key: value for key in SAMPLING if (value := generation.get(key)) is not None}
    return sampling_of(path, *(SAMPLING | said).values())


class _Tokens:
    """The names of control tokens that the tokenizer's configuration has for templates, as ids."""

    def __init__(self, folder: Path) -> None:
        self._said = _json(folder / TOKENIZER_CONFIG, optional=True)
        added = _json(folder / TOKENIZER).get("added_tokens")
        items = [item for item in added if isinstance(item, dict)] if isinstance(added, list) else []
        self._added = [(item.get("content"), item.get("id")) for item in items]

    def bos(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Return the id of templates' bos_token: the one that is named here, or none by that name; else the first."""
        if "bos_token" in self._said and self._said["bos_token"] is None:
            return ()
        return self._named("bos_token") or ids[:1]

    def ends(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Ids that end an answer, the one first that templates get as eos_token; it is one whoever else says so."""
        return tuple(dict.fromkeys((*self._named("eos_token"), *ids)))

    def _named(self, key: str) -> tuple[int, ...]:
        named = self._said.get(key)
        name = named.get("content") if isinstance(named, dict) else named
        return next(((id_,) for content, id_ in self._added if content == name and type(id_) is int), ())


def _template(folder: Path) -> str:
    """The template in a file of its own, else the one in the tokenizer's configuration, else none."""
    if (folder / TEMPLATE).exists():
        return _text(folder / TEMPLATE)
    template = _json(folder / TOKENIZER_CONFIG, optional=True).get("chat_template", "")
    if isinstance(template, list):  # several, by name
        named = {str(item.get("name")): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default", "")
    return template if isinstance(template, str) else ""


def _licence(folder: Path) -> str:
    """The licence in the header of the model card; empty without one."""
    if not (folder / README).exists():
        return ""
    found = _LICENCE.match(_text(folder / README)[:MAX_CARD].replace("\r\n", "\n"))
    return found[1][:96] if found else ""


def _json(path: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not path.exists():
        return {}
    try:
        content = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object")
    return content


def _text(path: Path) -> str:
    try:
        return _read(path).decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return read_small(path, MAX_MODEL_TEXT)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
