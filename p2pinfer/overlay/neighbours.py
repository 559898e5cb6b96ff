"""Neighbours: peers on the local network, to which a client listens for a while; whoever is heard is met.

It listens where it finds nobody else, and, whatever links there are, where a node is on offer that cannot be dialled
from here: others may know no address of who is near.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import Final, Protocol

import trio

from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.leads import ALONE_AGAIN_S, Lead, Leads, to_leads
from p2pinfer.overlay.limits import MAX_FOUND
from p2pinfer.overlay.news import News
from p2pinfer.overlay.pipe import Address

HEAR_S: Final = 1.5  # for peers on the local network to be heard, after all others were tried
HUSH_S: Final = 0.5  # for the first of them to be heard, where others will do
LISTEN_S: Final = 15.0  # on the local network; who was not heard by then is not there, or did not want to be found

logger = logging.getLogger(__name__)


class Neighbours(Protocol):
    """The peers on the local network, as far as heard."""

    news: News

    def addresses(self) -> Sequence[Address]: ...


OpenNeighbours = Callable[[], AbstractAsyncContextManager[Neighbours]]


class Ear:
    """Listens by `neighbours`, if there are such, for LISTEN_S each time. Dials run in `nursery`."""

    def __init__(self, neighbours: OpenNeighbours | None, leads: Leads, nursery: trio.Nursery) -> None:
        self._neighbours = neighbours
        self._leads = leads
        self._nursery = nursery
        self.is_listening = False
        self._listened_s = -inf  # since when, where we are
        self._dials = 0  # under way
        self._news = News()  # of them

    def listen(self, *, again: bool = False) -> None:
        """Begin to listen, unless that is under way; again: though it was done before where we are."""
        if self._neighbours is not None and not self.is_listening and (again or self._listened_s == -inf):
            self.is_listening, self._listened_s = True, trio.current_time()
            self._nursery.start_soon(self._listen, self._neighbours)

    def forget(self) -> None:
        """We are elsewhere."""
        self._listened_s = -inf

    async def wait_heard(self) -> None:
        """Wait HUSH_S from when it began to listen for somebody to be heard, and HEAR_S at most for those to be met."""
        with trio.move_on_at(self._listened_s + HEAR_S):
            with trio.move_on_at(self._listened_s + HUSH_S):
                while not self._dials:
                    await self._news.coming.wait()
            while self._dials:
                await self._news.coming.wait()

    async def _listen(self, neighbours: OpenNeighbours) -> None:
        """Meet whoever is heard, as they come: MAX_FOUND of them at most."""
        with trio.move_on_after(LISTEN_S), Contained("mDNS"):
            try:
                async with neighbours() as heard:
                    await self._meet_heard(heard)
            except OSError as error:
                logger.info("nobody is looked for on the local network: %s", error)
        self.is_listening = False

    async def _meet_heard(self, heard: Neighbours) -> None:
        left = MAX_FOUND
        while left:
            coming = heard.news.coming
            near = to_leads("on the local network", heard.addresses())
            found = list(filter(self._leads.is_fresh, near))[:left]
            for lead in found:
                self._nursery.start_soon(self._meet, lead)
            left -= len(found)
            with trio.move_on_after(ALONE_AGAIN_S):
                await coming.wait()

    async def _meet(self, lead: Lead) -> None:
        self._dials += 1
        self._news.tell()
        try:
            await self._leads.follow(lead)
        finally:
            self._dials -= 1
            self._news.tell()
