"""mDNS, in a network namespace of the test's own: nothing here is heard outside it."""

import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import DNSAddress, DNSPointer, DNSText, NotRunningException, RecordUpdate, const, current_time_millis

from p2pinfer.core.values.keys import peer_name
from p2pinfer.overlay.libp2p import mdns
from p2pinfer.overlay.libp2p.mdns import NEIGHBOUR_PEERS, Neighbourhood, RecordListener, decode_text, encode_text
from p2pinfer.overlay.libp2p.mdns_records import MAX_MDNS_TEXT, MAX_NEIGHBOURS, NEIGHBOUR_RECORDS, SERVICE, Shelf
from p2pinfer.overlay.pipe import Address, hear_nothing

from .conftest import KEYS

PLACE = Address(f"/ip4/192.0.2.7/tcp/4001/p2p/{peer_name(KEYS[0].public)}")
OTHER = Address(f"/ip4/192.0.2.8/tcp/4001/p2p/{peer_name(KEYS[1].public)}")

# lo gets an address that is not loopback's, so that a network of one machine behaves like a local one
SET_UP = "ip link set lo up && ip addr add 192.0.2.7/24 dev lo && ip link set lo multicast on"
SET_UP += " && ip route add 224.0.0.0/4 dev lo"

TWO_PEERS = """
import trio
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network

class Deaf:
    def on_link(self, link): pass
    def on_message(self, link, message): pass
    def on_closed(self, link, why): pass
    def needed(self): return ()

async def main(place):
    near, far = (
        open_libp2p_network(PrivateKey(bytes([seed]) * 32), Deaf(), Listening([place])) for seed in (1, 2)
    )
    async with near as near, far as far:
        for _ in range(40):
            if found := await near.find(bytes(32)):
                break
            await trio.sleep(0.1)
        assert found == far.addresses(), found
        await near.dial(found[0])

trio.run(main, "PLACE")
"""


