"""The commands that write where their user says destroy nothing of ours."""

from pathlib import Path

import pytest

from tests.cli.books import Shell, node_folder, paid
from tests.disk.test_target import OURS


@pytest.mark.parametrize("name", [*(name for name in OURS if not name.startswith("client")), "client.sqlite"])
@pytest.mark.parametrize("words", [["backup"], ["earnings", "export"]], ids=" ".join)
def test_no_command_destroys_a_data_folder(p2pinfer: Shell, tmp_path: Path, words: list[str], name: str) -> None:
    data = node_folder(tmp_path / "data", [paid(1)])
    if not (data / name).exists() and "sqlite-" not in name:
        (data / name).touch()
    (tmp_path / "link").symlink_to(data / name)
    before = {path: path.read_bytes() for path in data.iterdir()}
    for file in (data / name, tmp_path / "link"):
        ran = p2pinfer(*words, file, "--force", "--data", data)
        assert (ran.code, "choose another name" in ran.err) == (2, True)
    assert {path: path.read_bytes() for path in data.iterdir()} == before


@pytest.mark.parametrize("words", [["backup"], ["earnings", "export"]], ids=" ".join)
def test_commands_replace_what_they_wrote_and_not_each_others(
    p2pinfer: Shell, tmp_path: Path, words: list[str]
) -> None:
    data = node_folder(tmp_path / "data", [paid(1)])
    for _ in range(2):
        assert p2pinfer(*words, tmp_path / "file", "--force", "--data", data).code == 0
    other = ["backup"] if words != ["backup"] else ["earnings", "export"]
    ran = p2pinfer(*other, tmp_path / "file", "--force", "--data", data)
    assert (ran.code, "choose another name, or remove it yourself" in ran.err) == (2, True)
