"""Parts of the DHT learn of each other over links: peers tell where theirs are (protocols/wire.md, 6, "The DHT")."""

import logging
from collections.abc import Sequence
from weakref import WeakSet

from p2pinfer.core.values.errors import LinkDead, Refused, RemoteProtocolError
from p2pinfer.core.wire.messages import MAX_ADDRESSES, AskContacts, Contacts
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Address

logger = logging.getLogger(__name__)


class DhtParts:
    """Answers where our part is, and asks each peer for its own, once for each link."""

    def __init__(self, network: Network, exchange: Exchange) -> None:
        self._network = network
        self._exchange = exchange
        self._met: WeakSet[Link] = WeakSet()  # links whose peers were asked
        self._met_by: tuple[Address, ...] = ()  # where our part was then: one that starts anew knows few of them
        exchange.answer(AskContacts, self._say_contacts)

    def to_meet(self) -> Sequence[Link]:
        """Links whose peers are to be asked."""
        part = self._network.directory_addresses()
        if part and part != self._met_by:
            self._met.clear()
            self._met_by = part
        return [link for link in self._network.links() if link not in self._met] if part else []

    async def meet(self, link: Link) -> None:
        """Let our part of the DHT know the peer's."""
        self._met.add(link)
        try:
            contacts = await self._exchange.call(link, AskContacts, Contacts)
        except (LinkDead, Refused, RemoteProtocolError) as error:
            logger.info("a peer has no part in the DHT: %s", error)
            return
        await self._network.meet(contacts.directory, link.source)

    async def _say_contacts(self, link: Link, ask: Ask) -> Contacts:
        network = self._network
        directory = [one for one in network.directory_addresses() if network.may_tell(one, link.source)]
        return Contacts(ask.call, network.told(link.source), tuple(directory[:MAX_ADDRESSES]))
