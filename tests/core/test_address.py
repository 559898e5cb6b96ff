"""Which addresses are dialled on whose word."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.swarm.address import endpoint_of, host_and_port, may_dial
from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.errors import UsageError

NAME = "12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust"
PUBLIC, PRIVATE, LINK, LOOPBACK = (
    Source("a", scope) for scope in (Scope.PUBLIC, Scope.PRIVATE, Scope.LINK, Scope.LOOPBACK)
)


@pytest.mark.parametrize(
    ("address", "ip", "port"),
    [
        ("/ip4/198.41.0.4/tcp/4001", "198.41.0.4", 4001),
        (f"/ip4/198.41.0.4/tcp/4001/p2p/{NAME}", "198.41.0.4", 4001),
        (f"/ip6/2a00::1/tcp/1/p2p/{NAME}", "2a00::1", 1),
    ],
)
def test_tcp_over_ip_is_an_address(address: str, ip: str, port: int) -> None:
    assert endpoint_of(address) == (ipaddress.ip_address(ip), port)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/",
        f"/ip4/198.41.0.4/udp/53/p2p/{NAME}",
        f"/ip4/198.41.0.4/udp/53/quic-v1/p2p/{NAME}",
        f"/dns4/car.example/tcp/4001/p2p/{NAME}",
        f"/dnsaddr/car.example/p2p/{NAME}",
        f"/ip4/2a00::1/tcp/4001/p2p/{NAME}",
        f"/ip6/198.41.0.4/tcp/4001/p2p/{NAME}",
        f"/ip6/fe80::1%1/tcp/4001/p2p/{NAME}",
        f"/ip6zone/1/ip6/fe80::1/tcp/4001/p2p/{NAME}",
        f"/ip4/300.1.1.1/tcp/4001/p2p/{NAME}",
        f"/ip4/0127.0.0.1/tcp/4001/p2p/{NAME}",
        f"/ip4/198.41.0.4/tcp/0/p2p/{NAME}",
        f"/ip4/198.41.0.4/tcp/65536/p2p/{NAME}",
        f"/ip4/198.41.0.4/tcp/-1/p2p/{NAME}",
        f"/ip4/198.41.0.4/tcp/４００１/p2p/{NAME}",
        f"/ip4/198.41.0.4/tcp/4001/ws/p2p/{NAME}",
        f"/ip4/198.41.0.4/tcp/4001/p2p/{NAME}/p2p-circuit",
        f" /ip4/198.41.0.4/tcp/4001/p2p/{NAME}",
        f"/ip4/198.41.0.4/tcp/4001/p2p/{NAME}\n",
    ],
)
def test_everything_else_is_none(address: str) -> None:
    assert endpoint_of(address) is None
    assert not may_dial(address, NOWHERE)


@pytest.mark.parametrize(
    ("ip", "words"),
    [
        ("/ip4/198.41.0.4", (PUBLIC, PRIVATE, LINK, LOOPBACK)),
        ("/ip6/2a00:1450::1", (PUBLIC, PRIVATE, LINK, LOOPBACK)),
        ("/ip4/192.168.0.1", (PRIVATE, LOOPBACK)),
        ("/ip4/100.64.0.1", (PRIVATE, LOOPBACK)),
        ("/ip6/fd00::1", (PRIVATE, LOOPBACK)),
        ("/ip4/169.254.169.254", (LINK, LOOPBACK)),
        ("/ip6/fe80::1", (LINK, LOOPBACK)),
        ("/ip4/127.0.0.1", (LOOPBACK,)),
        ("/ip6/::1", (LOOPBACK,)),
        ("/ip4/0.0.0.0", ()),
        ("/ip6/::", ()),
        ("/ip4/224.0.0.1", ()),
        ("/ip6/ff02::1", ()),
        ("/ip4/255.255.255.255", ()),
        ("/ip4/240.0.0.1", ()),
        ("/ip6/::ffff:198.41.0.4", ()),
        ("/ip6/::ffff:127.0.0.1", ()),
        ("/ip6/2002:7f00:1::1", ()),
        ("/ip6/2001:0:7f00:1::1", ()),
        ("/ip6/64:ff9b::7f00:1", ()),
    ],
)
def test_an_address_is_dialled_for_those_who_could_dial_it_themselves(ip: str, words: tuple[Source, ...]) -> None:
    """WIRE-19"""
    address = f"{ip}/tcp/4001/p2p/{NAME}"
    assert [word for word in (PUBLIC, PRIVATE, LINK, LOOPBACK) if may_dial(address, word)] == list(words)


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_none(text: str) -> None:
    may_dial(text, NOWHERE)
    may_dial(f"/ip4/{text}", NOWHERE)


# What a person writes


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/ip4/127.0.0.1/tcp/0", ("127.0.0.1", 0)),
        ("/ip4/192.0.2.1/tcp/65535/p2p/12D3KooW", ("192.0.2.1", 65_535)),
        ("/ip6/::/tcp/4001", ("::", 4001)),
        ("/ip6/2001:DB8:0::1/tcp/4001", ("2001:db8::1", 4001)),
        ("/dns/example.org/tcp/4001", ("example.org", 4001)),
        ("/dns4/localhost/tcp/4001", ("localhost", 4001)),
    ],
)
def test_host_and_port(address: str, place: tuple[str, int]) -> None:
    assert host_and_port(address) == place


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "not TCP over IP"),
        ("127.0.0.1:4001", "not TCP over IP"),
        ("/ip4/127.0.0.1/udp/4001/quic-v1", "not TCP over IP"),
        ("/ip4/127.0.0.1/tcp/4001/ws", "not TCP over IP"),
        ("/ip4/127.0.0.1/tcp/", "not TCP over IP"),
        ("/ip4/127.0.0.1/tcp/4001/p2p/", "not TCP over IP"),
        ("/ip4/127.0.0.1/tcp/4001\n", "not TCP over IP"),
        ("/ip6/fe80::1%eth0/tcp/4001", "not TCP over IP"),
        ("/dns/a b/tcp/4001", "not TCP over IP"),
        ("/ip4/127.0.0.1/tcp/65536", "port 65536, limit 65535"),
        ("/ip4/::1/tcp/4001", "::1 is no address of ip4"),
        ("/ip6/127.0.0.1/tcp/4001", "127.0.0.1 is no address of ip6"),
        ("/dns4/node..example/tcp/4001", "node..example is no name of a machine"),
        (f"/dns4/{64 * 'x'}.example/tcp/4001", "is no name of a machine"),
        ("/ip4/999.0.0.1/tcp/4001", "does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_no_host_and_port(address: str, why: str) -> None:
    with pytest.raises(UsageError, match=r"is no address like /ip4/127\.0\.0\.1/tcp/4001: ") as caught:
        host_and_port(address)
    assert why in str(caught.value)
