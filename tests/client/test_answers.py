"""Answers of a swarm of three real nodes, with a tiny model on the memory network."""

from collections import defaultdict
from pathlib import Path
from shutil import copytree, rmtree

import pytest
import trio

from p2pinfer.client.answer import Answer
from p2pinfer.client.api import Client
from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.models.text import Texts
from p2pinfer.core.records.receipt import FINAL
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, ModelError, NoRoute, UsageError
from p2pinfer.core.values.units import Span
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.store import Store
from p2pinfer.node.settings import Serve
from p2pinfer.node.whole import greedy_ids
from p2pinfer.overlay.memory import MemoryWorld
from tests.disk.tiny import EVEN, tiny_folder
from tests.live.processes import NUMERICS
from tests.swarms import Loop, TinySwarm

EXACT = {"codec": "f32", "numerics": NUMERICS}
HANG_S = 30.0  # a test that fails should not hang


async def wait_free(swarm: TinySwarm) -> None:
    """Until every node has given back what its sessions had reserved."""
    for node in swarm.nodes:
        assert node.shard is not None
        while node.shard.engine.free_pages < node.shard.engine.facts.pages:  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.01)


def answer_of(loop: Loop, prompt: str, **options: object) -> Answer:
    async def ask() -> Answer:
        async with loop.swarm.client() as client:
            return await client.answer(prompt, **options)  # type: ignore[arg-type]

    return loop.run(ask)


def test_greedy_ids_equal_those_of_the_whole_model(loop: Loop) -> None:
    swarm = loop.swarm
    answer = answer_of(loop, "the parked cars dream", max_tokens=40, **EXACT)
    texts = Texts(swarm.store.read(swarm.model.id, TOKENIZER), swarm.model.manifest)
    serve = Serve(numerics=NUMERICS, threads=1)
    prompt = texts.encode("the parked cars dream")
    assert list(answer.ids) == loop.run(greedy_ids, swarm.store, swarm.model, serve, prompt, 40)
    assert (answer.reason, answer.prompt_tokens) == (Code.LENGTH, len(prompt))


def test_the_answer_names_its_route_and_its_text(loop: Loop) -> None:
    answer = answer_of(loop, "hello", max_tokens=12)
    assert [stage.layers for stage in answer.stages] == [Span(0, 1), Span(1, 2), Span(2, 3)]
    assert [stage.peer for stage in answer.stages] == [node.identity.key.public for node in loop.swarm.nodes]
    assert answer.tokens == 12
    assert answer.text


def test_pieces_come_while_the_answer_grows_and_make_its_text(loop: Loop) -> None:
    async def ask() -> tuple[list[str], Answer]:
        async with loop.swarm.client() as client, client.open_answer("hello", max_tokens=20) as stream:
            with pytest.raises(GenerationFailed, match="still coming"):
                _ = stream.answer
            return [piece async for piece in stream], stream.answer

    pieces, answer = loop.run(ask)
    assert len(pieces) > 3
    assert "".join(pieces) == answer.text


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 25, 33, 90])
def test_prompts_of_every_length_are_cut_into_chunks_and_answered(loop: Loop, length: int) -> None:
    answer = answer_of(loop, "x" * length, max_tokens=6, **EXACT)
    assert answer.prompt_tokens == length
    swarm, serve = loop.swarm, Serve(numerics=NUMERICS, threads=1)
    texts = Texts(swarm.store.read(swarm.model.id, TOKENIZER), swarm.model.manifest)
    if length == 33:  # one whole model is loaded for all of them: it takes seconds
        expected = loop.run(greedy_ids, swarm.store, swarm.model, serve, texts.encode("x" * length), 6)
        assert list(answer.ids) == expected


