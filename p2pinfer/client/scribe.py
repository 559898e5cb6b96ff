"""A model's words: text to ids in a process of its own, ids to text here, by a table (`scribe_process.py`).

A tokenizer and a chat template are programs by strangers. What they may do to their process is bounded there; what
they may do here is give wrong ids, for which their model would be to blame anyhow.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import msgpack
import trio

from p2pinfer.core.models.manifest import encode_manifest
from p2pinfer.core.models.template_variables import NO_VARIABLES, ChatMessage, Variable
from p2pinfer.core.values.errors import ModelError, UsageError
from p2pinfer.core.wire.session_messages import unpack_ids
from p2pinfer.disk.store import StoredModel
from p2pinfer.system import APART, watched

COMMAND: Final = (sys.executable, "-P", "-m", "p2pinfer.client.scribe_process")
LENGTH: Final = 4
MAX_QUESTION: Final = 256 << 20  # bytes; the longest words of the longest prompt have fewer
MAX_ANSWER: Final = 64 << 20  # bytes; the table of 260,000 ids has two million


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a scribe's process.

    memory: bytes of address space; the largest tokenizers take about a third
    load_s: seconds of the processor, to read a tokenizer
    work_s: to answer a question, and a second more for each work_bytes that it has
    """

    memory: int = 2 << 30
    load_s: float = 20.0
    work_s: float = 5.0
    work_bytes: int = 200_000


class Words:
    """The table of ids and their bytes (`core.models.detokenizer.Spelt`)."""

    def __init__(self, table: Sequence[bytes], names: dict[int, str], drops_first_space: bool) -> None:
        self._table = table
        self._names = names
        self.drops_first_space = drops_first_space

    def bytes_of(self, id_: int) -> bytes:
        return self._table[id_] if id_ < len(self._table) else b""

    def special_name(self, id_: int) -> str | None:
        return self._names.get(id_)


class Scribe:
    """Its process begins with the first question, and anew after one that ended it; `aclose` ends it for good."""

    def __init__(self, model: StoredModel, tokenizer: bytes, bounds: Bounds = Bounds()) -> None:
        self._model = model
        self._bounds = bounds
        self._tokenizer = tokenizer
        self._process: trio.Process | None = None
        self._words: Words | None = None
        self._failure: ModelError | None = None  # of the last start that came to nothing
        self._one_at_a_time = trio.Lock()

    async def words(self) -> Words:
        """The table of ids. Raises ModelError where the tokenizer is none, or does not keep within bounds."""
        before = self._failure
        async with self._one_at_a_time:
            if self._words is None:
                await self._start_once(before)
            assert self._words is not None
            return self._words

    async def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text, with those that the tokenizer puts before every text. Raises UsageError, ModelError."""
        return await self._ids("text", text)

    async def encode_chat(
        self, messages: Sequence[ChatMessage], control_tokens: bool, variables: Mapping[str, Variable] = NO_VARIABLES
    ) -> tuple[int, ...]:
        """The ids of a conversation by the model's template, ready for its answer. Raises UsageError, ModelError."""
        return await self._ids("chat", [dict(message) for message in messages], control_tokens, dict(variables))

    async def aclose(self) -> None:
        """End the process; it holds nothing that must be saved."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with trio.CancelScope(shield=True):  # a killed process ends at once
                await process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        await pipe.aclose()

    async def _ids(self, *question: Any) -> tuple[int, ...]:
        before = self._failure
        async with self._one_at_a_time:
            if self._process is None:
                await self._start_once(before)
            match await self._ask(question, self._bounds.work_s):
                case ["ids", bytes(ids)]:
                    return unpack_ids(ids)
                case _:
                    raise self._broken()

    async def _start_once(self, before: ModelError | None) -> None:
        """Start the process. One that failed since, for another who asks, has failed for all who waited for it.

        before: the last failure when it was asked for
        """
        if self._failure is not before:
            raise ModelError(str(self._failure))
        try:
            await self._start()
        except ModelError as failure:
            self._failure = failure
            raise

    async def _start(self) -> None:
        bounds = map(str, astuple(self._bounds))
        self._process = await trio.lowlevel.open_process(
            [*COMMAND, *bounds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            **APART,  # signals to our process group are ours to answer; it ends when its questions do
        )
        match await self._ask((encode_manifest(self._model.manifest), self._tokenizer), self._bounds.load_s):
            case ["ready", list(table), dict(names), bool(drops)]:
                self._words = Words(table, names, drops)
            case _:
                await self.aclose()
                raise self._broken()

    async def _ask(self, question: Sequence[Any], work_s: float) -> Any:
        """One question and its answer; a process that did not get to its end is of no more use.

        work_s: what it may take of the processor, besides what the question's length allows
        """
        process, whole, frame = self._process, False, _pack(question)
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with watched(process.pid, self._bounds.memory, work_s + len(frame) / self._bounds.work_bytes):
                await process.stdin.send_all(len(frame).to_bytes(LENGTH, "big") + frame)
                size = int.from_bytes(await _read(process.stdout, LENGTH), "big")
                if size > MAX_ANSWER:
                    raise EOFError
                answer = msgpack.unpackb(await _read(process.stdout, size), strict_map_key=False)
                whole = True
        except (trio.BrokenResourceError, EOFError, ValueError):
            raise self._broken() from None
        finally:
            if not whole:
                await self.aclose()
        match answer:
            case ["usage", str(why)]:
                raise UsageError(why)
            case ["model", str(why)]:
                await self.aclose()
                raise ModelError(why)
        return answer

    def _broken(self) -> ModelError:
        return ModelError(
            f"the tokenizer or the chat template of {self._model.name} ({self._model.id.hex()}) takes too long or too "
            "much memory, or crashes: ask another model, or ask it without chat messages"
        )


def _pack(question: Sequence[Any]) -> bytes:
    try:
        data: bytes = msgpack.packb(question)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError) as error:
        raise UsageError(f"chat messages are plain text, numbers, lists and mappings: {error}") from None
    if len(data) > MAX_QUESTION:
        raise UsageError(f"the prompt has {len(data):,} bytes, limit {MAX_QUESTION:,}: shorten it")
    return data


async def _read(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Raises EOFError where the stream ends before."""
    data = bytearray()
    while len(data) < size:
        part = await stream.receive_some(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
