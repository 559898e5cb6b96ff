"""What DHT hosts do by themselves."""

from contextlib import AsyncExitStack

import pytest
import trio
from libp2p.kad_dht import kad_dht
from libp2p.stream_muxer.yamux import yamux

from p2pinfer.overlay.libp2p import dht_rest
from p2pinfer.overlay.libp2p.dht import open_dht

LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]
WITHIN_S = 10.0


def test_libp2p_still_has_the_times_that_are_replaced() -> None:
    names = (yamux, "RTT_MEASURE_INTERVAL"), (yamux, "_STALE_STREAM_SWEEP_INTERVAL")
    for module, name in (*names, (kad_dht, "ROUTING_TABLE_REFRESH_INTERVAL")):
        assert isinstance(getattr(module, name), int | float)


async def test_a_host_learns_of_others_soon_after_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first knows one of the two others, and hears of the third from that."""
    monkeypatch.setattr(dht_rest, "FILL_S", (0.0,))
    async with AsyncExitStack() as stack:
        third, second, first = [
            await stack.enter_async_context(open_dht(bytes([seed]) * 32, LOOPBACK, [])) for seed in (1, 2, 3)
        ]
        await second.meet(third.addresses())
        await first.meet(second.addresses())
        with trio.fail_after(WITHIN_S):
            await dht_rest.fill_table(first._dht)
        assert set(first._dht.routing_table.get_peer_ids()) == {second._host.get_id(), third._host.get_id()}
