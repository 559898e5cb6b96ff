"""Stages that lie, vanish or keep silent: their client pays for nothing it cannot count, and says what is wrong.

The stages make ids up, so no engine runs. The clock runs ten times as fast.
"""

import gc
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from p2pinfer.client import models
from p2pinfer.client.answer import Answer
from p2pinfer.client.api import Client, open_client
from p2pinfer.client.generations import MAX_IN_FLIGHT
from p2pinfer.client.patience import CRAWL_S, HELD_UP_S, STALL_S
from p2pinfer.client.run import Run
from p2pinfer.client.scribe import Scribe
from p2pinfer.client.setup import World
from p2pinfer.core.money.stage_account import Proposal
from p2pinfer.core.records.receipt import FINAL
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, NoRoute, P2pinferError, TooDear, UsageError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Credit,
    Open,
    Prompt,
    Propose,
    Sampled,
    SessionMessage,
    SessionRefused,
    Signed,
    Stored,
    pack_ids,
)
from p2pinfer.disk.identity import load_identity
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.places import client_experience
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.own_offers import OwnOffers
from p2pinfer.overlay.book import SOON_S
from p2pinfer.overlay.leads import AGAIN_S
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from tests.disk.tiny import tiny_folder

from .liars import FIRST_ID, SoloStage, open_stage

TOKENS = 9
PROMPT = "hello"  # five ids


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("liars")
    import_model(str(tiny_folder(root / "tiny")), Store(root))
    return Store(root)


def run(
    function: Callable[[Client, list[SoloStage]], Awaitable[None]],
    root: Path,
    store: Store,
    *shapes: type[SoloStage],
    rate: float = 10,
) -> None:
    """Run a test with a client and stages of these shapes, in a world of their own, whose clock has that rate."""

    async def main() -> None:
        world, stages = MemoryWorld(), []
        [model] = store.models()
        async with trio.open_nursery() as nursery:
            stop = trio.Event()

            async def keep(number: int, shape: type[SoloStage], *, task_status: trio.TaskStatus[SoloStage]) -> None:
                identity = load_identity(root / f"stage{number}", int(time.time()))
                async with open_stage(shape, world, store, model, identity) as stage:
                    task_status.started(stage)
                    await stop.wait()

            for number, shape in enumerate(shapes):
                stages.append(await nursery.start(keep, number, shape))
            addresses = [address for stage in stages for address in stage.network.addresses()]
            network = lambda key, exchange, greeting: open_memory_network(  # noqa: E731
                world, key.public, exchange, greeting=greeting
            )
            async with open_client(root / "client", store.root, addresses, around=World(network)) as client:
                await function(client, stages)
            stop.set()

    trio.run(main, clock=MockClock(rate=rate))


def failure_of(root: Path, store: Store, *shapes: type[SoloStage]) -> GenerationFailed:
    """How an answer of these stages fails."""
    failures: list[GenerationFailed] = []

    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        with pytest.raises(GenerationFailed) as failure:
            await client.answer(PROMPT, max_tokens=TOKENS)
        failures.append(failure.value)

    run(ask, root, store, *shapes)
    return failures[0]


def answer_of(root: Path, store: Store, *shapes: type[SoloStage]) -> Answer:
    answers: list[Answer] = []

    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        answers.append(await client.answer(PROMPT, max_tokens=TOKENS))

    run(ask, root, store, *shapes)
    return answers[0]


def paid(root: Path) -> list[tuple[int, int]]:
    """Number and state of what the client signed."""
    with read_journal(root / "client" / "client.sqlite") as journal:
        return [(item.receipt.record.seq, item.receipt.record.state) for item in journal.earned()]


def test_an_honest_stage_is_paid(tmp_path: Path, store: Store) -> None:
    answer = answer_of(tmp_path, store, SoloStage)
    assert answer.ids == tuple(range(FIRST_ID, FIRST_ID + TOKENS))
    assert paid(tmp_path) == [(4, FINAL)]


# Receipts that are not signed


class WrongRoot(SoloStage):
    """Its ids were others than it delivered, by its own receipt."""

    def proposal(self, proposal: Proposal) -> Propose:
        return self.altered(proposal.signed, out_root=bytes(32))


class WrongInputRoot(SoloStage):
    def proposal(self, proposal: Proposal) -> Propose:
        return self.altered(proposal.signed, in_root=bytes(32))


class OverPriced(SoloStage):
    def proposal(self, proposal: Proposal) -> Propose:
        return self.altered(proposal.signed, amount=proposal.signed.record.amount + 1)


class MoreWork(SoloStage):
    """It claims a decode more than there was."""

    def proposal(self, proposal: Proposal) -> Propose:
        usage = proposal.signed.record.usage
        return self.altered(proposal.signed, usage=replace(usage, decode=usage.decode + 1))


