"""The demo, as a newcomer runs it: it says what it did, and what it did holds."""

import itertools
import json

import pytest

from p2pinfer.disk.store import Store, StoredModel

from .processes import command


@pytest.mark.parametrize("peers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_demo_answers_and_pays_and_equals_the_whole_model(
    demo_model: tuple[Store, StoredModel], peers: int
) -> None:
    store, model = demo_model
    result = command("demo", "--json", "--peers", peers, "--store", store.root)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    assert set(told) == {
        *("model", "text", "tokens", "tokens_per_second", "first_token_s"),
        *("stages", "verified", "matches_whole_model"),
    }
    assert told["model"] == model.name
    assert told["text"]
    assert told["verified"] is True
    assert told["matches_whole_model"] is True
    cuts = [30 * at // peers for at in range(peers + 1)]
    assert [stage["layers"] for stage in told["stages"]] == [[a, b] for a, b in itertools.pairwise(cuts)]
    assert all(stage["earned_ncr"] > 0 and stage["receipts"] > 0 for stage in told["stages"])
    assert len({stage["peer"] for stage in told["stages"]}) == peers
    assert "Traceback" not in result.stderr
