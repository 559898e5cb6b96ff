"""The draw of the next id, as numbers: the parameters, and the one random number (protocols/inference.md, "Sampler").

A draw is a function of its parameters, so that a replacement or an auditor repeats it. `engine/sampler.py` applies the
number to a model's logits.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Annotated, Final

from p2pinfer.core.values import fields
from p2pinfer.core.values.fields import UInt

DOMAIN: Final = b"p2pinfer/1/draw\0"
MILLIONTHS: Final = 1_000_000  # parameters that people write as fractions are integers on the wire
MAX_TEMPERATURE: Final = 100 * MILLIONTHS


class Purpose(IntEnum):
    """Purposes of a random number; two purposes at one position draw independently."""

    SAMPLE = 0  # the id itself
    ACCEPT = 1  # kept for drafts: is this one accepted?
    RESIDUAL = 2  # kept for drafts: the id after one that was not


@dataclass(frozen=True, slots=True)
class Sampling:
    """The parameters by which ids are drawn in one generation."""

    temperature: Annotated[int, UInt(32)] = 0  # millionths; 0 is greedy
    top_k: Annotated[int, UInt(32)] = 0  # candidates kept; 0 keeps all
    top_p: Annotated[int, UInt(32)] = MILLIONTHS  # millionths of the probability kept; 1,000,000 keeps all
    seed: Annotated[int, UInt(53)] = 0

    def __post_init__(self) -> None:
        fields.check(self)
        if self.temperature > MAX_TEMPERATURE:
            raise ValueError(f"Sampling.temperature: {self.temperature} millionths, limit {MAX_TEMPERATURE}")
        if not 0 < self.top_p <= MILLIONTHS:
            raise ValueError(f"Sampling.top_p: {self.top_p} millionths are not in (0, {MILLIONTHS}]")

    @property
    def greedy(self) -> bool:
        """The candidate with the highest logit, whatever the other parameters are."""
        return self.temperature == 0


GREEDY: Final = Sampling()


def uniform(seed: int, position: int, purpose: Purpose = Purpose.SAMPLE) -> float:
    """A number in [0, 1): the first 53 bits of SHA-256(domain ‖ u64be seed ‖ u32be position ‖ u8 purpose) / 2**53.

    position: index in the session of the id being drawn; the first id after a prompt of P ids has index P
    """
    message = DOMAIN + seed.to_bytes(8, "big") + position.to_bytes(4, "big") + bytes([purpose])
    return (int.from_bytes(sha256(message).digest()[:8], "big") >> 11) / (1 << 53)