def test_the_same_seed_gives_the_same_answer(loop: Loop) -> None:
    options = {"max_tokens": 30, "temperature": 1.0, "top_k": 50, "top_p": 0.9, **EXACT}
    first, again, other = (answer_of(loop, "the", seed=seed, **options).ids for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("codec", ["bf16", "q8o4"])
def test_other_codecs_answer_too(loop: Loop, codec: str) -> None:
    assert answer_of(loop, "hello", max_tokens=10, codec=codec).tokens == 10


def test_chat_messages_are_put_into_the_models_template(loop: Loop) -> None:
    async def ask() -> Answer:
        async with loop.swarm.client() as client:
            return await client.answer([{"role": "user", "content": "hi"}], max_tokens=3)

    assert loop.run(ask).prompt_tokens > len("hi")


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(loop: Loop) -> None:
    whole = answer_of(loop, "the parked cars dream", max_tokens=40, **EXACT)
    at = len(whole.text) // 2
    stop = whole.text[at : at + 2]
    answer = answer_of(loop, "the parked cars dream", max_tokens=40, stop=(stop,), **EXACT)
    assert answer.reason is Code.STOP
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.tokens < whole.tokens


def test_sixteen_generations_at_once_all_answer_as_alone(loop: Loop) -> None:
    prompts = ["x" * (1 + number) for number in range(16)]
    answers: dict[int, Answer] = {}

    async def ask_all() -> None:
        async with loop.swarm.client() as client, trio.open_nursery() as nursery:
            for number, prompt in enumerate(prompts):
                nursery.start_soon(ask, client, number, prompt)

    async def ask(client: Client, number: int, prompt: str) -> None:
        answers[number] = await client.answer(prompt, max_tokens=12, **EXACT)  # type: ignore[arg-type]

    loop.run(ask_all)
    for number in (0, 7, 15):
        assert answers[number].ids == answer_of(loop, prompts[number], max_tokens=12, **EXACT).ids


def test_more_generations_than_the_nodes_have_room_for_wait_for_one_another(loop: Loop) -> None:
    async def ask_all() -> list[int]:
        tokens: list[int] = []
        async with loop.swarm.client() as client, trio.open_nursery() as nursery:
            for _ in range(24):  # the window of a new client is 16 sessions wide
                nursery.start_soon(ask, client, tokens)
        return tokens

    async def ask(client: Client, tokens: list[int]) -> None:
        tokens.append((await client.answer("hello", max_tokens=4)).tokens)

    assert loop.run(ask_all) == [4] * 24


def test_every_stage_of_an_answer_is_paid_by_a_final_receipt(loop: Loop, tmp_path: Path) -> None:
    async def ask() -> Answer:
        async with loop.swarm.client(tmp_path) as client:
            return await client.answer("the parked cars dream", max_tokens=20)

    answer = loop.run(ask)
    positions = answer.prompt_tokens + answer.tokens - 1
    with read_journal(tmp_path / "client.sqlite") as journal:
        earned = journal.earned()
        assert journal.count_unstored() == 0
        assert journal.pending() == []
    assert len(earned) == 3
    assert {item.receipt.record.state for item in earned} == {FINAL}
    assert {item.receipt.record.usage.prefill + item.receipt.record.usage.decode for item in earned} == {positions}
    assert sorted(item.receipt.record.usage.sampled for item in earned) == [0, 0, answer.tokens]


def test_both_sides_keep_the_same_receipts(loop: Loop, tmp_path: Path) -> None:
    async def ask() -> None:
        async with loop.swarm.client(tmp_path) as client:
            await client.answer("hello", max_tokens=20)

    loop.run(ask)
    with read_journal(tmp_path / "client.sqlite") as journal:
        for item in journal.earned():
            [node] = [n for n in loop.swarm.nodes if n.identity.key.public == item.contract.record.node]
            with read_journal(node.journal.path) as theirs:
                kept = theirs.complete(item.contract.id)
            assert kept is not None
            assert (kept.receipt.body, kept.receipt.signatures) == (item.receipt.body, item.receipt.signatures)


def test_a_cancelled_answer_frees_its_pages_and_pays_for_what_came(loop: Loop, tmp_path: Path) -> None:
    async def ask() -> int:
        async with loop.swarm.client(tmp_path) as client:
            async with client.open_answer("hello", max_tokens=100) as stream:
                received = 0
                async for _ in stream:
                    received += 1
                    if received == 5:
                        break
            await client.wait_settled()
            await wait_free(loop.swarm)
            with pytest.raises(GenerationFailed) as failure:
                _ = stream.answer
            assert failure.value.code is Code.CANCELLED
        return received

    loop.run(ask)
    with read_journal(tmp_path / "client.sqlite") as journal:
        earned = journal.earned()
        assert journal.count_unstored() == 0
    assert [item.receipt.record.state for item in earned] == [FINAL] * 3
    assert {item.receipt.record.reason for item in earned} == {Code.CANCELLED}
    assert all(item.receipt.record.usage.decode < 99 for item in earned)


def test_leaving_the_loop_gives_the_answer_up(loop: Loop) -> None:
    async def ask() -> None:
        async with loop.swarm.client() as client:
            pieces = client.generate("hello", max_tokens=100)
            async for _ in pieces:
                break
            await pieces.aclose()  # type: ignore[attr-defined]
            await client.wait_settled()
            await wait_free(loop.swarm)

    loop.run(ask)


def test_closing_the_client_ends_what_runs_and_settles_it(loop: Loop, tmp_path: Path) -> None:
    async def ask() -> None:
        async with loop.swarm.client(tmp_path) as client:
            stream = await client._generations.start(_request("hello", max_tokens=100))
            async for _ in stream:
                break
        await wait_free(loop.swarm)

    loop.run(ask)
    with read_journal(tmp_path / "client.sqlite") as journal:
        earned = journal.earned()
    assert [(item.receipt.record.state, item.receipt.record.reason) for item in earned] == [(FINAL, Code.CANCELLED)] * 3


def _request(prompt: str, **options: object):  # type: ignore[no-untyped-def]
    from p2pinfer.client.request import Request

    return Request(prompt, **options)  # type: ignore[arg-type]


def test_two_who_wait_for_receipts_both_hear_of_them(loop: Loop) -> None:
    heard: list[bool] = []

    async def ask() -> None:
        async with loop.swarm.client() as client:

            async def wait() -> None:
                await client.wait_settled()
                heard.append(True)

            with trio.fail_after(HANG_S):
                async with trio.open_nursery() as nursery, client.open_answer("hello", max_tokens=60) as stream:
                    for _ in range(2):
                        nursery.start_soon(wait)
                    await trio.lowlevel.checkpoint()
                    assert heard == []
                    async for _ in stream:
                        pass

    loop.run(ask)
    assert heard == [True, True]


# What a client needs of a model


def test_a_client_with_an_empty_store_gets_what_it_needs_from_peers(loop: Loop, tmp_path: Path) -> None:
    async def ask() -> Answer:
        async with loop.swarm.client(store=tmp_path) as client:
            return await client.answer("hello", max_tokens=5)

    assert loop.run(ask).tokens == 5
    assert Store(tmp_path).models() == []  # nothing was imported there
    store, id_ = Store(tmp_path).fetched, loop.swarm.model.id
    assert store.missing(id_, [TOKENIZER]) == ()
    assert store.read(id_, TOKENIZER) == loop.swarm.store.read(id_, TOKENIZER)


def test_a_fetched_tokenizer_that_was_spoilt_is_fetched_again(loop: Loop, tmp_path: Path) -> None:
    async def ask() -> None:
        async with loop.swarm.client(store=tmp_path) as client:
            await client.answer("hello", max_tokens=5)

    loop.run(ask)
    path = tmp_path / "fetched" / "models" / loop.swarm.model.id.hex() / TOKENIZER
    whole = path.read_bytes()
    for spoilt in (whole.replace(b"the", b"eht"), whole[:-1], b""):
        path.write_bytes(spoilt)
        loop.run(ask)
        assert path.read_bytes() == whole


def test_an_imported_tokenizer_that_was_altered_is_noticed(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "models" / loop.swarm.model.id.hex()
    copytree(loop.swarm.model.folder, path)
    tokenizer = path / TOKENIZER
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"the", b"eht"))

    async def ask() -> None:
        async with loop.swarm.client(store=tmp_path) as client:
            await client.answer("hello", max_tokens=5)

    with pytest.raises(ModelError, match=r"tokenizer\.json was altered.*import the model again"):
        loop.run(ask)


