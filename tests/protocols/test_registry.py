"""registry.toml against the code, in both directions, and the tables of the specs against registry.toml."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any, Final

import pytest

from p2pinfer.core.models.manifest import Manifest
from p2pinfer.core.records.certificate import NodeCert, NodeRevoke
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.draw import Purpose
from p2pinfer.core.records.offer import Offer
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.records.statement import Header
from p2pinfer.core.values.codes import ANSWERS, Code
from p2pinfer.core.values.fields import Many, Struct, kinds_of
from p2pinfer.core.values.units import Codec, Numerics, Roles, row_bytes
from p2pinfer.core.wire import messages, session_messages
from p2pinfer.core.wire.message_codec import MESSAGES
from tests.protocols.reading import PROTOCOLS, REGISTRY, ROOT, SPECS, spelled, tables_with

SIGNED: Final = (NodeCert, NodeRevoke, Offer, Contract, Receipt, Header)
RECORDS: Final[dict[str, type[Any]]] = {
    **{shape.TYPE: shape for shape in SIGNED},
    "sampling": SamplingRecord,
    "manifest": Manifest,
}
# Every number these modules give a name is part of a protocol
WHOLE_MODULES: Final = (
    "core.wire.messages",
    "core.wire.session_messages",
    "core.wire.frames",
    "core.models.model_numbers",
    "core.records.sampling",
    "core.records.draw",
    "core.sessions.stage",
    "core.wire.pace",
    "node.session_deadlines",
    "overlay.limits",
    "overlay.degree",
    "core.swarm.moving",
)
VERSIONS: Final = ("VERSION", "NEW")  # of each format: in the first place of its array; and the mode there is


def sources() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in (ROOT / "p2pinfer").rglob("*.py")}


def constants_of(module: str) -> dict[str, object]:
    """The named numbers of a module, read from its source: nothing is imported that a test machine may lack."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if name.isupper() and value is not None:
                found[name] = value
    return {name: _number(module, name, value) for name, value in found.items()}


def _number(module: str, name: str, value: ast.expr) -> object:
    """The number, or a list of several, as the registry has it; None for anything else."""
    match value:
        case ast.Constant(value=int() | float() as number) if type(number) is not bool:
            return number
        case ast.Tuple(elts=[_, *_] as parts):
            numbers = [_number(module, name, part) for part in parts]
            return None if None in numbers else numbers
        case ast.BinOp():
            return getattr(importlib.import_module(module), name)
    return None


def test_every_message_is_registered_as_it_is() -> None:
    registered = {entry["number"]: (entry["name"], entry["fields"]) for entry in REGISTRY["messages"]}
    assert registered == {number: (shape.__name__, spelled(shape)) for number, shape in MESSAGES.items()}


def test_every_part_is_registered_as_it_is() -> None:
    known = {shape.__name__: shape for shape in parts_of(*MESSAGES.values(), *RECORDS.values())}
    assert {entry["name"]: entry["fields"] for entry in REGISTRY["parts"]} == {
        name: spelled(shape) for name, shape in known.items()
    }


def parts_of(*shapes: type[Any]) -> set[type[Any]]:
    """The dataclasses that stand in fields of `shapes`."""
    found: set[type[Any]] = set()
    for shape in shapes:
        for _, kind in kinds_of(shape):
            inner = kind.kind if isinstance(kind, Many) else kind
            if isinstance(inner, Struct):
                found |= {inner.shape, *parts_of(inner.shape)}
    return found


def test_every_record_is_registered_as_it_is() -> None:
    assert {entry["type"]: (entry["name"], entry["fields"]) for entry in REGISTRY["records"]} == {
        type_: (shape.__name__, spelled(shape)) for type_, shape in RECORDS.items()
    }


def test_every_kind_of_signed_record_is_known_here() -> None:
    declared = {
        name for text in sources().values() for name in re.findall(r"^class (\w+)\(Record\)", text, re.MULTILINE)
    }
    assert declared == {shape.__name__ for shape in SIGNED}


