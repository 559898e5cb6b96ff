"""The scribe's process: a model's tokenizer and template at work (`scribe.py` is its other side).

Both are programs by whoever made the model, and may come from a stranger: they may loop, fill the memory, or crash the
library that runs them. Here that ends this process, which is held to its bounds, and nothing else.

Started as `python -m p2pinfer.client.scribe_process MEMORY LOAD_S WORK_S WORK_BYTES` (`scribe.Bounds`). Frames are
msgpack behind their length. The first question is (manifest, tokenizer), its answer ("ready", bytes of each id, names
of control tokens, drops_first_space). Then ("text", text) and ("chat", messages, control_tokens, variables) are
answered by ("ids", ids). ("usage", why) and ("model", why) are refusals.
"""

import os
import sys
from datetime import datetime
from typing import Any, BinaryIO, Final

import msgpack

from p2pinfer.core.models.manifest import decode_manifest
from p2pinfer.core.models.text import Texts
from p2pinfer.core.values.errors import ModelError, UsageError
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.system import bound_memory, bound_time, write_no_files

MAX_REFUSAL: Final = 1_000  # characters
LENGTH: Final = 4  # bytes before each frame


def main(questions: BinaryIO, answers: BinaryIO, memory: int, load_s: float, work_s: float, work_bytes: int) -> None:
    """Answer until there are no more questions.

    memory: bytes of address space
    load_s: of the processor, to read the tokenizer
    work_s: to answer a question, and a second more for each work_bytes that it has
    """
    limit(memory)
    bound_time(load_s)
    texts = None
    while (frame := _read(questions)) is not None:
        if texts is not None:
            bound_time(work_s + len(frame) / work_bytes)
        question = msgpack.unpackb(frame)
        try:
            if texts is None:
                texts, answer = _load(*question)
            else:
                answer = "ids", pack_ids(_ids(texts, *question))
        except ModelError as error:
            answer = "model", str(error)[:MAX_REFUSAL]
        except UsageError as error:
            answer = "usage", str(error)[:MAX_REFUSAL]
        data: bytes = msgpack.packb(answer, unicode_errors="replace")
        answers.write(len(data).to_bytes(LENGTH, "big") + data)
        answers.flush()


def _load(manifest: bytes, tokenizer: bytes) -> tuple[Texts, tuple[Any, ...]]:
    known = decode_manifest(manifest)
    texts = Texts(tokenizer, known)
    ids = range(min(texts.size, known.vocabulary))
    names = {id_: name for id_ in ids if (name := texts.special_name(id_)) is not None}
    return texts, ("ready", [texts.bytes_of(id_) for id_ in ids], names, texts.drops_first_space)


def _ids(texts: Texts, kind: str, *what: Any) -> tuple[int, ...]:
    if kind == "text":
        return texts.encode(*what)
    messages, control_tokens, variables = what
    # Templates show the time to the model as the date where its user is
    return texts.encode_chat(messages, now=datetime.now(), control_tokens=control_tokens, variables=variables)


def limit(memory: int) -> None:
    """Take a bound on memory, and none of what a scribe has no use for; its other side watches it, too."""
    bound_memory(memory)
    write_no_files()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads' stacks would count as memory


def _read(questions: BinaryIO) -> bytes | None:
    head = questions.read(LENGTH)
    return questions.read(int.from_bytes(head, "big")) if len(head) == LENGTH else None


if __name__ == "__main__":
    main(
        sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    )
