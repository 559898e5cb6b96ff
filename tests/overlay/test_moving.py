"""A peer whose addresses change, in a network namespace of the test's own: nothing here is heard outside it."""

import shutil
import subprocess
import sys

import pytest

START = """
import subprocess, sys, trio
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network

class Deaf:
    def on_link(self, link): pass
    def on_message(self, link, message): pass
    def on_closed(self, link, why): pass
    def needed(self): return ()

def ip(words):
    subprocess.run(["ip", *words.split()], check=True)

async def moved(network, words):
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.wait_moved)
            await trio.sleep(0)
            for one in words.split(";"):
                ip(one)
    return [one.split("/")[2] for one in network.addresses()]

async def main(place):
    key = PrivateKey(bytes([1]) * 32)
    async with open_libp2p_network(key, Deaf(), Listening([place], dht=False)) as network:
        assert network.addresses() == ()
        await check(network)
"""

FOUR = """
async def check(network):
    assert await moved(network, "link set lo up") == ["127.0.0.1"]
    assert await moved(network, "addr add 192.0.2.7/24 dev lo") == ["192.0.2.7", "127.0.0.1"]
    new = await moved(network, "addr add 10.0.0.5/24 dev lo;addr del 192.0.2.7/24 dev lo")
    assert new == ["10.0.0.5", "127.0.0.1"], new

trio.run(main, "/ip4/0.0.0.0/tcp/0")
"""

SIX = """
async def check(network):
    assert await moved(network, "link set lo up") == ["::1"]
    new = await moved(network, "addr add fd00::7/64 dev lo nodad")
    assert new == ["fd00::7", "::1"], new
    key = PrivateKey(bytes([2]) * 32)
    async with open_libp2p_network(key, Deaf()) as other:
        link = await other.dial(network.addresses()[0])
        assert link.source.key == "fd00::/64", link.source
        assert link.hello.seen == "fd00::/64", link.hello

trio.run(main, "/ip6/::/tcp/0")
"""

NODE = """
import select, subprocess, sys, tempfile

with tempfile.TemporaryDirectory() as data:
    log = open(f"{data}/log", "w+")
    command = "p2pinfer.cli.main import run; run()"
    words = ["node", "--data", f"{data}/node", "--store", data, "--listen", "/ip4/0.0.0.0/tcp/0"]
    node = subprocess.Popen(
        [sys.executable, "-c", f"from {command}", *words], stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        while "nobody can reach it: this machine has no address yet" not in open(log.name).read():
            assert node.poll() is None, open(log.name).read()
        assert not select.select([node.stdout], [], [], 0)[0]
        for one in ("link set lo up", "addr add 192.0.2.7/24 dev lo"):
            subprocess.run(["ip", *one.split()], check=True)
        line = node.stdout.readline()
        assert line.startswith("ready /ip4/"), line
    finally:
        node.terminate()
        node.wait(30)
"""


def run_in_namespace(program: str) -> None:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip to make a network namespace")
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no test make a network namespace")
    command = ["unshare", "-rn", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_peer_that_starts_before_its_network_tells_where_it_is_when_it_can_and_what_changes() -> None:
    run_in_namespace(START + FOUR)


def test_a_network_of_ipv6_alone_will_do() -> None:
    run_in_namespace(START + SIX)


@pytest.mark.slow
def test_a_node_that_starts_before_its_network_says_what_is_missing_and_then_is_ready() -> None:
    run_in_namespace(NODE)
