"""protocols/vectors/wire.json against the code, and against the program that made it; the example of wire.md."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import RemoteProtocolError
from p2pinfer.core.frames import FrameDecoder
from p2pinfer.core.keys import PrivateKey
from p2pinfer.core.message_codec import decode_message, encode_message
from p2pinfer.core.messages import AskOffers, Goodbye, Hello, Offers, Ping, Pong
from p2pinfer.core.pace import Pace
from p2pinfer.core.units import ModelId, PeerKey
from p2pinfer.overlay.directory import model_key
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from tests.protocols.reading import PROTOCOLS
from tests.vectors.make_wire import apply, make, plain, render

Case = Mapping[str, Any]

FILE: Final = PROTOCOLS / "vectors" / "wire.json"
VECTORS: Final[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
LABELS: Final = {code.label for code in Code}
KEY, STRANGER = PrivateKey(bytes([1]) * 32).public, PrivateKey(bytes([2]) * 32).public


class Ignoring:
    """A receiver that takes everything."""

    def on_link(self, link: object) -> None: ...

    def on_message(self, link: object, message: object) -> None: ...

    def on_closed(self, link: object, why: object) -> None: ...

    def needed(self) -> tuple[PeerKey, ...]:
        return ()


def cases(list_: str, *, good: bool | None = None) -> list[Any]:
    """Cases of one list; with `good`, those taken or those refused."""
    chosen = [case for case in VECTORS[list_] if good is None or good == (case["expect"] not in LABELS)]
    return [pytest.param(case, id=case["name"]) for case in chosen]


def test_making_the_vectors_again_gives_the_same_bytes() -> None:
    assert render(make()) == Path(FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize("list_", ["messages", "streams", "links"])
def test_more_is_refused_than_taken(list_: str) -> None:
    refused = [case for case in VECTORS[list_] if case["expect"] in LABELS]
    assert len(refused) > len(VECTORS[list_]) / 2


@pytest.mark.parametrize("list_", ["messages", "streams", "links", "pace", "keys"])
def test_no_two_cases_have_one_name(list_: str) -> None:
    names = [case["name"] for case in VECTORS[list_]]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("case", cases("messages", good=True))
def test_a_message_is_read_and_written(case: Case) -> None:
    message = decode_message(bytes.fromhex(case["body"]))
    assert type(message).__name__ == case["expect"]
    assert {name: plain(getattr(message, name)) for name in case["fields"]} == case["fields"]
    assert encode_message(message).hex() == case["body"]


@pytest.mark.parametrize("case", cases("messages", good=False))
def test_a_bad_message_is_refused(case: Case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_message(bytes.fromhex(case["body"]))
    assert caught.value.code.label == case["expect"]


@pytest.mark.parametrize("portion", [1, 7, 1 << 20])
@pytest.mark.parametrize("case", cases("streams"))
def test_a_stream_is_read_up_to_its_fault(case: Case, portion: int) -> None:
    """WIRE-3, whatever portions the bytes come in."""
    decoder, read, end = FrameDecoder(), [], "ok"
    data = bytes.fromhex(case["bytes"])
    try:
        for at in range(0, len(data), portion):
            decoder.feed(data[at : at + portion])
            while (message := decoder.next_message()) is not None:
                read.append(type(message).__name__)
    except RemoteProtocolError as error:
        end = error.code.label
    assert (read, end) == (case["messages"], case["expect"])


@pytest.mark.parametrize("case", cases("links"))
async def test_a_dialler_gets_the_goodbye_it_earns(case: Case) -> None:
    world = MemoryWorld()
    async with open_memory_network(world, KEY, Ignoring()) as network:
        pipe = await MemoryGround(world, STRANGER).dial(network.addresses()[0])
        await pipe.write(b"".join(map(bytes.fromhex, case["says"])))
        decoder, heard = FrameDecoder(), []
        while not any(isinstance(message, Goodbye) for message in heard):
            decoder.feed(await pipe.read())
            heard += iter(decoder.next_message, None)
        await pipe.abort()
    assert [Code(message.code).label for message in heard if isinstance(message, Goodbye)] == [case["expect"]]


@pytest.mark.parametrize("case", cases("pace"))
def test_a_sender_keeps_to_the_window(case: Case) -> None:
    pace = Pace()
    for step in case["steps"]:
        if "expect" in step:
            with pytest.raises(RemoteProtocolError) as caught:
                apply(pace, step)
            assert caught.value.code.label == step["expect"]
        else:
            apply(pace, step)
            assert (pace.window, pace.frame_budget, round(pace.rate)) == (step["window"], step["frame"], step["rate"])


@pytest.mark.parametrize("case", cases("keys"))
def test_a_model_has_its_key_in_the_dht(case: Case) -> None:
    assert model_key(ModelId(bytes.fromhex(case["model"])), case["depth"]).hex() == case["key"]


def test_the_example_of_the_spec_is_what_it_says() -> None:
    example = re.search(r"```\n(dialler .*?)```", (PROTOCOLS / "wire.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    said: dict[str, list[Any]] = {}
    for line in example[1].splitlines():
        side, data = line.split(maxsplit=1)
        frame = bytes.fromhex(data)
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4, line
        said.setdefault(side, []).append(decode_message(frame[4:]))
    first, second = Hello(1, 0, 4 << 20, 1_700_000_000_000, bytes(16), "test"), bytes([1]) * 16
    assert said["dialler"] == [first, Ping(5), AskOffers(1, b"", 64)]
    assert said["other"] == [Hello(1, 0, 4 << 20, 1_700_000_000_000, second, "test"), Pong(5), Offers(1, ())]
