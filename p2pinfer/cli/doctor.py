"""`p2pinfer doctor`: whether this machine can serve, and what would make it faster."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.table import Table
from rich.text import Text

from p2pinfer.cli.options import (
    check_nodes_run,
    config_option,
    data_option,
    engine_options,
    json_option,
    store_option,
)
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import many
from p2pinfer.disk.store import Store
from p2pinfer.node.settings import change, read_settings

if TYPE_CHECKING:
    from p2pinfer.diagnosis.findings import Examination

MARKS: Final = {"good": Text("ok", "green"), "advice": Text("better", "yellow"), "wrong": Text("WRONG", "red")}


@click.command()
@config_option
@click.option("--model", metavar="NAME", help="Name or id of the model to serve.  [default: the store's only one]")
@engine_options
@data_option
@store_option
@json_option
def doctor(config: Path | None, data: Path, store: Path, as_json: bool, **serve: str | int | None) -> None:
    """Say whether this machine can serve, and what would make it faster.

    Looks at what `p2pinfer node` would meet with the same options: the model, the engine that would compute it and why,
    threads, the speed of the memory, the network's addresses, the data folder's identity and file system. Changes
    nothing (what it tries in the data folder is gone afterwards) and asks nobody on the network.

    Each line is `ok`, `better` (it can serve; the line below says what would be better) or `WRONG` (it cannot serve
    until that is mended, and the exit code is 1).
    """
    check_nodes_run()
    from p2pinfer.diagnosis.examination import examine

    settings = change(read_settings(config), "serve", **serve)
    examination = examine(settings, data, Store(store), int(time.time()))
    if as_json:
        say(json.dumps(_plain(examination, data, store)))
    else:
        _print(examination)
    if not examination.can_serve:
        raise click.exceptions.Exit(1)


def _plain(examination: "Examination", data: Path, store: Path) -> dict[str, object]:
    return {
        "can_serve": examination.can_serve,
        "engine": examination.engine or None,
        "class": examination.numerics.label if examination.numerics is not None else None,
        "why_not_native": examination.why_not_native or None,
        "instruction_sets": list(examination.instruction_sets),
        "threads": examination.threads,
        "cores": examination.cores,
        "bandwidth_gb_s": _rounded(examination.bandwidth_gb_s),
        "floor_tokens_per_second": _rounded(examination.floor),
        **{name: version or None for name, version in examination.packages.items()},
        "compiler": examination.compiler or None,
        "memory_bytes": examination.memory_bytes,
        "store": str(store),
        "model": examination.model or None,
        "models": list(examination.models),
        "data": str(data),
        "certificate_until": examination.certificate_until,
        "findings": [
            {
                "subject": finding.subject,
                "verdict": finding.verdict.value,
                "text": finding.text,
                "advice": finding.advice or None,
            }
            for finding in examination.findings
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _print(examination: "Examination") -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in examination.findings:
        table.add_row(finding.subject, MARKS[finding.verdict.value], finding.text)
        if finding.advice:
            table.add_row("", "", finding.advice, style="bold")
    console = Terminal()
    console.print(table)
    wrong = sum(finding.verdict.value == "wrong" for finding in examination.findings)
    if wrong:
        console.print(f"\nIt cannot serve yet: {many(wrong, 'thing')} to mend.", highlight=False)
    else:
        name = examination.model or "NAME"
        console.print(f"\nIt can serve: p2pinfer node --model {name}", highlight=False)
