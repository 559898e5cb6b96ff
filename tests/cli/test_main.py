"""The command itself: help that teaches and comes at once, and failures told in a sentence."""

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from p2pinfer.cli import main as faces
from p2pinfer.core.values.errors import JournalError, ModelError, NoRoute, P2pinferError, UsageError
from tests.cli.books import Shell

SLOW = ("torch", "libp2p", "multiaddr", "transformers", "numpy", "gguf", "safetensors", "huggingface_hub")
LOADED = """
import io, json, sys
from contextlib import redirect_stdout
from p2pinfer.cli.main import run
loaded = {}
for words in json.loads(sys.argv[1]):
    sys.argv = ["p2pinfer", *words, "--help"]
    with redirect_stdout(io.StringIO()):
        try:
            run()
        except SystemExit:
            pass
    loaded[" ".join(words)] = sorted(set(json.loads(sys.stdin.readline())) & sys.modules.keys())
print(json.dumps(loaded))
"""


def paths(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below, with the words that call it."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from paths(below, (*words, name))


EVERY = dict(paths(faces.main))


# Help


def test_every_command_of_the_issue_is_there() -> None:
    assert {" ".join(words) for words in EVERY if words} >= {
        "ask",
        "swarm",
        "earnings",
        "earnings export",
        "receipt show",
        "statement verify",
        "node",
        "model import",
        "model list",
        "model show",
        "config",
        "demo",
        "bench engine",
        "doctor",
    }


@pytest.mark.parametrize("words", EVERY, ids=lambda words: " ".join(words) or "p2pinfer")
def test_every_command_has_help(p2pinfer: Shell, words: tuple[str, ...]) -> None:
    ran = p2pinfer(*words, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: {' '.join(['p2pinfer', *words])}")
    assert EVERY[words].help


@pytest.mark.parametrize("words", EVERY, ids=lambda words: " ".join(words) or "p2pinfer")
def test_every_option_says_what_it_is_for(words: tuple[str, ...]) -> None:
    options = [option for option in EVERY[words].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_the_list_of_commands_says_what_the_commands_say(p2pinfer: Shell) -> None:
    out = p2pinfer("--help").out
    for name in faces.COMMANDS:
        assert f"\n  {name} " in out


def test_no_words_show_the_help(p2pinfer: Shell) -> None:
    ran = p2pinfer()
    assert (ran.code, "Usage: p2pinfer" in ran.out + ran.err) == (2, True)


def test_the_version_is_told(p2pinfer: Shell) -> None:
    assert p2pinfer("--version").out.startswith("p2pinfer, version ")


def test_help_loads_neither_network_nor_engine() -> None:
    """These take seconds to import; help takes none."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(list(EVERY))],
        input=f"{json.dumps(SLOW)}\n" * len(EVERY),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == {" ".join(words): [] for words in EVERY}


# Failures


@pytest.mark.parametrize(
    "words", [["fly"], ["model", "fly"], ["ask"], ["receipt", "show"], ["node", "--fly"], ["earnings", "--by"]]
)
def test_wrong_words_are_usage_errors(p2pinfer: Shell, words: list[str]) -> None:
    ran = p2pinfer(*words)
    assert (ran.code, ran.out, "Error: " in ran.err) == (2, "", True)


def failing(error: BaseException) -> click.Command:
    @click.command()
    def fail() -> None:
        """Fail."""
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (P2pinferError("it rained"), 1),
        (NoRoute("it rained"), 1),
        (JournalError("it rained"), 1),
        (UsageError("it rained"), 2),
        (ModelError("it rained"), 2),
        (ExceptionGroup("", [NoRoute("it rained")]), 1),
        (ExceptionGroup("", [ExceptionGroup("", [UsageError("it rained")])]), 2),
    ],
    ids=repr,
)
def test_a_failure_is_one_sentence(
    p2pinfer: Shell, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr(faces, "main", failing(error))
    ran = p2pinfer()
    assert (ran.code, ran.out, ran.err) == (code, "", "Error: it rained\n")


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), click.Abort(), BaseExceptionGroup("", [KeyboardInterrupt()])], ids=repr
)
def test_an_interrupt_is_no_failure_to_explain(
    p2pinfer: Shell, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(faces, "main", failing(error))
    ran = p2pinfer()
    assert (ran.code, ran.err.strip()) == (130, "")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "main", failing(ExceptionGroup("", [NoRoute("it rained"), ZeroDivisionError()])))
    monkeypatch.setattr(sys, "argv", ["p2pinfer"])
    with pytest.raises(ExceptionGroup) as group:
        faces.run()
    assert group.value.subgroup(ZeroDivisionError)


def test_a_reader_that_leaves_is_no_error() -> None:
    """`p2pinfer config | head -1` ends without a word."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys\nfrom p2pinfer.cli.main import run\nsys.stdin.read()\nrun()", "config"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate()
    assert b"Traceback" not in err
