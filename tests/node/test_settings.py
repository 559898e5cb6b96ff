"""Settings: one file, checked, printed back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.values.errors import UsageError
from p2pinfer.node.settings import Settings, change, describe, read_settings


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_gives_the_defaults() -> None:
    assert read_settings(None) == Settings()


def test_what_is_printed_reads_back_as_it_was(tmp_path: Path) -> None:
    settings = change(Settings(), "network", listen=("/ip4/127.0.0.1/tcp/4001",), mdns=False)
    settings = change(settings, "serve", model='a "quoted\\ name', layers="3:7", threads=2)
    assert read_settings(written(tmp_path, describe(settings))) == settings


def test_every_setting_is_printed_with_help() -> None:
    lines = describe(Settings()).splitlines()
    values = [at for at, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert all(lines[at - 1].startswith("# ") for at in values)
    assert len(values) == 24


def test_an_option_that_was_not_given_changes_nothing() -> None:
    assert change(Settings(), "serve", model=None, layers=None) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[nodes]", r"unknown section \[nodes\]"),
        ("serve = 3", r"must be a section"),
        ("[serve]\nmodell = 'x'", r"unknown setting serve\.modell; there are model"),
        ("[serve]\nmodel = 3", r"serve\.model must be text in quotes"),
        ("[serve]\nthreads = '2'", r"serve\.threads must be a whole number"),
        ("[serve]\nthreads = true", r"serve\.threads must be a whole number"),
        ("[serve]\nthreads = -1", r"serve\.threads is -1"),
        ("[serve]\nnumerics = 'int3'", r"unknown numerics class 'int3'; there are auto, f32-1"),
        ("[serve]\nlayers = '10:3'", r"FIRST:LAST"),
        ("[serve]\ndevice = 'tpu'", r"unknown device 'tpu'; there are cpu, cuda, and cuda:N"),
        ("[network]\nlisten = '/ip4/127.0.0.1/tcp/0'", r"network\.listen must be a list"),
        ("[network]\nmdns = 1", r"network\.mdns must be true or false"),
        ("[trust]\nwindow = 100", r"at least 2 x max_chunk"),
        ("[trust]\ncadence = 1", r"window is 1024; it must be at most 256 x cadence = 256"),
        ("[trust]\ncadence = 0", r"trust\.cadence must be at least 1"),
        ("[trust]\nclient_window = 1", r"client_window"),
        ("[trust]\nstrangers_window = 8191", r"strangers_window is 8191; it must be at least 8 x window = 8192"),
        ("[serve]\nmax_sessions = 0", r"serve\.max_sessions must be at least 1"),
        ("[prices]\ncached = 30000", r"prices\.cached"),
        ("[serve", r"is not TOML"),
        ("[prices]\nflat = 4294967296", r"prices\.flat is 4294967296"),
        ("[prices]\nflat = " + "9" * 5000, r"a number in it is too long"),
        ("[prices]\nflat = 0x" + "9" * 5000, r"prices\.flat is a number of 20000 bits; it must be from 0"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_settings(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_settings(tmp_path / "absent.toml")


@given(st.text(max_size=40))
def test_any_text_reads_back(text: str) -> None:
    import tomllib

    model = "".join(char for char in text if char.isprintable())
    assert tomllib.loads(describe(change(Settings(), "serve", model=model)))["serve"]["model"] == model
