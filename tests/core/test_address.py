"""Which addresses are dialled on whose word."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.address import endpoint_of, may_dial
from p2pinfer.core.source import NOWHERE, Scope, Source

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
