"""One session of a node against the clock: signatures that do not come, rows that do not come, a disk that fails.

Nothing here waits for a thread.
"""

import gc
import weakref
from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.records.contract import EXPIRY_S
from p2pinfer.core.records.receipt import FINAL
from p2pinfer.core.records.records import countersign
from p2pinfer.core.room.room import FIRST_ROWS_S, POSITION_S, RESTING_S
from p2pinfer.core.sessions.step import Output
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.wire.session_messages import Close, Credit, Propose, Signed, Stored
from p2pinfer.disk.journal import COMMIT_S
from p2pinfer.node.session_books import AGAIN_S
from p2pinfer.node.session_deadlines import FINAL_S, IDLE_S, UNPAID_S
from p2pinfer.overlay.outbox import Priority
from tests.core.paid_route import CLIENT, SMALL
from tests.node.middle import HEAD, PROMPT, ROW, SESSION, TAIL, Middle


@pytest.fixture
async def middle(nursery: trio.Nursery) -> Middle:
    return run_middle(nursery, Middle())


def run_middle(nursery: trio.Nursery, middle: Middle) -> Middle:
    middle.over = trio.Event()  # type: ignore[attr-defined]

    async def run() -> None:
        await middle.run()
        middle.over.set()  # type: ignore[attr-defined]

    nursery.start_soon(run)
    middle.heard(TAIL.public, Credit(SESSION, 0, 64))
    return middle


async def fill(middle: Middle) -> None:
    """Let the session compute until its window is full."""
    await middle.rows(8)
    await middle.compute()
    await middle.rows(8)
    await middle.compute()
    await middle.rows(8)
    await middle.compute()


