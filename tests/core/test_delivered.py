"""What a client keeps of an unpaid generation: enough to sign as if it had never forgotten, and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.money.client_account import ClientAccount
from p2pinfer.core.records.delivered import decode_delivered, encode_delivered
from p2pinfer.core.records.tree import ROOT_BYTES, Tree
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import JournalError, RemoteProtocolError
from tests.core.paid_route import CLIENT, SECRET, SMALL, PaidRoute, paid_route, signed_stages


@given(st.integers(0, 70), st.integers(0, 70))
def test_a_resumed_tree_has_the_roots_of_the_whole_one(size: int, more: int) -> None:
    leaves = [bytes([at]) * 32 for at in range(size + more)]
    whole = Tree(leaves)
    resumed = Tree.resumed(size, whole.frontier(size))
    resumed.add(leaves[size:])
    assert [resumed.root(at) for at in range(size, size + more + 1)] == [
        whole.root(at) for at in range(size, size + more + 1)
    ]


def test_a_frontier_of_another_size_is_none() -> None:
    with pytest.raises(ValueError, match="1 nodes for 5 leaves, 2 are needed"):
        Tree.resumed(5, [b"x" * 32])


def forget(route: PaidRoute) -> ClientAccount:
    """The client's process ends; another one has what was kept."""
    before = route.client
    kept = decode_delivered(encode_delivered(before.kept()))
    complete = {
        contract.id: receipt
        for place, contract in enumerate(route.contracts)
        if (receipt := before.complete(place)) is not None
    }
    route.client = ClientAccount.resumed(route.contracts, complete, kept, CLIENT)
    assert (route.client.counted, route.client.unsigned) == (before.counted, before.unsigned)
    return route.client


def test_what_was_delivered_is_signed_after_a_restart_and_not_more() -> None:
    route = paid_route(prompt=6, limits=SMALL)
    route.compute(14)
    route.deliver(7)  # positions up to 12
    forget(route)
    for stage in route.stages:
        stage.close(Code.LOST)
    decisions = route.propose_all()
    assert {(0, 3), (1, 3), (2, 3)} <= set(signed_stages(decisions))
    route.settle(decisions)  # 12 positions; the finals of 14 are not signed
    assert [stage.paid for stage in route.stages] == [12, 12, 12]
    assert not route.client.unsigned
    assert [len(stage.pending) for stage in route.stages] == [1, 1, 1]


def test_it_goes_on_where_the_signatures_ended() -> None:
    route = paid_route(prompt=6, limits=SMALL)
    route.compute(9)
    route.deliver(4)
    route.settle(route.propose_all())  # 8 of 9
    route.compute(18)
    route.deliver(9)
    kept = route.client.kept()
    assert (kept.first, kept.counted, len(kept.leaves)) == (8, 18, 11)
    forget(route)
    for stage in route.stages:
        stage.close(Code.LOST)
    route.settle(route.propose_all())
    assert all(stage.closed for stage in route.stages)
    assert not forget(route).unsigned


def test_stages_that_are_paid_differently_are_all_remembered() -> None:
    route = paid_route(prompt=6, limits=SMALL)
    route.compute(12)
    route.deliver(7)
    route.client.lost(0)
    route.settle([*route.propose(1), *route.propose(2)])
    assert [route.client.signed(place) for place in range(3)] == [0, 12, 12]
    assert route.client.kept().first == 0
    forget(route)
    route.settle(route.propose(0))
    assert not route.client.unsigned


def test_other_ids_than_were_delivered_are_not_signed() -> None:
    route = paid_route(stages=1, prompt=6, limits=SMALL)
    route.compute(12)
    route.deliver(6)
    route.generated[-1] += 1
    other = paid_route(stages=1, prompt=6, limits=SMALL)
    other.compute(12)
    other.client.add_ids([7] * 7)
    route.client = other.client
    forget(route)
    with pytest.raises(RemoteProtocolError, match="roots at 8 positions"):
        route.propose(0)


def test_before_the_first_id_nothing_is_owed() -> None:
    route = paid_route(prompt=6, limits=SMALL)
    route.compute(6)
    assert not route.client.unsigned
    assert signed_stages([decision for place in (0, 1) for decision in route.propose(place)]) == []


def test_no_id_can_be_guessed_from_what_is_kept() -> None:
    """The salt is not in it, so that a guess cannot be tested."""
    route = paid_route(prompt=6, limits=SMALL)
    route.deliver(3)
    data = encode_delivered(route.client.kept())
    assert SECRET not in data
    assert len(data) < 30 + ROOT_BYTES * 9 + 9


@pytest.mark.parametrize("data", [b"", b"\x91\x01", b"\xc0", b"not msgpack at all"])
def test_damage_is_told(data: bytes) -> None:
    with pytest.raises(JournalError, match="damaged"):
        decode_delivered(data)


def test_a_record_that_lost_a_leaf_is_damaged() -> None:
    route = paid_route(prompt=6, limits=SMALL)
    route.deliver(3)
    with pytest.raises(JournalError, match="damaged"):
        decode_delivered(encode_delivered(route.client.kept())[:-1])
