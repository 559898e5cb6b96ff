"""What a client opens: contracts and opens of one generation fit each other (inference.md, 3.1)."""

from dataclasses import replace

import pytest

from p2pinfer.client.contracts import MAX_RESERVE, Order, Plan, StagePlan, make_plan
from p2pinfer.core.records.offer import Load, Offer, ServingState, Speed
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.records.records import ZEROS, sign
from p2pinfer.core.records.sampling import SamplingRecord, params_hash
from p2pinfer.core.records.terms import Limits
from p2pinfer.core.values.errors import NoRoute
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, ModelId, OwnerKey, RecordId, Roles, Span
from p2pinfer.core.wire.message_codec import decode_message, encode_message
from p2pinfer.core.wire.session_messages import Open
from p2pinfer.overlay.machine import Machine

CLIENT = PrivateKey(b"c" * 32)
NOW = 1_790_000_000
LAYERS = 30
LIMITS = (Limits(4096, 1024, 128, 0, 256), Limits(2048, 1536, 256, 0, 512), Limits(4096, 1024, 64, 0, 128))
SPANS = (Span(0, 10), Span(10, 20), Span(20, 30))
SAMPLING = SamplingRecord(max_tokens=64)


def stage(place: int, until_s: int = 86_400) -> StagePlan:
    key = PrivateKey(bytes([place + 1]) * 32)
    offer = Offer(
        node=key.public,
        owner=OwnerKey(PrivateKey(b"o" * 32).public),
        cert=RecordId(ZEROS),
        boot=bytes(16),
        seq=1,
        issued=NOW,
        life=60,
        until=0,
        model=ModelId(bytes(32)),
        span=SPANS[place],
        roles=Roles.HEAD | Roles.TAIL,
        numerics=1,
        codecs=14,
        limits=LIMITS[place],
        prices=Prices(20_000, 80_000, 2_000, 640_000),
        flat=0,
        state=ServingState.SERVING,
        load=Load(0, 0, 0),
        speed=Speed(0, 0, 0),
    )
    return StagePlan(sign(offer, key), (f"/ip4/192.0.2.{place}/tcp/4001",), SPANS[place], NOW + until_s)


THEN = Machine(lambda: NOW)


def plan(*places: int, sampling: SamplingRecord = SAMPLING, known: bool = False) -> Plan:
    stages = [stage(place) for place in places]
    keys = {stage.key for stage in stages} if known else ()
    if len(stages) == 1:
        stages = [replace(stages[0], span=Span(0, LAYERS))]
    return make_plan(CLIENT, stages, Order(LAYERS, 100, sampling, Codec.Q8O4, MAX_RESERVE, keys), THEN)


def test_contracts_of_a_generation_have_one_chunk_and_one_cadence() -> None:
    """INF-7"""
    contracts = [contract.record for contract in plan(0, 1, 2).contracts]
    assert {contract.limits.max_chunk for contract in contracts} == {128}
    assert {contract.limits.cadence for contract in contracts} == {64}


def test_contracts_of_a_generation_meet_at_their_boundaries() -> None:
    """INF-7"""
    contracts = [contract.record for contract in plan(0, 1, 2).contracts]
    assert [contract.codecs for contract in contracts] == [
        (Codec.IDS, Codec.Q8O4),
        (Codec.Q8O4, Codec.Q8O4),
        (Codec.Q8O4, Codec.IDS),
    ]
    assert [contract.span for contract in contracts] == list(SPANS)


def test_limits_that_do_not_fit_each_other_are_no_route() -> None:
    with pytest.raises(NoRoute, match="do not fit each other"):
        make_plan(CLIENT, [stage(0), tight()], Order(LAYERS, 100, SAMPLING, Codec.F32, MAX_RESERVE), THEN)


def tight() -> StagePlan:
    """A stage that wants receipts more often than another makes them."""
    other = stage(1)
    limits = Limits(4096, 200, 31, 0, 64)
    return replace(other, offer=sign(replace(other.offer.record, limits=limits), PrivateKey(b"\2" * 32)))


def test_an_answer_longer_than_a_stage_takes_is_no_route() -> None:
    with pytest.raises(NoRoute, match="ask for fewer tokens"):
        plan(0, 1, 2, sampling=SamplingRecord(max_tokens=4000))


def test_only_the_tail_gets_the_sampling_record_and_is_bound_to_it() -> None:
    made = plan(0, 1, 2)
    assert [bool(open_.sampling) for open_ in made.opens] == [False, False, True]
    bound = [contract.record.params for contract in made.contracts]
    assert bound == [ZEROS, ZEROS, params_hash(made.secret, made.opens[2].sampling)]


@pytest.mark.parametrize(
    ("places", "far"), [((0,), (None,)), ((0, 1), (1, 0)), ((0, 1, 2), (2, None, 0))], ids=["one", "two", "three"]
)
def test_stages_are_told_their_neighbours(places: tuple[int, ...], far: tuple[int | None, ...]) -> None:
    made = plan(*places)
    keys = [stage_.key for stage_ in made.stages]
    assert [tuple(n.key for n in open_.predecessor) for open_ in made.opens] == [(), *((key,) for key in keys[:-1])]
    assert [tuple(n.key for n in open_.successor) for open_ in made.opens] == [*((key,) for key in keys[1:]), ()]
    assert [tuple(n.key for n in open_.far_end) for open_ in made.opens] == [
        () if place is None else (keys[place],) for place in far
    ]


def test_an_open_fits_a_message() -> None:
    for open_ in plan(0, 1, 2).opens:
        read = decode_message(encode_message(open_))
        assert isinstance(read, Open)
        assert read == open_


@pytest.mark.parametrize(
    ("tokens", "known", "life_s"), [(64, True, 900), (1848, True, 3896), (64, False, 900), (1848, False, 900)]
)
def test_a_contract_lasts_as_long_as_a_slow_route_may_take_where_the_node_knows_the_client(
    tokens: int, known: bool, life_s: int
) -> None:
    """RCT-31"""
    for contract in plan(0, 1, 2, sampling=SamplingRecord(max_tokens=tokens), known=known).contracts:
        assert contract.record.expires - contract.record.issued == life_s


def test_a_contract_ends_with_the_certificate_at_the_latest() -> None:
    stages = [replace(stage(0, until_s=700), span=Span(0, LAYERS))]
    order = Order(LAYERS, 100, SamplingRecord(max_tokens=3000), Codec.Q8O4, MAX_RESERVE)
    made = make_plan(CLIENT, stages, order, THEN)
    assert made.contracts[0].record.expires == NOW + 700
