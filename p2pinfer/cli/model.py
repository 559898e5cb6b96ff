"""`p2pinfer model`: import models into the store, list them, show one, remove one."""

import json
import sys
from pathlib import Path

import click
from rich.table import Table

from p2pinfer.cli.bars import open_bars
from p2pinfer.cli.options import as_value, json_option, store_option
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import SHORT_ID
from p2pinfer.core.models.manifest import MAX_TEMPLATE, Manifest
from p2pinfer.core.records.draw import MILLIONTHS
from p2pinfer.core.values.errors import ModelError, UsageError
from p2pinfer.core.values.shown import shown_line
from p2pinfer.disk.demo import how_to_import
from p2pinfer.disk.import_trial import try_texts
from p2pinfer.disk.plain import read_small
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.disk.wishes import NO_WISHES, Wishes


@click.group()
def model() -> None:
    """Import, list, show and remove models.

    A model's id is the hash of everything in it: two machines that import the same model get the same id.
    """


@model.command("import")
@click.argument("source")
@click.option(
    "--name", default="", help="Call it so; the name is part of the model's id.  [default: the source's name]"
)
@click.option(
    "--template",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=lambda _ctx, _param, file: None if file is None else _text_of(file),
    metavar="FILE",
    help="Chat template in Jinja's language; it is part of the model's id.  [default: the source's own]",
)
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="KEY",
    help="Import a model whose configuration says KEY, which p2pinfer does not know; you say that it changes nothing.",
)
@click.option("--hub-endpoint", "endpoint", help="Address of the hub.  [default: the hub client's own]")
@store_option
@json_option
@as_value("wishes", Wishes, "name", "template", "ignored", "endpoint")
def import_(source: str, wishes: Wishes, store: Path, as_json: bool) -> None:
    """Import a model into the store.

    SOURCE is one of

    \b
      demo                  SmolLM2-135M-Instruct, to try things out
      PATH.gguf             a GGUF file
      FOLDER                a Hugging Face folder: config.json, tokenizer.json, *.safetensors
      hub:ORG/NAME[@REV]    a model on the Hugging Face hub

    Llama, Mistral, Qwen2 and Qwen3 models can be imported; their weights become bf16.
    """
    models = Store(store)
    stored = import_with_progress(source, models, wishes)
    if as_json:
        say(json.dumps(_brief(stored, models)))
    else:
        say(f"{stored.name}  {stored.id.hex()}")
        if stored.manifest.sampling:
            say(f"{stored.name} samples at {_sampling_words(stored.manifest)}, unless you ask otherwise", err=True)


def _sampling_words(manifest: Manifest) -> str:
    temperature, top_k, top_p = manifest.draw.temperature, manifest.draw.top_k, manifest.draw.top_p
    return f"temperature {temperature / MILLIONTHS:g}, top-k {top_k or 'all'}, top-p {top_p / MILLIONTHS:g}"


def _text_of(file: Path) -> str:
    try:
        return read_small(file, MAX_TEMPLATE).decode()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text in UTF-8, byte {error.start} is wrong") from None


def import_with_progress(source: str, store: Store, wishes: Wishes = NO_WISHES) -> StoredModel:
    """Import a model, with a bar on the terminal where there is one. Raises ModelError.

    A template that cannot render even the shortest chat is warned of.
    """
    try:
        from p2pinfer.disk.importing import Trials, import_model  # needs numpy, which not everybody installed
    except ModuleNotFoundError as missing:
        raise ModelError(f"importing needs {missing.name}; get it with: pip install 'p2pinfer[node]'") from None

    from p2pinfer.client.template_trial import try_template  # Jinja takes a while to import; help should not

    notes: list[str] = []
    faults: list[str] = []
    trials = Trials(try_texts, lambda template: faults.append(try_template(template)))
    with open_bars() as report:
        stored = import_model(source, store, wishes, report, notes.append, trials)
    for fault in filter(None, faults):
        text = "chats with this model will fail, plain prompts work; --template FILE gives another template"
        say(f"Warning: {shown_line(fault)}; {text}", err=True)
    for note in notes:
        say(f"{stored.name}: {shown_line(note)}", err=True)
    return stored


@model.command("list")
@store_option
@json_option
def list_(store: Path, as_json: bool) -> None:
    """List the models in the store."""
    models = Store(store)
    found = models.models()
    for folder in models.damaged():
        say(f"damaged, and not listed: {folder}", err=True)
    if as_json:
        say(json.dumps([_brief(stored, models) for stored in found]))
    elif found:
        _print_table(found, models)
    else:
        say(f"no models; import one: {how_to_import()}")


@model.command()
@click.argument("name")
@store_option
@json_option
def show(name: str, store: Path, as_json: bool) -> None:
    """Show a model by NAME or id: its numbers and its files."""
    models = Store(store)
    stored = models.find(name)
    facts = _facts(stored, models)
    if as_json:
        say(json.dumps(facts))
        return
    for key, value in facts.items():
        if key != "files":
            say(f"{key.replace('_', ' '):<14}{_words(value)}")
    say()
    for file in stored.manifest.files:
        here = "missing" if models.missing(stored.id, [file.name]) else ""
        say(f"{file.name:<24}{file.size:>15,}  {file.digest.hex()[:SHORT_ID]}  {here}".rstrip())


@model.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
def remove(name: str, yes: bool, store: Path) -> None:
    """Remove a model, by NAME or id, with all its files.

    A model that a node of this machine serves is not removed.
    """
    models = Store(store)
    stored = models.find(name)
    what = shown_line(f"{stored.name}  {stored.id.hex()}  {stored.manifest.size / 1e6:,.0f} MB")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"nobody is there to be asked: remove {what} with --yes")
        if not click.confirm(f"Remove {what}?", err=True):
            raise click.exceptions.Exit(1)
    models.remove(stored.id)
    say(f"removed {what}")


def _brief(stored: StoredModel, store: Store) -> dict[str, object]:
    manifest = stored.manifest
    missing = store.missing(stored.id, (file.name for file in manifest.files))
    return {
        "id": stored.id.hex(),
        "name": stored.name,
        "architecture": manifest.architecture,
        "layers": manifest.layers,
        "size": manifest.size,
        "complete": not missing,
    }


def _facts(stored: StoredModel, store: Store) -> dict[str, object]:
    manifest = stored.manifest
    files = [{"name": file.name, "size": file.size, "sha256": file.digest.hex()} for file in manifest.files]
    return {
        **_brief(stored, store),
        **{key: value for key, value in manifest.shape._asdict().items() if key != "layers"},
        "dtype": manifest.dtype,
        "tied": bool(manifest.tied),
        "flops": manifest.flops,
        "bos": list(manifest.bos),
        "ends": list(manifest.ends),
        "sampling": _sampling_words(manifest) if manifest.sampling else "greedy",
        "licence": manifest.licence,
        "chat": bool(manifest.template),
        "folder": str(stored.folder),
        "files": files,
    }


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print_table(models: list[StoredModel], store: Store) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("name", "id", "architecture"):
        table.add_column(column, no_wrap=True)
    for column in ("layers", "MB"):
        table.add_column(column, justify="right")
    table.add_column("")
    for stored in models:
        facts = _brief(stored, store)
        size = f"{stored.manifest.size / 1e6:,.0f}"
        state = "" if facts["complete"] else "in part"
        id_ = stored.id.hex()[:SHORT_ID]
        table.add_row(stored.name, id_, stored.manifest.architecture, str(stored.manifest.layers), size, state)
    Terminal().print(table)
