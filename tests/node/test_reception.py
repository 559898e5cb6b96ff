"""Opens that a node refuses, each with its code and a sentence; and what it does not do for nothing."""

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from p2pinfer.client.contracts import Plan
from p2pinfer.core.records.receipt import FINAL, Receipt
from p2pinfer.core.records.records import decode
from p2pinfer.core.records.sampling import SamplingRecord, encode_sampling, params_hash
from p2pinfer.core.room.queue import USUAL_S
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey, SessionId, Span
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Finish,
    Neighbour,
    Open,
    Prompt,
    Propose,
    Resume,
    Sampled,
    SessionMessage,
    SessionRefused,
    Signed,
    Stored,
    pack_ids,
)
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.node.settings import numerics_of
from p2pinfer.overlay.limits import KEY_OPENS_BURST
from p2pinfer.overlay.memory import MemoryWorld
from tests.core.paid_route import STRANGER
from tests.live.processes import NUMERICS
from tests.swarms import TRUST, Loop, TinySwarm

from .strangers import IDS, Change, Session, Stranger, open_stranger

HEAD, MIDDLE, TAIL = 0, 1, 2
HOUR_S = 3600
HANG_S = 30.0  # a test that fails should not hang

T = TypeVar("T")


def new_key() -> PrivateKey:
    return PrivateKey(os.urandom(32))


def as_stranger(loop: Loop, function: Callable[[Stranger], Awaitable[T]], key: PrivateKey | None = None) -> T:
    async def main() -> T:
        with trio.fail_after(HANG_S):
            async with open_stranger(loop.swarm, key or new_key()) as stranger:
                result = await function(stranger)
            await wait_free(loop.swarm)  # whatever was refused or broke off was given back
            return result

    return loop.run(main)


async def wait_free(swarm: TinySwarm) -> None:
    for node in swarm.nodes:
        assert node.shard is not None
        while node.shard.engine.free_pages < node.shard.engine.facts.pages:  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.01)


def refusal(loop: Loop, change: Change, place: int = HEAD, now: int | None = None) -> SessionRefused:
    async def main(stranger: Stranger) -> SessionRefused:
        plan = await stranger.plan(now=now)
        answer = await stranger.open(plan, place, change(stranger, plan))
        assert isinstance(answer, SessionRefused), answer
        return answer

    return as_stranger(loop, main)


def with_contract(place: int = HEAD, **changes: object) -> Change:
    """The open of a stage, its contract changed and signed again."""

    def change(stranger: Stranger, plan: Plan) -> Open:
        contract = stranger.signed(plan, place, **changes)
        return replace(plan.opens[place], contract=contract.body, signature=contract.signatures[0])

    return change


def with_open(place: int = HEAD, **changes: object) -> Change:
    return lambda stranger, plan: replace(plan.opens[place], **changes)  # type: ignore[arg-type]


def with_limits(**changes: int) -> Change:
    def change(stranger: Stranger, plan: Plan) -> Open:
        limits = replace(plan.contracts[HEAD].record.limits, **changes)
        return with_contract(limits=limits)(stranger, plan)

    return change


def cheaper(stranger: Stranger, plan: Plan) -> Open:
    prices = plan.contracts[HEAD].record.prices
    return with_contract(prices=replace(prices, prefill=prices.prefill - 1))(stranger, plan)


def itself(stranger: Stranger, plan: Plan) -> Open:
    return replace(plan.opens[HEAD], successor=(plan.stages[HEAD].neighbour,))


def of_another_route(stranger: Stranger, plan: Plan) -> Open:
    return replace(plan.opens[HEAD], contract=plan.opens[MIDDLE].contract, signature=plan.opens[MIDDLE].signature)


