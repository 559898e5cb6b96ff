"""Keeps the node certified while it runs: a clock that was wrong at the start mends itself, and so does age.

Where the owner's key is not at hand, the owner is told in the log, a week ahead and once a day.
"""

import logging
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.records.renewal import Standing, standing
from p2pinfer.core.values.errors import JournalError, UsageError
from p2pinfer.disk.identity import Identity, date_of, renew_certificate
from p2pinfer.disk.journal import Journal

LOOK_S: Final = 3_600.0  # between looks, where no offers are made
TELL_S: Final = 86_400.0  # between two words about one thing

logger = logging.getLogger(__name__)


class Certifying:
    """certificate: the present one; earlier ones stay in the journal, for what was earned under them.

    unix: the time of day
    """

    def __init__(self, folder: Path, identity: Identity, journal: Journal, unix: Callable[[], int]) -> None:
        self.certificate: SignedRecord[NodeCert] = identity.certificate
        self._folder = folder
        self._key = identity.key
        self._journal = journal
        self._unix = unix
        self._told_s = -inf
        self._looking = trio.Lock()  # two at once would sign two certificates with one serial

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        """Renew the certificate if that is due and the owner's key is here; else say so, if it is time."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        now = self._unix()
        found = standing(self.certificate.record, now)
        if found is Standing.GOOD:
            return
        try:
            renewed = await trio.to_thread.run_sync(renew_certificate, self._folder, self._key, self.certificate, now)
        except UsageError as error:
            self._tell(f"the certificate cannot be renewed: {error}")
            return
        if renewed is not None:
            try:
                await self._journal.certify(renewed)  # before anything is earned under it
            except JournalError as error:
                self._tell(f"a new certificate is not used, for the journal cannot keep it: {error}")
                return
            self.certificate, self._told_s = renewed, -inf
            logger.info("certified until %s", date_of(renewed.record.not_after))
        elif found is not Standing.DUE:
            record = self.certificate.record
            holds = f"holds from {date_of(record.not_before)} to {date_of(record.not_after)}"
            self._tell(f"the node's certificate {holds}: put owner.key into {self._folder} to have it renewed")

    def _tell(self, text: str) -> None:
        if trio.current_time() >= self._told_s + TELL_S:
            self._told_s = trio.current_time()
            logger.warning("%s; without one that holds nobody may ask this node for work", text)
