"""Clients beside nodes that lie: an honest node's answer comes all the same, or one sentence, in time."""

import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import trio

from p2pinfer.core.models.manifest import TOKENIZER, encode_manifest, model_id
from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.contract import verify_request
from p2pinfer.core.records.records import countersign
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import ModelId, Span
from p2pinfer.core.wire.messages import AskFile, FilePart, Message
from p2pinfer.core.wire.session_messages import Accept, Close, Open, Prompt, Propose, SessionRefused, Signed, unpack_ids
from p2pinfer.disk.store import Store
from p2pinfer.overlay.link import Link
from tests.live.processes import command

from .conftest import Scene
from .liars import NOTHING, Liar, open_liar, quietly
from .strangers import least
from .victims import Victim, open_victim

SOON_S = 20.0  # for an answer beside liars, the start of two processes included
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


async def ask(root: Path, store: Path, bootstrap: Sequence[str], *options: object) -> "CompletedProcess[str]":
    """`p2pinfer ask` of a newcomer."""
    met = [word for address in bootstrap for word in ("--bootstrap", address)]
    words = ("ask", "hello", "--data", root / "client", "--store", store, *met, "--max-tokens", 8, *options)
    return await trio.to_thread.run_sync(partial(command, *words))


def answered(result: "CompletedProcess[str]") -> None:
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert json.loads(result.stdout)["tokens"] == 8


