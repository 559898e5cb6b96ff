"""Alternation: of several groups each has its turns, so that no crowd hides the others. Pure."""

from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from typing import TypeVar

T = TypeVar("T")


def in_turn(groups: Iterable[Iterable[T]]) -> Iterator[T]:
    """The first of each group, then the second of each, to the last of the longest. None counts as no member."""
    return (one for one in chain.from_iterable(zip_longest(*groups)) if one is not None)
