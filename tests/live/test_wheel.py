"""The package as people get it: a wheel without its source tree, and a client that needs no compiler anywhere."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from .processes import COMMAND_S, ENVIRONMENT, QUIETLY, SERVING, run_node

ROOT = Path(__file__).parents[2]
INSTALL_S = 600.0
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
BINARY = "--only-binary=:all:"
LINUX = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
PLATFORMS = {  # what pip calls them, and the oldest Python for which all that we need has wheels there
    "Linux on x86": (tuple(f"{name}_x86_64" for name in LINUX), "3.11"),
    "Linux on ARM": (tuple(f"{name}_aarch64" for name in LINUX), "3.11"),
    "macOS on x86": (("macosx_10_13_x86_64",), "3.11"),
    "macOS on ARM": (("macosx_11_0_arm64",), "3.11"),
    "Windows on x86": (("win_amd64",), "3.11"),
    "Windows on ARM": (("win_arm64",), "3.13"),
}

pytestmark = pytest.mark.slow


def ran(*words: str | Path, cwd: Path, within_s: float = COMMAND_S) -> str:
    """What a command prints on a machine without a C compiler."""
    environment = ENVIRONMENT | {"CC": "/bin/false"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=within_s
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a wheel that was built from the files that git knows, in an environment of its own."""
    root = tmp_path_factory.mktemp("wheel")
    listed = ran("git", "ls-files", "-z", cwd=ROOT).split("\0")[:-1]
    for name in listed:
        if name.startswith("p2pinfer/") or "/" not in name:
            copy = root / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    ran(sys.executable, "-m", "build", "--wheel", "--outdir", root, root / "source", cwd=root, within_s=INSTALL_S)
    (wheel,) = root.glob("*.whl")
    ran(sys.executable, "-m", "venv", root / "venv", cwd=root)
    python = root / "venv" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    ran(python, *PIP, "install", BINARY, "--constraint", constraints, wheel, cwd=root, within_s=INSTALL_S)
    return python.with_name("p2pinfer")


def test_the_wheel_says_its_version(installed: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] in ran(installed, "--version", cwd=tmp_path)


def test_the_wheels_client_asks_a_node_and_verifies_what_it_earned(
    installed: Path, tiny_store: Path, tmp_path: Path
) -> None:
    with run_node(tmp_path / "node", tiny_store, *SERVING) as node:
        asking = ("ask", "--data", tmp_path / "data", "--store", tmp_path / "store", "--bootstrap", node.address)
        answer = ran(installed, *asking, *QUIETLY, "--max-tokens", "4", "hello", cwd=tmp_path)
    assert answer.strip()
    exporting = (sys.executable, "-m", "p2pinfer", "earnings", "export")
    ran(*exporting, "--data", tmp_path / "node", statement := tmp_path / "all.statement", cwd=ROOT)
    told = json.loads(ran(installed, "statement", "verify", "--json", statement, cwd=tmp_path))
    assert told["verified"]
    assert told["statements"][0]["receipts"]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_client_installs_from_wheels_alone(platform: str, tmp_path: Path) -> None:
    tags, python = PLATFORMS[platform]
    needed: Sequence[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    options = [f"--platform={tag}" for tag in tags]
    options += [f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")]
    options += [f"--python-version={python}", "--implementation=cp", f"--target={tmp_path}", "--dry-run"]
    ran(sys.executable, *PIP, "install", BINARY, *options, *needed, cwd=tmp_path, within_s=INSTALL_S)
