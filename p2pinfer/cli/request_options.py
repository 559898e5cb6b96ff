"""Options of a prompt, for the commands that ask the swarm."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

import click

from p2pinfer.cli.options import template_var_option
from p2pinfer.cli.terminal import say
from p2pinfer.client.arrivals import DEFAULT_WAIT_S
from p2pinfer.client.request import CLASSES, CODECS, DEFAULT_CODEC, DEFAULT_MAX_TOKENS, MAX_WAIT_S, Options
from p2pinfer.core.routes.price_limit import CEILING, MULTIPLE
from p2pinfer.core.values.fields import MAX_INT_BITS

MAX_SEED: Final = (1 << MAX_INT_BITS) - 1
MAX_AMOUNT: Final = (1 << MAX_INT_BITS) - 1
MAX_COUNT: Final = (1 << 32) - 1

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: Final = (
    click.option(
        "--model", default="", metavar="NAME", help="Name or id; not needed where the swarm serves one model."
    ),
    click.option(
        "--max-tokens",
        default=DEFAULT_MAX_TOKENS,
        show_default=True,
        type=click.IntRange(1, MAX_COUNT),
        help="End the answer after so many ids.",
    ),
    click.option(
        "--temperature", type=click.FloatRange(min=0), help="0 is greedy.  [default: as the model's maker says, else 0]"
    ),
    click.option(
        "--top-k",
        type=click.IntRange(0, MAX_COUNT),
        help="Candidates kept above temperature 0; 0 is all.  [default: as the model's maker says, else 0]",
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(0, 1, min_open=True),
        help="Share kept above temperature 0.  [default: as the model's maker says, else 1]",
    ),
    click.option(
        "--seed",
        default=0,
        type=click.IntRange(0, MAX_SEED),
        show_default=True,
        help="Seed of the draws above temperature 0; the default draws the same each time.",
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text; may be repeated."),
    click.option(
        "--control-tokens",
        is_flag=True,
        help="In a chat, names of control tokens that you write, as <|im_end|>, are those tokens; else they are text.",
    ),
    template_var_option,
    click.option(
        "--codec",
        default=DEFAULT_CODEC,
        type=click.Choice(list(CODECS)),
        show_default=True,
        help="How hidden states travel between stages: exactly (f32), or in fewer bytes.",
    ),
    click.option(
        "--max-cost",
        type=click.IntRange(0, MAX_AMOUNT),
        metavar="NCR",
        help=f"Nano-credits that the answer may cost at worst; what may cost more is not signed.  [default: {MULTIPLE} "
        f"times the median ask, from {MULTIPLE} to {CEILING} times a node's default prices]",
    ),
    click.option(
        "--numerics",
        type=click.Choice(list(CLASSES)),
        callback=lambda _ctx, _param, name: name or "",
        help="Numerics class of the stages.  [default: any]",
    ),
    click.option(
        "--wait",
        "wait_s",
        default=DEFAULT_WAIT_S,
        show_default=True,
        type=click.FloatRange(0, MAX_WAIT_S),
        metavar="SECONDS",
        help="Wait so long for what is missing: a peer to ask, the model, layers of it; 0 looks once.",
    ),
)


def request_options(command: F) -> F:
    """options: of a prompt, as the library has them; what is waited for is said on standard error."""

    @wraps(command)
    def with_options(**given: Any) -> Any:
        options: Options = {"on_wait": _say_missing}
        options.update({name: given.pop(name) for name in Options.__annotations__ if name in given})  # type: ignore[typeddict-item]
        return command(options=options, **given)

    for option in reversed(OPTIONS):
        with_options = option(with_options)
    return with_options  # type: ignore[return-value]


def _say_missing(what: str) -> None:
    say(f"waiting for {what} ...", err=True)
