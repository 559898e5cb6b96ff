"""Which strangers' models are asked for first: with the clock that jumps, and peers that the test makes up."""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.manifests import COME_S
from p2pinfer.client.models import Models
from p2pinfer.core.models.manifest import encode_manifest, model_id
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import ModelId, OwnerKey, Roles, Span
from p2pinfer.disk.store import Store
from p2pinfer.overlay.news import News
from tests.core.paid_route import certificate_for, key, offer_of
from tests.vectors.make_manifest import TINY

MANIFEST = encode_manifest(TINY)
HONEST = model_id(MANIFEST)


class Offers:
    """A directory that knows these offers, and hears of no others."""

    is_alone = False
    has_links = True

    def __init__(self, offers: list[KnownOffer]) -> None:
        self.news = News()
        self._offers = offers

    def offers(self, model: ModelId | None = None) -> list[KnownOffer]:
        return [known for known in self._offers if model in (None, known.offer.record.model)]

    async def look(self, _model: ModelId | None = None, widely: bool = False) -> list[KnownOffer]:
        await trio.lowlevel.checkpoint()
        return self._offers


class HonestFetcher:
    """One model has a manifest; who is asked for another one keeps silent."""

    farthest_s = 0.0

    def __init__(self) -> None:
        self.asked: list[ModelId] = []

    async def fetch(
        self, _peers: object, model: ModelId, _name: str, _limit: int, _check: Callable[[bytes], None]
    ) -> bytes:
        self.asked.append(model)
        if model != HONEST:
            await trio.sleep_forever()
        await trio.sleep(0.1)
        return MANIFEST


def offer(name: str, model: ModelId, network: str = "") -> KnownOffer:
    """By a node of that name and an owner of its own."""
    node, owner = key(name), OwnerKey(key(f"owner of {name}").public)
    certificate = certificate_for(node, not_after=int(time.time()) + 86_400)
    signed = offer_of(node, Span(0, 1), Roles.HEAD | Roles.TAIL, owner=owner, model=model)
    return KnownOffer(signed, certificate, (), 0.0, network)


def made_up(count: int) -> list[KnownOffer]:
    """Offers of as many models, each of two owners, and all heard from one network."""
    models = [ModelId(sha256(b"made up %d" % number).digest()) for number in range(count)]
    return [offer(f"{model.hex()} {twin}", model, "stranger") for model in models for twin in range(2)]


async def found_after(root: Path, nursery: trio.Nursery, offers: list[KnownOffer]) -> tuple[float, list[ModelId]]:
    """Seconds until the honest model is found by its name, and whose manifests were asked for."""
    fetcher = HonestFetcher()
    models = Models(Store(root), Offers(offers), fetcher, nursery)  # type: ignore[arg-type]
    began = trio.current_time()
    assert (await models.find(TINY.name)).id == HONEST
    return trio.current_time() - began, fetcher.asked


async def test_a_model_that_another_network_tells_of_is_asked_for_among_the_first(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    _, asked = await found_after(tmp_path, nursery, [*made_up(60), offer("honest", HONEST, "friend")])
    assert HONEST in asked[:2]


async def test_sixty_made_up_models_hide_an_honest_one_for_seconds_only(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    after_s, asked = await found_after(tmp_path, nursery, [*made_up(60), offer("honest", HONEST, "stranger")])
    assert asked[60] == HONEST
    assert after_s < 8


async def test_a_swarm_of_made_up_models_is_given_up_in_time(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with pytest.raises(ModelError, match="the manifest of 60 models on offer did not come in time"):
        await found_after(tmp_path, nursery, made_up(60))
    assert trio.current_time() < COME_S + 1
