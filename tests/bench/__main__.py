"""`python -m tests.bench [NAME...] [--json]`: the figures that the product promises, measured here and now.

Ratios compare within one run only. Each bench is a file of its own beside this one.
"""

import argparse
import json
import sys
from dataclasses import asdict
from importlib import import_module
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure
from tests.bench.machine import conditions, load_average

WIDTH: Final = 180  # of the table in a file
BENCHES: Final = (
    *("one_stream", "many_streams", "bytes_per_token", "start", "idle", "receipts", "hop", "routing"),
    *("engine", "engine_quality", "engine_layer", "engine_memory"),
)
# These take long, need root, or need something to be named
ASKED_FOR: Final = (
    "beside",
    "files",
    "attack",
    "strays",
    "overhead",
    "found",
    "wan",
    "liars",
    "crawling",
    "crowd",
    "crowded",
    "idle_swarm",
    "client_cpu",
    "cold_ask",
    "cold_crowd",
    "history",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"any of {', '.join(BENCHES)}, which are the default, and {', '.join(ASKED_FOR)}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    asked = parser.parse_args()
    if unknown := set(asked.names) - {*BENCHES, *ASKED_FOR}:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}")
    console = Console(stderr=asked.json)
    if not console.is_terminal:
        console.width = WIDTH
    rows: list[tuple[Figure, float, float]] = []
    for name in asked.names or BENCHES:
        bench = import_module(f"tests.bench.{name}")
        console.print(f"[dim]{name}: {bench.ABOUT}[/dim]", highlight=False)
        before = load_average()
        rows += [(figure, before, load_average()) for figure in bench.run()]
    if asked.json:
        print(json.dumps({"conditions": conditions(), "figures": [_plain(*row) for row in rows]}))
    else:
        console.print(_table(rows))
        for line in conditions():
            console.print(f"[dim]{line}[/dim]", highlight=False)
    return 0 if all(figure.passes for figure, _, _ in rows) else 1


def _plain(figure: Figure, before: float, after: float) -> dict[str, object]:
    own = {**asdict(figure), "side": figure.side.value, "passes": figure.passes, "share": round(figure.share, 4)}
    return {**own, "load_before": before, "load_after": after}


def _table(rows: list[tuple[Figure, float, float]]) -> Table:
    table = Table(box=None, title="Figures", title_justify="left")
    table.add_column("figure", no_wrap=True)
    for heading in ("value", "bound", "value/bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("load", justify="right", no_wrap=True)
    table.add_column("how")
    for figure, before, after in rows:
        verdict = f"[green]{figure.verdict}[/green]" if figure.passes else f"[red]{figure.verdict}[/red]"
        table.add_row(
            figure.name,
            f"{figure.value:.3g} {figure.unit}" if figure.value < 1000 else f"{figure.value:,.0f} {figure.unit}",
            f"{figure.side.value} {figure.bound:,.5g}",
            f"{figure.share:.2f}",
            verdict,
            f"{before:.1f} {after:.1f}",
            figure.detail,
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