class OneBit(SoloStage):
    """Its receipt was altered by one bit on the way."""

    def proposal(self, proposal: Proposal) -> Propose:
        body = proposal.signed.body
        altered = body[:-40] + bytes([body[-40] ^ 1]) + body[-39:]
        return Propose(self.message.session, altered, proposal.signed.signatures[0])


class OthersReceipt(SoloStage):
    """Its receipt is of another contract."""

    def proposal(self, proposal: Proposal) -> Propose:
        return self.altered(proposal.signed, contract=bytes(32))


@pytest.mark.parametrize("shape", [WrongRoot, WrongInputRoot, OverPriced, MoreWork, OneBit, OthersReceipt])
def test_the_answer_stands_and_a_false_receipt_is_not_signed(
    tmp_path: Path, store: Store, shape: type[SoloStage]
) -> None:
    assert answer_of(tmp_path, store, shape).tokens == TOKENS
    assert paid(tmp_path) == []


class SecondBody(SoloStage):
    """Before the ids, it proposes the same number twice, with two bodies."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        self.compute(prompt, TOKENS)
        first = self.account.due(self.contract.record.issued)[0]
        link.send_nowait(self.proposal(first))
        link.send_nowait(self.altered(first.signed, time=first.signed.record.time + 1))


def test_a_second_body_under_one_number_ends_the_answer(tmp_path: Path, store: Store) -> None:
    failure = failure_of(tmp_path, store, SecondBody)
    assert failure.code is Code.RECEIPT_CONFLICT
    assert "second body under receipt number 1" in str(failure)
    assert paid(tmp_path) == []


class Ahead(SoloStage):
    """It wants to be paid for ids that it keeps."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        self.compute(prompt, TOKENS)
        link.send_nowait(self.sampled(len(prompt), FIRST_ID, False))
        for proposal in self.account.due(self.contract.record.issued):
            link.send_nowait(self.proposal(proposal))


def test_a_receipt_ahead_of_the_ids_ends_the_answer_after_two_seconds(tmp_path: Path, store: Store) -> None:
    failure = failure_of(tmp_path, store, Ahead)
    assert failure.code is Code.RECEIPT_AHEAD
    assert "8 positions claimed, 5 counted" in str(failure)
    assert paid(tmp_path) == [(1, 0)]  # what the one id proves


class Early(SoloStage):
    """It proposes before every stage has accepted: there is nothing to pay for."""

    def accept(self, link: Link, message: Open) -> None:
        self.compute((0,) * self.contract.record.prompt, TOKENS)
        link.send_nowait(self.proposal(self.account.due(self.contract.record.issued)[0]))


def test_a_receipt_before_the_session_is_open_ends_it(tmp_path: Path, store: Store) -> None:
    failure = failure_of(tmp_path, store, Early)
    assert failure.code is Code.BAD_STATE
    assert "Propose while OPENING" in str(failure)


# Ids that are no answer


class TooMany(SoloStage):
    """It goes on after the length was reached."""

    def sampled(self, position: int, id_: int, last: bool) -> Sampled:
        return Sampled(self.message.session, 0, 0, position, (id_,), Code.NONE)


class TooFew(SoloStage):
    """It says that the length was reached with the first id."""

    def sampled(self, position: int, id_: int, last: bool) -> Sampled:
        return Sampled(self.message.session, 0, 0, position, (id_,), Code.LENGTH)


class FalseEnd(SoloStage):
    """It says that the model ended, without an end id."""

    def sampled(self, position: int, id_: int, last: bool) -> Sampled:
        return Sampled(self.message.session, 0, 0, position, (id_,), Code.END)


class Gap(SoloStage):
    """An id is missing."""

    def sampled(self, position: int, id_: int, last: bool) -> Sampled:
        return super().sampled(position + (id_ > FIRST_ID + 2), id_, last)


class NoneOfTheModel(SoloStage):
    """An id beyond the vocabulary."""

    def sampled(self, position: int, id_: int, last: bool) -> Sampled:
        return super().sampled(position, id_ + 1_000_000, last)


