"""`p2pinfer ask` over a client that answers at once: what it asks for, and what it says of the answer."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pinfer.client import api
from p2pinfer.client.answer import Answer, StageOfAnswer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, TooDear
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import PeerKey, Span
from tests.cli.books import Shell
from tests.core.paid_route import NODES

STAGES = tuple(StageOfAnswer(PeerKey(NODES[place].public), Span(15 * place, 15 * place + 15), 7) for place in (0, 1))
ANSWER = Answer("It is\x1b[2J a table.", (1, 2, 3), Code.END, 5, 0.25, 0.5, STAGES, cost=15)


class Instant:
    """A client and its stream at once: it gives one answer, whose last receipts are signed a moment later."""

    def __init__(self, answer: Answer) -> None:
        self.options: dict[str, Any] = {}
        self.missing: list[str] = []
        self._whole = answer
        self.answer = replace(answer, cost=0)
        self.failure: GenerationFailed | None = None

    @asynccontextmanager
    async def open_answer(self, _prompt: str, **options: Any) -> AsyncIterator["Instant"]:
        self.options = options
        for missing in self.missing:
            options["on_wait"](missing)
        if options["max_cost"] == 1:
            raise TooDear("the cheapest route may cost 15 nano-credits, and the limit is 1")
        yield self

    async def __aiter__(self) -> AsyncIterator[str]:
        yield self.answer.text
        if self.failure is not None:
            raise self.failure

    @property
    def so_far(self) -> Answer:
        return replace(self._whole, reason=Code.LOST)

    async def wait_paid(self) -> None:
        await trio.lowlevel.checkpoint()
        self.answer = self._whole


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Instant:
    client = Instant(ANSWER)

    @asynccontextmanager
    async def open_client(
        _data: Path, _store: Path, _bootstrap: tuple[str, ...], **_: object
    ) -> AsyncIterator[Instant]:
        yield client

    monkeypatch.setattr(api, "open_client", open_client)
    return client


def test_the_last_line_says_how_long_how_fast_and_how_dear(p2pinfer: Shell, client: Instant) -> None:
    ran = p2pinfer("ask", "What is a DHT?")
    assert (ran.code, ran.out) == (0, ANSWER.text + "\n")
    assert ran.err == "(3 tokens, 4.0 tokens/s, 15 nano-credits)\n"
    assert client.options["max_cost"] is None


def test_what_is_missing_is_said_on_standard_error(p2pinfer: Shell, client: Instant) -> None:
    client.missing = ["a node that serves a model", "layers 20:30 of sm\x1b[2Jollm2"]
    ran = p2pinfer("ask", "What is a DHT?", "--wait", "2.5")
    assert (ran.code, client.options["wait_s"]) == (0, 2.5)
    assert ran.err.startswith("waiting for a node that serves a model ...\nwaiting for layers 20:30 of sm")
    assert "\x1b" not in ran.err
    assert p2pinfer("ask", "What is a DHT?", "--wait", "-1").code == 2


def test_what_failed_routes_took_is_named(p2pinfer: Shell, client: Instant) -> None:
    client._whole = replace(ANSWER, cost=555, lost=540)
    ran = p2pinfer("ask", "What is a DHT?")
    assert "555 nano-credits, 540 nano-credits of it for routes that failed and brought nothing)" in ran.err
    told = json.loads(p2pinfer("ask", "What is a DHT?", "--json").out)
    assert (told["cost"], told["lost"]) == (555, 540)


def test_an_answer_that_was_cut_says_so(p2pinfer: Shell, client: Instant) -> None:
    client._whole = replace(ANSWER, reason=Code.LENGTH, cost=2_000_000_000)
    ran = p2pinfer("ask", "What is a DHT?")
    assert ran.err == "(3 tokens, 4.0 tokens/s, 2.000000000 credits; cut there, --max-tokens asks for more)\n"


def test_variables_of_a_template_are_what_json_reads_else_text(p2pinfer: Shell, client: Instant) -> None:
    given = (
        "enable_thinking=false",
        "depth=3",
        "share=0.5",
        "none=null",
        "effort=low",
        'quoted="x"',
        "list=[1]",
        "a=b=c",
    )
    ran = p2pinfer("ask", "--chat", "hi", *(word for one in given for word in ("--template-var", one)))
    assert ran.code == 0
    assert client.options["template_vars"] == {
        "enable_thinking": False,
        "depth": 3,
        "share": 0.5,
        "none": None,
        "effort": "low",
        "quoted": '"x"',
        "list": "[1]",
        "a": "b=c",
    }


def test_a_model_says_how_ids_are_drawn_unless_the_prompts_owner_does(p2pinfer: Shell, client: Instant) -> None:
    p2pinfer("ask", "hi", "--temperature", "0")
    asked = {name: client.options[name] for name in ("temperature", "top_k", "top_p")}
    assert asked == {"temperature": 0.0, "top_k": None, "top_p": None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("enable_thinking", "'enable_thinking' is not NAME=VALUE"),
        ("a b=1", "'a b' is not a name for a template's variable"),
        ("messages=1", "messages is what a template gets from p2pinfer"),
    ],
)
def test_what_is_no_variable_is_told(p2pinfer: Shell, given: str, message: str) -> None:
    ran = p2pinfer("ask", "--chat", "hi", "--template-var", given)
    assert ran.code != 0
    assert message in ran.err


def test_programs_get_the_cost_of_all_and_of_each_stage(p2pinfer: Shell, client: Instant) -> None:
    ran = p2pinfer("ask", "What is a DHT?", "--json", "--max-cost", "500")
    told = json.loads(ran.out)
    assert (ran.code, ran.err, told["cost"]) == (0, "", 15)
    assert told["stages"] == [
        {"peer": peer_name(NODES[0].public), "layers": [0, 15], "cost": 7},
        {"peer": peer_name(NODES[1].public), "layers": [15, 30], "cost": 7},
    ]
    assert client.options["max_cost"] == 500


def test_an_answer_that_breaks_off_shows_what_came_and_what_it_cost(p2pinfer: Shell, client: Instant) -> None:
    client.failure = GenerationFailed("the link broke; 15 nano-credits were signed", Code.LOST, 15)
    ran = p2pinfer("ask", "What is a DHT?")
    assert (ran.code, ran.out) == (1, ANSWER.text + "\n")
    assert ran.err == "Error: the link broke; 15 nano-credits were signed\n"
    ran = p2pinfer("ask", "What is a DHT?", "--json")
    told = json.loads(ran.out)
    assert (ran.code, ran.err) == (1, "Error: the link broke; 15 nano-credits were signed\n")
    assert (told["text"], told["reason"], told["cost"]) == (ANSWER.text, "lost", 15)
    assert told["error"] == "the link broke; 15 nano-credits were signed"


def test_an_answer_that_may_cost_too_much_is_not_asked_for(p2pinfer: Shell, client: Instant) -> None:
    ran = p2pinfer("ask", "What is a DHT?", "--max-cost", "1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "Error: the cheapest route may cost 15 nano-credits, and the limit is 1\n"


def test_programs_are_told_why_nothing_came(p2pinfer: Shell, client: Instant) -> None:
    ran = p2pinfer("ask", "What is a DHT?", "--max-cost", "1", "--json")
    told = json.loads(ran.out)
    assert ran.code == 1
    assert told["error"] in ran.err
    assert (told["text"], told["ids"], told["cost"], told["lost"]) == ("", [], 0, 0)
