"""What only real sockets can show: ports, strangers, dead processes, and another implementation of libp2p."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, UsageError
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.wire.frames import FrameDecoder, encode_frame
from p2pinfer.core.wire.messages import AskContacts, Hello, Message
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from p2pinfer.overlay.libp2p.tcp import listen_tcp
from p2pinfer.overlay.limits import MAX_HANDSHAKES
from p2pinfer.overlay.network import Network

from .conftest import HELLO, KEYS, Collector

LOOPBACK = "/ip4/127.0.0.1/tcp/0"


@asynccontextmanager
async def open_one(number: int = 0) -> AsyncIterator[tuple[Network, Collector]]:
    collector = Collector()
    async with open_libp2p_network(KEYS[number], collector, Listening([LOOPBACK])) as network:
        yield network, collector


def port_of(network: Network) -> int:
    return int(network.addresses()[0].split("/")[4])


async def test_an_address_names_the_peer_by_its_libp2p_name() -> None:
    async with open_one() as (network, _):
        assert network.addresses()[0].endswith(f"/p2p/{peer_name(KEYS[0].public)}")


async def test_a_port_in_use_is_the_users_to_mend() -> None:
    async with open_one() as (network, _):
        address = network.addresses()[0].rpartition("/p2p/")[0]
        with pytest.raises(UsageError, match=f"{address} is in use.*give another port"):
            await listen_tcp(address)


@pytest.mark.parametrize("address", ["", "127.0.0.1:4001", "/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/300.1.1.1/tcp/1"])
async def test_what_is_no_address_is_the_users_to_mend(address: str) -> None:
    with pytest.raises(UsageError, match="no address like"):
        await listen_tcp(address)


async def test_listening_everywhere_gives_addresses_that_can_be_dialled() -> None:
    async with open_libp2p_network(
        KEYS[0], Collector(), Listening(["/ip4/0.0.0.0/tcp/0"], dht=False, mdns=False)
    ) as one:
        addresses = one.addresses()
    assert addresses[-1].startswith("/ip4/127.0.0.1/tcp/")
    assert not any("0.0.0.0" in address for address in addresses)


async def test_announced_addresses_stand_in_for_those_of_the_listeners() -> None:
    place = "/ip4/198.41.0.4/tcp/4001"
    async with open_libp2p_network(KEYS[0], Collector(), Listening([LOOPBACK], announce=[place])) as network:
        assert network.addresses() == (f"{place}/p2p/{peer_name(KEYS[0].public)}",)


@pytest.mark.parametrize(
    "place",
    [
        "/dns4/car.example/tcp/4001",
        "/ip4/198.41.0.4/udp/4001",
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/198.41.0.4/tcp/0",
        "here",
    ],
)
async def test_an_announced_address_that_nobody_could_dial_is_the_owners_to_mend(place: str) -> None:
    with pytest.raises(UsageError, match=r"nobody could dial .*, which is to be announced"):
        async with open_libp2p_network(KEYS[0], Collector(), Listening([LOOPBACK], announce=[place])):
            pytest.fail("it opened")


async def test_both_sides_know_the_network_at_the_other_end() -> None:
    async with open_one() as (network, collector), open_one(1) as (other, _):
        link = await other.dial(network.addresses()[0])
        await collector.wait_links(1)
        assert link.source == collector.links[0].source == Source("127.0.0.1", Scope.LOOPBACK)


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(5000), b"\x13/multistream/1.0.0\n\x07/noise\n"])
async def test_strangers_on_the_port_do_no_harm(data: bytes) -> None:
    async with open_one() as (network, collector):
        async with await trio.open_tcp_stream("127.0.0.1", port_of(network)) as stream:
            await stream.send_all(data)
            await stream.send_eof()
            while await stream.receive_some():
                pass
        async with open_one(1) as (other, _):
            await (await other.dial(network.addresses()[0])).send(AskContacts(1))
            assert await collector.next() == AskContacts(1)


async def test_who_answers_byte_by_byte_does_not_get_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte is no step: without that, a peer that sends one now and then would hold a dial up for ever."""
    monkeypatch.setattr("p2pinfer.overlay.dial.SILENT_S", 0.5)

    async def drip(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            for byte in b"\x13/multistream/1.0.0\n\x07/noise\n" + bytes(1_000):
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.05)

    async with open_one() as (network, _), trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, drip, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with pytest.raises(LinkDead, match="no answer from") as caught:
            await network.dial(f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_name(KEYS[1].public)}")
        assert caught.value.code is Code.UNREACHABLE
        nursery.cancel_scope.cancel()


