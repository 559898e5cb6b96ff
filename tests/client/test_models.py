"""Models of strangers: they share names, drip their files and offer what nobody has; the honest one is found."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.api import Client, open_client
from p2pinfer.client.setup import World
from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import ModelError, Refused
from p2pinfer.core.values.units import ModelId, PeerKey
from p2pinfer.core.wire.messages import AskFile, FilePart
from p2pinfer.disk.identity import load_identity
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.files import ModelFiles
from p2pinfer.overlay.answers import Answering
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.disk.tiny import tiny_folder

from .liars import SoloStage, open_stage

SOON_S = 20.0  # for an honest model, whatever strangers do


@dataclass(frozen=True)
class Imported:
    """A model as somebody imported it, in a store of its own."""

    store: Store
    model: StoredModel

    def offered(self, model: ModelId, files: Answering) -> "Offered":
        """Its offer, with another model's id, by a peer that answers for files as it likes."""
        return Offered(self.store, replace(self.model, id=model), files)


@dataclass(frozen=True)
class Offered:
    store: Store
    model: StoredModel
    files: Answering | None = None


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> list[Imported]:
    """Models of one name."""
    found = []
    for layers in (1, 2):
        root = tmp_path_factory.mktemp(f"import{layers}")
        folder = tiny_folder(root / "tiny", num_hidden_layers=layers)
        found.append(Imported(Store(root / "store"), import_model(str(folder), Store(root / "store"))))
    return found


def run(test: Callable[[Client], Awaitable[None]], root: Path, store: Store, *served: Imported | Offered) -> None:
    """Run a test with a client that has this store, among peers that offer these models."""

    async def main() -> None:
        world, addresses = MemoryWorld(), []
        async with AsyncExitStack() as stack:
            for number, one in enumerate(served):
                identity = load_identity(root / f"peer{number}", int(time.time()))
                files = one.files if isinstance(one, Offered) else None
                opened = open_stage(SoloStage, world, one.store, one.model, identity, files)
                addresses += (await stack.enter_async_context(opened)).network.addresses()
            network = lambda key, exchange, greeting: open_memory_network(  # noqa: E731
                world, key.public, exchange, greeting=greeting
            )
            async with open_client(root / "client", store.root, addresses, around=World(network)) as client:
                await test(client)

    trio.run(main, clock=MockClock(rate=10))


def unknown(number: int) -> ModelId:
    return ModelId(sha256(b"made up %d" % number).digest())


async def silent(_peer: PeerKey, _ask: Ask) -> FilePart:
    await trio.sleep_forever()


def dripping(store: Store) -> Answering:
    """One byte in four seconds."""

    async def answer(peer: PeerKey, ask: Ask) -> FilePart:
        assert isinstance(ask, AskFile)
        await trio.sleep(4)
        return await ModelFiles(store).answer(peer, replace(ask, limit=1))

    return answer


async def ask(client: Client, model: str) -> int:
    with trio.fail_after(SOON_S):
        return (await client.answer("hello", model=model, max_tokens=2)).tokens


def test_the_owners_name_means_the_owners_model(tmp_path: Path, imports: list[Imported]) -> None:
    mine, theirs = imports

    async def test(client: Client) -> None:
        assert (await client.model("tiny")).id == mine.model.id
        assert (await client.model("")).id == mine.model.id
        assert await ask(client, theirs.model.id.hex()) == 2

    run(test, tmp_path, mine.store, mine, theirs)
    assert mine.store.find("tiny").id == mine.model.id  # so the owner's node still starts
    assert Store(mine.store.root).find("tiny").id == mine.model.id
    assert [model.id for model in Store(mine.store.root).fetched.models()] == [theirs.model.id]


