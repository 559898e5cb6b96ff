"""No sequence of valid messages, whoever says them and when, ends a node or keeps a good client from its answer.

`make fuzz` runs more of them: any number, of any seed.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .crowds import ROOM, Crowd
from .fuzz import KINDS, run_round
from .sequences import machine_for
from .yards import LiveYard, MemoryYard, open_live_yard, open_memory_yard

SEED = 9  # of every round here, so that a run is the same every time, but for the order in which processes run


@pytest.fixture(scope="module")
def memory_yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryYard]:
    with open_memory_yard(tmp_path_factory.mktemp("yard")) as yard:
        yield yard


@pytest.fixture(scope="module")
def full_yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryYard]:
    with open_memory_yard(tmp_path_factory.mktemp("full-yard"), ROOM) as yard:
        yield yard


@pytest.fixture(scope="module")
def live_yard(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveYard]:
    with open_live_yard(tmp_path_factory.mktemp("live-yard"), tiny_store) as yard:
        yield yard


@pytest.mark.parametrize(("kind", "sequences"), [("orders", 50), ("jumps", 50), ("leaving", 2)])
def test_no_sequence_of_messages_ends_a_node(memory_yard: MemoryYard, kind: str, sequences: int) -> None:
    run_round(machine_for(memory_yard, KINDS[kind][0]), SEED, sequences)


def test_no_sequence_of_messages_ends_a_node_that_is_full(full_yard: MemoryYard) -> None:
    run_round(machine_for(full_yard, Crowd), SEED, 25)


@pytest.mark.slow
def test_no_longer_round_of_sequences_ends_a_node_that_is_full(full_yard: MemoryYard) -> None:
    run_round(machine_for(full_yard, Crowd), SEED + 1, 200)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "sequences"), [("orders", 200), ("jumps", 200), ("leaving", 20)])
def test_no_longer_round_of_sequences_ends_a_node(memory_yard: MemoryYard, kind: str, sequences: int) -> None:
    run_round(machine_for(memory_yard, KINDS[kind][0]), SEED + 1, sequences)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "sequences"), [("live", 150), ("live-leaving", 8)])
def test_no_sequence_of_messages_ends_a_process(live_yard: LiveYard, kind: str, sequences: int) -> None:
    run_round(machine_for(live_yard, KINDS[kind][0]), SEED, sequences)