async def test_those_who_connect_and_wait_keep_nobody_out() -> None:
    """WIRE-23"""
    async with open_one() as (network, collector), AsyncExitStack() as stack:
        half = [
            await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port_of(network)))
            for _ in range(MAX_HANDSHAKES + 72)
        ]
        for stream in half:
            with suppress(trio.BrokenResourceError):  # it had to give way already
                await stream.send_all(b"\x13/multistream/1.0.0\n\x07/noise\n")
        async with open_one(1) as (other, _):
            with trio.fail_after(2):
                await (await other.dial(network.addresses()[0])).send(AskContacts(1))
                assert await collector.next() == AskContacts(1)


async def test_a_listener_that_speaks_something_else_is_unreachable() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}/p2p/{peer_name(KEYS[1].public)}"

    async def greet_like_ssh(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.6\r\n")

    async with trio.open_nursery() as nursery, open_one() as (network, _):
        nursery.start_soon(trio.serve_listeners, greet_like_ssh, [listener])
        with pytest.raises(LinkDead) as caught:
            await network.dial(address)
        assert caught.value.code is Code.UNREACHABLE
        nursery.cancel_scope.cancel()


PEER_PROCESS = """
import sys, trio
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network

class Deaf:
    def on_link(self, link): pass
    def on_message(self, link, message): pass
    def on_closed(self, link, why): pass
    def needed(self): return ()

async def main():
    async with open_libp2p_network(PrivateKey(bytes([99]) * 32), Deaf(), Listening(["/ip4/127.0.0.1/tcp/0"])) as one:
        print(one.addresses()[0], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_a_killed_process_is_noticed_at_once(nursery: trio.Nursery) -> None:
    process = await trio.lowlevel.open_process([sys.executable, "-c", PEER_PROCESS], stdout=-1)
    assert process.stdout is not None
    address = (await process.stdout.receive_some()).decode().strip()
    async with open_one() as (network, collector):
        await network.dial(address)
        process.send_signal(signal.SIGKILL)
        why = await collector.wait_closed()
        assert why.code is Code.LOST
    await process.wait()
    await process.stdout.aclose()


async def test_libp2ps_own_host_can_open_a_link() -> None:
    """Noise, yamux and multistream-select as another implementation speaks them."""
    key_pair = create_new_key_pair(KEYS[3].seed)
    noise = NoiseTransport(key_pair, noise_privkey=create_x25519_key_pair().private_key)
    host = new_host(key_pair=key_pair, sec_opt={NOISE: noise}, muxer_opt={YAMUX: Yamux})
    async with open_one() as (network, collector), host.run(listen_addrs=[]):
        peer = info_from_p2p_addr(Multiaddr(network.addresses()[0]))
        await host.connect(peer)
        stream = await host.new_stream(peer.peer_id, ["/p2pinfer/link/1"])
        await stream.write(encode_frame(HELLO) + encode_frame(AskContacts(5)))
        assert await collector.next() == AskContacts(5)
        assert network.links()[0].peer == KEYS[3].public
        network.links()[0].send_nowait(AskContacts(6))
        heard = await hear_two(stream)
        assert isinstance(heard[0], Hello)
        assert AskContacts(6) in heard
        await host.close()


async def hear_two(stream: object) -> list[Message]:
    decoder, heard = FrameDecoder(), []
    while AskContacts(6) not in heard:
        decoder.feed(await stream.read(4096))  # type: ignore[attr-defined]
        heard += iter(decoder.next_message, None)
    return heard
