"""Lines that strangers cause again and again do not fill the log."""

import logging
from collections.abc import Iterator

import pytest

from p2pinfer.cli.repeats import NEWS, PERIOD_S, Repeats


class Log(logging.Handler):
    """What a log got to say, at times of the test's choice."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(Repeats())
        self.now = 1000.0
        self.lines: list[str] = []
        self.logger = logging.Logger("p2pinfer.test")
        self.logger.addFilter(self._at_now)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def _at_now(self, record: logging.LogRecord) -> bool:
        record.created = self.now
        return True


@pytest.fixture
def log() -> Iterator[Log]:
    return Log()


def test_a_failure_that_repeats_is_said_once_and_then_counted(log: Log) -> None:
    for number in range(1235):
        log.logger.error("an open of %s is refused: the disk is full", number)
    log.now += PERIOD_S
    for number in range(2):
        log.logger.error("an open of %s is refused: the disk is full", number)
    log.now += PERIOD_S
    log.logger.error("an open of %s is refused: the disk is full", 7)
    assert log.lines == [
        "an open of 0 is refused: the disk is full",
        "an open of 0 is refused: the disk is full (1,234 more such lines were left out)",
        "an open of 7 is refused: the disk is full (1 more such lines were left out)",
    ]


def test_another_failure_is_another_kind(log: Log) -> None:
    log.logger.error("no room")
    log.logger.warning("no room")
    log.logger.error("no power")
    assert log.lines == ["no room", "no room", "no power"]


def test_news_are_said_more_often(log: Log) -> None:
    for number in range(NEWS + 5):
        log.logger.info("session %d", number)
    log.now += PERIOD_S
    log.logger.info("session %d", 99)
    assert len(log.lines) == NEWS + 1
    assert log.lines[-1] == "session 99 (5 more such lines were left out)"


def test_a_clock_that_is_set_back_hides_nothing(log: Log) -> None:
    log.logger.error("no room")
    log.now -= 3600
    log.logger.error("no room")
    assert log.lines == ["no room"] * 2


def fail(here: bool) -> None:
    if here:
        raise ValueError("one")
    raise ValueError("two")


def test_faults_of_ours_are_told_apart_by_where_they_are(log: Log) -> None:
    for here in (True, False, True):
        try:
            fail(here)
        except ValueError as error:
            log.logger.error("a session ends, for a fault of ours: %s", error, exc_info=error)
    assert [line[-3:] for line in log.lines] == ["one", "two"]
