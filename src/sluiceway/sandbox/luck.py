"""Decide what happens to each request: by the scenario, the seed and the request's number, never by chance alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluiceway.sandbox.seeded import fraction, key_of, mix

if TYPE_CHECKING:
    from sluiceway.sandbox.scenario import Fault, Scenario


@dataclass(frozen=True, slots=True)
class Fate:
    """What a request meets with: a delay, perhaps a fault, and one more draw for what the fault leaves open."""

    delay_s: float
    fault: Fault | None
    spare: float


class Luck:
    """One provider's luck under one scenario."""

    def __init__(self, scenario: Scenario, seed: int, provider: str) -> None:
        self._key = key_of(seed, "luck", provider)
        self._faults = [fault for fault in scenario.faults if provider in fault.providers]
        self._latencies = [latency for latency in scenario.latencies if provider in latency.providers]

    def fate(self, elapsed: float, ordinal: int) -> Fate:
        """Decide about the request with this number, so many seconds after the start."""
        if not self._faults and not self._latencies:
            return _UNTOUCHED
        key = mix(self._key ^ ordinal)
        return Fate(self._delay(key, elapsed, ordinal), self._fault(key, elapsed, ordinal), fraction(key ^ 2))

    def _delay(self, key: int, elapsed: float, ordinal: int) -> float:
        for latency in self._latencies:
            if latency.window.holds(elapsed, ordinal):
                return latency.seconds(fraction(key ^ 1))
        return 0.0

    def _fault(self, key: int, elapsed: float, ordinal: int) -> Fault | None:
        # each fault has a draw of its own, so adding one to a file leaves the others where they fell
        for index, fault in enumerate(self._faults, 3):
            if fault.window.holds(elapsed, ordinal) and fraction(key + (index << 8)) < fault.chance:
                return fault
        return None


_UNTOUCHED = Fate(0.0, None, 0.0)
