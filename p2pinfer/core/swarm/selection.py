"""Of very many offers those that are looked at for an answer: some of every span and of every network. Pure.

Anybody may offer, whatever spans, and anybody may ask. So what one network tells of one kind of span is a *word*, and
words are kept in an order that is made as they come: those come first that are among the first of their kind, and of
their network. A crowd of one network is behind in its own row, a crowd of one kind in that kind's. Models are made up
as easily: where all are asked for, the row of a network goes through all of them.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Final, TypeVar

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.alternation import in_turn
from p2pinfer.core.values.units import ModelId, PeerKey, Roles

MAX_SELECTED: Final = 512  # offers, of which whole routes are found and an answer is made in no time

Kind = tuple[int, int, Roles]  # first layer, the one behind the last
Word = tuple[ModelId, Kind, str]

K = TypeVar("K")


class Selection:
    """Nodes by what they offer, and who told it."""

    def __init__(self) -> None:
        self._nodes: dict[ModelId, dict[Word, dict[PeerKey, None]]] = {}  # in order of hearing
        self._ranks: dict[ModelId, dict[Word, int]] = {}  # among words of one model
        self._whole_ranks: dict[Word, int] = {}  # and of all
        self._kinds: Counter[tuple[ModelId, Kind]] = Counter()  # words of each
        self._networks: Counter[tuple[ModelId, str]] = Counter()
        self._whole_networks: Counter[str] = Counter()

    def add(self, known: KnownOffer) -> None:
        model, kind, network = word = _word_of(known)
        nodes = self._nodes.setdefault(model, {})
        if word not in nodes:
            nodes[word] = {}
            rank = self._kinds[model, kind]
            self._ranks.setdefault(model, {})[word] = rank + self._networks[model, network]
            self._whole_ranks[word] = rank + self._whole_networks[network]
            self._kinds[model, kind] += 1
            self._networks[model, network] += 1
            self._whole_networks[network] += 1
        nodes[word][known.node] = None

    def remove(self, known: KnownOffer) -> None:
        model, kind, network = word = _word_of(known)
        nodes = self._nodes[model]
        del nodes[word][known.node]
        if nodes[word]:
            return
        del nodes[word], self._ranks[model][word], self._whole_ranks[word]
        _lower(self._kinds, (model, kind))
        _lower(self._networks, (model, network))
        _lower(self._whole_networks, network)
        if not nodes:
            del self._nodes[model], self._ranks[model]

    def nodes(self, model: ModelId | None) -> Sequence[PeerKey]:
        """At most MAX_SELECTED: of each word in turn who was heard last."""
        ranks = self._whole_ranks if model is None else self._ranks.get(model, {})
        words = [self._nodes[word[0]][word] for word in sorted(ranks, key=ranks.__getitem__)[:MAX_SELECTED]]
        return list(islice(in_turn(list(reversed(nodes))[:MAX_SELECTED] for nodes in words), MAX_SELECTED))


def _lower(counter: Counter[K], key: K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _word_of(known: KnownOffer) -> Word:
    record = known.offer.record
    return record.model, (record.span.first, record.span.last, record.roles), known.network
