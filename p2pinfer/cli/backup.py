"""`p2pinfer backup`: a copy of the journal, checked; and what to know before it is ever used."""

import json
from pathlib import Path
from typing import Final

import click

from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.options import data_option, json_option
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import amount_words, lined, many, time_words
from p2pinfer.disk.backup import Copied, back_up
from p2pinfer.disk.places import client_journal, node_journal

JOURNALS: Final = {"node": node_journal, "client": client_journal}
LABEL: Final = 11  # characters of what a line is about


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--journal",
    type=click.Choice(list(JOURNALS)),
    default="node",
    show_default=True,
    help="Whose: what the node earns, or what the clients of the folder pay.",
)
@click.option("--force", is_flag=True, help="Replace an earlier copy.")
@data_option
@json_option
def backup(file: Path, journal: str, force: bool, data: Path, as_json: bool) -> None:
    """Copy the journal of receipts to FILE, also while it is in use, and check the copy.

    FILE is written whole or not at all, and is readable by you alone.

    \b
    p2pinfer backup /mnt/usb/journal-2026-11-27.sqlite
    """
    source = JOURNALS[journal](data)
    copied = back_up(source, file, CheckBar(), replace=force)
    if as_json:
        say(json.dumps(_plain(copied, source)))
    else:
        _print(copied, source, data)


def _plain(copied: Copied, source: Path) -> dict[str, object]:
    return {
        "file": str(copied.file),
        "journal": str(source),
        "bytes": copied.size,
        "receipts": copied.receipts,
        "amount_ncr": copied.amount,
        "unsigned": copied.proposals,
        "newest": copied.newest,
    }


def _print(copied: Copied, source: Path, data: Path) -> None:
    newest = f", the newest of {time_words(copied.newest)}" if copied.newest is not None else ""
    say(f"{copied.file}: a checked copy of {source}")
    for label, text in (
        ("holds", f"{many(copied.receipts, 'receipt')}, {amount_words(copied.amount)}{newest}"),
        ("and", f"contracts, certificates, numbers of statements, {many(copied.proposals, 'receipt')} not signed yet"),
        ("not", f"the keys in {data} (*.key, node.cert), models, settings, and what is signed from now on"),
        ("to restore", f"end what uses {data}, move {source.name}* away, and copy the file to {source}"),
        (
            "never",
            "let a restored copy sign beside the original: two journals give one number twice, and records that "
            "contradict each other are held against the key that signed them",
        ),
    ):
        say(lined(label, text, LABEL))
