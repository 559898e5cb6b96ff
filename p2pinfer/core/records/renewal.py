"""The times to renew a certificate, and to tell its owner (protocols/identity.md, 5)."""

from enum import Enum
from typing import Final

from p2pinfer.core.records.certificate import NodeCert

RENEW_CERTIFICATE_S: Final = 30 * 86_400  # a certificate with less left is renewed, where the owner's key is at hand
WARN_S: Final = 7 * 86_400  # with less left the owner is told, where it is not


class Standing(Enum):
    """The state of a certificate at a time."""

    GOOD = "good"
    DUE = "due"  # it holds, and is to be renewed
    ENDING = "ending"  # likewise, and its owner is to be told
    OVER = "over"
    EARLY = "early"  # it begins later: one of two clocks was wrong


def standing(certificate: NodeCert, now: int) -> Standing:
    """`now` is the wall clock, Unix seconds."""
    left = certificate.not_after - now
    if now < certificate.not_before:
        return Standing.EARLY
    if left <= 0:
        return Standing.OVER
    if left < WARN_S:
        return Standing.ENDING
    return Standing.DUE if left <= RENEW_CERTIFICATE_S else Standing.GOOD
