"""Words of strangers on a terminal: they are shown, and do nothing."""

import logging

import pytest

from p2pinfer.cli.main import ShownFormatter, fail
from p2pinfer.cli.words import shown
from p2pinfer.core.errors import P2pinferError


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("Hi\x1b]0;owned\x07.", r"Hi\x1b]0;owned\x07."),
        ("\x1b[2J\x1b[31mplease pay", r"\x1b[2J\x1b[31mplease pay"),
        ("\x9b31m one byte of C1", r"\x9b31m one byte of C1"),
        ("over\rwritten\x08\x7f", r"over\rwritten\x08\x7f"),
        ("half a \ud83d character", r"half a \ud83d character"),
        ("two\n\tlines, \u00fcber \U0001f600, \\x1b typed", "two\n\tlines, \u00fcber \U0001f600, \\x1b typed"),
    ],
)
def test_control_characters_are_spelt_out(text: str, spelt: str) -> None:
    assert shown(text) == spelt


def test_a_failure_in_the_words_of_a_peer_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail(P2pinferError("stage refused: \x1b[2Jplease pay"))
    assert capsys.readouterr().err == "Error: stage refused: \\x1b[2Jplease pay\n"


def test_the_log_moves_no_cursor() -> None:
    record = logging.LogRecord("p2pinfer", logging.WARNING, "", 0, "no offers: %s", ("\x1b[31m",), None)
    assert ShownFormatter("%(message)s").format(record) == "no offers: \\x1b[31m"
