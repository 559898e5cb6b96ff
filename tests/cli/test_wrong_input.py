"""What a newcomer gets wrong: every command answers with one sentence that helps, and never with a traceback."""

import io
import socket
import sys
from pathlib import Path

import pytest

from tests.cli.books import Shell
from tests.disk.tiny import tiny_folder

LONG = "x" * 300  # no file can be called so
PEER = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWCvoYyLFS37VaNfY8YuQ2WFBRWtwAG6kzcdaLmjyau4Kk"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file, a folder and settings files that are wrong in their ways."""
    (tmp_path / "file").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name, data in {
        "latin.toml": b'[serve]\nmodel = "caf\xe9"',
        "broken.toml": b"[serve",
        "number.toml": b"network = 5",
        "layers.toml": b'[serve]\nlayers = "5"',
        "threads.toml": b"[serve]\nthreads = 100000",
        "dear.toml": b"[prices]\nprefill = 10\ncached = 5",
        "listen.toml": b'[network]\nlisten = ["nonsense"]',
    }.items():
        (tmp_path / name).write_bytes(data)
    for name in ("node.lock", "client.lock"):  # where the process may not write
        (tmp_path / "taken" / name).mkdir(parents=True)
    tiny_folder(tmp_path / "Tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path


def check(p2pinfer: Shell, words: list[str], sentence: str) -> None:
    ran = p2pinfer(*words)
    *usage, last = ran.err.splitlines()
    assert (ran.code, ran.out) == (2, "")
    assert last.startswith("Error: ")
    assert sentence in last
    assert not usage or usage[0].startswith("Usage: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["import", "nowhere"], "'nowhere' is not there; a model comes from a GGUF file, a folder, `demo` or hub:"),
        (["import", "nowhere.gguf"], "'nowhere.gguf' is not there"),
        (["import", ""], "'' is not there"),
        (["import", LONG], "File name too long"),
        (["import", "/dev/null"], "is neither a file nor a folder"),
        (["import", "file"], "does not begin with GGUF"),
        (["import", "folder"], "cannot read folder/config.json"),
        (["import", "hub:"], "is not ORG/NAME"),
        (["import", "Tiny", "--store", "file"], "'file' is a file"),
        (["import", "Tiny", "--store", "file/store"], "cannot write the store: Not a directory"),
        (["import", "Tiny", "--store", LONG], "cannot write the store: File name too long"),
        (["import", "Tiny", "--store", "/proc/nowhere"], "cannot write the store"),
        (["list", "--store", "file/store"], "cannot read the store"),
        (["show", "tiny"], "which holds no model; import it: p2pinfer model import"),
        (["show", "tiny", "--store", "file/store"], "name another folder with --store"),
        (["show", "../../file"], "no model '../../file'"),
    ],
    ids=str,
)
def test_a_wrong_model(p2pinfer: Shell, words: list[str], sentence: str) -> None:
    check(p2pinfer, ["model", *words], sentence)


@pytest.mark.parametrize("command", [["config"], ["node"]], ids=str)
@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("nowhere.toml", "cannot read nowhere.toml: No such file"),
        ("folder", "'folder' is a directory"),
        ("latin.toml", "latin.toml is not text in UTF-8, byte 20 is wrong: save it as UTF-8"),
        ("broken.toml", "broken.toml is not TOML"),
        ("number.toml", "number.toml: network must be a section: [network]"),
        (
            "layers.toml",
            "layers.toml: layers '5' are not a span; write FIRST:LAST, the first below the last, for example 0:10",
        ),
        ("threads.toml", "threads.toml: serve.threads is 100000; it must be at most 1024"),
    ],
)
def test_a_wrong_file_of_settings(p2pinfer: Shell, command: list[str], file: str, sentence: str) -> None:
    check(p2pinfer, [*command, "--config", file], sentence)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--layers", "5"], "write FIRST:LAST, the first below the last, for example 0:10"),
        (["--layers", "5:4"], "are not a span"),
        (["--layers", "0:4"], "layers are given, and no model that has them: name it with --model"),
        (["--layers", "-1:4"], "are not a span"),
        (["--layers", f"{'9' * 5000}:{'9' * 5001}"], "are not a span"),
        (["--numerics", "int3"], "there are auto, f32-1, bf16-1"),
        (["--threads", "-1"], "-1 is not in the range"),
        (["--memory-mb", "5000000000"], "is not in the range"),
        (["--price-decode", "0.5"], "'0.5' is not a valid integer"),
        (["--config", "dear.toml", "--price-prefill", "4"], "prices.cached must not be above prices.prefill"),
        (["--threads", "many"], "'many' is not a valid integer"),
        (["--data", "file"], "'file' is a file"),
        (["--data", "file/data"], "cannot use the data folder file/data: Not a directory; name another with --data"),
        (["--data", "taken"], "cannot use the data folder taken: Is a directory"),
        (["--listen", "nonsense"], "'nonsense' is no address like /ip4/127.0.0.1/tcp/4001"),
        (["--config", "listen.toml"], "'nonsense' is no address like /ip4/127.0.0.1/tcp/4001"),
        (["--listen", "/ip4/127.0.0.1/tcp/99999"], "is no address like"),
        (["--listen", "/ip4/127.0.0.1/udp/1/quic-v1"], "not TCP over IP"),
        (["--model", "tiny", "--bootstrap", "nonsense"], "'nonsense'"),
        (["--model", "tiny"], "which holds no model; import it: p2pinfer model import"),
    ],
    ids=str,
)
def test_a_wrong_node(p2pinfer: Shell, words: list[str], sentence: str) -> None:
    check(p2pinfer, ["node", "--data", "data", *words], sentence)


