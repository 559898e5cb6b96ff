"""The table of offers: whose is newest, how old it is, and what is passed on."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256
from random import Random

import pytest

from p2pinfer.core.swarm.offer_table import MAX_KNOWN, OfferTable
from p2pinfer.core.swarm.offers import HOP_MS, KnownOffer, reachable, verify_relayed
from p2pinfer.core.swarm.selection import MAX_SELECTED
from p2pinfer.core.swarm.told_addresses import KEPT, with_own, with_relayed
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import ModelId, PeerKey, Roles, Span
from p2pinfer.core.wire.messages import RelayedOffer
from tests.core.paid_route import MODEL, NODES, NOW, STRANGER, certificate_for, key, offer_of

ALL = Span(0, 30)
LIFE_S = 60.0
HOP_S = HOP_MS / 1000
RELAY = PeerKey(bytes(32))


def known(node: PrivateKey = NODES[0], span: Span = ALL, born_s: float = 0.0, /, **changes: object) -> KnownOffer:
    roles = (Roles.HEAD if span.first == 0 else Roles(0)) | (Roles.TAIL if span.last == ALL.last else Roles(0))
    return KnownOffer(offer_of(node, span, roles, **changes), certificate_for(node), ("/memory/a",), born_s)


def relayed(offer: KnownOffer | None = None, now: float = 0.0, **changes: object) -> RelayedOffer:
    return replace((offer or known()).relay(now), **changes)  # type: ignore[arg-type]


def other(name: str) -> ModelId:
    return ModelId(sha256(name.encode()).digest())


def test_an_offer_that_was_passed_on_is_as_old_as_it_is() -> None:
    assert verify_relayed(relayed(known(), 10.0), 500.0, NOW).born_s == 500.0 - 10.0 - HOP_S


def test_within_reach_is_who_is_linked_or_can_be_dialled() -> None:
    there, hidden, linked = known(), *(replace(known(node), addresses=()) for node in NODES[1:3])
    assert reachable([there, hidden, linked], {linked.node}) == [there, linked]


def test_ages_add_up_over_relays() -> None:
    """OFF-10"""
    once = verify_relayed(relayed(known(), 10.0), 100.0, NOW)
    twice = verify_relayed(once.relay(120.0), 7.0, NOW)
    assert twice.born_s == pytest.approx(7.0 - 30.0 - 2 * HOP_S)


def test_a_clock_an_hour_off_does_not_age_an_offer() -> None:
    offer = known(NODES[0], Span(0, 30), 0.0, issued=1_790_000_000 - 3600)
    assert verify_relayed(offer.relay(0.0), 0.0, NOW).left_s(0.0) == LIFE_S - HOP_S


def test_an_offer_past_its_time_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="past its time") as failure:
        verify_relayed(relayed(known(), LIFE_S), 0.0, NOW)
    assert failure.value.code is Code.UNKNOWN_OFFER


def test_an_age_beyond_every_life_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="4294967 s old"):
        verify_relayed(relayed(age_ms=(1 << 32) - 1), 0.0, NOW)


def test_every_altered_bit_is_noticed() -> None:
    offer = relayed()
    for name in ("offer", "signature", "certificate", "owner_signature"):
        data = getattr(offer, name)
        for at in range(0, len(data), 17):
            altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            with pytest.raises(RemoteProtocolError) as failure:
                verify_relayed(replace(offer, **{name: altered}), 0.0, NOW)
            assert failure.value.code in (Code.BAD_RECORD, Code.BAD_KEY, Code.BAD_SIGNATURE)


def test_an_offer_signed_by_another_node_is_refused() -> None:
    stolen = known(NODES[1]).relay(0.0)
    with pytest.raises(RemoteProtocolError) as failure:
        verify_relayed(relayed(signature=stolen.signature), 0.0, NOW)
    assert failure.value.code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("certificate", [certificate_for(NODES[1]), certificate_for(NODES[0], STRANGER)])
def test_a_certificate_of_another_node_or_owner_is_refused(certificate) -> None:  # type: ignore[no-untyped-def]
    forged = relayed(certificate=certificate.body, owner_signature=certificate.signatures[0])
    with pytest.raises(RemoteProtocolError, match="another certificate") as failure:
        verify_relayed(forged, 0.0, NOW)
    assert failure.value.code is Code.BAD_SIGNATURE


def test_a_higher_number_replaces_a_lower_one_whenever_it_was_heard() -> None:
    table = OfferTable()
    assert table.add(known(NODES[0], Span(0, 30), 5.0, seq=2))
    assert not table.add(known(NODES[0], Span(0, 30), 9.0, seq=1))
    assert table.add(known(NODES[0], Span(0, 30), 1.0, seq=3))
    assert [held.offer.record.seq for held in table.fresh(10.0)] == [3]


def test_the_same_number_again_is_no_news() -> None:
    table = OfferTable()
    assert table.add(known(NODES[0], Span(0, 30), 5.0))
    assert not table.add(known(NODES[0], Span(0, 30), 9.0))


def test_a_restarted_node_begins_again_at_one() -> None:
    table = OfferTable()
    table.add(known(NODES[0], Span(0, 30), 5.0, seq=40))
    assert table.add(known(NODES[0], Span(0, 30), 9.0, boot=bytes(16), seq=1, issued=NOW + 1))


def test_an_offer_of_the_process_before_does_not_come_back() -> None:
    """Whatever age a relay gives it (OFF-8)."""
    table = OfferTable()
    table.add(known(NODES[0], Span(0, 30), 5.0, boot=bytes(16), seq=1, issued=NOW + 1))
    assert not table.add(known(NODES[0], Span(0, 30), 9.0, seq=40))


def test_a_node_whose_clock_was_set_back_is_heard_when_its_last_offer_is_over() -> None:
    table = OfferTable()
    table.add(known(NODES[0], Span(0, 30), 5.0, seq=40))
    assert not table.add(known(NODES[0], Span(0, 30), 64.5, boot=bytes(16), seq=1, issued=NOW - 999))
    assert table.add(known(NODES[0], Span(0, 30), 65.0, boot=bytes(16), seq=1, issued=NOW - 999))


def test_two_offers_of_one_number_count_for_nothing_until_both_are_over() -> None:
    """OFF-9"""
    table = OfferTable()
    table.add(known(NODES[0], Span(0, 30), 0.0, seq=4))
    assert not table.add(known(NODES[0], Span(0, 30), 5.0, seq=4, flat=1))
    assert not table.add(known(NODES[0], Span(0, 30), 64.9, seq=9))
    assert table.fresh(64.9) == []
    assert table.add(known(NODES[0], Span(0, 30), 65.0, seq=10))
    assert [held.offer.record.seq for held in table.fresh(66.0)] == [10]


def test_nodes_that_sign_two_offers_of_one_number_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.core.swarm.offer_table.MAX_KNOWN", 1)
    table = OfferTable()
    for node in NODES[:2]:
        table.add(known(node, Span(0, 30), 0.0, seq=4))
        table.add(known(node, Span(0, 30), 0.0, seq=4, flat=1))
    assert not table.add(known(NODES[1], Span(0, 30), 0.0, seq=5))
    assert table.add(known(NODES[0], Span(0, 30), 0.0, seq=5))


@pytest.mark.parametrize("away", [86_401, -86_401])
def test_an_offer_of_another_day_is_refused_however_young_a_relay_says_it_is(away: int) -> None:
    """OFF-7"""
    with pytest.raises(RemoteProtocolError, match="from our clock") as failure:
        verify_relayed(relayed(), 0.0, NOW + away)
    assert failure.value.code is Code.UNKNOWN_OFFER


def test_offers_past_their_time_are_forgotten() -> None:
    table = OfferTable()
    table.add(known(NODES[0], Span(0, 30), 0.0))
    table.add(known(NODES[1], Span(0, 30), 30.0))
    assert [held.node for held in table.fresh(LIFE_S - 0.001)] == [NODES[0].public, NODES[1].public]
    assert [held.node for held in table.fresh(LIFE_S)] == [NODES[1].public]
    assert not table.recognise(relayed(known()), RELAY)


def test_only_the_model_asked_for_is_given() -> None:
    table = OfferTable()
    table.add(known())
    table.add(known(NODES[1], Span(0, 30), 0.0, model=other("b")))
    assert [held.node for held in table.fresh(0.0, MODEL)] == [NODES[0].public]
    assert table.fresh(0.0, other("c")) == []


def test_bytes_that_are_known_need_no_second_check() -> None:
    table, offer = OfferTable(), known()
    assert not table.recognise(relayed(offer), RELAY)
    table.add(offer)
    assert table.recognise(relayed(offer, 3.0), RELAY)


def test_of_bytes_that_are_known_the_least_age_counts_until_their_time_is_past() -> None:
    """OFF-8: then they count as new ones do."""
    table = OfferTable()
    table.add(replace(known(), born_s=-59.5), 0.0)  # somebody was faster than the node, and lied
    assert table.recognise(relayed(known()), RELAY, now=0.1)
    assert table.fresh(0.0)[0].born_s == pytest.approx(0.1 - HOP_S)
    assert table.recognise(relayed(known(), LIFE_S), RELAY, now=LIFE_S - 0.001)
    assert table.fresh(0.0)[0].born_s == pytest.approx(0.1 - HOP_S)
    later_s = LIFE_S + 0.1
    assert not table.recognise(relayed(known()), RELAY, now=later_s)
    assert table.add(replace(known(), born_s=later_s), later_s)
    assert table.recognise(relayed(known()), RELAY, now=later_s)


def test_a_renewal_is_no_older_than_what_it_renews_whatever_a_relay_says() -> None:
    """OFF-8"""
    table = OfferTable()
    table.add(known())
    assert table.add(known(NODES[0], ALL, 20.0 - 59.9, seq=2), 20.0)
    assert [held.offer.record.seq for held in table.fresh(LIFE_S - 0.001)] == [2]
    assert table.fresh(LIFE_S) == []


def test_a_lie_about_the_address_does_not_hide_the_true_one() -> None:
    table = OfferTable()
    table.add(known())
    assert table.recognise(relayed(addresses=("/memory/b",)), RELAY)
    assert table.fresh(0.0)[0].addresses == ("/memory/a", "/memory/b")


def test_what_the_node_itself_says_of_its_addresses_comes_first() -> None:
    table = OfferTable()
    table.add(known())
    for number in range(8):
        table.recognise(relayed(addresses=(f"/memory/lie/{number}",)), RELAY)
    assert table.recognise(relayed(addresses=("/memory/b",)), NODES[0].public)
    assert table.fresh(0.0)[0].addresses[:2] == ("/memory/b", "/memory/a")


def test_who_passes_an_offer_on_takes_none_of_the_addresses_that_others_name() -> None:
    table = OfferTable()
    table.add(known(), itself=True)
    for number in range(200):
        table.recognise(relayed(addresses=tuple(f"/memory/lie/{number}/{place}" for place in range(8))), RELAY, "liar")
    assert table.fresh(0.0)[0].addresses[0] == "/memory/a"
    renewal = known(seq=2)
    table.add(replace(renewal, addresses=("/memory/lie",) * 8, network="liar"))
    assert table.own_word(NODES[0].public) == ("/memory/a",)
    assert table.fresh(0.0)[0].addresses[0] == "/memory/a"


@pytest.mark.parametrize("changes", [{"moves": 1}, {"boot": bytes(16), "issued": NOW + 1}], ids=["moved", "began anew"])
@pytest.mark.parametrize("itself", [True, False])
def test_where_a_node_was_before_it_moved_is_forgotten(changes: dict[str, object], itself: bool) -> None:
    table = OfferTable()
    table.add(known(), itself=itself)
    table.recognise(relayed(addresses=tuple(f"/memory/{number}" for number in range(8))), RELAY, "other")
    moved = replace(known(NODES[0], ALL, 0.0, seq=2, **changes), addresses=("/memory/b",), network="another")
    table.add(moved)
    assert table.fresh(0.0)[0].addresses == ("/memory/b",)
    table.add(replace(known(NODES[0], ALL, 0.0, seq=3, **changes), addresses=("/memory/c",), network="third"))
    assert table.fresh(0.0)[0].addresses == ("/memory/b", "/memory/c")


def test_networks_that_never_met_a_node_have_their_say_of_its_addresses_in_turn() -> None:
    draw = Random(7).randrange
    words = with_relayed({}, [f"/memory/lie/{number}" for number in range(8)], "liar", draw)
    words = with_relayed(words, ["/memory/true"], "honest", draw)
    for number in range(200):
        words = with_relayed(words, [f"/memory/lie/{number}/{place}" for place in range(8)], "liar", draw)
    assert list(words).index("/memory/true") == 1
    assert len(words) == 8


def test_of_many_addresses_that_the_node_tells_itself_half_stay() -> None:
    own = [f"/memory/{number}" for number in range(8)]
    words = with_own({}, own)
    for network in ("one", "another", "a third"):
        words = with_relayed(words, [f"/memory/{network}/{place}" for place in range(8)], network, Random(7).randrange)
    assert list(words)[:KEPT] == own[:KEPT]
    assert set(words.values()) == {None, "one", "another", "a third"}


def test_a_renewal_says_nothing_of_addresses() -> None:
    table = OfferTable()
    table.add(known(), itself=True)
    table.add(replace(known(seq=2), network="relay"), renews=True)
    assert table.own_word(NODES[0].public) == ("/memory/a",)


def test_who_passes_a_renewal_on_first_does_not_count_for_its_node() -> None:
    table = OfferTable()
    table.add(replace(known(), network="its own"), itself=True)
    table.add(replace(known(seq=2), network="relay"))
    assert table.fresh(0.0)[0].network == "its own"


def test_no_more_addresses_are_kept_than_an_offer_carries() -> None:
    table = OfferTable()
    table.add(known())
    for number in range(20):
        table.recognise(relayed(addresses=(f"/memory/{number}",)), RELAY)
    assert len(table.fresh(0.0)[0].addresses) == 8


def test_what_was_replaced_is_not_known_any_more() -> None:
    table = OfferTable()
    table.add(known())
    table.add(known(NODES[0], Span(0, 30), 1.0, seq=2))
    assert not table.recognise(relayed(known()), RELAY)


def test_an_answer_spreads_over_spans() -> None:
    table = OfferTable()
    crowd = [key(f"crowd {number}") for number in range(6)]
    for node in crowd:
        table.add(known(node, Span(0, 10), 0.0))
    table.add(known(NODES[1], Span(10, 20), 0.0))
    table.add(known(NODES[2], Span(20, 30), 0.0))
    spans = {held.offer.record.span for held in table.spread(1.0, MODEL, 3)}
    assert spans == {Span(0, 10), Span(10, 20), Span(20, 30)}
    assert len(table.spread(1.0, MODEL, 64)) == 8


def test_an_answer_spreads_over_models() -> None:
    table = OfferTable()
    for number in range(4):
        table.add(known(key(f"crowd {number}"), Span(0, 30), 0.0))
    table.add(known(NODES[0], Span(0, 30), 0.0, model=other("b")))
    assert {held.offer.record.model for held in table.spread(1.0, None, 2)} == {MODEL, other("b")}


def test_a_full_table_forgets_what_was_heard_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_KNOWN == 10_000
    monkeypatch.setattr("p2pinfer.core.swarm.offer_table.MAX_KNOWN", 2)
    table = OfferTable()
    for node in NODES:
        table.add(known(node))
    assert [held.node for held in table.fresh(0.0)] == [NODES[1].public, NODES[2].public]
    assert not table.recognise(relayed(known()), RELAY)


def heard(number: int, network: str, *, span: Span = Span(0, 30), born_s: float = 0.0) -> KnownOffer:  # noqa: B008
    """Another node's offer, from a network."""
    return replace(known(key(f"{network} {number}"), span, born_s), network=network)


