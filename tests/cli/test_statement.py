"""`p2pinfer statement verify`: offline, by the file alone; what it does not prove is said with what it does."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from p2pinfer.core.records.records import ZEROS
from p2pinfer.core.records.statement import MAGIC, Paid, Stated, write_statement
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import OwnerKey, RecordId
from tests.cli.books import CERTIFICATE, NODE, Shell, amount, client_folder, paid, with_seq
from tests.core.paid_route import CLIENT, NOW, OWNER, STRANGER

FIRST, SECOND, OTHER = paid(1), paid(2, 300), paid(3, 400, STRANGER)

LOADED = """
import sys
from p2pinfer.cli.main import run
sys.argv = ["p2pinfer", "statement", "verify", sys.argv[1]]
try:
    run()
finally:
    unwanted = {"torch", "libp2p", "trio", "multiaddr", "sqlite3", "numpy", "socket", "tokenizers"}
    print(sorted(unwanted & sys.modules.keys()), file=sys.stderr)
"""


def write(path: Path, entries: Sequence[Paid], number: int = 1) -> Path:
    """prev: made up, but for the first, which has none"""
    prev = ZEROS if number == 1 else bytes([number]) * 32
    stated = Stated(OwnerKey(OWNER.public), number, RecordId(prev), NOW - 100, NOW + 100, NOW + 200)
    _, data = write_statement(NODE, stated, [CERTIFICATE], entries)
    path.write_bytes(data)
    return path


def told(out: str) -> str:
    """What was printed, as one line."""
    return " ".join(out.split())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good", [FIRST, SECOND, OTHER])


def test_a_statement_verifies(p2pinfer: Shell, good: Path) -> None:
    ran = p2pinfer("statement", "verify", good)
    assert (ran.code, ran.err) == (0, "")
    assert f"{good}: verifies" in ran.out
    assert f"3 receipts; {amount([FIRST, SECOND, OTHER])} nano-credits unbacked, 0 nano-credits self" in told(ran.out)


def test_people_read_who_owes_what(p2pinfer: Shell, good: Path) -> None:
    lines = [line.split() for line in p2pinfer("statement", "verify", good).out.splitlines()]
    assert [peer_name(CLIENT.public), "2", str(amount([FIRST, SECOND]))] in lines
    assert [peer_name(STRANGER.public), "1", str(amount([OTHER]))] in lines


def test_what_the_owner_owes_itself_is_added_to_nothing(p2pinfer: Shell, tmp_path: Path) -> None:
    """By its own key in the file, or by a client's key in the data folder of this machine."""
    mine = paid(7, 300, client=OWNER)
    files = write(tmp_path / "one", [FIRST, OTHER, mine]), write(tmp_path / "two", [SECOND, mine], 2)
    others = {amount([FIRST, OTHER]), amount([SECOND])}
    ran = p2pinfer("statement", "verify", *files)
    for sum_ in others:
        assert f"{sum_} nano-credits unbacked, {amount([mine])} nano-credits self" in told(ran.out)
    together = f"{amount([FIRST, SECOND, OTHER])} nano-credits unbacked, {amount([mine])} nano-credits self"
    assert f"all together, each contract once: 4 contracts; {together}" in told(ran.out)
    assert "payer: self, the owner's own key" in ran.out
    folder = client_folder(tmp_path / "client", [])
    whole = json.loads(p2pinfer("statement", "verify", *files, "--json", "--data", folder).out)
    assert whole["together"] == {
        "contracts": 4,
        "unbacked_ncr": amount([OTHER]),
        "self_ncr": amount([FIRST, SECOND, mine]),
    }
    assert [(one["unbacked_ncr"], one["self_ncr"]) for one in whole["statements"]] == [
        (amount([OTHER]), amount([FIRST, mine])),
        (0, amount([SECOND, mine])),
    ]


def test_people_read_what_is_not_proven(p2pinfer: Shell, good: Path) -> None:
    out = p2pinfer("statement", "verify", good).out
    assert "Not proven:" in out
    for word in ("that the work was correct", "can or will pay", "different people"):
        assert word in out


