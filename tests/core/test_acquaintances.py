"""Which peers are worth keeping, and whom to dial first."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.acquaintances import (
    FORGET_S,
    MAX_PEERS,
    MAX_PLACES,
    NETWORK_DIALS,
    NETWORK_PEERS,
    SERVED_S,
    Acquaintance,
    Place,
    merged,
    to_dial,
    worth_keeping,
)
from p2pinfer.core.units import PeerKey

NOW = 1_800_000_000
PLACE = "/ip4/203.0.113.7/tcp/4001"


def one(number: int, network: str = "", **changes: object) -> Acquaintance:
    usual = Acquaintance(PeerKey(number.to_bytes(32)), network, (Place(PLACE, NOW),), NOW - 100, NOW)
    return replace(usual, **changes)  # type: ignore[arg-type]


def told(number: int, network: str) -> Acquaintance:
    """A stranger who came to us."""
    return one(number, network, places=(Place(PLACE),))


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
    known = known.told(f"/ip4/203.0.113.8/tcp/{port}" for port in range(1, 100))
    assert known.places[0] == Place("/ip4/203.0.113.7/tcp/1", NOW)
    assert len(known.places) == MAX_PLACES


def test_loopback_is_kept_only_where_it_was_dialled_from_here() -> None:
    known = one(1, places=()).told(["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/memory/x", PLACE])
    assert [place.address for place in known.places] == [PLACE]
    assert known.seen_at("/ip4/127.0.0.1/tcp/2", "", NOW).places[0].address == "/ip4/127.0.0.1/tcp/2"


def test_two_processes_know_together_what_each_knew() -> None:
    ours = one(1, linked=NOW, failed=3, met=50)
    theirs = one(1, linked=NOW - 9, served=7, met=20, places=(Place("/ip4/203.0.113.9/tcp/1", 5),))
    both = merged(ours, theirs)
    assert merged(theirs, ours) == both
    assert (both.met, both.linked, both.failed, both.served) == (20, NOW, 3, 7)
    assert {place.address for place in both.places} == {PLACE, "/ip4/203.0.113.9/tcp/1"}


TIMES = st.integers(0, 2 * NOW)
ANYBODY = st.builds(
    Acquaintance,
    st.binary(min_size=32, max_size=32).map(PeerKey),
    st.sampled_from(["", "a", "b"]),
    st.lists(st.builds(Place, st.sampled_from(["x", "y"]), TIMES), max_size=4).map(tuple),
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
