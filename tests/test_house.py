"""The house: what is documented, what imports what, and what an import costs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from shutil import which

import click
import pytest

import p2pinfer
from p2pinfer.cli.main import COMMANDS, main
from p2pinfer.node.settings import SECTIONS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "p2pinfer"
README = (ROOT / "README.md").read_text()
MODULES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py") if path.stat().st_size)


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, as one types them."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for child in command.list_commands(context):
            below = command.get_command(context, child)
            assert below is not None
            yield from commands(below, f"{name} {child}")


ALL_COMMANDS = dict(commands(main, "p2pinfer"))
OPTIONS = sorted(
    {
        option
        for command in ALL_COMMANDS.values()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
        if option.startswith("--")
    }
    - {"--help", "--version"}
)
SETTINGS = [f"{name}.{field.name}" for name, section in SECTIONS.items() for field in fields(section)]


@pytest.mark.parametrize("name", [name for name in ALL_COMMANDS if name != "p2pinfer"])
def test_the_readme_shows_every_command(name: str) -> None:
    assert name in README


@pytest.mark.parametrize("option", OPTIONS)
def test_the_readme_mentions_every_option(option: str) -> None:
    assert re.search(rf"{option}(?![\w-])", README)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_readme_lists_every_setting(setting: str) -> None:
    assert f"`{setting}`" in README


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    assert ALL_COMMANDS[name].help


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_the_readme_names_every_example(example: str) -> None:
    assert example in README


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


def test_node_and_client_load_no_torch() -> None:
    assert not imported("import p2pinfer.node.daemon, p2pinfer.client.api") & {"torch", "numpy", "safetensors"}


def test_loading_the_commands_loads_no_torch() -> None:
    assert "torch" not in imported("import " + ", ".join(module for module, _ in COMMANDS.values()))
