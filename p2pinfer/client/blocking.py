"""The client for scripts, notebooks and threads, which do not speak Trio: the same calls, blocking.

swarm = connect(bootstrap=[...])
for text in swarm.stream("What is a DHT?"):
    print(text, end="")
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self, TypeVar, Unpack
from weakref import finalize

from p2pinfer.client.answer import Answer
from p2pinfer.client.api import Client, open_client
from p2pinfer.client.request import Options, Prompt
from p2pinfer.client.setup import Setup
from p2pinfer.client.thread import ClientThread, Feed
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, P2pinferError

T = TypeVar("T")


def connect(
    data: Path | str | None = None,
    store: Path | str | None = None,
    bootstrap: Sequence[str] = (),
    **setup: Unpack[Setup],
) -> "Swarm":
    """A client of the swarm, open until `close`, until the end of its block or of the program.

    data:      folder of the key that pays, and of the journal; the platform's by default
    store:     folder of models; the platform's by default
    bootstrap: multiaddrs of peers to meet first, a list
    setup:     as in `Setup`

    It runs in a thread of its own, so it works where an event loop is running already, as in a notebook; an asyncio
    program that is not to stand still meanwhile uses `aconnect`. Raises UsageError for what the user must mend.
    """
    thread = ClientThread(partial(open_client, data, store, bootstrap, **setup))
    try:
        thread.begin()
        thread.opened.result()
    except BaseException:  # Ctrl-C too: nobody waits for the client, but it keeps the process until it has closed
        thread.close_nowait()
        raise
    return Swarm(thread)


class Swarm:
    """A client that blocks. Its calls may come from any thread; an interrupted one gives its answer up.

    Options of a prompt are described in `help(p2pinfer.Options)`. Whatever fails is a P2pinferError: UsageError for
    what the user must mend, NoRoute where nobody serves the model for the price, GenerationFailed where an answer
    broke off.
    """

    def __init__(self, thread: ClientThread) -> None:
        self._thread = thread
        finalize(self, thread.close_nowait).atexit = False  # a notebook's cell that runs again leaves no old one open

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it. Raises what ended the client before, in place of what followed from that."""
        self.close()

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> str:
        """The text of the answer."""
        return self.answer(prompt, **options).text

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> "TextStream":
        """Pieces of the answer's text, as they come: `for text in swarm.stream(prompt)`."""
        return TextStream(self, self._thread, prompt, options)

    def answer(self, prompt: Prompt, **options: Unpack[Options]) -> Answer:
        """The whole answer, once it is paid, with its numbers."""
        return self._call(lambda client: client.answer(prompt, **options))

    def answers(self, prompts: Sequence[Prompt], **options: Unpack[Options]) -> list[Answer | P2pinferError]:
        """Answers to many prompts, asked at once, in their order; in the place of one that failed stands why."""
        return self._call(lambda client: client.answers(prompts, **options))

    def close(self) -> None:
        """End the client, give up what it still answers, and wait until what was delivered is paid.

        Raises what ended the client before.
        """
        self._thread.close_nowait()
        self._thread.ended.result()

    def _call(self, call: Callable[[Client], Awaitable[T]]) -> T:
        future = self._thread.start(call)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise


class TextStream:
    """An answer under way: `for text in stream`, then `stream.answer`.

    Whoever leaves the loop early gives the answer up with `close`, at the end of `with stream`, or by forgetting it.
    """

    def __init__(self, swarm: Swarm, thread: ClientThread, prompt: Prompt, options: Options) -> None:
        self._swarm = swarm  # not closed before we end
        self._pieces: SimpleQueue[str | None] = SimpleQueue()
        self._feed = Feed(thread, prompt, options, self._pieces.put)
        finalize(self, self._feed.whole.cancel).atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        """The next piece of text. Raises what `Swarm` says, when the answer breaks off; an interrupt gives it up."""
        try:
            piece = self._pieces.get()
        except KeyboardInterrupt:
            self.close()
            raise
        if piece is not None:
            return piece
        self._pieces.put(None)  # it stays at its end
        if not self._feed.whole.cancelled():
            self._feed.whole.result()
        raise StopIteration

    @property
    def answer(self) -> Answer:
        """The whole answer; waits for it. Raises as the loop does, and GenerationFailed if it was given up."""
        if self._feed.whole.cancelled():
            raise GenerationFailed("the answer was given up", Code.CANCELLED)
        return self._feed.whole.result()

    @property
    def so_far(self) -> Answer | None:
        """The answer as far as it came, and what was signed for it by now; None before its first token."""
        return self._feed.stream.so_far if self._feed.stream is not None else None

    def close(self) -> None:
        """Give the rest of the answer up; what was delivered is paid."""
        self._feed.whole.cancel()
