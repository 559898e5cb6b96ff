"""The work of a DHT host while nobody asks it anything, and how seldom it does it.

libp2p's host does so for a machine with a core to spare: every connection is pinged twice a minute, for a figure that
nobody reads, and searched for streams left behind as often; and every ten minutes all twenty nearest hosts are asked
for each part of the table. In twenty nodes that idle this cost more than all that they had to tell each other.
"""

from typing import Final

import trio
from libp2p.kad_dht import kad_dht
from libp2p.kad_dht.kad_dht import KadDHT
from libp2p.stream_muxer.yamux import yamux

from p2pinfer.overlay.contained import Contained

PING_S: Final = 600.0  # between pings of a connection: of one that is dead the system tells us then
SWEEP_S: Final = 300.0  # between searches for streams left behind; DHT_STREAMS bounds them meanwhile
FILL_S: Final = (60.0, 300.0, 900.0)  # after the start, or the time before, the table is filled: others are met by then
REFRESH_S: Final = 3_600.0  # and then as often as records are told anew


def calm_libp2p() -> None:
    """Put these times in place of libp2p's, in this process."""
    yamux.RTT_MEASURE_INTERVAL = PING_S
    yamux._STALE_STREAM_SWEEP_INTERVAL = SWEEP_S
    kad_dht.ROUTING_TABLE_REFRESH_INTERVAL = REFRESH_S


async def fill_table(dht: KadDHT) -> None:
    """Fill the table once others were met: at its start a host knows nobody whom it could ask."""
    for pause_s in FILL_S:
        await trio.sleep(pause_s)
        with Contained("filling the table of the DHT"):
            await dht.refresh_routing_table()
