"""A tokenizer.json from the vocabulary in a GGUF file (manifest.md, 5.4).

GGUF has the names, their merges or scores, and the name of a way to split text; the rest is convention. The JSON is
written here, not by the tokenizers library, because its bytes are part of the model's id.

Where llama.cpp and transformers read one file differently, llama.cpp is followed: the file was made for it, and it
does what the model's own tokenizer does. So `smollm` splits digits off first, which transformers leaves out: it reads
"\\n\\n1" as three names of one byte where the model was trained on "\\n\\n" and "1".
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Final

from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief
from p2pinfer.disk.importing.gguf_file import Gguf, Value

Json = dict[str, object]

NO_ID: Final = (1 << 32) - 1  # how a converter writes that there is none; also -1
MAX_MERGES: Final = 32 << 20  # characters of JSON; the 60,000 merges of a usual vocabulary have under one million

_TOKENS: Final = "tokenizer.ggml.tokens"
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2: Final = _LLAMA3.replace("{1,3}", "")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN: Final = (  # of Mistral since Nemo: words are cut where they change to upper case
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEFAULT: Final = (  # llama.cpp's, one after another
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)


class NameKind(IntEnum):
    """Kinds of names in a vocabulary, as GGUF numbers them."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def tokenizer_json(file: Gguf) -> bytes:
    """The tokenizer.json that reads as the file's vocabulary does.

    Raises:
        ModelError: the file has none, or one of a kind that is not supported.
    """
    model = file.values.get("tokenizer.ggml.model")
    if model == "gpt2":
        description = _byte_level(file)
    elif model == "llama":
        description = _sentencepiece(file)
    else:
        raise ModelError(f"{file.path}: tokenizer {brief(model)} is not supported; gpt2 and llama are")
    return json.dumps(description, ensure_ascii=False, separators=(",", ":")).encode()


def turn_ends(file: Gguf, names: frozenset[str]) -> tuple[int, ...]:
    """The ids of those of the names that are control tokens of the file, or were added by its author."""
    kinds = _kinds(file)
    found = [id_ for id_, name in enumerate(_texts(file, _TOKENS)) if name in names]
    return tuple(id_ for id_ in found if kinds[id_] in (NameKind.CONTROL, NameKind.USER_DEFINED))


def id_of(file: Gguf, kind: str) -> int | None:
    """The id of a kind of name, as of bos; None where the file says that there is none.

    Raises ModelError for what is no id: nobody could tell what whoever wrote it meant.
    """
    key = f"tokenizer.ggml.{kind}_token_id"
    value = file.values.get(key, NO_ID)
    if type(value) is not int or not -1 <= value <= NO_ID:
        raise ModelError(f"{file.path}: {key} is {brief(value)}, which is no id")
    return None if value in (-1, NO_ID) else value


def _byte_level(file: Gguf) -> Json:
    pre = file.values.get("tokenizer.ggml.pre")
    if not isinstance(pre, str) or pre not in _SPLITS:
        raise ModelError(
            f"{file.path}: text split as {brief(pre)} (tokenizer.ggml.pre) is not supported; {', '.join(_SPLITS)} are. "
            "Convert the model anew with today's llama.cpp, or import its Hugging Face folder"
        )
    whole = pre in _WHOLE
    return _description(
        file,
        normalizer={"type": "NFC"} if pre in _QWEN2_NAMES else None,
        pre_tokenizer=_SPLITS[pre],
        decoder=_BYTE_LEVEL,
        model={
            "type": "BPE",
            "ignore_merges": whole,  # a text that is a name of the vocabulary is that name
            "vocab": _vocabulary(file),
            "merges": [merge.split(" ") for merge in _texts(file, "tokenizer.ggml.merges")],
        },
        begins=whole,
    )


def _sentencepiece(file: Gguf) -> Json:
    spaces: Json = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    prefixed = file.values.get("tokenizer.ggml.add_space_prefix", True)
    steps = [{"type": "Prepend", "prepend": "\u2581"}, spaces] if prefixed else [spaces]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefixed else []
    vocabulary = _vocabulary(file)
    unknown = next(
        (name for name, kind in zip(vocabulary, _kinds(file), strict=True) if kind == NameKind.UNKNOWN), None
    )
    return _description(
        file,
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer=None,
        decoder={
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        model={
            "type": "BPE",
            "unk_token": unknown,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": _merges(vocabulary, _numbers(file, "tokenizer.ggml.scores")),
        },
        begins=True,
    )


def _description(
    file: Gguf, normalizer: Json | None, pre_tokenizer: Json | None, decoder: Json, model: Json, begins: bool
) -> Json:
    names, kinds = _texts(file, _TOKENS), _kinds(file)
    bos = id_of(file, "bos")
    begins = bool(file.values.get("tokenizer.ggml.add_bos_token", begins))
    begins = begins and bos is not None and bos < len(names)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(id_, name, special=kind != NameKind.USER_DEFINED)
            for id_, (name, kind) in enumerate(zip(names, kinds, strict=True))
            if kind in (NameKind.CONTROL, NameKind.USER_DEFINED, NameKind.UNKNOWN)
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _beginning(names[bos], bos) if begins and bos is not None else None,
        "decoder": decoder,
        "model": model,
    }