class OutOfTurn(SoloStage):
    """It sends what only stages among themselves send."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        link.send_nowait(Credit(self.message.session, 0, 5))


@pytest.mark.parametrize(
    ("shape", "code", "words"),
    [
        (TooMany, Code.BAD_STATE, "the tail says none at id 9, it is length"),
        (TooFew, Code.BAD_STATE, "the tail says length at id 1, it is none"),
        (FalseEnd, Code.BAD_STATE, "the tail says end at id 1, it is none"),
        (Gap, Code.BAD_POSITION, "ids from position 9, 8 is next"),
        (OutOfTurn, Code.BAD_STATE, "Credit while RUNNING"),
        (NoneOfTheModel, Code.BAD_VALUES, "1000097"),
    ],
)
def test_what_is_no_answer_is_never_called_one(
    tmp_path: Path, store: Store, shape: type[SoloStage], code: Code, words: str
) -> None:
    failure = failure_of(tmp_path, store, shape)
    assert failure.code is code
    assert words in str(failure)


class AfterTheEnd(SoloStage):
    """It sends ids after its last."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        super().answer(link, prompt)
        link.send_nowait(Sampled(self.message.session, 0, 0, len(prompt) + TOKENS, (65,), Code.NONE))


def test_ids_after_the_end_change_nothing(tmp_path: Path, store: Store) -> None:
    answer = answer_of(tmp_path, store, AfterTheEnd)
    assert answer.tokens == TOKENS
    assert paid(tmp_path) == [(4, FINAL)]


# Stages that do not open, or vanish


class Refusing(SoloStage):
    code, retry_ms, words = Code.BUSY, 0, "no pages"

    def accept(self, link: Link, message: Open) -> None:
        link.send_nowait(SessionRefused(message.session, message.epoch, self.code, self.words, self.retry_ms))


class Lapsed(Refusing):
    code, words = Code.LAPSED, "9 layer-tokens under 1 earlier contracts of this client are unsigned"


class Vanishing(SoloStage):
    """It vanishes while the route opens."""

    def accept(self, link: Link, message: Open) -> None:
        link.close(Code.LEAVING, "bye")


class Silent(SoloStage):
    def accept(self, link: Link, message: Open) -> None:
        """Say nothing."""


class Forger(SoloStage):
    """Its signature under the contract is none."""

    def accept(self, link: Link, message: Open) -> None:
        link.send_nowait(Accept(message.session, message.epoch, bytes(64), 0))


class TooLate(Silent):
    """It accepts when the client has given up, and forgotten it."""

    def on_stray(self, link: Link, message: SessionMessage) -> None:
        super().on_stray(link, message)
        if isinstance(message, Close) and len(self.strays) == 1:
            trio.lowlevel.spawn_system_task(self.accept_late, link)

    async def accept_late(self, link: Link) -> None:
        await trio.sleep(1)
        super(Silent, self).accept(link, self.message)


def test_a_stage_that_accepts_too_late_is_told(tmp_path: Path, store: Store) -> None:
    """INF-33."""

    async def ask(client: Client, stages: list[SoloStage]) -> None:
        with pytest.raises(GenerationFailed):
            await client.answer(PROMPT, max_tokens=TOKENS)
        with trio.fail_after(5):
            while len(stages[0].strays) < 2:  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.1)
        assert [Code(message.code) for message in stages[0].strays if isinstance(message, Close)] == [
            Code.SILENT,
            Code.CANCELLED,
        ]

    run(ask, tmp_path, store, TooLate)


class Fading(SoloStage):
    """It vanishes in the middle of the answer."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        link.send_nowait(self.sampled(len(prompt), FIRST_ID, False))
        trio.lowlevel.spawn_system_task(self.fade, link)

    @staticmethod
    async def fade(link: Link) -> None:
        await trio.sleep(1)
        link.close(Code.LEAVING, "bye")


class Closing(SoloStage):
    """It gives up in the middle of the answer."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        link.send_nowait(self.sampled(len(prompt), FIRST_ID, False))
        link.send_nowait(Close(self.message.session, 0, Code.ENGINE, 0, "the engine failed"))