def run_in_namespace(place: str, program: str = TWO_PEERS) -> subprocess.CompletedProcess[str]:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip to make a network namespace")
    if subprocess.run(["unshare", "-rn", "sh", "-c", SET_UP], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no test make a network namespace with multicast")
    program = program.replace("PLACE", place)
    command = ["unshare", "-rn", "sh", "-c", f'{SET_UP} && exec "$0" -c "$1"', sys.executable, program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_two_peers_of_a_local_network_find_each_other() -> None:
    done = run_in_namespace("/ip4/192.0.2.7/tcp/0")
    assert done.returncode == 0, done.stderr


def test_peers_that_listen_on_loopback_only_are_silent() -> None:
    done = run_in_namespace("/ip4/127.0.0.1/tcp/0")
    assert "AssertionError: ()" in done.stderr


def test_addresses_go_through_a_text_record() -> None:
    assert decode_text(encode_text([PLACE, OTHER])) == [PLACE, OTHER]


def test_an_announcement_names_few_peers() -> None:
    places = [Address(f"/ip4/192.0.2.7/tcp/{port}/p2p/{peer_name(key.public)}") for key in KEYS for port in (1, 2)]
    assert len(places) > 2 * NEIGHBOUR_PEERS
    assert decode_text(encode_text(places)) == places[: 2 * NEIGHBOUR_PEERS]


@pytest.mark.parametrize("fault", [RuntimeError("the loop is closed"), NotRunningException()])
async def test_where_zeroconf_does_not_come_up_there_is_no_network(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(mdns, "BoundedZeroconf", fail)
    with pytest.raises(OSError, match="zeroconf did not come up"):
        async with mdns.open_mdns([PLACE]):
            pass


@pytest.mark.parametrize(
    "text",
    [b"", b"\x00", b"\x05hello", b"\xffdnsaddr=", encode_text([Address("/ip4/192.0.2.7/tcp/4001")])],
    ids=["nothing", "an empty string", "another field", "cut short", "an address without a peer"],
)
def test_other_text_records_name_nobody(text: bytes) -> None:
    assert decode_text(text) == []


@given(st.binary(max_size=300))
def test_any_text_record_names_somebody_or_nobody(text: bytes) -> None:
    decode_text(text)


def test_a_neighbour_that_leaves_is_forgotten() -> None:
    neighbourhood = Neighbourhood()
    neighbourhood.add("one", [PLACE])
    neighbourhood.add("two", [PLACE, OTHER])
    assert neighbourhood.addresses() == (PLACE, OTHER)
    neighbourhood.remove("two")
    assert neighbourhood.addresses() == (PLACE,)


def test_a_flood_of_neighbours_is_bounded_and_a_newcomer_is_heard_all_the_same() -> None:
    neighbourhood = Neighbourhood()
    for number in range(MAX_NEIGHBOURS + 10):
        neighbourhood.add(str(number), [Address(f"/ip4/192.0.2.7/tcp/{number}/p2p/x")])
    assert len(neighbourhood.addresses()) == MAX_NEIGHBOURS
    neighbourhood.add("one", [PLACE])
    assert PLACE in neighbourhood.addresses()
    assert len(neighbourhood.addresses()) == MAX_NEIGHBOURS


# What a neighbour may have us keep


def text(name: str, data: bytes = b"", ttl: int = 4_500) -> DNSText:
    return DNSText(f"{name}.{SERVICE}", const._TYPE_TXT, const._CLASS_IN, ttl, data or encode_text([PLACE]))


def pointer(name: str, ttl: int = 4_500) -> DNSPointer:
    return DNSPointer(SERVICE, const._TYPE_PTR, const._CLASS_IN, ttl, f"{name}.{SERVICE}")


def kept(shelf: Shelf) -> int:
    return sum(map(len, shelf.cache.values()))


def test_a_flood_of_records_is_bounded() -> None:
    forgotten: list[str] = []
    shelf = Shelf((f"us.{SERVICE}", "us.local."), forgotten.append)
    ours = [text("us"), pointer("us"), DNSAddress("us.local.", const._TYPE_A, const._CLASS_IN, 120, bytes(4))]
    shelf.async_add_records(ours)
    for start in range(0, 5_000, 50):
        names = [f"x{number}" for number in range(start, start + 50)]
        shelf.async_add_records([made(name) for name in names for made in (pointer, text)])
    assert kept(shelf) == len(ours) + 2 * MAX_NEIGHBOURS
    assert len(forgotten) == 5_000 - MAX_NEIGHBOURS
    assert all(shelf.async_get_unique(record) is not None for record in ours)


def test_many_records_of_one_name_are_bounded() -> None:
    shelf = Shelf((), hear_nothing)
    for number in range(1_000):
        shelf.async_add_records([text("x", b"%d" % number)])
    assert kept(shelf) <= NEIGHBOUR_RECORDS


def test_records_of_other_services_hosts_and_giants_are_not_kept() -> None:
    shelf = Shelf((), hear_nothing)
    printer = "x._printer._tcp.local."
    others = [
        DNSText(printer, const._TYPE_TXT, const._CLASS_IN, 120, b"x"),
        DNSPointer("_printer._tcp.local.", const._TYPE_PTR, const._CLASS_IN, 120, printer),
        DNSPointer(SERVICE, const._TYPE_PTR, const._CLASS_IN, 120, printer),
        DNSAddress("x.local.", const._TYPE_A, const._CLASS_IN, 120, bytes(4)),
        text("x", bytes(MAX_MDNS_TEXT + 1)),
    ]
    assert not shelf.async_add_records(others)
    assert kept(shelf) == 0


def test_what_expires_or_is_taken_back_leaves_room() -> None:
    forgotten: list[str] = []
    shelf = Shelf((), forgotten.append)
    records = [text(f"x{number}", ttl=1) for number in range(MAX_NEIGHBOURS)]
    shelf.async_add_records(records)
    shelf.async_remove_records(records[:2])
    assert len(shelf.async_expire(current_time_millis() + 2_000)) == MAX_NEIGHBOURS - 2
    assert (kept(shelf), shelf._names) == (0, {})
    shelf.async_add_records([text(f"y{number}") for number in range(MAX_NEIGHBOURS)])
    assert forgotten == []


def test_neighbours_come_and_go_with_their_records() -> None:
    neighbourhood, told = Neighbourhood(), []
    hearing = RecordListener(neighbourhood, f"us.{SERVICE}", lambda: told.append(1))
    now = current_time_millis()
    came = [text("one"), text("two", encode_text([OTHER])), text("us"), pointer("one"), text("odd", b"\x05hello")]
    hearing.async_update_records(None, now, [RecordUpdate(record, None) for record in came])
    assert set(neighbourhood.addresses()) == {PLACE, OTHER}
    hearing.async_update_records(None, now + 1_000, [RecordUpdate(text("one", ttl=0), came[0])])
    assert neighbourhood.addresses() == (OTHER,)
    assert told == [1, 1]


CLIENT = """
import trio
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network, open_mdns
from p2pinfer.overlay.libp2p.mdns import Neighbourhood

class Deaf:
    def on_link(self, link): pass
    def on_message(self, link, message): pass
    def on_closed(self, link, why): pass
    def needed(self): return ()

async def main(place):
    node = open_libp2p_network(PrivateKey(bytes([1]) * 32), Deaf(), Listening([place], dht=False))
    async with node as node, open_mdns() as first, open_mdns() as second:
        with trio.fail_after(10):
            while not first.addresses():
                await first.news.coming.wait()
            while not second.addresses():
                await second.news.coming.wait()
        assert first.addresses() == second.addresses() == node.addresses(), first.addresses()
        assert await node.find(bytes(32)) == (), "a client is not seen"

trio.run(main, "PLACE")
"""


def test_a_client_finds_a_node_and_is_not_seen() -> None:
    done = run_in_namespace("/ip4/192.0.2.7/tcp/0", CLIENT)
    assert done.returncode == 0, done.stderr
