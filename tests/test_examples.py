"""Every example runs, as a reader would run it: a process of its own, against a node that serves the real model."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pinfer.core.values.keys import peer_name
from p2pinfer.disk.store import Store, StoredModel
from tests.core.paid_route import CLIENT
from tests.live.processes import ENVIRONMENT, QUIETLY, NodeProcess, command, run_node

EXAMPLES = Path(__file__).parents[1] / "examples"
PATIENCE_S = 120.0


def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    quietly = QUIETLY if name in ("ask.py", "many_prompts.py") else ()
    words = [sys.executable, str(EXAMPLES / name), *map(str, arguments), *quietly]
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE_S, check=False)


@pytest.fixture(scope="module")
def node(demo_model: tuple[Store, StoredModel], tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """The whole demo model on one node."""
    store, model = demo_model
    options = ("--model", model.name, "--layers", f"0:{model.manifest.layers}", "--threads", "1")
    with run_node(tmp_path_factory.mktemp("examples") / "node", store.root, *options) as node:
        yield node


def test_every_example_has_a_test_here() -> None:
    tested = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tested] == []


def test_asking_prints_the_answer_and_its_speed(node: NodeProcess, tmp_path: Path) -> None:
    # an empty store: the tokenizer comes from the node
    run = run_example(
        "ask.py", node.address, "What is a car?", "--max-tokens", 8, "--data", tmp_path, "--store", tmp_path / "store"
    )
    assert run.returncode == 0, run.stderr
    answer, speed = run.stdout.strip().rsplit("\n", 1)
    assert answer
    assert speed.startswith("(8 tokens, ")


def test_many_prompts_are_answered_in_their_order(
    node: NodeProcess, demo_model: tuple[Store, StoredModel], tmp_path: Path
) -> None:
    prompts = ("The sea is", "The moon is", "A parked car is")
    run = run_example(
        "many_prompts.py",
        *(node.address, *prompts, "--max-tokens", 8, "--data", tmp_path, "--store", demo_model[0].root),
    )
    assert run.returncode == 0, run.stderr
    assert "24 tokens of 3 answers" in run.stdout
    answers = run.stdout.rindex("24 tokens")
    places = [run.stdout.rindex(prompt, 0, answers) for prompt in prompts]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["ask.py", "many_prompts.py"])
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nonsense", "the address 'nonsense' does not end in /p2p/"),
        ("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWbad", "12D3KooWbad"),
        (f"/ip4/127.0.0.1/tcp/1/p2p/{peer_name(CLIENT.public)}", "none of those named can be reached"),
    ],
)
def test_a_wrong_address_is_told_in_one_sentence(tmp_path: Path, name: str, address: str, words: str) -> None:
    run = run_example(name, address, "hello", "--data", tmp_path / "data", "--store", tmp_path / "store")
    assert run.returncode == 1
    assert run.stderr.startswith("Error: ")
    assert run.stderr.count("\n") == 1
    assert words in run.stderr


def test_two_stages_answer_in_memory_and_both_earn(demo_model: tuple[Store, StoredModel]) -> None:
    run = run_example("two_stages_in_memory.py", "--store", demo_model[0].root, "--max-tokens", 8)
    assert run.returncode == 0, run.stderr
    assert "layers 0:15 earned" in run.stdout
    assert "layers 15:30 earned" in run.stdout


@pytest.fixture(scope="module")
def statement(
    node: NodeProcess, demo_model: tuple[Store, StoredModel], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the node earned by one answer."""
    folder = tmp_path_factory.mktemp("statement")
    asked = ("ask", "A car is", "--max-tokens", "4", "--bootstrap", node.address)
    answered = command(*asked, "--data", folder / "client", "--store", demo_model[0].root)
    assert answered.returncode == 0, answered.stderr
    exported = command("earnings", "export", folder / "statement", "--data", node.log.parent / "node")
    assert exported.returncode == 0, exported.stderr
    return folder / "statement"


def test_a_statement_verifies_with_the_core_alone(statement: Path) -> None:
    run = run_example("verify_statement.py", statement)
    assert run.returncode == 0, run.stderr
    assert "every signature and every sum holds" in run.stdout
    assert "It does not prove:" in run.stdout


def test_a_statement_with_a_flipped_bit_does_not_verify(statement: Path, tmp_path: Path) -> None:
    altered = bytearray(statement.read_bytes())
    altered[len(altered) // 2] ^= 1
    (tmp_path / "altered").write_bytes(altered)
    run = run_example("verify_statement.py", tmp_path / "altered")
    assert run.returncode == 1
    assert run.stderr.startswith("not a valid statement: ")
    assert "Traceback" not in run.stderr
