"""`p2pinfer node`: the daemon."""

import faulthandler
import gc
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio
from rich.progress import Progress

from p2pinfer.cli.journal_bar import SLOW_S, WHAT
from p2pinfer.cli.options import (
    bootstrap_option,
    check_nodes_run,
    config_option,
    data_option,
    engine_options,
    price_options,
    store_option,
)
from p2pinfer.cli.repeats import Repeats
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import LogHandler, say
from p2pinfer.core.values.errors import UsageError
from p2pinfer.disk.store import Store
from p2pinfer.engine.choice import EVERY_ENGINE, missing_words
from p2pinfer.node.settings import Settings, change, read_settings
from p2pinfer.system import ENDING

if TYPE_CHECKING:
    from p2pinfer.node.daemon import Node

AGAIN_S: Final = 1.0  # a terminal that closes says so twice, and some service managers use two signals
ALWAYS: Final = (signal.SIGINT, signal.SIGTERM)
END_S: Final = 20  # seconds for sessions, goodbyes and threads to end; they take less, unless something hangs

logger = logging.getLogger(__name__)


@click.command()
@config_option
@data_option
@store_option
@bootstrap_option
@click.option(
    "--listen",
    multiple=True,
    metavar="MULTIADDR",
    help="Where to listen, for example /ip4/0.0.0.0/tcp/4001; may be given several times.  [default: this machine]",
)
@click.option("--model", metavar="NAME", help="Name or id of the model to serve; none only helps peers meet.")
@click.option("--layers", metavar="A:B", help="Layers [A, B) to serve.  [default: where the swarm is weakest]")
@engine_options
@price_options
def node(
    config: Path | None,
    data: Path,
    store: Path,
    bootstrap: tuple[str, ...],
    listen: tuple[str, ...],
    prices: dict[str, int],
    **serve: str | int | None,
) -> None:
    """Serve layers of a model to the swarm until SIGTERM, SIGHUP or Ctrl-C.

    Prints one line `ready MULTIADDR` once it serves and has an address: others bootstrap from that. Without --listen
    nobody beyond this machine reaches it, also where it joined others. Each node of a machine needs a --data of its
    own. Options given here win over the file's.

    \b
    For this machine:  p2pinfer node --model smollm2-135m-instruct
    For others, too:   p2pinfer node --listen /ip4/0.0.0.0/tcp/4001 --model ...
    To join others:    p2pinfer node --listen /ip4/0.0.0.0/tcp/4001 --bootstrap MULTIADDR --model ...
    """
    check_nodes_run()
    settings = read_settings(config)
    settings = change(settings, "network", listen=listen, bootstrap=bootstrap)
    settings = change(settings, "serve", **serve)
    settings = change(settings, "prices", **prices)
    if settings.serve.layers and not settings.serve.model:
        raise UsageError("layers are given, and no model that has them: name it with --model")
    if settings.serve.model and (why := missing_words(EVERY_ENGINE)):
        raise UsageError(f"no model can be served: {why}")
    logging.getLogger("p2pinfer").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogHandler):  # a program that runs us has handlers of its own
            handler.addFilter(Repeats())
    trio.run(_serve, settings, data, Store(store))


async def _serve(settings: Settings, data: Path, store: Store) -> None:
    """Run the node until a signal, which ends it also while it still loads.

    A node that serves leaves by itself, so that its sessions are told and paid; cancelling it would cut them off.
    """
    serving, leave, scope = trio.Event(), trio.Event(), trio.CancelScope()

    def end() -> None:
        leave.set()
        if not serving.is_set():
            _end_soon()
            scope.cancel()

    # `nohup` ignores SIGHUP for us; the others end a node however it was started
    heard = [one for one in ENDING if one in ALWAYS or signal.getsignal(one) is not signal.SIG_IGN]
    with trio.open_signal_receiver(*heard) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, heard, signals, end)
            with scope:
                await _run(settings, data, store, serving, leave)
            nursery.cancel_scope.cancel()


async def _heed(heard: Sequence[signal.Signals], signals: AsyncIterator[int], end: Callable[[], None]) -> None:
    """End the node on the first signal; one that comes more than AGAIN_S later does what it does to any program."""
    logger.info("%s: the node ends; one more signal ends it at once", signal.Signals(await anext(signals)).name)
    end()
    with trio.move_on_after(AGAIN_S):
        async for _ in signals:
            pass
    for each in heard:
        signal.signal(each, signal.SIG_DFL)


def _end_soon() -> None:
    """From now on the process has END_S to end, whatever hangs; then it says where, and ends with code 1."""
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(END_S, exit=True, file=sys.__stderr__)


async def _run(settings: Settings, data: Path, store: Store, serving: trio.Event, leave: trio.Event) -> None:
    from p2pinfer.node.daemon import open_node  # it takes a while to import; wrong settings should not

    console = Terminal(stderr=True)
    with Progress(console=console, disable=not console.has_bars, transient=True) as bars:
        task = bars.add_task("loading", start=False)

        def progress(done: int, total: int) -> None:
            bars.start_task(task)
            bars.update(task, completed=done, total=total)

        read, began_s = bars.add_task(WHAT, visible=False), time.monotonic()

        def checking(done: int, total: int) -> None:
            slow = time.monotonic() > began_s + SLOW_S
            bars.update(read, completed=done, total=total, visible=done < total and slow)

        async with open_node(settings, data, store, progress=progress, checking=checking) as running:
            bars.stop()
            serving.set()
            gc.freeze()  # what a start made is no garbage, and to look for some in it stops the loop for 80 ms
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_say_ready, running)
                try:
                    await leave.wait()
                finally:  # on a signal, or because something of the node failed
                    _end_soon()
                nursery.cancel_scope.cancel()


async def _say_ready(running: "Node") -> None:
    """Say where the node can be met, as soon as it is anywhere."""
    if not running.addresses:
        logger.warning("serving, and nobody can reach it: this machine has no address yet at which the node listens")
    while not running.addresses:
        await running.wait_moved()
    say(f"ready {running.addresses[0]}")
