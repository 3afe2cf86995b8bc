"""Providers' own meters beside our ledger: the series of what they said, and what was used outside Sluiceway.

The series keeps the first and the last reading of every stretch in which nothing changed. What a meter lost between
two readings, less what the ledger spent in between, was spent by somebody else with the same key.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import accumulate, groupby, pairwise
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, func, insert, or_, select, update

from sluiceway.identifier import new_id
from sluiceway.outcome import ChargeKind, parse_timestamp, timestamp
from sluiceway.store.schema import attempts, provider_meters

LATE: Final = timedelta(seconds=60)
"""How long after we gave a request up its provider may still come to count it."""

_NOT_FOR_CREDITS: Final = ("meter", "check")  # the triggers of requests that cost nothing, whatever became of them
_COMPARED: Final = ("requests", "credits", "usd")


class MeterRow(msgspec.Struct, frozen=True, gc=False):
    """One reading of a provider's meter, as the store holds it.

    Its figures are of some moment from `asked_at`, when the request left, to `read_at`, when its answer was there.
    `origin` is `headers` or `body` of an ordinary answer, or a `call` of its own. Requests and tokens are counted,
    credits are milli-credits, dollars micro-dollars; `None` is what the provider did not say. Of one that is `summed`,
    `used` is to be added to what was held of the same period.
    """

    provider: str
    credential_id: str
    meter: str
    unit: str
    origin: str
    asked_at: str
    read_at: str
    used: int | None = None
    amount: int | None = None
    remaining: int | None = None
    resets_at: str | None = None
    error: str | None = None
    id: str = msgspec.field(default_factory=new_id)
    summed: bool = False


_STORED: Final = tuple(name for name in MeterRow.__struct_fields__ if name != "summed")
_SAID: Final = ("unit", "used", "amount", "remaining", "resets_at", "error")


def keep(connection: Connection, rows: Sequence[MeterRow]) -> None:
    """Add readings to the series. A second time changes nothing."""
    for row in rows:
        _keep(connection, row)


def _keep(connection: Connection, row: MeterRow) -> None:
    m = provider_meters.c
    if connection.execute(select(m.id).where(m.id == row.id)).first():
        return
    before = connection.execute(_series(row.provider, row.credential_id, row.meter).limit(2)).all()
    row = _added_up(row, before)
    if len(before) == 2 and all(_says_the_same(held, row) for held in before) and before[0].read_at <= row.read_at:
        moved = {"asked_at": row.asked_at, "read_at": row.read_at, "origin": row.origin}
        connection.execute(update(provider_meters).where(m.id == before[0].id).values(moved))
    else:
        connection.execute(insert(provider_meters).values({name: getattr(row, name) for name in _STORED}))


def _series(provider: str, credential_id: str, meter: str) -> Select[Any]:
    m = provider_meters.c
    query = select(*(m[name] for name in _STORED))
    query = query.where(m.provider == provider, m.credential_id == credential_id, m.meter == meter)
    return query.order_by(m.read_at.desc(), m.id.desc())


def _added_up(row: MeterRow, before: Sequence[Row[Any]]) -> MeterRow:
    same_period = row.summed and before and before[0].resets_at == row.resets_at
    held = before[0].used if same_period else None
    return msgspec.structs.replace(row, used=row.used + held) if held is not None and row.used is not None else row


def _says_the_same(held: Row[Any], row: MeterRow) -> bool:
    return all(getattr(held, name) == getattr(row, name) for name in _SAID)


def latest(connection: Connection, provider: str | None = None) -> list[MeterRow]:
    """Return the last reading of every meter, of one provider or of all."""
    m = provider_meters.c
    query = select(m.provider, m.credential_id, m.meter).distinct()
    if provider is not None:
        query = query.where(m.provider == provider)
    meters = connection.execute(query.order_by(m.provider, m.credential_id, m.meter)).all()
    lasts = (connection.execute(_series(*meter).limit(1)).first() for meter in meters)
    return [_row(last) for last in lasts if last]


def _row(held: Row[Any]) -> MeterRow:
    return MeterRow(**dict(held._mapping))  # noqa: SLF001 - documented, and named so only to keep clear of columns


class Stretch(msgspec.Struct):
    """What one meter lost from one reading of it to another, and what our attempts meanwhile can have taken.

    In the meter's unit. `ours_most` counts what was in flight at either end, and what is unknown; it is `None` where
    nobody knows what an attempt may have cost.
    """

    credential_id: str
    since: str
    until: str
    lost: int
    ours_least: int = 0
    ours_most: int | None = 0

    @property
    def outside_least(self) -> int:
        """What was surely used outside Sluiceway."""
        return 0 if self.ours_most is None else max(0, self.lost - self.ours_most)

    @property
    def outside_most(self) -> int:
        """What may have been used outside Sluiceway."""
        return max(0, self.lost - self.ours_least)

    def holds(self, part: Stretch) -> bool:
        """Tell whether another stretch lies within this one."""
        same = self.credential_id == part.credential_id
        return same and self.since <= part.since and part.until <= self.until


class Comparison(msgspec.Struct, frozen=True):
    """Theirs and ours over a time: from reading to reading (`parts`), and over all of them that compare (`wholes`).

    A reading in the midst of many calls leaves open on which side of it each of them was, but not that it was ours:
    so a whole may prove what none of its parts does, and a part says better when.
    """

    parts: list[Stretch]
    wholes: list[Stretch]

    def of(self, credential_id: str) -> Comparison:
        """Return what of it is about one credential."""
        parts, wholes = ([one for one in of if one.credential_id == credential_id] for of in (self.parts, self.wholes))
        return Comparison(parts, wholes)

    @property
    def lost(self) -> int | None:
        """What the meter lost; `None` where no readings compare."""
        return sum(whole.lost for whole in self.wholes) if self.wholes else None

    @property
    def ours(self) -> tuple[int, int | None] | None:
        """The least and the most that our attempts took of it; the most is `None` where nobody knows."""
        if not self.wholes:
            return None
        known = [whole.ours_most for whole in self.wholes if whole.ours_most is not None]
        least = sum(whole.ours_least for whole in self.wholes)
        return least, sum(known) if len(known) == len(self.wholes) else None

    @property
    def outside(self) -> list[Stretch]:
        """The shortest stretches that prove what was surely used outside Sluiceway, oldest first."""
        return [stretch for whole in self.wholes for stretch in self._proof(whole)]

    def _proof(self, whole: Stretch) -> list[Stretch]:
        sure = [part for part in self.parts if part.outside_least and whole.holds(part)]
        return sure if sum(part.outside_least for part in sure) >= whole.outside_least else [whole]


class Beside(msgspec.Struct, frozen=True):
    """A meter as it was last read, and ours beside what it lost over a time."""

    theirs: MeterRow
    compared: Comparison


def side_by_side(connection: Connection, since: str, until: str, provider: str | None = None) -> list[Beside]:
    """Return every meter's last reading, with ours beside what it lost from `since` to `until` (stored moments)."""
    return [
        Beside(row, compare(connection, row.provider, row.meter, since, until)) for row in latest(connection, provider)
    ]