class Wordless(Closing):
    """It does not say why."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        link.send_nowait(Close(self.message.session, 0, Code.ENGINE, 0, ""))


class RefusingWordless(Refusing):
    words = " "


class VanishingWordless(SoloStage):
    def accept(self, link: Link, message: Open) -> None:
        link.close(Code.LEAVING, "")


@pytest.mark.parametrize(
    ("shape", "code", "words"),
    [
        (Wordless, Code.ENGINE, "{stage} gave up: it gave no reason (code engine)"),
        (RefusingWordless, Code.BUSY, "{stage} refused: it gave no reason (code busy)"),
        (VanishingWordless, Code.LOST, "the peer closed the link: it gave no reason (code leaving)"),
        (Refusing, Code.BUSY, "{stage} refused: no pages"),
        (Lapsed, Code.LAPSED, "are unsigned"),
        (Vanishing, Code.LOST, "the link to {stage} broke: the peer closed the link: bye"),
        (Silent, Code.SILENT, "{stage} did not accept within 15 s"),
        (Forger, Code.BAD_SIGNATURE, "{stage} broke the protocol: "),
        (Fading, Code.LOST, "the link to {stage} broke: the peer closed the link: bye"),
        (Closing, Code.ENGINE, "{stage} gave up: the engine failed"),
    ],
)
def test_how_a_stage_failed_is_told(
    tmp_path: Path, store: Store, shape: type[SoloStage], code: Code, words: str
) -> None:
    failure = failure_of(tmp_path, store, shape)
    assert failure.code is code
    key = load_identity(tmp_path / "stage0", int(time.time())).key.public
    assert words.format(stage=f"stage {short_name(key)}") in str(failure)
    assert paid(tmp_path) == []


@pytest.mark.parametrize("shape", [Refusing, Vanishing, Silent])
def test_another_stage_takes_the_place_of_one_that_does_not_open(
    tmp_path: Path, store: Store, shape: type[SoloStage]
) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        for _ in range(4):  # routes of equal cost are drawn
            assert (await client.answer(PROMPT, max_tokens=TOKENS)).tokens == TOKENS
            await client.wait_settled()
        assert stages[1].opens == 4

    run(ask, tmp_path, store, shape, SoloStage)


# Stages that fail before the first id


class Free(SoloStage):
    prices: ClassVar = {"prefill": 0, "decode": 0, "cached": 0, "sampled": 0}


class Mute(Free):
    """It is the cheapest, accepts everything, and never says a word again."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        """Say nothing."""


class Deaf(Free):
    """It is the cheapest, and does not accept."""

    def accept(self, link: Link, message: Open) -> None:
        """Say nothing."""


class Breaking(Free):
    """Its first id is none of the model's."""

    def sampled(self, position: int, id_: int, last: bool) -> Sampled:
        return super().sampled(position, id_ + 1_000_000, last)


class GivingUp(Free):
    """It gives up before its first id."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        link.send_nowait(Close(self.message.session, 0, Code.CANCELLED, 0, "as if the client had"))


@pytest.mark.parametrize("shape", [Mute, Deaf, Breaking, GivingUp, Vanishing])
def test_what_fails_before_the_first_id_costs_a_try_and_not_the_answer(
    tmp_path: Path, store: Store, shape: type[SoloStage]
) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        for _ in range(3):
            assert (await client.answer(PROMPT, max_tokens=TOKENS)).tokens == TOKENS
        assert stages[0].opens <= 1  # whoever failed is remembered
        assert stages[1].opens == 3

    run(ask, tmp_path, store, shape, SoloStage)


@pytest.mark.parametrize("shape", [Deaf, Breaking])
def test_who_failed_is_asked_last_by_the_next_client_of_the_folder_too(
    tmp_path: Path, store: Store, shape: type[SoloStage]
) -> None:
    """As `p2pinfer ask` is, which is a process for each answer."""

    async def ask(client: Client, stages: list[SoloStage]) -> None:
        with pytest.raises(GenerationFailed):
            await client.answer(PROMPT, max_tokens=TOKENS, max_cost=0)  # the one that fails asks for nothing
        assert stages[0].opens == 1

    async def ask_again(client: Client, stages: list[SoloStage]) -> None:
        for _ in range(3):
            assert (await client.answer(PROMPT, max_tokens=TOKENS)).tokens == TOKENS
        assert [stage.opens for stage in stages] == [0, 3]

    run(ask, tmp_path, store, shape, SoloStage)
    run(ask_again, tmp_path, store, shape, SoloStage)  # their keys are in their folders


def test_after_an_outage_of_its_network_a_client_has_its_answer_within_seconds(tmp_path: Path, store: Store) -> None:
    """Nobody is named to it, so that it depends on whom it met."""

    async def ask(client: Client, stages: list[SoloStage]) -> None:
        [stage] = stages
        await client.answer(PROMPT, max_tokens=TOKENS)
        await trio.sleep(SOON_S + 1)  # then it is written down whom it met
        stage.world.unreachable.add(stage.network.key)
        network = lambda key, exchange, greeting: open_memory_network(  # noqa: E731
            stage.world, key.public, exchange, greeting=greeting
        )
        async with open_client(tmp_path / "client", store.root, around=World(network)) as other:
            with pytest.raises(P2pinferError):
                await other.answer(PROMPT, max_tokens=TOKENS, wait_s=8)
            stage.world.unreachable.clear()
            with trio.fail_after(AGAIN_S / 2):
                assert (await other.answer(PROMPT, max_tokens=TOKENS)).tokens == TOKENS

    run(ask, tmp_path, store, SoloStage)


class Twin(SoloStage):
    """Answers when another one has the same prompt, and that one in the same moment."""

    held: ClassVar[list[tuple[SoloStage, Link, tuple[int, ...]]]] = []

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        self.held.append((self, link, prompt))
        if len(self.held) == 2:
            for stage, its_link, its_prompt in self.held:
                SoloStage.answer(stage, its_link, its_prompt)
            self.held.clear()


def test_of_two_routes_that_answer_in_one_moment_one_is_paid(tmp_path: Path, store: Store) -> None:
    answer = answer_of(tmp_path, store, Twin, Twin)
    assert answer.ids == tuple(range(FIRST_ID, FIRST_ID + TOKENS))
    assert paid(tmp_path) == [(4, FINAL)]


def test_the_only_stage_is_waited_for(tmp_path: Path, store: Store) -> None:
    failure = failure_of(tmp_path, store, Mute)
    assert "no id came within 60 s" in str(failure)


class Chatty(SoloStage):
    """Sends what is no id, again and again."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        self.link = link

    async def chatter(self) -> None:
        while True:
            await trio.sleep(10)
            if hasattr(self, "link"):
                self.link.send_nowait(Stored(self.message.session, 1))


