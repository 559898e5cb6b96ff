"""Notes of several processes become one set, whatever the order, and never more than the bound."""

from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.values.notes import Note, Notes

MOST = 8
NOTED = st.lists(st.tuples(st.integers(0, 20), st.builds(Note, st.integers(), st.integers(0, 100))), max_size=30)


def all_of(*lists: list[tuple[int, Note[int]]]) -> Notes[int, int]:
    notes = Notes[int, int](MOST)
    for found in lists:
        notes.take(found)
    return notes


def times(notes: Notes[int, int]) -> list[float]:
    return sorted(note.at_s for _, note in notes)


def test_of_too_many_the_latest_stay() -> None:
    notes = Notes[int, str](2)
    for now, key in enumerate([1, 2, 1, 3]):
        notes.put(key, f"at {now}", now)
    assert dict(notes) == {1: Note("at 2", 2), 3: Note("at 3", 3)}


def test_what_is_taken_goes_by_its_time_and_not_by_when_it_was_taken() -> None:
    notes = Notes[int, str](2)
    notes.put(1, "new", 50)
    notes.put(2, "newer", 60)
    notes.take([(1, Note("old", 40)), (3, Note("older", 30))])
    assert dict(notes) == {1: Note("new", 50), 2: Note("newer", 60)}


def test_what_is_taken_is_no_news() -> None:
    notes = Notes[int, str](2)
    notes.take([(1, Note("old", 40))])
    assert not notes.is_news
    notes.put(1, "the same", 50, is_news=False)
    assert not notes.is_news
    notes.put(1, "another", 51)
    assert notes.is_news


@given(NOTED, NOTED)
def test_taking_twice_changes_nothing_and_the_bound_holds(one: list, other: list) -> None:  # type: ignore[type-arg]
    notes = all_of(one, other)
    assert len(dict(notes)) <= MOST
    assert times(all_of(one, other, one, other)) == times(notes) == times(all_of(other, one))
    latest = {key: max(note.at_s for at, note in [*one, *other] if at == key) for key, _ in notes}
    assert {key: note.at_s for key, note in notes} == latest