def test_a_model_is_found_by_name_and_by_id_and_by_its_first_digits(loop: Loop) -> None:
    id_ = loop.swarm.model.id.hex()
    for name in ("tiny", "Tiny", id_, id_[:12]):
        assert answer_of(loop, "hello", model=name, max_tokens=2).tokens == 2


def test_an_unknown_model_is_refused_with_what_is_on_offer(loop: Loop) -> None:
    with pytest.raises(ModelError, match=r"nobody serves a model 'gpt-9'; on offer: tiny"):
        answer_of(loop, "hello", model="gpt-9")


def test_an_ambiguous_name_is_refused_with_the_ids(loop: Loop, tmp_path: Path) -> None:
    swarm = loop.swarm
    other = import_model(str(tiny_folder(tmp_path / "tiny", **EVEN, num_hidden_layers=1)), swarm.store)
    assert other.name == swarm.model.name

    async def ask() -> None:
        async with swarm.node(tmp_path / "node", serve_model=other.id.hex()), swarm.client() as client:
            with pytest.raises(ModelError, match="2 models are meant by 'tiny'") as failure:
                await client.answer("hello", model="tiny")
            assert swarm.model.id.hex() in str(failure.value)
            assert other.id.hex() in str(failure.value)
            with pytest.raises(ModelError, match="2 models are meant by ''"):
                await client.answer("hello", max_tokens=5)
            answer = await client.answer("hello", model=other.id.hex(), max_tokens=3)
            assert [stage.layers for stage in answer.stages] == [Span(0, 1)]

    loop.run(ask)
    rmtree(other.folder)  # its offer lives for a minute, and other tests ask for the only model