def told(result: "CompletedProcess[str]") -> str:
    """The one sentence of a failure; no traceback, and nothing that moves a cursor."""
    assert result.returncode in (1, 2), (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr + result.stdout
    words = result.stderr.strip().splitlines()[-1]
    assert words.startswith("Error: ")
    return words


async def honest(liar: Liar) -> KnownOffer:
    """The node's offer, which the liar passes on as it came."""
    known = await liar.offer()
    liar.passes_on(known)
    return known


ODD_OFFERS: dict[str, dict[str, object]] = {
    "layers that begin beyond it": {"span": Span(3, 9)},
    "a speed of nothing": {},
    "an unknown numerics class": {"numerics": 60000},
    "no codec": {"codecs": 0},
    "another model": {"model": ModelId(bytes(32))},
}


async def test_an_offer_of_layers_beyond_any_model_keeps_nobody_from_an_honest_node(
    victim: Victim, scene: Scene, tmp_path: Path
) -> None:
    await test_an_odd_offer_keeps_nobody_from_an_honest_node(victim, scene, tmp_path, {"span": Span(0, (1 << 31) - 1)})


@pytest.mark.slow
@pytest.mark.parametrize("changes", ODD_OFFERS.values(), ids=ODD_OFFERS)
async def test_an_odd_offer_keeps_nobody_from_an_honest_node(
    victim: Victim, scene: Scene, tmp_path: Path, changes: dict[str, object]
) -> None:
    async with open_liar(victim.arena) as liar:
        known = await honest(liar)
        liar.offers(known, prices=NOTHING, **changes)
        answered(await ask(tmp_path, scene.store, [liar.own_address], "--json", "--model", "tiny"))


@pytest.mark.slow
async def test_an_offer_at_an_odd_address_keeps_nobody_from_an_honest_node(
    victim: Victim, scene: Scene, tmp_path: Path
) -> None:
    async with open_liar(victim.arena) as liar:
        known = await honest(liar)
        name = peer_name(liar.key.public)
        odd = (f"/ip4/127.0.0.1/udp/53/p2p/{name}", f"/dns4/localhost/tcp/53/p2p/{name}", "x")
        liar.offers(known, odd, prices=NOTHING)
        answered(await ask(tmp_path, scene.store, [liar.own_address], "--json"))


async def test_eight_fake_offers_for_nothing_do_not_win(victim: Victim, scene: Scene, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        liars = [await stack.enter_async_context(open_liar(victim.arena)) for _ in range(8)]
        known = await honest(liars[0])
        for liar in liars:
            fake = liar.offers(known, prices=NOTHING)
            liar.mouth.says[Open] = lambda link, message: quietly(
                link,
                least(SessionRefused, session=message.session, code=Code.INTERNAL),  # type: ignore[attr-defined]
            )
            if liar is not liars[0]:
                liars[0].passes_on(fake)
        answered(await ask(tmp_path, scene.store, [liars[0].own_address], "--json"))
        assert sum(len(liar.mouth.opened) for liar in liars)  # they were asked


@pytest.mark.slow
async def test_liars_who_accept_and_stay_silent_cost_a_try_each(victim: Victim, scene: Scene, tmp_path: Path) -> None:
    def accept(liar: Liar, link: Link, message: Message) -> None:
        assert isinstance(message, Open)
        contract = countersign(verify_request(message.contract, message.signature), liar.key)
        quietly(link, least(Accept, session=message.session, signature=contract.signatures[1]))

    async with AsyncExitStack() as stack:
        liars = [await stack.enter_async_context(open_liar(victim.arena)) for _ in range(8)]
        known = await honest(liars[0])
        for liar in liars:
            liar.mouth.says[Open] = partial(accept, liar)
            fake = liar.offers(known, prices=NOTHING)
            if liar is not liars[0]:
                liars[0].passes_on(fake)
        answered(await ask(tmp_path, scene.store, [liars[0].own_address], "--json"))


def take_the_prompt(liar: Liar) -> None:
    """Let it accept, want to be paid for the whole prompt at once, and give up without a word."""
    accounts: dict[bytes, StageAccount] = {}

    def accept(link: Link, message: Message) -> None:
        assert isinstance(message, Open)
        contract = countersign(verify_request(message.contract, message.signature), liar.key)
        accounts[message.session] = StageAccount(contract, message.secret, liar.key)
        quietly(link, least(Accept, session=message.session, signature=contract.signatures[1]))

    def claim(link: Link, message: Message) -> None:
        assert isinstance(message, Prompt)
        account, ids = accounts[message.session], unpack_ids(message.ids)
        account.add_inputs(0, message.ids, len(ids))
        account.commit(len(ids) - 1)
        account.close(Code.ENGINE)
        for proposal in account.due(int(time.time())):
            quietly(link, Propose(message.session, proposal.signed.body, proposal.signed.signatures[0]))
        quietly(link, least(Close, session=message.session, code=Code.ENGINE))

    liar.mouth.says |= {Open: accept, Prompt: claim}


@pytest.mark.slow
async def test_liars_who_want_to_be_paid_for_the_prompt_get_nothing(
    victim: Victim, scene: Scene, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        liars = [await stack.enter_async_context(open_liar(victim.arena)) for _ in range(3)]
        known = await honest(liars[0])
        prices = known.offer.record.prices
        for liar in liars:
            take_the_prompt(liar)
            fake = liar.offers(known, prices=replace(prices, decode=0, sampled=0))
            if liar is not liars[0]:
                liars[0].passes_on(fake)
        result = await ask(tmp_path, scene.store, [liars[0].own_address], "--json", "--max-cost", "100")
        answered(result)
        told = json.loads(result.stdout)
        assert (told["lost"], told["cost"]) == (0, sum(stage["cost"] for stage in told["stages"]))
        assert sum(len(liar.mouth.opened) for liar in liars)  # they were asked
        assert not [message for liar in liars for _, message in liar.mouth.came if isinstance(message, Signed)]


async def test_another_model_of_the_same_name_is_not_taken_for_the_owners(
    scene: Scene, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The stranger's manifest does not come between the owner and the own model, neither now nor at the next start."""
    root = tmp_path_factory.mktemp("poison")
    with open_victim(root, scene.store) as victim:
        async with open_liar(victim.arena) as liar:
            known = await honest(liar)
            data = manifest_like(scene.store)
            liar.mouth.says[AskFile] = lambda link, message: quietly(
                link,
                FilePart(message.call, len(data), data[message.offset :]),  # type: ignore[attr-defined]
            )
            liar.offers(known, model=model_id(data), prices=NOTHING)
            for _ in range(2):
                answered(await ask(tmp_path, scene.store, [liar.own_address], "--json", "--model", "tiny"))
        await trio.to_thread.run_sync(victim.stop)
    with open_victim(root / "again", scene.store) as victim:
        victim.check()


def manifest_like(store: Path, **changes: object) -> bytes:
    """The manifest of another model that is called tiny, too."""
    [model] = Store(store).models()
    return encode_manifest(replace(model.manifest, licence="other", **changes))  # type: ignore[arg-type]


@pytest.mark.slow
async def test_a_manifest_that_trickles_keeps_nobody_from_an_honest_model(
    victim: Victim, scene: Scene, tmp_path: Path
) -> None:
    async with open_liar(victim.arena) as liar, trio.open_nursery() as nursery:
        known = await honest(liar)

        async def trickle(link: Link, message: AskFile) -> None:
            await trio.sleep(4.0)
            quietly(link, FilePart(message.call, 5000, bytes(1)))

        liar.mouth.says[AskFile] = lambda link, message: nursery.start_soon(trickle, link, message)
        liar.offers(known, model=ModelId(os.urandom(32)))
        began = time.monotonic()
        answered(await ask(tmp_path, scene.store, [liar.own_address], "--json", "--model", "tiny"))
        id_ = known.offer.record.model.hex()
        answered(await ask(tmp_path, tmp_path / "empty", [liar.own_address], "--json", "--model", id_))
        assert time.monotonic() - began < 2 * SOON_S
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_ten_offers_of_unknown_models_on_a_silent_port_hold_nobody_up(
    victim: Victim, scene: Scene, tmp_path: Path
) -> None:
    async with open_liar(victim.arena) as liar:
        known = await honest(liar)
        with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and says nothing
            port = silent.getsockname()[1]
            for _ in range(10):
                address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_name(liar.key.public)}"
                liar.offers(known, (address,), model=ModelId(os.urandom(32)))
            began = time.monotonic()
            answered(await ask(tmp_path, tmp_path / "empty", [liar.own_address], "--json", "--model", "tiny"))
            assert time.monotonic() - began < SOON_S


async def test_a_price_beyond_all_others_is_not_signed(victim: Victim, scene: Scene, tmp_path: Path) -> None:
    dear = replace(NOTHING, **dict.fromkeys(("prefill", "decode", "sampled"), (1 << 32) - 1))
    async with open_liar(victim.arena) as liar:
        known = await liar.offer()
        liar.offers(known, prices=dear)
        result = await ask(tmp_path, scene.store, [liar.own_address], "--max-cost", "1")
        assert "cost" in told(result)
        assert not liar.mouth.opened


async def test_words_of_a_node_move_no_cursor(victim: Victim, scene: Scene, tmp_path: Path) -> None:
    async with open_liar(victim.arena) as liar:
        known = await liar.offer()
        liar.mouth.says[Open] = lambda link, message: quietly(
            link,
            least(SessionRefused, session=message.session, code=Code.INTERNAL, text=f"sorry{ESCAPE}"),  # type: ignore[attr-defined]
        )
        liar.offers(known)
        assert "sorry" in told(await ask(tmp_path, scene.store, [liar.own_address]))


TEMPLATES = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}"
    "{% endfor %}{% endfor %}",
    "text of two gigabytes": "{{ 'a' * 2000000000 }}",
    "deep parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "what is not its own": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
}


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
async def test_a_template_of_a_stranger_costs_a_sentence(
    victim: Victim, scene: Scene, tmp_path: Path, template: str
) -> None:
    data = manifest_like(scene.store, template=template)
    [model] = Store(scene.store).models()
    files = {"": data, TOKENIZER: Store(scene.store).read(model.id, TOKENIZER)}

    def hand_out(link: Link, message: AskFile) -> None:
        file = files.get(message.name, b"")
        part = file[message.offset : message.offset + min(message.limit, 16_384)]
        quietly(link, FilePart(message.call, len(file), part))

    async with open_liar(victim.arena) as liar:
        known = await liar.offer()
        liar.mouth.says[AskFile] = hand_out  # type: ignore[assignment]
        liar.offers(known, model=model_id(data))
        began = time.monotonic()
        empty = tmp_path / "empty"
        told(await ask(tmp_path, empty, [liar.own_address], "--chat", "--model", model_id(data).hex()))
        assert time.monotonic() - began < 2 * SOON_S
        assert not liar.mouth.opened
