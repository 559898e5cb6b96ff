"""`p2pinfer ask`: one prompt, answered by the swarm."""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Final, Unpack

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
    template_var_option,
)
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import amount_words, many
from p2pinfer.client.answer import Answer, AnswerStream
from p2pinfer.client.arrivals import DEFAULT_WAIT_S
from p2pinfer.client.request import CLASSES, CODECS, DEFAULT_CODEC, DEFAULT_MAX_TOKENS, MAX_WAIT_S, Options, Prompt
from p2pinfer.core.routes.price_limit import CEILING, MULTIPLE
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, NoRoute, P2pinferError, UsageError
from p2pinfer.core.values.fields import MAX_INT_BITS
from p2pinfer.core.values.keys import peer_name

if TYPE_CHECKING:
    from p2pinfer.client.api import Client

MAX_SEED: Final = (1 << MAX_INT_BITS) - 1
MAX_AMOUNT: Final = (1 << MAX_INT_BITS) - 1
MAX_COUNT: Final = (1 << 32) - 1


@click.command()
@click.argument("prompt")
@click.option("--model", default="", metavar="NAME", help="Name or id; not needed where the swarm serves one model.")
@click.option(
    "--max-tokens",
    default=DEFAULT_MAX_TOKENS,
    show_default=True,
    type=click.IntRange(1, MAX_COUNT),
    help="End the answer after so many ids.",
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), help="0 is greedy.  [default: as the model's maker says, else 0]"
)
@click.option(
    "--top-k",
    type=click.IntRange(0, MAX_COUNT),
    help="Candidates kept above temperature 0; 0 is all.  [default: as the model's maker says, else 0]",
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share kept above temperature 0.  [default: as the model's maker says, else 1]",
)
@click.option(
    "--seed",
    default=0,
    type=click.IntRange(0, MAX_SEED),
    show_default=True,
    help="Seed of the draws above temperature 0; the default draws the same each time.",
)
@click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text; may be repeated.")
@click.option("--chat", is_flag=True, help="Put the prompt into the model's chat template; else it is continued.")
@click.option(
    "--control-tokens",
    is_flag=True,
    help="With --chat: names of control tokens in the prompt, as <|im_end|>, are those tokens; else they are text.",
)
@template_var_option
@click.option(
    "--codec",
    default=DEFAULT_CODEC,
    type=click.Choice(list(CODECS)),
    show_default=True,
    help="How hidden states travel between stages: exactly (f32), or in fewer bytes.",
)
@click.option(
    "--max-cost",
    type=click.IntRange(0, MAX_AMOUNT),
    metavar="NCR",
    help=f"Nano-credits that the answer may cost at worst; what may cost more is not signed.  [default: {MULTIPLE} "
    f"times the median ask, from {MULTIPLE} to {CEILING} times a node's default prices]",
)
@click.option(
    "--numerics",
    type=click.Choice(list(CLASSES)),
    callback=lambda _ctx, _param, given: given or "",
    help="Numerics class of the stages.  [default: any]",
)
@click.option(
    "--wait",
    "wait_s",
    default=DEFAULT_WAIT_S,
    show_default=True,
    type=click.FloatRange(0, MAX_WAIT_S),
    metavar="SECONDS",
    help="Wait so long for what is missing: a peer to ask, the model, layers of it; 0 looks once.",
)
@bootstrap_option
@mdns_option
@data_option
@store_option
@json_option
@as_value("where", Where, "bootstrap", "mdns", "data", "store")
def ask(prompt: str, chat: bool, where: Where, as_json: bool, **options: Unpack[Options]) -> None:
    """Ask the swarm PROMPT and stream the answer; `-` reads the prompt from standard input.

    What you ask is readable by the peers that answer it: do not send secrets.

    \b
    p2pinfer ask --chat "What is a distributed hash table?" --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3Koo...
    """
    text = _standard_input() if prompt == "-" else prompt
    options["on_wait"] = _say_missing
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


def _say_missing(what: str) -> None:
    say(f"waiting for {what} ...", err=True)


def _cost_words(answer: Answer) -> str:
    lost = f", {amount_words(answer.lost)} of it for routes that failed and brought nothing" if answer.lost else ""
    return f"{amount_words(answer.cost)}{lost}"


def _standard_input() -> str:
    try:
        return sys.stdin.read().removesuffix("\n")  # the end of the last line is the file's, not the prompt's
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is no text in {error.encoding}: byte {error.start} is wrong") from None


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
