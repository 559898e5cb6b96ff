"""Cases of protocols/vectors/wire.json for what strangers may take: dials on their word, links, places half-way in.

Written by hand from wire.md, 6.1 and 7.1.
"""

from collections.abc import Iterator
from typing import Any

from p2pinfer.core.values.keys import PrivateKey, peer_name

Case = dict[str, Any]

NAME = peer_name(PrivateKey(bytes([1]) * 32).public)
PUBLIC, OTHER, PRIVATE, LOOPBACK, LINK = "8.8.8.8", "1.1.1.1", "192.168.7.9", "127.0.0.1", "169.254.3.4"


def dials() -> Iterator[Case]:
    """Whether an address is dialled on the word of a peer that comes from an address."""

    def at(place: str) -> str:
        return f"{place}/p2p/{NAME}"

    for name, address, source, expect in (
        ("a public address", at("/ip4/9.9.9.9/tcp/4001"), PUBLIC, "ok"),
        ("a public address of IPv6", at("/ip6/2620:fe::fe/tcp/4001"), PUBLIC, "ok"),
        ("a private address, from outside", at("/ip4/10.0.0.1/tcp/22"), PUBLIC, "no"),
        ("a private address, from a private network", at("/ip4/10.0.0.1/tcp/4001"), PRIVATE, "ok"),
        ("a private address, from this machine", at("/ip4/10.0.0.1/tcp/4001"), LOOPBACK, "ok"),
        ("a link-local address, from outside", at("/ip4/169.254.169.254/tcp/80"), PUBLIC, "no"),
        ("a link-local address, from a private network", at("/ip4/169.254.169.254/tcp/80"), PRIVATE, "no"),
        ("a link-local address, from one", at("/ip4/169.254.9.9/tcp/4001"), LINK, "ok"),
        ("loopback, from outside", at("/ip4/127.0.0.1/tcp/4001"), PUBLIC, "no"),
        ("loopback, from a private network", at("/ip4/127.0.0.1/tcp/4001"), PRIVATE, "no"),
        ("loopback of IPv6, from outside", at("/ip6/::1/tcp/4001"), PUBLIC, "no"),
        ("loopback, from this machine", at("/ip4/127.0.0.1/tcp/4001"), LOOPBACK, "ok"),
        ("multicast", at("/ip4/224.0.0.1/tcp/4001"), LOOPBACK, "no"),
        ("no address in particular", at("/ip4/0.0.0.0/tcp/4001"), PUBLIC, "no"),
        ("a reserved address", at("/ip4/240.0.0.1/tcp/4001"), PUBLIC, "no"),
        ("loopback of IPv4 within IPv6", at("/ip6/::ffff:127.0.0.1/tcp/4001"), PUBLIC, "no"),
        ("6to4", at("/ip6/2002:7f00:1::1/tcp/4001"), PUBLIC, "no"),
        ("a reserved address of IPv6", at("/ip6/4000::1/tcp/4001"), LOOPBACK, "no"),
        ("an address of IPv6 local to a site", at("/ip6/fec0::1/tcp/4001"), LOOPBACK, "no"),
        ("IPv4 behind a translator", at("/ip6/64:ff9b::7f00:1/tcp/4001"), LOOPBACK, "no"),
        ("Teredo", at("/ip6/2001:0:7f00:1::1/tcp/4001"), PUBLIC, "no"),
        ("multicast of IPv6", at("/ip6/ff02::1/tcp/4001"), LOOPBACK, "no"),
        ("a provider's own network, from outside", at("/ip4/100.64.0.1/tcp/4001"), PUBLIC, "no"),
        ("a provider's own network, from a private one", at("/ip4/100.64.0.1/tcp/4001"), PRIVATE, "ok"),
        ("an address for examples, from outside", at("/ip4/192.0.2.7/tcp/4001"), PUBLIC, "no"),
        ("an address of the protocols' own, from outside", at("/ip4/192.0.0.9/tcp/4001"), PUBLIC, "no"),
        ("an address for examples of IPv6, from outside", at("/ip6/3fff:1::1/tcp/4001"), PUBLIC, "no"),
        ("an address of the protocols' own of IPv6, from outside", at("/ip6/2001:20::1/tcp/4001"), PUBLIC, "no"),
        ("what was for 6to4 relays, from outside", at("/ip4/192.88.99.1/tcp/4001"), PUBLIC, "ok"),
        ("a private address of IPv6, from outside", at("/ip6/fd00::1/tcp/4001"), PUBLIC, "no"),
        ("a private address of IPv6, from one of IPv4", at("/ip6/fd00::1/tcp/4001"), PRIVATE, "ok"),
        ("a link-local address of IPv6, from one of IPv4", at("/ip6/fe80::1/tcp/4001"), LINK, "ok"),
        ("a private address, from a link-local one", at("/ip4/10.0.0.1/tcp/4001"), LINK, "no"),
        ("a port with a zero before it", at("/ip4/9.9.9.9/tcp/04001"), PUBLIC, "no"),
        ("no port", at("/ip4/9.9.9.9/tcp/"), PUBLIC, "no"),
        ("a number of an address with a zero before it", at("/ip4/9.9.9.09/tcp/4001"), PUBLIC, "no"),
        ("an address without a name", "/ip4/9.9.9.9/tcp/4001", PUBLIC, "ok"),
        ("a name", at("/dns4/car.example/tcp/4001"), PUBLIC, "no"),
        ("UDP", at("/ip4/9.9.9.9/udp/53"), PUBLIC, "no"),
        ("port 0", at("/ip4/9.9.9.9/tcp/0"), PUBLIC, "no"),
        ("a port beyond 16 bits", at("/ip4/9.9.9.9/tcp/65536"), PUBLIC, "no"),
        ("an address of IPv6 as IPv4", at("/ip4/2620:fe::fe/tcp/4001"), PUBLIC, "no"),
        ("an address through a relay", at("/ip4/9.9.9.9/tcp/4001/p2p-circuit"), PUBLIC, "no"),
        ("nothing", "", PUBLIC, "no"),
    ):
        yield {"name": name, "rule": "WIRE-19", "address": address, "from": source, "expect": expect}


