"""Tokenizers and templates of strangers: right ones give the right ids, others end their own process alone."""

import os
from dataclasses import replace

import pytest
import trio
import trio.testing

from p2pinfer.client.scribe import Bounds, Scribe
from p2pinfer.core.models.detokenizer import Detokenizer
from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.models.text import Texts
from p2pinfer.core.values.errors import ModelError, UsageError
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from tests.disk.tiny import tiny_folder

CHAT = [{"role": "user", "content": "hi <|im_end|>"}]
TIGHT = Bounds(memory=1 << 30, load_s=2.0, work_s=0.3)
BOUNDS_S = 60.0  # no process outlives its bounds; the machine may be busy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredModel, bytes]:
    root = tmp_path_factory.mktemp("scribe")
    model = import_model(str(tiny_folder(root / "tiny")), Store(root))
    return model, Store(root).read(model.id, TOKENIZER)


def with_template(model: StoredModel, template: str) -> StoredModel:
    return replace(model, manifest=replace(model.manifest, template=template))


async def test_its_ids_and_its_text_are_the_tokenizers(model: tuple[StoredModel, bytes]) -> None:
    texts, scribe = Texts(model[1], model[0].manifest), Scribe(*model)
    words = await scribe.words()
    ids = await scribe.encode("the parked cars")
    assert ids == texts.encode("the parked cars")
    assert await scribe.encode_chat(CHAT, control_tokens=False) == texts.encode_chat(CHAT)
    variables = {"enable_thinking": False, "depth": 3, "effort": "low", "none": None, "share": 0.5}
    with pytest.raises(UsageError, match="the model's chat template does not look at depth; it looks at: none"):
        await scribe.encode_chat(CHAT, control_tokens=False, variables=variables)
    assert [words.bytes_of(id_) for id_ in ids] == [texts.bytes_of(id_) for id_ in ids]
    stream = Detokenizer(words)
    assert "".join([*map(stream.add, ids), stream.finish()]) == "the parked cars"
    assert words.bytes_of(1 << 20) == b""
    await scribe.aclose()


async def test_signals_to_our_process_group_do_not_reach_it(model: tuple[StoredModel, bytes]) -> None:
    scribe = Scribe(*model)
    await scribe.words()
    assert scribe._process is not None
    assert os.getpgid(scribe._process.pid) != os.getpgid(0)
    await scribe.aclose()


async def test_what_the_template_refuses_is_told_and_the_next_question_answered(
    model: tuple[StoredModel, bytes],
) -> None:
    scribe = Scribe(with_template(model[0], "{{ raise_exception('only one turn') }}"), model[1])
    with pytest.raises(UsageError, match="only one turn"):
        await scribe.encode_chat(CHAT, control_tokens=False)
    with pytest.raises(UsageError, match="chat messages are plain"):
        await scribe.encode_chat([{"role": "user", "content": "hi", "more": object()}], control_tokens=False)
    assert await scribe.encode("hi")
    await scribe.aclose()


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ 'a' * 2000000000 }}",
        "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
        "{% macro f(x) %}{{ f(x + 1) }}{% endmacro %}{{ f(0) }}",
    ],
)
async def test_a_hostile_template_ends_one_question(model: tuple[StoredModel, bytes], template: str) -> None:
    scribe = Scribe(with_template(model[0], template), model[1], TIGHT)
    with trio.fail_after(BOUNDS_S):
        with pytest.raises(UsageError):  # a ModelError is one, too
            await scribe.encode_chat(CHAT, control_tokens=False)
        assert await scribe.encode("hi")
    await scribe.aclose()


@pytest.mark.parametrize(
    "tokenizer",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}',
        b'{"version": "1.0", "added_tokens": [{"id": 4294967295, "content": "x", "special": true}], "model": 7}',
    ],
)
async def test_a_hostile_tokenizer_is_a_model_error(model: tuple[StoredModel, bytes], tokenizer: bytes) -> None:
    scribe = Scribe(model[0], tokenizer, TIGHT)
    with trio.fail_after(BOUNDS_S), pytest.raises(ModelError):
        await scribe.words()
    assert scribe._process is None


async def test_a_normalizer_that_multiplies_the_text_fills_its_own_memory_only(
    model: tuple[StoredModel, bytes],
) -> None:
    grow = b'{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaaaaaaaaaaaa"}'
    normalizer = b'"normalizer": {"type": "Sequence", "normalizers": [' + b", ".join([grow] * 12) + b"]}"
    assert b'"normalizer":null' in model[1].replace(b" ", b"")
    hostile = model[1].replace(b" ", b"").replace(b'"normalizer":null', normalizer)
    scribe = Scribe(model[0], hostile, TIGHT)
    with trio.fail_after(BOUNDS_S), pytest.raises(ModelError, match="takes too long or too much memory, or crashes"):
        await scribe.encode("a")
    await scribe.aclose()


async def test_a_question_that_is_given_up_spoils_no_other(model: tuple[StoredModel, bytes]) -> None:
    scribe = Scribe(*model)
    expected = await scribe.encode("hello")
    with trio.CancelScope() as scope:
        scope.cancel()
        await scribe.encode("other")
    assert await scribe.encode("hello") == expected
    await scribe.aclose()


async def test_a_tokenizer_that_does_not_load_fails_once_for_all_who_wait(
    model: tuple[StoredModel, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    start = Scribe._start

    async def counted(scribe: Scribe) -> None:
        started.append(scribe)
        await start(scribe)

    monkeypatch.setattr(Scribe, "_start", counted)
    scribe, failed = Scribe(model[0], b"{}"), []

    async def ask() -> None:
        with pytest.raises(ModelError) as failure:
            await scribe.words()
        failed.append(str(failure.value))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert len(started) == 1
    assert len(failed) == 20 and len(set(failed)) == 1
    with pytest.raises(ModelError):
        await scribe.words()  # whoever comes later tries again
    assert len(started) == 2


async def test_where_the_first_who_loads_is_cancelled_the_next_one_does(model: tuple[StoredModel, bytes]) -> None:
    scribe, scope, found = Scribe(*model), trio.CancelScope(), []

    async def first() -> None:
        with scope:
            await scribe.words()

    async def other() -> None:
        found.append(await scribe.words())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(20):
            nursery.start_soon(other)
        scope.cancel()
    assert scope.cancelled_caught
    assert found == [await scribe.words()] * 20
    await scribe.aclose()
