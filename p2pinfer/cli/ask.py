"""`p2pinfer ask`: one prompt, answered by the swarm."""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.options import (
    Where,
    as_value,
    bootstrap_option,
    data_option,
    json_option,
    mdns_option,
    store_option,
)
from p2pinfer.cli.request_options import request_options
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import amount_words, many
from p2pinfer.client.answer import Answer, AnswerStream
from p2pinfer.client.request import Options, Prompt
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, NoRoute, P2pinferError, UsageError
from p2pinfer.core.values.keys import peer_name

if TYPE_CHECKING:
    from p2pinfer.client.api import Client


@click.command()
@click.argument("prompt")
@click.option("--chat", is_flag=True, help="Put the prompt into the model's chat template; else it is continued.")
@request_options
@bootstrap_option
@mdns_option
@data_option
@store_option
@json_option
@as_value("where", Where, "bootstrap", "mdns", "data", "store")
def ask(prompt: str, chat: bool, options: Options, where: Where, as_json: bool) -> None:
    """Ask the swarm PROMPT and stream the answer; `-` reads the prompt from standard input.

    What you ask is readable by the peers that answer it: do not send secrets.

    \b
    p2pinfer ask --chat "What is a distributed hash table?" --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3Koo...
    """
    text = _standard_input() if prompt == "-" else prompt
    asked = [{"role": "user", "content": text}] if chat else text
    opened = partial(_open, where)
    answer = trio.run(_ask, asked, options, opened, as_json)
    if as_json:
        say(json.dumps(summary(answer)))
        return
    cut = "; cut there, --max-tokens asks for more" if answer.reason is Code.LENGTH else ""
    say(
        f"({many(answer.tokens, 'token')}, {answer.tokens_per_second:.1f} tokens/s, {_cost_words(answer)}{cut})",
        err=True,
    )


def _cost_words(answer: Answer) -> str:
    lost = f", {amount_words(answer.lost)} of it for routes that failed and brought nothing" if answer.lost else ""
    return f"{amount_words(answer.cost)}{lost}"


def _standard_input() -> str:
    try:
        return sys.stdin.read().removesuffix("\n")  # the end of the last line is the file's, not the prompt's
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not text in {error.encoding}: byte {error.start} is wrong") from None


def summary(answer: Answer) -> dict[str, object]:
    """An answer as `--json` prints it; costs in nano-credits, by signed receipts."""
    return {
        "text": answer.text,
        "ids": list(answer.ids),
        "reason": answer.reason.label,
        "prompt_tokens": answer.prompt_tokens,
        "tokens": answer.tokens,
        "tokens_per_second": round(answer.tokens_per_second, 2),
        "first_token_s": round(answer.first_token_s, 4),
        "stages": [
            {"peer": peer_name(stage.peer), "layers": [stage.layers.first, stage.layers.last], "cost": stage.cost}
            for stage in answer.stages
        ],
        "cost": answer.cost,
        "lost": answer.lost,
    }


def _open(where: Where) -> "AbstractAsyncContextManager[Client]":
    from p2pinfer.client.api import open_client  # it takes a while to import; `--help` should not

    return open_client(where.data, where.store, where.bootstrap, mdns=where.mdns, checking=CheckBar())


async def _ask(
    prompt: Prompt, options: Options, opened: "Callable[[], AbstractAsyncContextManager[Client]]", quiet: bool
) -> Answer:
    stream: AnswerStream | None = None
    begun = False
    try:
        async with opened() as client, client.open_answer(prompt, **options) as stream:
            async for piece in stream:
                if not quiet:
                    say(piece, end="", text_for_files=True)
                    begun = True
            if not quiet:
                say()
                begun = False
            await stream.wait_paid()
            return stream.answer
    except P2pinferError as error:
        if begun:
            say()  # what went wrong stands on a line of its own
        elif quiet:  # what came was paid, and is kept
            say(json.dumps(_came(stream, error) | {"error": str(error)}))
        raise


def _came(stream: AnswerStream | None, error: P2pinferError) -> dict[str, object]:
    if stream is not None:
        return summary(stream.so_far)
    cost = error.cost if isinstance(error, (NoRoute, GenerationFailed)) else 0
    return {"text": "", "ids": [], "cost": cost, "lost": cost}
