"""A look-up in the DHT asks many hosts: it waits for none of them, and none hides what others say."""

from collections.abc import Mapping, Sequence
from typing import Any

import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStoreError
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr
from trio.testing import MockClock

from p2pinfer.core.values.keys import PEER_ID_PREFIX, peer_name
from p2pinfer.core.wire.frames import encode_frame
from p2pinfer.core.wire.messages import MAX_ADDRESSES, Contacts
from p2pinfer.overlay.libp2p.dht import Dht
from p2pinfer.overlay.libp2p.dht_lookup import (
    FORGET_S,
    MAX_HOSTS,
    NAMED_HOSTS,
    NEAR_HOSTS,
    WALK_S,
    SilentHosts,
    Walk,
    taken_in_turn,
)
from p2pinfer.overlay.limits import MAX_FOUND

from .conftest import KEYS

KEY = b"\x12\x20" + bytes(32)
PLACE = Multiaddr("/ip4/198.41.0.4/tcp/4001")


def id_of(number: int) -> ID:
    return ID(PEER_ID_PREFIX + number.to_bytes(32, "big"))


def providers(*numbers: int) -> list[PeerInfo]:
    return [PeerInfo(id_of(number), [PLACE]) for number in numbers]


class Hosts:
    """DHT hosts as one of them sees them. answers: what each says; who says nothing is silent"""

    def __init__(self, answers: Mapping[int, Message | bytes], delay_s: float = 0.1) -> None:
        self.answers = {id_of(number): answer for number, answer in answers.items()}
        self.delay_s = delay_s
        self.asked: list[ID] = []
        self.kept: dict[ID, Sequence[Multiaddr]] = {}

    def get_id(self) -> ID:
        return id_of(0)

    def get_peerstore(self) -> "Hosts":
        return self

    def add_addrs(self, host: ID, addresses: Sequence[Multiaddr], _ttl: int) -> None:
        self.kept[host] = addresses

    def addrs(self, host: ID) -> Sequence[Multiaddr]:
        if host not in self.kept:
            raise PeerStoreError
        return self.kept[host]

    async def new_stream(self, host: ID, _protocols: object) -> "Stream":
        self.asked.append(host)
        if host not in self.answers:
            await trio.sleep_forever()
        await trio.sleep(self.delay_s)
        answer = self.answers[host]
        body = answer if isinstance(answer, bytes) else answer.SerializeToString()
        return Stream(encode_varint_prefixed(body))


class Stream:
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def write(self, data: bytes) -> None: ...

    async def read(self, size: int) -> bytes:
        data, self.data = self.data[:size], self.data[size:]
        return data

    async def close(self) -> None: ...


def naming(told: Sequence[int] = (), closer: Sequence[int] = ()) -> Message:
    answer = Message(type=Message.MessageType.GET_PROVIDERS)
    for number in told:
        answer.providerPeers.add(id=id_of(number).to_bytes(), addrs=[PLACE.to_bytes()])
    for number in closer:
        answer.closerPeers.add(id=id_of(number).to_bytes(), addrs=[PLACE.to_bytes(), b"nonsense"])
    return answer


async def walk(hosts: Hosts, *near: int, silent: SilentHosts | None = None) -> list[set[ID]]:
    one = Walk(hosts, KEY, silent or SilentHosts())
    await one.run(map(id_of, near))
    return [{provider.peer_id for provider in named} for named in one.told]


async def test_hosts_are_asked_and_those_that_they_name(autojump_clock: MockClock) -> None:
    hosts = Hosts({1: naming(told=[100]), 2: naming(closer=[3]), 3: naming(told=[101, 102], closer=[0, 1, 2])})
    told = await walk(hosts, 1, 2)
    assert {id_of(100)} in told
    assert told[-1] == {id_of(101), id_of(102)}
    assert len(told) == 3
    assert trio.current_time() < WALK_S
    assert hosts.kept[id_of(3)] == [PLACE]
    assert id_of(0) not in hosts.asked


async def test_where_nobody_answers_nobody_is_silent(autojump_clock: MockClock) -> None:
    """WIRE-18"""
    hosts, silent = Hosts({}), SilentHosts()
    for _ in range(2):
        await walk(hosts, 1, 2, silent=silent)
    assert sorted(hosts.asked, key=str) == sorted([id_of(1), id_of(1), id_of(2), id_of(2)], key=str)


