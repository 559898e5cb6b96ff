"""Records of mDNS that are kept: our own, and those of a few neighbours. zeroconf would keep whatever anybody sends."""

from collections.abc import Callable, Collection, Iterable, Sequence
from random import SystemRandom
from typing import Final

from zeroconf import DNSCache, DNSPointer, DNSRecord, DNSText, Zeroconf

SERVICE: Final = "_p2p._udp.local."
MAX_NEIGHBOURS: Final = 256
NEIGHBOUR_RECORDS: Final = 4  # of one of them; an honest one has two, and a moment's more when its addresses change
MAX_MDNS_TEXT: Final = 2_048  # bytes of a record with addresses; eight of them take a third
LOTS: Final = SystemRandom()


class Shelf(DNSCache):
    """zeroconf's memory of records, of which it would keep ten thousand, of any size, or of older versions all.

    Kept are our own, and of others what names a peer and its addresses, of a few neighbours. Which one goes where there
    are too many, nobody can tell.

    own:    names of our own records
    forget: hears of neighbours whose records gave way
    """

    def __init__(self, own: Collection[str], forget: Callable[[str], None]) -> None:
        super().__init__()
        self._own = own
        self._tell_forgotten = forget
        self._names: dict[str, list[DNSRecord]] = {}

    def async_add_records(self, entries: Iterable[DNSRecord]) -> bool:
        added = [super(Shelf, self).async_add_records([record]) for record in entries if self._takes(record)]
        return any(added)

    def async_remove_records(self, entries: Iterable[DNSRecord]) -> None:
        removed = list(entries)
        for record in removed:
            name = neighbour_of(record)
            if name is not None and record in (records := self._names.get(name, [])):
                records.remove(record)
                if not records:
                    del self._names[name]
        super().async_remove_records(removed)

    def _takes(self, record: DNSRecord) -> bool:
        if record.key in self._own or (name := neighbour_of(record)) in self._own:
            return True
        if name is None:
            return False
        records = self._names.get(name, [])
        if record in records:
            return True
        if len(records) >= NEIGHBOUR_RECORDS:
            self._forget(name)
        elif not records and len(self._names) >= MAX_NEIGHBOURS:
            self._forget(LOTS.choice(list(self._names)))
        self._names.setdefault(name, []).append(record)
        return True

    def _forget(self, name: str) -> None:
        self.async_remove_records(list(self._names[name]))
        self._tell_forgotten(name)


def neighbour_of(record: DNSRecord) -> str | None:
    """The peer that a record is about, by the name of its announcement; None where it is about something else."""
    if isinstance(record, DNSPointer) and record.key == SERVICE:
        return _of_service(record.alias.lower())
    if isinstance(record, DNSText) and len(record.text) <= MAX_MDNS_TEXT:
        return _of_service(record.key)
    return None


def _of_service(name: str) -> str | None:
    return name if name.endswith(f".{SERVICE}") else None


class BoundedZeroconf(Zeroconf):
    """zeroconf, with a memory that strangers do not fill."""

    def __init__(self, shelf: Shelf, ips: Sequence[str]) -> None:
        self._shelf = shelf
        super().__init__(interfaces=list(ips))

    @property
    def cache(self) -> Shelf:
        return self._shelf

    @cache.setter
    def cache(self, _usual: DNSCache) -> None:
        """The shelf stays."""
