"""A group of errors comes down to one sentence, an interrupt, or a bug that is shown whole."""

import pytest

from p2pinfer.cli.main import sole_failure
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, UsageError

CANCELLED = GenerationFailed("the client was closed", Code.CANCELLED)


def test_a_failure_in_groups_of_groups_is_that_failure() -> None:
    failure = UsageError("no")
    assert sole_failure(BaseExceptionGroup("", [ExceptionGroup("", [failure])])) is failure


@pytest.mark.parametrize("others", [[], [CANCELLED], [ExceptionGroup("", [CANCELLED])]])
def test_an_interrupt_is_one_whatever_failed_because_of_it(others: list[BaseException]) -> None:
    with pytest.raises(SystemExit) as ended:
        sole_failure(BaseExceptionGroup("", [*others, BaseExceptionGroup("", [KeyboardInterrupt()])]))
    assert ended.value.code == 130


@pytest.mark.parametrize("others", [[], [CANCELLED], [KeyboardInterrupt()]])
def test_a_bug_is_raised_with_all_that_came_with_it(others: list[BaseException]) -> None:
    group = BaseExceptionGroup("", [*others, ZeroDivisionError()])
    with pytest.raises(BaseExceptionGroup) as raised:
        sole_failure(group)
    assert raised.value is group
