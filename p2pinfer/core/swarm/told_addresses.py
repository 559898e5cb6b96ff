"""A node's addresses, by the word of several: nobody takes away what others said (protocols/offer.md, 8).

Addresses are signed by nobody. A node's own word comes first, and then the word of each network in turn. Pure.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from p2pinfer.core.values.alternation import in_turn
from p2pinfer.core.wire.messages import MAX_ADDRESSES

KEPT: Final = MAX_ADDRESSES // 2  # of those that the node told itself, whatever others say

Words = Mapping[
    str, str | None
]  # addresses, as they are to be dialled, and the networks that named them; None: the node


def with_own(words: Words, addresses: Iterable[str]) -> Words:
    """A node said itself where it is."""
    own = dict.fromkeys(addresses)
    others = {address: network for address, network in words.items() if network is not None and address not in own}
    return dict([*own.items(), *others.items()][:MAX_ADDRESSES])


def with_relayed(words: Words, addresses: Iterable[str], network: str, draw: Callable[[int], int]) -> Words:
    """Somebody of a network said where a node is.

    Too many are dropped of the network that named most, by lot but for its first ones. draw: a number below another
    """
    groups: dict[str | None, list[str]] = defaultdict(list)
    for address, namer in (
        dict(words) | dict.fromkeys((one for one in addresses if one not in words), network)
    ).items():
        groups[namer].append(address)
    own = groups.pop(None, [])
    for _ in range(len(own) + sum(map(len, groups.values())) - MAX_ADDRESSES):
        most = max(map(len, groups.values()), default=0)
        if len(own) > KEPT and len(own) >= most:
            own.pop()
        else:
            longest = [group for group in groups.values() if len(group) == most]
            first = min(KEPT, most - 1)
            longest[draw(len(longest))].pop(first + draw(most - first))
    namers = {address: namer for namer, named in groups.items() for address in named}
    return dict.fromkeys(own) | {address: namers[address] for address in in_turn(groups.values())}
