"""The wishes of a person who imports a model, where they differ from its source.

The command says so before it needs numpy.
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wishes:
    """Name and template are part of the model's id.

    name:     empty is the source's
    template: the chat template; None is the source's
    ignored:  keys of the source's configuration that change nothing, by the word of whoever imports it
    endpoint: of the hub; None is its client's own choice
    """

    name: str = ""
    template: str | None = None
    ignored: Collection[str] = ()
    endpoint: str | None = None


NO_WISHES = Wishes()