def test_no_line_is_wider_than_a_terminal(p2pinfer: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a file's name is as long as its giver made it
    rich = [paid(1), paid(2, flat=3 * 10**12, reserve=1 << 52), OTHER]
    a, b = write(Path("a"), rich), write(Path("b"), [with_seq(rich[0], 1, 350)], 2)
    ran = p2pinfer("statement", "verify", a, b)
    assert "CONTRADICTION" in ran.out
    assert peer_name(STRANGER.public) in ran.out
    assert "3,000.0000" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_programs_read_the_verdict(p2pinfer: Shell, good: Path) -> None:
    ran = p2pinfer("statement", "verify", good, "--json")
    told = json.loads(ran.out)
    (one,) = told["statements"]
    assert (ran.code, told["verified"], one["verified"], told["overlaps"]) == (0, True, True, [])
    assert (one["number"], one["receipts"], one["unbacked_ncr"]) == (1, 3, amount([FIRST, SECOND, OTHER]))
    assert [share["unbacked_ncr"] for share in one["by_payer"]] == [amount([FIRST, SECOND]), amount([OTHER])]
    assert one["payer"] is None
    assert one["not_proven"]


def test_a_statement_of_nothing_verifies(p2pinfer: Shell, tmp_path: Path) -> None:
    assert p2pinfer("statement", "verify", write(tmp_path / "none", [])).code == 0


def flipped(good: Path, at: int) -> Path:
    data = bytearray(good.read_bytes())
    data[at] ^= 1
    good.write_bytes(data)
    return good


def test_one_wrong_bit_is_found_and_its_frame_named(p2pinfer: Shell, good: Path) -> None:
    ran = p2pinfer("statement", "verify", flipped(good, -1))
    assert (ran.code, "verifies" in ran.out) == (1, False)
    assert f"Error: {good} does not verify: frame 5 of the statement: not signed by" in ran.err


def test_a_wrong_statement_is_false_for_programs(p2pinfer: Shell, good: Path) -> None:
    ran = p2pinfer("statement", "verify", flipped(good, -1), "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["verified"], told["statements"][0]["verified"]) == (1, False, False)
    assert "frame 5" in told["statements"][0]["why"]
    assert told["together"] == {"contracts": 0, "unbacked_ncr": 0, "self_ncr": 0}


@pytest.mark.parametrize("data", [b"", b"hello", MAGIC, MAGIC + b"\xff" * 8, MAGIC + bytes(4)], ids=repr)
def test_any_bytes_are_refused_without_traceback(p2pinfer: Shell, tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    ran = p2pinfer("statement", "verify", file)
    assert (ran.code, ran.err.startswith(f"Error: {file} does not verify")) == (1, True)


def test_a_cut_statement_is_refused(p2pinfer: Shell, good: Path) -> None:
    good.write_bytes(good.read_bytes()[:-1])
    assert p2pinfer("statement", "verify", good).code == 1


def test_a_wrong_statement_among_good_ones_fails_them_all(p2pinfer: Shell, good: Path, tmp_path: Path) -> None:
    bad = flipped(write(tmp_path / "bad", [paid(7)]), -1)
    ran = p2pinfer("statement", "verify", good, bad)
    assert ran.code == 1
    assert f"{good}: verifies" in ran.out
    assert f"{bad}: DOES NOT VERIFY" in ran.out


def test_a_contract_in_two_files_is_named_and_counted_once(p2pinfer: Shell, tmp_path: Path) -> None:
    running = paid(1, 200, final=False)
    grown = with_seq(running, 2, 350)
    older = write(tmp_path / "older", [running, SECOND])
    newer = write(tmp_path / "newer", [grown], 2)
    ran = p2pinfer("statement", "verify", older, newer, "--json")
    told = json.loads(ran.out)
    (overlap,) = told["overlaps"]
    assert (ran.code, overlap["contract"], overlap["contradiction"]) == (0, running.contract.id.hex(), None)
    assert overlap["extra_ncr"] == amount([grown]) - amount([running])
    assert told["together"] == {"contracts": 2, "unbacked_ncr": amount([grown, SECOND]), "self_ncr": 0}


def test_people_read_overlaps(p2pinfer: Shell, good: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", [SECOND], 2)
    out = p2pinfer("statement", "verify", good, other).out
    assert f"{good} and {other} both hold 1 contract" in out
    assert "the second adds to them: 0 nano-credits unbacked, 0 nano-credits self" in told(out)


def test_two_truths_about_one_contract_fail(p2pinfer: Shell, good: Path, tmp_path: Path) -> None:
    liar = write(tmp_path / "liar", [with_seq(FIRST, 1, 350)], 2)
    ran = p2pinfer("statement", "verify", good, liar)
    assert (ran.code, "CONTRADICTION in contract" in ran.out, "two bodies" in ran.out) == (1, True, True)
    assert "contradict each other" in ran.err


def test_a_file_that_is_not_there_is_a_usage_error(p2pinfer: Shell, tmp_path: Path) -> None:
    ran = p2pinfer("statement", "verify", tmp_path / "nowhere")
    assert (ran.code, "cannot read" in ran.err) == (2, True)


def test_no_file_is_a_usage_error(p2pinfer: Shell) -> None:
    assert p2pinfer("statement", "verify").code == 2


def test_verifying_needs_neither_network_nor_engine_nor_journal(good: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", LOADED, str(good)], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"
