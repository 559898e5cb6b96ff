"""Groups of errors, and what they come down to."""

import pytest

from p2pinfer.core.values.errors import NoRoute, UsageError, sole

OURS, BUG = NoRoute("nobody is there"), ZeroDivisionError()
BOTH = ExceptionGroup("", [OURS, BUG])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OURS, OURS),
        (ExceptionGroup("", [ExceptionGroup("", [OURS])]), OURS),
        (ExceptionGroup("", [OURS, UsageError("too long")]), OURS),
        (ExceptionGroup("", [BUG]), BUG),
        (BOTH, BOTH),
        (ExceptionGroup("", [BOTH]), BOTH),
    ],
)
def test_a_group_comes_down_to(error: Exception, expected: Exception) -> None:
    assert sole(error) is expected
