"""Providers' own meters against our attempts, day by day: what they counted that we did not send, and the reverse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from sluiceway.store.bulk import Upsert
from sluiceway.store.schema import meter_days, provider_meters
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.provider_meter import compare


class MeteredDay(msgspec.Struct, frozen=True):
    """One meter from the last reading before a UTC day (or the first in it) to the last of that day, in its unit.

    They counted `theirs`; we sent what surely counts as `ours_least` and at most as `ours_most` (unknown calls and
    those in flight at a reading may count on either side; `None` where nobody knows what a call may have cost). So
    `outside` was surely used outside Sluiceway, and `missing` is what they lack of what we hold to be billed.
    """

    provider: str
    day: str
    meter: str
    unit: str
    since: str
    until: str
    theirs: int
    ours_least: int
    ours_most: int | None
    outside: int
    missing: int
    credential_id: str = PLATFORM


def metered_days(connection: Connection, since: str = "") -> list[MeteredDay]:
    """Compare every meter, on every UTC day from `since` (`YYYY-MM-DD`) on that it was read, with what we sent."""
    found = (_metered(connection, last) for last in _last_readings(connection, since))
    return [metered for metered in found if metered]


_DAY: Final = ("provider", "credential_id", "meter", "day")
_KEEP: Final = Upsert(
    meter_days,
    MeteredDay.__struct_fields__,
    _DAY,
    ", ".join(f"{name} = excluded.{name}" for name in MeteredDay.__struct_fields__ if name not in _DAY),
)


def keep_days(connection: Connection, days: Sequence[MeteredDay]) -> None:
    """Keep what meters counted beside ours, in place of what was kept of the same days: comparing takes a while."""
    _KEEP.run(connection, [msgspec.structs.astuple(day) for day in days])


def _last_readings(connection: Connection, since: str) -> Iterator[Any]:
    m = provider_meters.c
    query = select(m.provider, m.credential_id, m.meter, m.unit, func.max(m.read_at).label("read_at"))
    query = query.where(m.read_at >= since, m.error.is_(None))
    query = query.group_by(m.provider, m.credential_id, m.meter, m.unit, func.substr(m.read_at, 1, 10))
    yield from connection.execute(query.order_by(m.provider, m.credential_id, m.meter, func.max(m.read_at))).all()


def _metered(connection: Connection, last: Any) -> MeteredDay | None:
    day = last.read_at[:10]
    compared = compare(connection, last.provider, last.meter, f"{day}T00:00:00.000Z", last.read_at)
    compared = compared.of(last.credential_id)
    if compared.lost is None or compared.ours is None:
        return None
    least, most = compared.ours
    return MeteredDay(
        last.provider, day, last.meter, last.unit, compared.wholes[0].since, compared.wholes[-1].until,
        compared.lost, least, most,
        outside=sum(stretch.outside_least for stretch in compared.outside), missing=max(0, least - compared.lost),
        credential_id=last.credential_id,
    )  # fmt: skip