def allowances() -> Iterator[Case]:
    """Dials on the word of networks, Opens or questions of theirs, or parts of files for them: at a time so many are
    wanted, and so many begin."""
    for name, steps in (
        ("one network, at once", [(0, PUBLIC, 20, 16)]),
        ("one network, and a second later", [(0, PUBLIC, 16, 16), (1, PUBLIC, 10, 4), (1, PUBLIC, 1, 0)]),
        ("a rest fills the burst, and no more", [(0, PUBLIC, 16, 16), (3600, PUBLIC, 20, 16)]),
        ("two networks", [(0, PUBLIC, 20, 16), (0, OTHER, 20, 16), (0, "9.9.9.9", 1, 0)]),
        ("all networks, and a second later", [*((0, f"9.9.9.{n}", 1, 1) for n in range(32)), (1, PUBLIC, 20, 16)]),
        ("addresses of one /64", [(0, "2620:fe::1", 10, 10), (0, "2620:fe::2", 10, 6)]),
        ("addresses of two /64", [(0, "2620:fe::1", 10, 10), (0, "2620:fe:0:1::1", 10, 10)]),
        ("this machine counts for all alone", [(0, LOOPBACK, 40, 32)]),
    ):
        looks = [{"at_s": at, "from": source, "wanted": wanted, "begun": begun} for at, source, wanted, begun in steps]
        yield {"name": name, "rule": "WIRE-20", "of": "dials", "steps": looks}
    for name, steps in (
        ("opens of one network, at once", [(0, PUBLIC, 130, 128)]),
        ("opens of one network, and a second later", [(0, PUBLIC, 128, 128), (1, PUBLIC, 40, 32)]),
        ("opens of two networks", [(0, PUBLIC, 130, 128), (0, OTHER, 130, 128), (0, "9.9.9.9", 1, 0)]),
        ("opens of this machine", [(0, LOOPBACK, 300, 256), (1, LOOPBACK, 100, 96)]),
    ):
        looks = [{"at_s": at, "from": source, "wanted": wanted, "begun": begun} for at, source, wanted, begun in steps]
        yield {"name": name, "rule": "WIRE-26", "of": "opens", "steps": looks}
    many = [(0, f"9.9.9.{n}", 64, 64) for n in range(4)]
    for name, steps in (
        ("questions of one network, at once", [(0, PUBLIC, 70, 64)]),
        ("questions of one network, and a second later", [(0, PUBLIC, 64, 64), (1, PUBLIC, 20, 16)]),
        ("questions of many networks", [*many, (0, PUBLIC, 9, 0), (1, PUBLIC, 70, 64)]),
        ("questions of this machine", [(0, LOOPBACK, 300, 256), (1, LOOPBACK, 100, 64)]),
    ):
        looks = [{"at_s": at, "from": source, "wanted": wanted, "begun": begun} for at, source, wanted, begun in steps]
        yield {"name": name, "rule": "WIRE-12", "of": "asks", "steps": looks}
    for name, steps in (
        ("bytes of files for one network, a MiB each", [(0, PUBLIC, 20, 16), (1, PUBLIC, 20, 8)]),
        ("bytes of files for many networks", [*((0, f"9.9.9.{n}", 16, 16) for n in range(4)), (1, PUBLIC, 40, 16)]),
        ("bytes of files for this machine", [(0, LOOPBACK, 80, 64), (1, LOOPBACK, 80, 32)]),
    ):
        looks = [{"at_s": at, "from": source, "wanted": wanted, "begun": begun} for at, source, wanted, begun in steps]
        yield {"name": name, "rule": "WIRE-27", "of": "files", "each": 1 << 20, "steps": looks}