def test_a_stage_that_sends_anything_but_ids_is_silent(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        [stage] = stages
        assert isinstance(stage, Chatty)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.chatter)
            began = trio.current_time()
            with trio.move_on_after(200) as scope, pytest.raises(GenerationFailed, match="no id came within 60 s"):
                await client.answer(PROMPT, max_tokens=TOKENS)
            nursery.cancel_scope.cancel()
        assert not scope.cancelled_caught
        assert trio.current_time() >= began + STALL_S

    run(ask, tmp_path, store, Chatty, rate=50)


class Crawling(SoloStage):
    """It sends an id so rarely that silence alone is none."""

    pause_s: ClassVar = STALL_S - 5

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        trio.lowlevel.spawn_system_task(self.crawl, link, len(prompt))

    async def crawl(self, link: Link, position: int) -> None:
        for at in range(TOKENS):
            if link.dead is None:
                link.send_nowait(self.sampled(position + at, FIRST_ID + at, at == TOKENS - 1))
            await trio.sleep(self.pause_s)


class Strolling(Crawling):
    """It is as slow as is borne."""

    pause_s: ClassVar = CRAWL_S - 1


def test_an_answer_that_crawls_is_given_up_and_its_stage_is_known_for_it(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        words = r"the answer came too slowly: 2 tokens in 6\d s, where one in 0\.\d+ s was to be expected"
        async with client.open_answer(PROMPT, max_tokens=TOKENS, wait_s=50) as stream:
            began = trio.current_time()
            with pytest.raises(GenerationFailed, match=words) as failure:
                async for _ in stream:
                    pass
            assert (failure.value.code, stream.so_far.tokens) == (Code.SILENT, 2)
            assert trio.current_time() < began + 2 * STALL_S

    run(ask, tmp_path, store, Crawling, rate=20)
    lags = json.loads(client_experience(tmp_path / "client").read_text())["lags"]
    assert all(slow_s > CRAWL_S for _late_s, slow_s, _at in lags.values())
    assert len(lags) == 2  # the node's, and its owner's


def test_a_slow_answer_that_gets_on_is_waited_for(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        assert (await client.answer(PROMPT, max_tokens=TOKENS)).tokens == TOKENS

    run(ask, tmp_path, store, Strolling)


class HeldUp(Crawling):
    """A machine on which both it and its client stop for long, as one that sleeps."""

    async def crawl(self, link: Link, position: int) -> None:
        for at in range(TOKENS):
            if at == 1:
                clock = trio.lowlevel.current_clock()
                assert isinstance(clock, MockClock)
                clock.jump(2 * STALL_S)
                await trio.sleep(HELD_UP_S / 2)  # what came in the meantime is read by and by
            link.send_nowait(self.sampled(position + at, FIRST_ID + at, at == TOKENS - 1))


def test_an_answer_goes_on_after_its_client_was_held_up(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        assert (await client.answer(PROMPT, max_tokens=TOKENS)).tokens == TOKENS

    run(ask, tmp_path, store, HeldUp)


def test_no_contract_is_signed_that_could_cost_more_than_the_limit(tmp_path: Path, store: Store) -> None:
    class Greedy(SoloStage):
        prices: ClassVar = dict.fromkeys(["prefill", "decode", "cached", "sampled"], (1 << 32) - 1)

    async def ask(client: Client, stages: list[SoloStage]) -> None:
        [stage] = stages
        with pytest.raises(
            TooDear, match=r"may cost [\d,]+ nano-credits, and the limit is [\d,]+: ask for fewer tokens"
        ):
            await client.answer(PROMPT, max_tokens=TOKENS)
        assert stage.opens == 0
        answer = await client.answer(PROMPT, max_tokens=TOKENS, max_cost=10_000_000)
        assert 0 < answer.cost <= 10_000_000
        client.max_cost = answer.cost - 1
        with pytest.raises(TooDear, match=f"the limit is {answer.cost - 1:,}"):
            await client.answer(PROMPT, max_tokens=TOKENS)

    run(ask, tmp_path, store, Greedy)


def test_the_cost_of_an_answer_is_what_was_signed(tmp_path: Path, store: Store) -> None:
    answer = answer_of(tmp_path, store, SoloStage)
    with read_journal(tmp_path / "client" / "client.sqlite") as journal:
        [earned] = journal.earned()
    assert answer.cost == earned.receipt.record.amount > 0
    assert [stage.cost for stage in answer.stages] == [answer.cost]


class BreakingOff(SoloStage):
    """It gives up after four ids, and asks to be paid for them."""

    prices: ClassVar = {"flat": 10_000}

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        for at in range(4):
            link.send_nowait(self.sampled(len(prompt) + at, FIRST_ID + at, False))
        self.compute(prompt, 4)
        self.account.close(Code.ENGINE)
        link.send_nowait(Close(self.message.session, 0, Code.ENGINE, 0, "the engine failed"))
        for proposal in self.account.due(self.contract.record.issued):
            link.send_nowait(self.proposal(proposal))


class BreakingOffUnpaid(BreakingOff):
    """It leaves before it has asked."""

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        link.send_nowait(self.sampled(len(prompt), FIRST_ID, False))
        link.close(Code.LEAVING, "bye")


class PaidForNothing(SoloStage):
    """It wants to be paid for the prompt at once, finally, and computes nothing."""

    prices: ClassVar = {"prefill": 1_000_000, "decode": 0, "cached": 0, "sampled": 0}  # one for a layer-token

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        self.account.add_inputs(0, pack_ids(prompt), len(prompt))
        self.account.commit(len(prompt) - 1)
        self.account.close(Code.ENGINE)
        for proposal in self.account.due(self.contract.record.issued):
            link.send_nowait(self.proposal(proposal))
        link.send_nowait(Close(self.message.session, 0, Code.ENGINE, 0, ""))


class Dear(SoloStage):
    prices: ClassVar = {"flat": 10_000}


LONG_PROMPT = "x" * 40  # ids; the window has 24, so 16 must be signed before the first id


def test_liars_are_paid_nothing_for_a_prompt_that_the_window_holds(tmp_path: Path, store: Store) -> None:
    """Nor do they use up a limit that is just enough for the honest one."""

    async def ask(client: Client, stages: list[SoloStage]) -> None:
        answer = await client.answer(PROMPT, max_tokens=TOKENS, max_cost=10_010)
        assert [stage.opens for stage in stages] == [1, 1, 1, 1]
        assert [len(stage.signed) for stage in stages[:3]] == [0, 0, 0]
        assert (answer.cost, answer.lost) == (sum(stage.cost for stage in answer.stages), 0)

    run(ask, tmp_path, store, PaidForNothing, PaidForNothing, PaidForNothing, Dear)


def test_of_a_longer_prompt_a_liar_is_paid_what_lies_beyond_the_window_and_the_answer_says_so(
    tmp_path: Path, store: Store
) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        liar = stages[0]
        answer = await client.answer(LONG_PROMPT, max_tokens=TOKENS, max_cost=1_000_000)
        assert liar.account.paid == 16
        assert answer.lost == 2 * 16  # layers and positions
        assert answer.cost == sum(stage.cost for stage in answer.stages) + answer.lost

    run(ask, tmp_path, store, PaidForNothing, Dear)


def test_a_node_that_was_paid_and_brought_nothing_is_asked_last_also_by_the_next_client(
    tmp_path: Path, store: Store
) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        liar, _ = stages
        for _ in range(2):
            await client.answer(LONG_PROMPT, max_tokens=TOKENS, max_cost=1_000_000)
        assert liar.opens == 1

    async def ask_again(client: Client, stages: list[SoloStage]) -> None:
        answer = await client.answer(LONG_PROMPT, max_tokens=TOKENS, max_cost=1_000_000)
        assert (stages[0].opens, answer.lost) == (0, 0)

    run(ask, tmp_path, store, PaidForNothing, Dear)
    run(ask_again, tmp_path, store, PaidForNothing, Dear)  # their keys are in their folders


def test_where_all_that_serve_fail_the_error_says_what_they_took(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        with pytest.raises(
            GenerationFailed, match=r"gave no reason.*; in all 64 nano-credits went to routes that failed"
        ):
            await client.answer(LONG_PROMPT, max_tokens=TOKENS, max_cost=1_000_000)

    run(ask, tmp_path, store, PaidForNothing, PaidForNothing)


def test_an_answer_that_breaks_off_says_what_was_paid_for_it(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        liar, stage = stages
        async with client.open_answer(LONG_PROMPT, max_tokens=TOKENS, max_cost=1_000_000) as stream:
            words = r"the engine failed; ([\d,]+) nano-credits were signed for what came before, 32 of them for routes"
            with pytest.raises(GenerationFailed, match=words) as failure:
                async for _ in stream:
                    pass
            came = stream.so_far
        assert liar.account.paid == 16
        assert stage.account.complete is not None
        assert failure.value.cost == came.cost == stage.account.complete.record.amount + 32
        assert f"{came.cost:,} nano-credits" in str(failure.value)
        assert (came.tokens, came.reason, came.lost) == (4, Code.ENGINE, 32)
        assert "owed" not in str(failure.value)

    run(ask, tmp_path, store, PaidForNothing, BreakingOff)


def test_text_of_an_answer_that_breaks_off_is_all_that_came(tmp_path: Path, store: Store) -> None:
    """Also what might have become a stop string."""

    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        pieces: list[str] = []
        async with client.open_answer(PROMPT, max_tokens=TOKENS, max_cost=1_000_000, stop=("bcdxyz",)) as stream:
            with pytest.raises(GenerationFailed, match="the engine failed"):
                async for piece in stream:
                    pieces.append(piece)  # noqa: PERF401 - what came before the error counts
            assert stream.so_far.text == "abcd"
        assert pieces == ["a", "bcd"]

    run(ask, tmp_path, store, BreakingOff)


def test_an_answer_that_breaks_off_unpaid_says_that_more_may_be_due(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        words = r"; 0 nano-credits were signed for what came before; more of it may be due \(p2pinfer owed shows it\)"
        with pytest.raises(GenerationFailed, match=words):
            await client.answer(PROMPT, max_tokens=TOKENS, max_cost=1_000_000)

    run(ask, tmp_path, store, BreakingOffUnpaid)


def test_a_limit_that_failed_routes_used_up_says_so_and_what_to_do(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, _stages: list[SoloStage]) -> None:
        words = (
            r"the limit is 10,040, of which routes that failed took 32 and brought nothing: ask for fewer.*ask again"
        )
        with pytest.raises(TooDear, match=words):
            await client.answer(LONG_PROMPT, max_tokens=TOKENS, max_cost=10_040)

    run(ask, tmp_path, store, PaidForNothing, Dear)


# Stages without room


class FullAtFirst(Refusing):
    """It has room only some seconds later, and says so."""

    retry_ms = 1000
    opened_at = 0.0

    def on_open(self, link: Link, message: Open) -> None:
        self.opened_at = self.opened_at or trio.current_time()
        if trio.current_time() < self.opened_at + 3:
            self.opens += 1
            self.accept(link, message)
        else:
            self.accept = partial(SoloStage.accept, self)  # type: ignore[method-assign]
            super().on_open(link, message)


def test_a_client_without_answers_of_its_own_comes_back_as_the_stage_said(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        assert (await client.answer(PROMPT, max_tokens=TOKENS)).tokens == TOKENS
        assert 2 <= stages[0].opens <= 5

    run(ask, tmp_path, store, FullAtFirst)


def test_a_refusal_is_not_told_as_layers_that_nobody_serves(tmp_path: Path, store: Store) -> None:
    failure = failure_of(tmp_path, store, Refusing, Refusing)
    assert " refused: no pages" in str(failure)


class Crowded(Refusing):
    """It has room for one session at a time, and says when to come back."""

    retry_ms = 1000
    taken = False

    def accept(self, link: Link, message: Open) -> None:
        if self.taken:
            super().accept(link, message)
        else:
            self.taken = True
            SoloStage.accept(self, link, message)

    def on_stray(self, link: Link, message: SessionMessage) -> None:
        super().on_stray(link, message)
        if isinstance(message, Signed) and self.account.closed:
            self.taken = False

    def on_open(self, link: Link, message: Open) -> None:
        if self.taken:
            self.opens += 1
            self.accept(link, message)
        else:
            super().on_open(link, message)


def test_generations_beyond_the_room_of_a_stage_wait_for_those_that_have_it(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        tokens: list[int] = []

        async def one() -> None:
            tokens.append((await client.answer(PROMPT, max_tokens=TOKENS)).tokens)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(one)
        assert tokens == [TOKENS] * 6

    run(ask, tmp_path, store, Crowded)


class Roomy(SoloStage):
    """It serves any number of sessions, each as a stage of its own."""

    def __init__(self, offering: OwnOffers, network: Network) -> None:
        super().__init__(offering, network)
        self.sessions: dict[bytes, SoloStage] = {}
        self.most_at_once = 0

    def on_open(self, link: Link, message: Open) -> None:
        self.sessions[message.session] = SoloStage(self.offering, self.network)
        self.most_at_once = max(self.most_at_once, len(self.sessions))
        self.sessions[message.session].on_open(link, message)

    def on_stray(self, link: Link, message: SessionMessage) -> None:
        if (session := self.sessions.get(message.session)) is not None:
            session.on_stray(link, message)
            if isinstance(message, Signed) and session.account.closed:
                del self.sessions[message.session]


class Gathering(Roomy):
    """It answers no prompt before so many are there at once."""

    answers_from = 1

    def __init__(self, offering: OwnOffers, network: Network) -> None:
        super().__init__(offering, network)
        self.prompts: list[tuple[Link, Prompt]] = []

    def on_stray(self, link: Link, message: SessionMessage) -> None:
        if not isinstance(message, Prompt):
            super().on_stray(link, message)
            return
        self.prompts.append((link, message))
        if len(self.prompts) >= self.answers_from:
            prompts, self.prompts = self.prompts, []
            for prompt in prompts:
                super().on_stray(*prompt)


def test_two_hundred_prompts_at_once_load_one_tokenizer_and_each_has_its_end(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[StoredModel] = []
    monkeypatch.setattr(models, "Scribe", lambda model, data: loaded.append(model) or Scribe(model, data))

    async def ask(client: Client, stages: list[SoloStage]) -> None:
        found = await client.answers(["", *[PROMPT] * 199], max_tokens=2)
        assert len(loaded) == 1
        assert isinstance(found[0], UsageError)
        assert [answer.tokens for answer in found[1:] if isinstance(answer, Answer)] == [2] * 199
        [stage] = stages
        assert isinstance(stage, Roomy)
        assert stage.most_at_once <= MAX_IN_FLIGHT

    run(ask, tmp_path, store, Roomy, rate=1)  # an offer lives for a minute, and so much work takes seconds


def test_many_prompts_that_are_cancelled_halfway_leave_nothing(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        [stage] = stages
        assert isinstance(stage, Gathering)
        stage.answers_from = MAX_IN_FLIGHT // 2  # else so many might never be there at once
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(client.answers, [PROMPT] * 200, max_tokens=TOKENS))
            while stage.most_at_once < MAX_IN_FLIGHT // 2:  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        await client.wait_settled()
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert not [one for one in gc.get_objects() if isinstance(one, Run)]
        stage.prompts.clear()
        stage.answers_from = MAX_IN_FLIGHT  # every one of the turns is free again
        found = await client.answers([PROMPT] * MAX_IN_FLIGHT, max_tokens=2)
        assert [answer.tokens for answer in found if isinstance(answer, Answer)] == [2] * MAX_IN_FLIGHT

    run(ask, tmp_path, store, Gathering, rate=1)


def test_a_stage_that_cannot_be_reached_is_told(tmp_path: Path, store: Store) -> None:
    async def ask(client: Client, stages: list[SoloStage]) -> None:
        await client.model()
        link = client._network.link(stages[0].network.key)
        assert link is not None
        link.close(Code.IDLE)
        await link.closed.wait()
        stages[0].world.unreachable.add(stages[0].network.key)
        name = short_name(stages[0].network.key)
        with pytest.raises(NoRoute, match=f"no route could be opened: {name} cannot be reached"):
            await client.answer(PROMPT, max_tokens=TOKENS)

    run(ask, tmp_path, store, SoloStage)


def test_what_was_signed_and_not_stored_is_sent_again_at_the_next_contact(tmp_path: Path, store: Store) -> None:
    """RCT-26"""

    class Forgetful(SoloStage):
        """Its client's signatures are lost on the way, until it is asked to remember."""

        remembers = False

        def on_stray(self, link: Link, message: SessionMessage) -> None:
            if self.remembers or not isinstance(message, Signed):
                super().on_stray(link, message)

    async def ask(client: Client, stages: list[SoloStage]) -> None:
        await client.answer(PROMPT, max_tokens=TOKENS)
        await client.wait_settled()
        [stage] = stages
        assert stage.signed == []
        stage.remembers = True
        link = client._network.link(stage.network.key)
        assert link is not None
        link.close(Code.IDLE)
        await link.closed.wait()
        await client._network.dial(stage.network.addresses()[0])
        with read_journal(tmp_path / "client" / "client.sqlite") as journal:
            while journal.count_unstored():  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.1)
        assert stage.account.closed

    run(ask, tmp_path, store, Forgetful)
    assert paid(tmp_path) == [(4, FINAL)]
