"""The order in which our own addresses are told."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.swarm.own_address import OwnAddress, in_order

BRIDGES = [f"172.{number}.0.1/16" for number in range(17, 25)]


def own(text: str, **facts: bool) -> OwnAddress:
    interface = ipaddress.ip_interface(text)
    return OwnAddress(interface.ip, interface.network.prefixlen, **facts)


def order(*addresses: OwnAddress) -> list[str]:
    return [str(one.ip) for one in in_order(addresses)]


def test_the_default_route_comes_first_then_public_ones_then_others_and_bridges_and_loopback_last() -> None:
    found = order(
        own("127.0.0.1/8"),
        own("172.17.0.1/16", is_virtual=True),
        own("10.8.0.2/24"),
        own("2a00::7/64"),
        own("192.168.1.20/24", is_default=True),
    )
    assert found == ["192.168.1.20", "2a00::7", "10.8.0.2", "172.17.0.1", "127.0.0.1"]


def test_networks_of_containers_push_no_useful_address_out_whatever_their_interface_is_called() -> None:
    assert order(*map(own, [*BRIDGES, "192.168.1.20/24"]))[0] == "192.168.1.20"


def test_a_lan_that_looks_like_one_of_containers_is_believed_where_the_default_route_says_so() -> None:
    lan = own("172.17.0.1/16", is_default=True)
    assert order(own("10.0.0.5/24"), lan)[0] == "172.17.0.1"
    assert order(own("172.17.0.9/16"), own("172.18.0.1/16"))[0] == "172.17.0.9"  # a host of that LAN


def test_a_bridge_that_has_the_default_route_is_the_lan() -> None:
    assert order(own("10.0.0.5/24"), own("192.168.1.20/24", is_default=True, is_virtual=True))[0] == "192.168.1.20"


def test_link_local_addresses_are_told_to_nobody() -> None:
    assert order(own("169.254.3.4/16"), own("fe80::1/64"), own("fd00::2/64")) == ["fd00::2"]


@given(st.lists(st.ip_addresses()))
def test_any_addresses_have_an_order(ips: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    found = in_order(OwnAddress(ip, ip.max_prefixlen) for ip in ips)
    assert found == in_order(reversed(found))
    assert [one.ip.is_loopback for one in found] == sorted(one.ip.is_loopback for one in found)