def backlogs() -> Iterator[Case]:
    """Bytes that wait on links, and which links end for it."""
    most = 67_108_864
    for name, waiting, ends in (
        ("no more than may wait", {"a": most // 2, "b": most // 2}, []),
        ("a byte more", {"a": most // 2, "b": most // 2 + 1}, ["b"]),
        (
            "many that keep little, and one that keeps much",
            {"a": 9 << 20, **{f"{n}": 2 << 20 for n in range(30)}},
            ["a"],
        ),
        ("two have to end", {"a": 40 << 20, "b": 50 << 20, "c": 30 << 20}, ["b", "a"]),
    ):
        yield {"name": name, "rule": "WIRE-25", "waiting": waiting, "ends": ends}


def told() -> Iterator[Case]:
    """What a peer hears of a dial on its word, and when. finds: what is there."""
    good, bad = f"/ip4/9.9.9.9/tcp/4001/p2p/{NAME}", f"/ip4/127.0.0.1/tcp/22/p2p/{NAME}"
    for name, addresses, finds, code, after_s in (
        ("nothing that may be dialled", [bad], "refused", "unreachable", 0.0),
        ("no address", [], "refused", "unreachable", 0.0),
        ("somebody refuses", [good], "refused", "unreachable", 8.0),
        ("nobody answers", [good], "silent", "unreachable", 8.0),
        ("one that may not be dialled and one that may", [bad, good], "refused", "unreachable", 8.0),
        ("somebody has no room for a link", [good], "full", "unreachable", 8.0),
        ("too many dials", [good], "too many", "busy", 0.0),
    ):
        case = {"name": name, "rule": "WIRE-21", "from": PUBLIC, "addresses": addresses, "finds": finds}
        yield {**case, "told": code, "after_s": after_s}


def rooms() -> Iterator[Case]:
    """Links there are, and whether a newcomer finds room: at once, in place of one of a network, or not (`busy`).

    A line of links: from a network so many, for so many seconds, dialled from here, and whether they are needed.
    """

    def line(source: str, count: int, age_s: float = 60, *, ours: bool = False, needed: bool = False) -> Case:
        return {"from": source, "count": count, "age_s": age_s, "ours": ours, "needed": needed}

    many = [line("9.9.0.9", 63), *(line(f"9.9.{n}.9", 60) for n in range(1, 17)), line(OTHER, 1)]  # 1,024
    busy = [line("9.9.0.9", 60, needed=True), line("9.9.0.9", 4), *(line(f"9.9.{n}.9", 60) for n in range(1, 15))]
    busy += [line("9.9.99.9", 61), line(OTHER, 59)]  # 1,024
    for name, links, newcomer, expect in (
        ("nobody is there", [], PUBLIC, "free"),
        ("the network with most links has fewer that may give way", busy, PUBLIC, "9.9.99.9"),
        ("all links were dialled", [line(LOOPBACK, 1024, ours=True)], PUBLIC, LOOPBACK),
        ("a network has one link less than its share", [line(PUBLIC, 63)], PUBLIC, "free"),
        ("a network has its share", [line(PUBLIC, 64), line(OTHER, 3)], PUBLIC, PUBLIC),
        ("another network has its share", [line(PUBLIC, 64)], OTHER, "free"),
        ("a network has its share, and all are needed", [line(PUBLIC, 64, needed=True)], PUBLIC, "busy"),
        ("a network has its share, and all are new", [line(PUBLIC, 64, 1.9)], PUBLIC, "busy"),
        ("a network has its share, and all are as old as they must be", [line(PUBLIC, 64, 2.0)], PUBLIC, PUBLIC),
        (
            "all links are taken, and a network has its share",
            [line(PUBLIC, 64), line(LOOPBACK, 960)],
            PUBLIC,
            PUBLIC,
        ),
        (
            "two networks have most links that may give way",
            [line(LOOPBACK, 964, needed=True), line("9.9.0.9", 25), line("2620:fe::9", 25), line(OTHER, 10)],
            PUBLIC,
            ["9.9.0.9", "2620:fe::9"],
        ),
        (
            "a network has its share, one of them not needed",
            [line(PUBLIC, 63, needed=True), line(PUBLIC, 1)],
            PUBLIC,
            PUBLIC,
        ),
        ("all links are taken", many, PUBLIC, "9.9.0.9"),
        ("all links are taken, by one machine", [line(LOOPBACK, 1024)], PUBLIC, LOOPBACK),
        ("all links are taken and needed", [line(LOOPBACK, 1024, needed=True)], PUBLIC, "busy"),
        ("links that were dialled stay", [line(LOOPBACK, 1000, ours=True), line(OTHER, 24)], PUBLIC, OTHER),
        ("this machine has no share of its own", [line(LOOPBACK, 1023)], LOOPBACK, "free"),
    ):
        yield {"name": name, "rule": "WIRE-22", "links": links, "newcomer": newcomer, "expect": expect}


def crowds() -> Iterator[Case]:
    """Those half-way in, in the order in which they came, and of which network the first gives way to a newcomer."""
    crowded = [(OTHER, 31), ("9.9.9.9", 31), ("9.9.9.7", 32), ("9.9.9.6", 31), ("9.9.9.5", 3)]
    tied = [(OTHER, 1), ("9.9.9.9", 31), (OTHER, 30), ("9.9.9.7", 30), ("9.9.9.6", 30), ("9.9.9.5", 6)]
    even = [("9.9.9.9", 31), (PUBLIC, 31), ("9.9.9.7", 30), ("9.9.9.6", 30), ("9.9.9.5", 6)]
    for name, waiting, newcomer, gives_way in (
        ("nobody is there", [], PUBLIC, None),
        ("a network has one less than its share", [(PUBLIC, 31)], PUBLIC, None),
        ("a network has its share", [(OTHER, 5), (PUBLIC, 32)], PUBLIC, PUBLIC),
        ("another has its share", [(PUBLIC, 32)], OTHER, None),
        ("all places are taken", crowded, PUBLIC, "9.9.9.7"),
        ("this machine counts for all alone", [(LOOPBACK, 100)], LOOPBACK, None),
        ("all places are taken by this machine", [(LOOPBACK, 128)], PUBLIC, LOOPBACK),
        ("two have most, and one of them came first", tied, PUBLIC, OTHER),
        ("a newcomer does not count with its own", even, PUBLIC, "9.9.9.9"),
    ):
        lines = [{"from": source, "count": count} for source, count in waiting]
        yield {"name": name, "rule": "WIRE-23", "waiting": lines, "newcomer": newcomer, "gives_way": gives_way}
