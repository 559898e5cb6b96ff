"""The table of `p2pinfer swarm`, where strangers write what they like into their offers."""

import pytest

from p2pinfer.cli.swarm import print_rows, short
from p2pinfer.cli.words import COLUMNS
from p2pinfer.core.values.keys import peer_name, short_name
from tests.core.paid_route import NODES

PEERS = [node.public for node in NODES]
U32 = (1 << 32) - 1


def row(peer: bytes, **changes: object) -> dict[str, object]:
    usual: dict[str, object] = {
        "peer": peer_name(peer),
        "model": "smollm2-135m-instruct",
        "model_id": "a1" * 32,
        "layers": [0, 30],
        "state": "serving",
        "until": None,
        "reachable": True,
        "decode_per_s": 840,
        "price_prefill": 20_000,
        "price_decode": 80_000,
        "price_sampled": 640_000,
    }
    return usual | changes


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (30, "30"),
        (999_999, "999999"),
        (20_000, "20k"),
        (1_500_000, "1.5M"),
        (3_000_000_000, "3G"),
        (1_234_567, "1.2M"),
        (U32, "4.3G"),
    ],
)
def test_numbers_are_short(number: int, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    "odd",
    [
        {"layers": [U32 - 1, U32]},
        {"decode_per_s": U32},
        {"price_prefill": U32, "price_decode": U32, "price_sampled": U32},
        {"model": "\u5e83" * 200},
        {"layers": [U32 - 1, U32], "decode_per_s": U32, "price_prefill": U32, "price_decode": U32, "model": ""},
    ],
)
def test_an_odd_offer_hides_nothing_of_the_others(odd: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([row(PEERS[0]), row(PEERS[1], **odd)])
    table = capsys.readouterr().out
    assert "…" not in table.replace(short_name(PEERS[0]), "").replace(short_name(PEERS[1]), "")
    for word in (short_name(PEERS[0]), short_name(PEERS[1]), "0:30", "serving", "840", "20k/80k/640k"):
        assert word in table
    assert max(map(len, table.splitlines())) <= COLUMNS


def test_a_node_that_cannot_be_reached_from_here_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([row(PEERS[0]), row(PEERS[1], reachable=False)])
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert "serving" in first
    assert "out of reach" in second
