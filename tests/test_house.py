"""The house: what its map names, what imports what, and what an import costs."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

import p2pinfer
from p2pinfer.cli.main import COMMANDS
from tests import package_map

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "p2pinfer"
CLAUSE = re.compile(r"(What|Whether|Who|Whom|Whose|How|Where|When|Which|Why|Whoever|Whatever)\b")
MODULES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py") if path.stat().st_size)


def test_the_map_names_every_folder_and_file() -> None:
    """`python -m tests.package_map --write` mends it."""
    words = package_map.drawn()
    there = package_map.there()
    assert ([name for name in there if not words.get(name)], sorted(set(words) - set(there))) == ([], [])


def test_every_name_the_package_promises_is_there() -> None:
    assert [name for name in p2pinfer.__all__ if not hasattr(p2pinfer, name)] == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_says_what_it_is(module: Path) -> None:
    text = (ROOT / module).read_text()
    assert text.startswith(('"""', 'r"""')), f"{module} has no docstring"


MOST_PARAMETERS = 6


def long_functions(module: Path) -> Iterator[str]:
    """Those with more than MOST_PARAMETERS, self and cls aside."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if len([one for one in given if one.arg not in ("self", "cls")]) > MOST_PARAMETERS:
                yield f"{module}:{node.lineno} {getattr(node, 'name', 'lambda')}"


def test_functions_take_few_things_and_values_that_mean_something() -> None:
    assert [name for module in MODULES for name in long_functions(module)] == []


def test_no_two_public_classes_have_one_name() -> None:
    trees = {module: ast.parse((ROOT / module).read_text()) for module in MODULES}
    classes = [(m, node) for m, tree in trees.items() for node in tree.body if isinstance(node, ast.ClassDef)]
    found = [(node.name, str(module)) for module, node in classes]
    names = Counter(name for name, _ in found if not name.startswith("_"))
    assert [(name, module) for name, module in found if names[name] > 1] == []


SET_LATER = re.compile(r"\.on_\w+(, [\w.]+)* = ")


def test_who_hears_of_an_object_is_known_when_it_is_made() -> None:
    """Or comes to a registry that takes many, or for as long as a block lasts: nobody takes another one's place."""
    assert [str(module) for module in MODULES if SET_LATER.search((ROOT / module).read_text())] == []


def docstrings(module: Path) -> Iterator[tuple[str, str]]:
    """The docstrings of a module, its classes and functions, each with a name."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "the module"), text


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_docstring_begins_with_a_sentence(module: Path) -> None:
    """Or with a noun: not with a clause that stands for what it should name."""
    assert [f"{name}: {text}" for name, text in docstrings(module) if CLAUSE.match(text)] == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_file_that_a_text_names_is_there(module: Path) -> None:
    """In the same folder, or by its path from the package's folder or the root."""
    named = set(re.findall(r"(?<![\w/.-])[\w/]+\.(?:py|c|h)\b", "\n".join(text for _, text in docstrings(module))))
    folders = ROOT / module.parent, PACKAGE, ROOT
    listed = package_map.there() if module == Path("p2pinfer/__init__.py") else []
    names = {name.rpartition("/")[2] for name in listed}
    assert [name for name in named - names if not any((folder / name).exists() for folder in folders)] == []


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
    assert not imported("import p2pinfer.cli.main") & {"torch", "numpy", "libp2p", "trio", "rich"}


def test_node_and_client_load_no_torch() -> None:
    assert not imported("import p2pinfer.node.daemon, p2pinfer.client.api") & {"torch", "numpy", "safetensors"}


def test_a_client_loads_no_library_before_it_is_used() -> None:
    """A cold `ask` waits for every import."""
    assert not imported("import p2pinfer.client.api, p2pinfer.cli.ask") & {"tokenizers", "jinja2", "zeroconf", "rich"}


def test_loading_the_commands_loads_no_torch() -> None:
    assert "torch" not in imported("import " + ", ".join(module for module, _ in COMMANDS.values()))