class _Span(msgspec.Struct, frozen=True):
    """Two readings that compare, and what the meter lost between them."""

    first: MeterRow
    last: MeterRow
    lost: int


def compare(connection: Connection, provider: str, meter: str, since: str, until: str) -> Comparison:
    """Compare what a meter lost with what we took of it.

    `since` and `until` are stored moments; a stretch that reaches into that time belongs to it as a whole. Two readings
    compare only within one period: not when the meter was reset in between, or filled up.
    """
    compared = Comparison([], [])
    readings = _readings_around(connection, provider, meter, since, until)
    for _, rows in groupby(readings, lambda row: row.credential_id):
        spans = list(_spans(rows))
        compared.parts.extend(_with_ours(connection, spans))
        compared.wholes.extend(_with_ours(connection, _unbroken(spans)))
    for found in (compared.parts, compared.wholes):
        found.sort(key=lambda stretch: stretch.since)
    return compared


def _spans(rows: Iterable[MeterRow]) -> Iterator[_Span]:
    for first, last in pairwise(rows):
        lost = _lost(first, last)
        if lost is not None:
            yield _Span(first, last, lost)


def _unbroken(spans: Iterable[_Span]) -> list[_Span]:
    """Join spans of which each begins with the reading that the one before it ends with."""
    joined: list[_Span] = []
    for span in spans:
        if joined and joined[-1].last is span.first:
            before = joined.pop()
            joined.append(_Span(before.first, span.last, before.lost + span.lost))
        else:
            joined.append(span)
    return joined


def _readings_around(connection: Connection, provider: str, meter: str, since: str, until: str) -> Iterator[MeterRow]:
    """Yield the readings within a time, with the one before and the one after it, by credential, oldest first."""
    m = provider_meters.c
    of_meter = (m.provider == provider, m.meter == meter, m.error.is_(None), m.unit.in_(_COMPARED))
    for credential_id in connection.execute(select(m.credential_id).distinct().where(*of_meter)).scalars().all():
        mine = (*of_meter, m.credential_id == credential_id)
        first = select(func.max(m.read_at)).where(*mine, m.read_at <= since).scalar_subquery()
        last = select(func.min(m.read_at)).where(*mine, m.read_at >= until).scalar_subquery()
        within = (m.read_at >= func.coalesce(first, since), m.read_at <= func.coalesce(last, until))
        query = select(*(m[name] for name in _STORED)).where(*mine, *within)
        yield from map(_row, connection.execute(query.order_by(m.read_at, m.id)))


