"""protocols/vectors/inference.json against the code, and against the program that made it."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from p2pinfer.client.patience import Patience
from p2pinfer.core.money.client_account import ClientAccount
from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.contract import Contract, check_request, verify_request
from p2pinfer.core.records.draw import Purpose, Sampling, uniform
from p2pinfer.core.records.offer import Offer
from p2pinfer.core.records.records import Record, SignedRecord, record_id, sign
from p2pinfer.core.records.records import decode as decode_record
from p2pinfer.core.records.sampling import decode_sampling, encode_sampling, params_hash
from p2pinfer.core.sessions.opening import check_neighbours, read_sampling
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LocalProtocolError, Refused, RemoteProtocolError
from p2pinfer.core.values.units import Codec
from p2pinfer.core.wire.message_codec import decode_message, encode_message
from p2pinfer.core.wire.session_messages import Open, check_mode
from p2pinfer.engine.codecs import decode, encode
from p2pinfer.engine.sampler import draw_id
from tests.core.paid_route import CLIENT, SECRET
from tests.protocols.reading import PROTOCOLS
from tests.protocols.replaying import ClientReplay, RingReplay, StageReplay
from tests.vectors.make_inference import make, plain, render

Case = Mapping[str, Any]

FILE: Final = PROTOCOLS / "vectors" / "inference.json"
VECTORS: Final[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
CODECS: Final = {codec.label: codec for codec in Codec}


def cases(list_: str, *, good: bool | None = None) -> list[Any]:
    """Cases of one list; with `good`, those taken or those refused. Names are theirs alone."""
    labels = {code.label for code in Code if code}
    chosen = [case for case in VECTORS[list_] if good is None or good == (case["expect"] not in labels)]
    return [pytest.param(case, id=case["name"]) for case in chosen]


def test_making_the_vectors_again_gives_the_same_bytes() -> None:
    assert render(make()) == Path(FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize("list_", ["messages", "sampling", "stage", "generation"])
def test_more_is_refused_than_taken(list_: str) -> None:
    refused = [case for case in VECTORS[list_] if "bad" in case.get("expect", "") or refusal_in(case)]
    assert len(refused) > len(VECTORS[list_]) / 2


def refusal_in(case: Case) -> bool:
    return any("expect" in step for step in case.get("steps", ()))


@pytest.mark.parametrize("list_", [name for name, cases in VECTORS.items() if isinstance(cases, list)])
def test_no_two_cases_have_one_name(list_: str) -> None:
    names = [case["name"] for case in VECTORS[list_]]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("case", cases("messages", good=True))
def test_a_message_is_read_and_written(case: Case) -> None:
    message = decode_message(bytes.fromhex(case["body"]))
    assert type(message).__name__ == case["expect"]
    assert {name: plain(getattr(message, name)) for name in case["fields"]} == case["fields"]
    assert encode_message(message).hex() == case["body"]


@pytest.mark.parametrize("case", cases("longer"))
def test_longer_forms_are_read_and_not_written(case: Case) -> None:
    assert encode_message(decode_message(bytes.fromhex(case["body"]))).hex() == case["written"]


@pytest.mark.parametrize("case", cases("messages", good=False))
def test_a_bad_message_is_refused(case: Case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_message(bytes.fromhex(case["body"]))
    assert caught.value.code.label == case["expect"]


@pytest.mark.parametrize("case", cases("sampling", good=True))
def test_a_sampling_record_is_read_and_written(case: Case) -> None:
    record = decode_sampling(bytes.fromhex(case["body"]))
    assert {name: plain(getattr(record, name)) for name in case["fields"]} == case["fields"]
    assert encode_sampling(record).hex() == case["body"]


@pytest.mark.parametrize("case", cases("sampling", good=False))
def test_a_bad_sampling_record_is_refused(case: Case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_sampling(bytes.fromhex(case["body"]))
    assert caught.value.code.label == case["expect"]


@pytest.mark.parametrize("case", cases("params"))
def test_a_contract_binds_a_sampling_record(case: Case) -> None:
    assert params_hash(bytes.fromhex(case["secret"]), bytes.fromhex(case["record"])).hex() == case["hash"]


@pytest.mark.parametrize("case", cases("draws"))
def test_a_random_number_follows_from_seed_and_position(case: Case) -> None:
    assert uniform(case["seed"], case["position"], Purpose(case["purpose"])) == case["bits"] / 2**53


@pytest.mark.parametrize("case", cases("samples"))
def test_an_id_is_drawn(case: Case) -> None:
    logits = np.frombuffer(bytes.fromhex(case["logits"]), "<f4")
    sampling = Sampling(case["temperature"], case["top_k"], case["top_p"], case["seed"])
    assert draw_id(logits, sampling, case["position"]) == case["id"]


@pytest.mark.parametrize("case", cases("rows", good=True))
def test_a_row_is_encoded_and_decoded(case: Case) -> None:
    values = np.frombuffer(bytes.fromhex(case["values"]), "<f4").reshape(1, -1)
    assert encode(values, CODECS[case["codec"]]).hex() == case["row"]
    decoded = decode(bytes.fromhex(case["row"]), CODECS[case["codec"]], case["width"])
    assert decoded.tolist() == [list(struct.unpack(f"<{case['width']}f", bytes.fromhex(case["decodes"])))]


@pytest.mark.parametrize("case", cases("rows", good=False))
def test_a_bad_row_is_refused(case: Case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(bytes.fromhex(case["row"]), CODECS[case["codec"]], case["width"])
    assert caught.value.code.label == case["expect"]


def record_of(kind: type[Record], body: str) -> SignedRecord[Record]:
    """A record whose signature has vectors of its own."""
    data = bytes.fromhex(body)
    return SignedRecord(decode_record(kind, data), record_id(kind, data), data, ())  # type: ignore[type-var]


@pytest.mark.parametrize("case", cases("opens"))
def test_an_open_is_answered(case: Case) -> None:
    message = decode_message(bytes.fromhex(case["body"]))
    offer, certificate = record_of(Offer, case["offer"]), record_of(NodeCert, case["certificate"])
    assert isinstance(message, Open)
    answer = "ok"
    try:
        check_mode(message)
        request = verify_request(message.contract, message.signature)
        check_request(request, offer, certificate, secret=message.secret, now=case["now"])
        check_neighbours(request.record, message, case["layers"])
        read_sampling(request.record, message)
    except (Refused, RemoteProtocolError) as error:
        answer = error.code.label
    assert answer in (case["expect"] if isinstance(case["expect"], list) else [case["expect"]])


@pytest.mark.parametrize("case", cases("routes"))
def test_contracts_of_a_generation_fit_each_other(case: Case) -> None:
    contracts = [sign(decode_record(Contract, bytes.fromhex(body)), CLIENT) for body in case["contracts"]]
    fit = "ok"
    try:
        ClientAccount(contracts, [7] * case["prompt"], SECRET, CLIENT)
    except LocalProtocolError:
        fit = "misfit"
    assert fit == case["expect"]


@pytest.mark.parametrize("case", cases("stage"))
def test_a_stage_does_as_the_vector_says(case: Case) -> None:
    replay = StageReplay(case["terms"])
    assert [{**step, **replay.step(step)} for step in case["steps"]] == case["steps"]
    assert {**case, **replay.left()} == case


@pytest.mark.parametrize("case", cases("generation"))
def test_a_client_does_as_the_vector_says(case: Case) -> None:
    replay = ClientReplay(dict(case))
    assert [{**step, **replay.step(step)} for step in case["steps"]] == case["steps"]
    assert {**case, **replay.left()} == case


@pytest.mark.parametrize("case", cases("patience"))
def test_a_clients_patience_runs_down(case: Case) -> None:
    patience = Patience(case["expected_s"], case["accepted_s"] - 1.0)
    patience.note_opened(case["accepted_s"])
    lasts = [patience.ends]
    for step in case["steps"]:
        patience.note_ids(step["ids"], step["at_s"])
        lasts.append(patience.ends)
    assert lasts == pytest.approx([case["until_s"], *(step["until_s"] for step in case["steps"])])


@pytest.mark.parametrize("case", cases("rings"))
def test_a_ring_does_as_the_script_says(case: Case) -> None:
    """Everybody replays its own part."""
    replay = RingReplay(case)
    for step in case["steps"]:
        replay.step(step)
    assert replay.left() == case["left"]
