import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pinfer.cli.model import model
from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk.store import Store
from tests.disk.tiny import crashing_tokenizer, tiny_folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def tiny(tmp_path: Path, store: Path) -> str:
    """The id of a model in the store."""
    result = run("import", str(tiny_folder(tmp_path / "Tiny")), "--json", "--store", str(store))
    return str(json.loads(result.stdout)["id"])


def run(*words: str) -> Result:
    return CliRunner().invoke(model, words)


def test_an_import_prints_name_and_id(tmp_path: Path, store: Path, tiny: str) -> None:
    result = run("import", str(tmp_path / "Tiny"), "--store", str(store))
    assert (result.exit_code, result.stdout) == (0, f"tiny  {tiny}\n")


def test_a_given_name_is_used(tmp_path: Path, store: Path) -> None:
    result = run("import", str(tiny_folder(tmp_path / "Tiny")), "--name", "mine", "--store", str(store))
    assert result.stdout.startswith("mine  ")


def test_how_a_model_samples_is_said(tmp_path: Path, store: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    drawn = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "repetition_penalty": 1.05, "min_p": 0}
    (folder / "generation_config.json").write_text(json.dumps(drawn))
    result = run("import", str(folder), "--store", str(store))
    assert "tiny samples at temperature 0.6, top-k 50, top-p 0.95, unless you ask otherwise" in result.stderr
    assert "tiny: repetition_penalty is 1.05 in the model's files, which is not applied\n" in result.stderr
    assert "min_p" not in result.stderr
    assert "sampling      temperature 0.6, top-k 50, top-p 0.95" in run("show", "tiny", "--store", str(store)).stdout


def test_a_key_that_nobody_knows_is_ignored_by_the_word_of_the_owner(tmp_path: Path, store: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"secret_sauce": 3}))
    result = run("import", str(folder), "--store", str(store))
    assert "import it with --ignore secret_sauce" in str(result.exception)
    assert run("import", str(folder), "--ignore", "secret_sauce", "--store", str(store)).exit_code == 0


def test_a_model_whose_tokenizer_crashes_the_library_is_refused(tmp_path: Path, store: Path) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "tokenizer.json").write_bytes(crashing_tokenizer())
    result = run("import", str(folder), "--store", str(store))
    assert isinstance(result.exception, ModelError)
    assert "or crash what reads them" in str(result.exception)
    assert Store(store).models() == []


def test_the_list_is_a_table(store: Path, tiny: str) -> None:
    result = run("list", "--store", str(store))
    assert result.exit_code == 0
    assert [line.split()[:4] for line in result.stdout.splitlines()] == [
        ["name", "id", "architecture", "layers"],
        ["tiny", tiny[:12], "llama", "2"],
    ]


def test_the_list_is_json_for_programs(store: Path, tiny: str) -> None:
    (row,) = json.loads(run("list", "--json", "--store", str(store)).stdout)
    assert (row["id"], row["name"], row["layers"], row["complete"]) == (tiny, "tiny", 2, True)


def test_an_empty_list_says_how_to_import(store: Path) -> None:
    assert "p2pinfer model import demo" in run("list", "--store", str(store)).stdout


def test_an_empty_list_is_empty_json(store: Path) -> None:
    assert json.loads(run("list", "--json", "--store", str(store)).stdout) == []


def test_a_model_is_shown_with_its_files(store: Path, tiny: str) -> None:
    (store / "models" / tiny / "layer-001.safetensors").unlink()
    lines = run("show", "tiny", "--store", str(store)).stdout.splitlines()
    assert f"id            {tiny}" in lines
    assert "complete      no" in lines
    assert [line.split()[-1] for line in lines if line.startswith("layer-001")] == ["missing"]


def test_a_model_is_shown_as_json(store: Path, tiny: str) -> None:
    facts = json.loads(run("show", tiny[:10], "--json", "--store", str(store)).stdout)
    assert (facts["hidden"], facts["licence"], facts["ends"]) == (16, "apache-2.0", [259])
    assert [file["name"] for file in facts["files"]][:2] == ["config.json", "embedding.safetensors"]