def test_a_port_in_use_is_told(p2pinfer: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        check(p2pinfer, ["node", "--data", "data", "--listen", address], f"{address} is in use")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ask"], "Missing argument 'PROMPT'"),
        (["ask", "", "--bootstrap", PEER], "the prompt is empty"),
        (["ask", "\udcff", "--bootstrap", PEER], "the prompt is not Unicode text"),
        (["ask", "hello", "--max-tokens", "0"], "0 is not in the range"),
        (["ask", "hello", "--max-tokens", "-5"], "-5 is not in the range"),
        (["ask", "hello", "--max-tokens", "5000000000"], "is not in the range"),
        (["ask", "hello", "--temperature", "-1"], "-1.0 is not in the range"),
        (["ask", "hello", "--temperature", "nan", "--bootstrap", PEER], "cannot sample so"),
        (["ask", "hello", "--top-k", "-1"], "-1 is not in the range"),
        (["ask", "hello", "--top-p", "0"], "0.0 is not in the range"),
        (["ask", "hello", "--seed", "-1"], "-1 is not in the range"),
        (["ask", "hello", "--stop", "", "--bootstrap", PEER], "an empty stop string"),
        (["ask", "hello", "--max-cost", "-1"], "-1 is not in the range"),
        (["ask", "hello", "--max-cost", "0.5"], "'0.5' is not a valid integer"),
        (["ask", "hello", "--codec", "zip"], "'zip' is not one of 'f32', 'bf16', 'q8o4'"),
        (["ask", "hello", "--numerics", "int3"], "'int3' is not one of 'f32-1', 'bf16-1'"),
        (["ask", "hello", "--data", "file/data"], "cannot use the data folder file/data"),
        (["ask", "hello", "--data", LONG], "File name too long; name another with --data"),
        (["ask", "hello", "--data", "taken"], "cannot use the data folder taken: Is a directory"),
        (["ask", "hello", "--bootstrap", "nonsense"], "'nonsense'"),
        (["ask", "hello", "--bootstrap", "/ip4/127.0.0.1/tcp/4001"], "does not end in /p2p/ and the name of a peer"),
        (["swarm", "--bootstrap", "nonsense"], "'nonsense'"),
        (["swarm", "--data", "taken"], "cannot use the data folder taken"),
        (["demo", "--peers", "0"], "0 is not in the range"),
        (["demo", "--store", "file"], "'file' is a file"),
    ],
    ids=str,
)
def test_a_wrong_question(p2pinfer: Shell, words: list[str], sentence: str) -> None:
    check(p2pinfer, words, sentence)


@pytest.mark.parametrize(("words", "code"), [(["ask", "hello", "--wait", "0"], 2), (["swarm"], 1)], ids=str)
def test_a_peer_that_is_not_there_is_told(p2pinfer: Shell, words: list[str], code: int) -> None:
    ran = p2pinfer(*words, "--bootstrap", PEER, "--no-mdns")
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert "can be reached; check that they run, and the addresses given with --bootstrap" in ran.err


def test_a_prompt_from_a_file_that_is_no_text(p2pinfer: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), encoding="utf-8"))
    check(p2pinfer, ["ask", "-"], "standard input is not text in utf-8: byte 3 is wrong")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["earnings", "--data", "nowhere"], "there is no journal at nowhere/journal.sqlite"),
        (["earnings", "--data", "file/data"], "there is no journal at file/data/journal.sqlite"),
        (["earnings", "--data", LONG], "File name too long"),
        (["earnings", "--by", "colour"], "'colour' is not one of"),
        (["earnings", "--since", "yesterday"], "write 2026-11-30, or 7d"),
        (["earnings", "export", "folder"], "folder is a folder: give the name of a file"),
        (["earnings", "export", "nowhere/file"], "there is no folder nowhere: make it first"),
        (["earnings", "export", "file"], "file exists, and is not a statement of earnings: choose another name"),
        (["earnings", "export", LONG], "File name too long"),
        (["earnings", "export", "new", "--since", "2026-11-30", "--until", "2026-11-01"], "ends before it begins"),
        (["receipt", "show", "zz"], "give the first 4 hex digits of a contract's id"),
        (["receipt", "show", "abcd"], "name another with --data"),
        (["receipt", "show", "abcd", "--data", LONG], "File name too long"),
        (["statement", "verify", "nowhere"], "cannot read nowhere: No such file"),
        (["statement", "verify", "folder"], "'folder' is a directory"),
    ],
    ids=str,
)
def test_wrong_books(p2pinfer: Shell, words: list[str], sentence: str) -> None:
    check(p2pinfer, words, sentence)
