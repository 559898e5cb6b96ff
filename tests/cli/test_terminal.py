"""What strangers wrote reaches a terminal as plain text, and terminals of every kind get it."""

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from p2pinfer import cli
from p2pinfer.cli import main as faces
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import LogHandler, say
from p2pinfer.core.values.errors import NoRoute
from p2pinfer.core.values.shown import shown, shown_line
from tests.cli.books import Shell
from tests.cli.test_main import failing

EVIL = "\x1b]0;owned\x07\x1b[2J[red]pay"
SAFE = r"\x1b]0;owned\x07\x1b[2J[red]pay"
P2PINFER = f"{sys.executable} -m p2pinfer"


@pytest.mark.parametrize(
    "character",
    [
        "\0",
        "\x07",
        "\x08",
        "\x0b",
        "\r",
        "\x1b",
        "\x7f",
        "\x80",
        "\x9b",
        "\x9d",
        "\u202e",
        "\u2066",
        "\ud800",
        "\udcff",
    ],
    ids=ascii,
)
def test_what_a_terminal_might_obey_is_replaced(character: str) -> None:
    assert shown(f"a{character}b") == f"a{ascii(character)[1:-1]}b"


@pytest.mark.parametrize("text", ["line\n\tindented", "é 🚗 עברית", "\u2581\u200d\ufeff"], ids=ascii)
def test_everything_else_stays(text: str) -> None:
    assert shown(text) == text


@given(st.text(st.characters(codec=None)))
def test_no_text_keeps_a_control_character(text: str) -> None:
    assert not [c for c in shown(text) if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) <= 0x9F]
    assert shown(text).encode().decode() == shown(text)


def test_a_line_of_a_stranger_stays_one_line() -> None:
    assert shown_line("no\nready /ip4/6.6.6.6\x1b") == "no ready /ip4/6.6.6.6\\x1b"


def test_a_failure_that_quotes_a_peer_is_one_safe_line(p2pinfer: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "main", failing(NoRoute(f"{EVIL}\nError: none")))
    assert p2pinfer().err == f"Error: {SAFE} Error: none\n"


def test_a_table_holds_a_strangers_text_as_it_is_but_safe(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None)
    table.add_column("model")
    table.add_row(f"{EVIL} :car:")
    Terminal().print(table)
    assert f"{SAFE} :car:" in capsys.readouterr().out


def test_an_answer_is_safe_on_a_terminal_and_whole_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(EVIL, end="", text_for_files=True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say(EVIL, end="", text_for_files=True)
    assert capsys.readouterr().out == EVIL + SAFE


def test_a_record_of_the_log_is_safe_and_looks_like_one(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("p2pinfer.test")
    logger.addHandler(LogHandler())
    logger.warning("%s refuses: %s", "a peer", f"{EVIL}\n12:00:00 I all is well")
    first, second, rest = capsys.readouterr().err.split("\n")
    assert first.endswith(f" W a peer refuses: {SAFE}")
    assert (second, rest) == ("  12:00:00 I all is well", "")


def test_every_command_writes_through_the_one_place() -> None:
    """`print`, `click.echo` and rich's console would pass a stranger's text on as it is."""
    forbidden = []
    for path in Path(next(iter(cli.__path__))).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("print", "click.echo", "click.secho", "Console", "sys.stdout.write", "sys.stderr.write"):
                forbidden.append((path.name, name))
    assert forbidden == []


# Odd terminals


def shell(command: str) -> tuple[int, str, str]:
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(streams: str) -> None:
    assert shell(f"{P2PINFER} config {streams}")[0] == 0


def test_a_closed_stream_is_no_place_for_a_file(tmp_path: Path) -> None:
    """The next file opened would get its descriptor, and what is said would go into it."""
    owed = f"{P2PINFER} owed --data {tmp_path}"
    shell(f"{P2PINFER} ask hi --data {tmp_path} >&- 2>&-")
    assert "nothing owed" in shell(owed)[1]


def test_output_to_a_full_disk_is_one_sentence() -> None:
    code, _, err = shell(f"{P2PINFER} config >/dev/full")
    assert (code, err) == (1, "Error: cannot write to standard output: No space left on device\n")


def test_a_table_to_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    code, _, err = shell(f"{P2PINFER} doctor --data {tmp_path} --store {tmp_path} >/dev/full")
    assert (code, err) == (1, "Error: cannot write to standard output: No space left on device\n")


def test_a_log_to_a_full_disk_ends_nothing() -> None:
    assert shell(f"{P2PINFER} fly 2>/dev/full")[0] == 2
    assert shell(f"{P2PINFER} model show none --store /nowhere 2>/dev/full")[0] == 2


@pytest.mark.parametrize(
    "setting",
    ["TERM=dumb", "COLUMNS=0", "COLUMNS=1", "COLUMNS=7", "PYTHONIOENCODING=ascii", "LC_ALL=C PYTHONUTF8=0", "TERM="],
)
def test_odd_terminals_get_the_whole_table(setting: str, tmp_path: Path) -> None:
    """`script` gives a terminal, so that bars and colours are tried as well."""
    command = f"{setting} {P2PINFER} doctor --data {tmp_path}/é-\\$'\\xff' --store {tmp_path}"
    code, out, err = shell(f'script -qec "{command}" /dev/null </dev/null')
    assert (code, err) == (1, "")
    assert "data folder" in out
    assert "It cannot serve yet" in out
