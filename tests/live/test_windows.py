"""The client, the commands and the verifier where Python is as on Windows (`tests/windows` says what that is).

What the libraries do on Windows is not tried, nor Windows itself: nobody here has it.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from .processes import COMMAND, COMMAND_S, ENVIRONMENT, QUIETLY, SERVING, command, failed, run_node

ROOT = Path(__file__).parents[2]
WINDOWS = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "windows"), str(ROOT)])}
HOLDER = """
from pathlib import Path
from p2pinfer.disk.locks import LockHeld, hold_lock, is_held
from p2pinfer.disk.tally import is_in_use, open_tally
import subprocess, sys
lock, journal = Path(sys.argv[1]), Path(sys.argv[2])
if len(sys.argv) > 3:
    print(is_held(lock), is_in_use(journal))
    try:
        with hold_lock(lock):
            print("alone")
    except LockHeld as error:
        print(error)
else:
    with hold_lock(lock):
        first, second = open_tally(journal), open_tally(journal)
        first.close()
        subprocess.run([sys.executable, "-c", sys.orig_argv[2], *sys.argv[1:], "look"], check=True)
        second.close()
    subprocess.run([sys.executable, "-c", sys.orig_argv[2], *sys.argv[1:], "look"], check=True)
"""
LIBRARY = """
import sys
import p2pinfer
words = sys.argv[1], sys.argv[2], [sys.argv[3]]
with p2pinfer.connect(*words, mdns=False) as one, p2pinfer.connect(*words, mdns=False) as other:
    for swarm in (one, other):
        print(swarm.generate("hello", max_tokens=3))
"""
TRIAL = """
import sys
from p2pinfer.client.scribe import Bounds
from p2pinfer.client.template_trial import try_template
print(try_template(sys.argv[1], Bounds(memory=1 << 30, work_s=float(sys.argv[2]))))
"""


def there(*arguments: object) -> "CompletedProcess[str]":
    """`p2pinfer ARGUMENTS` on such a Python."""
    return python_there(*COMMAND[1:], *arguments)


def python_there(*arguments: object) -> "CompletedProcess[str]":
    words = [sys.executable, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False, env=WINDOWS)


def done(result: "CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


@dataclass
class Asked:
    """A node that served, and what it and its client have in their folders. first, second: asked from such a Python

    library: two clients of a program there; linux: asked from a Python as it is here
    """

    node: Path
    client: Path
    first: "CompletedProcess[str]"
    second: "CompletedProcess[str]"
    library: "CompletedProcess[str]"
    linux: "CompletedProcess[str]"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Asked:
    """The second one finds what the first one left: keys, journal, tokenizer, peers."""
    root = tmp_path_factory.mktemp("windows")
    client = root / "client"
    with run_node(root / "node", tiny_store, *SERVING) as node:
        words = ("ask", "hello", "--max-tokens", "3", "--bootstrap", node.address)
        folders = ("--data", client, "--store", root / "store", *QUIETLY)
        first = there(*words, *folders)
        (client / "client.key").chmod(0o666)  # as every file is there
        second = there(*words, *folders)
        library = python_there("-c", LIBRARY, client, root / "store", node.address)
        linux = command(*words, "--data", root / "linux", "--store", root / "linux")
        assert node.end() == 0
    (root / "node" / "owner.key").chmod(0o666)
    return Asked(root / "node", client, first, second, library, linux)


def test_python_is_as_on_windows() -> None:
    """Else the tests below would hold nothing."""
    asked = "from p2pinfer import system; print(hasattr(system, 'fcntl'), system.sys.platform, system.user_id())"
    assert done(python_there("-c", asked)).split() == ["False", "win32", "None"]


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("ask", "--help"), ("node", "--help")])
def test_a_command_says_what_it_is(words: tuple[str, ...]) -> None:
    assert "p2pinfer" in done(there(*words))


def test_a_node_says_where_it_runs(tmp_path: Path) -> None:
    assert "WSL" in failed(there("node", "--data", tmp_path / "data", "--store", tmp_path / "store"), 2)
    assert "WSL" in failed(there("doctor", "--data", tmp_path / "data", "--store", tmp_path / "store"), 2)
    assert not (tmp_path / "data").exists()


def test_a_client_asks(asked: Asked) -> None:
    assert done(asked.first) == done(asked.second) == done(asked.linux)
    assert "nano-credits" in asked.first.stderr


def test_two_clients_of_one_program_have_a_key_each(asked: Asked) -> None:
    assert done(asked.library) == 2 * done(asked.first)
    assert (asked.client / "client-2.key").exists()


def test_what_it_signed_for_is_told(asked: Asked) -> None:
    owed = json.loads(done(there("owed", "--data", asked.client, "--json")))
    (asked.client / "client.key").chmod(0o600)
    assert owed == json.loads(done(command("owed", "--data", asked.client, "--json")))


def test_earnings_are_shown_exported_and_verified(asked: Asked, tmp_path: Path) -> None:
    assert "unbacked" in done(there("earnings", "--data", asked.node))
    done(there("earnings", "export", tmp_path / "a.statement", "--data", asked.node))
    assert json.loads(done(there("statement", "verify", tmp_path / "a.statement", "--json")))["verified"]


def test_locks_and_shares_of_locks_are_kept_between_processes(tmp_path: Path) -> None:
    said = done(python_there("-c", HOLDER, tmp_path / "node.lock", tmp_path / "journal.sqlite")).splitlines()
    assert said[0] == "True True"
    assert said[1].startswith("pid ")
    assert said[2:] == ["False False", "alone"]


@pytest.mark.parametrize(
    ("template", "work_s"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", 0.5),
        ("{% set a %}{% for n in range(99999) %}{{ 'a' * 1000000 }}{% endfor %}{% endset %}", COMMAND_S),
    ],
)
def test_a_template_that_takes_too_much_is_ended_by_who_watches(template: str, work_s: float) -> None:
    assert "takes too long or too much memory" in done(python_there("-c", TRIAL, template, work_s))