def test_an_open_that_fits_is_accepted(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        for place in (HEAD, MIDDLE, TAIL):
            assert isinstance(await stranger.open(await stranger.plan(), place), Accept)

    as_stranger(loop, main)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (with_contract(offer=bytes(32)), Code.UNKNOWN_OFFER, "ask for its offers again"),
        (cheaper, Code.TOO_CHEAP, "below the offer"),
        (with_limits(max_positions=1000), Code.TOO_LONG, "1000 positions asked, limit 128"),
        (with_limits(window=1000), Code.BAD_TERMS, "go beyond the offer"),
        (with_limits(cadence=5, max_chunk=7), Code.BAD_TERMS, "go beyond the offer"),
        (with_contract(span=Span(0, 2)), Code.BAD_TERMS, "layers 0:2 of the model are not offered"),
        (with_contract(model=bytes(32)), Code.BAD_TERMS, "are not offered"),
        (with_contract(numerics=2), Code.BAD_TERMS, f"numerics class 2, offered {numerics_of(NUMERICS).value}"),
        (with_contract(codecs=(0, 9)), Code.BAD_TERMS, "codecs (0, 9) are not offered"),
        (with_contract(owner=STRANGER.public), Code.BAD_TERMS, "another than offered"),
        (with_contract(cert=bytes(32)), Code.BAD_TERMS, "another than offered"),
        (with_contract(start=1), Code.UNSUPPORTED, "continues no session"),
        (with_contract(seam=5), Code.UNSUPPORTED, "continues no session"),
        (with_open(mode=1), Code.UNSUPPORTED, "continues no session"),
        (with_open(mode=2), Code.UNSUPPORTED, "continues no session"),
        (with_open(mode=200), Code.UNSUPPORTED, "continues no session"),
        (with_open(ids=bytes(4)), Code.BAD_TERMS, "epoch 0 and no ids"),
        (with_open(epoch=1), Code.BAD_TERMS, "epoch 0 and no ids"),
        (with_contract(reserve=0), Code.BAD_TERMS, "a reserve of 0 ncr"),
        (with_open(secret=bytes(32)), Code.BAD_TERMS, "does not bind the generation's secret"),
        (with_open(successor=()), Code.BAD_TERMS, "the neighbours named do not fit the roles"),
        (with_open(far_end=()), Code.BAD_TERMS, "the neighbours named do not fit the roles"),
        (itself, Code.BAD_TERMS, "a stage is no neighbour of itself"),
        (with_open(contract=b"\x90"), Code.BAD_RECORD, ""),
        (with_open(contract=b""), Code.BAD_RECORD, ""),
        (with_open(signature=bytes(64)), Code.BAD_SIGNATURE, ""),
        (of_another_route, Code.UNKNOWN_OFFER, "not an offer of this node"),
    ],
)
def test_an_open_that_does_not_fit_is_refused_with_code_and_sentence(
    loop: Loop, change: Change, code: Code, words: str
) -> None:
    answer = refusal(loop, change)
    assert Code.read(answer.code) is code, answer
    assert words in answer.text
    assert answer.text
    assert answer.retry_ms == 0


@pytest.mark.parametrize("off_s", [-HOUR_S, HOUR_S])
def test_a_clock_that_is_an_hour_off_is_told_by_how_much(loop: Loop, off_s: int) -> None:
    import time

    answer = refusal(loop, with_open(), now=int(time.time()) + off_s)
    assert answer.code == Code.CLOCK_SKEW
    assert answer.text.startswith(f"the client's clock is {'+' if off_s > 0 else '-'}3")


def test_a_contract_of_somebody_else_is_refused(loop: Loop) -> None:
    def stolen(stranger: Stranger, plan: Plan) -> Open:
        return with_contract(client=new_key().public)(stranger, plan)

    assert refusal(loop, stolen).code == Code.BAD_SIGNATURE


def test_a_sampling_record_that_the_contract_does_not_bind_is_refused(loop: Loop) -> None:
    other = encode_sampling(SamplingRecord(0, 0, 1_000_000, 1, 8, ()))
    answer = refusal(loop, with_open(TAIL, sampling=other), TAIL)
    assert (answer.code, answer.text) == (Code.BAD_TERMS, "the contract does not bind the sampling record")


