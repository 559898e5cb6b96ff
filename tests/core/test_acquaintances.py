"""Which peers are worth keeping, and whom to dial first."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.swarm.acquaintances import (
    FORGET_S,
    MAX_PEERS,
    MAX_PLACES,
    NETWORK_DIALS,
    NETWORK_PEERS,
    SERVED_S,
    TOLD_PLACES,
    Acquaintance,
    Acquaintances,
    KnownAddress,
    merged,
    to_dial,
    worth_keeping,
)
from p2pinfer.core.values.units import PeerKey

NOW = 1_800_000_000
PLACE = "/ip4/203.0.113.7/tcp/4001"


def one(number: int, network: str = "", **changes: object) -> Acquaintance:
    usual = Acquaintance(PeerKey(number.to_bytes(32)), network, (KnownAddress(PLACE, NOW),), NOW - 100, NOW)
    return replace(usual, **changes)  # type: ignore[arg-type]


def told(number: int, network: str) -> Acquaintance:
    """A stranger who came to us."""
    return one(number, network, places=(KnownAddress(PLACE),))


def test_free_keys_of_one_network_push_nobody_out() -> None:
    served, reached = one(1, "203.0.113.1", served=NOW - 5), one(2, "203.0.113.2")
    crowd = [told(number, "198.51.100.1") for number in range(10, 1_010)]
    kept = worth_keeping([*crowd, reached, served], NOW)
    assert kept[:2] == [served, reached]
    assert len(kept) == 2 + NETWORK_PEERS


def test_free_keys_of_many_networks_push_nobody_out_who_served_us_or_was_reached() -> None:
    ours = [one(number, f"203.0.113.{number}", served=NOW if number % 2 else 0) for number in range(1, 101)]
    crowd = [told(number, f"2001:db8:{number:x}::/64") for number in range(1_000, 2_000)]
    kept = worth_keeping([*crowd, *ours], NOW)
    assert len(kept) == MAX_PEERS
    assert {one.peer for one in ours} <= {one.peer for one in kept}


def test_beside_whom_served_us_a_network_cannot_crowd_itself_in() -> None:
    served = one(1, "203.0.113.1", served=NOW)
    neighbours = [one(number, "203.0.113.1", met=0) for number in range(2, 100)]
    assert served in worth_keeping([*neighbours, served], NOW)


def test_peers_of_this_machine_are_bounded_in_all_alone() -> None:
    assert len(worth_keeping([one(number) for number in range(1, 1_000)], NOW)) == MAX_PEERS


def test_who_was_known_longer_stays_unless_it_is_away() -> None:
    old, new = one(1, met=NOW - 9_000), one(2)
    away = one(3, met=1, failed=NOW + 1)
    assert worth_keeping([away, new, old], NOW) == [old, new, away]


def test_who_was_not_seen_for_a_season_and_who_has_no_address_is_forgotten() -> None:
    assert worth_keeping([one(1, linked=NOW - FORGET_S), one(2, places=())], NOW) == []


def test_an_answer_of_long_ago_counts_no_more() -> None:
    assert worth_keeping([one(1, served=NOW - SERVED_S, met=NOW), one(2)], NOW)[0].peer == one(2).peer


def test_who_answered_lately_is_dialled_first_and_who_was_away_last() -> None:
    away, told_only, reached = one(1, failed=NOW + 1), told(2, ""), one(3, linked=NOW - 50)
    served, latest = one(4, served=NOW, linked=NOW - 90), one(5)
    assert to_dial([away, told_only, reached, served, latest], NOW) == [served, latest, reached, told_only, away]


def test_one_network_is_not_dialled_alone() -> None:
    crowd = [one(number, "203.0.113.1") for number in range(1, 20)]
    other = one(50, "203.0.113.2", linked=NOW - 1_000)
    assert to_dial([*crowd, other], NOW)[NETWORK_DIALS] == other


def test_addresses_that_were_reached_stay_before_those_that_were_told() -> None:
    known = told(1, "").seen_at("/ip4/203.0.113.7/tcp/1", "203.0.113.7", NOW)
    known = known.told((f"/ip4/203.0.113.8/tcp/{port}" for port in range(1, 100)), NOW)
    assert known.places[0] == KnownAddress("/ip4/203.0.113.7/tcp/1", NOW)
    assert len(known.places) == MAX_PLACES


def placed(known: Acquaintance) -> list[str]:
    return [place.address for place in known.places]


def test_a_peer_that_was_reached_in_many_places_is_looked_for_where_it_went() -> None:
    known = told(1, "")
    for day in range(2 * MAX_PLACES):
        known = known.seen_at(f"/ip4/203.0.113.{day}/tcp/1", "203.0.113.0", NOW + day)
    known = known.seen_at(None, "198.51.100.7", NOW + 50).told([PLACE], NOW + 50)
    assert PLACE in placed(known)
    assert placed(known)[0] == "/ip4/203.0.113.7/tcp/1"


def test_where_a_peer_was_away_comes_last_and_goes_first() -> None:
    known = told(1, "").seen_at("/ip4/203.0.113.9/tcp/1", "203.0.113.9", NOW).told([PLACE], NOW).missed(NOW + 1)
    assert placed(known) == [PLACE, "/ip4/203.0.113.9/tcp/1"]
    known = known.told([f"/ip4/203.0.113.8/tcp/{port}" for port in range(1, MAX_PLACES)], NOW + 2)
    assert "/ip4/203.0.113.9/tcp/1" not in placed(known)


SPOTS = st.integers(0, 9).map(lambda number: f"/ip4/203.0.113.{number}/tcp/1")
EVENTS = st.lists(
    SPOTS
    | st.lists(SPOTS, min_size=1, max_size=6, unique=True).map(tuple)
    | st.sampled_from(["came", "away"])  # it came to us; it could not be reached
)


@given(EVENTS, st.lists(st.booleans(), min_size=1))
def test_a_peers_last_word_and_where_it_was_last_reached_are_kept_whatever_came_in_whatever_order(
    events: list[str | tuple[str, ...]], splits: list[bool]
) -> None:
    """So they are where two processes noted some of it each, and then shared it."""
    books, peer = (Acquaintances(), Acquaintances()), PeerKey(bytes(32))
    word: tuple[str, ...] = ()
    reached = ""
    for book in books:
        book.note_link(peer, "", None, NOW)
    for now, event in enumerate(events, NOW + 1):
        book = books[splits[now % len(splits)]]
        if isinstance(event, tuple):
            word = event
            book.note_told(peer, event, now)
        elif event == "away":
            reached = ""
            book.note_failed(peer, now)
        else:
            reached = reached if event == "came" else event
            book.note_link(peer, "", None if event == "came" else event, now)
        one, other = (known for book in books for known in book.to_dial(now) or [Acquaintance(peer, "", (), 0, 0)])
        for both in (merged(one, other), merged(other, one)):
            assert len(both.places) <= MAX_PLACES
            assert len(set(word) & set(placed(both))) >= min(TOLD_PLACES, len(word))
            assert reached in ("", *placed(both)[:1])


def test_loopback_is_kept_only_where_it_was_dialled_from_here() -> None:
    known = one(1, places=()).told(["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/memory/x", PLACE], NOW)
    assert [place.address for place in known.places] == [PLACE]
    assert known.seen_at("/ip4/127.0.0.1/tcp/2", "", NOW).places[0].address == "/ip4/127.0.0.1/tcp/2"


def test_two_processes_know_together_what_each_knew() -> None:
    ours = one(1, linked=NOW, failed=3, met=50)
    theirs = one(1, linked=NOW - 9, served=7, met=20, places=(KnownAddress("/ip4/203.0.113.9/tcp/1", 5),))
    both = merged(ours, theirs)
    assert merged(theirs, ours) == both
    assert (both.met, both.linked, both.failed, both.served) == (20, NOW, 3, 7)
    assert {place.address for place in both.places} == {PLACE, "/ip4/203.0.113.9/tcp/1"}


TIMES = st.integers(0, 2 * NOW)
ANYBODY = st.builds(
    Acquaintance,
    st.binary(min_size=32, max_size=32).map(PeerKey),
    st.sampled_from(["", "a", "b"]),
    st.lists(st.builds(KnownAddress, st.sampled_from(["x", "y"]), TIMES), max_size=4).map(tuple),
    TIMES,
    TIMES,
    TIMES,
    TIMES,
)


@given(st.lists(ANYBODY, max_size=60), TIMES)
def test_whoever_is_kept_is_kept_again(known: list[Acquaintance], now: int) -> None:
    kept = worth_keeping(known, now)
    assert worth_keeping(kept, now) == kept
    assert sorted(map(repr, to_dial(known, now))) == sorted(repr(one) for one in known if one.places)
