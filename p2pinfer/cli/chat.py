"""`p2pinfer chat`: a conversation with a model of the swarm, in the terminal."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.options import Where, as_value, bootstrap_option, data_option, mdns_option, store_option
from p2pinfer.cli.request_options import request_options
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import amount_words, many
from p2pinfer.client.request import Options
from p2pinfer.core.models.template_variables import ChatMessage
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, NoRoute, P2pinferError, TooLong, UsageError
from p2pinfer.core.values.shown import shown_line

if TYPE_CHECKING:
    from p2pinfer.client.blocking import Swarm, TextStream


@click.command()
@click.option("--system", default="", metavar="TEXT", help="What the model is told before the conversation.")
@request_options
@bootstrap_option
@mdns_option
@data_option
@store_option
@as_value("where", Where, "bootstrap", "mdns", "data", "store")
def chat(system: str, options: Options, where: Where) -> None:
    """Talk with a model of the swarm: each line that you write is answered, with all that was said before.

    Ctrl-C gives an answer up, Ctrl-D ends the conversation; what it cost is said then. What you write is readable by
    the peers that answer it: do not send secrets.

    \b
    p2pinfer chat --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3Koo...
    """
    from p2pinfer.client.blocking import connect  # it takes a while to import; `--help` should not

    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401 - lines can be edited, where Python was built with it
    swarm = connect(where.data, where.store, where.bootstrap, mdns=where.mdns, checking=CheckBar())
    conversation = Conversation(swarm, options, system)
    with swarm:
        while (text := _read()) is not None:
            if text.strip():
                conversation.say(text)
    say(f"({conversation.summary})", err=True)  # now that all is paid


class Conversation:
    """A talk with a model: all that was said, and its cost."""

    def __init__(self, swarm: "Swarm", options: Options, system: str) -> None:
        self._swarm = swarm
        self._options = options
        self._system: list[ChatMessage] = [{"role": "system", "content": system}] if system else []
        self._said: list[ChatMessage] = []  # by the person and by the model in turn
        self._answers: list[TextStream] = []
        self._in_vain = 0  # nano-credits, for what never began

    @property
    def summary(self) -> str:
        """Say how much was answered, and what is signed for it by now."""
        answers = [answer for stream in self._answers if (answer := stream.so_far) is not None]
        tokens, cost = sum(answer.tokens for answer in answers), sum(answer.cost for answer in answers)
        return f"{many(len(answers), 'answer')}, {many(tokens, 'token')}, {amount_words(cost + self._in_vain)}"

    def say(self, text: str) -> None:
        """Print the model's answer. Where it is given up or breaks off, what came is kept; of nothing, nothing.

        Raises P2pinferError where nobody is there to read what went wrong.
        """
        question: ChatMessage = {"role": "user", "content": text}
        pieces: list[str] = []
        try:
            self._print_answer(question, pieces)
        except KeyboardInterrupt:
            say("\n(given up)", err=True)
        except P2pinferError as error:
            if not sys.stdin.isatty():
                raise
            if pieces:
                say()
            say(f"Error: {shown_line(str(error))}", err=True)
        if pieces:
            self._said += [question, {"role": "assistant", "content": "".join(pieces)}]

    def _print_answer(self, question: ChatMessage, pieces: list[str]) -> None:
        """Raises KeyboardInterrupt, and as a `TextStream` does."""
        while True:
            try:
                stream = self._swarm.stream([*self._system, *self._said, question], **self._options)
                self._answers.append(stream)
                with stream:
                    self._print_pieces(stream, pieces)
                return
            except TooLong:
                if not self._said:
                    raise
                del self._said[:2]
                say("(what was said first is left out from now on: the model takes no more)", err=True)
            except (NoRoute, GenerationFailed) as error:
                if stream.so_far is None:
                    self._in_vain += error.cost
                raise

    def _print_pieces(self, stream: "TextStream", pieces: list[str]) -> None:
        for piece in stream:
            pieces.append(piece)
            say(piece, end="", text_for_files=True)
        say()
        if stream.answer.reason is Code.LENGTH:
            say("(cut there, --max-tokens asks for more)", err=True)


def _read() -> str | None:
    """The next line that the person writes; None where there are no more."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "")
        except EOFError:
            if sys.stdin.isatty():
                say()
            return None
        except KeyboardInterrupt:
            say("\n(Ctrl-D ends the conversation)", err=True)
        except UnicodeDecodeError as error:
            raise UsageError(f"standard input is not text in {error.encoding}: byte {error.start} is wrong") from None
