"""Which network an IP address belongs to, and from where it can be reached."""

import pytest

from p2pinfer.core.swarm.source import NOWHERE, Scope, Source, site_of, source_named, source_of


@pytest.mark.parametrize(
    ("text", "key", "scope"),
    [
        ("198.41.0.4", "198.41.0.4", Scope.PUBLIC),
        ("::ffff:198.41.0.4", "198.41.0.4", Scope.PUBLIC),
        ("127.3.2.1", "127.3.2.1", Scope.LOOPBACK),
        ("::1", "::/64", Scope.LOOPBACK),
        ("::ffff:127.0.0.1", "127.0.0.1", Scope.LOOPBACK),
        ("169.254.169.254", "169.254.169.254", Scope.LINK),
        ("fe80::1%eth0", "fe80::/64", Scope.LINK),
        ("10.1.2.3", "10.1.2.3", Scope.PRIVATE),
        ("100.64.1.1", "100.64.1.1", Scope.PRIVATE),
        ("fd00:1:2:3:4::5", "fd00:1:2:3::/64", Scope.PRIVATE),
        ("2a00:1450:4001:80b:1:2:3:4", "2a00:1450:4001:80b::/64", Scope.PUBLIC),
    ],
)
def test_an_address_comes_from_a_network(text: str, key: str, scope: Scope) -> None:
    assert source_of(text) == Source(key, scope)
    assert source_named(key) == Source(key, scope)


def test_whoever_has_one_ipv6_address_has_its_whole_network() -> None:
    assert source_of("2a00:1450:4001:80b::1") == source_of("2a00:1450:4001:80b:ffff:ffff:ffff:ffff")
    assert source_of("2a00:1450:4001:80b::1") != source_of("2a00:1450:4001:80c::1")


def test_what_has_no_name_comes_from_this_process() -> None:
    assert source_named("") == NOWHERE


def test_whoever_has_one_ipv6_address_may_have_the_networks_around_it() -> None:
    assert site_of(source_of("2a00:1450:4001:80b::1")) == site_of(source_of("2a00:1450:4001:80c::1"))
    assert site_of(source_of("2a00:1450:4001::1")) != site_of(source_of("2a00:1450:4002::1"))
    assert site_of(source_of("::ffff:198.41.0.4")) == source_of("198.41.0.4")
    assert site_of(NOWHERE) == NOWHERE
    assert site_of(source_of("::1")) == source_of("::1")


def test_a_site_is_found_by_its_key() -> None:
    site = site_of(source_of("2a00:1450:4001:80b::1"))
    assert site == Source("2a00:1450:4001::/48", Scope.PUBLIC)
    assert site_of(source_named(site.key)) == site