async def test_a_silent_host_holds_nobody_up_and_is_left_alone_for_a_while(autojump_clock: MockClock) -> None:
    """WIRE-18"""
    hosts, silent = Hosts({1: naming(told=[100])}), SilentHosts()
    assert await walk(hosts, 1, 2, silent=silent) == [{id_of(100)}]
    assert trio.current_time() == WALK_S
    assert await walk(hosts, 1, 2, silent=silent) == [{id_of(100)}]
    assert (hosts.asked.count(id_of(1)), hosts.asked.count(id_of(2))) == (2, 1)
    await trio.sleep_until(FORGET_S)
    assert await walk(hosts, 1, 2, silent=silent) == [{id_of(100)}]
    assert (hosts.asked.count(id_of(1)), hosts.asked.count(id_of(2))) == (3, 2)


async def test_a_host_that_makes_up_hosts_has_few_of_them_asked(autojump_clock: MockClock) -> None:
    liar = Hosts({1: naming(closer=range(500, 600)), 2: naming(told=[100])})
    await walk(liar, 1, 2)
    assert len(liar.asked) == 2 + NAMED_HOSTS
    assert len(liar.kept) == NAMED_HOSTS
    crowd = Hosts({number: naming(closer=range(100 * number, 100 * number + 30)) for number in range(1, 30)})
    await walk(crowd, *range(1, 30))
    assert NEAR_HOSTS < len(crowd.asked) <= MAX_HOSTS
    assert set(map(id_of, range(1, NEAR_HOSTS + 1))) <= set(crowd.asked)


async def test_no_more_hosts_are_asked_than_are_near(autojump_clock: MockClock) -> None:
    numbers = {id_of(number): number for number in range(1, 200)}
    order = [numbers[one] for one in sort_peer_ids_by_distance(KEY, list(numbers))]
    answers = {number: naming(told=[1_000 + number], closer=order) for number in order}
    near, far = Hosts(answers), Hosts(answers)
    await walk(near, *order[:50])
    assert set(near.asked) == set(map(id_of, order[:NEAR_HOSTS]))
    await walk(far, *order[-NEAR_HOSTS:])
    assert set(map(id_of, order[:NAMED_HOSTS])) <= set(far.asked)
    assert len(far.asked) <= NEAR_HOSTS + NAMED_HOSTS


async def test_a_host_that_is_known_keeps_the_addresses_that_it_has(autojump_clock: MockClock) -> None:
    hosts = Hosts({1: naming(closer=[2]), 2: naming(told=[100])})
    hosts.kept[id_of(2)] = [true := Multiaddr("/ip4/198.41.0.9/tcp/4001")]
    await walk(hosts, 1)
    assert hosts.kept[id_of(2)] == [true]
    assert id_of(2) in hosts.asked


async def test_nonsense_harms_nobody(autojump_clock: MockClock) -> None:
    hosts = Hosts({1: b"\xff\xff\xff", 2: b"", 3: naming(told=[100])})
    assert {id_of(100)} in await walk(hosts, 1, 2, 3)


def test_a_host_that_names_many_hides_no_other() -> None:
    told = [providers(*range(1_000)), providers(2_000), providers(3_000, 1)]
    found = {one.peer_id for one in taken_in_turn(told, MAX_FOUND)}
    assert len(found) == MAX_FOUND
    assert {id_of(2_000), id_of(3_000)} <= found


class Tellers:
    """The DHT, and hosts that say where a peer is: a liar at once, and the peer's own a moment later."""

    lie, truth = ([f"/ip4/8.8.{kind}.{n}/tcp/1/p2p/{peer_name(KEYS[0].public)}" for n in range(8)] for kind in (4, 8))

    def set_stream_handler(self, *_: object) -> None: ...

    def get_id(self) -> ID:
        return id_of(0)

    async def find_providers(self, _key: str, _count: int) -> list[PeerInfo]:
        return providers(1, 2)

    async def connect(self, provider: PeerInfo) -> None:
        await trio.sleep(0.1 if provider.peer_id == id_of(1) else 0.5)

    async def new_stream(self, name: ID, _protocols: object) -> "Told":
        return Told(encode_frame(Contacts(0, tuple(self.lie if name == id_of(1) else self.truth), ())))


class Told(Stream):
    def get_remote_address(self) -> tuple[str, int]:
        return "8.8.8.8", 4001


async def test_a_host_that_names_false_places_of_a_peer_hides_no_true_one(autojump_clock: MockClock) -> None:
    tellers: Any = Tellers()
    found = await Dht(tellers, tellers, tellers, ()).find(bytes(32))
    assert set(found[:MAX_ADDRESSES]) == {*Tellers.lie[: MAX_ADDRESSES // 2], *Tellers.truth[: MAX_ADDRESSES // 2]}