@pytest.mark.parametrize("sampling", [b"", b"\x80", b"\xff" * 100])
def test_a_sampling_record_that_is_none_is_refused(loop: Loop, sampling: bytes) -> None:
    def change(stranger: Stranger, plan: Plan) -> Open:
        contract = stranger.signed(plan, TAIL, params=params_hash(plan.secret, sampling))
        signed = {"contract": contract.body, "signature": contract.signatures[0]}
        return replace(plan.opens[TAIL], sampling=sampling, **signed)

    assert refusal(loop, change, TAIL).code == Code.BAD_RECORD


def test_more_ids_than_the_positions_of_the_contract_are_refused(loop: Loop) -> None:
    def change(stranger: Stranger, plan: Plan) -> Open:
        sampling = encode_sampling(SamplingRecord(0, 0, 1_000_000, 0, 9, ()))
        contract = stranger.signed(plan, TAIL, params=params_hash(plan.secret, sampling))
        signed = {"contract": contract.body, "signature": contract.signatures[0]}
        return replace(plan.opens[TAIL], sampling=sampling, **signed)

    answer = refusal(loop, change, TAIL)
    assert (answer.code, answer.text) == (Code.TOO_LONG, "a prompt of 5 and 9 tokens do not fit 13 positions")


def test_a_successor_that_cannot_be_reached_is_told(loop: Loop) -> None:
    nobody = Neighbour(new_key().public, ())
    answer = refusal(loop, with_open(successor=(nobody,)))
    assert answer.code == Code.UNREACHABLE
    assert "cannot be reached" in answer.text


