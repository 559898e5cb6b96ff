"""mDNS, in a network namespace of the test's own: nothing here is heard outside it."""

import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.keys import peer_name
from p2pinfer.overlay.libp2p.mdns import MAX_NEIGHBOURS, Neighbourhood, decode_text, encode_text
from p2pinfer.overlay.pipe import Address

from .conftest import KEYS

PLACE = Address(f"/ip4/192.0.2.7/tcp/4001/p2p/{peer_name(KEYS[0].public)}")
OTHER = Address(f"/ip4/192.0.2.8/tcp/4001/p2p/{peer_name(KEYS[1].public)}")

# lo gets an address that is not loopback's, so that a network of one machine behaves like a local one
SET_UP = "ip link set lo up && ip addr add 192.0.2.7/24 dev lo && ip link set lo multicast on"
SET_UP += " && ip route add 224.0.0.0/4 dev lo"

TWO_PEERS = """
import trio
from p2pinfer.core.keys import PrivateKey
from p2pinfer.overlay.libp2p import open_libp2p_network

class Deaf:
    def on_link(self, link): pass
    def on_message(self, link, message): pass
    def on_closed(self, link, why): pass
    def needed(self): return ()

async def main(place):
    near, far = (
        open_libp2p_network(PrivateKey(bytes([seed]) * 32), Deaf(), listen=[place]) for seed in (1, 2)
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


def run_in_namespace(place: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip to make a network namespace")
    if subprocess.run(["unshare", "-rn", "sh", "-c", SET_UP], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no test make a network namespace with multicast")
    program = TWO_PEERS.replace("PLACE", place)
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


def test_a_flood_of_neighbours_is_bounded() -> None:
    neighbourhood = Neighbourhood()
    for number in range(MAX_NEIGHBOURS + 10):
        neighbourhood.add(str(number), [Address(f"/ip4/192.0.2.7/tcp/{number}/p2p/x")])
    assert len(neighbourhood.addresses()) == MAX_NEIGHBOURS
