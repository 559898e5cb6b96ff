import pytest

from tests.cli.books import Shell


@pytest.fixture
def p2pinfer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command, as a shell calls it."""
    return Shell(monkeypatch, capsys)
