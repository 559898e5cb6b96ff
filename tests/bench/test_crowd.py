"""The simulated crowd is as good a network as the directory needs; its figures are another matter."""

import pytest

from p2pinfer.overlay.dialled import REDIAL_S, UNDIALLED_S
from p2pinfer.overlay.meeting import CALM_S
from tests.bench.crowd import measure


def test_a_small_crowd_knows_itself() -> None:
    seen = measure(8, settle_s=20.0, watch_s=10.0)
    assert seen.known == 7
    assert (seen.dead, seen.uncovered) == (0.0, 0)


def test_a_crowd_goes_on_while_nodes_die_without_a_word() -> None:
    seen = measure(12, a_minute=6, settle_s=30.0, watch_s=30.0)
    assert 0.0 < seen.dead < 1.0
    assert seen.degree > 1.0


@pytest.mark.parametrize("seed", range(4))
def test_no_node_is_dialled_by_nobody_though_none_is_drawn(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve that start in turn one or two dial all others, and nobody needs to dial them."""
    monkeypatch.setattr("p2pinfer.overlay.meeting.STRANGE_S", (1e9, 1e9))
    seen = measure(12, 0, UNDIALLED_S[0] + CALM_S + REDIAL_S, 10.0, seed)
    assert seen.undialled == 0
