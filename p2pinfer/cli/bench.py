"""`p2pinfer bench`: how fast this machine is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio
from rich.table import Table

from p2pinfer.cli.bars import open_bars
from p2pinfer.cli.options import as_value, check_nodes_run, json_option, store_option
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import many
from p2pinfer.core.values.units import Numerics
from p2pinfer.disk.store import Store
from p2pinfer.engine.messages import CPU
from p2pinfer.node.settings import MAX_THREADS, check_device, numerics_of

if TYPE_CHECKING:
    from p2pinfer.diagnosis.engine_comparison import EngineComparison, EngineRow, Trial

MAX_SESSIONS: Final = 4096
BAR: Final = 18  # characters of the longest one; the table fits a terminal of 80
EIGHTHS: Final = " ▏▎▍▌▋▊▉"


@click.group()
def bench() -> None:
    """Measure how fast this machine is."""


def _counts(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= MAX_SESSIONS for part in parts):
        raise click.BadParameter(
            f"{text!r} is not a list of numbers from 1 to {MAX_SESSIONS}; write for example 1,4,16"
        )
    return tuple(int(part) for part in parts)


def _device(ctx: click.Context, param: click.Parameter, name: str) -> str:
    check_device(name)
    return name


@dataclass(frozen=True, slots=True)
class _TrialOptions:
    """As `Trial`, which takes long to import. threads: 0 for as many as a node has"""

    device: str
    threads: int
    sessions: tuple[int, ...]
    context: int


@bench.command()
@click.option("--model", default="", metavar="NAME", help="Name or id of the model.  [default: the store's only one]")
@click.option(
    "--numerics",
    multiple=True,
    type=click.Choice([numerics.label for numerics in Numerics]),
    help="Compare the engine of this class; may be given several times.  [default: i8g32-1 and bf16-1; on a GPU "
    "bf16-1]",
)
@click.option(
    "--device",
    default=CPU,
    show_default=True,
    metavar="NAME",
    callback=_device,
    help="Where the engines compute: cpu, cuda, cuda:1.",
)
@click.option(
    "--threads",
    type=click.IntRange(0, MAX_THREADS),
    default=0,
    help="CPU threads of the engines.  [default: as a node has]",
)
@click.option(
    "--sessions",
    callback=_counts,
    default="1,4,16,64",
    show_default=True,
    metavar="N,N...",
    help="How many sessions decode together.",
)
@click.option(
    "--context", type=click.IntRange(1), default=256, show_default=True, help="Positions that each session has."
)
@store_option
@json_option
@as_value("asked", _TrialOptions, "device", "threads", "sessions", "context")
def engine(model: str, numerics: tuple[str, ...], asked: _TrialOptions, store: Path, as_json: bool) -> None:
    """Compare this machine's engines with each other, and with the speed of its memory.

    Each engine loads the model in a process of its own; they compute in turn and medians are told. It takes about a
    minute with the demo model, and is worth something only while nothing else runs.

    The floor is the time it takes to read, once, what a token of one session needs: weights, scales, output head and
    KV cache. No engine can be faster with one session; a good one comes close. More sessions share one reading of the
    weights, so together they go beyond it, until the arithmetic is what takes the time.

    \b
    As a node would compute:    p2pinfer bench engine
    With all of two cores:      p2pinfer bench engine --threads 2
    On a GPU:                   p2pinfer bench engine --device cuda
    A large model, quickly:     p2pinfer bench engine --model NAME --sessions 1 --numerics i8g32-1
    """
    check_nodes_run()
    from p2pinfer.diagnosis.engine_comparison import Trial, classes_here, compare
    from p2pinfer.node.defaults import usual_model
    from p2pinfer.node.shard import default_threads

    models = Store(store)
    chosen = usual_model(models, model)
    device = asked.device
    classes = classes_here(models, chosen, device, [numerics_of(label) for label in numerics])
    trial = Trial(asked.threads or default_threads(), asked.sessions, asked.context, device)
    with open_bars(transient=True) as report:
        comparison = trio.run(compare, models, chosen, classes, trial, report)
    if as_json:
        say(json.dumps(_plain(chosen.name, device, comparison)))
    else:
        _print(chosen.name, trial, comparison)


def _plain(model: str, device: str, comparison: "EngineComparison") -> dict[str, object]:
    return {
        "model": model,
        "device": device,
        "bandwidth_gb_s": _rounded(comparison.bandwidth_gb_s),
        "floor_tokens_per_second": _rounded(comparison.floor),
        "rows": [
            {
                "engine": row.engine,
                "class": row.numerics.label,
                "threads": row.threads,
                "sessions": row.sessions,
                "decode_tokens_per_second": _rounded(row.decode),
                "prefill_tokens_per_second": _rounded(row.prefill),
                "of_floor": _rounded(row.of_floor, 4),
            }
            for row in comparison.rows
        ],
    }


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _print(model: str, trial: "Trial", comparison: "EngineComparison") -> None:
    """A bar for each speed, all of one scale."""
    rows = comparison.rows
    readers = many(trial.threads, "thread") if trial.device == CPU else trial.device
    table = Table(title=f"{model}, {readers}, {many(trial.context, 'position')} each", title_justify="left", box=None)
    for heading in ("engine", "class", "sessions"):
        table.add_column(heading, no_wrap=True)
    table.add_column("tokens/s", justify="right", no_wrap=True)
    table.add_column("of floor", justify="right", no_wrap=True)
    table.add_column("")
    most = max(comparison.floor or 0.0, *(max(row.decode, row.prefill) for row in rows))
    if comparison.floor:
        table.add_row("memory floor", "", "1", f"{comparison.floor:,.0f}", "1.00", bar(comparison.floor, most, "dim"))
    for at, row in enumerate(rows):
        first = not at or rows[at - 1].numerics is not row.numerics
        if first:
            table.add_section()
        _add(table, row, most, first)
        if at + 1 == len(rows) or rows[at + 1].numerics is not row.numerics:
            table.add_row("", "", "prefill", f"{row.prefill:,.0f}", "", bar(row.prefill, most, "cyan"))
    console = Terminal()
    console.print(table)
    if comparison.bandwidth_gb_s:
        console.print(
            f"The memory gives {comparison.bandwidth_gb_s:.1f} GB/s to {readers}, so one session cannot have "
            f"more than {comparison.floor:,.0f} tokens/s of {rows[0].engine}.",
            style="dim",
            highlight=False,
        )
    else:
        console.print(
            "The floor was not measured: the native kernel does that. `p2pinfer doctor` says more.", style="dim"
        )


def _add(table: Table, row: "EngineRow", most: float, first: bool) -> None:
    table.add_row(
        row.engine if first else "",
        row.numerics.label if first else "",
        str(row.sessions),
        f"{row.decode:,.0f}" if row.decode >= 100 else f"{row.decode:.1f}",
        "" if row.of_floor is None else f"{row.of_floor:.2f}",
        bar(row.decode, most, "green"),
    )


def bar(value: float, most: float, colour: str) -> str:
    """A bar of blocks, in eighths of a character, with its colour."""
    whole, rest = divmod(round(8 * BAR * value / most), 8)
    return f"[{colour}]{'█' * whole}{EIGHTHS[rest].strip()}[/{colour}]"
