"""What strangers may take (wire.md, 6.1 and 7.1): cases of protocols/vectors/wire.json, and who decides them."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.address import may_dial
from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.source import Source, source_of
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, Undialled
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.backlog import Backlog, LinkBacklog
from p2pinfer.overlay.crowd import Crowd
from p2pinfer.overlay.limits import (
    ALL_ASKS_BURST,
    ALL_ASKS_RATE,
    ALL_BACKLOG_BYTES,
    ALL_DIALS_BURST,
    ALL_DIALS_RATE,
    ALL_FILES_BURST,
    ALL_FILES_RATE,
    ALL_OPENS_BURST,
    ALL_OPENS_RATE,
    ASKS_BURST,
    ASKS_RATE,
    DIALS_BURST,
    DIALS_RATE,
    FILES_BURST,
    FILES_RATE,
    MAX_HANDSHAKES,
    NETWORK_HANDSHAKES,
    OPENS_BURST,
    OPENS_RATE,
)
from p2pinfer.overlay.reach import reach
from p2pinfer.overlay.room import HeldLink, room_for
from p2pinfer.overlay.word import Word
from tests.protocols.reading import PROTOCOLS

Case = Mapping[str, Any]

VECTORS: Final = json.loads((PROTOCOLS / "vectors" / "wire.json").read_text(encoding="utf-8"))
NOW_S: Final = 1000.0


def cases(list_: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in VECTORS[list_]]


@pytest.mark.parametrize("case", cases("dials"))
def test_what_is_dialled_on_the_word_of_others(case: Case) -> None:
    assert may_dial(case["address"], source_of(case["from"])) == (case["expect"] == "ok")


RATES: Final = {
    "dials": (Rate(DIALS_BURST, DIALS_RATE), Rate(ALL_DIALS_BURST, ALL_DIALS_RATE)),
    "files": (Rate(FILES_BURST, FILES_RATE), Rate(ALL_FILES_BURST, ALL_FILES_RATE)),
    "opens": (Rate(OPENS_BURST, OPENS_RATE), Rate(ALL_OPENS_BURST, ALL_OPENS_RATE)),
    "asks": (Rate(ASKS_BURST, ASKS_RATE), Rate(ALL_ASKS_BURST, ALL_ASKS_RATE)),
}


@pytest.mark.parametrize("case", cases("backlogs"))
def test_which_links_end_for_what_waits(case: Case) -> None:
    backlog, ended = Backlog(ALL_BACKLOG_BYTES), []
    for name, size in case["waiting"].items():
        LinkBacklog(backlog, partial(ended.append, name)).change(size)
    backlog.relieve()
    assert ended == case["ends"]


@pytest.mark.parametrize("case", cases("allowances"))
def test_how_often_others_have_us_dial(case: Case) -> None:
    allowance = Allowance(*RATES[case["of"]])
    for step in case["steps"]:
        source, now = source_of(step["from"]), NOW_S + step["at_s"]
        amount = case.get("each", 1)
        assert sum(allowance.take(source, now, amount) for _ in range(step["wanted"])) == step["begun"]


class FakeNetwork:
    """A network in which dials end as a case says."""

    def __init__(self, finds: str) -> None:
        self.finds = finds

    def link(self, peer: PeerKey) -> None:
        return None

    def dialable(self, peer: PeerKey, addresses: list[str], word: Source) -> bool:
        return any(may_dial(address, word) for address in addresses)

    async def reach(self, peer: PeerKey, addresses: list[str], word: Word) -> None:
        if self.finds == "silent":
            await trio.sleep_forever()
        if self.finds == "too many":
            raise Undialled("as the case says", Code.BUSY)
        raise LinkDead("as the case says", Code.BUSY if self.finds == "full" else Code.UNREACHABLE)


class FakeLink:
    def __init__(self, source: Source) -> None:
        self.source = source


@pytest.mark.parametrize("case", cases("told"))
async def test_what_is_told_of_a_dial(autojump_clock: MockClock, case: Case) -> None:
    network: Any = FakeNetwork(case["finds"])
    link: Any = FakeLink(source_of(case["from"]))
    start = trio.current_time()
    with pytest.raises(Refused) as caught:
        await reach(network, PeerKey(bytes(32)), case["addresses"], link)
    assert caught.value.code.label == case["told"]
    assert trio.current_time() - start == pytest.approx(case["after_s"])


@pytest.mark.parametrize("case", cases("rooms"))
def test_who_finds_room(case: Case) -> None:
    held = [
        HeldLink(
            PeerKey(bytes([number]) * 30 + count.to_bytes(2, "big")),
            source_of(line["from"]),
            NOW_S - line["age_s"],
            line["ours"],
            line["needed"],
        )
        for number, line in enumerate(case["links"])
        for count in range(line["count"])
    ]
    networks = {one.peer: one.source.key for one in held}
    for draw in (0.0, 0.3, 0.999):
        room = room_for(source_of(case["newcomer"]), held, NOW_S, draw)
        if case["expect"] in ("free", "busy"):
            assert (room.free, room.instead_of) == (case["expect"] == "free", None)
        else:
            assert room.instead_of is not None
            right = case["expect"] if isinstance(case["expect"], list) else [case["expect"]]
            assert networks[room.instead_of] in {source_of(one).key for one in right}


@pytest.mark.parametrize("case", cases("crowds"))
async def test_who_gives_way_half_way_in(case: Case) -> None:
    crowd = Crowd(NETWORK_HANDSHAKES, MAX_HANDSHAKES)
    came = [line["from"] for line in case["waiting"] for _ in range(line["count"])]
    with ExitStack() as stack:
        scopes = [stack.enter_context(crowd.entered(source_of(source))) for source in came]
        stack.enter_context(crowd.entered(source_of(case["newcomer"])))
        gone = [number for number, scope in enumerate(scopes) if scope.cancel_called]
    assert gone == ([came.index(case["gives_way"])] if case["gives_way"] else [])
