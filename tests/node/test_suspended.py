"""A session whose client is away, against the clock (protocols/inference.md, 4.4). Nothing here waits for a thread."""

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.records.contract import EXPIRY_S
from p2pinfer.core.records.receipt import FINAL
from p2pinfer.core.sessions.step import Output
from p2pinfer.core.sessions.suspension import RESUME_S, RETURN_ALL_S, RETURN_S
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import Close, Credit, Finish, Propose, Resume, Sampled
from p2pinfer.node.session_books import AGAIN_S
from p2pinfer.node.session_deadlines import FINAL_S, IDLE_S, UNPAID_S
from tests.core.paid_route import CLIENT, SMALL
from tests.node.middle import HEAD, PROMPT, ROW, SESSION, TAIL, Middle
from tests.node.solo import Solo

FULL = SMALL.window  # positions that it computes without a signature


class Suspended(Middle):
    """Its client's link breaks, and the client comes back."""

    def __init__(self, life_s: int = 3600) -> None:
        super().__init__(life_s)
        self.over = trio.Event()

    async def run(self) -> None:
        await super().run()
        self.over.set()

    async def lose(self, code: Code = Code.LOST) -> None:
        self.heard(CLIENT.public, LinkDead("gone", code))
        await wait_all_tasks_blocked()

    async def resume(self, delivered: int = 0) -> None:
        self.heard(CLIENT.public, Resume(SESSION, 0, delivered))
        await wait_all_tasks_blocked()

    async def come_back(self, delivered: int = 0) -> None:
        self.dial()
        await self.resume(delivered)

    async def give(self, rows: int) -> None:
        await self.rows(rows)
        await self.compute()

    async def answer(self) -> None:
        """The whole prompt and the row of one id, which is the last but one."""
        for _ in range(PROMPT // 8):
            await self.give(8)
            await self.sign()
            await self.compute()
        await self.give(1)

    def proposed(self) -> list[bytes]:
        return [message.receipt for message in self.said(Propose)]  # type: ignore[attr-defined]

    def closes(self) -> list[Code]:
        """What was told to the neighbours."""
        told = (message for peer in (HEAD, TAIL) for message in self.links[peer.public].sent)
        return [Code.read(message.code) for message in told if isinstance(message, Close)]


@pytest.fixture
async def middle(nursery: trio.Nursery) -> Suspended:
    return await begin(nursery)


async def begin(nursery: trio.Nursery, life_s: int = 3600) -> Suspended:
    middle = Suspended(life_s)
    nursery.start_soon(middle.run)
    await wait_all_tasks_blocked()
    middle.heard(TAIL.public, Credit(SESSION, 0, 64))
    return middle


async def test_nothing_is_computed_for_a_client_that_is_away(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-43"""
    await middle.give(4)
    await middle.lose()
    await middle.rows(4)
    await trio.sleep(RETURN_S - 0.1)
    assert (middle.session.ready(), middle.session.stage.received, middle.session.stage.computed) == (0, 8, 4)
    await middle.come_back()
    await middle.compute()
    assert middle.session.stage.computed == 8


async def test_who_does_not_come_back_in_time_is_lost_and_no_neighbour_is_told(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-41"""
    await middle.give(7)
    await middle.lose()
    await middle.over.wait()
    assert trio.current_time() == RETURN_S
    assert (middle.session.stage.reason, middle.closes()) == (Code.LOST, [])
    final = middle.journal.proposed[-1].record
    assert (final.state, final.reason) == (FINAL, Code.LOST)


@pytest.mark.parametrize("code", [Code.LEAVING, Code.BAD_FRAME, Code.IDLE, Code.INTERNAL])
async def test_who_says_goodbye_does_not_come_back(autojump_clock: MockClock, middle: Suspended, code: Code) -> None:
    """INF-41"""
    await middle.give(4)
    await middle.lose(code)
    await middle.over.wait()
    assert trio.current_time() == 0


async def test_proposals_that_may_be_lost_are_made_again(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-43"""
    await middle.give(8)
    before = middle.proposed()
    await middle.lose()
    await middle.come_back()
    assert middle.proposed() == before
    assert len(middle.journal.proposed) == len(before) == 2
    await middle.sign()
    await middle.lose()
    await middle.come_back()
    assert middle.proposed() == []  # all are signed


async def test_what_was_at_work_is_proposed_when_the_client_is_back(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    await middle.rows(4)
    step = middle.session.steps.take(4)
    await middle.lose()
    middle.session.done(step, Output(bytes(4 * ROW)))
    middle.session.note_change()
    await wait_all_tasks_blocked()
    assert len(middle.journal.proposed) == 1
    await middle.come_back()
    assert middle.proposed() == [middle.journal.proposed[0].body]


async def test_a_client_may_be_back_before_its_loss_is_told(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-43: on another link, so that one was lost."""
    await middle.give(8)
    middle.links.pop(CLIENT.public)
    await middle.come_back()
    assert len(middle.proposed()) == 2
    middle.send.send_nowait((CLIENT.public, LinkDead("of the link before")))
    await wait_all_tasks_blocked()
    await middle.give(4)
    assert middle.session.stage.computed == 12


async def test_nothing_is_said_on_another_link_before_the_client_says_what_it_has(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    middle.links.pop(CLIENT.public)
    middle.dial()
    await middle.give(8)
    assert middle.client.sent == []
    await middle.resume()
    assert len(middle.proposed()) == 2


async def test_silence_is_not_unpaid_while_the_client_is_away(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-43"""
    for _ in range(3):
        await middle.give(8)
    assert (middle.session.stage.computed, middle.session.ready()) == (FULL, 0)
    await trio.sleep(UNPAID_S - 0.1)
    await middle.lose()
    await trio.sleep(RETURN_S - 0.1)
    await middle.come_back()
    await trio.sleep(RESUME_S)
    assert middle.closes() == []
    await middle.sign()
    await middle.compute()
    assert middle.session.stage.computed > FULL


async def test_nor_idle(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-43"""
    await middle.give(4)
    await trio.sleep(IDLE_S - 0.1)
    await middle.lose()
    await trio.sleep(RETURN_S - 0.1)
    await middle.come_back()
    await trio.sleep(RESUME_S)
    assert middle.closes() == []
    await trio.sleep(0.2)
    assert middle.closes() == [Code.IDLE, Code.IDLE]


async def test_a_session_is_suspended_for_so_long_in_all(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-43"""
    await middle.give(4)
    away_s = RETURN_ALL_S / 3 - 1
    for _ in range(2):
        await middle.lose()
        await trio.sleep(away_s)
        await middle.come_back()
        await trio.sleep(1)
    await middle.lose()
    began = trio.current_time()
    await middle.over.wait()
    assert trio.current_time() == began + RETURN_ALL_S - 2 * (away_s + RESUME_S)
    assert middle.session.stage.reason is Code.LOST


async def test_a_client_that_was_away_too_long_is_told(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-44"""
    await middle.give(4)
    for _ in range(2):
        await middle.lose()
        await trio.sleep(RETURN_S - 1)
        await middle.come_back()
    await trio.sleep(1)
    await middle.lose()
    await trio.sleep(2)
    await middle.over.wait()
    await middle.come_back()
    assert [close.code for close in middle.said(Close)] == [Code.LOST]  # type: ignore[attr-defined]


async def test_it_rests_at_once_and_no_more_when_the_client_is_back(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """Others that ask find its room (7.1)."""
    await middle.rows(4)
    assert not middle.session.is_at_rest
    await middle.lose()
    assert middle.session.is_at_rest
    await middle.come_back()
    assert not middle.session.is_at_rest


async def test_what_is_at_work_is_not_taken_from_the_engine(autojump_clock: MockClock, middle: Suspended) -> None:
    await middle.rows(4)
    middle.session.steps.take(4)
    await middle.lose()
    assert not middle.session.is_at_rest


async def test_a_client_that_lacks_what_it_signed_for_is_refused(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-43"""
    await middle.answer()
    for _ in range(4):
        await middle.give(1)
    await middle.sign()
    assert middle.account.paid > PROMPT
    await middle.lose()
    await middle.come_back(delivered=1)
    assert [close.code for close in middle.said(Close)] == [Code.BAD_POSITION]  # type: ignore[attr-defined]
    assert middle.session.stage.reason is Code.BAD_POSITION


async def test_a_client_that_is_back_on_the_same_link_is_refused(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-43"""
    await middle.give(4)
    await middle.resume()
    assert middle.closes() == [Code.BAD_STATE, Code.BAD_STATE]


async def test_a_neighbour_that_is_lost_meanwhile_ends_it_at_once(autojump_clock: MockClock, middle: Suspended) -> None:
    await middle.give(7)
    await middle.lose()
    await trio.sleep(1)
    middle.heard(TAIL.public, LinkDead("gone"))
    await middle.over.wait()
    assert trio.current_time() == 1
    assert middle.journal.proposed[-1].record.state == FINAL


async def test_a_client_that_gives_up_says_so_on_another_link(autojump_clock: MockClock, middle: Suspended) -> None:
    await middle.give(7)
    await middle.lose()
    middle.dial()
    middle.heard(CLIENT.public, Close(SESSION, 0, Code.CANCELLED, 0, ""))
    await wait_all_tasks_blocked()
    assert middle.session.stage.reason is Code.CANCELLED
    await middle.over.wait()


async def test_an_answer_that_ends_meanwhile_is_paid_when_the_client_is_back(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-44"""
    await middle.answer()
    await middle.lose()
    middle.heard(HEAD.public, Finish(SESSION, 0, PROMPT + 1, Code.LENGTH))
    await trio.sleep(RETURN_S - 0.1)
    assert not middle.over.is_set()
    await middle.come_back(delivered=1)
    assert middle.proposed()[-1] == middle.journal.proposed[-1].body
    await middle.sign()
    await middle.over.wait()
    assert middle.journal.completed[-1].record.state == FINAL


async def test_a_link_that_breaks_before_the_final_is_signed(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-44"""
    await middle.answer()
    middle.heard(HEAD.public, Finish(SESSION, 0, PROMPT + 1, Code.LENGTH))
    await trio.sleep(FINAL_S - 1)
    await middle.lose()
    await trio.sleep(RETURN_S - 1)
    await middle.come_back(delivered=2)
    assert middle.proposed() == [middle.journal.proposed[-1].body]
    await trio.sleep(RESUME_S)
    await middle.sign()
    await middle.over.wait()
    assert middle.journal.completed[-1].record.state == FINAL


async def test_an_answer_whose_client_does_not_come_back_waits_no_longer(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    await middle.answer()
    middle.heard(HEAD.public, Finish(SESSION, 0, PROMPT + 1, Code.LENGTH))
    await middle.lose()
    await middle.over.wait()
    assert trio.current_time() == RETURN_S
    assert middle.journal.proposed[-1].record.reason == Code.LENGTH


async def test_a_client_that_is_there_and_does_not_come_back_is_proposed_to_all_the_same(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """It answers what it has not signed as at any contact: there is none later while the link stays."""
    await middle.give(7)
    await middle.lose()
    middle.dial()
    await middle.over.wait()
    assert middle.proposed() == [receipt.body for receipt in middle.journal.proposed]
    assert middle.journal.proposed[-1].record.state == FINAL


async def test_what_is_not_stored_is_not_proposed_to_it(autojump_clock: MockClock, middle: Suspended) -> None:
    """RCT-20"""
    await middle.give(7)
    await middle.lose()
    middle.journal.disk.full = True
    middle.dial()
    await middle.over.wait()
    assert middle.proposed() == [receipt.body for receipt in middle.journal.proposed]
    assert len(middle.account.pending) == len(middle.proposed()) + 1


async def test_a_contract_ends_while_its_client_is_away(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    middle = await begin(nursery, life_s=30)
    await middle.give(4)
    await middle.lose()
    await trio.sleep(30 - EXPIRY_S + 0.1)
    assert middle.closes() == [Code.EXPIRED, Code.EXPIRED]


async def test_a_disk_that_is_full_ends_it_with_nothing_proposed(autojump_clock: MockClock, middle: Suspended) -> None:
    """RCT-20: what is not stored is not said, when the client is back neither."""
    await middle.rows(4)
    step = middle.session.steps.take(4)
    await middle.lose()
    middle.journal.disk.full = True
    middle.session.done(step, Output(bytes(4 * ROW)))
    middle.session.note_change()
    await middle.over.wait()
    await middle.come_back()
    assert (middle.proposed(), middle.closes()) == ([], [Code.INTERNAL, Code.INTERNAL])


async def test_a_signature_that_comes_before_the_client_says_that_it_is_back(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """A client sends whatever a node may not have stored as soon as there is a link (RCT-26)."""
    await middle.give(8)
    await middle.lose()
    middle.dial()
    await middle.sign()
    assert middle.account.paid == 8
    await middle.resume()
    assert middle.proposed() == []


async def test_who_comes_back_all_the_time_is_borne_no_longer_for_it(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-43: a new link every moment, and neither a prompt nor a signature."""
    while not middle.session.is_over:
        await trio.sleep(1.5)
        middle.links.pop(CLIENT.public, None)
        await middle.come_back()
    assert trio.current_time() < RETURN_ALL_S


async def test_resumes_on_a_link_that_did_not_break_keep_nothing_after_the_end(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-44"""
    await middle.answer()
    middle.heard(HEAD.public, Finish(SESSION, 0, PROMPT + 1, Code.LENGTH))
    with trio.fail_after(2 * FINAL_S):
        while not middle.over.is_set():
            await trio.sleep(1)
            await middle.resume(2)


async def test_a_client_that_is_linked_and_says_nothing_has_given_the_session_up(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-43"""
    await middle.give(4)
    await middle.lose()
    await trio.sleep(1)
    middle.dial()
    middle.session.meet(Greeted(CLIENT.public, bytes(16)))  # type: ignore[arg-type]
    await trio.sleep(RESUME_S + 0.1)
    assert middle.session.is_over


async def test_a_resume_of_another_epoch_changes_nothing(autojump_clock: MockClock, middle: Suspended) -> None:
    """INF-5"""
    await middle.give(4)
    middle.links.pop(CLIENT.public, None)
    middle.dial()
    middle.heard(CLIENT.public, Resume(SESSION, 1, 0))
    assert not middle.session.stage.is_suspended
    assert middle.closes() == []


async def end_signed_beyond_the_prompt(middle: Suspended) -> None:
    """The answer ends while the client is away, that has signed for four ids."""
    await middle.answer()
    for _ in range(4):
        await middle.give(1)
    await middle.sign()
    assert middle.account.paid > PROMPT
    await middle.lose()
    middle.heard(HEAD.public, Finish(SESSION, 0, PROMPT + 5, Code.LENGTH))


async def test_after_the_end_too_a_client_that_lacks_what_it_signed_for_is_told(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-44"""
    await end_signed_beyond_the_prompt(middle)
    await middle.come_back(delivered=1)
    assert [close.code for close in middle.said(Close)] == [Code.BAD_POSITION]  # type: ignore[attr-defined]
    assert middle.session.stage.reason is Code.LENGTH


async def test_what_ended_otherwise_is_told_whatever_the_client_counts(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-44"""
    await middle.answer()
    for _ in range(4):
        await middle.give(1)
    await middle.sign()
    await middle.lose()
    middle.heard(TAIL.public, Close(SESSION, 0, Code.INTERNAL, 0, ""))
    await middle.come_back(delivered=1)
    assert [close.code for close in middle.said(Close)] == [Code.INTERNAL]  # type: ignore[attr-defined]


async def test_a_disk_that_has_room_again_keeps_the_final_of_a_client_that_is_away(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-44, RCT-20"""
    await middle.answer()
    await middle.lose()
    middle.journal.disk.full = True
    middle.heard(HEAD.public, Finish(SESSION, 0, PROMPT + 1, Code.LENGTH))
    await trio.sleep(RETURN_S / 2)
    middle.journal.disk.full = False
    assert not middle.over.is_set()
    await middle.come_back(delivered=2)
    await trio.sleep(AGAIN_S)
    assert middle.journal.proposed[-1].record.state == FINAL
    assert middle.proposed()[-1] == middle.journal.proposed[-1].body
    await middle.sign()
    await middle.over.wait()
    assert middle.journal.completed[-1].record.state == FINAL


async def test_a_full_disk_takes_no_ids_from_a_client_that_is_away(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """INF-44"""
    solo = Solo(max_tokens=2)
    nursery.start_soon(solo.run)
    await wait_all_tasks_blocked()
    solo.compute()
    step = solo.session.steps.take(1)
    solo.lose()
    await wait_all_tasks_blocked()
    solo.journal.disk.full = True
    solo.session.done(step, Output(ids=(8,)))
    solo.session.note_change()
    await trio.sleep(FINAL_S + AGAIN_S / 2)
    solo.journal.disk.full = False
    solo.come_back(delivered=1)
    await trio.sleep(2 * AGAIN_S)
    assert solo.said(Sampled) == [Sampled(SESSION, 0, 0, 2, (8,), Code.LENGTH)]
    [final] = solo.said(Propose)
    assert isinstance(final, Propose)
    assert final.receipt == solo.journal.proposed[-1].body
    nursery.cancel_scope.cancel()


async def test_a_client_that_is_lost_while_a_proposal_is_stored_gets_the_final_all_the_same(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    middle.journal.disk.commit_s = 1
    await middle.give(7)
    await middle.lose(Code.LEAVING)
    await middle.over.wait()
    assert [receipt.record.seq for receipt in middle.journal.proposed] == [1, 2]
    assert middle.journal.proposed[-1].record.state == FINAL


async def test_an_answer_waits_no_longer_for_a_client_that_is_linked_and_says_nothing(
    autojump_clock: MockClock, middle: Suspended
) -> None:
    """INF-43, INF-44"""
    await middle.answer()
    middle.heard(HEAD.public, Finish(SESSION, 0, PROMPT + 1, Code.LENGTH))
    await middle.lose()
    await trio.sleep(1)
    middle.dial()
    middle.session.meet(Greeted(CLIENT.public, bytes(16)))  # type: ignore[arg-type]
    await middle.over.wait()
    assert trio.current_time() == 1 + RESUME_S
    assert middle.proposed() == [middle.journal.proposed[-1].body]


async def test_the_end_of_the_contract_ends_the_wait_for_a_client_that_is_away(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """INF-44"""
    life_s = RETURN_S - 5
    middle = await begin(nursery, round(life_s))
    await middle.answer()
    middle.heard(HEAD.public, Finish(SESSION, 0, PROMPT + 1, Code.LENGTH))
    await middle.lose()
    await middle.over.wait()
    assert trio.current_time() == life_s


@dataclass
class Greeted:
    """A link as far as `meet` looks at it."""

    peer: PeerKey
    boot: bytes

    @property
    def hello(self) -> "Greeted":
        return self
