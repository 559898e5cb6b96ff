"""The command `p2pinfer`: which commands there are, and how failures are told.

Commands are imported when they are called: `statement verify` needs no network code, and help should be instant.
Exit codes: 0 done, 1 it failed, 2 it was called wrongly.
"""

import logging
import sys
from contextlib import suppress
from importlib import import_module
from typing import Final, NoReturn

import click

from p2pinfer.cli.terminal import LogHandler, NobodyReads, prepare, say
from p2pinfer.core.values.errors import P2pinferError, UsageError, sole
from p2pinfer.core.values.shown import shown_line

COMMANDS: Final = {  # name: module, one line of help
    "ask": ("p2pinfer.cli.ask", "Ask the swarm a prompt and stream the answer."),
    "backup": ("p2pinfer.cli.backup", "Copy the journal of receipts, also while it is in use."),
    "bench": ("p2pinfer.cli.bench", "Measure how fast this machine's engines are."),
    "chat": ("p2pinfer.cli.chat", "Talk with a model of the swarm."),
    "config": ("p2pinfer.cli.config", "Print a node's settings, with help, as a TOML file."),
    "demo": ("p2pinfer.cli.demo", "Watch peers on this machine answer a prompt, and see what each earned."),
    "doctor": ("p2pinfer.cli.doctor", "Say whether this machine can serve, and what would make it faster."),
    "earnings": ("p2pinfer.cli.earnings", "Show what this machine earned; export it as a signed statement."),
    "model": ("p2pinfer.cli.model", "Import, list and remove models."),
    "node": ("p2pinfer.cli.node", "Serve layers of a model to the swarm."),
    "owed": ("p2pinfer.cli.owed", "Show what this machine's clients owe, and to whom."),
    "receipt": ("p2pinfer.cli.receipt", "Look at one receipt."),
    "statement": ("p2pinfer.cli.statement", "Verify a statement of earnings, offline."),
    "swarm": ("p2pinfer.cli.swarm", "Show who serves what, until when, at what price."),
}


class Commands(click.Group):
    """Commands imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="p2pinfer")
@click.option("-v", "--verbose", is_flag=True, help="Log more to stderr.")
def main(verbose: bool) -> None:
    """Sell and use the time of idle computers for LLM inference, peer to peer.

    \b
    See it work:        p2pinfer demo
    Serve a model:      p2pinfer model import demo
                        p2pinfer node --model smollm2-135m-instruct
    Ask the swarm:      p2pinfer ask --chat "What is a distributed hash table?" --bootstrap MULTIADDR
    See your earnings:  p2pinfer earnings
    See what you owe:   p2pinfer owed
    If it is slow:      p2pinfer doctor
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[LogHandler()])


def run() -> NoReturn:
    """The entry point: run the command and turn every expected failure into one sentence and an exit code."""
    prepare()
    try:
        code = main(prog_name="p2pinfer", standalone_mode=False)  # however it was started; click gives an Exit's code
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and error.option_name == "--verbose":
            error = click.UsageError("--verbose stands before the command: p2pinfer --verbose ...", error.ctx)
        with suppress(OSError):  # who cannot be told still gets the exit code
            error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except P2pinferError as error:
        fail(error)
    except BaseExceptionGroup as group:
        fail(sole_failure(group))
    sys.exit(code)


def fail(error: P2pinferError) -> NoReturn:
    if isinstance(error, NobodyReads):
        sys.stderr.close()  # nothing more to say, not at the interpreter's end either
        sys.exit(1)
    with suppress(P2pinferError):  # who cannot be told still gets the exit code
        say(f"Error: {shown_line(str(error))}", err=True)
    sys.exit(2 if isinstance(error, UsageError) else 1)


def sole_failure(group: BaseExceptionGroup[BaseException]) -> P2pinferError:
    """The failure a group of errors comes down to; a bug among them, or a second kind, is raised as it is."""
    expected, others = group.split(P2pinferError)
    if others is not None:
        _, bugs = others.split(KeyboardInterrupt)
        if bugs is None:
            sys.exit(130)  # what failed beside it failed because of it
        raise group
    assert expected is not None  # a group is not empty
    error = sole(expected)
    assert isinstance(error, P2pinferError)
    return error
