"""The port of a node stays the same, so that addresses which others saved stay good."""

import logging
from pathlib import Path

import pytest

from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.disk.ports import Ports
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from tests.overlay.conftest import Collector

PLACE = "/ip4/127.0.0.1/tcp/0"


async def start(path: Path, seed: int = 1) -> str:
    """Where a node that listens at PLACE is while it runs."""
    key = PrivateKey(bytes([seed]) * 32)
    async with open_libp2p_network(key, Collector(), Listening([PLACE], ports=Ports(path), dht=False)) as network:
        return network.addresses()[0]


async def test_a_node_comes_back_to_its_port(tmp_path: Path) -> None:
    assert await start(tmp_path / "ports") == await start(tmp_path / "ports")
    assert await start(tmp_path / "another") != await start(tmp_path / "ports")


async def test_a_port_that_is_taken_is_left_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = await start(tmp_path / "ports")
    port = int(first.split("/")[4])
    key = PrivateKey(bytes(31) + b"2")
    async with open_libp2p_network(key, Collector(), Listening([f"/ip4/127.0.0.1/tcp/{port}"], dht=False)):
        assert await start(tmp_path / "ports") != first
    assert f"port {port}, which this node had before, is taken" in caplog.text
    assert await start(tmp_path / "ports") == first


@pytest.mark.parametrize("text", [b"\xff", b"what is this", b"/ip4/127.0.0.1/tcp/0 70000\n", b"x" * 20_000])
async def test_a_file_that_is_none_keeps_nobody_from_starting(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ports").write_bytes(text)
    assert await start(tmp_path / "ports") == await start(tmp_path / "ports")


async def test_a_folder_that_takes_no_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await start(tmp_path / "none" / "ports")
    assert "the port cannot be kept" in caplog.text
