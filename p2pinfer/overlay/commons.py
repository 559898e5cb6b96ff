"""The parts that all links of one network share, whomever they lead to."""

from dataclasses import dataclass

from p2pinfer.overlay.backlog import Backlog
from p2pinfer.overlay.toll import Toll
from p2pinfer.overlay.turn import Turn
from p2pinfer.overlay.uplink import Uplink


@dataclass(frozen=True, slots=True, eq=False)
class Commons:
    """turn: at whose end frames leave. backlog: bytes that wait on all. toll: what reading costs. uplink: for files"""

    turn: Turn
    backlog: Backlog
    toll: Toll
    uplink: Uplink
