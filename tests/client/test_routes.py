"""Which offers a client takes."""

import pytest

from p2pinfer.client.asking import Request
from p2pinfer.client.routes import CERTIFIED_S, uncertified, usable
from p2pinfer.core.offer import State
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.units import Codec, Numerics, Roles, Span
from tests.core.paid_route import NODES, NOW, certificate_for, offer_of


def known(**changes: object) -> KnownOffer:
    offer = offer_of(NODES[0], Span(0, 30), Roles.HEAD | Roles.TAIL, **changes)  # type: ignore[arg-type]
    return KnownOffer(offer, certificate_for(NODES[0]), (), 0.0)


def taken(one: KnownOffer, request: Request | None = None, refused: frozenset[bytes] = frozenset()) -> bool:
    return bool(usable([one], request or Request("Hi"), refused, NOW))


def test_an_offer_that_fits_is_taken_under_its_class() -> None:
    assert usable([one := known()], Request("Hi"), (), NOW) == {Numerics.F32_1: [one]}


@pytest.mark.parametrize("changes", [{"state": State.LEAVING}, {"codecs": Codec.F32.bit}])
def test_one_that_does_not_fit_is_left(changes: dict[str, object]) -> None:
    assert not taken(known(**changes))


def test_another_class_than_was_asked_for_and_a_node_that_refused_are_left() -> None:
    assert taken(known(), Request("Hi", numerics="f32-1"))
    assert not taken(known(), Request("Hi", numerics="bf16-1"))
    assert not taken(known(), refused=frozenset({NODES[0].public}))


def test_a_node_whose_certificate_ends_before_a_contract_would_is_left() -> None:
    offer = known().offer
    for left_s in (CERTIFIED_S, CERTIFIED_S - 1):
        certificate = certificate_for(NODES[0], not_after=NOW + left_s)
        one = KnownOffer(offer, certificate, (), 0.0)
        assert taken(one) == (left_s >= CERTIFIED_S)
        left = set() if taken(one) else {NODES[0].public}
        assert uncertified([one, one], Request("Hi"), (), NOW) == left


def test_only_nodes_that_fit_are_missed_for_their_certificates() -> None:
    late = KnownOffer(known().offer, certificate_for(NODES[0], not_after=NOW), (), 0.0)
    assert uncertified([late], Request("Hi", numerics="bf16-1"), (), NOW) == set()
    assert uncertified([late], Request("Hi"), {NODES[0].public}, NOW) == set()
