"""Every check of our verifier is held by a vector: with the check taken away, one of them fails.

A reader that leaves a check out would otherwise pass all vectors, and take what others refuse.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

import p2pinfer.core
from p2pinfer.client import patience
from p2pinfer.client.patience import STALL_S, Patience
from p2pinfer.core.records.offer import Offer
from p2pinfer.core.swarm import offers
from p2pinfer.core.swarm.moving import OtherSpans
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.placement import OfferedSpan
from p2pinfer.core.values.units import PeerKey
from p2pinfer.node.placement import Placement
from p2pinfer.overlay import pulse
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.pulse import Pulse
from p2pinfer.overlay.writer import Writer
from tests.protocols import (
    test_scripts_wire,
    test_vectors_inference,
    test_vectors_offers,
    test_vectors_strangers,
    test_vectors_wire,
)
from tests.vectors import test_accounts, test_manifest_vectors, test_records
from tests.vectors.mutants import Mutant, mutants_of
from tests.vectors.test_records import read

Case = Callable[[], None]

CORE: Final = Path(p2pinfer.core.__file__).parent
MODULES: Final = (
    *("canonical", "fields", "keys", "records", "units", "terms", "pricing", "counting"),
    *(
        "certificate",
        "offer",
        "offers",
        "offer_table",
        "digest",
        "contract",
        "receipt",
        "statement",
        "statement_check",
        "client_account",
        "proposals",
        "counted_ids",
        "stage_account",
    ),
    *(
        "manifest",
        "model_numbers",
        "model_config",
        "config_json",
        "chat",
        "template_variables",
        "sampling",
        "draw",
        "address",
        "allowance",
    ),
    *("opening", "messages", "session_messages", "message_codec", "frames", "pace", "stage", "generation"),
    *("stage_terms", "tail_ids"),
)
HELD: Final = (
    (test_records.test_keys, "identity.json", "keys"),
    (test_records.test_signatures, "identity.json", "signatures"),
    (test_records.test_names, "identity.json", "names"),
    (test_records.test_certificates, "identity.json", "certificates"),
    (test_records.test_covers, "identity.json", "covers"),
    (test_records.test_voids, "identity.json", "voids"),
    (test_records.test_offers, "offer.json", "offers"),
    (test_records.test_relayed_offers, "offer.json", "relayed"),
    (test_records.test_the_order_of_offers, "offer.json", "order"),
    (test_records.test_news, "offer.json", "news"),
    (test_records.test_renewals, "offer.json", "renewals"),
    (test_records.test_usage, "receipts.json", "usage"),
    (test_records.test_leaves, "receipts.json", "leaves"),
    (test_records.test_roots, "receipts.json", "roots"),
    (test_records.test_hashes, "receipts.json", "hashes"),
    (test_records.test_contracts, "receipts.json", "contracts"),
    (test_records.test_requests, "receipts.json", "requests"),
    (test_records.test_receipts, "receipts.json", "receipts"),
    (test_records.test_contradictions, "receipts.json", "contradictions"),
    (test_records.test_statements, "receipts.json", "statements"),
    (test_records.test_comparisons, "receipts.json", "comparisons"),
    (test_accounts.test_signing, "receipts.json", "signing"),
    (test_accounts.test_proposing, "receipts.json", "proposing"),
)

# Functions that hold what we do ourselves, and not what others send: their own tests speak of them
OURS: Final = (
    *("PrivateKey.__init__", "Manifest.files_of", "fault_of", "Hello.only_asks"),
    *("_check_route", "ClientAccount.__init__", "ClientAccount.closed", "ClientAccount.is_final"),
    *("ClientAccount.unsigned", "ClientAccount.note_stored", "ClientAccount.withdraw", "ClientAccount.resumed"),
    *("Proposals.is_final", "CountedIds.kept"),
    *("StageAccount.__init__", "StageAccount.add_inputs", "StageAccount.add_outputs", "StageAccount._cut"),
    *("StageAccount.commit", "StageAccount.close", "StageAccount.closed", "StageAccount.may_compute"),
    *("StageAccount.note_stored", "StageAccount.withdraw"),
    *("StageSession.take", "Generation.opening", "Generation.begun"),
    *("Digest.names", "OfferTable.silence", "OfferTable.heard", "may_tell", "Span.meets"),
    *("_host_and_port", "_is_name", "has_moved"),
    *("Allowance.left", "Allowance.left_in_all", "Allowance.owe", "Generation._may_come_of_others"),
)
# Checks whose absence no vector can show, each with the reason
WE_WRITE: Final = "holds what we write; what was read keeps it by the way it is read"
MEMORY: Final = "bounds memory and time: nothing good is so long"
NO_ARRAY: Final = "what begins so is no array, or one of so many items that they are not there"
SIGNATURE: Final = "a signature of another length would be read as one over other bytes, which nobody signs"
WHOSE: Final = "which network an offer counts for bounds our own memory (tests/core/test_offers.py)"
ANSWERS: Final = "of which offers an answer is made is the teller's choice (tests/core/test_coverage.py)"
EQUIVALENT: Final = {
    "canonical": {"unpack_any: if len(data) > max_bytes": MEMORY},
    "fields": {
        "Text.check: value.encode()": "msgpack refuses what is no UTF-8",
        "Struct.check: if type(value) is not self.shape": WE_WRITE,
    },
    "keys": {
        "verify: if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES": SIGNATURE,
        "verify: type(signature) is not bytes or len(signature) != SIGNATURE_BYTES, without "
        "type(signature) is not bytes": SIGNATURE,
        "verify: type(signature) is not bytes or len(signature) != SIGNATURE_BYTES, without "
        "len(signature) != SIGNATURE_BYTES": SIGNATURE,
    },
    "terms": {
        "RolesKind.check: type(value) is not Roles or not 0 <= value <= ALL_ROLES, without "
        "not 0 <= value <= ALL_ROLES": WE_WRITE,
        "RolesKind.check: 0 <= value <= ALL_ROLES, without its end": WE_WRITE,
        "RolesKind.check: 0 <= value <= ALL_ROLES, without its beginning": WE_WRITE,
    },
    "statement": {"Header.contradiction: if self.count > MAX_RECEIPTS": "a file that shows it has 60 MB"},
    "statement_check": {
        "_end: if size > MAX_STATEMENT_FRAME": MEMORY,
        "_end: if size > left": "a frame that was cut is not canonical, and none at all is no array",
    },
    "offer": {
        "contradict: one != other and (one.node, one.boot, one.seq) == (other.node, other.boot, other.seq), without "
        "one != other": "the same offer is known by its bytes before"
    },
    "offer_table": {
        "OfferTable.forget: self._selection.remove(known)": ANSWERS,
        "OfferTable.recognise: self._selection.remove(known)": ANSWERS,
        "OfferTable.add: self._itself.add(known.node)": WHOSE,
        "OfferTable.forget: self._itself.discard(node)": WHOSE,
        "OfferTable.recognise: self._itself.add(node)": WHOSE,
        "OfferTable.add: self.heard(known.node)": "whom we found dead is our own word (tests/core/test_offers.py)",
        "OfferTable.fresh: self.heard(node)": MEMORY,
    },
    "client_account": {
        "ClientAccount.propose: at.roots.setdefault(committed, roots) != roots or self._contradicts_us(stage, "
        "committed), without self._contradicts_us(stage, committed)": "it is disputed then, with the same code; whom a "
        "client blames is its own affair (tests/client/test_rings.py)"
    },
    "stage_account": {"StageAccount.sign: check_receipt(complete.record, self.contract)": "what we proposed fits"},
    "message_codec": {
        "_shape_of: len(body) < 2 or body[0] >> 4 != 9 or body[1] > 127, without body[0] >> 4 != 9": NO_ARRAY,
        "_shape_of: len(body) < 2 or body[0] >> 4 != 9 or body[1] > 127, without body[1] > 127": "no message has it",
        "_counted: if count > most": MEMORY,
    },
    "frames": {
        "FrameDecoder.next_message: 0 < size <= self.limit, without its beginning": "nothing is no message",
        "FrameDecoder.next_message: self._let_go()": MEMORY,
    },
    "stage": {
        "StageSession._admit: self._admitted.add((sender, kind))": "what was asked once need not be asked again",
        "StageSession.is_computing: return self._taken > 0": "the node asks, whose sessions give way",
        "StageSession._resume: self._check_return(counted)": "the account's check, which has vectors of its own",
    },
    "model_numbers": {
        "check_sizes: min(shape) < 1 or max(shape) >= 1 << 32, without max(shape) >= 1 << 32": WE_WRITE,
        "check_sizes: if shape.layers > MAX_LAYERS": "so many files are refused before",
    },
    "config_json": {
        "check_ignored: if (own := sorted(set(ignored) & set(known)))": "whoever imports ignores keys; no file says so",
        "parse_config: check_ignored(ignored, KNOWN | _ROPE | {'quantization_config'})": "the same",
        "_architecture: if not found": "then there is no first one",
        "_check_known: if raw.get('quantization_config')": "nobody knows the key",
    },
    "template_variables": {
        "check_variables: if not isinstance(variables, Mapping)": "a vector has them as an object",
        "check_variables: if not (isinstance(name, str) and name.isidentifier())": "no template looks at it",
        "check_variables: if name in OWN": "nothing is given to a template twice",
    },
    "chat": {"_joined: if size > MAX_RENDERED": MEMORY},
    "draw": {"Sampling.__post_init__: fields.check(self)": "the record that holds the four has checked them"},
    "allowance": {"_Bucket.is_full: return self.holds(self._rate.burst, now)": "who took nothing lately is forgotten"},
}


@cache
def cases() -> list[Case]:
    """Every vector that a verifier of records, or a reader of fields, must answer."""
    return [*_of_records(), *_of_manifests(), *_of_texts(), *_of_messages(), *_of_sessions(), *_of_links()]


def _of_records() -> Iterator[Case]:
    for test, file, group in HELD:
        yield from (partial(test, vector) for vector in read(file)[group])


def _of_manifests() -> Iterator[Case]:
    good, bad = (
        test_manifest_vectors.test_a_good_manifest_has_its_id,
        test_manifest_vectors.test_a_bad_manifest_is_refused_with_its_code,
    )
    yield from (partial(good, vector) for vector in test_manifest_vectors.GOOD)
    yield from (partial(bad, vector) for vector in test_manifest_vectors.BAD)
    numbers = test_manifest_vectors.test_a_config_is_taken_or_refused
    yield from (partial(numbers, vector) for vector in test_manifest_vectors.VECTORS["configs"])
    fits = test_manifest_vectors.test_a_config_is_the_manifests_or_refused
    yield from (partial(fits, vector) for vector in test_manifest_vectors.VECTORS["fits"])


def _of_texts() -> Iterator[Case]:
    test = test_manifest_vectors.test_a_text_is_what_the_vector_says
    for group in ("texts", "wholes", "chats"):
        yield from (partial(test, group, vector) for vector in test_manifest_vectors.VECTORS[group])


def _of_messages() -> Iterator[Case]:
    for tests in (test_vectors_wire, test_vectors_inference):
        good, bad = tests.test_a_message_is_read_and_written, tests.test_a_bad_message_is_refused
        yield from (partial(good, case.values[0]) for case in tests.cases("messages", good=True))
        yield from (partial(bad, case.values[0]) for case in tests.cases("messages", good=False))


def _of_sessions() -> Iterator[Case]:
    tests = test_vectors_inference
    for list_, test in (
        ("params", tests.test_a_contract_binds_a_sampling_record),
        ("draws", tests.test_a_random_number_follows_from_seed_and_position),
        ("samples", tests.test_an_id_is_drawn),
        ("longer", tests.test_longer_forms_are_read_and_not_written),
        ("opens", tests.test_an_open_is_answered),
        ("stage", tests.test_a_stage_does_as_the_vector_says),
        ("generation", tests.test_a_client_does_as_the_vector_says),
        ("rings", tests.test_a_ring_does_as_the_script_says),
    ):
        yield from (partial(test, case.values[0]) for case in tests.cases(list_))
    good, bad = tests.test_a_sampling_record_is_read_and_written, tests.test_a_bad_sampling_record_is_refused
    yield from (partial(good, case.values[0]) for case in tests.cases("sampling", good=True))
    yield from (partial(bad, case.values[0]) for case in tests.cases("sampling", good=False))


def _of_links() -> Iterator[Case]:
    tests = test_vectors_wire
    whole = partial(tests.test_a_stream_is_read_up_to_its_fault, portion=1 << 20)
    yield from (partial(whole, case.values[0]) for case in tests.cases("streams"))
    yield from (partial(tests.test_a_sender_keeps_to_the_window, case.values[0]) for case in tests.cases("pace"))
    strangers = test_vectors_strangers
    for list_, test in (
        ("dials", strangers.test_what_is_dialled_on_the_word_of_others),
        ("allowances", strangers.test_how_often_others_have_us_dial),
        ("rooms", strangers.test_who_finds_room),
    ):
        yield from (partial(test, case.values[0]) for case in strangers.cases(list_))


def survives(mutant: Mutant) -> bool:
    """All vectors come out as they should. The one that found the last mutant is asked first next time."""
    with mutant.alive():
        for place, case in enumerate(cases()):
            try:
                case()
            except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever it is, the vector fails
                cases().insert(0, cases().pop(place))
                return False
    return True


def test_all_vectors_come_out_as_they_should() -> None:
    for case in cases():
        case()


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_without_a_check_a_vector_fails(module: str) -> None:
    [path] = CORE.rglob(f"{module}.py")
    mutants = [
        mutant for mutant in mutants_of(f"p2pinfer.core.{path.parent.name}.{module}") if mutant.where not in OURS
    ]
    survivors = [str(mutant) for mutant in mutants if survives(mutant)]
    assert sorted(set(survivors)) == sorted(EQUIVALENT.get(module, {}))


# Rules that are no checks: what another reader of the text might do, and which vectors find it


def _of_scripts() -> Iterator[Case]:
    for case in test_scripts_wire.SCRIPTS:
        if case["rule"] in ("WIRE-24", "WIRE-30"):
            yield partial(_run, test_scripts_wire.test_a_script_of_links_is_followed, None, case)


def _of_patience() -> Iterator[Case]:
    tests = test_vectors_inference
    yield from (partial(tests.test_a_clients_patience_runs_down, case.values[0]) for case in tests.cases("patience"))


def _of_passed() -> Iterator[Case]:
    tests = test_vectors_offers
    for case in tests.cases("passed"):
        yield partial(_run, tests.test_an_offer_is_passed_on_with_its_age, None, case.values[0])


def _of_leaving() -> Iterator[Case]:
    tests = test_vectors_offers
    for case in tests.cases("leaving"):
        yield partial(_run, tests.test_a_node_keeps_what_it_alone_serves, None, case.values[0])


def _run(test: Callable[..., Any], *parts: object) -> None:
    trio.run(test, *parts, clock=MockClock(autojump_threshold=0))


def _nothing(*_: object) -> None:
    """In place of what a method does."""


def _adds_at_the_first_id(self: Patience, count: int, now: float) -> None:
    self.ends = min(now + STALL_S, self.ends + count * max(patience.CRAWL_S, patience.CRAWL_FACTOR * self.step_s))


def _gives_back_all(self: Patience, count: int, now: float) -> None:
    self.ends = now + STALL_S


def _counts_messages(self: Patience, count: int, now: float) -> None:
    OF_PATIENCE(self, 1, now)


def _has_no_end(self: Patience, count: int, now: float) -> None:
    before, first = self.ends, not self._has_ids
    OF_PATIENCE(self, count, now)
    if not first:
        self.ends = before + count * max(patience.CRAWL_S, patience.CRAWL_FACTOR * self.step_s)


def _all_loaded(offers: Sequence[KnownOffer], absent: Collection[PeerKey] = ()) -> list[OfferedSpan]:
    return [replace(one, loaded=True) for one in SERVED(offers, absent)]


def _of_any_class(self: Placement, offer: Offer) -> bool:
    return FITS(self, replace(offer, numerics=self._numerics))


SERVED, FITS = Placement._served, Placement._fits
OF_PATIENCE: Final = Patience.note_ids
SCRIPTS, PATIENCE, PASSED, LEAVING = _of_scripts, _of_patience, _of_passed, _of_leaving
OTHERWISE: Final[dict[str, tuple[Callable[[], Iterator[Case]], object, str, object]]] = {
    "pings further apart": (SCRIPTS, pulse, "PING_S", 2.5),
    "pings nearer to each other": (SCRIPTS, pulse, "PING_S", 1.5),
    "four pings at first, and before it gives up": (SCRIPTS, pulse, "SILENT_PINGS", 4),
    "two pings at first, and before it gives up": (SCRIPTS, pulse, "SILENT_PINGS", 2),
    "later on a quiet link": (SCRIPTS, pulse, "QUIET_S", 31.0),
    "sooner on a quiet link": (SCRIPTS, pulse, "QUIET_S", 29.0),
    "no ping for a session that is opened or goes on": (SCRIPTS, Pulse, "stir", _nothing),
    "no ping for a message after a rest": (SCRIPTS, Link, "_note_use", _nothing),
    "a link that a session needs may be left alone": (SCRIPTS, Link, "_is_needed", lambda _: False),
    "every link is needed": (SCRIPTS, Link, "_is_needed", lambda _: True),
    "no ping for want of an ack": (SCRIPTS, Writer, "awaits_ack", lambda _: False),
    "an ack that comes makes no difference": (SCRIPTS, Writer, "awaits_ack", lambda writer: writer._said > 0),
    "what is said is not noted": (SCRIPTS, Pulse, "note_said", _nothing),
    "no pong counts": (SCRIPTS, Pulse, "note_pong", _nothing),
    "quiet is since the link came up": (SCRIPTS, Pulse, "heard_s", property(lambda _: 0.0, _nothing)),
    "a shorter patience": (PATIENCE, patience, "STALL_S", 59.0),
    "an id gives back less": (PATIENCE, patience, "CRAWL_S", 7.5),
    "an id gives back less of what was expected": (PATIENCE, patience, "CRAWL_FACTOR", 9),
    "what was expected does not count": (PATIENCE, patience, "CRAWL_FACTOR", 0),
    "the minute begins with the Opens": (PATIENCE, Patience, "note_opened", _nothing),
    "the first id gives back as others": (PATIENCE, Patience, "note_ids", _adds_at_the_first_id),
    "every id gives back a minute": (PATIENCE, Patience, "note_ids", _gives_back_all),
    "of several ids one gives back": (PATIENCE, Patience, "note_ids", _counts_messages),
    "patience is saved up": (PATIENCE, Patience, "note_ids", _has_no_end),
    "the way adds nothing to an age": (PASSED, offers, "HOP_MS", 0),
    "an offer is passed on that is not fresh": (PASSED, KnownOffer, "left_s", lambda *_: 1.0),
    "what another is only about to load is held": (LEAVING, Placement, "_served", staticmethod(_all_loaded)),
    "what is served in another class is held": (LEAVING, Placement, "_fits", _of_any_class),
    "nothing is held by one alone": (LEAVING, OtherSpans, "sole", lambda *_: None),
}


@pytest.mark.parametrize("made", [SCRIPTS, PATIENCE, PASSED, LEAVING])
def test_who_does_as_the_text_says_fails_none(made: Callable[[], Iterator[Case]]) -> None:
    for case in made():
        case()


@pytest.mark.parametrize("name", OTHERWISE)
def test_who_does_otherwise_fails_a_vector(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, owner, what, instead = OTHERWISE[name]
    monkeypatch.setattr(owner, what, instead, raising=False)
    assert any(_fails(case) for case in made())


def _fails(case: Case) -> bool:
    try:
        case()
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever it is, the vector fails
        return True
    return False
