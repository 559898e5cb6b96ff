"""The vectors of identity.md, offer.md and receipts.md: the code finds what they say, and the generator makes them."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from p2pinfer.core.records.certificate import NodeCert, is_void, verify_certificate, verify_revocation
from p2pinfer.core.records.contract import Contract, check_request, generation_of, verify_contract, verify_request
from p2pinfer.core.records.counting import Work
from p2pinfer.core.records.offer import Load, Offer, Speed, verify_offer
from p2pinfer.core.records.pricing import Prices, Usage, amount_of
from p2pinfer.core.records.receipt import Receipt, verify_proposal, verify_receipt
from p2pinfer.core.records.records import SignedRecord, decode, record_id
from p2pinfer.core.records.statement import Paid
from p2pinfer.core.records.statement_check import Verdict, compare_statements, verify_statement
from p2pinfer.core.records.tree import Salt, Tree
from p2pinfer.core.swarm.digest import Digest, renewed
from p2pinfer.core.swarm.offer_table import OfferTable
from p2pinfer.core.swarm.offers import KnownOffer, verify_relayed
from p2pinfer.core.values import fields
from p2pinfer.core.values.errors import Refused, RemoteProtocolError, UsageError
from p2pinfer.core.values.keys import PrivateKey, check_key, domain, parse_peer_name, verify
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import AskOffers, RelayedOffer, Renewal
from tests.core.paid_route import NOW
from tests.vectors import second_reader
from tests.vectors.make_records import CERTIFICATE, FILES, FOLDER, text_of

Vector = dict[str, Any]


def read(file: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((FOLDER / file).read_text(encoding="utf-8"))
    return made


def vectors(file: str, group: str) -> Any:
    cases = read(file)[group]
    return pytest.mark.parametrize("vector", cases, ids=lambda vector: vector["name"])


def hexed(vector: Vector, *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


def found(call: Callable[[], object]) -> str:
    """ "ok", or the label of the code."""
    try:
        call()
    except (Refused, RemoteProtocolError) as error:
        return error.code.label
    return "ok"


def plain(value: object) -> object:
    return json.loads(json.dumps(fields.to_list(value), default=lambda item: item.hex()))


@pytest.mark.parametrize("name", FILES)
def test_the_generator_makes_the_file_as_it_is(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == text_of(name)


@pytest.mark.parametrize("name", FILES)
def test_failures_outnumber_successes(name: str) -> None:
    groups = read(name)
    cases = [case for group in groups.values() if isinstance(group, list) for case in group]
    checked = [case["expect"] for case in cases if isinstance(case.get("expect"), str)]
    failed = [expect for expect in checked if expect != "ok"]
    assert len(failed) > checked.count("ok")


@vectors("identity.json", "keys")
def test_keys(vector: Vector) -> None:
    (key,) = hexed(vector, "key")
    assert found(lambda: check_key(key)) == vector["expect"]
    if "seed" in vector:
        assert PrivateKey(bytes.fromhex(vector["seed"])).public == key


@vectors("identity.json", "signatures")
def test_signatures(vector: Vector) -> None:
    key, body, signature = hexed(vector, "key", "body", "signature")
    assert found(lambda: verify(key, domain(vector["type"]), body, signature)) == vector["expect"]


@vectors("identity.json", "names")
def test_names(vector: Vector) -> None:
    if vector["expect"] == "ok":
        assert parse_peer_name(vector["text"]).hex() == vector["key"]
    else:
        with pytest.raises(UsageError):
            parse_peer_name(vector["text"])


@vectors("identity.json", "certificates")
def test_certificates(vector: Vector) -> None:
    body, signature = hexed(vector, "body", "signature")
    assert found(lambda: verify_certificate(body, signature)) == vector["expect"]
    if vector["expect"] == "ok":
        signed = verify_certificate(body, signature)
        assert (signed.id.hex(), signed.record.owner.hex(), signed.record.node.hex()) == (
            vector["id"],
            vector["owner"],
            vector["node"],
        )


@vectors("identity.json", "covers")
def test_covers(vector: Vector) -> None:
    certificate = decode(NodeCert, *hexed(vector, "body"))
    assert certificate.covers(vector["issued"], vector["expires"]) is vector["expect"]


@vectors("identity.json", "voids")
def test_voids(vector: Vector) -> None:
    told = [hexed(revocation, "body", "signature") for revocation in vector["revocations"]]
    if isinstance(vector["expect"], str):
        assert found(lambda: [verify_revocation(*one) for one in told]) == vector["expect"]
        return
    certificate = decode(NodeCert, *hexed(vector, "certificate"))
    revocations = [verify_revocation(*one).record for one in told]
    assert is_void(certificate, vector["issued"], revocations) is vector["expect"]


@vectors("offer.json", "offers")
def test_offers(vector: Vector) -> None:
    body, signature = hexed(vector, "body", "signature")
    assert found(lambda: verify_offer(body, signature)) == vector["expect"]
    if vector["expect"] == "ok":
        signed = verify_offer(body, signature)
        assert (signed.id.hex(), plain(signed.record)) == (vector["id"], vector["fields"])


@vectors("offer.json", "relayed")
def test_relayed_offers(vector: Vector) -> None:
    parts = hexed(vector, "offer", "signature", "certificate", "owner_signature")
    relayed = RelayedOffer(vector["age_ms"], *parts, ())
    assert found(lambda: verify_relayed(relayed, 1000.0, vector["clock"])) == vector["expect"]


@vectors("offer.json", "order")
def test_the_order_of_offers(vector: Vector) -> None:
    """Whether or not somebody asks between what is fresh."""
    expect = [] if vector["expect"] is None else [vector["heard"][vector["expect"]]["body"]]
    assert counting(vector["heard"], asked=True) == counting(vector["heard"], asked=False) == expect


def counting(heard: list[Vector], *, asked: bool) -> list[str]:
    """The bodies of offers that count after all of these came. asked: what is fresh, before each."""
    table, now = OfferTable(), 0.0
    for one in heard:
        (body,), now = hexed(one, "body"), float(one["after_s"])
        signed = SignedRecord(decode(Offer, body), record_id(Offer, body), body, ())
        if asked:
            table.fresh(now)
        told = RelayedOffer(1000 * one["age_s"], body, bytes(64), b"", bytes(64), ())
        if not table.recognise(told, PeerKey(bytes(32)), now=now):
            table.add(KnownOffer(signed, CERTIFICATE, (), now - one["age_s"]), now)
    return [known.offer.body.hex() for known in table.fresh(now)]


@vectors("offer.json", "news")
def test_news(vector: Vector) -> None:
    body, signature, known = hexed(vector, "body", "signature", "known")
    held = KnownOffer(verify_offer(body, signature), CERTIFICATE, (), -vector["age_s"])
    digest = Digest(AskOffers(1, b"", 64, 0, vector["gain"], vector["at"], known))
    renewal = digest.renewal(held, 0.0)
    told = "renewal" if renewal is not None else "whole"
    assert (told if digest.is_news(held, 0.0) else "nothing") == vector["expect"]
    if vector["expect"] == "renewal":
        assert renewal == renewal_in(vector)


@vectors("offer.json", "renewals")
def test_renewals(vector: Vector) -> None:
    (body,) = hexed(vector, "base")
    signed = SignedRecord(decode(Offer, body), record_id(Offer, body), body, ())
    base = KnownOffer(signed, CERTIFICATE, ("/memory/a",), 0.0)

    def read() -> KnownOffer:
        return verify_relayed(renewed(base, renewal_in(vector)), 0.0, NOW, CERTIFICATE)

    assert found(read) == vector["expect"]
    if vector["expect"] == "ok":
        assert (read().offer.body.hex(), read().addresses) == (vector["body"], ("/memory/a",))


def renewal_in(vector: Vector) -> Renewal:
    told = {**vector["renewal"], "signature": bytes.fromhex(vector["renewal"]["signature"])}
    return Renewal(**{**told, "load": Load(*told["load"]), "speed": Speed(*told["speed"])})


@vectors("receipts.json", "usage")
def test_usage(vector: Vector) -> None:
    work = Work(vector["layers"], vector["prompt"], vector["tail"], vector["start"], vector["seam"])
    assert fields.to_list(work.usage(vector["committed"], vector["cached"])) == vector["expect"]


@vectors("receipts.json", "amounts")
def test_amounts(vector: Vector) -> None:
    assert amount_of(Prices(*vector["prices"]), vector["flat"], Usage(*vector["usage"])) == vector["expect"]


@vectors("receipts.json", "leaves")
def test_leaves(vector: Vector) -> None:
    secret, row = hexed(vector, "secret", "row")
    assert Salt(secret).leaf(vector["position"], row).hex() == vector["expect"]


@vectors("receipts.json", "roots")
def test_roots(vector: Vector) -> None:
    assert Tree(map(bytes.fromhex, vector["leaves"])).root().hex() == vector["expect"]


@vectors("receipts.json", "hashes")
def test_hashes(vector: Vector) -> None:
    secret, node = hexed(vector, "secret", "node")
    assert generation_of(secret, node).hex() == vector["expect"]  # type: ignore[arg-type]


@vectors("receipts.json", "contracts")
def test_contracts(vector: Vector) -> None:
    body, client, node = hexed(vector, "body", "client_signature", "node_signature")
    assert found(lambda: verify_contract(body, client, node)) == vector["expect"]
    if vector["expect"] == "ok":
        signed = verify_contract(body, client, node)
        assert (signed.id.hex(), plain(signed.record)) == (vector["id"], vector["fields"])


@vectors("receipts.json", "requests")
def test_requests(vector: Vector) -> None:
    body, signature, offer, certificate, secret = hexed(vector, "body", "signature", "offer", "certificate", "secret")
    offered = SignedRecord(decode(Offer, offer), record_id(Offer, offer), offer, ())
    covering = SignedRecord(decode(NodeCert, certificate), record_id(NodeCert, certificate), certificate, ())

    def ask() -> None:
        check_request(verify_request(body, signature), offered, covering, secret=secret, now=vector["now"])

    assert found(ask) == vector["expect"]


@vectors("receipts.json", "receipts")
def test_receipts(vector: Vector) -> None:
    terms, body, node, client = hexed(vector, "contract", "body", "node_signature", "client_signature")
    contract = SignedRecord(decode(Contract, terms), record_id(Contract, terms), terms, ())
    assert found(lambda: verify_receipt(body, node, client, contract)) == vector["expect"]
    if vector["expect"] in ("bad-record", "receipt-mismatch"):  # the client finds it in the proposal
        assert found(lambda: verify_proposal(body, node, contract)) == vector["expect"]
    if vector["expect"] == "ok":
        assert plain(verify_receipt(body, node, client, contract).record) == vector["fields"]


@vectors("receipts.json", "contradictions")
def test_contradictions(vector: Vector) -> None:
    first, second = map(holding, hexed(vector, "first", "second"))
    contradictions = [both.contradiction for both in compare_statements(first, second).overlaps]
    assert any(why is not None for why in contradictions) is vector["expect"]


def holding(body: bytes) -> Verdict:
    """The verdict on a statement that holds this receipt; comparing looks at nothing else of it."""
    (good,) = [case for case in read("receipts.json")["statements"] if case["name"] == "one payer's receipts"]
    verdict = verify_statement(bytes.fromhex(good["file"]))
    receipt = decode(Receipt, body)
    contract = replace(verdict.entries[0].contract, id=receipt.contract)
    return replace(verdict, entries=(Paid(contract, SignedRecord(receipt, record_id(Receipt, body), body, ())),))


@vectors("receipts.json", "statements")
def test_statements(vector: Vector) -> None:
    (data,) = hexed(vector, "file")
    assert found(lambda: verify_statement(data)) == vector["expect"]
    if vector["expect"] == "ok":
        verdict = verify_statement(data)
        assert (verdict.header.id.hex(), plain(verdict.header.record)) == (vector["id"], vector["header"])
        assert [entry.contract.id.hex() for entry in verdict.entries] == vector["contracts"]
        assert [[share.payer.hex(), share.count, share.amount] for share in verdict.by_payer] == vector["payers"]


@vectors("receipts.json", "comparisons")
def test_comparisons(vector: Vector) -> None:
    found = compare_statements(*map(verify_statement, hexed(vector, "first", "second")))
    told = [[one.contract.hex(), one.first, one.second, one.contradiction is not None] for one in found.overlaps]
    assert (told, found.fork is not None) == (vector["overlaps"], vector["fork"])


# The specs suffice: a reader that was written from them alone finds the same


@vectors("receipts.json", "statements")
def test_a_second_reader_finds_the_same_in_statements(vector: Vector) -> None:
    (data,) = hexed(vector, "file")
    assert second_reader.found(lambda: second_reader.verify_statement(data)) == vector["expect"]
    if vector["expect"] == "ok":
        verdict = second_reader.verify_statement(data)
        assert verdict["owed"] == {bytes.fromhex(key): (count, amount) for key, count, amount in vector["payers"]}


@vectors("receipts.json", "contradictions")
def test_a_second_reader_finds_the_same_in_contradictions(vector: Vector) -> None:
    assert second_reader.contradict(*hexed(vector, "first", "second")) is vector["expect"]


@vectors("receipts.json", "comparisons")
def test_a_second_reader_finds_the_same_in_comparisons(vector: Vector) -> None:
    assert second_reader.fork(*hexed(vector, "first", "second")) is vector["fork"]


@vectors("identity.json", "keys")
def test_a_second_reader_finds_the_same_in_keys(vector: Vector) -> None:
    assert second_reader.found(lambda: second_reader.check_key(*hexed(vector, "key"))) == vector["expect"]


@vectors("identity.json", "signatures")
def test_a_second_reader_finds_the_same_in_signatures(vector: Vector) -> None:
    key, body, signature = hexed(vector, "key", "body", "signature")
    assert second_reader.found(lambda: second_reader.verify(key, vector["type"], body, signature)) == vector["expect"]


@vectors("identity.json", "certificates")
def test_a_second_reader_finds_the_same_in_encodings(vector: Vector) -> None:
    (body,) = hexed(vector, "body")
    if vector["expect"] == "ok":
        second_reader.read_record("node-cert", body)
    elif vector["expect"] == "bad-record" and not vector["name"].startswith("a life"):
        with pytest.raises(second_reader.Bad, match="bad-record"):
            second_reader.read_record("node-cert", body)
