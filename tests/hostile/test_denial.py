"""Strangers who take what they can get: a good client is served beside them, and the node's memory stays small."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.live.processes import ENVIRONMENT

from .attacks import ATTACKS
from .conftest import Scene
from .good import Asking
from .held import holding
from .victims import SPARE_BYTES, Victim, wide_store

CORES = 0.25  # of an attacker
NODE_CORES = 1  # of the node it attacks
ALL = 0.0  # as many as it gets
SHORT_S = 5.0
LONG_S = 60.0


@pytest.fixture(scope="module")
def wide_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("wide")
    scene = Scene(root, wide_store(root))
    yield scene
    scene.close()


def attacked(victim: Victim, name: str, seconds: float, cores: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.hostile.attacks", name, victim.address, str(seconds), str(cores)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def withstood(scene: Scene, name: str, seconds: float, cores: float) -> None:
    """An attack of so many seconds with so many cores, beside a good client that asks in a loop."""
    victim, good = scene.pair()
    good.check()
    victim.new_words()
    resting = most = victim.resident
    with Asking(good) as asking, attacked(victim, name, seconds, cores) as process:
        while process.poll() is None:
            most = max(most, victim.resident if victim.alive else 0)
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        assert process.stdout is not None
        words = process.stdout.read().partition("\n")[2]  # after the word that it begins
    victim.check()
    assert process.returncode == 0
    told = json.loads(words)
    print(f"{name}: {told}, {asking.answers} good answers, memory {resting / 1e6:.0f} to {most / 1e6:.0f} MB")  # noqa: T201 - `make long` shows it
    assert told["rounds"], "the attack never got through its loop"
    assert asking.answers, "the good client was not served"
    assert not asking.failures, asking.failures
    assert most < resting + SPARE_BYTES, f"{most:,} bytes, resting {resting:,}"
    good.check()


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_a_good_client_is_served_beside(name: str, wide_scene: Scene) -> None:
    withstood(wide_scene, name, SHORT_S, ALL)


@pytest.mark.long
@pytest.mark.parametrize("name", ATTACKS)
def test_a_good_client_is_served_for_a_minute_beside(name: str, wide_scene: Scene) -> None:
    with holding(wide_scene.pair()[0].pids, NODE_CORES) as how:
        print(f"the node is held to {NODE_CORES} core by {how}")  # noqa: T201 - `make long` shows it
        withstood(wide_scene, name, LONG_S, CORES)


def test_every_attack_says_what_it_is() -> None:
    assert all(attack.sentence for attack in ATTACKS.values())
