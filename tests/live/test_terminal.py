"""Commands that talk with a person: they run in a terminal, and a person types."""

import os
import pty
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select
from shutil import copytree
from subprocess import Popen

import pytest

from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.store import Store

from .processes import COMMAND, COMMAND_S, ENVIRONMENT, NodeProcess, command, failed, run_node

END = "\x04"  # Ctrl-D


@dataclass
class Terminal:
    """A command in a terminal. seen: all that it has shown"""

    process: "Popen[bytes]"
    end: int
    seen: str = ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def wait(self, pattern: str, *, interrupting: bool = False) -> str:
        """Wait until it shows this, and return it.

        interrupting: press Ctrl-C until then: who does in the moment between a prompt and its reading is not heard
        """
        deadline = time.monotonic() + COMMAND_S
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < deadline, self.seen
            if interrupting and not select([self.end], [], [], 1.0)[0]:
                self.process.send_signal(signal.SIGINT)
            if select([self.end], [], [], 1.0)[0]:
                try:
                    self.seen += os.read(self.end, 65_536).decode(errors="replace")
                except OSError:  # Linux says so where the other side has ended
                    assert re.search(pattern, self.seen), self.seen
        self.seen = self.seen[found.end() :]
        return found.group()


@contextmanager
def terminal(*words: object) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "dumb"}
    with Popen(
        [*COMMAND, *map(str, words)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[NodeProcess]:
    serving = ("--model", "tiny", "--layers", "0:3", "--numerics", "i8g32-1", "--threads", "1")
    with run_node(tmp_path_factory.mktemp("terminal") / "node", tiny_store, *serving) as node:
        yield node


def chat(node: NodeProcess, data: Path, *words: object) -> tuple[object, ...]:
    return ("chat", "--bootstrap", node.address, "--data", data, "--store", data / "store", "--no-mdns", *words)


def test_a_conversation_has_a_history_and_an_end(node: NodeProcess, tmp_path: Path) -> None:
    """The tiny model answers noise."""
    with terminal(*chat(node, tmp_path, "--max-tokens", 20)) as person:
        person.wait("> ")
        for text in ("hello", "and then?"):
            person.type(text + "\n")
            person.wait("\n> ")
        person.type(END)
        assert person.wait(r"\(\d+ answers, [\d,]+ tokens, [\d,.]+ [a-z-]*credits\)").startswith("(2 answers, ")
        assert person.process.wait(COMMAND_S) == 0
    with read_journal(tmp_path / "client.sqlite") as journal:
        assert journal.count_unstored() == 0


def test_an_interrupt_gives_up_the_answer_and_not_the_chat(node: NodeProcess, tmp_path: Path) -> None:
    with terminal(*chat(node, tmp_path, "--max-tokens", 3900)) as person:
        person.wait("> ")
        person.wait("Ctrl-D ends the conversation", interrupting=True)
        person.wait("> ")
        person.type("why?\n")  # the tiny model has no end to its answer
        person.wait(r"why\?\s+\S")
        person.process.send_signal(signal.SIGINT)
        person.wait("given up")
        person.wait("> ")
        person.type(END)
        person.wait(r"\(1 answers?, [\d,]+ tokens, [1-9][\d,.]* [a-z-]*credits\)")
        assert person.process.wait(COMMAND_S) == 0


def test_lines_of_a_file_are_a_conversation_too(node: NodeProcess, tmp_path: Path) -> None:
    result = command(*chat(node, tmp_path, "--max-tokens", 3), text="hello\n\nagain\n")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) >= 2
    assert "(2 answers, 6 tokens, " in result.stderr


def test_what_was_said_first_is_left_out_where_the_model_takes_no_more(node: NodeProcess, tmp_path: Path) -> None:
    """The tiny model has 4,096 positions, and a token for each of these letters."""
    result = command(*chat(node, tmp_path, "--max-tokens", 3), text=f"{'x' * 2_500}\n{'y' * 2_500}\n")
    assert result.returncode == 0, result.stderr
    assert "what was said first is left out from now on" in result.stderr
    assert "(2 answers, 6 tokens, " in result.stderr


def test_an_error_ends_what_nobody_reads_along(node: NodeProcess, tmp_path: Path) -> None:
    assert "takes 4096" in failed(command(*chat(node, tmp_path, "--max-tokens", 5000), text="hello\nagain\n"), 2)


@pytest.mark.parametrize(("word", "code", "kept"), [("y", 0, 0), ("n", 1, 1)])
def test_who_removes_a_model_is_asked(tiny_store: Path, tmp_path: Path, word: str, code: int, kept: int) -> None:
    copytree(tiny_store / "models", tmp_path / "models")
    with terminal("model", "remove", "tiny", "--store", tmp_path) as person:
        person.wait("Remove tiny  .*")
        person.type(f"{word}\n")
        assert person.process.wait(COMMAND_S) == code
    assert len(Store(tmp_path).models()) == kept


def test_a_model_that_a_node_serves_is_not_removed(node: NodeProcess, tiny_store: Path) -> None:
    why = failed(command("model", "remove", "tiny", "--yes", "--store", tiny_store), 2)
    assert "a node of this machine serves model" in why
    assert len(Store(tiny_store).models()) == 1
