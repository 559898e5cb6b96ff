"""protocols/vectors/codecs.json and sampler.json against the engine, and against the program that made them."""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pytest

from p2pinfer.core.records.draw import Sampling
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import Codec, row_bytes
from p2pinfer.engine.codecs import decode, encode
from p2pinfer.engine.sampler import draw_id
from tests.vectors.make_engine import FOLDER, codecs, render, sampler

Case = Mapping[str, Any]

ROWS: Final[list[Case]] = json.loads((FOLDER / "codecs.json").read_text(encoding="utf-8"))["cases"]
DRAWS: Final[list[Case]] = json.loads((FOLDER / "sampler.json").read_text(encoding="utf-8"))["cases"]
CODECS: Final = {codec.label: codec for codec in Codec}


def named(cases: list[Case]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


def test_making_the_vectors_again_gives_the_same_bytes() -> None:
    assert render(codecs()) == (FOLDER / "codecs.json").read_text(encoding="utf-8")
    assert render(sampler()) == (FOLDER / "sampler.json").read_text(encoding="utf-8")


def test_more_rows_are_refused_than_taken() -> None:
    assert sum(case["expect"] != "ok" for case in ROWS) > len(ROWS) / 2


def test_no_two_cases_have_one_name() -> None:
    for cases in (ROWS, DRAWS):
        assert len({case["name"] for case in cases}) == len(cases)


@pytest.mark.parametrize("case", named([case for case in ROWS if case["expect"] == "ok"]))
def test_good_rows_are_written_and_read(case: Case) -> None:
    codec, width = CODECS[case["codec"]], case["width"]
    values = np.frombuffer(bytes.fromhex(case["values"]), "<f4").reshape(-1, width)
    assert encode(values, codec).hex() == case["rows"]
    assert decode(bytes.fromhex(case["rows"]), codec, width).astype("<f4").tobytes().hex() == case["decodes"]
    assert len(case["rows"]) == 2 * len(values) * row_bytes(codec, width)


@pytest.mark.parametrize("case", named([case for case in ROWS if case["expect"] != "ok"]))
def test_bad_rows_are_refused(case: Case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(bytes.fromhex(case["rows"]), CODECS[case["codec"]], case["width"])
    assert caught.value.code == Code[case["expect"].upper().replace("-", "_")]


@pytest.mark.parametrize("case", named(DRAWS))
def test_an_id_is_drawn_as_the_vector_says(case: Case) -> None:
    logits = np.frombuffer(bytes.fromhex(case["logits"]), "<f4")
    parameters = [case[name] for name in ("temperature", "top_k", "top_p", "seed")]
    assert draw_id(logits, Sampling(*parameters), case["position"]) == case["id"]
