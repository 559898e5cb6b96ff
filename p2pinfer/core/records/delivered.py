"""A generation that is not paid up, as its client keeps it on disk: enough to sign later what a node proposes again.

Leaves of ids are salted hashes, and the salt is not kept beside them: whoever reads the journal can test no guess of a
prompt. Before `first` everything is signed, so there the frontiers of both trees do. A window of leaves stays.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgpack

from p2pinfer.core.records.tree import ROOT_BYTES, Tree
from p2pinfer.core.values.errors import JournalError

VERSION: Final = 1
CHECK_BYTES: Final = 8  # of a hash over all of it: leaves that a disk spoilt are no evidence


@dataclass(frozen=True, slots=True)
class Delivered:
    """The ids of a generation, as a client counted them.

    prompt:  ids of the prompt
    count:   ids delivered
    first:   positions before it are signed by all stages
    inputs:  frontier over the ids of positions [0, first)
    outputs: frontier over the delivered ids whose sampling those positions account for
    leaves:  of the ids of positions [first, prompt + count)
    """

    prompt: int
    count: int
    first: int
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    leaves: tuple[bytes, ...]

    def __post_init__(self) -> None:
        hashes = (*self.inputs, *self.outputs, *self.leaves)
        if self.prompt < 1 or self.count < 0 or not 0 <= self.first <= self.counted:
            raise ValueError(f"{self.count} ids after a prompt of {self.prompt}, signed up to {self.first}")
        if len(self.leaves) != self.prompt + self.count - self.first or {*map(len, hashes)} - {ROOT_BYTES}:
            raise ValueError(f"{len(self.leaves)} leaves from {self.first} of {self.prompt + self.count}")

    @property
    def counted(self) -> int:
        """Positions that the ids prove computed, if any was delivered."""
        return self.prompt + self.count - 1

    def trees(self) -> tuple[Tree, Tree]:
        """The trees over ids into the head, and out of the tail; roots before `first` are not there any more."""
        sampled = _sampled(self.prompt, self.first)
        inputs, outputs = Tree.resumed(self.first, self.inputs), Tree.resumed(sampled, self.outputs)
        inputs.add(self.leaves)
        outputs.add(self.leaves[self.prompt + sampled - self.first :])
        return inputs, outputs


def delivered(inputs: Tree, outputs: Tree, prompt: int, first: int) -> Delivered:
    """The record of both trees, where all stages have signed positions [0, first)."""
    return Delivered(
        prompt=prompt,
        count=len(outputs),
        first=first,
        inputs=inputs.frontier(first),
        outputs=outputs.frontier(_sampled(prompt, first)),
        leaves=tuple(inputs.leaves(first)),
    )


def _sampled(prompt: int, committed: int) -> int:
    """Ids whose sampling `committed` positions account for."""
    return max(0, committed + 1 - prompt)


def encode_delivered(kept: Delivered) -> bytes:
    """As the journal has it."""
    hashes = b"".join(kept.inputs), b"".join(kept.outputs), b"".join(kept.leaves)
    data: bytes = msgpack.packb([VERSION, kept.prompt, kept.count, kept.first, *hashes])
    return sha256(data).digest()[:CHECK_BYTES] + data


def decode_delivered(data: bytes) -> Delivered:
    """Raises JournalError for bytes that are none."""
    try:
        check, data = data[:CHECK_BYTES], data[CHECK_BYTES:]
        if check != sha256(data).digest()[:CHECK_BYTES]:
            raise ValueError("it is not what was written")
        version, prompt, count, first, *hashes = msgpack.unpackb(data)
        if version != VERSION:
            raise ValueError(f"version {version}")
        inputs, outputs, leaves = map(_split, hashes)
        return Delivered(prompt, count, first, inputs, outputs, leaves)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise JournalError(f"a record of delivered ids is damaged ({error})") from None


def _split(hashes: bytes) -> tuple[bytes, ...]:
    return tuple(hashes[at : at + ROOT_BYTES] for at in range(0, len(hashes), ROOT_BYTES))
