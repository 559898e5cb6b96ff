"""What liars who offer all for nothing cost a newcomer, beside one honest node: eight of them, and a thousand keys.

The node and the client are processes of their own; the liars live here. The client meets one of them first, which
passes on the offers of all, and the honest node's.
"""

import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from p2pinfer.core.records.contract import verify_request
from p2pinfer.core.records.records import countersign
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.wire.messages import MAX_OFFERS, Message, Offers
from p2pinfer.core.wire.session_messages import Accept, Open, SessionRefused
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store
from p2pinfer.overlay.link import Link
from tests.bench.figures import Bound, Figure
from tests.disk.tiny import tiny_folder
from tests.hostile.good import open_asker
from tests.hostile.liars import NOTHING, Liar, forged_offer, open_liar, quietly
from tests.hostile.strangers import least, new_key
from tests.hostile.victims import Victim, open_victim

ABOUT = "the first answer of a newcomer, and later ones, beside liars who offer all for nothing"
LIARS: Final = 8
MANY: Final = 1_000
LATER: Final = 4
FIRST_S: Final = 5.0
LATER_S: Final = 1.0


def run() -> Sequence[Figure]:
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        store = Store(root / "store")
        import_model(str(tiny_folder(root / "tiny", num_hidden_layers=3)), store)
        with open_victim(root, store.root) as victim:
            return trio.run(_run, root, store.root, victim)


async def _run(root: Path, store: Path, victim: Victim) -> list[Figure]:
    figures = []
    for name, many, lie in (
        ("who refuse", 0, refuse),
        ("who accept and keep silent", 0, keep_silent),
        ("behind a silent port", 0, None),
        ("and a thousand keys", MANY, refuse),
    ):
        for how, ask in (("", _ask), (", a process for each", _ask_anew)):
            async with open_liars(victim, lie, many) as liar:
                # A thousand keys are told to the honest node, which passes some of them on
                first = victim.address if many else liar.own_address
                told_s = await trio.to_thread.run_sync(ask, root / f"{name}{how}".replace(" ", "-"), store, first)
            detail = "seconds of each: " + " ".join(f"{one:.2f}" for one in told_s)
            figures += [
                Figure(f"8 liars {name}: first answer{how}", told_s[0], Bound.BELOW, FIRST_S, "s", detail),
                Figure(f"8 liars {name}: later ones{how}", max(told_s[1:]), Bound.BELOW, LATER_S, "s", "the slowest"),
            ]
    return figures


def _ask(root: Path, store: Path, bootstrap: str) -> list[float]:
    """Seconds of each answer, of one client that has met nobody."""
    with open_asker(root, store, bootstrap) as client:
        return [_seconds(client.ask(model="tiny", max_tokens=8)) for _ in range(1 + LATER)]


def _ask_anew(root: Path, store: Path, bootstrap: str) -> list[float]:
    """The same, of a process for each answer, as `p2pinfer ask` is: all of one folder, where nobody was met yet."""
    told_s = []
    for _ in range(1 + LATER):
        with open_asker(root, store, bootstrap) as client:
            told_s.append(_seconds(client.ask(model="tiny", max_tokens=8)))
    return told_s


def _seconds(answer: dict[str, Any]) -> float:
    return float("inf") if "error" in answer else float(answer["seconds"])


@asynccontextmanager
async def open_liars(
    victim: Victim, lie: Callable[[Liar], Callable[[Link, Message], None]] | None, many: int
) -> AsyncIterator[Liar]:
    """The liar to meet first. lie: what each says to an Open; None where nobody answers at all.

    many: offers of keys that nobody has
    """
    async with AsyncExitStack() as stack:
        liars = [await stack.enter_async_context(open_liar(victim.arena)) for _ in range(LIARS)]
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        first, known = liars[0], await liars[0].offer()
        offers = [known]
        for liar in liars:
            port = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{peer_name(liar.key.public)}"
            offers.append(forged_offer(known, liar.key, (port if lie is None else liar.own_address,), prices=NOTHING))
            if lie is not None:
                liar.mouth.says[Open] = lie(liar)
        first.mouth.offers.extend(offers)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(push, first, [nowhere(known, first) for _ in range(many)])
        yield first
        nursery.cancel_scope.cancel()


def nowhere(known: KnownOffer, liar: Liar) -> KnownOffer:
    """An offer of a key that nobody has, at an address where somebody else answers."""
    key = new_key()
    address = f"{liar.own_address.partition('/p2p/')[0]}/p2p/{peer_name(key.public)}"
    offer: KnownOffer = forged_offer(known, key, (address,), prices=NOTHING)
    return offer


async def push(liar: Liar, offers: Sequence[KnownOffer]) -> None:
    """Tell whoever links to the liar of all these offers."""
    told: set[Link] = set()
    while True:
        for link in set(liar.mouth.up) - told:
            told.add(link)
            relayed = [known.relay(trio.current_time()) for known in offers]
            for at in range(0, len(relayed), MAX_OFFERS):
                quietly(link, Offers(0, tuple(relayed[at : at + MAX_OFFERS])))
        await trio.sleep(0.01)


def refuse(liar: Liar) -> Callable[[Link, Message], None]:
    def say(link: Link, message: Message) -> None:
        assert isinstance(message, Open)
        quietly(link, least(SessionRefused, session=message.session, code=Code.INTERNAL))

    return say


def keep_silent(liar: Liar) -> Callable[[Link, Message], None]:
    def say(link: Link, message: Message) -> None:
        assert isinstance(message, Open)
        contract = countersign(verify_request(message.contract, message.signature), liar.key)
        quietly(link, least(Accept, session=message.session, signature=contract.signatures[1]))

    return say