def test_a_damaged_model_is_mentioned(store: Path, tiny: str) -> None:
    (store / "models" / tiny / "manifest").write_bytes(b"")
    result = run("list", "--json", "--store", str(store))
    assert json.loads(result.stdout) == []
    assert tiny in result.stderr


@pytest.mark.parametrize(
    "words", [["show", "other"], ["import", "nowhere"], ["import", "hub:a/b", "--hub-endpoint", "http://127.0.0.1:9"]]
)
def test_what_is_not_there_is_a_model_error(store: Path, words: list[str]) -> None:
    assert isinstance(run(*words, "--store", str(store)).exception, ModelError)


@pytest.mark.parametrize("words", [[], ["import"], ["list"], ["show"]], ids=str)
def test_every_command_has_help(words: list[str]) -> None:
    result = run(*words, "--help")
    assert (result.exit_code, "Usage:" in result.stdout) == (0, True)


# Templates


def test_a_template_that_cannot_be_read_is_a_warning(tmp_path: Path, store: Path) -> None:
    folder = tiny_folder(tmp_path / "odd")
    (folder / "chat_template.jinja").write_text("{% do x %}{{ messages }}")
    result = run("import", str(folder), "--store", str(store))
    assert result.exit_code == 0
    assert "Warning: the model's chat template is broken: Encountered unknown tag 'do'." in result.stderr
    assert "--template FILE" in result.stderr


def test_a_template_that_takes_no_chat_is_a_warning(tmp_path: Path, store: Path) -> None:
    folder = tiny_folder(tmp_path / "odd")
    (folder / "chat_template.jinja").write_text("{{ functions.name }}")
    assert "'functions' is undefined" in run("import", str(folder), "--store", str(store)).stderr


def test_a_template_that_fails_in_a_way_of_its_own_is_a_warning(tmp_path: Path, store: Path) -> None:
    folder = tiny_folder(tmp_path / "odd")
    (folder / "chat_template.jinja").write_text("{{ 'abcdef' | truncate(1) }}")
    result = run("import", str(folder), "--store", str(store))
    assert (result.exit_code, "Warning: the model's chat template does not take" in result.stderr) == (0, True)


def test_what_transformers_gives_to_templates_is_no_reason_to_warn(tmp_path: Path, store: Path) -> None:
    folder = tiny_folder(tmp_path / "date")
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%Y') }}{{ messages | tojson(ensure_ascii=false) }}")
    assert run("import", str(folder), "--store", str(store)).stderr == ""


def test_another_template_may_be_given(tmp_path: Path, store: Path, tiny: str) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages[0].content }}")
    result = run("import", str(tmp_path / "Tiny"), "--template", str(tmp_path / "mine.jinja"), "--store", str(store))
    assert (result.exit_code, result.stderr) == (0, "")
    assert tiny not in result.stdout


@pytest.mark.parametrize(("content", "reason"), [(None, "cannot read"), (b"\xff", "is not text in UTF-8")])
def test_a_template_must_be_a_text(tmp_path: Path, store: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "mine.jinja"
    if content is not None:
        path.write_bytes(content)
    result = run("import", str(tiny_folder(tmp_path / "Tiny")), "--template", str(path), "--store", str(store))
    assert reason in str(result.exception)


def test_a_token_without_a_row_keeps_the_model_out(tmp_path: Path, store: Path) -> None:
    path = tiny_folder(tmp_path / "pad") / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][-1], "id": 260, "content": "<|pad|>"})
    path.write_text(json.dumps(tokenizer))
    result = run("import", str(tmp_path / "pad"), "--store", str(store))
    assert "the tokenizer of pad has ids up to 260, its embedding 260 rows" in str(result.exception)


def test_a_model_is_removed_by_its_name(store: Path, tiny: str) -> None:
    result = run("remove", "tiny", "--yes", "--store", str(store))
    assert (result.exit_code, result.stdout) == (0, f"removed tiny  {tiny}  0 MB\n")
    assert json.loads(run("list", "--json", "--store", str(store)).stdout) == []


def test_nothing_is_removed_where_nobody_can_be_asked(store: Path, tiny: str) -> None:
    result = run("remove", "tiny", "--store", str(store))
    assert "with --yes" in str(result.exception)
    assert len(Store(store).models()) == 1
