"""How long attempts took, as a histogram in fixed buckets, from which the median and the slowest are read.

A bucket's upper bound is 2^(1/4) (19 %) above the one before, from 1 ms to 131 s, so a figure read from buckets is at
most 19 % too high and never too low. The bounds never change: sums made with others could not be added to.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Select, case, func, literal_column, select

from sluiceway.rollups.rollup import Key, Rollup
from sluiceway.rollups.usage import Moved
from sluiceway.store.schema import attempts, duration_days, tenant_duration_days

BOUNDS_US: Final = tuple(round(1000 * 2 ** (step / 4)) for step in range(69))
"""The longest each bucket holds, in microseconds; one more bucket holds what took longer than the last."""


def bucket_of(latency_us: int) -> int:
    """Return the number of the bucket a duration falls into."""
    return bisect_left(BOUNDS_US, latency_us)


def quantile_us(buckets: Mapping[int, int], share: float) -> int | None:
    """Return the bound (µs) that a share of durations does not exceed; `None` without any, or beyond the last bound."""
    total, seen = sum(buckets.values()), 0
    for bucket, count in sorted(buckets.items()):
        seen += count
        if seen >= share * total and seen:
            return BOUNDS_US[bucket] if bucket < len(BOUNDS_US) else None
    return None


def _bucket(low: int, high: int) -> Any:
    """Return SQL that finds a duration's bucket between two, by halves."""
    if low == high:
        return literal_column(str(low))
    middle = (low + high) // 2
    fits = attempts.c.latency_us <= literal_column(str(BOUNDS_US[middle]))
    return case((fits, _bucket(low, middle)), else_=_bucket(middle + 1, high))


_BUCKET: Final = _bucket(0, len(BOUNDS_US))


def _folded(tenants: bool, day: str | None) -> Select[Any]:
    a = attempts.c
    bucketed = select(
        func.coalesce(a.tenant_id, literal_column("''")).label("tenant_id"), a.day, a.source, _BUCKET.label("bucket")
    )
    bucketed = bucketed.where(a.finished_at.is_not(None), a.latency_us.is_not(None))
    b = (bucketed if day is None else bucketed.where(a.day == day)).subquery().c
    keys = [*([b.tenant_id] if tenants else []), b.day, b.source, b.bucket]
    return select(*keys, func.count().label("attempts")).group_by(*keys)


DURATIONS = Rollup(duration_days, lambda day: _folded(False, day), of_attempts=True)
TENANT_DURATIONS = Rollup(tenant_duration_days, lambda day: _folded(True, day), of_attempts=True)


class DurationsFold:
    """Adds one commit's finished attempts to the histograms. A correction does not change how long a call took."""

    def __init__(self) -> None:
        self._added: dict[Key, list[int]] = {}

    def finished(self, moved: Moved) -> None:
        """Count how long an attempt took that has just finished."""
        if moved.latency_us is not None:
            key = (moved.tenant_id or "", moved.day, moved.source, bucket_of(moved.latency_us))
            self._added.setdefault(key, [0])[0] += 1

    def write(self, connection: Connection) -> None:
        """Write the histograms: for each tenant, and for everybody."""
        everybody: dict[Key, list[int]] = {}
        for key, (count,) in self._added.items():
            everybody.setdefault(key[1:], [0])[0] += count
        TENANT_DURATIONS.add(connection, self._added)
        DURATIONS.add(connection, everybody)
