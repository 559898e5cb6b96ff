"""Room for a new link, and the other one that ends for it (protocols/wire.md, 7.1). Decides; no I/O."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.limits import MAX_LINKS, NETWORK_LINKS, NEW_LINK_S


@dataclass(frozen=True, slots=True)
class HeldLink:
    """A link there is.

    came_s: when it came up
    ours:   we dialled it
    needed: a session or a call of ours depends on it
    """

    peer: PeerKey
    source: Source
    came_s: float
    ours: bool
    needed: bool


@dataclass(frozen=True, slots=True)
class Vacancy:
    """free: a newcomer may come in. instead_of: whose link ends for it."""

    free: bool
    instead_of: PeerKey | None = None


def room_for(newcomer: Source, held: Sequence[HeldLink], now: float, draw: float, limit: int = MAX_LINKS) -> Vacancy:
    """Room for a link from a network; `draw` is a random number below 1.

    Of the links that nobody needs, one that we did not dial ends, if there is one, of the network that has most such
    links. Which one is left to chance, so that nobody keeps his by talking.
    """
    same = [one for one in held if one.source.key == newcomer.key and newcomer.scope is not Scope.LOOPBACK]
    if len(same) >= NETWORK_LINKS:
        crowd = same
    elif len(held) >= limit:
        crowd = list(held)
    else:
        return Vacancy(free=True)
    idle = [one for one in crowd if not one.needed and one.came_s + NEW_LINK_S <= now]
    idle = [one for one in idle if not one.ours] or idle
    if not idle:
        return Vacancy(free=False)
    counts = Counter(one.source.key for one in idle)
    most = max(counts[one.source.key] for one in idle)
    chosen = [one for one in idle if counts[one.source.key] == most]
    return Vacancy(free=True, instead_of=chosen[int(draw * len(chosen))].peer)