def _added(id_: int, name: str, special: bool) -> Json:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id_, "content": name, **flags, "special": special}


def _beginning(name: str, id_: int) -> Json:
    """Put one name before every text."""
    begin: Json = {"SpecialToken": {"id": name, "type_id": 0}}
    texts: list[Json] = [{"Sequence": {"id": letter, "type_id": number}} for number, letter in enumerate("AB")]
    return {
        "type": "TemplateProcessing",
        "single": [begin, texts[0]],
        "pair": [begin, texts[0], {"SpecialToken": {"id": name, "type_id": 1}}, texts[1]],
        "special_tokens": {name: {"id": name, "ids": [id_], "tokens": [name]}},
    }


def _merges(vocabulary: Mapping[str, int], scores: Sequence[float]) -> list[list[str]]:
    """The merges that sentencepiece's scores amount to: the best first, of one name the shortest left part last."""
    merges, size = [], 0
    lengths = frozenset(map(len, vocabulary))
    for (name, _), score in zip(vocabulary.items(), scores, strict=True):
        known = []
        for pair in _cuts(name, lengths):
            if pair[0] in vocabulary and pair[1] in vocabulary:
                size += len(name) + len('["",""],')
                if size > MAX_MERGES:
                    raise ModelError(f"the vocabulary's scores make more than {MAX_MERGES >> 20} MiB of merges")
                known.append(pair)
        known.sort(key=lambda cut: (vocabulary[cut[0]], vocabulary[cut[1]]))
        merges += [(score, left, right) for left, right in known]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [[left, right] for _, left, right in merges]


def _cuts(name: str, lengths: Collection[int]) -> Iterator[tuple[str, str]]:
    """The cuts of a name in two parts of such lengths, one at a time: all of a long name would fill the memory."""
    for cut in range(1, len(name)):
        if cut in lengths and len(name) - cut in lengths:
            yield name[:cut], name[cut:]


def _vocabulary(file: Gguf) -> dict[str, int]:
    names = _texts(file, _TOKENS)
    vocabulary = {name: id_ for id_, name in enumerate(names)}
    if len(vocabulary) < len(names):
        raise ModelError(f"{file.path}: {len(names) - len(vocabulary)} names stand twice in the vocabulary")
    return vocabulary


def _kinds(file: Gguf) -> Sequence[float]:
    if "tokenizer.ggml.token_type" not in file.values:
        return [NameKind.NORMAL] * len(_texts(file, _TOKENS))
    return _numbers(file, "tokenizer.ggml.token_type")


def _texts(file: Gguf, key: str) -> list[str]:
    return [item for item in _list(file, key) if isinstance(item, str)]


def _numbers(file: Gguf, key: str) -> list[float]:
    numbers = [item for item in _list(file, key) if isinstance(item, int | float)]
    if len(numbers) != len(_texts(file, _TOKENS)):
        raise ModelError(f"{file.path}: {len(numbers)} {key} for {len(_texts(file, _TOKENS))} names")
    return numbers


def _list(file: Gguf, key: str) -> list[Value]:
    value = file.values.get(key)
    if not isinstance(value, list):
        raise ModelError(f"{file.path} has no {key}")
    return value


_BYTE_LEVEL: Final[Json] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _split(*patterns: str) -> Json:
    """Cut text by one pattern after another, then spell each piece in the byte level characters."""
    cuts = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return {"type": "Sequence", "pretokenizers": [*cuts, _BYTE_LEVEL | {"use_regex": False}]}


_LLAMA3_NAMES: Final = ("llama-bpe", "llama3", "llama-v3", "falcon3")
_QWEN2_NAMES: Final = ("qwen2", "deepseek-r1-qwen")
_WHOLE: Final = (*_LLAMA3_NAMES, "tekken")  # a text that is a name of the vocabulary is that name; bos comes before it
_DIGITS: Final[Json] = {"type": "Digits", "individual_digits": True}
# how GGUF names a way to split text -> the pre-tokenizer that does it
_SPLITS: Final[Mapping[str, Json]] = {
    "gpt-2": _BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTE_LEVEL]},
    **dict.fromkeys(_QWEN2_NAMES, _split(_QWEN2)),
    **dict.fromkeys((*_LLAMA3_NAMES, "smaug-bpe"), _split(_LLAMA3)),
    "tekken": _split(_TEKKEN),
    "default": _split(*_DEFAULT),
}