def test_of_one_network_those_are_forgotten_first_that_only_others_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.core.swarm.offer_table.MAX_FROM", 3)
    table = OfferTable()
    table.add(heard(0, "a"), itself=True)
    for number in range(1, 9):
        table.add(heard(number, "a"))
    assert [held.node for held in table.fresh(0.0)] == [heard(number, "a").node for number in (0, 7, 8)]


def networks(table: OfferTable) -> Counter[str]:
    return Counter(held.network for held in table.fresh(0.0))


def test_one_network_fills_no_more_than_its_share_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.core.swarm.offer_table.MAX_FROM", 3)
    table = OfferTable()
    table.add(heard(0, "honest"))
    for number in range(10):
        table.add(heard(number, "flood"))
    assert networks(table) == {"honest": 1, "flood": 3}


def test_a_full_table_forgets_what_it_has_from_the_network_that_told_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.core.swarm.offer_table.MAX_KNOWN", 5)
    table = OfferTable()
    table.add(heard(0, "honest"))
    for number in range(6):
        table.add(heard(number, "flood"))
    assert networks(table) == {"honest": 1, "flood": 4}


def test_an_offer_that_its_node_tells_counts_for_the_nodes_network() -> None:
    table, offer = OfferTable(), heard(0, "flood")
    table.add(offer)
    assert table.recognise(offer.relay(0.0), offer.node, "honest")
    assert networks(table) == {"honest": 1}
    table.forget(offer.node)
    assert not table._counts