def test_without_peers_there_is_no_model(loop: Loop) -> None:
    async def ask() -> None:
        swarm = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model)
        async with swarm.client() as client:
            await client.answer("hello", max_tokens=5, wait_s=0)

    with pytest.raises(ModelError, match="no peer serves any model; name a peer that does with --bootstrap"):
        loop.run(ask)


# What cannot be answered


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(loop: Loop) -> None:
    with pytest.raises(UsageError, match="the prompt has 120 tokens and 20 are asked for; tiny takes 128 together"):
        answer_of(loop, "x" * 120, max_tokens=20)


def test_a_prompt_that_just_fits_is_answered(loop: Loop) -> None:
    assert answer_of(loop, "x" * 120, max_tokens=8).tokens == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "mp3"}, "unknown codec 'mp3'; there are f32, bf16, q8o4"),
        ({"numerics": "int3"}, "unknown numerics class 'int3'; there are f32-1, bf16-1"),
        ({"temperature": -1.0}, "cannot sample so"),
        ({"temperature": float("nan")}, "cannot sample so"),
        ({"top_p": 7.0}, "cannot sample so"),
        ({"max_tokens": 0}, "cannot sample so"),
        ({"seed": -1}, "cannot sample so"),
    ],
)
def test_options_that_make_no_sense_are_named(loop: Loop, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        answer_of(loop, "hello", **options)


def test_an_empty_prompt_is_refused(loop: Loop) -> None:
    with pytest.raises(UsageError, match="the prompt is empty"):
        answer_of(loop, "")


def test_a_class_that_nobody_serves_has_no_route_and_says_which_layers(loop: Loop) -> None:
    with pytest.raises(NoRoute, match=r"nobody serves layers 0:3"):
        answer_of(loop, "hello", max_tokens=5, numerics="bf16-1", wait_s=0)


def test_layers_that_nobody_serves_are_named(loop: Loop, tmp_path: Path) -> None:
    async def ask() -> None:
        alone = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model)
        async with alone.node(tmp_path / "node", "1:2") as node:
            alone.bootstrap = node.addresses
            with pytest.raises(NoRoute, match=r"nobody serves layers 0:1, 2:3 of 3"):
                async with alone.client() as client:
                    await client.answer("hello", max_tokens=5, wait_s=0)

    loop.run(ask)


def test_who_asks_too_early_gets_an_answer_when_all_layers_are_there(loop: Loop, tmp_path: Path) -> None:
    async def ask() -> None:
        swarm = loop.swarm
        alone = TinySwarm(MemoryWorld(), swarm.root, swarm.store, swarm.model)
        async with alone.node(tmp_path / "a", "0:2") as head:
            alone.bootstrap = head.addresses
        missing: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        answered = trio.Event()

        async def answer(client: Client) -> None:
            options = {"wait_s": 90, "on_wait": lambda what: missing[what].set()}
            assert (await client.answer("hello", max_tokens=3, **options)).tokens == 3
            answered.set()

        async with alone.client() as client, trio.open_nursery() as nursery:
            nursery.start_soon(answer, client)
            await missing["a peer that answers: none of those named with --bootstrap does"].wait()
            async with alone.node(tmp_path / "a", "0:2"):
                await missing["layers 2:3 of tiny"].wait()
                async with alone.node(tmp_path / "b", "2:3", head.addresses):
                    await answered.wait()

    loop.run(ask)


def test_spans_that_overlap_make_a_route_that_computes_each_layer_once(loop: Loop, tmp_path: Path) -> None:
    whole = answer_of(loop, "the parked cars dream", max_tokens=20, **EXACT)

    async def ask() -> Answer:
        alone = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model)
        async with (
            alone.node(tmp_path / "a", "0:2") as head,
            alone.node(tmp_path / "b", "1:3", bootstrap=head.addresses) as tail,
        ):
            alone.bootstrap = tail.addresses
            async with alone.client() as client:
                return await client.answer("the parked cars dream", max_tokens=20, **EXACT)  # type: ignore

    answer = loop.run(ask)
    assert sum(len(stage.layers) for stage in answer.stages) == 3
    assert answer.ids == whole.ids


@pytest.mark.parametrize("error", [NoRoute("it rained"), ZeroDivisionError()], ids=repr)
def test_an_error_leaves_the_block_as_it_was_raised(loop: Loop, error: Exception) -> None:
    async def fail() -> None:
        async with loop.swarm.client():
            raise error

    with pytest.raises(type(error)) as raised:
        loop.run(fail)
    assert raised.value is error
