"""The promises of a route's stages, held against the answer (`core/routes/measures.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from p2pinfer.core.routes.measures import Lag
from p2pinfer.core.routes.routing import Demand, Route, predicted_s
from p2pinfer.core.values.units import PeerKey

PATIENT: Final = 1.5  # times what was promised nobody is late yet: other work comes between
OPEN_TRIPS: Final = 1  # round trips that opening a stage takes
RING_TRIPS: Final = 6  # that it takes where stages have to link to each other before
OPEN_S: Final = 0.25  # besides: signatures and their storing, on machines that have other work
STEP_S: Final = 0.002  # of an id: its own way through two processes
MIN_IDS: Final = 8  # fewer say nothing of the time of one,
TELLING_S: Final = 10.0  # unless they took as long as this


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of an answer: from the opening to the first id, from there to the last, and how many ids came."""

    first_s: float
    others_s: float
    ids: int


@dataclass(frozen=True, slots=True)
class Promised:
    """A route as it was chosen."""

    route: Route
    load: Demand

    def lag(self, times: Times, trips_s: Mapping[PeerKey, float]) -> Lag:
        """The lag of the answer behind what was promised. trips_s: to each stage and back, as measured."""
        first_s = self._claimed_s(1, trips_s)
        step_s = self._claimed_s(2, trips_s) - first_s
        trips = RING_TRIPS if len(self.route) > 1 else OPEN_TRIPS
        opening_s = OPEN_S + trips * max(trips_s.values())
        late_s = times.first_s - PATIENT * first_s - opening_s
        tells = times.ids >= MIN_IDS or times.others_s >= TELLING_S
        slow_s = times.others_s / (times.ids - 1) - PATIENT * step_s - STEP_S if tells and times.ids > 1 else 0.0
        return Lag(max(0.0, late_s), max(0.0, slow_s))

    def _claimed_s(self, tokens: int, trips_s: Mapping[PeerKey, float]) -> float:
        """Until so many ids are there, by the stages' own words alone."""
        load, claimed_s = replace(self.load, tokens=tokens), 0.0
        for stage in self.route:
            candidate = replace(stage.candidate, late_s=0.0, slow_s=0.0, rtt_s=trips_s[stage.candidate.key])
            claimed_s += predicted_s(replace(stage, candidate=candidate), load)
        return claimed_s
