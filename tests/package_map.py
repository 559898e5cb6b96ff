"""The map of the package in `p2pinfer/__init__.py`: every folder and file in a line.

python -m tests.package_map           prints lines that are missing or stale
python -m tests.package_map --write   mends the map: new files get the first words of their docstrings
"""

import re
import sys
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1] / "p2pinfer"
MAP: Final = PACKAGE / "__init__.py"
BEGIN: Final = "Every folder and file:\n"
WIDTH: Final = 26  # of names, with their indentation
MAX_LINE: Final = 120


def there() -> list[str]:
    """Return the folders, with a slash at the end, and files of the package, each folder before its files."""
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".c", ".h")]
    names = [f"{path.parent.relative_to(PACKAGE).as_posix()}/" for path in files if path.name == "__init__.py"]
    names += [path.relative_to(PACKAGE).as_posix() for path in files if path.name != "__init__.py"]
    names.remove("./")
    return sorted(names, key=lambda name: (name.rpartition("/")[0], name.rpartition("/")[2]))


def drawn() -> dict[str, str]:
    """Return what the map says of each folder and file, by its path."""
    found: dict[str, str] = {}
    folder = ""
    for line in _text().splitlines():
        name, _, words = line.strip().partition(" ")
        folder = name if name.endswith("/") else folder
        found[name if name == folder or not line.startswith("        ") else folder + name] = words.strip()
    return found


def lines(words: dict[str, str]) -> list[str]:
    """Return the map of what is there; files that it lacks have the words of their docstrings."""
    written = []
    for name in there():
        folder, _, file = name.rpartition("/")
        shown = f"    {name}" if not file or not folder else f"        {file}"
        written.append(f"{shown:<{WIDTH + 4}} {words.get(name) or first_words(name)}"[:MAX_LINE].rstrip())
    return written


def first_words(name: str) -> str:
    """Return the beginning of a file's first sentence, without what it refers to."""
    path = PACKAGE / name / "__init__.py" if name.endswith("/") else PACKAGE / name
    begin = re.match(r'\s*(?:r?"""|/\*)\s*(.*?)(?:\*/|"""|\n\n|\Z)', path.read_text(encoding="utf-8"), re.DOTALL)
    text = re.sub(r"\s+", " ", begin[1] if begin else "")
    text = re.split(r"[.:;](?:\s|$)| \(", text)[0]
    text = text if len(text) < MAX_LINE - WIDTH else text.partition(",")[0]
    return text if re.match("[A-Z][A-Z0-9]", text) else text[:1].lower() + text[1:]


def _text() -> str:
    return MAP.read_text(encoding="utf-8").partition(BEGIN)[2].partition('"""')[0].strip("\n")


def main() -> None:
    """Print what the map lacks and what it has too much; with --write, mend it."""
    words = drawn()
    for name in [name for name in there() if not words.get(name)]:
        sys.stdout.write(f"missing: {name}  {first_words(name)}\n")
    for name in sorted(set(words) - set(there())):
        sys.stdout.write(f"stale: {name}\n")
    if "--write" in sys.argv:
        before, _, rest = MAP.read_text(encoding="utf-8").partition(BEGIN)
        after = rest[rest.index('"""') :]
        MAP.write_text("\n".join([f"{before}{BEGIN}", *lines(words), after]), encoding="utf-8")


if __name__ == "__main__":
    main()