async def test_a_session_stops_at_the_window(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    assert middle.session.stage.computed == SMALL.window
    assert middle.session.ready() == 0


async def test_a_signature_lets_it_go_on(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    await middle.sign()
    assert middle.said(Stored) == [Stored(SESSION, 4)]
    await middle.compute()
    assert middle.session.stage.computed == 24


async def test_a_client_that_stops_signing_is_given_up(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    began = trio.current_time()
    await trio.sleep(UNPAID_S - 0.1)
    assert middle.said(Close) == []
    await trio.sleep(0.2)
    assert middle.said(Close) == [
        Close(SESSION, 0, Code.UNPAID, 0, "no receipt was signed for 45 s with the window full")
    ]
    await middle.over.wait()  # type: ignore[attr-defined]
    assert trio.current_time() == pytest.approx(began + UNPAID_S + FINAL_S)


async def test_messages_that_move_nothing_do_not_keep_it_alive(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    await middle.sign()
    await middle.compute()
    old = countersign(middle.journal.proposed[3], CLIENT)
    for _ in range(26):
        middle.heard(CLIENT.public, Signed(SESSION, old.body, old.signatures[1]))
        await trio.sleep(IDLE_S / 24)
    assert [close.code for close in middle.said(Close)] == [Code.IDLE]  # type: ignore[attr-defined]


async def test_a_session_that_gets_no_rows_is_given_up(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(4)
    await middle.compute()
    await trio.sleep(IDLE_S + 0.1)
    assert [close.text for close in middle.said(Close)] == ["nothing came for 60 s"]  # type: ignore[attr-defined]
    assert [type(one) for one in middle.links[TAIL.public].sent][-1] is Close


async def trickle(middle: Middle, every_s: float) -> None:
    for _ in range(5):
        await trio.sleep(every_s)
        await middle.rows(1)
        await middle.compute()


async def test_positions_that_come_all_the_time_keep_a_session_in_use(
    autojump_clock: MockClock, middle: Middle
) -> None:
    await trickle(middle, POSITION_S)
    assert not middle.session.is_at_rest
    assert middle.session.idle_s == 0


async def test_a_position_now_and_then_keeps_no_session_in_use(autojump_clock: MockClock, middle: Middle) -> None:
    await trickle(middle, POSITION_S + RESTING_S / 5)
    assert middle.session.is_at_rest
    await middle.rows(1)
    assert not middle.session.is_at_rest  # it can be computed


async def test_what_is_computed_is_in_use_however_long_it_takes(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(4)
    middle.session.steps.take(4)
    await trio.sleep(RESTING_S)
    assert not middle.session.is_at_rest


async def test_a_session_without_rows_rests_sooner(autojump_clock: MockClock, middle: Middle) -> None:
    await trio.sleep(FIRST_ROWS_S)
    assert middle.session.is_at_rest


@pytest.mark.parametrize(("after_s", "code"), [(0.0, Code.OUTSTAYED), (POSITION_S + RESTING_S, Code.IDLE)])
async def test_a_session_that_gives_way_says_why(
    autojump_clock: MockClock, middle: Middle, after_s: float, code: Code
) -> None:
    await middle.rows(1)
    await middle.compute()
    await trio.sleep(after_s)
    middle.session.give_way()
    assert {close.code for close in middle.said(Close)} == {code}  # type: ignore[attr-defined]


async def test_a_session_without_rows_that_gives_way_at_once_is_told_that_nothing_came(middle: Middle) -> None:
    middle.session.give_way()
    assert {(close.code, close.text) for close in middle.said(Close)} == {  # type: ignore[attr-defined]
        (Code.IDLE, "nothing came in 0.0 s, and others wait")
    }


async def test_a_session_that_is_too_slow_is_told_so(autojump_clock: MockClock, middle: Middle) -> None:
    await trickle(middle, POSITION_S + RESTING_S / 5)
    middle.session.give_way()
    assert {close.code for close in middle.said(Close)} == {Code.SLOW}  # type: ignore[attr-defined]


async def test_a_session_ends_while_its_final_receipt_can_still_be_signed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """RCT-22"""
    middle = run_middle(nursery, Middle(life_s=60))
    await middle.rows(4)
    await middle.compute()
    await trio.sleep(60 - EXPIRY_S - 2)
    assert not middle.said(Close)
    await trio.sleep(2.1)
    assert [(close.code, close.text) for close in middle.said(Close)] == [  # type: ignore[attr-defined]
        (Code.EXPIRED, "the contract's time is over")
    ]
    middle.heard(CLIENT.public, Close(SESSION, 0, Code.EXPIRED, 4, ""))
    await wait_all_tasks_blocked()
    proposal = middle.journal.proposed[-1]
    assert proposal.record.state == FINAL
    assert middle.position == proposal.record.usage.prefill // 10


async def test_a_disk_that_fails_ends_the_session_before_anything_is_proposed(
    autojump_clock: MockClock, middle: Middle
) -> None:
    middle.journal.disk.full = True
    await fill(middle)
    assert middle.said(Propose) == []
    assert [close.code for close in middle.said(Close)] == [Code.INTERNAL]  # type: ignore[attr-defined]
    await middle.over.wait()  # type: ignore[attr-defined]


async def test_a_receipt_that_could_not_be_stored_is_not_acknowledged(
    autojump_clock: MockClock, middle: Middle
) -> None:
    """RCT-25"""
    await fill(middle)
    middle.journal.disk.full = True
    await middle.sign()
    assert middle.said(Stored) == []
    assert [close.code for close in middle.said(Close)] == [Code.INTERNAL]  # type: ignore[attr-defined]


async def test_a_signature_that_could_not_be_stored_does_not_count_as_paid(
    autojump_clock: MockClock, middle: Middle
) -> None:
    """After a restart nobody would have it."""
    await fill(middle)
    middle.journal.disk.full = True
    await middle.sign()
    assert (middle.account.paid, middle.account.complete) == (0, None)
    await middle.over.wait()  # type: ignore[attr-defined]
    assert (middle.account.paid, middle.account.complete) == (0, None)


async def test_a_signature_is_stored_once_the_disk_has_room_again(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    middle.journal.disk.full = True
    await middle.sign()
    middle.journal.disk.full = False
    await trio.sleep(AGAIN_S)
    await wait_all_tasks_blocked()
    assert middle.said(Stored) == [Stored(SESSION, 4)]
    assert (middle.account.paid, middle.account.complete) == (16, middle.journal.completed[-1])


async def test_a_proposal_is_stored_before_it_is_sent(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    sent = [message.receipt for message in middle.said(Propose)]  # type: ignore[attr-defined]
    assert sent == [receipt.body for receipt in middle.journal.proposed]
    assert len(sent) == 4


async def test_a_lost_neighbour_ends_the_session_and_the_client_hears_of_it(
    autojump_clock: MockClock, middle: Middle
) -> None:
    await middle.rows(8)
    await middle.compute()
    middle.heard(TAIL.public, LinkDead("gone"))
    await wait_all_tasks_blocked()
    assert [close.code for close in middle.said(Close)] == [Code.LOST]  # type: ignore[attr-defined]
    assert [type(one) for one in middle.links[HEAD.public].sent][-1] is Close


async def test_after_a_lost_neighbour_the_client_pays_what_it_says(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(8)
    await middle.compute()
    middle.heard(TAIL.public, LinkDead("gone"))
    middle.heard(CLIENT.public, Close(SESSION, 0, Code.LOST, 8, ""))
    await wait_all_tasks_blocked()
    assert middle.journal.proposed[-1].record.state == FINAL
    await middle.sign()
    await middle.over.wait()  # type: ignore[attr-defined]
    assert trio.current_time() == 0
    assert middle.journal.completed[-1].record.reason == Code.LOST


async def test_a_client_that_leaves_ends_the_session_at_once(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(8)
    await middle.compute()
    middle.heard(CLIENT.public, LinkDead("bye", Code.LEAVING))
    await middle.over.wait()  # type: ignore[attr-defined]
    assert trio.current_time() == 0


async def test_what_the_client_signed_before_it_was_lost_is_stored(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(8)
    await middle.compute()
    receipt = countersign(middle.journal.proposed[-1], CLIENT)
    middle.heard(CLIENT.public, Signed(SESSION, receipt.body, receipt.signatures[1]))
    middle.heard(CLIENT.public, LinkDead("gone"))
    await middle.over.wait()  # type: ignore[attr-defined]
    assert [one.record.seq for one in middle.journal.completed] == [2]


async def test_what_is_computed_when_the_client_closes_is_done_all_the_same(
    autojump_clock: MockClock, middle: Middle
) -> None:
    """RCT-24"""
    await middle.rows(4)
    step = middle.session.steps.take(4)
    middle.heard(CLIENT.public, Close(SESSION, 0, Code.CANCELLED, 0, ""))
    middle.session.done(step, Output(bytes(4 * ROW)))
    middle.session.note_change()
    await middle.over.wait()  # type: ignore[attr-defined]
    assert (middle.account.committed, middle.account.worked) == (0, 4)
    assert middle.journal.proposed == []


async def test_a_client_that_closes_before_any_work_owes_nothing_and_nobody_waits(
    autojump_clock: MockClock, middle: Middle
) -> None:
    middle.heard(CLIENT.public, Close(SESSION, 0, Code.CANCELLED, 0, ""))
    await middle.over.wait()  # type: ignore[attr-defined]
    assert trio.current_time() == 0
    assert middle.journal.proposed == []


async def test_a_neighbour_whose_link_is_gone_already_is_noticed_when_rows_are_due(
    autojump_clock: MockClock, middle: Middle
) -> None:
    for _ in range(PROMPT // 8):
        await middle.rows(8)
        await middle.compute()
        await middle.sign()
        await middle.compute()
    assert middle.session.stage.computed == PROMPT
    del middle.links[TAIL.public]
    await middle.rows(1)
    await middle.compute()
    assert [close.code for close in middle.said(Close)] == [Code.LOST]  # type: ignore[attr-defined]


async def test_all_rows_of_the_prompt_go_the_same_way_a_last_single_one_too(
    autojump_clock: MockClock, middle: Middle
) -> None:
    """A single row of the prompt must not overtake those before it."""
    await middle.rows(4)
    await middle.rows(1)
    await middle.compute()
    tail = middle.links[TAIL.public]
    rows = [(one.position, priority) for one, priority in zip(tail.sent, tail.priorities, strict=True)]  # type: ignore
    assert rows == [(0, Priority.PREFILL), (4, Priority.PREFILL)]


async def test_beyond_the_prompt_a_stage_counts_only_what_went_round(autojump_clock: MockClock, middle: Middle) -> None:
    """So a client that gives up can count to every proposal (receipts.md, 5.2). (RCT-23)"""
    for _ in range(PROMPT // 8):
        await middle.rows(8)
        await middle.compute()
        await middle.sign()
        await middle.compute()
    await middle.sign()
    for committed in range(PROMPT, PROMPT + 3):
        await middle.rows(1)
        await middle.compute()
        assert (middle.session.stage.computed, middle.account.committed) == (committed + 1, committed)


async def test_a_clock_that_jumps_past_the_end_of_the_contract_is_noticed_soon(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A machine that slept sees the same: the monotonic clock stood still."""
    middle = run_middle(nursery, Middle(life_s=3600))
    await middle.rows(4)
    await middle.compute()
    middle.clock.jump(4000)
    await trio.sleep(EXPIRY_S / 2 + 0.1)
    assert [close.code for close in middle.said(Close)] == [Code.EXPIRED]  # type: ignore[attr-defined]


async def test_a_clock_that_jumps_back_lets_no_contract_last_longer(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    middle = run_middle(nursery, Middle(life_s=40))
    await middle.rows(4)
    await middle.compute()
    middle.clock.jump(-4000)
    await trio.sleep(40 - EXPIRY_S + 0.1)
    assert [close.code for close in middle.said(Close)] == [Code.EXPIRED]  # type: ignore[attr-defined]


async def test_a_client_that_is_lost_finds_the_final_receipt_at_its_next_contact(
    autojump_clock: MockClock, middle: Middle
) -> None:
    """Also for what lies beyond the last multiple of the cadence, or it could never be signed."""
    await middle.rows(7)
    await middle.compute()
    middle.heard(CLIENT.public, LinkDead("gone"))
    await middle.over.wait()  # type: ignore[attr-defined]
    final = middle.journal.proposed[-1].record
    assert (final.state, final.reason, final.usage.prefill) == (FINAL, Code.LOST, 70)


async def test_a_client_that_never_says_how_far_it_signs_finds_the_final_receipt_too(
    autojump_clock: MockClock, middle: Middle
) -> None:
    await middle.rows(7)
    await middle.compute()
    middle.heard(TAIL.public, LinkDead("gone"))
    await middle.over.wait()  # type: ignore[attr-defined]
    assert middle.journal.proposed[-1].record.state == FINAL


async def test_where_all_is_proposed_a_lost_client_finds_nothing_more(
    autojump_clock: MockClock, middle: Middle
) -> None:
    await middle.rows(8)
    await middle.compute()
    middle.heard(CLIENT.public, LinkDead("gone"))
    await middle.over.wait()  # type: ignore[attr-defined]
    assert [receipt.record.seq for receipt in middle.journal.proposed] == [1, 2]


@pytest.mark.parametrize("said_stop", [False, True])
async def test_a_session_that_is_cut_off_proposes_what_it_computed(autojump_clock: MockClock, said_stop: bool) -> None:
    """RCT-19"""
    middle = Middle()
    async with trio.open_nursery() as nursery:
        run_middle(nursery, middle)
        await middle.rows(7)
        await middle.compute()
        assert (middle.account.committed, middle.account.proposed) == (7, 4)
        if said_stop:
            middle.session.fail(Code.LEAVING, "it stops")
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    final = middle.journal.proposed[-1].record
    assert (final.state, final.reason, middle.account.proposed) == (FINAL, Code.LEAVING, 7)
    assert len(middle.said(Close)) == 1


async def test_a_disk_that_does_not_answer_holds_up_no_end_for_long(autojump_clock: MockClock) -> None:
    middle = Middle()
    async with trio.open_nursery() as nursery:
        run_middle(nursery, middle)
        await middle.rows(7)
        await middle.compute()
        middle.journal.disk.commit_s = 9 * COMMIT_S
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert middle.ended_s == began + COMMIT_S


@pytest.mark.parametrize("cut_off_s", [inf, 1.0])
async def test_a_slow_disk_gets_the_final_of_an_ordinary_end_but_holds_up_nobody_who_cuts_it_off(
    autojump_clock: MockClock, cut_off_s: float
) -> None:
    middle = Middle()
    async with trio.open_nursery() as nursery:
        run_middle(nursery, middle)
        await middle.rows(7)
        await middle.compute()
        middle.journal.disk.commit_s = 2 * COMMIT_S
        middle.heard(TAIL.public, LinkDead("gone"))
        began = trio.current_time()
        with trio.move_on_after(FINAL_S + cut_off_s):
            await middle.over.wait()  # type: ignore[attr-defined]
        nursery.cancel_scope.cancel()
    is_whole = cut_off_s == inf
    assert (middle.journal.proposed[-1].record.state == FINAL) == is_whole
    assert middle.ended_s == began + FINAL_S + (2 * COMMIT_S if is_whole else cut_off_s + COMMIT_S)


async def test_after_a_fault_of_ours_nothing_more_is_proposed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fault(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    middle = Middle()
    async with trio.open_nursery() as nursery:
        run_middle(nursery, middle)
        await middle.rows(7)
        await middle.compute()
        with monkeypatch.context() as broken:
            broken.setattr(middle.journal, "complete", fault)
            await middle.sign()
        await middle.over.wait()  # type: ignore[attr-defined]
    assert [receipt.record.seq for receipt in middle.journal.proposed] == [1]


async def test_nothing_of_a_session_waits_for_the_collector(autojump_clock: MockClock) -> None:
    """To find such garbage stops the loop."""
    gc.collect()
    gc.disable()
    try:
        kept = await serve_one()
        assert [ref() for ref in kept] == [None] * len(kept)
    finally:
        gc.enable()


async def serve_one() -> list[weakref.ref[object]]:
    """A session that is signed in full, and one that never runs."""
    middle, refused = Middle(), Middle()
    kept: list[weakref.ref[object]] = [
        weakref.ref(one)
        for session in (middle.session, refused.session)
        for one in (session, session.stage, session.account)
    ]
    async with trio.open_nursery() as nursery:
        run_middle(nursery, middle)
        await middle.rows(8)
        await middle.compute()
        middle.heard(TAIL.public, LinkDead("gone"))
        middle.heard(CLIENT.public, Close(SESSION, 0, Code.LOST, 8, ""))
        await wait_all_tasks_blocked()
        await middle.sign()
    return kept
