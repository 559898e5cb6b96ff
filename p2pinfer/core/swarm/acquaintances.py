"""Peers that we met, to be found again: what is known of each, which are worth keeping, and whom to dial first.

Keys cost nothing, addresses little, and an answer costs its node work. So of one network few are kept; who answered us
goes before who did not, whom we reached before who came to us, and among equals, as in Kademlia's tables, whom we have
known for longer. Pure: `now` is the wall clock, Unix seconds, and 0 is never.

That clock may be wrong, and the machine off for months. So a time in which nothing was noted makes nobody older, but
for REST_S of it: who was met before it is as old after it as who was met before any other.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from p2pinfer.core.swarm.address import endpoint_of
from p2pinfer.core.values.units import PeerKey

MAX_PEERS: Final = 256
NETWORK_PEERS: Final = 16  # of one network; this machine's own count for all alone
MAX_PLACES: Final = 4  # addresses of a peer
TOLD_PLACES: Final = 2  # of them for those that the peer itself named last, however many were reached before it moved
MAX_ADDRESS: Final = 200  # characters
SERVED_S: Final = 30 * 86_400  # an answer is worth something for so long
FORGET_S: Final = 90 * 86_400  # after the last link
REST_S: Final = 86_400
OFTEN_S: Final = 3_600  # what was noted within the hour is no news
NETWORK_DIALS: Final = 4  # of one network among the first that are dialled: it may be gone as a whole


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """An address of a peer.

    reached: when a link that was dialled there last came up
    told:    when the peer last named it
    """

    address: str
    reached: int = 0
    told: int = 0


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """A peer that was linked to us.

    network: that it was last seen in, of IPv6 the site; empty on this machine
    places:  at most MAX_PLACES, in the order in which to dial them
    met:     when the first link came up, and `linked` the last one
    failed:  when it could not be reached last
    served:  when it last had a part in an answer
    """

    peer: PeerKey
    network: str
    places: tuple[KnownAddress, ...]
    met: int
    linked: int
    failed: int = 0
    served: int = 0

    @property
    def is_reached(self) -> bool:
        """It was dialled with success once."""
        return any(place.reached for place in self.places)

    @property
    def is_away(self) -> bool:
        """It could not be reached when it was tried last."""
        return self.failed > self.linked

    def seen_at(self, address: str | None, network: str, now: int) -> "Acquaintance":
        """After a new link; address: where it was dialled, None where it came to us."""
        places = (
            self.places if address is None else _best((KnownAddress(address, reached=now), *self.places), self.failed)
        )
        return replace(self, network=network, places=places, linked=now)

    def told(self, addresses: Iterable[str], now: int) -> "Acquaintance":
        """With addresses that the peer itself announces. Loopback's are not kept: they mean another machine, soon."""
        kept = (KnownAddress(address, told=now) for address in addresses if not _is_loopback(address))
        return replace(self, places=_best((*kept, *self.places), self.failed))

    def missed(self, now: int) -> "Acquaintance":
        """After it could not be reached."""
        return replace(self, failed=now, places=_best(self.places, now))

    def retimed(self, right: Callable[[int], int]) -> "Acquaintance":
        """With all its times as `right` has them."""
        places = tuple(KnownAddress(place.address, right(place.reached), right(place.told)) for place in self.places)
        met, linked, failed, served = map(right, (self.met, self.linked, self.failed, self.served))
        return Acquaintance(self.peer, self.network, places, met, linked, failed, served)

    @property
    def noted(self) -> int:
        """The time of the last note of it."""
        return max(self.linked, self.failed, self.served, *(max(place.reached, place.told) for place in self.places))


class Acquaintances:
    """The peers that we met, at most twice as many as are kept.

    is_news: something was noted that is worth to be written down
    """

    def __init__(self) -> None:
        self.is_news = False
        self._known: dict[PeerKey, Acquaintance] = {}
        self._noted = 0  # when something was

    def to_dial(self, now: int) -> list[Acquaintance]:
        """Everybody, in the order in which to dial them."""
        return to_dial(self._known.values(), now)

    def note_link(self, peer: PeerKey, network: str, address: str | None, now: int) -> None:
        """A link came up; address: where the peer was dialled from here, None where it came to us."""
        known = self._get(peer, now) or Acquaintance(peer, network, (), now, now)
        self._put(known.seen_at(address, network, now), now)

    def note_told(self, peer: PeerKey, addresses: Iterable[str], now: int) -> None:
        """A peer that was linked announces these addresses."""
        if (known := self._get(peer, now)) is not None:
            self._put(known.told(addresses, now), now)

    def note_failed(self, peer: PeerKey, now: int) -> None:
        """A peer cannot be reached."""
        if (known := self._get(peer, now)) is not None:
            self._put(known.missed(now), now)

    def note_served(self, peer: PeerKey, now: int) -> None:
        """A peer had a part in an answer."""
        if (known := self._get(peer, now)) is not None:
            self._put(replace(known, served=now), now)

    def take(self, found: Sequence[Acquaintance], now: int) -> None:
        """Add what another process, or an earlier one, knew."""
        self._rest(now)
        for one in rested(found, max((one.noted for one in found), default=now), now):
            known = self._known.get(one.peer)
            self._known[one.peer] = one if known is None else merged(known, one)

    def keep(self, now: int) -> list[Acquaintance]:
        """Forget who is not worth keeping; return the others."""
        kept = worth_keeping(self._known.values(), now)
        self._known = {one.peer: one for one in kept}
        return kept

    def _get(self, peer: PeerKey, now: int) -> Acquaintance | None:
        """A peer of which something is noted now."""
        self._rest(now)
        return self._known.get(peer)

    def _rest(self, now: int) -> None:
        self._known = {one.peer: one for one in rested(self._known.values(), self._noted, now)}
        self._noted = now

    def _put(self, one: Acquaintance, now: int) -> None:
        before = self._known.get(one.peer)
        self._known[one.peer] = one
        self.is_news = self.is_news or before is None or _is_news(before, one)
        if len(self._known) > 2 * MAX_PEERS:
            self.keep(now)