def test_one_network_does_not_fill_an_answer_while_others_have_offers() -> None:
    table = OfferTable()
    for number in range(20):
        table.add(heard(number, "flood", span=Span(number, number + 1), born_s=5.0))
    for number in range(4):
        table.add(heard(number, f"honest {number}"))
    told = Counter(held.network for held in table.spread(6.0, MODEL, 8))
    assert told == {"flood": 4, **{f"honest {number}": 1 for number in range(4)}}
    assert len(table.spread(6.0, MODEL, 64)) == 24


def test_made_up_models_of_one_network_hide_nobody_where_all_are_asked_for() -> None:
    table, flood = OfferTable(), heard(0, "flood", born_s=5.0)
    for number in range(20):
        table.add(heard(number, f"honest {number}"))
    for number in range(2 * MAX_SELECTED):
        record = replace(flood.offer.record, model=other(f"{number}"), node=PeerKey(number.to_bytes(32, "big")))
        table.add(replace(flood, offer=replace(flood.offer, record=record, body=number.to_bytes(4, "big"))))
    told = Counter(held.network for held in table.spread(6.0, None, 64))
    assert told["flood"] == 64 - 20


def test_the_freshest_offers_of_a_span_come_first() -> None:
    table = OfferTable()
    for number in range(4):
        table.add(known(key(f"crowd {number}"), Span(0, 30), float(number)))
    assert [held.born_s for held in table.spread(5.0, MODEL, 3)] == [3.0, 2.0, 1.0]


def test_what_is_known_grows_older_while_the_clock_stands_still() -> None:
    """The machine slept: offers end, and so does what two that contradict each other, or a silence, count for."""
    table = OfferTable()
    for node in NODES[:3]:
        table.add(known(node), 0.0)
    table.add(known(NODES[0], flat=7), 0.0)
    table.silence(NODES[1].public)
    table.age(2 * LIFE_S)
    assert table.fresh(0.0) == []
    assert all(table.add(known(node), 0.0) for node in NODES[:3])
