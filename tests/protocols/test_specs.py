"""The specs as texts: their chapters, their requirements and who quotes them, and what in them is drawn from code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from p2pinfer.core.sessions import generation, stage
from p2pinfer.core.sessions.stage_terms import Relation
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import SessionId
from p2pinfer.core.wire.message_codec import decode_message
from p2pinfer.core.wire.session_messages import Sampled
from tests.protocols import example
from tests.protocols.reading import PROTOCOLS, REGISTRY, ROOT, SPECS, tables_with

REQUIREMENT: Final = re.compile(r"\[([A-Z]+-\d+)\]")
ALWAYS: Final = ("Example", "Purpose", "Security", "Why", "Vectors", "Changes")
OF_A_PROTOCOL: Final = ("Id", "Messages", "States", "Deadlines and limits", "Codes", "Duties")
PROTOCOL_SPECS: Final = ("wire.md", "inference.md")
INFERENCE: Final = (PROTOCOLS / "inference.md").read_text(encoding="utf-8")
NAMES: Final = [path.name for path in SPECS]


def text_of(name: str) -> str:
    return (PROTOCOLS / name).read_text(encoding="utf-8")


def headings(text: str) -> list[str]:
    """Headings without their numbers."""
    return [re.sub(r"^[\d.]+ ", "", line) for line in re.findall(r"^##+ (.+)$", text, re.MULTILINE)]


def requirements(text: str) -> list[str]:
    """Ids of the requirements a spec makes."""
    return REQUIREMENT.findall(text)


def quoted() -> set[str]:
    """Ids of requirements that a test or a vector names, or that a Vectors chapter gives to a group of them."""
    files = [*ROOT.glob("tests/**/*.py"), *PROTOCOLS.glob("vectors/*.json")]
    found = {id_ for path in files for id_ in re.findall(r"[A-Z]{2,}-\d+", path.read_text(encoding="utf-8"))}
    for name in NAMES:
        vectors = PROTOCOLS / "vectors" / name.replace(".md", ".json")
        groups = json.loads(vectors.read_text(encoding="utf-8")) if vectors.exists() else {}
        for _, rows in tables_with(text_of(name), "group", "what is checked", "rules"):
            given = [row["rules"] for row in rows if set(row["group"].split(", ")) <= set(groups)]
            found |= set(expanded(", ".join(given)))
    return found


def expanded(rules: str) -> Iterator[str]:
    """`ID-1 to ID-3, ID-5`, one by one."""
    for prefix, first, last in re.findall(r"([A-Z]+)-(\d+)(?: to [A-Z]+-(\d+))?", rules):
        yield from (f"{prefix}-{number}" for number in range(int(first), int(last or first) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_opens_with_a_worked_example(name: str) -> None:
    assert headings(text_of(name))[0] == "Example"


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_has_its_chapters(name: str) -> None:
    wanted = (*ALWAYS, *OF_A_PROTOCOL) if name in PROTOCOL_SPECS else ALWAYS
    assert [chapter for chapter in wanted if chapter not in headings(text_of(name))] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_must_stands_in_a_numbered_requirement(name: str) -> None:
    """Or in the list that belongs to one; so does what a peer MAY do."""
    paragraphs = re.split(r"\n\s*\n(?!\s*(?:-|\d+\.) )|\n(?=\[[A-Z]+-\d+\])", text_of(name))
    assert [part for part in paragraphs if re.search("MUST|MAY", part) and not REQUIREMENT.search(part)] == []


@pytest.mark.parametrize("name", [*NAMES, "README.md"])
def test_a_spec_says_at_its_head_how_far_it_is(name: str) -> None:
    assert re.search(r"^Status: version \d", re.split(r"^## ", text_of(name), flags=re.MULTILINE)[0], re.MULTILINE)


@pytest.mark.parametrize("name", [*NAMES, "README.md"])
def test_a_spec_names_no_text_outside_its_folder(name: str) -> None:
    """But for those that README.md lists once, by their addresses."""
    known = {path.name for path in PROTOCOLS.iterdir()}
    assert set(re.findall(r"(?<![\w/])\w+\.md\b", text_of(name))) - known == set()
    assert not re.search(r"\b(DESIGN|STYLE|CONTRIBUTING)\b", text_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_numbered_from_one_without_gaps(name: str) -> None:
    numbers = sorted(int(id_.split("-")[1]) for id_ in requirements(text_of(name)))
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_every_requirement_is_quoted_by_a_test_or_a_vector(name: str) -> None:
    assert set(requirements(text_of(name))) - quoted() == set()


@pytest.mark.parametrize("name", PROTOCOL_SPECS)
def test_every_requirement_of_a_protocol_has_a_case(name: str) -> None:
    """By what the case says it is for: the field `rule`."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in PROTOCOLS.glob("vectors/*.json")]
    lists = [value for file in files for value in file.values() if isinstance(value, list)]
    rules = {case["rule"] for cases in lists for case in cases if isinstance(case, dict) and "rule" in case}
    assert set(requirements(text_of(name))) - rules == set()


def test_every_requirement_on_offers_has_a_group() -> None:
    groups = tables_with(chapter_on_vectors("offer.md"), "group", "what is checked", "rules")
    rules = {rule for _, rows in groups for row in rows for rule in expanded(row["rules"])}
    assert set(requirements(text_of("offer.md"))) - rules == set()


@pytest.mark.parametrize("name", sorted(path.stem for path in PROTOCOLS.glob("vectors/*.json")))
def test_every_list_of_vectors_and_every_field_of_a_case_is_described(name: str) -> None:
    """In the chapter Vectors of its spec, or in README.md."""
    vectors = json.loads((PROTOCOLS / "vectors" / f"{name}.json").read_text(encoding="utf-8"))
    chapter = chapter_on_vectors(vectors["spec"])
    told = set(re.findall(r"`([^`]+)`", chapter + chapter_on_vectors("README.md")))
    groups = {
        group
        for _, rows in tables_with(chapter, "group", "what is checked")
        for row in rows
        for group in row["group"].split(", ")
    }
    lists = {list_: value for list_, value in vectors.items() if isinstance(value, list)}
    named = {field for cases in lists.values() for field in fields_of(cases)}
    assert (set(lists) - groups - told, named - told) == (set(), set())


def chapter_on_vectors(name: str) -> str:
    return re.split(r"^## (?:[\d.]+ )?Vectors\n", text_of(name), flags=re.MULTILINE)[1]


BY_NAME: Final = ("fields", "keys", "left", "providers", "tensors", "messages", "variables", "waiting")


def fields_of(value: Any) -> set[str]:
    """Of all objects in a value, but for those by names that are no words of the format: of a message's fields, of
    peers, of tensors, of a chat's own."""
    if isinstance(value, list):
        return {field for one in value for field in fields_of(one)}
    if not isinstance(value, dict):
        return set()
    inner = {field for name, one in value.items() if name not in BY_NAME for field in fields_of(one)}
    return {*value, *inner}


@pytest.mark.parametrize("name", NAMES)
def test_every_requirement_that_is_referred_to_exists(name: str) -> None:
    known = {id_ for other in NAMES for id_ in requirements(text_of(other))}
    assert set(re.findall(r"\b(?:INF|ID|RCT|OFF|WIRE|MAN)-\d+", text_of(name))) - known == set()


def test_the_readme_lists_every_file() -> None:
    rows = next(rows for _, rows in tables_with(text_of("README.md"), "file", "what it fixes"))
    assert {row["file"] for row in rows} == {*NAMES, "registry.toml", "vectors/*.json"}


def test_the_readme_has_the_classes_of_the_registry() -> None:
    rows = next(rows for _, rows in tables_with(text_of("README.md"), "class", "name"))
    assert [(row["class"], row["name"]) for row in rows] == [
        (str(entry["number"]), entry["name"]) for entry in REGISTRY["numerics"]
    ]


def test_references_from_code_to_chapters_lead_somewhere() -> None:
    missing = []
    for path in (ROOT / "p2pinfer").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for name, chapter in re.findall(r'\b(\w+\.md), "([^"]+)"', source):
            if not any(chapter.lower() in heading.lower() for heading in headings(text_of(name))):
                missing.append(f"{path.name}: {name}, {chapter}")
    assert missing == []


def test_numbered_references_lead_somewhere() -> None:
    missing = []
    for path in (*(ROOT / "p2pinfer").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *PROTOCOLS.glob("*.md")):
        for name, number in re.findall(r"\b(\w+\.md), (\d+(?:\.\d+)?)\b", path.read_text(encoding="utf-8")):
            if not re.search(rf"^##+ {re.escape(number)}\.? ", text_of(name), re.MULTILINE):
                missing.append(f"{path.name}: {name}, {number}")
    assert missing == []


# inference.md


def test_the_example_of_inference_is_what_the_code_sends() -> None:
    assert re.search(r"```\n(head .*?)```", INFERENCE, re.DOTALL)[1].splitlines() == example.run()  # type: ignore[index]


def test_the_bytes_in_the_example_of_inference_are_a_message() -> None:
    written = re.search(r"`(97 25 [0-9a-f ]+)`", INFERENCE)
    assert written is not None
    message = decode_message(bytes.fromhex(written[1]))
    assert message == Sampled(SessionId(bytes(range(16))), 0, 0, 5, (21,), Code.NONE)


def test_the_states_of_a_session_in_the_spec_are_those_of_the_code() -> None:
    names = {
        Relation.CLIENT: "client",
        Relation.PREDECESSOR: "predecessor",
        Relation.SUCCESSOR: "successor",
        Relation.FAR_END: "far end",
    }
    assert state_table("A session, at a stage") == {
        (state.name.lower(), message.__name__): ", ".join(names[part] for part in parts)
        for (state, message), parts in stage.ALLOWED.items()
    }


def test_the_states_of_a_generation_in_the_spec_are_those_of_the_code() -> None:
    assert set(state_table("A generation, at its client")) == {
        (phase.name.lower(), message.__name__) for phase, message in generation.ALLOWED
    }


def state_table(heading: str) -> dict[tuple[str, str], str]:
    found = next(rows for title, rows in tables_with(INFERENCE, "state", "message") if heading in title)
    return {(row["state"], row["message"]): row["from"] for row in found}


@pytest.mark.parametrize("module", [stage, generation])
def test_the_drawing_of_states_in_the_code_stands_in_the_spec(module: Any) -> None:
    """By its states: the arrows are told in more words where there is room."""
    drawn = set(re.findall(r"\b[A-Z]{5,}\b", module.__doc__.split("\n\n")[-1]))
    assert drawn <= set(re.findall(r"\b[A-Z]{5,}\b", INFERENCE))


def test_every_refusal_in_the_spec_is_a_code() -> None:
    known = {entry["name"] for entry in REGISTRY["codes"]}
    rows = next(rows for _, rows in tables_with(INFERENCE, "refusal", "when"))
    assert {name.strip("` ") for row in rows for name in row["refusal"].split(",")} <= known


def test_vectors_name_only_requirements_that_exist() -> None:
    named = set(re.findall(r"INF-\d+", Path(PROTOCOLS / "vectors" / "inference.json").read_text(encoding="utf-8")))
    assert named <= set(requirements(INFERENCE))


# The examples of records


@pytest.mark.parametrize("name", ["receipts.md", "identity.md", "offer.md"])
def test_shortened_bytes_in_an_example_of_records_stand_in_the_vectors(name: str) -> None:
    example = re.split(r"^## ", text_of(name), flags=re.MULTILINE)[1]
    vectors = (PROTOCOLS / "vectors" / name.replace(".md", ".json")).read_text(encoding="utf-8")
    shortened = re.findall(r"\b([0-9a-f]{8})\.\.\.([0-9a-f]{6,8})\b", example)
    missing = [f"{a}...{b}" for a, b in shortened if not re.search(f"{a}[0-9a-f]*{b}", vectors)]
    assert (missing, len(shortened) > 0) == ([], True)