def test_a_tokenizer_that_is_longer_than_any_is_not_fetched(
    tmp_path: Path, imports: list[Imported], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAN-16"""
    theirs = imports[1]
    monkeypatch.setattr("p2pinfer.client.models.MAX_MODEL_TEXT", 100)

    async def test(client: Client) -> None:
        with pytest.raises(ModelError, match=r"a tokenizer of [\d,]+ bytes, limit 100"):
            await ask(client, theirs.model.id.hex())

    run(test, tmp_path, Store(tmp_path / "store"), theirs)


def test_a_name_of_the_owners_is_no_strangers_where_nobody_serves_it(tmp_path: Path, imports: list[Imported]) -> None:
    mine, theirs = imports

    async def test(client: Client) -> None:
        with pytest.raises(ModelError, match=f"nobody serves 'tiny' as it was imported here.*{theirs.model.id.hex()}"):
            await client.model("tiny")

    run(test, tmp_path, mine.store, theirs)


def test_a_name_that_strangers_share_is_refused_with_the_ids(tmp_path: Path, imports: list[Imported]) -> None:
    async def test(client: Client) -> None:
        for name in ("tiny", ""):
            with pytest.raises(ModelError, match=f"2 models are meant by {name!r}") as failure:
                await client.model(name)
            assert all(one.model.id.hex() in str(failure.value) for one in imports)
        assert await ask(client, imports[1].model.id.hex()[:12]) == 2

    run(test, tmp_path, Store(tmp_path / "store"), *imports)


def test_models_that_nobody_hands_out_hold_nobody_up(tmp_path: Path, imports: list[Imported]) -> None:
    honest = imports[0]
    strangers = [honest.offered(unknown(number), silent) for number in range(10)]

    async def test(client: Client) -> None:
        assert await ask(client, "tiny") == 2
        assert await ask(client, honest.model.id.hex()) == 2
        with trio.fail_after(SOON_S):
            assert await client.models.names(await client.offers()) == {honest.model.id: "tiny"}

    run(test, tmp_path, Store(tmp_path / "store"), *strangers, honest)


def test_a_manifest_that_does_not_come_is_not_waited_for_with_every_question(
    tmp_path: Path, imports: list[Imported]
) -> None:
    asked: list[ModelId] = []

    async def count(peer: PeerKey, ask: Ask) -> FilePart:
        assert isinstance(ask, AskFile)
        asked.append(ask.model)
        return await silent(peer, ask)

    strangers = [imports[0].offered(unknown(number), count) for number in range(3)]

    async def test(client: Client) -> None:
        for _ in range(3):
            assert (await client.model("tiny")).id == imports[0].model.id
        assert sorted(asked) == sorted(map(unknown, range(3)))
        for _ in range(2):  # it is sought all the same
            with pytest.raises(ModelError, match="the manifest of 1 model on offer did not come in time"):
                await client.model(unknown(0).hex())
        assert asked.count(unknown(0)) > 1

    run(test, tmp_path, Store(tmp_path / "store"), *strangers, imports[0])


def test_files_that_drip_are_had_from_somebody_else(tmp_path: Path, imports: list[Imported]) -> None:
    honest, other = imports
    drip = dripping(other.store)
    slow = [honest.offered(honest.model.id, dripping(honest.store)) for _ in range(3)]

    async def test(client: Client) -> None:
        assert await ask(client, honest.model.id.hex()) == 2

    run(test, tmp_path, Store(tmp_path / "store"), *slow, other.offered(other.model.id, drip), honest)


def test_files_of_another_model_are_not_taken_for_this_one(tmp_path: Path, imports: list[Imported]) -> None:
    honest, other = imports

    async def answer(peer: PeerKey, ask: Ask) -> FilePart:
        assert isinstance(ask, AskFile)
        return await ModelFiles(other.store).answer(peer, replace(ask, model=other.model.id))

    false = honest.offered(honest.model.id, answer)

    async def test(client: Client) -> None:
        assert await ask(client, honest.model.id.hex()) == 2

    run(test, tmp_path, Store(tmp_path / "store"), false, false, honest)


def test_a_tokenizer_that_is_refused_is_asked_for_as_long_as_there_is_time(
    tmp_path: Path, imports: list[Imported]
) -> None:
    honest, asked = imports[0], 0

    async def answer(peer: PeerKey, ask: Ask) -> FilePart:
        nonlocal asked
        assert isinstance(ask, AskFile)
        asked += ask.name == TOKENIZER
        if ask.name == TOKENIZER and asked < 3:
            raise Refused("not yet", Code.NOT_FOUND)
        return await ModelFiles(honest.store).answer(peer, ask)

    async def test(client: Client) -> None:
        with pytest.raises(ModelError, match=r"no peer hands out tokenizer\.json: not yet"):
            await client.answer("hello", max_tokens=2, wait_s=0)
        assert await ask(client, "tiny") == 2

    run(test, tmp_path, Store(tmp_path / "store"), honest.offered(honest.model.id, answer))
    assert asked == 3


def test_nobody_waits_for_a_tokenizer_as_long_as_others_do_and_who_waits_hears_for_what(
    tmp_path: Path, imports: list[Imported]
) -> None:
    honest, asked = imports[0], 0

    async def answer(peer: PeerKey, ask: Ask) -> FilePart:
        nonlocal asked
        assert isinstance(ask, AskFile)
        if ask.name == TOKENIZER:
            asked += 1
            await trio.sleep(0.5)
            raise Refused("not yet", Code.NOT_FOUND)
        return await ModelFiles(honest.store).answer(peer, ask)

    async def test(client: Client) -> None:
        said: list[str] = []

        async def give_up_at_once() -> None:
            with pytest.raises(ModelError, match=r"no peer hands out tokenizer\.json: not yet"):
                await client.answer("hello", model="tiny", max_tokens=2, wait_s=0)

        with pytest.raises(trio.TooSlowError):  # who is patient waits on
            with trio.fail_after(SOON_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(client.answer, "hello", wait_s=600, on_wait=said.append))
                    await client.model("tiny")
                    with trio.fail_after(SOON_S / 2):
                        async with trio.open_nursery() as impatient:
                            for _ in range(20):
                                impatient.start_soon(give_up_at_once)
                    before = asked
                    await trio.sleep_forever()
        assert said == ["a peer that hands out tokenizer.json of tiny"]
        assert before < 5 < asked

    run(test, tmp_path, Store(tmp_path / "store"), honest.offered(honest.model.id, answer))
