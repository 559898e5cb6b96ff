"""Which offers a client takes."""

from dataclasses import replace

import pytest

from p2pinfer.client.routes import (
    CERTIFIED_S,
    KBIT_BYTES,
    Sought,
    candidate_of,
    longest_too_short,
    uncertified,
    usable,
)
from p2pinfer.core.records.offer import ServingState, Speed
from p2pinfer.core.records.terms import MAX_PROPOSED
from p2pinfer.core.routes.failures import Failures
from p2pinfer.core.routes.measures import UNMEASURED_UPLINK, Measures
from p2pinfer.core.routes.routing import Stage, predicted_s
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.units import Codec, Numerics, Roles, Span
from tests.core.paid_route import LIMITS, MODEL, NODES, NOW, certificate_for, offer_of

SOUGHT = Sought(model=MODEL, layers=30, hidden=576, prompt=5, tokens=256, codec=Codec.Q8O4)


def known(span: Span = Span(0, 30), roles: Roles = Roles.HEAD | Roles.TAIL, **changes: object) -> KnownOffer:  # noqa: B008
    offer = offer_of(NODES[0], span, roles, **changes)  # type: ignore[arg-type]
    return KnownOffer(offer, certificate_for(NODES[0]), (), 0.0)


def taken(one: KnownOffer, excluded: frozenset[bytes] = frozenset(), **changes: object) -> bool:
    return bool(usable([one], replace(SOUGHT, **changes), excluded, NOW))  # type: ignore[arg-type]


def test_an_offer_that_fits_is_taken_under_its_class() -> None:
    assert usable([one := known()], SOUGHT, (), NOW) == {Numerics.F32_1: [one]}


@pytest.mark.parametrize(
    "changes",
    [
        {"state": ServingState.LEAVING},
        {"codecs": Codec.F32.bit},
        {"numerics": 999},
        {"span": Span(0, 1 << 31)},
        {"span": Span(20, 31), "roles": Roles.TAIL},
        {"roles": Roles.HEAD},
        {"span": Span(0, 29)},
        {"limits": replace(LIMITS, cadence=(SOUGHT.positions - 1) // MAX_PROPOSED)},
    ],
)
def test_one_that_does_not_fit_is_left(changes: dict[str, object]) -> None:
    assert not taken(known(**changes))  # type: ignore[arg-type]


def test_a_node_that_takes_fewer_positions_than_are_needed_is_left_and_told() -> None:
    limits = replace(LIMITS, max_positions=SOUGHT.positions - 1)
    short, long = known(limits=limits), known(limits=replace(limits, max_positions=SOUGHT.positions))
    assert (taken(short), taken(long)) == (False, True)
    assert longest_too_short([short, long], SOUGHT, ()) == SOUGHT.positions - 1
    assert longest_too_short([long], SOUGHT, ()) is None


def test_another_class_than_was_asked_for_and_a_node_that_refused_are_left() -> None:
    assert taken(known(), numerics=Numerics.F32_1)
    assert not taken(known(), numerics=Numerics.BF16_1)
    assert not taken(known(), excluded=frozenset({NODES[0].public}))


def test_a_node_whose_certificate_ends_before_a_contract_would_is_left() -> None:
    offer = known().offer
    for left_s in (CERTIFIED_S, CERTIFIED_S - 1):
        certificate = certificate_for(NODES[0], not_after=NOW + left_s)
        one = KnownOffer(offer, certificate, (), 0.0)
        assert taken(one) == (left_s >= CERTIFIED_S)
        left = set() if taken(one) else {NODES[0].public}
        assert uncertified([one, one], SOUGHT, (), NOW) == left


def test_only_nodes_that_fit_are_missed_for_their_certificates() -> None:
    late = KnownOffer(known().offer, certificate_for(NODES[0], not_after=NOW), (), 0.0)
    assert uncertified([late], replace(SOUGHT, numerics=Numerics.BF16_1), (), NOW) == set()
    assert uncertified([late], SOUGHT, {NODES[0].public}, NOW) == set()


def test_a_node_that_says_nothing_of_its_uplink_is_not_the_faster_for_it() -> None:
    claimed = round(UNMEASURED_UPLINK / KBIT_BYTES)
    honest, silent = (known(Span(0, 10), Roles.HEAD, speed=Speed(2_000, 40, uplink)) for uplink in (claimed, 0))
    [one, other] = (candidate_of(each, SOUGHT, None, Failures(), Measures(), 0.0) for each in (honest, silent))
    stages = [Stage(each, each.span) for each in (one, other)]
    assert predicted_s(stages[0], SOUGHT.load) == predicted_s(stages[1], SOUGHT.load)
    assert predicted_s(stages[0], SOUGHT.load) > predicted_s(stages[0], replace(SOUGHT.load, row_bytes=0))
