"""One data folder in two places: what a node's owner did is noticed in words, and nothing contradictory is signed."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.processes import LOOPBACK, SERVING, command, failed, run_node

from .conftest import Scene
from .good import open_good_client
from .victims import open_victim, wait_until

NOTICED_S = 30.0


@pytest.mark.slow
def test_the_later_of_two_processes_with_one_key_ends_and_both_owners_are_told(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("clones")
    with ExitStack() as stack:
        boot = stack.enter_context(run_node(root / "boot", scene.store))
        first = stack.enter_context(open_victim(root / "first", scene.store, "--bootstrap", boot.address))
        (root / "second").mkdir()
        shutil.copytree(root / "first" / "node", root / "second" / "node")
        serving = ("--bootstrap", boot.address, *SERVING)
        second = stack.enter_context(run_node(root / "second" / "node", scene.store, *serving, listen=LOOPBACK))
        assert wait_until(lambda: second.process.poll() is not None, NOTICED_S), "the second goes on"
        assert second.process.returncode == 1
        assert "key" in second.words.splitlines()[-1]
        assert "Traceback" not in second.words
        first.check()
        with open_good_client(root, scene.store, boot.address) as good:
            good.check()
        first.stop()


@pytest.mark.slow
def test_an_older_copy_of_a_journal_is_noticed_before_it_signs(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("older")
    journal = root / "node" / "journal.sqlite"
    for at in range(2):
        with open_victim(root, scene.store) as victim:
            with open_good_client(root / str(at), scene.store, victim.address) as good:
                good.check()
            victim.stop()
        if not at:
            shutil.copy(journal, root / "older.sqlite")
    for part in root.glob("node/journal.sqlite*"):
        if not part.name.endswith("-tally"):
            part.unlink()
    shutil.copy(root / "older.sqlite", journal)
    words = failed(command("node", "--data", root / "node", "--store", scene.store))
    assert "older copy" in words
    assert "older copy" in failed(command("earnings", "export", root / "statement", "--data", root / "node"))


@pytest.mark.parametrize("address", ["/ip4/198.51.100.7/udp/4001", "/dns4/example.org/tcp/4001", "198.51.100.7:4001"])
def test_an_address_to_announce_that_nobody_could_dial_is_named_at_the_start(
    scene: Scene, tmp_path: Path, address: str
) -> None:
    settings = tmp_path / "node.toml"
    settings.write_text(f'[network]\nannounce = ["{address}"]\n')
    words = failed(command("node", "--config", settings, "--data", tmp_path / "node", "--store", scene.store), 2)
    assert address in words
    assert not (tmp_path / "node").exists()
