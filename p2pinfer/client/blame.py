"""Proof that one stage alone made a route fail before its first id, so that it is asked no more (inference.md, 6).

Of several stages each may have made another fail, so of them only what nobody else can have brought about is proof.
"""

from collections.abc import Sequence
from typing import Final

from p2pinfer.core.sessions.generation import Generation
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Disputed, RemoteProtocolError
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import Close, SessionRefused

# A stage that ends a session with one of these had that from nobody else in it. Not so the others: `idle` where another
# sent it nothing, `engine` where rows it was sent overflow in its layers, `lost` where another closed their link.
OWN_ENDS: Final = frozenset((Code.LEAVING, Code.DRAINED, Code.INTERNAL))


class Blame:
    """Of one generation. stages: those that refused, vanished, or broke the protocol before the first id, whatever the
    others did; of several, none is here for what another could have brought about"""

    def __init__(self, generation: Generation) -> None:
        self.stages: set[PeerKey] = set()
        self._generation = generation

    def note_lost(self, stage: PeerKey) -> None:
        """There is no link to it any more."""
        self._add(stage)

    def note_silence(self) -> None:
        """Nothing came for too long."""
        if len(self._generation.route) == 1:
            self._add(self._generation.route[0])

    def note_fault(self, stage: PeerKey, error: RemoteProtocolError) -> None:
        if len(self._generation.route) == 1 or not isinstance(error, Disputed):
            self._add(stage)

    def note_end(self, stage: PeerKey, message: SessionRefused | Close) -> None:
        """It refused, or gave up."""
        if _is_proof(self._generation.route, stage, message):
            self._add(stage)

    def _add(self, stage: PeerKey) -> None:
        """Before the first id, another may take its place."""
        if not self._generation.begun:
            self.stages.add(stage)


def _is_proof(route: Sequence[PeerKey], sender: PeerKey, message: SessionRefused | Close) -> bool:
    """The stage did not serve, and no other one of the route can have brought that about."""
    code = Code.read(message.code)
    if len(route) == 1:
        return True
    if isinstance(message, SessionRefused):
        return code is not Code.UNREACHABLE
    is_head = sender == route[0]  # its engine is given ids, none of which overflows
    return code in OWN_ENDS or (code is Code.ENGINE and is_head)
