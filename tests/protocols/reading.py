"""What the tests of the specs read: the registry, the specs and their tables, and the spelling of a field's kind."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from p2pinfer.core.records.terms import RolesKind, SpanKind
from p2pinfer.core.values.fields import Bin, Blob, FieldKind, Many, Struct, Text, UInt, UInts, Zero, kinds_of

ROOT: Final = Path(__file__).parents[2]
PROTOCOLS: Final = ROOT / "protocols"
REGISTRY: Final[dict[str, Any]] = tomllib.loads((PROTOCOLS / "registry.toml").read_text(encoding="utf-8"))
SPECS: Final = sorted(path for path in PROTOCOLS.glob("*.md") if path.name != "README.md")

Table = list[dict[str, str]]


def spell(kind: FieldKind) -> str:
    """A kind as the registry and the specs write it."""
    match kind:
        case UInt(bits):
            return f"uint {bits}"
        case Bin(size):
            return f"bin {size}"
        case Blob(limit):
            return f"bytes <= {limit}"
        case Text(limit):
            return f"text <= {limit}"
        case Zero(inner):
            return f"zero {spell(inner)}"
        case UInts(count, bits):
            return f"{count} x uint {bits}"
        case Many(inner, limit):
            return f"<= {limit} of {spell(inner)}"
        case Struct(shape):
            return str(shape.__name__)
        case SpanKind():
            return "span"
        case RolesKind():
            return "roles"
    raise TypeError(f"the registry has no word for {kind}")


def spelled(shape: type[Any]) -> list[str]:
    """The fields of a message, part or record, as the registry writes them."""
    return [f"{name}: {spell(kind)}" for name, kind in kinds_of(shape)]


def tables(text: str) -> list[tuple[str, Table]]:
    """Every table of a spec, with the heading it stands under; a row is its cells by the names of the columns."""
    found: list[tuple[str, Table]] = []
    heading = ""
    columns: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not cells:
            columns = []
        elif not columns:
            columns = cells
            found.append((heading, []))
        elif not re.fullmatch("[-:]+", cells[0]):
            found[-1][1].append(dict(zip(columns, cells, strict=False)))
    return found


def tables_with(text: str, *columns: str) -> list[tuple[str, Table]]:
    """Tables whose first columns are these."""
    return [(heading, rows) for heading, rows in tables(text) if rows and tuple(rows[0])[: len(columns)] == columns]