def test_every_code_is_registered_with_its_range() -> None:
    assert {entry["number"]: entry["name"] for entry in REGISTRY["codes"]} == {code.value: code.label for code in Code}
    for entry in REGISTRY["codes"]:
        assert entry["kind"] == kind_of(Code(entry["number"])), entry["name"]
        assert entry["meaning"], entry["name"]


def kind_of(code: Code) -> str:
    if code in ANSWERS:
        return "answer"
    if code in (Code.NONE, Code.UNKNOWN):
        return "none" if code is Code.NONE else "reading"
    return next(kind for limit, kind in ((16, "end"), (64, "failure"), (128, "refusal"), (255, "loss")) if code < limit)


def test_every_codec_is_registered_with_its_sizes() -> None:
    registered = {(entry["number"], entry["name"], entry["bit"]) for entry in REGISTRY["codecs"]}
    assert registered == {(codec.value, codec.label, codec.bit) for codec in Codec}
    for entry in REGISTRY["codecs"]:
        for width, size in entry["rows"].items():
            assert row_bytes(Codec(entry["number"]), int(width)) == size


def test_numerics_classes_roles_and_purposes_are_registered() -> None:
    assert {(e["number"], e["name"]) for e in REGISTRY["numerics"]} == {(n.value, n.label) for n in Numerics}
    assert {(e["bit"], e["name"].upper()) for e in REGISTRY["roles"]} == {(role.value, role.name) for role in Roles}
    assert {(e["number"], e["name"].upper()) for e in REGISTRY["purposes"]} == {(p.value, p.name) for p in Purpose}


def test_every_domain_in_the_code_is_registered() -> None:
    used = {f"p2pinfer/1/{shape.TYPE}" for shape in SIGNED}
    for text in sources().values():
        used |= set(re.findall(r'b"(p2pinfer/1/[a-z-]+)', text))
        used |= {f"p2pinfer/1/{name}" for name in re.findall(r'domain\("([a-z-]+)"\)', text)}
    assert {entry["domain"] for entry in REGISTRY["domains"]} == used


def test_every_protocol_id_in_the_code_is_registered() -> None:
    used = {id_ for text in sources().values() for id_ in re.findall(r'"(/p2pinfer/[^"{}]+)"', text)}
    assert {entry["id"] for entry in REGISTRY["protocols"]} == used


@pytest.mark.parametrize(
    "entry",
    [entry for entry in REGISTRY["constants"] if entry["where"]],
    ids=lambda entry: f"{entry['where']}.{entry['name']}",
)
def test_a_registered_constant_has_its_value_in_the_code(entry: dict[str, Any]) -> None:
    assert constants_of(entry["where"]).get(entry["name"]) == entry["value"]


@pytest.mark.parametrize("module", WHOLE_MODULES)
def test_every_number_of_a_protocol_module_is_registered(module: str) -> None:
    where = f"p2pinfer.{module}"
    registered = {entry["name"] for entry in REGISTRY["constants"] if entry["where"] == where}
    named = {name for name, value in constants_of(where).items() if value is not None}
    assert named - set(VERSIONS) == registered


@pytest.mark.parametrize("folder", ["core/models", "disk/importing"])
def test_every_limit_of_what_a_model_may_be_is_registered(folder: str) -> None:
    modules = [f"p2pinfer.{folder.replace('/', '.')}.{path.stem}" for path in (ROOT / "p2pinfer" / folder).glob("*.py")]
    found = {(module, name) for module in modules for name in constants_of(module) if name.startswith(("MAX_", "MIN_"))}
    assert found - {(entry["where"], entry["name"]) for entry in REGISTRY["constants"]} == set()


def test_messages_and_records_name_specs_that_exist() -> None:
    named = {entry["spec"] for table in ("messages", "parts", "records") for entry in REGISTRY[table]}
    assert {name for name in named if not (PROTOCOLS / name).exists()} == set()


