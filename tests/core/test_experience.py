"""What was learnt of nodes is known by the next process as if it were the same one, whatever the clocks say."""

from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.routes.experience import KEEP_S, Experience
from p2pinfer.core.routes.failures import FAILURE_WORTH, FORGET_S
from p2pinfer.core.routes.measures import HALF_S, UNMEASURED_RTT_S, Lag, Who
from p2pinfer.core.values.units import OwnerKey, PeerKey

NODE, OWNER = PeerKey(b"n" * 32), OwnerKey(b"o" * 32)
WHO = Who(NODE, OWNER)
CLOCK = 1_800_000_000


def learnt(now: float) -> Experience:
    experience = Experience()
    experience.failures.note(NODE, OWNER, now)
    experience.measures.note_answer([WHO], Lag(4.0, 0.5), now)
    experience.measures.note_round_trip(NODE, 0.7, now)
    experience.measures.note_rate(NODE, 6_250.0, now)
    return experience


def later(before: Experience, now: float, after_s: float, clock: int = CLOCK, begins: int | None = None) -> Experience:
    """The next process: it begins so many seconds after now, at a monotonic 5.0. begins: Unix time by its clock."""
    found = Experience()
    begins = clock + int(after_s) if begins is None else begins
    found.take(before.keep(now, clock), 5.0, 5.0, begins)
    return found


def test_the_next_process_knows_what_this_one_learnt() -> None:
    found = later(learnt(100.0), 100.0, 0)
    assert found.failures.risk(NODE, OWNER, 5.0) == 2 * FAILURE_WORTH
    assert found.measures.of(WHO, 5.0) == Lag(4.0, 0.5)
    assert found.measures.usual_round_trip_s(5.0) == found.measures.round_trip_s(NODE, 5.0) == 0.7
    assert found.measures.rate(NODE, 5.0) == 6_250.0


def test_of_nothing_nothing_is_learnt() -> None:
    found = later(Experience(), 100.0, 0)
    assert (found.measures.usual_round_trip_s(5.0), found.is_news) == (UNMEASURED_RTT_S, False)


def test_it_has_faded_meanwhile() -> None:
    found = later(learnt(100.0), 100.0, HALF_S)
    assert found.measures.of(WHO, 5.0) == Lag(2.0, 0.25)
    assert found.measures.rate(NODE, 5.0) == 12_500.0
    assert later(learnt(100.0), 100.0, FORGET_S).failures.risk(NODE, OWNER, 5.0) == 0
    assert later(learnt(100.0), 100.0, KEEP_S).measures.round_trips_s.get(NODE) is None


def test_who_was_forgiven_stays_so_though_others_have_not_heard_of_it() -> None:
    ours, theirs = learnt(100.0), learnt(100.0)
    ours.failures.forgive(NODE, OWNER, 101.0)
    theirs.take(ours.keep(102.0, CLOCK + 2), 0.0, 102.0, CLOCK + 2)
    assert theirs.failures.risk(NODE, OWNER, 102.0) == 0
    theirs.failures.note(NODE, OWNER, 103.0)
    ours.take(theirs.keep(104.0, CLOCK + 4), 0.0, 104.0, CLOCK + 4)
    assert ours.failures.risk(NODE, OWNER, 104.0) == 2 * FAILURE_WORTH


def test_what_is_kept_is_no_news_until_something_is_noted() -> None:
    experience = learnt(100.0)
    assert experience.is_news
    kept = experience.keep(100.0, CLOCK)
    experience.take(kept, 0.0, 100.0, CLOCK)
    experience.measures.note_round_trip(NODE, 0.72, 101.0)
    assert not experience.is_news
    experience.failures.note(NODE, OWNER, 102.0)
    assert experience.is_news


def test_an_answer_as_promised_of_a_node_that_was_never_late_is_no_news() -> None:
    experience = Experience()
    experience.measures.note_answer([WHO], Lag(), 1.0)
    assert not experience.is_news


def test_a_clock_that_was_ahead_makes_nothing_last_longer() -> None:
    found = later(learnt(100.0), 100.0, 0, begins=CLOCK - 86_400)
    assert found.measures.of(WHO, 5.0 + HALF_S) == Lag(2.0, 0.25)
    found.failures.forgive(NODE, OWNER, 6.0)
    found.take(learnt(100.0).keep(100.0, CLOCK), 5.0, 7.0, CLOCK - 86_400)
    assert found.failures.risk(NODE, OWNER, 7.0) == 0  # what we saw ourselves comes after it


def test_a_clock_that_begins_in_1970_forgets_nothing_it_will_not_have_to() -> None:
    found = later(learnt(100.0), 100.0, 0, begins=3)
    assert found.failures.risk(NODE, OWNER, 5.0) == 2 * FAILURE_WORTH
    again = later(found, 10.0, 0, clock=8)
    assert again.failures.risk(NODE, OWNER, 5.0) == 2 * FAILURE_WORTH


CLOCKS = st.integers(0, 2 * CLOCK)


@given(CLOCKS, CLOCKS, st.floats(0, 1e5))
def test_whatever_the_clocks_say_nothing_counts_for_longer(ours: int, theirs: int, age: float) -> None:
    before = learnt(0.0)
    found = later(before, age, 0, clock=ours, begins=theirs)
    assert found.failures.risk(NODE, OWNER, 5.0 + FORGET_S) == 0
    assert found.measures.of(WHO, 5.0 + HALF_S).late_s <= 2.0


def test_what_was_learnt_fades_while_the_clock_stands_still() -> None:
    """The machine slept."""
    experience = learnt(100.0)
    experience.age(FORGET_S)
    assert experience.failures.risk(NODE, OWNER, 100.0) == 0
    assert experience.keep(100.0, CLOCK)["rates"]
    experience.age(KEEP_S - FORGET_S)
    assert not experience.keep(100.0, CLOCK)["rates"]
