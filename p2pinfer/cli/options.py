"""Options that several commands share."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from p2pinfer.core.models.template_variables import Variable, check_variables
from p2pinfer.core.values.errors import UsageError
from p2pinfer.disk.places import default_data, default_store
from p2pinfer.node.settings import MAX_THREADS, PriceSettings
from p2pinfer.system import why_no_node

MAX_NUMBER: Final = (1 << 32) - 1  # of a setting

F = TypeVar("F", bound=Callable[..., Any])


def check_nodes_run() -> None:
    """Raise UsageError where no node runs on this system."""
    if why := why_no_node():
        raise UsageError(why)


def data_option(command: F) -> F:
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_data,
        show_default=str(default_data()),
        help="Folder of identity and journal.",
    )(command)


def data_folders_option(command: F) -> F:
    """data: folders, each once."""
    return click.option(
        "--data",
        multiple=True,
        type=click.Path(file_okay=False, path_type=Path),
        callback=lambda _ctx, _param, given: tuple(dict.fromkeys(given)) or (default_data(),),
        show_default=str(default_data()),
        help="Folder of identity and journal; may be given several times.",
    )(command)


def store_option(command: F) -> F:
    return click.option(
        "--store",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_store,
        show_default=str(default_store()),
        help="Folder of models; nodes and clients of one machine share it.",
    )(command)


def bootstrap_option(command: F) -> F:
    return click.option(
        "--bootstrap",
        multiple=True,
        metavar="MULTIADDR",
        help="A peer to meet first, as its line `ready MULTIADDR` says; may be given several times.",
    )(command)


def mdns_option(command: F) -> F:
    return click.option(
        "--no-mdns",
        "mdns",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Do not look for peers on the local network; it is done only where no other peer helps.",
    )(command)


def config_option(command: F) -> F:
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="TOML file of settings; `p2pinfer config` prints one to begin with.",
    )(command)


def engine_options(command: F) -> F:
    """numerics, device, threads, memory_mb: as `[serve]` of the settings has them; None where the file decides."""
    numerics = click.option(
        "--numerics",
        metavar="CLASS",
        help="i8g32-1, i8g32k8-1, bf16-1 or f32-1.  [default: the fastest engine's]",
    )
    device = click.option(
        "--device", metavar="NAME", help="Where the engine computes: cpu, cuda, cuda:1.  [default: cpu]"
    )
    threads = click.option(
        "--threads", type=click.IntRange(0, MAX_THREADS), help="CPU threads of the engine; 0: all cores but one."
    )
    memory = click.option(
        "--memory-mb",
        type=click.IntRange(0, MAX_NUMBER),
        metavar="MB",
        help="For weights and KV cache.  [default: half of the machine's, or the GPU's]",
    )
    return numerics(device(threads(memory(command))))


def price_options(command: F) -> F:
    """prices: those that are given, as `[prices]` of the settings has them."""

    @wraps(command)
    def with_prices(**given: Any) -> Any:
        asked = {item.name: given.pop(f"price_{item.name}") for item in fields(PriceSettings)}
        return command(prices={name: price for name, price in asked.items() if price is not None}, **given)

    for item in reversed(fields(PriceSettings)):
        help_ = f"{item.metadata['help']}.  [default: {item.default}]"
        type_ = click.IntRange(0, MAX_NUMBER)
        with_prices = click.option(f"--price-{item.name}", type=type_, metavar="NCR", help=help_)(with_prices)
    return with_prices  # type: ignore[return-value]


def template_var_option(command: F) -> F:
    """template_vars: names and values."""
    return click.option(
        "--template-var",
        "template_vars",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_variables,
        help="Set a variable of the model's chat template, as enable_thinking=false; may be given several times.",
    )(command)


def _variables(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Variable]:
    """Read the variables: a number, true, false or null as JSON has it; all else is text."""
    found: dict[str, Variable] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals:
            raise click.BadParameter(f"{one!r:.80} is not NAME=VALUE", ctx, param)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        found[name] = text if isinstance(value, str | list | dict) else value
    check_variables(found)
    return found


def json_option(command: F) -> F:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON instead of words and tables, for programs."
    )(command)


@dataclass(frozen=True, slots=True)
class Where:
    """The beginning of a client: the peers that it meets first, and its folders."""

    bootstrap: tuple[str, ...]
    mdns: bool
    data: Path
    store: Path


def as_value(name: str, make: Callable[..., object], *options: str) -> Callable[[F], F]:
    """A command takes these of its options as one value, which they make."""

    def decorate(command: F) -> F:
        @wraps(command)
        def gathered(**given: Any) -> Any:
            made = make(**{option: given.pop(option) for option in options})
            return command(**{name: made}, **given)

        return gathered  # type: ignore[return-value]

    return decorate
