"""`p2pinfer receipt show`: one contract and its highest receipt, in full, with both signatures checked."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.options import data_option, json_option, store_option
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import (
    SHORT_ID,
    amount_words,
    codec_name,
    lined,
    many,
    numerics_name,
    reason_words,
    role_names,
    time_words,
)
from p2pinfer.core.money.ledger import Earned
from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.contract import Contract, verify_contract
from p2pinfer.core.records.receipt import FINAL, verify_receipt
from p2pinfer.core.records.records import ZEROS, SignedRecord
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import P2pinferError, RemoteProtocolError, UsageError
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import PRICE_UNIT, Codec, PeerKey, RecordId
from p2pinfer.disk.journal_reader import JournalReader, read_journal
from p2pinfer.disk.key_files import own_keys
from p2pinfer.disk.places import client_journal, is_there, node_journal
from p2pinfer.disk.store import Store

LABEL: Final = 14  # characters of what a line is about; an id of 64 digits fits beside it
MIN_DIGITS: Final = 4  # of a contract's id
MAX_DIGITS: Final = 64
WORK: Final = (  # usage and price of the same name, in the words of the bill
    ("prefill", "prompt", "layer-tokens"),
    ("cached", "cached prompt", "layer-tokens"),
    ("decode", "answer", "layer-tokens"),
    ("sampled", "ids sampled", "ids"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A receipt, and what else the journal knows of it. why: why it does not verify; None if it does."""

    side: str
    receipt: Earned
    certificate: SignedRecord[NodeCert] | None
    why: str | None


@click.group()
def receipt() -> None:
    """Look at receipts, those earned and those paid."""


@receipt.command()
@click.argument("contract", metavar="ID")
@data_option
@store_option
@json_option
def show(contract: str, data: Path, store: Path, as_json: bool) -> None:
    """Show the receipt of the contract ID, whose first digits will do, and check both signatures.

    A contract has one receipt that counts: the highest that node and client both signed. The exit code is 1 if it does
    not verify.

    \b
    p2pinfer earnings --by session    shows contracts of this machine's node
    p2pinfer owed --by session        and of its clients
    p2pinfer receipt show 247f896c    shows one
    """
    found = find(contract, data)
    id_ = found.receipt.contract.record.model
    model = Store(store).get(id_) or Store(store).fetched.get(id_)
    name = model.name if model else ""
    if as_json:
        say(json.dumps(summary(found, name)))
    else:
        _print(found, name)
    if found.why is not None:
        raise P2pinferError(f"the receipt does not verify: {found.why}")


def find(digits: str, data: Path) -> Found:
    """The receipt of the contract whose id begins so, in what this machine earned and paid.

    Raises UsageError where none does, or several do.
    """
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS or set(digits.lower()) - set("0123456789abcdef"):
        raise UsageError(
            f"{digits!r:.80} is not an id: give the first {MIN_DIGITS} hex digits of a contract's id, or more"
        )
    journals = [path for path in (node_journal(data), client_journal(data)) if is_there(path)]
    if not journals:
        raise UsageError(
            f"no node and no client has used the data folder {data} yet: run p2pinfer node or p2pinfer ask first, or "
            "name another with --data"
        )
    found: dict[bytes, Found] = {}
    unsigned: list[RecordId] = []
    for path in journals:
        with read_journal(path, CheckBar()) as reader:
            for one in reader.find_receipts(digits):
                found.setdefault(one.contract.id, _found(one, reader, path == node_journal(data), own_keys(data)))
            unsigned += reader.find_proposed(digits)
    if len(found) == 1:
        return found.popitem()[1]
    if found:
        ids = ", ".join(sorted(id_.hex()[: len(digits) + SHORT_ID] for id_ in found))
        raise UsageError(f"{many(len(found), 'contract')} begin with {digits}; give more digits: {ids}")
    if unsigned:
        raise P2pinferError(
            f"contract {unsigned[0].hex()} has no receipt yet: the client has not signed what the node proposed"
        )
    raise UsageError(
        f"no receipt of a contract {digits}...; see which there are: p2pinfer earnings --by session, or owed"
    )


def _found(receipt: Earned, reader: JournalReader, is_node: bool, own: frozenset[PeerKey]) -> Found:
    terms = receipt.contract.record
    known = reader.contract(receipt.contract.id)
    assert known is not None  # a receipt is stored after its contract
    certificate = next((one for one in reader.certificates() if one.id == terms.cert), None)
    side = "paid" if not is_node else "self" if terms.client in own | {terms.owner} else "unbacked"
    return Found(side, receipt, certificate, _fault(receipt, certificate))


def _fault(one: Earned, certificate: SignedRecord[NodeCert] | None) -> str | None:
    """The fault in signatures, amount or times, or None; the journal's word is not taken for it."""
    client, node = one.contract.signatures
    node_again, client_again = one.receipt.signatures
    try:
        contract = verify_contract(one.contract.body, client, node)
        verify_receipt(one.receipt.body, node_again, client_again, contract)
    except RemoteProtocolError as error:
        return str(error)
    if certificate is not None and not certificate.record.covers(contract.record.issued, contract.record.expires):
        return "the node's certificate does not cover the contract"
    return None