@pytest.mark.parametrize("table", ["messages", "parts", "records", "domains"])
def test_every_name_stands_in_its_spec(table: str) -> None:
    missing = [
        f"{entry['spec']}: {name}"
        for entry in REGISTRY[table]
        for name in (
            entry.get("name", entry.get("domain")),
            *(field.split(":")[0] for field in entry.get("fields", ())),
        )
        if not re.search(rf"\b{re.escape(name)}\b", (PROTOCOLS / entry["spec"]).read_text(encoding="utf-8"))
    ]
    assert missing == []


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.name)
def test_tables_of_fields_in_a_spec_are_those_of_the_registry(spec: Path) -> None:
    """A table whose first columns are `field` and `kind` stands under a heading that ends in the name of its message,
    part or record."""
    registered = {
        entry["name"]: entry["fields"] for table in ("messages", "parts", "records") for entry in REGISTRY[table]
    }
    for heading, rows in tables_with(spec.read_text(encoding="utf-8"), "field", "kind"):
        name = re.sub(r" \(.*\)$", "", heading).split()[-1]
        assert [f"{row['field']}: {row['kind']}" for row in rows] == registered[name], heading


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.name)
def test_numbers_and_names_in_tables_of_a_spec_are_those_of_the_registry(spec: Path) -> None:
    text = spec.read_text(encoding="utf-8")
    for columns, table in (
        (("number", "message"), "messages"),
        (("number", "code"), "codes"),
        (("number", "codec"), "codecs"),
    ):
        registered = {str(entry["number"]): entry["name"] for entry in REGISTRY[table]}
        for _, rows in tables_with(text, *columns):
            assert [(row["number"], row[columns[1]]) for row in rows] == [
                (row["number"], registered.get(row["number"])) for row in rows
            ]


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.name)
def test_limits_in_tables_of_a_spec_are_those_of_the_registry(spec: Path) -> None:
    """A table whose first columns are `limit` and `value`; names in capitals are constants, others are of fields."""
    registered = {(entry["name"], numbers_of(entry["value"])) for entry in REGISTRY["constants"]}
    for _, rows in tables_with(spec.read_text(encoding="utf-8"), "limit", "value"):
        listed = {(row["limit"], numbers_in(row["value"])) for row in rows if row["limit"].isupper()}
        assert listed - registered == set()


def numbers_of(value: float | list[float]) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list) else (float(value),)


def numbers_in(cell: str) -> tuple[float, ...]:
    """`1,024`, `60 s`, `5 to 15 s` or `1, 10 and 60 s`."""
    return tuple(float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", cell))


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.name)
def test_a_spec_lists_every_one_of_its_limits(spec: Path) -> None:
    tables = tables_with(spec.read_text(encoding="utf-8"), "limit", "value")
    listed = {row["limit"] for _, rows in tables for row in rows}
    assert {entry["name"] for entry in REGISTRY["constants"] if entry["spec"] == spec.name} - listed == set()


def test_no_two_constants_have_one_name() -> None:
    names = [entry["name"] for entry in REGISTRY["constants"]]
    assert sorted(set(names)) == sorted(names)


def test_no_message_takes_a_number_of_another_use() -> None:
    assert 38 not in MESSAGES  # kept for drafts
    assert len(MESSAGES) == len({shape.__name__ for shape in MESSAGES.values()})
    assert all(0 < number < 128 for number in MESSAGES)  # one byte each: the reader looks at it before it unpacks


def test_the_longest_frames_fit_their_limit() -> None:
    assert session_messages.MAX_ROWS < messages.MAX_BODY
    assert 4 * session_messages.MAX_IDS < messages.MAX_BODY


@pytest.mark.parametrize("name", ["wire.md", "inference.md", "offer.md"])
def test_a_limit_of_a_protocol_stands_in_the_text_that_uses_it(name: str) -> None:
    """Not in the table of all limits alone."""
    chapters = re.split(r"^##+ ", (PROTOCOLS / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = "".join(chapter for chapter in chapters if "Deadlines and limits" not in chapter.partition("\n")[0])
    limits = [entry["name"] for entry in REGISTRY["constants"] if entry["spec"] == name]
    assert [limit for limit in limits if not re.search(rf"\b{limit}\b", text)] == []
