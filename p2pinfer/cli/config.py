"""`p2pinfer config`: the settings in force, as a file to begin with."""

from pathlib import Path

import click

from p2pinfer.cli.options import config_option
from p2pinfer.cli.terminal import say
from p2pinfer.core.values.errors import UsageError
from p2pinfer.node.settings import describe, read_settings


@click.command()
@config_option
def config(config: Path | None) -> None:
    """Print a node's settings, with help, as a TOML file.

    \b
    Begin with the defaults:   p2pinfer config > node.toml
    Check a file:              p2pinfer config --config node.toml
    """
    settings = read_settings(config)
    if config is not None:
        from p2pinfer.node.addresses import check_network  # it takes a while to import

        try:
            check_network(settings.network)
        except UsageError as error:
            raise UsageError(f"{config}: {error}") from None
    say(describe(settings))