def summary(found: Found, model: str) -> dict[str, object]:
    """A receipt as `--json` prints it; every field of both records."""
    contract, receipt = found.receipt.contract, found.receipt.receipt
    terms, total = contract.record, receipt.record
    client, node = contract.signatures
    return {
        "contract": contract.id.hex(),
        "verified": found.why is None,
        "why": found.why,
        "kind": found.side,
        "seq": total.seq,
        "final": total.state == FINAL,
        "reason": Code.read(total.reason).label,
        "time": total.time,
        "amount_ncr": total.amount,
        "reserve_ncr": terms.reserve,
        "flat_ncr": terms.flat,
        "usage": asdict(total.usage),
        "prices": asdict(terms.prices),
        "positions": terms.work.committed(total.usage),
        "prompt_tokens": terms.prompt,
        "session": found.receipt.session.hex(),
        "payer": peer_name(terms.client),
        "node": peer_name(terms.node),
        "owner": peer_name(terms.owner),
        "model": model,
        "model_id": terms.model.hex(),
        "layers": [terms.span.first, terms.span.last],
        "roles": role_names(terms.roles),
        "numerics": numerics_name(terms.numerics),
        "codecs": [codec_name(codec) for codec in terms.codecs],
        "start": terms.start,
        "seam": terms.seam,
        "limits": asdict(terms.limits),
        "issued": terms.issued,
        "expires": terms.expires,
        "in_root": total.in_root.hex(),
        "out_root": total.out_root.hex(),
        "nonce": terms.nonce.hex(),
        "offer": terms.offer.hex(),
        "certificate": terms.cert.hex(),
        "generation": terms.generation.hex(),
        "params": terms.params.hex(),
        "audit": terms.audit.hex(),
        "grant": terms.grant.hex(),
        "terms": list(terms.terms),
        "signatures": {
            "contract": {"client": client.hex(), "node": node.hex()},
            "receipt": {"node": receipt.signatures[0].hex(), "client": receipt.signatures[1].hex()},
        },
    }


def _print(found: Found, model: str) -> None:
    contract, total = found.receipt.contract, found.receipt.receipt.record
    terms = contract.record
    say(f"contract {contract.id.hex()}")
    sections = (
        _money(found),
        [("", "")],
        _bill(terms, found),
        [("", "")],
        _work(found, model),
        [("", "")],
        _proof(found),
    )
    for what, value in (line for section in sections for line in section):
        say(lined(what, value, LABEL))
    say(f"\nreceipt {total.seq}: {'both signatures verify' if found.why is None else 'DOES NOT VERIFY'}")


Lines = list[tuple[str, str]]

SIDES: Final = {
    "unbacked": "earned, unbacked: the payer's own word, with nothing behind it",
    "self": "from one of your own keys, so the money stays yours",
    "paid": "owed by you",
}


def _money(found: Found) -> Lines:
    terms, total = found.receipt.contract.record, found.receipt.receipt.record
    return [
        ("amount", amount_words(total.amount)),
        ("", SIDES[found.side]),
        ("payer", peer_name(terms.client)),
        ("node", peer_name(terms.node)),
        ("owner", peer_name(terms.owner)),
    ]


def _bill(terms: Contract, found: Found) -> Lines:
    """The lines by which the amount follows from work and prices."""
    usage = found.receipt.receipt.record.usage
    lines = []
    for name, what, units in WORK:
        count, price = getattr(usage, name), getattr(terms.prices, name)
        if count:
            lines.append((what, f"{count:,} {units} at {price:,} per million = {_exact(count * price)}"))
    if terms.flat:
        lines.append(("per session", f"{terms.flat:,}"))
    lines.append(("", "the sum in nano-credits, rounded up once"))
    lines.append(("", f"at most {terms.reserve:,} were agreed on"))
    return lines


def _exact(product: int) -> str:
    """Usage times price, in nano-credits, before anything is rounded."""
    whole, rest = divmod(product, PRICE_UNIT)
    return f"{whole:,}.{rest:06d}".rstrip("0").rstrip(".")


def _work(found: Found, model: str) -> Lines:
    terms, total = found.receipt.contract.record, found.receipt.receipt.record
    codecs = " to ".join("ids" if codec == Codec.IDS else codec_name(codec) for codec in terms.codecs)
    positions = terms.work.committed(total.usage)
    state = "final" if total.state == FINAL else "running"
    return [
        ("state", f"{state}: {reason_words(total.reason)}"),
        *([("model", model)] if model else []),
        ("model id", terms.model.hex()),
        ("layers", f"{terms.span} ({many(len(terms.span), 'layer')}), as {' and '.join(role_names(terms.roles))}"),
        (
            "positions",
            f"{positions:,}, of which {terms.prompt:,} were the prompt's; at most {terms.limits.max_positions:,}",
        ),
        ("numerics", f"{numerics_name(terms.numerics)}; rows in and out: {codecs}"),
        ("agreed", f"{time_words(terms.issued)}, until {time_words(terms.expires)}"),
        ("receipt of", time_words(total.time)),
        ("session", found.receipt.session.hex()),
        ("receipts due", f"every {terms.limits.cadence:,} positions; at most {terms.limits.window:,} ahead of them"),
    ]


def _proof(found: Found) -> Lines:
    terms, total = found.receipt.contract.record, found.receipt.receipt.record
    certificate = found.certificate
    lines = [
        ("root in", total.in_root.hex()),
        ("root out", total.out_root.hex()),
        ("certificate", terms.cert.hex()),
        *([("", f"holds until {time_words(certificate.record.not_after)}")] if certificate else []),
        ("offer", terms.offer.hex()),
        ("generation", terms.generation.hex()),
        ("audit hash", terms.audit.hex()),
    ]
    if terms.params != ZEROS:
        lines.append(("sampling hash", terms.params.hex()))
    if terms.start:
        lines.append(("start", f"position {terms.start:,}: earlier ones were paid by another contract"))
    if terms.seam:
        lines.append(("seam", f"position {terms.seam:,}: earlier ones are another session's"))
    return lines
