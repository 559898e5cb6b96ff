"""A client's account stores what it signs before it is sent (receipts.md, RCT-26): all that it decided, or none.

So an account and the journal say the same, whatever is cancelled and whenever the disk is full.
"""

from collections.abc import Sequence

import trio

from p2pinfer.core.money.client_account import ClientAccount, Decision, Sign
from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk.journal import Journal


async def store_signed(journal: Journal, account: ClientAccount, decisions: Sequence[Decision]) -> list[Sign]:
    """Store what was decided just now to be signed, and return it. A cancellation comes afterwards.

    Raises JournalError where it cannot be stored; then it is not signed.
    """
    signs = [decision for decision in decisions if isinstance(decision, Sign)]
    if signs:
        try:
            with trio.CancelScope(shield=True):  # commits are ours, and end by themselves
                await journal.complete(*(sign.receipt for sign in signs))
        except JournalError:
            account.withdraw()
            raise
        for sign in signs:
            account.note_stored(sign.stage, sign.receipt)
    return signs
