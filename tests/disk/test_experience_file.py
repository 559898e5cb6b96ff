"""The record of nodes is kept, shared, bounded, and in nobody's way when it is damaged or cannot be written."""

import json
import os
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pinfer.core.routes.failures import FAILURE_WORTH, MAX_FAILURES
from p2pinfer.core.routes.measures import Lag, Who
from p2pinfer.core.values.units import OwnerKey, PeerKey
from p2pinfer.disk.experience_file import ExperienceFile
from p2pinfer.disk.shared_file import MAX_FILE

NODE, OTHER, OWNER = PeerKey(b"n" * 32), PeerKey(b"m" * 32), OwnerKey(b"o" * 32)
WHO = Who(NODE, OWNER)
CLOCK = 1_800_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nodes.json"


def filled(path: Path, node: PeerKey = NODE) -> ExperienceFile:
    """Of a process that learnt something just now."""

    async def learn() -> ExperienceFile:
        experience, now = ExperienceFile(path), trio.current_time()
        experience.failures.note(node, OWNER, now)
        experience.measures.note_answer([Who(node, OWNER)], Lag(4.0, 0.5), now)
        experience.measures.note_round_trip(node, 0.7, now)
        experience.measures.note_rate(node, 6_250.0, now)
        await experience.save(CLOCK)
        return experience

    return trio.run(learn)


def risk(path: Path, node: PeerKey = NODE) -> float:
    """As the next process sees it."""

    async def read() -> float:
        experience = ExperienceFile(path)
        await experience.load(CLOCK)
        return experience.failures.risk(node, OWNER, trio.current_time())

    return trio.run(read)


def test_what_was_learnt_is_there_for_the_next_process(path: Path) -> None:
    async def read() -> None:
        experience = ExperienceFile(path)
        await experience.load(CLOCK + 1)
        now, measures = trio.current_time(), experience.measures
        assert experience.failures.risk(NODE, OWNER, now) == 2 * FAILURE_WORTH
        assert measures.of(WHO, now).late_s == pytest.approx(4.0, rel=0.05)
        assert measures.round_trip_s(NODE, now) == 0.7
        assert measures.rate(NODE, now) == pytest.approx(6_250.0, rel=0.05)

    filled(path)
    assert path.stat().st_mode & 0o777 == 0o600
    trio.run(read)


def test_without_news_nothing_is_written(path: Path) -> None:
    trio.run(ExperienceFile(path).save, CLOCK)
    assert not path.exists()
    experience = filled(path)
    path.unlink()
    trio.run(experience.save, CLOCK)
    assert not path.exists()


def test_two_processes_of_one_folder_lose_nothing_of_each_other(path: Path) -> None:
    async def both() -> None:
        first, second = ExperienceFile(path), ExperienceFile(path)
        first.failures.note(NODE, OWNER, trio.current_time())
        second.failures.note(OTHER, OWNER, trio.current_time())
        await first.save(CLOCK)
        await second.save(CLOCK)

    trio.run(both)
    assert risk(path) == risk(path, OTHER) == 2 * FAILURE_WORTH


def test_a_crowd_of_nodes_is_bounded_on_the_disk(path: Path) -> None:
    async def learn() -> None:
        experience, now = ExperienceFile(path), trio.current_time()
        for number in range(2 * MAX_FAILURES):
            who = Who(PeerKey(number.to_bytes(32)), OwnerKey(number.to_bytes(32, "little")))
            experience.failures.note(who.node, who.owner, now)
            experience.measures.note_answer([who], Lag(1 / 3, 1 / 7), now)
            experience.measures.note_round_trip(who.node, 1 / 3, now)
            experience.measures.note_rate(who.node, 1e9 / 7, now)
        await experience.save(CLOCK)

    trio.run(learn)
    assert all(len(notes) == MAX_FAILURES for notes in json.loads(path.read_bytes()).values())
    assert path.stat().st_size < MAX_FILE / 2


def test_what_is_written_right_after_a_sleep_is_as_old_as_it_is(path: Path) -> None:
    night_s = 1_800

    async def wake() -> None:
        sleeps = [night_s]
        experience = ExperienceFile(path, lambda: sleeps.pop() if sleeps else 0.0)
        experience.failures.note(NODE, OWNER, trio.current_time())
        await experience.save(CLOCK + night_s)

    trio.run(wake)
    found = json.loads(path.read_bytes())["failures"]
    assert all(abs(at_s - CLOCK) <= 1 for _, at_s in found.values())


KEY = "node " + "6e" * 32
HEX = "6e" * 32


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        *(
            json.dumps(wrong).encode()
            for wrong in (
                {"failures": []},
                {"failures": {KEY: 1}},
                {"failures": {KEY: []}},
                {"failures": {KEY: [1]}},
                {"failures": {KEY: [1, -1]}},
                {"failures": {KEY: [9, 1]}},
                {"failures": {KEY: [True, 1]}},
                {"failures": {KEY: [1, 1.5]}},
                {"failures": {KEY: [1, 2, 3]}},
                {"failures": {HEX: [1, 1]}},
                {"failures": {"node": [1, 1]}},
                {"failures": {"nobody " + HEX: [1, 1]}},
                {"lags": {KEY: [1, 1]}},
                {"lags": {KEY: [1, "slow", 1]}},
                {"lags": {KEY: [1, -1, 1]}},
                {"lags": {KEY: [float("nan"), 1, 1]}},
                {"round_trips": {KEY: [1, 1]}},
                {"round_trips": {HEX: [float("inf"), 1]}},
                {"rates": {HEX: [1e300, 1]}},
            )
        ),
    ],
)
def test_a_damaged_record_is_put_aside_and_a_new_one_begun(
    path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(text)
    trio.run(ExperienceFile(path).load, CLOCK)
    assert f"the record of nodes {path} is damaged" in caplog.text
    assert "put aside as nodes.json.damaged" in caplog.text
    assert (path.parent / "nodes.json.damaged").read_bytes() == text
    filled(path)
    assert risk(path) == 2 * FAILURE_WORTH


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_bytes_stop_anything(path: Path, data: bytes | str) -> None:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    trio.run(ExperienceFile(path).load, CLOCK)


def test_kinds_that_a_later_version_may_add_are_passed_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(json.dumps({"moods": {"x": [1]}}))
    trio.run(ExperienceFile(path).load, CLOCK)
    assert caplog.text == ""


def test_what_is_no_file_of_ours_is_left_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(path)
    trio.run(ExperienceFile(path).load, CLOCK)
    assert "cannot be read, and is left as it is" in caplog.text


def test_a_disk_that_takes_nothing_is_told_and_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_words: object) -> None:
        raise OSError(28, os.strerror(28))

    async def learn() -> None:
        experience = ExperienceFile(path)
        experience.failures.note(NODE, OWNER, trio.current_time())
        with monkeypatch.context() as broken:
            broken.setattr("p2pinfer.disk.shared_file.write_atomic", full)
            await experience.save(CLOCK)
        assert "cannot be written: No space left on device" in caplog.text
        await experience.save(CLOCK)

    trio.run(learn)
    assert risk(path) == 2 * FAILURE_WORTH
