"""`p2pinfer owed settle`: meet the nodes that work was left unsigned for, and sign it.

What the clients' own record justifies is signed at once, as at every contact. What it does not justify is shown, and
signed only after a typed yes: where the record is lost, or where a node computed what never arrived.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.table import Table

from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.options import bootstrap_option, data_option, json_option, mdns_option, store_option
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import say
from p2pinfer.cli.unsigned import Unsigned, forgotten_before, plain, print_unsigned, read_unsigned
from p2pinfer.cli.words import SHORT_ID, many, time_words, unit_for
from p2pinfer.core.values.keys import peer_name, short_name, short_names
from p2pinfer.core.values.units import PeerKey, RecordId
from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.places import client_journal

if TYPE_CHECKING:
    from p2pinfer.client.settlement import Claim

ANSWER_S: Final = 3.0  # for nodes that are met to propose what they are owed, and again to store what is signed
YES: Final = "yes"
CLAIMS: Final = (
    "Claimed by nodes, and not justified by your own record: either it was lost, or the answers never arrived. Nothing "
    "proves these claims; each is at most one window of work. A node may give you less credit until they are signed."
)


@dataclass(frozen=True, slots=True)
class Folders:
    data: Path
    store: Path
    bootstrap: tuple[str, ...]
    mdns: bool


@dataclass(frozen=True, slots=True)
class Met:
    """The outcome of meeting nodes. linked: who was met; claims: proposals that nothing justifies."""

    linked: frozenset[PeerKey]
    claims: "tuple[Claim, ...]"


@click.command(short_help="Sign what a lost link or a killed client left unsigned.")
@bootstrap_option
@mdns_option
@data_option
@store_option
@json_option
def settle(bootstrap: tuple[str, ...], mdns: bool, data: Path, store: Path, as_json: bool) -> None:
    """Meet the nodes that work was left unsigned for, and sign it.

    What your own record justifies is signed; a node that asks for more is shown with what it claims, and you are asked.
    With --json nobody is asked, and nothing beyond the record is signed.

    \b
    p2pinfer owed settle --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3Koo...
    """
    import trio

    folders = Folders(data, store, bootstrap, mdns)
    before, payers = read_unsigned(data), _payers(data)
    met = {payer: trio.run(_meet, folders, payer, nodes, {}) for payer, nodes in payers.items()}
    after = read_unsigned(data)
    claims = [claim for one in met.values() for claim in one.claims]
    missed = {one.node for one in after} - {node for one in met.values() for node in one.linked}
    if as_json:
        say(json.dumps(_summary(before, after, claims, missed)))
        return
    _print_settled(before, after, missed)
    if claims and _agreed(claims):
        accepted = {claim.contract.id: claim.claimed for claim in claims}
        for payer, nodes in payers.items():
            trio.run(_meet, folders, payer, nodes, accepted)
        say("signed")


def _payers(data: Path) -> dict[PeerKey, set[PeerKey]]:
    """Keys of this machine's clients with contracts that are not paid in full, and with which nodes."""
    with read_journal(client_journal(data), CheckBar()) as reader:
        contracts = reader.unfinished(forgotten_before())
    found: dict[PeerKey, set[PeerKey]] = {}
    for contract in contracts:
        found.setdefault(contract.record.client, set()).add(contract.record.node)
    return found


async def _meet(folders: Folders, payer: PeerKey, nodes: Collection[PeerKey], accepted: Mapping[RecordId, int]) -> Met:
    """Let nodes propose what they are owed; sign what is justified, and of claims what a person accepted.

    accepted: positions, by contract
    """
    import trio

    from p2pinfer.client.api import open_client

    places = folders.data, folders.store, folders.bootstrap
    async with open_client(*places, payer=payer, mdns=folders.mdns, checking=CheckBar()) as client:
        linked = await client.meet(nodes)
        if linked:
            await trio.sleep(ANSWER_S)
        claims = tuple(client.settling.claims.values())
        if agreed := [claim for claim in claims if claim.claimed <= accepted.get(claim.contract.id, 0)]:
            for claim in agreed:
                await client.settling.sign(claim)
            client.greet(linked)
            await trio.sleep(ANSWER_S)
        return Met(frozenset(linked), claims)


def _summary(
    before: Sequence[Unsigned], after: Sequence[Unsigned], claims: "Sequence[Claim]", missed: Collection[PeerKey]
) -> dict[str, object]:
    return {
        "before": [plain(one) for one in before],
        "unsigned": [plain(one) for one in after],
        "claims": [_plain_claim(claim) for claim in claims],
        "not_met": sorted(map(peer_name, missed)),
    }


def _plain_claim(claim: "Claim") -> dict[str, object]:
    return {
        "node": peer_name(claim.contract.record.node),
        "contract": claim.contract.id.hex(),
        "positions": claim.positions,
        "amount_ncr": claim.amount,
        "since": claim.contract.record.issued,
    }


def _print_settled(before: Sequence[Unsigned], after: Sequence[Unsigned], missed: Collection[PeerKey]) -> None:
    if not before:
        say("your own record has nothing that is unsigned, and that a node still asks for")
    elif not after:
        count = sum(one.positions for one in before)
        say(f"all is signed that your own record justifies: {many(count, 'position')}")
    else:
        print_unsigned(after, Terminal())
    if missed:
        say(f"not met: {short_names(missed)}; name a peer that knows them with --bootstrap, or try again later")


def _agreed(claims: "Sequence[Claim]") -> bool:
    """Show claims and ask; only a typed yes is one."""
    terminal, unit = Terminal(), unit_for(claim.amount for claim in claims)
    table = Table(box=None, pad_edge=False)
    for heading in ("node", "contract"):
        table.add_column(heading, no_wrap=True)
    for heading in ("positions", f"claims, {unit.short}"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("since (UTC)", no_wrap=True)
    for claim in claims:
        terms = claim.contract.record
        numbers = f"{claim.positions:,}", unit.write(claim.amount)
        since = time_words(terms.issued).removesuffix(" UTC")
        table.add_row(short_name(terms.node), claim.contract.id.hex()[:SHORT_ID], *numbers, since)
    terminal.print(table)
    terminal.print(f"\n{CLAIMS}", highlight=False)
    answer: str = click.prompt("Sign for all of them? Type yes to sign", default="no", show_default=False)
    return answer.strip() == YES
