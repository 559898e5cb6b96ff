"""`p2pinfer demo`: peers on this machine find each other, answer two prompts, and are paid by receipts.

Everything is real: processes of their own, libp2p on loopback, a language model, signed receipts. Only the time that
a home network would take is missing.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import trio
from rich.table import Table
from rich.text import Text

from p2pinfer.cli.options import check_nodes_run, json_option, store_option
from p2pinfer.cli.processes import NodeProcess, open_swarm
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import many
from p2pinfer.client.answer import Answer
from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.models.text import Texts
from p2pinfer.core.records.statement_check import verify_statement
from p2pinfer.core.values.errors import ModelError, P2pinferError
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import Numerics, Span
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.defaults import DEMO_MODEL
from p2pinfer.node.settings import Serve

PROMPTS: Final = (
    "What is a distributed hash table? Answer in two sentences.",
    "Write a short poem about parked cars that dream of numbers.",
)
MAX_TOKENS: Final = 96
EXACT_PROMPT: Final = "The history of computing is"
EXACT_TOKENS: Final = 64
EXACT: Final = Numerics.F32_1


@dataclass(frozen=True, slots=True)
class NodeEarnings:
    """The earnings of a node of the demo, by a statement that was verified."""

    peer: str
    span: Span
    earned: int  # nano-credits
    receipts: int


@click.command()
@click.option("--peers", default=3, show_default=True, type=click.IntRange(1, 30), help="Nodes that share the layers.")
@store_option
@json_option
def demo(peers: int, store: Path, as_json: bool) -> None:
    """Watch peers on this machine answer two prompts, and see what each of them earned.

    Starts a bootstrap peer and nodes that hold a part of the layers each, in processes of their own; asks two prompts;
    verifies every node's statement of earnings; and compares a run in float32 with the whole model in one process.
    """
    check_nodes_run()
    console = Terminal(quiet=as_json)
    model = _model(Store(store), console)
    result = trio.run(_demo, model, Store(store), peers, console)
    if as_json:
        say(json.dumps(result))
    if not (result["verified"] and result["matches_whole_model"]):
        raise P2pinferError("the demo did not hold what it promises; please report it")


def _model(store: Store, console: Terminal) -> StoredModel:
    """The demo model, imported if it is not there."""
    try:
        model = store.find(DEMO_MODEL)
        if not store.missing(model.id, [file.name for file in model.manifest.files]):
            return model
    except ModelError:
        pass  # not imported yet
    from p2pinfer.cli.model import import_with_progress

    console.print("Importing the demo model, once")
    return import_with_progress("demo", store)


async def _demo(model: StoredModel, store: Store, peers: int, console: Terminal) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="p2pinfer-demo-") as folder:
        root = Path(folder)
        console.print(f"Starting a bootstrap peer and {many(peers, 'node')} for {model.manifest.layers} layers")
        async with open_swarm(root, store.root, model, peers, "--threads", "1") as (bootstrap, *nodes):
            answers = await _ask_all(root / "client", store, bootstrap.address, console)
            paid = [await _settle(node, root) for node in nodes]
        _print_earnings(paid, console)
        matches = await _matches_whole_model(root / "exact", model, store, peers, console)
    return {
        "model": model.name,
        "text": answers[0].text,
        "tokens": sum(answer.tokens for answer in answers),
        "tokens_per_second": round(_speed(answers), 2),
        "first_token_s": round(answers[0].first_token_s, 4),
        "stages": [
            {
                "peer": one.peer,
                "layers": [one.span.first, one.span.last],
                "earned_ncr": one.earned,
                "receipts": one.receipts,
            }
            for one in paid
        ],
        "verified": True,  # `_settle` raises where a statement does not verify
        "matches_whole_model": matches,
    }


async def _ask_all(data: Path, store: Store, bootstrap: str, console: Terminal) -> list[Answer]:
    """Ask the prompts one after the other, the answers streaming."""
    from p2pinfer.client.api import open_client

    answers = []
    async with open_client(data, store.root, [bootstrap], mdns=False, here=False) as client:  # the demo's nodes alone
        for prompt in PROMPTS:
            console.print(f"\n> {prompt}", style="bold")
            chat = [{"role": "user", "content": prompt}]
            async with client.open_answer(chat, max_tokens=MAX_TOKENS) as stream:
                async for piece in stream:
                    console.print(piece, end="", soft_wrap=True, highlight=False)
                answers.append(stream.answer)
            console.print()
            _print_answer(answers[-1], console)
        await client.wait_settled()
    return answers


async def _settle(node: NodeProcess, root: Path) -> NodeEarnings:
    """Export the node's statement with the command an owner would use, and verify the file.

    Raises RemoteProtocolError where it does not verify.
    """
    file = root / f"{node.data.name}.statement"
    command = [sys.executable, "-P", "-m", "p2pinfer", "earnings", "export", str(file), "--data", str(node.data)]
    await trio.run_process(command, capture_stdout=True)
    verdict = await trio.to_thread.run_sync(lambda: verify_statement(file.read_bytes()))
    spans = {entry.contract.record.span for entry in verdict.entries}
    header = verdict.header.record
    return NodeEarnings(peer_name(header.node), min(spans), header.amount, header.count)


async def _matches_whole_model(root: Path, model: StoredModel, store: Store, peers: int, console: Terminal) -> bool:
    """True if a run in float32, rows included, gives the ids of the whole model in one process."""
    from p2pinfer.client.api import open_client
    from p2pinfer.node.whole import greedy_ids

    console.print(f"\nComparing {EXACT_TOKENS} greedy ids in float32 with the whole model in one process")
    async with (
        open_swarm(root, store.root, model, peers, "--threads", "1", "--numerics", EXACT.label) as (bootstrap, *_),
        open_client(root / "client", store.root, [bootstrap.address], mdns=False, here=False) as client,
    ):
        answer = await client.answer(EXACT_PROMPT, max_tokens=EXACT_TOKENS, codec="f32", numerics=EXACT.label)
    texts = Texts(store.read(model.id, TOKENIZER), model.manifest)
    serve = Serve(numerics=EXACT.label, threads=1)
    ids = await greedy_ids(store, model, serve, texts.encode(EXACT_PROMPT), EXACT_TOKENS)
    matches = len(ids) == answer.tokens and tuple(ids) == answer.ids
    console.print("the same, id for id" if matches else "they differ", style="green" if matches else "red")
    return matches


def _speed(answers: Sequence[Answer]) -> float:
    """Tokens per second after the first id, over all answers."""
    return sum(answer.tokens - 1 for answer in answers) / sum(answer.decode_s for answer in answers)


def _print_answer(answer: Answer, console: Terminal) -> None:
    route = "  ->  ".join(f"…{peer_name(stage.peer)[-6:]} {stage.layers}" for stage in answer.stages)
    console.print(f"route {route}", style="dim", highlight=False)
    console.print(
        f"{answer.tokens} tokens, {answer.tokens_per_second:.1f} tokens/s, first after "
        f"{answer.first_token_s:.2f} s, ended by {answer.reason.label}",
        style="dim",
        highlight=False,
    )


def _print_earnings(paid: Sequence[NodeEarnings], console: Terminal) -> None:
    table = Table(title="What each node earned, by the statement it exported", title_justify="left", box=None)
    for heading in ("node", "layers"):
        table.add_column(heading, no_wrap=True)
    for heading in ("receipts", "nano-credits"):
        table.add_column(heading, justify="right")
    table.add_column("statement")
    for one in paid:
        peer = f"…{one.peer[-6:]}"
        table.add_row(peer, str(one.span), str(one.receipts), f"{one.earned:,}", Text("verified", "green"))
    console.print()
    console.print(table)
