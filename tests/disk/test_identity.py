"""Keys on disk: made once, private, certified; one node to a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pinfer.core.records.certificate import MAX_CERTIFICATE_S, verify_certificate
from p2pinfer.core.records.renewal import RENEW_CERTIFICATE_S
from p2pinfer.core.values.errors import UsageError
from p2pinfer.disk.data_folder import hold_folder
from p2pinfer.disk.identity import BACKDATE_S, Seen, load_identity, see_identity
from p2pinfer.disk.key_files import hold_client_key, load_key, own_keys

NOW = 1_790_000_000
DAY_S = 86_400

HOLDER = """
import sys, time
from pathlib import Path
from p2pinfer.disk.data_folder import hold_folder
with hold_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_first_start_makes_an_owner_that_certifies_the_node(tmp_path: Path) -> None:
    identity = load_identity(tmp_path / "data", NOW)
    certificate = identity.certificate
    assert verify_certificate(certificate.body, certificate.signatures[0]) == certificate
    assert certificate.record.node == identity.key.public
    assert identity.owner == load_key(tmp_path / "data" / "owner.key").public


def test_the_identity_stays(tmp_path: Path) -> None:
    first, second = load_identity(tmp_path, NOW), load_identity(tmp_path, NOW + DAY_S)
    assert (first.key.seed, first.certificate) == (second.key.seed, second.certificate)


def test_keys_are_readable_by_their_user_alone(tmp_path: Path) -> None:
    load_identity(tmp_path / "data", NOW)
    with hold_client_key(tmp_path / "data"):
        pass
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").glob("*.key")}
    assert modes == {"owner.key": 0o600, "node.key": 0o600, "client.key": 0o600}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_the_owner_key_may_leave_the_machine(tmp_path: Path) -> None:
    first = load_identity(tmp_path, NOW)
    (tmp_path / "owner.key").unlink()
    assert load_identity(tmp_path, NOW + DAY_S).certificate == first.certificate
    assert not (tmp_path / "owner.key").exists()


def test_a_certificate_that_ends_soon_is_renewed(tmp_path: Path) -> None:
    first = load_identity(tmp_path, NOW)
    later = load_identity(tmp_path, first.certificate.record.not_after - RENEW_CERTIFICATE_S)
    assert later.certificate.record.serial == 2
    assert (
        later.certificate.record.not_after
        == first.certificate.record.not_after - RENEW_CERTIFICATE_S - BACKDATE_S + MAX_CERTIFICATE_S
    )


def test_a_certificate_covers_contracts_of_slow_clocks(tmp_path: Path) -> None:
    assert load_identity(tmp_path, NOW).certificate.record.covers(NOW - 300, NOW + 3600)


def test_without_the_owner_key_a_certificate_that_is_over_is_an_error(tmp_path: Path) -> None:
    load_identity(tmp_path, NOW)
    (tmp_path / "owner.key").unlink()
    with pytest.raises(UsageError, match=r"put owner\.key there to renew it"):
        load_identity(tmp_path, NOW + 91 * DAY_S)


def test_another_owner_key_makes_a_new_certificate(tmp_path: Path) -> None:
    load_identity(tmp_path / "a", NOW)
    other = load_identity(tmp_path / "b", NOW)
    (tmp_path / "a" / "owner.key").write_bytes((tmp_path / "b" / "owner.key").read_bytes())
    assert load_identity(tmp_path / "a", NOW).owner == other.owner


def test_a_node_key_without_certificate_is_not_given_a_new_owner(tmp_path: Path) -> None:
    load_identity(tmp_path, NOW)
    (tmp_path / "owner.key").unlink()
    (tmp_path / "node.cert").unlink()
    with pytest.raises(UsageError, match="no certificate"):
        load_identity(tmp_path, NOW)


def test_a_certificate_of_another_node_is_an_error(tmp_path: Path) -> None:
    load_identity(tmp_path / "a", NOW)
    load_identity(tmp_path / "b", NOW)
    (tmp_path / "a" / "node.cert").write_bytes((tmp_path / "b" / "node.cert").read_bytes())
    with pytest.raises(UsageError, match="another node"):
        load_identity(tmp_path / "a", NOW)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01\x02", b"\x92\xc4\x01\x00\xc4\x01\x00"])
def test_a_damaged_certificate_is_an_error(tmp_path: Path, data: bytes) -> None:
    load_identity(tmp_path, NOW)
    (tmp_path / "node.cert").write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        load_identity(tmp_path, NOW)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_identity(tmp_path, NOW)
    (tmp_path / "node.key").chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        load_identity(tmp_path, NOW)


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33, "é" * 64])
def test_a_damaged_key_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "client.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="key"), hold_client_key(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="data folder"), hold_client_key(tmp_path / "file" / "data"):
        pass


def test_the_owners_own_keys_are_known(tmp_path: Path) -> None:
    identity = load_identity(tmp_path, NOW)
    with hold_client_key(tmp_path) as client, hold_client_key(tmp_path) as second:
        assert own_keys(tmp_path) == {identity.owner, identity.key.public, client.public, second.public}


def test_clients_at_the_same_time_have_a_key_each_and_one_after_the_other_the_same(tmp_path: Path) -> None:
    with hold_client_key(tmp_path) as first, hold_client_key(tmp_path) as second:
        assert first.public != second.public
    with hold_client_key(tmp_path) as again, hold_client_key(tmp_path) as second_again:
        assert (again.public, second_again.public) == (first.public, second.public)


def test_a_folder_in_use_is_refused_with_its_user(tmp_path: Path) -> None:
    with hold_folder(tmp_path), pytest.raises(UsageError, match=f"pid {os.getpid()}"), hold_folder(tmp_path):
        pass


def test_a_folder_is_free_after_the_block(tmp_path: Path) -> None:
    with hold_folder(tmp_path):
        pass
    with hold_folder(tmp_path):
        pass


def test_a_killed_node_leaves_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"pid {holder.pid}"), hold_folder(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with hold_folder(tmp_path):
        pass


def test_who_only_looks_makes_nothing(tmp_path: Path) -> None:
    assert see_identity(tmp_path / "data") is None
    assert not (tmp_path / "data").exists()


def test_who_only_looks_sees_what_a_start_made(tmp_path: Path) -> None:
    identity = load_identity(tmp_path, NOW)
    assert see_identity(tmp_path) == Seen(identity.certificate, owner_here=True)
    (tmp_path / "owner.key").unlink()
    assert see_identity(tmp_path) == Seen(identity.certificate, owner_here=False)


def test_a_certificate_without_its_key_is_told_to_who_looks(tmp_path: Path) -> None:
    load_identity(tmp_path, NOW)
    (tmp_path / "node.key").unlink()
    with pytest.raises(UsageError, match="is there without node"):
        see_identity(tmp_path)
