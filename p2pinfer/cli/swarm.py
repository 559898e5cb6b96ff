"""`p2pinfer swarm`: who serves what, until when, at what price."""

import json
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import trio
from rich.table import Table

from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.options import bootstrap_option, data_option, json_option, mdns_option, store_option
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import say
from p2pinfer.core.records.offer import ServingState
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.errors import NoRoute
from p2pinfer.core.values.keys import parse_peer_name, peer_name, short_name
from p2pinfer.core.values.units import Numerics

UNITS: Final = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))
LONG: Final = 1_000_000  # a number that is shown rounded, where it is not round


@click.command()
@bootstrap_option
@mdns_option
@data_option
@store_option
@json_option
def swarm(bootstrap: tuple[str, ...], mdns: bool, data: Path, store: Path, as_json: bool) -> None:
    """Show who serves what, until when, at what price.

    The ask is in nano-credits per million: layer-tokens of the prompt, of the answer, and ids sampled by the tail.
    """
    rows = trio.run(_look, bootstrap, mdns, data, store)
    if as_json:
        say(json.dumps(rows))
    elif rows:
        print_rows(rows)
    else:
        advice = "name others with --bootstrap, or start one: p2pinfer node"
        say(f"nobody serves anything, as far as the peers asked know; {advice}")


async def _look(bootstrap: tuple[str, ...], mdns: bool, data: Path, store: Path) -> list[dict[str, object]]:
    from p2pinfer.client.api import open_client

    async with open_client(data, store, bootstrap, mdns=mdns, checking=CheckBar()) as client:
        offers = await client.offers()
        if client.is_alone:
            raise NoRoute(
                "none of the peers named can be reached; check that they run, and the addresses given with --bootstrap"
            )
        if client.misses_named:
            say("none of the peers named can be reached; this is what others know", err=True)
        names = await client.models.names(offers)
        now = trio.current_time()
        return [
            _row(known, names.get(known.offer.record.model, ""), now) | {"reachable": client.reaches(known)}
            for known in sorted(offers, key=_order)
        ]


def _order(known: KnownOffer) -> tuple[bytes, int, bytes]:
    offer = known.offer.record
    return offer.model, offer.span.first, offer.node


def _row(known: KnownOffer, name: str, now: float) -> dict[str, object]:
    offer = known.offer.record
    return {
        "peer": peer_name(offer.node),
        "model": name,
        "model_id": offer.model.hex(),
        "layers": [offer.span.first, offer.span.last],
        "state": ServingState(offer.state).name.lower(),
        "numerics": Numerics(offer.numerics).label if offer.numerics in {*Numerics} else str(offer.numerics),
        "prefill_per_s": offer.speed.prefill,
        "decode_per_s": offer.speed.decode,
        "busy_per_mille": offer.load.busy,
        "free_positions": offer.load.free_positions,
        "price_prefill": offer.prices.prefill,
        "price_decode": offer.prices.decode,
        "price_sampled": offer.prices.sampled,
        "flat": offer.flat,
        "until": offer.until or None,
        "offer_left_s": round(known.left_s(now)),
        "addresses": list(known.addresses),
    }


def print_rows(rows: list[dict[str, object]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("peer", "model", "layers", "state"):
        table.add_column(heading, no_wrap=heading != "model", overflow="fold")  # what a stranger writes gives way
    for heading in ("tokens/s", "ask, ncr/M"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        layers = row["layers"]
        assert isinstance(layers, list)
        table.add_row(
            short_name(parse_peer_name(str(row["peer"]))),
            str(row["model"] or row["model_id"])[:24],
            ":".join(map(short, layers)),
            _state(str(row["state"]), row["until"]) if row["reachable"] else "out of reach",
            short(row["decode_per_s"]),
            "/".join(short(row[price]) for price in ("price_prefill", "price_decode", "price_sampled")),
        )
    Terminal().print(table)


def _state(state: str, until: object) -> str:
    if isinstance(until, int) and state == "serving":
        return f"until {datetime.fromtimestamp(until):%H:%M}"
    return state


def short(number: object) -> str:
    """A number in as few characters as tell it: 20k for 20,000; one that is long even so is rounded.

    Offers may hold any number of 32 bits: where nobody knows the model, nobody can tell that it has no such layers.
    """
    assert isinstance(number, int)
    for unit, name in UNITS:
        if number >= unit and not number % (unit // 10):
            return f"{number / unit:g}{name}"
    unit, name = next((one for one in UNITS if number >= one[0]), UNITS[-1])
    return str(number) if number < LONG else f"{number / unit:.1f}{name}"