def _lost(one: MeterRow, next_one: MeterRow) -> int | None:
    """Return what a meter lost between two readings; `None` where they do not compare."""
    if one.resets_at != next_one.resets_at or (one.resets_at and one.resets_at <= next_one.read_at):
        return None
    if one.used is not None and next_one.used is not None:
        lost = next_one.used - one.used
    elif one.remaining is not None and next_one.remaining is not None and one.amount == next_one.amount:
        lost = one.remaining - next_one.remaining
    else:
        return None
    return lost if lost >= 0 else None


def _with_ours(connection: Connection, spans: Sequence[_Span]) -> list[Stretch]:
    """Return a stretch for each span, in order of their last readings, with what our attempts took meanwhile."""
    found = [Stretch(s.first.credential_id, s.first.read_at, s.last.read_at, s.lost) for s in spans]
    if not spans:
        return found
    begins, ends = _never_later_than_the_next(spans), [span.last.read_at for span in spans]
    for attempt in connection.execute(_attempts_within(spans[0].first, begins[0], ends[-1])):
        end = _end(attempt)
        least, most = _took(attempt, spans[0].first)
        for place in range(bisect_left(ends, attempt.begun_at), bisect_right(begins, end)):
            span, stretch = spans[place], found[place]
            stretch.ours_most = None if stretch.ours_most is None or most is None else stretch.ours_most + most
            if attempt.begun_at > span.first.read_at and end < span.last.asked_at:
                stretch.ours_least += least
    return found


def _never_later_than_the_next(spans: Sequence[_Span]) -> list[str]:
    """Return when each span may begin, in order: a slow answer was asked for before a quick one was there."""
    return list(accumulate((span.first.asked_at for span in reversed(spans)), min))[::-1]


def _attempts_within(meter: MeterRow, begin: str, end: str) -> Select[Any]:
    """Select the attempts that a meter can have counted within a time."""
    a = attempts.c
    query = select(
        a.begun_at, a.finished_at, a.charge, a.http_status, a.credits, a.usd_micros,
        a.reserved_milli_credits, a.reserved_usd_micros,
    )  # fmt: skip
    day_before = (date.fromisoformat(begin[:10]) - timedelta(days=1)).isoformat()
    query = query.where(a.day >= day_before, a.day <= end[:10], a.begun_at <= end)
    query = query.where(a.provider == meter.provider, a.credential_id == meter.credential_id, *_counted_by(meter))
    query = query.where(or_(a.finished_at.is_(None), a.finished_at >= _later(begin, -LATE)))
    return query.where(or_(a.charge.is_(None), a.charge != ChargeKind.NOT_SENT))


def _counted_by(row: MeterRow) -> Iterator[ColumnElement[bool]]:
    """Yield what our attempts must be like for a meter to count them."""
    a = attempts.c
    if row.unit != "requests":
        yield a.trigger.not_in(_NOT_FOR_CREDITS)
        yield or_(a.charge.is_(None), a.charge != ChargeKind.FREE)
        return
    endpoint, _, _ = row.meter.rpartition(" per ")
    if endpoint != "requests":
        yield a.endpoint == endpoint


def _end(attempt: Row[Any]) -> str:
    """Return the last moment at which a provider can have counted an attempt."""
    if attempt.finished_at is None:
        return "~"  # after any moment: it is in flight
    return _later(attempt.finished_at, LATE) if attempt.charge == ChargeKind.UNKNOWN else str(attempt.finished_at)


def _later(stamp: str, by: timedelta) -> str:
    moment = parse_timestamp(stamp)
    return timestamp(moment + by) if moment else stamp


def _took(attempt: Row[Any], row: MeterRow) -> tuple[int, int | None]:
    """Return the least and the most that one attempt can have taken from a meter, `None` where nobody knows."""
    known = attempt.charge in (ChargeKind.BILLED, ChargeKind.FREE)
    match row.unit:
        case "requests":  # whether a refused request is counted is nowhere written
            return int(known and attempt.http_status is not None and attempt.http_status < 400), 1
        case "usd":
            spent, reserved = attempt.usd_micros, attempt.reserved_usd_micros
        case _:
            pools = msgspec.json.decode(attempt.credits) if attempt.credits else {}
            spent, reserved = pools.get(row.meter.removesuffix(" credits"), 0), attempt.reserved_milli_credits
    return (0 if spent is None else spent, spent) if known else (0, reserved)
