"""A look-up in the DHT: who provides a key, by the word of several hosts, and waiting for none (protocols/wire.md, 6).

libp2p's own answers out of the host's own records alone where there are any. There are after the first look-up, and
wherever the host itself provides the key or somebody left a record with it. It waits ten seconds for a host that is
silent, and stops at the first that names many. Here hosts are asked all at once, and what they name has turns.
"""

from collections.abc import Iterable, Sequence
from random import SystemRandom
from typing import Final

import trio
from libp2p.abc import IHost
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStoreError
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from p2pinfer.core.values.alternation import in_turn
from p2pinfer.core.wire.messages import MAX_ADDRESSES, MAX_TEXT
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.limits import DHT_ANSWER_BYTES

WALK_S: Final = 1.0  # for hosts to name providers; the rest of a look-up is for what these say
NEAR_HOSTS: Final = 6  # nearest to the key of those that answer: farther ones are not asked
NAMED_HOSTS: Final = 4  # of those that one names: it may make up any number
MAX_HOSTS: Final = 24  # that are asked in all
KEPT_S: Final = 120  # for which a host's addresses are kept that another host named
FORGET_S: Final = 300.0  # a DHT host that did not answer is not asked again for so long
MAX_SILENT: Final = 1_024  # DHT hosts that are remembered for that: anybody may name more, in any number
LOTS: Final = SystemRandom()


class SilentHosts:
    """DHT hosts that did not answer, by name. Each is one from when it was asked until it answers."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def __contains__(self, name: str) -> bool:
        since = self._since.get(name)
        return since is not None and trio.current_time() < since + FORGET_S

    def note_asked(self, name: str) -> None:
        self._since.pop(name, None)  # who is asked last stands last
        self._since[name] = trio.current_time()
        while len(self._since) > MAX_SILENT:
            del self._since[next(iter(self._since))]

    def note_answer(self, name: str) -> None:
        self._since.pop(name, None)


class Walk:
    """One walk to those near a key: hosts that we know are asked, and then nearer ones that these name.

    answered: hosts that did
    told:     the providers that each of them named
    """

    def __init__(self, host: IHost, key: bytes, silent: SilentHosts, wanted: int = NEAR_HOSTS) -> None:
        """wanted: so many hosts nearest to the key"""
        self.answered: list[ID] = []
        self.told: list[list[PeerInfo]] = []
        self._host = host
        self._key = key
        self._silent = silent
        self._wanted = wanted
        self._asked: set[ID] = set()

    async def run(self, known: Iterable[ID], walk_s: float = WALK_S) -> None:
        """Ask until there is nobody left to ask, or for so long. known: those to begin with, the nearest first

        Where nobody answers, our own line may be cut, or slow: then no host counts as silent.
        """
        with trio.move_on_after(walk_s):
            async with trio.open_nursery() as nursery:
                self._go_on(known, self._wanted, nursery)
        if not self.answered:
            for host in self._asked:
                self._silent.note_answer(str(host))

    def _go_on(self, hosts: Iterable[ID], count: int, nursery: trio.Nursery) -> None:
        """Ask so many of these, as far as they are near."""
        left = [one for one in dict.fromkeys(hosts) if one not in self._asked and str(one) not in self._silent]
        for one in left[: min(count, MAX_HOSTS - len(self._asked))]:
            if self._is_near(one):
                self._asked.add(one)
                nursery.start_soon(self._ask, one, nursery)

    def _is_near(self, host: ID) -> bool:
        """True if it may be one of those wanted; who does not answer may be made up, and is not among them."""
        order: list[ID] = sort_peer_ids_by_distance(self._key, [*self.answered, host])
        return order.index(host) < self._wanted

    async def _ask(self, host: ID, nursery: trio.Nursery) -> None:
        self._silent.note_asked(str(host))
        with Contained("a question to a DHT host"):  # libp2p raises whatever it likes for strangers' bytes
            answer = await self._answer_of(host)
            self._silent.note_answer(str(host))
            self.answered.append(host)
            self.told.append([_peer(one.id, one.addrs) for one in answer.providerPeers])
            named = {one.peer_id: one for one in (_peer(one.id, one.addrs) for one in answer.closerPeers)}
            named.pop(self._host.get_id(), None)
            nearest = sort_peer_ids_by_distance(self._key, list(named))[:NAMED_HOSTS]
            for one in nearest:
                if not self._is_known(one):  # else anybody could put other addresses in place of those that are right
                    self._host.get_peerstore().add_addrs(one, named[one].addrs, KEPT_S)
            self._go_on(nearest, NAMED_HOSTS, nursery)

    def _is_known(self, host: ID) -> bool:
        """True if we have addresses of a host."""
        try:
            return bool(self._host.get_peerstore().addrs(host))
        except PeerStoreError:
            return False

    async def _answer_of(self, host: ID) -> Message:
        question = Message(type=Message.MessageType.GET_PROVIDERS, key=self._key).SerializeToString()
        stream = await self._host.new_stream(host, [PROTOCOL_ID])
        try:
            await stream.write(encode_varint_prefixed(question))
            return Message.FromString(await read_varint_prefixed_bytes_limited(stream, DHT_ANSWER_BYTES))
        finally:
            await stream.close()


def _peer(name: bytes, addresses: Iterable[bytes]) -> PeerInfo:
    found = []
    for address in addresses:
        try:
            found.append(Multiaddr(str(Multiaddr(address))))  # bytes are looked at no sooner than they are written
        except (MultiaddrError, ValueError):
            continue  # others may be addresses
    return PeerInfo(ID(name), few(found))


def few(addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
    """The last of them, as many as a peer has, and none that is long."""
    return [one for one in addresses if len(one.to_bytes()) <= MAX_TEXT][-MAX_ADDRESSES:]


def taken_in_turn(told: Iterable[Sequence[PeerInfo]], count: int) -> list[PeerInfo]:
    """So many providers, those that each host named by lot and in turn: one that names many hides no other."""
    drawn = (LOTS.sample(named, len(named)) for named in told)
    found: dict[ID, PeerInfo] = {}
    for one in in_turn(drawn):
        found.setdefault(one.peer_id, one)
    return list(found.values())[:count]