def rested(known: Iterable[Acquaintance], noted: int, now: int) -> Iterable[Acquaintance]:
    """With later times, where nothing was noted from `noted` to now for longer than REST_S."""
    over = now - noted - REST_S
    if over <= 0:
        return known
    return [one.retimed(lambda time: time + over if 0 < time <= noted else time) for one in known]


def _is_news(before: Acquaintance, after: Acquaintance) -> bool:
    """More than a few numbers that grew."""
    times = [(before.linked, after.linked), (before.failed, after.failed), (before.served, after.served)]
    times.append((_last_told(before.places), _last_told(after.places)))
    same = [place.address for place in before.places] == [place.address for place in after.places]
    return not same or before.is_away != after.is_away or any(now - then > OFTEN_S for then, now in times)


def merged(one: Acquaintance, other: Acquaintance) -> Acquaintance:
    """Join what two processes know of a peer."""
    later = one if one.linked >= other.linked else other
    failed = max(one.failed, other.failed)
    return replace(
        later,
        places=_best((*one.places, *other.places), failed),
        met=min(one.met, other.met),
        failed=failed,
        served=max(one.served, other.served),
    )


def worth_keeping(known: Iterable[Acquaintance], now: int) -> list[Acquaintance]:
    """At most MAX_PEERS, the best first."""
    kept: list[Acquaintance] = []
    counts = Counter[str]()
    for one in sorted(known, key=lambda one: _worth(one, now), reverse=True):
        if _has_place(one) and one.linked + FORGET_S > now and (not one.network or counts[one.network] < NETWORK_PEERS):
            counts[one.network] += 1
            kept.append(one)
    return kept[:MAX_PEERS]


def to_dial(known: Iterable[Acquaintance], now: int) -> list[Acquaintance]:
    """Those with an address, in the order in which to dial them: who was linked last is still there, likely."""

    def likely(one: Acquaintance) -> tuple[bool, bool, bool, int]:
        return not one.is_away, _is_serving(one, now), one.is_reached, one.linked

    best = sorted(filter(_has_place, known), key=likely)
    first: list[Acquaintance] = []
    then: list[Acquaintance] = []
    counts = Counter[str]()
    for one in reversed(best):
        counts[one.network] += 1
        (first if not one.network or counts[one.network] <= NETWORK_DIALS else then).append(one)
    return [*first, *then]


def _worth(one: Acquaintance, now: int) -> tuple[bool, bool, bool, int]:
    return _is_serving(one, now), not one.is_away, one.is_reached, -one.met


def _has_place(one: Acquaintance) -> bool:
    return bool(one.places)


def _is_serving(one: Acquaintance, now: int) -> bool:
    return one.served + SERVED_S > now


def _best(places: Iterable[KnownAddress], failed: int) -> tuple[KnownAddress, ...]:
    """As many as are kept, in the order in which to dial them.

    First where the peer was reached and has not been away since, then what it named last. Of these TOLD_PLACES stay
    whatever was reached: a peer that moves is somewhere else each time, and says so.
    """
    found: dict[str, KnownAddress] = {}
    for place in places:
        if len(place.address) <= MAX_ADDRESS:
            same = found.get(place.address, place)
            found[place.address] = KnownAddress(
                place.address, max(place.reached, same.reached), max(place.told, same.told)
            )
    last = max(1, _last_told(found.values()))

    def since(place: KnownAddress) -> int:
        """Return when it was reached, if it has not been away since."""
        return place.reached if place.reached >= failed else 0

    def standing(place: KnownAddress) -> tuple[int, int, int]:
        return since(place), place.told, place.reached

    said = [place for place in found.values() if place.told == last]
    named = sorted(said, key=lambda place: since(place) > 0)[:TOLD_PLACES]
    ordered = sorted(found.values(), key=standing, reverse=True)
    others = [place for place in ordered if place not in named][: MAX_PLACES - len(named)]
    return tuple(place for place in ordered if place in named or place in others)


def _last_told(places: Iterable[KnownAddress]) -> int:
    return max((place.told for place in places), default=0)


def _is_loopback(address: str) -> bool:
    endpoint = endpoint_of(address)
    return endpoint is None or endpoint[0].is_loopback
