"""`p2pinfer config`: what it prints is a file that a node reads back as the same settings."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from p2pinfer.node.settings import SECTIONS, Settings, read_settings
from tests.cli.books import Shell


def test_the_defaults_are_a_file_to_begin_with(p2pinfer: Shell, tmp_path: Path) -> None:
    ran = p2pinfer("config")
    file = tmp_path / "node.toml"
    file.write_text(ran.out)
    assert (ran.code, read_settings(file)) == (0, Settings())


def test_every_setting_has_help_before_it(p2pinfer: Shell) -> None:
    lines = p2pinfer("config").out.splitlines()
    for section in SECTIONS.values():
        for item in fields(section):
            at = next(at for at, line in enumerate(lines) if line.startswith(f"{item.name} = "))
            assert lines[at - 1].startswith("# ")


def test_a_file_is_printed_as_it_is_read(p2pinfer: Shell, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        '[serve]\nmodel = "a \\"quoted\\" name"\n[prices]\nflat = 7\n[network]\nlisten = ["/ip4/127.0.0.1/tcp/1"]\n'
    )
    told = tomllib.loads(p2pinfer("config", "--config", file).out)
    assert (told["serve"]["model"], told["prices"]["flat"]) == ('a "quoted" name', 7)
    assert told["network"]["listen"] == ["/ip4/127.0.0.1/tcp/1"]
    assert told["prices"]["decode"] == 80_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[serve", "is not TOML"),
        ("threads = 1", "threads is a setting of a section: write [serve] in the line above it"),
        ("treads = 1", "unknown setting treads; there are the sections [network], [serve]"),
        ("a = " + "[" * 9999, "it nests too deep"),
        ('[network]\nbootstrap = ["foo"]', "'foo'"),
        ('[network]\nlisten = ["/ip4/0.0.0.0/udp/1"]', "is no address like"),
        ('[network]\nannounce = ["/dns4/example.org/tcp/1"]', "nobody could dial"),
        ("[sell]", "unknown section [sell]"),
        ("[serve]\nmodels = 1", "unknown setting serve.models"),
        ("[serve]\nmodel = 1", "serve.model must be text in quotes"),
        ("[serve]\nlayers = '3'", "write FIRST:LAST"),
        ("[serve]\nnumerics = 'int8'", "unknown numerics class"),
        ("[prices]\nflat = -1", "prices.flat is -1"),
        ("[prices]\ncached = 30000", "prices.cached must not be above"),
        ("[trust]\nwindow = 1", "trust.window is 1"),
        ("serve = 1", "serve must be a section"),
    ],
)
def test_a_wrong_file_is_a_usage_error_that_says_what_would_be_right(
    p2pinfer: Shell, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    ran = p2pinfer("config", "--config", file)
    assert (ran.code, ran.out) == (2, "")
    assert str(file) in ran.err
    assert words in ran.err


def test_a_file_that_is_not_there_is_a_usage_error(p2pinfer: Shell, tmp_path: Path) -> None:
    assert p2pinfer("config", "--config", tmp_path / "nowhere").code == 2
