"""The house: what its map names, what imports what, and what an import costs."""

import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

import p2pinfer
from p2pinfer.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "p2pinfer"
MODULES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py") if path.stat().st_size)


def test_the_map_names_every_package() -> None:
    assert p2pinfer.__doc__ is not None
    drawn = p2pinfer.__doc__[p2pinfer.__doc__.index("A map") :]
    assert [
        child.name for child in PACKAGE.iterdir() if (child / "__init__.py").is_file() and child.name not in drawn
    ] == []


def test_every_name_the_package_promises_is_there() -> None:
    assert [name for name in p2pinfer.__all__ if not hasattr(p2pinfer, name)] == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_says_what_it_is(module: Path) -> None:
    text = (ROOT / module).read_text()
    assert text.startswith(('"""', 'r"""')), f"{module} has no docstring"


def test_imports_point_downwards() -> None:
    linter = which("lint-imports", path=str(Path(sys.executable).parent))
    assert linter is not None, "import-linter is missing; get it with: pip install 'p2pinfer[test]'"
    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def imported(statement: str) -> set[str]:
    """Top-level packages loaded by a statement in a fresh interpreter."""
    script = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_the_network() -> None:
    assert not imported("import p2pinfer") & {"torch", "numpy", "libp2p", "trio"}


def test_verifying_a_statement_loads_neither_torch_nor_the_network() -> None:
    assert not imported("import p2pinfer.core.records.statement_check") & {"torch", "numpy", "libp2p", "trio"}


def test_help_loads_neither_torch_nor_the_network() -> None:
    assert not imported("import p2pinfer.cli.main") & {"torch", "numpy", "libp2p"}


@pytest.mark.parametrize("module", ["p2pinfer.node.daemon", "p2pinfer.client.api"])
def test_node_and_client_load_no_torch(module: str) -> None:
    assert not imported(f"import {module}") & {"torch", "numpy", "safetensors"}


@pytest.mark.parametrize("name", COMMANDS)
def test_loading_a_command_loads_no_torch(name: str) -> None:
    assert "torch" not in imported(f"import {COMMANDS[name][0]}")