def test_a_contract_is_not_open_twice(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan()
        again = replace(plan.opens[HEAD], session=SessionId(os.urandom(16)))
        async with stranger.running(plan) as session:
            answer = await stranger.open(plan, HEAD, again)
            assert isinstance(answer, SessionRefused)
            assert answer.code == Code.BAD_STATE
            session.close()

    as_stranger(loop, main)


def test_a_client_has_one_window_for_all_its_sessions(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        positions = len(IDS) + 8  # fewer than a window, and no more is at risk
        plans = [await stranger.plan() for _ in range(TRUST["client_window"] // positions + 1)]
        answers = []
        link = await stranger.link(plans[0], HEAD)
        for plan in plans:
            with stranger.exchange.open_session(plan.session, [link.peer]) as incoming:
                link.send_nowait(plan.opens[HEAD])
                answers.append((await incoming.receive())[1])
        assert [type(answer) for answer in answers] == [Accept] * (len(plans) - 1) + [SessionRefused]
        assert (answers[-1].code, answers[-1].retry_ms) == (Code.WINDOW_FULL, 1000)
        for plan in plans[:-1]:
            link.send_nowait(Close(plan.session, 0, Code.CANCELLED, 0, ""))
        await wait_free(loop.swarm)
        assert isinstance(await stranger.open(await stranger.plan(), HEAD), Accept)

    as_stranger(loop, main)


def test_a_client_that_vanishes_while_it_opens_harms_nobody(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan()
        link = await stranger.link(plan, TAIL)
        link.send_nowait(plan.opens[TAIL])
        link.close(Code.LEAVING)
        await link.closed.wait()

    for _ in range(5):
        as_stranger(loop, main)

    async def still_well(stranger: Stranger) -> None:
        await wait_free(loop.swarm)
        assert isinstance(await stranger.open(await stranger.plan(), TAIL), Accept)

    as_stranger(loop, still_well)


def test_a_full_node_says_when_to_come_back(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        alone = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model)
        async with alone.node(tmp_path / "node", "0:3", serve_max_sessions=1) as node:
            alone.bootstrap = node.addresses
            async with open_stranger(alone, new_key()) as stranger:
                plans = [await stranger.plan(max_tokens=100) for _ in range(2)]
                async with stranger.running(plans[0]) as session:
                    answer = await stranger.open(plans[1], 0)
                    assert isinstance(answer, SessionRefused)
                    assert (answer.code, answer.retry_ms) == (Code.BUSY, 1000 * USUAL_S)
                    session.close()

    loop.run(main)


def test_no_more_sessions_are_open_than_the_owner_allows(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            one_node(loop, tmp_path, serve_max_sessions=1) as alone,
            crowd(alone, 2) as [first, second],
            first.running(await first.plan(max_tokens=100)) as session,
        ):
            answer = await second.open(await second.plan(), 0)
            assert isinstance(answer, SessionRefused)
            assert (answer.code, answer.retry_ms) == (Code.BUSY, 1000 * USUAL_S)
            session.close()

    loop.run(main)


@pytest.mark.parametrize("signed", [0, 1_000_000], ids=["newcomers", "with credit"])
def test_idle_sessions_give_way_to_one_who_asks(
    signed: int, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were accepted, and no prompt came."""
    monkeypatch.setattr("p2pinfer.core.room.room.FIRST_ROWS_S", 0.0)
    monkeypatch.setattr(JournalReader, "signed", lambda _reader, _client: signed)

    async def main() -> None:
        async with one_node(loop, tmp_path, serve_max_sessions=1) as alone, crowd(alone, 2) as [first, second]:
            plan = await first.plan()
            link = await first.link(plan, 0)
            with first.exchange.open_session(plan.session, [link.peer]) as incoming:
                link.send_nowait(plan.opens[0])
                assert isinstance((await incoming.receive())[1], Accept)
                assert isinstance(await second.open(await second.plan(), 0), Accept)
                close = (await incoming.receive())[1]
                assert isinstance(close, Close)
                assert close.code == Code.IDLE
                assert close.text.startswith("nothing came in ")

    loop.run(main)


def test_more_opens_than_are_looked_at_are_refused_at_once(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with one_node(loop, tmp_path) as alone, crowd(alone, 1) as [stranger]:
            plan = await stranger.plan()
            link = await stranger.link(plan, 0)
            answers = []
            for _ in range(KEY_OPENS_BURST + 20):
                session = SessionId(os.urandom(16))
                with stranger.exchange.open_session(session, [link.peer]) as incoming:
                    link.send_nowait(replace(plan.opens[0], session=session, contract=b"\x90"))
                    answers.append((await incoming.receive())[1])
            texts = [answer.text for answer in answers if isinstance(answer, SessionRefused)]
            assert texts[-1] == "too many sessions are opened at once"
            assert KEY_OPENS_BURST <= len([text for text in texts if text != texts[-1]]) < KEY_OPENS_BURST + 20

    loop.run(main)


def test_opens_without_work_leave_nothing_in_the_journal(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with one_node(loop, tmp_path) as alone, crowd(alone, 1) as [stranger]:
            for _ in range(5):
                assert isinstance(await stranger.open(await stranger.plan(), 0), Accept)

    loop.run(main)
    with closing(sqlite3.connect(tmp_path / "node" / "journal.sqlite")) as journal:
        assert journal.execute("SELECT count(*) FROM contract").fetchone() == (0,)


@asynccontextmanager
async def one_node(loop: Loop, folder: Path, **changes: object) -> AsyncIterator[TinySwarm]:
    alone = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model)
    async with alone.node(folder / "node", "0:3", **changes) as node:
        alone.bootstrap = node.addresses
        yield alone


@asynccontextmanager
async def crowd(swarm: TinySwarm, count: int) -> AsyncIterator[list[Stranger]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_stranger(swarm, new_key())) for _ in range(count)]


# Work that is not paid


def test_a_client_that_signs_nothing_gets_no_more_than_the_window(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan(max_tokens=60)
        async with stranger.running(plan) as session:
            ids = TRUST["window"] - len(IDS) + 1
            for _ in range(ids):
                await session.next(Sampled)
            await after_another(stranger, session)
            assert len([message for message in session.came if isinstance(message, Sampled)]) == ids
            session.close()

    as_stranger(loop, main)


async def after_another(stranger: Stranger, session: Session) -> None:
    """Take what came of a session by the time that another one, opened now, had an answer from the same engines."""
    async with stranger.running(await stranger.plan(max_tokens=2)) as other:
        for _ in range(2):
            await other.next(Sampled)
        other.close()
    while session.incoming.statistics().current_buffer_used:
        await session.next(SessionMessage)


def prefill(proposal: Propose) -> int:
    return decode(Receipt, proposal.receipt).usage.prefill


def test_a_long_prompt_stops_at_the_window_too(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan(prompt=100)
        async with stranger.running(plan, tuple(range(65, 115)) * 2) as session:
            while prefill(await session.next(Propose)) < TRUST["window"]:  # type: ignore[arg-type]
                pass
            await after_another(stranger, session)
            proposals = [decode(Receipt, one.receipt) for one in session.came if isinstance(one, Propose)]
            assert max(receipt.usage.prefill for receipt in proposals) == TRUST["window"]
            assert not [message for message in session.came if isinstance(message, Sampled)]
            session.close()

    as_stranger(loop, main)


@pytest.mark.parametrize("lie", ["signature", "body", "number"])
def test_a_signature_that_is_none_ends_the_session_and_nothing_else(loop: Loop, lie: str) -> None:
    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan(max_tokens=60)
        async with stranger.running(plan) as session:
            proposal = await session.next(Propose)
            assert isinstance(proposal, Propose)
            receipt = decode(Receipt, proposal.receipt)
            [place] = [at for at, one in enumerate(plan.contracts) if one.id == receipt.contract]
            body = {
                "signature": proposal.receipt,
                "body": proposal.receipt[:-1] + b"\x01",
                "number": stranger.key and proposal.receipt.replace(b"\xce", b"\xcf"),
            }[lie]
            session.say(place, Signed(plan.session, body, bytes(64)))
            close = await session.next(Close)
            assert isinstance(close, Close)
            assert Code.read(close.code) in (Code.BAD_SIGNATURE, Code.BAD_RECORD, Code.RECEIPT_CONFLICT)
            session.close()
        assert isinstance(await stranger.open(await stranger.plan(), HEAD), Accept)

    as_stranger(loop, main)


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        (IDS[:-1], Code.BAD_POSITION),
        (IDS + IDS, Code.BAD_POSITION),
        ((1, 2, 3, 4, 70_000), Code.BAD_VALUES),
    ],
)
def test_a_prompt_that_is_not_the_one_announced_ends_the_session(loop: Loop, ids: tuple[int, ...], code: Code) -> None:
    async def main(stranger: Stranger) -> None:
        async with stranger.running(await stranger.plan(), ids) as session:
            close = await session.next(Close)
            assert isinstance(close, Close)
            assert Code.read(close.code) is code
            session.close()

    as_stranger(loop, main)


def test_a_client_that_plays_another_part_ends_its_session(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan()
        async with stranger.running(plan) as session:
            session.say(MIDDLE, Finish(plan.session, 0, 3, Code.END))
            close = await session.next(Close)
            assert isinstance(close, Close)
            assert (Code.read(close.code), close.text) == (Code.BAD_STATE, "CLIENT sent Finish while RUNNING")
            session.close()

    as_stranger(loop, main)


def test_a_second_prompt_ends_the_session(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan(max_tokens=60)
        async with stranger.running(plan) as session:
            session.say(HEAD, Prompt(plan.session, 0, pack_ids(IDS)))
            close = await session.next(Close)
            assert isinstance(close, Close)
            assert Code.read(close.code) is Code.BAD_STATE
            session.close()

    as_stranger(loop, main)


def test_another_client_cannot_enter_a_session(loop: Loop) -> None:
    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan(max_tokens=60)
        async with stranger.running(plan) as session, open_stranger(loop.swarm, new_key()) as thief:
            link = await thief.link(plan, HEAD)
            link.send_nowait(Close(plan.session, 0, Code.CANCELLED, 0, ""))
            await link.closed.wait()
            assert link.dead is not None
            assert link.dead.code is Code.BAD_STATE
            assert isinstance(await session.next(Sampled), Sampled)
            session.close()

    as_stranger(loop, main)


def test_a_client_that_comes_back_to_no_session_is_told(loop: Loop) -> None:
    """INF-44; sessions that run go on."""

    async def main(stranger: Stranger) -> None:
        plan = await stranger.plan(max_tokens=60)
        async with stranger.running(plan) as session:
            link = session.links[HEAD]
            link.send_nowait(Resume(SessionId(bytes(16)), 3, 1))
            assert isinstance(await session.next(Sampled), Sampled)
            assert isinstance(await session.next(Sampled), Sampled)
            session.close()
        assert [message for _, message in stranger.heard if isinstance(message, Close)] == [
            Close(SessionId(bytes(16)), 3, Code.LOST, 0, "the session is not open here")
        ]

    as_stranger(loop, main)


def test_clients_that_vanish_are_counted_what_they_owe_and_no_more(loop: Loop) -> None:
    """More answers break off than a client has windows; each leaves some unpaid positions behind."""
    key = new_key()

    async def vanish(stranger: Stranger) -> None:
        plan = await stranger.plan()
        async with stranger.running(plan) as session:
            await session.next(Sampled)

    for _ in range(TRUST["client_window"] // TRUST["window"] + 1):
        as_stranger(loop, vanish, key)

    async def again(stranger: Stranger) -> None:
        assert isinstance(await stranger.open(await stranger.plan(), HEAD), Accept)

    as_stranger(loop, again, key)


# Receipts after the end


def test_a_receipt_signed_at_the_next_contact_is_stored(loop: Loop, tmp_path: Path) -> None:
    """The link is lost before the final signature, and comes back."""
    from p2pinfer.core.money.client_account import ClientAccount, Sign
    from p2pinfer.core.records.contract import verify_contract

    async def main() -> None:
        alone = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model)
        async with alone.node(tmp_path / "node", "0:3") as node:
            alone.bootstrap = node.addresses
            key = new_key()
            async with open_stranger(alone, key) as stranger:
                plan = await stranger.plan()
                async with stranger.running(plan) as session:
                    [accept] = [one for one in session.came if isinstance(one, Accept)]
                    ids: list[int] = []
                    while len(ids) < 8:
                        sampled = await session.next(Sampled)
                        assert isinstance(sampled, Sampled)
                        ids += sampled.ids
                    while decode(Receipt, (await session.next(Propose)).receipt).state != FINAL:  # type: ignore
                        pass
            async with open_stranger(alone, key) as stranger:
                await stranger.directory.look()
                await stranger.link(plan, 0)
                with trio.fail_after(HANG_S):
                    while not [one for _, one in stranger.heard if is_final(one)]:  # noqa: ASYNC110
                        await trio.sleep(0.01)
                [final] = [one for _, one in stranger.heard if is_final(one)]
                request = plan.contracts[0]
                contract = verify_contract(request.body, request.signatures[0], accept.signature)
                account = ClientAccount([contract], IDS, plan.secret, key)
                account.add_ids(ids)
                [decision] = account.propose(0, final.receipt, final.signature, 0.0)
                assert isinstance(decision, Sign)
                link = await stranger.link(plan, 0)
                signed = Signed(plan.session, final.receipt, decision.receipt.signatures[1])
                link.send_nowait(signed)
                while not [one for _, one in stranger.heard if isinstance(one, Stored)]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            kept = await node.journal.read(lambda reader: reader.complete(contract.id))
            assert kept is not None
            assert kept.receipt.record.state == FINAL
            assert await node.journal.read(lambda reader: reader.pending()) == []

    loop.run(main)


def is_final(message: object) -> bool:
    return isinstance(message, Propose) and decode(Receipt, message.receipt).state == FINAL


def test_a_signature_of_somebody_else_settles_nothing(loop: Loop) -> None:
    async def main(stranger: Stranger) -> PeerKey:
        plan = await stranger.plan()
        link = await stranger.link(plan, HEAD)
        link.send_nowait(Signed(plan.session, b"\x90", bytes(64)))
        link.send_nowait(Signed(plan.session, bytes(100), bytes(64)))
        assert isinstance(await stranger.open(await stranger.plan(), HEAD), Accept)
        return link.peer

    as_stranger(loop, main)
