"""protocols/vectors/wire.json against the code, and against the program that made it; the example of wire.md."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey, check_key, peer_name
from p2pinfer.core.values.units import Codec, ModelId, PeerKey, SessionId
from p2pinfer.core.wire.frames import FrameDecoder, encode_frame
from p2pinfer.core.wire.message_codec import decode_message, encode_message
from p2pinfer.core.wire.messages import AskOffers, Contacts, Goodbye, Hello, Offers, Ping, Pong
from p2pinfer.core.wire.pace import Pace
from p2pinfer.core.wire.session_messages import Forward
from p2pinfer.overlay.directory import model_key
from p2pinfer.overlay.libp2p.dht import Dht
from p2pinfer.overlay.libp2p.multistream import Acceptor
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from p2pinfer.overlay.pipe import Address, peer_of
from tests.protocols.reading import PROTOCOLS
from tests.vectors.make_wire import make, plain, render

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


@pytest.mark.parametrize("list_", [name for name, cases in VECTORS.items() if isinstance(cases, list)])
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
            assert abs(pace.window - step["window"]) <= 1  # by the arithmetic of binary64
            assert abs(pace.frame_budget - step["frame"]) <= 1
            assert round(pace.rate) == step["rate"]


def apply(pace: Pace, step: Case) -> None:
    """One step of a case at a sender."""
    if "sent" in step:
        pace.add_sent(step["sent"])
    elif "rtt_us" in step:
        pace.add_round_trip(step["rtt_us"] / 1e6)
    else:
        pace.add_ack(step["ack"], step["at_us"])


def measured(rate: int) -> Pace:
    """The pace of a link that carries so many bytes a second."""
    pace = Pace()
    if rate:
        pace.add_sent(3 * rate)
        pace.add_ack(0, 0)
        pace.add_ack(rate, 1_000_000)
    return pace


@pytest.mark.parametrize("case", [param for param in cases("cuts") if "row" in param.values[0]])
def test_rows_are_cut(case: Case) -> None:
    count, size = case["rows"], case["row"]
    whole = Forward(SessionId(bytes(16)), 0, 0, 7, count, 7 + count, Codec.F32, bytes(count * size))
    parts = list(whole.split(measured(case["rate"]).frame_budget))
    assert [part.count for part in parts] == case["forwards"]
    assert [part.position for part in parts] == [7 + sum(case["forwards"][:at]) for at in range(len(parts))]


@pytest.mark.parametrize("case", [param for param in cases("cuts") if "wanted" in param.values[0]])
def test_files_are_cut(case: Case) -> None:
    assert min(case["wanted"], measured(case["rate"]).frame_budget) == case["most"]


@pytest.mark.parametrize("case", cases("names"))
def test_only_the_peer_that_an_address_names_is_taken(case: Case) -> None:
    proven = bytes.fromhex(case["proven"])
    try:
        check_key(proven)
        closed = peer_of(Address(case["address"])) != proven
    except RemoteProtocolError:
        closed = True
    assert closed == (case["expect"] == "closed")


@pytest.mark.parametrize("case", cases("multistream"))
def test_other_protocols_are_answered(case: Case) -> None:
    said = bytearray()
    Acceptor("/p2pinfer/link/1", said.extend).receive(bytes.fromhex(case["says"]))
    assert said.hex() == case["hears"]


class Provider(NamedTuple):
    """A DHT host that answers after a while, or never."""

    peer_id: str
    answers_s: float | None


class FakeDht:
    """The DHT and its host, as far as a look-up needs them."""

    def __init__(self, providers: Mapping[str, float | None]) -> None:
        self.providers = [Provider(name, answers_s) for name, answers_s in providers.items()]

    def set_stream_handler(self, protocol: object, handler: object) -> None: ...

    def get_id(self) -> str:
        return "here"

    async def find_providers(self, key: str, count: int) -> list[Provider]:
        return self.providers

    async def connect(self, provider: Provider) -> None:
        await trio.sleep(math.inf if provider.answers_s is None else provider.answers_s)

    async def new_stream(self, name: str, protocols: object) -> "FakeStream":
        return FakeStream(f"/ip4/8.8.4.4/tcp/4001/p2p/{PEER_NAMES[name]}")


class FakeStream:
    def __init__(self, address: str) -> None:
        self.address = address

    async def read(self, size: int) -> bytes:
        return encode_frame(Contacts(0, (self.address,), ()))

    def get_remote_address(self) -> tuple[str, int]:
        return "8.8.8.8", 4001

    async def close(self) -> None: ...


PEER_NAMES: Final = {name: peer_name(PrivateKey(name.encode() * 32).public) for name in "abcde"}


@pytest.mark.parametrize("case", cases("lookups"))
async def test_a_look_up_waits_for_nobody(autojump_clock: MockClock, case: Case) -> None:
    fake: Any = FakeDht(case["providers"])
    dht, start = Dht(fake, fake, fake, ()), trio.current_time()
    for look in case["lookups"]:
        await trio.sleep_until(start + look["at_s"])
        found = await dht.find(bytes(32))
        assert sorted(found) == sorted(f"/ip4/8.8.4.4/tcp/4001/p2p/{PEER_NAMES[name]}" for name in look["found"])
        assert trio.current_time() - start - look["at_s"] == pytest.approx(look["took_s"])


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
