"""The ids that a tail sampled in one session, and its words on them (protocols/inference.md, 3.6 and 4.4).

Each goes to the client and round the ring as it is sampled. A client that comes back may lack some: they are kept, four
bytes a position, and said again.
"""

from array import array
from collections.abc import Iterator

from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.stage_terms import StageTerms
from p2pinfer.core.values.codes import Code
from p2pinfer.core.wire.session_messages import MAX_SAMPLED, Sampled


class TailIds:
    """reason: why the last one was the last; NONE while more may come"""

    def __init__(self, terms: StageTerms, ending: Ending) -> None:
        self.reason = Code.NONE
        self._terms = terms
        self._ending = ending
        self._ids = array("I")

    def add(self, id_: int) -> Sampled:
        """Take the next one; return the word on it."""
        terms, position = self._terms, self._terms.prompt + len(self._ids)
        self._ids.append(id_)
        self.reason = self._ending.add(id_)
        return Sampled(terms.session, terms.epoch, 0, position, (id_,), self.reason)

    def after(self, delivered: int) -> Iterator[Sampled]:
        """The words on those after the first so many, again."""
        terms = self._terms
        for first in range(delivered, len(self._ids), MAX_SAMPLED):
            ids = tuple(self._ids[first : first + MAX_SAMPLED])
            reason = self.reason if first + len(ids) == len(self._ids) else Code.NONE
            yield Sampled(terms.session, terms.epoch, 0, terms.prompt + first, ids, reason)
