"""`p2pinfer node`: the daemon."""

import logging
import signal
from pathlib import Path

import click
import trio
from rich.progress import Progress

from p2pinfer.cli.options import bootstrap_option, config_option, data_option, engine_options, store_option
from p2pinfer.cli.terminal import Terminal, say
from p2pinfer.core.errors import UsageError
from p2pinfer.disk.store import Store
from p2pinfer.engine.choice import EVERY_ENGINE, missing_words
from p2pinfer.node.settings import Settings, change, read_settings


@click.command()
@config_option
@data_option
@store_option
@bootstrap_option
@click.option(
    "--listen", multiple=True, metavar="MULTIADDR", help="Where to listen, for example /ip4/0.0.0.0/tcp/4001."
)
@click.option("--model", metavar="NAME", help="Name or id of the model to serve; none only helps peers meet.")
@click.option("--layers", metavar="A:B", help="Layers [A, B) to serve.  [default: where the swarm is weakest]")
@engine_options
def node(
    config: Path | None,
    data: Path,
    store: Path,
    bootstrap: tuple[str, ...],
    listen: tuple[str, ...],
    model: str | None,
    layers: str | None,
    numerics: str | None,
    device: str | None,
    threads: int | None,
) -> None:
    """Serve layers of a model to the swarm until SIGTERM or Ctrl-C.

    Prints one line `ready MULTIADDR` once it serves: others bootstrap from that address. Options given here win over
    the file's.

    \b
    A first peer, on this machine:   p2pinfer node --data a --model smollm2-135m-instruct
    A peer that others can reach:    p2pinfer node --data b --listen /ip4/0.0.0.0/tcp/4001 --model ...
    A peer that joins them:          p2pinfer node --data c --bootstrap MULTIADDR --model ...
    """
    settings = read_settings(config)
    settings = change(settings, "network", listen=listen, bootstrap=bootstrap)
    settings = change(settings, "serve", model=model, layers=layers, numerics=numerics, device=device, threads=threads)
    if settings.serve.layers and not settings.serve.model:
        raise UsageError("layers are given, and no model that has them: name it with --model")
    if settings.serve.model and (why := missing_words(EVERY_ENGINE)):
        raise UsageError(f"no model can be served: {why}")
    logging.getLogger("p2pinfer").setLevel(logging.INFO)
    trio.run(_serve, settings, data, Store(store))


async def _serve(settings: Settings, data: Path, store: Store) -> None:
    """Run the node until a signal, which ends it also while it still loads. A second one ends it at once.

    A node that serves leaves by itself, so that its sessions are told and paid; cancelling it would cut them off.
    """
    serving, leave = trio.Event(), trio.Event()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, settings, data, store, serving, leave)
            await anext(signals)
            # From here on a signal does what it does to any program
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            leave.set()
            if not serving.is_set():
                nursery.cancel_scope.cancel()


async def _run(settings: Settings, data: Path, store: Store, serving: trio.Event, leave: trio.Event) -> None:
    from p2pinfer.node.daemon import open_node  # libp2p takes half a second to import; wrong settings should not

    console = Terminal(stderr=True)
    with Progress(console=console, disable=not console.has_bars, transient=True) as bars:
        task = bars.add_task("loading", start=False)

        def progress(done: int, total: int) -> None:
            bars.start_task(task)
            bars.update(task, completed=done, total=total)

        async with open_node(settings, data, store, progress=progress) as running:
            bars.stop()
            for address in running.addresses[:1]:
                say(f"ready {address}")
            serving.set()
            await leave.wait()
