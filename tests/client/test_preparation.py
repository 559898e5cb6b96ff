"""What a person asks for and no peer could take is told in words, before anything is signed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2pinfer.client import scribe
from p2pinfer.client.preparation import encode_prompt
from p2pinfer.client.request import Request
from p2pinfer.core.models.manifest import layer_flops
from p2pinfer.core.records.draw import Sampling
from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.units import ModelId
from p2pinfer.core.wire.session_messages import MAX_IDS
from p2pinfer.disk.store import StoredModel
from tests.vectors.make_manifest import TINY

SIZES = TINY.shape._replace(context=2 * MAX_IDS)
LONG = StoredModel(ModelId(bytes(32)), replace(TINY, sizes=tuple(SIZES), flops=layer_flops(SIZES)), Path())


class Letters:
    """A scribe whose ids are letters."""

    async def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))


async def prepared(text: str) -> Sequence[int]:
    return await encode_prompt(Request(text, max_tokens=2), LONG, Letters())  # type: ignore[arg-type]


async def test_a_prompt_of_more_ids_than_a_message_holds_is_refused_with_the_numbers() -> None:
    assert len(await prepared("a" * MAX_IDS)) == MAX_IDS
    with pytest.raises(UsageError, match=f"has {MAX_IDS + 3} tokens, and no peer takes more.*shorten it by 3"):
        await prepared("a" * (MAX_IDS + 3))


def test_a_prompt_that_no_scribe_can_be_asked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scribe, "MAX_QUESTION", 100)
    with pytest.raises(UsageError, match="the prompt has 102 bytes, limit 100: shorten it"):
        scribe._pack("a" * 100)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "the prompt is empty"),
        (7, "a prompt is text, or a list of chat messages, not 7"),
        (b"hello", "a prompt is text, or a list of chat messages, not b'hello'"),
        ({"role": "user", "content": "hello"}, "a prompt is text, or a list of chat messages, not {"),
        (["hello"], "a chat message has a role and a content, both text: 'hello'"),
        ([{"role": "user", "content": None}], "a chat message has a role and a content, both text: {"),
        ([{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "both text"),
        ([{"role": "user"}], "both text"),
        ([{"role": ["user"], "content": "hello"}], "both text"),
        ([{"content": "hello"}], "both text"),
        ([{"role": "user", "content": "\ud800"}], "the prompt is not Unicode text: character 0"),
    ],
)
def test_what_is_no_prompt_is_told(prompt: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request(prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "model is text, not None"),
        ({"codec": ["f32"]}, "codec is text, not"),
        ({"numerics": 3}, "numerics is text, not 3"),
        ({"stop": "END"}, "stop is a list of texts, not 'END'"),
        ({"stop": None}, "stop is a list of texts, not None"),
        ({"stop": ("a", None)}, "stop is a list of texts, not"),
        ({"stop": ("\ud800",)}, "cannot sample so"),
        ({"temperature": "hot"}, "cannot sample so"),
        ({"seed": "7"}, "cannot sample so"),
        ({"max_tokens": None}, "cannot sample so"),
        ({"template_vars": {"x": 1}}, "template_vars are for chat messages"),
        ({"template_vars": {"x": {}}}, "a template's variable is true, false"),
        ({"template_vars": "x=1"}, "template_vars are names and values"),
        ({"wait_s": None}, "wait_s is None; it is seconds"),
        ({"wait_s": "soon"}, "wait_s is 'soon'; it is seconds"),
        ({"wait_s": float("nan")}, "wait_s is nan; it is seconds"),
    ],
)
def test_options_of_another_kind_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request("hello", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (600_000, 20, 950_000)),
        ({"temperature": 0}, (0, 20, 950_000)),
        ({"temperature": 1.5, "top_k": 0, "top_p": 1.0}, (1_500_000, 0, 1_000_000)),
        ({"top_k": 3}, (600_000, 3, 950_000)),
    ],
)
def test_what_a_request_does_not_say_of_sampling_is_the_models_own(
    options: dict[str, float], expected: tuple[int, ...]
) -> None:
    record = Request("hello", **options).sampling(Sampling(600_000, 20, 950_000))  # type: ignore[arg-type]
    assert (record.temperature, record.top_k, record.top_p) == expected
