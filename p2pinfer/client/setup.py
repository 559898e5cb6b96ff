"""The setup of a client: what its user may choose, and the world that it opens around it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, TypedDict

from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey
from p2pinfer.disk.journal import OpenJournal, open_journal
from p2pinfer.disk.journal_check import Progress
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.neighbours import OpenNeighbours
from p2pinfer.overlay.network import Network

OpenNetwork = Callable[[PrivateKey, Exchange, Greeting], AbstractAsyncContextManager[Network]]


class Setup(TypedDict, total=False):
    """Options of a client, keywords of `connect`, `aconnect` and `open_client`.

    max_cost: nano-credits that one answer may cost, at worst, where its request names no other limit; None is the
              default limit
    payer:    the key of the folder that pays; None is any that nobody uses
    mdns:     look for peers on the local network where no other is known; a client is never seen there; True
    here:     look for nodes of this user on this machine, where no other is known: on this folder and any; True
    checking: told how much of the journal is read, and of how much, where it was not closed well; in a thread
    """

    max_cost: int | None
    payer: PeerKey | None
    mdns: bool
    here: bool
    checking: Progress


@dataclass(frozen=True, slots=True)
class World:
    """The world around a client, as it opens it; tests and simulations have another one.

    network:    opens a network; None is libp2p's
    neighbours: as of `open_first_peers`; None is mDNS, beside libp2p
    machine:    has the time of day, and lots
    journals:   opens a journal
    """

    network: OpenNetwork | None = None
    neighbours: OpenNeighbours | None = None
    machine: Machine = field(default_factory=Machine)
    journals: OpenJournal = open_journal


REAL: Final = World()
