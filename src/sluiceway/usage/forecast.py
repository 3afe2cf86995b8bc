"""When a quota runs out if things go on as they do: a forecast with its interval and its error, or why there is none.

The burn of an hour to come is what that hour of the day uses (weekends apart) times the recent level. How sure that is
comes from having made the same forecast at earlier moments of the same history, and comparing it with what followed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise
from statistics import mean, median
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, case, func, literal_column, select

from sluiceway.outcome import ChargeKind, timestamp
from sluiceway.store.schema import attempts, provider_hours, usage_hours
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.quota import Quota, QuotaClock, Unit, Use, uses

HISTORY_DAYS: Final = 14
"""Days of history a forecast is made from, at most."""

_HOUR: Final = timedelta(hours=1)

HORIZON: Final = timedelta(days=31)
"""How far ahead anything is said where no window ends sooner."""

_FEWEST_DAYS: Final = 4
_FEWEST_DAYS_USED: Final = 3
_LONGEST_IDLE_HOURS: Final = 72
_LEARN_HOURS: Final = 48
"""What a back-test has seen before it makes its first forecast."""

_BACK_TEST_EVERY_HOURS: Final = 6
_BACK_TESTED_HOURS: Final = (6, 12, 24, 48, 72, 96, 120, 168)
_FEWEST_BACK_TESTS: Final = 4
_LARGEST_ERROR: Final = 1.0
"""Where a day's forecast is usually off by more than what was used, there is no forecast."""

_HALF_LIVES: Final = (12.0, 36.0, 96.0)
"""After how many hours use counts half towards the level; the one that would have served best is taken."""

_PRIOR_HOURS: Final = 6.0
_PRIOR_WEEKEND_HOURS: Final = 12.0
_PRIOR_DAYS: Final = 0.3
_Z80: Final = 1.2816
"""80 % of a normal distribution is within so many standard deviations."""


class NotEnough(msgspec.Struct, frozen=True, tag="not_enough_data"):
    """No forecast, and why."""

    reason: str


class Forecast(msgspec.Struct, frozen=True, tag="forecast"):
    """When a quota runs out at the present burn. Moments are aware and in UTC, amounts in the quota's unit.

    The true moment is between `earliest` and `latest` four times out of five. `None` is: not before the window ends
    (or within `HORIZON`). `burn_per_hour` is what the present hour is expected to use, `burn_per_day` the next 24.
    `error` is the median error of a day's total over `back_tests` earlier forecasts, as a share of what was used.
    """

    runs_out_at: datetime | None
    earliest: datetime | None
    latest: datetime | None
    burn_per_hour: float
    burn_per_day: float
    error: float
    back_tests: int
    will_last: bool


def forecast(
    hourly: Sequence[float], now: datetime, left: float, window_end: datetime | None = None
) -> Forecast | NotEnough:
    """Say when `left` is used up, or why that cannot be foretold.

    `hourly` is what each full UTC hour used, oldest first, the last one ending at or just before `now` (aware); what
    is older than `HISTORY_DAYS` is not looked at. `left` is what the present window still has, in the same unit.
    """
    used = _from_first_use(hourly[-HISTORY_DAYS * 24 :])
    if reason := _too_little(used):
        return NotEnough(reason)
    hours, tests = _back_tested(tuple(used), _hour_of(now))
    error = _day_ahead_error(tests)
    if error >= _LARGEST_ERROR:
        return NotEnough(f"use is too irregular: forecasts of a day were off by {error:.0%}, in the median")
    ahead = _Ahead(used, hours, tests, now)
    end = min(window_end or now + HORIZON, now + HORIZON)
    runs_out_at, earliest, latest = (ahead.reaches(left, z, end) for z in (0.0, _Z80, -_Z80))
    return Forecast(
        runs_out_at, earliest, latest, ahead.expected[0], sum(ahead.expected[:24]), error,
        sum(1 for test in tests if test.hours == 24), will_last=runs_out_at is None,
    )  # fmt: skip


class QuotaForecast(msgspec.Struct, frozen=True):
    """What is used of one quota in its present window, and when it runs out. Amounts are in the quota's unit."""

    provider: str
    tenant_id: str | None
    limit: str
    hard: bool
    unit: Unit
    clock: QuotaClock
    amount: int
    used: int
    left: int
    opens_at: str
    closes_at: str
    outlook: Forecast | NotEnough


def quota_forecasts(connection: Connection, now: datetime) -> list[QuotaForecast]:
    """Return a forecast for every quota of a day or a billing cycle, by provider; shorter windows make work wait."""
    long = [use for use in uses(connection, timestamp(now)) if use.quota.is_long]
    return [_quota_forecast(connection, use, now) for use in long]


def _quota_forecast(connection: Connection, use: Use, now: datetime) -> QuotaForecast:
    quota, window = use.quota, use.window
    hourly = hourly_use(connection, quota, now)
    outlook = forecast(hourly, now, use.left, datetime.fromisoformat(window.closes_at))
    return QuotaForecast(
        quota.provider, quota.tenant_id, quota.shown(), quota.hard, quota.unit, quota.clock, quota.amount, use.used,
        use.left, window.opens_at, window.closes_at, outlook,
    )  # fmt: skip


def hourly_use(connection: Connection, quota: Quota, now: datetime) -> list[float]:
    """Return what calls used of a quota in each full UTC hour of the last `HISTORY_DAYS`, oldest first."""
    this_hour = _hour_of(now)
    u = (provider_hours if quota.tenant_id is None else usage_hours).c
    amount = {
        Unit.REQUESTS: u.attempts - u.not_sent,
        Unit.CREDITS: u.milli_credits,
        Unit.USD: u.usd_micros,
    }[quota.unit]
    first = this_hour - timedelta(days=HISTORY_DAYS)
    query = select(u.day, u.hour, func.sum(amount)).where(u.provider == quota.provider, u.day >= f"{first:%Y-%m-%d}")
    if quota.tenant_id is not None:
        query = query.where(u.tenant_id == quota.tenant_id)
    used = {(day, hour): float(total) for day, hour, total in connection.execute(query.group_by(u.day, u.hour))}
    for day, hour, total in connection.execute(own_use(quota, f"{first:%Y-%m-%d}")):
        used[day, hour] = used.get((day, hour), 0.0) - float(total)
    hours = (first + _HOUR * place for place in range(HISTORY_DAYS * 24))
    return [used.get((f"{hour:%Y-%m-%d}", hour.hour), 0.0) for hour in hours]


def own_use(quota: Quota, since_day: str) -> Select[Any]:
    """Return the query of what calls with tenants' own credentials used by hour: it is in the sums and in no quota."""
    a = attempts.c
    amount = {
        Unit.REQUESTS: case((a.charge == ChargeKind.NOT_SENT, 0), else_=1),
        Unit.CREDITS: func.coalesce(a.milli_credits, 0),
        Unit.USD: func.coalesce(a.usd_micros, 0),
    }[quota.unit]
    whose = [a.tenant_id == quota.tenant_id] if quota.tenant_id is not None else []
    own = a.credential_id != literal_column(f"'{PLATFORM}'")  # no parameter, or SQLite does not see its index
    query = select(a.day, a.hour, func.sum(amount)).where(a.provider == quota.provider, own, a.day >= since_day, *whose)
    return query.where(a.finished_at.is_not(None)).group_by(a.day, a.hour)


def _hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _from_first_use(hourly: Sequence[float]) -> Sequence[float]:
    first = next((place for place, amount in enumerate(hourly) if amount > 0), len(hourly))
    return hourly[first:]


def _too_little(used: Sequence[float]) -> str | None:
    if not used:
        return f"no full hour of the last {HISTORY_DAYS} days used anything"
    if len(used) < _FEWEST_DAYS * 24:
        return f"the first use was {len(used) / 24:.1f} days ago; a forecast needs {_FEWEST_DAYS}"
    idle = next(place for place, amount in enumerate(reversed(used)) if amount > 0)
    if idle >= _LONGEST_IDLE_HOURS:
        return f"nothing was used for {idle // 24} days, so there is no present burn"
    days_used = sum(1 for start in range(0, len(used), 24) if any(used[start : start + 24]))
    if days_used < _FEWEST_DAYS_USED:
        return (
            f"only {days_used} of the last {len(used) // 24} days used anything; a forecast needs {_FEWEST_DAYS_USED}"
        )
    return None


class _Hours:
    """Which hour of the day each hour of a stretch is, and whether it is on a weekend (UTC)."""

    def __init__(self, first: datetime, count: int) -> None:
        place = first.weekday() * 24 + first.hour
        self.kinds = [((place + n) // 24 % 7 >= 5, (place + n) % 24) for n in range(count)]


class _Profile:
    """What each hour of the day uses on average, weekends apart; learns hour by hour.

    A weekend is a day with everything times one factor, because two weekends are too few for a profile of their own.
    Averages lean on the overall one until there is enough of their own.
    """

    def __init__(self) -> None:
        self._sums = {False: [0.0] * 24, True: [0.0] * 24}
        self._counts = {False: [0] * 24, True: [0] * 24}

    def learn(self, kind: tuple[bool, int], used: float) -> None:
        weekend, hour = kind
        self._sums[weekend][hour] += used
        self._counts[weekend][hour] += 1

    def rates(self) -> dict[bool, list[float]]:
        """Return the average by weekend and hour of the day."""
        sums = {weekend: sum(of) for weekend, of in self._sums.items()}
        counts = {weekend: sum(of) for weekend, of in self._counts.items()}
        overall = sum(sums.values()) / sum(counts.values())
        on_weekdays = (sums[False] + _PRIOR_HOURS * overall) / (counts[False] + _PRIOR_HOURS)
        prior = _PRIOR_WEEKEND_HOURS * on_weekdays
        factor = (sums[True] + prior) / (counts[True] * on_weekdays + prior)
        by_hour = [
            (self._sums[False][hour] + self._sums[True][hour] + _PRIOR_DAYS * overall)
            / (self._counts[False][hour] + factor * self._counts[True][hour] + _PRIOR_DAYS)
            for hour in range(24)
        ]
        return {False: by_hour, True: [factor * rate for rate in by_hour]}


def _level(used: Sequence[float], rates: Sequence[float], half_life: float) -> float:
    """Return by how much recent use is above (or below) what the profile says; one hour's weight halves over time."""
    kept = 0.5 ** (1 / half_life)
    prior = _PRIOR_HOURS * sum(used) / len(used)
    seen = expected = 0.0
    for amount, rate in zip(used, rates, strict=True):
        seen = seen * kept + amount
        expected = expected * kept + rate
    return (seen + prior) / (expected + prior)


@lru_cache(maxsize=256)
def _back_tested(used: tuple[float, ...], this_hour: datetime) -> tuple[_Hours, list[_BackTest]]:
    """Return the hours of a history and those to come, and its back-tests, which are the same for a whole hour."""
    hours = _Hours(this_hour - timedelta(hours=len(used)), len(used) + math.ceil(HORIZON / _HOUR) + 1)
    return hours, _back_tests(used, hours)


class _BackTest(msgspec.Struct, frozen=True):
    """What was foretold, at an earlier moment, for some hours from then on, and what was used in them."""

    half_life: float
    hours: int
    foretold: float
    used: float

    @property
    def error(self) -> float:
        return abs(self.foretold - self.used) / self.used if self.used else float(self.foretold > 0)


def _back_tests(used: Sequence[float], hours: _Hours) -> list[_BackTest]:
    """Make the forecast at every earlier moment there is, and keep those of the level that would have served best."""
    so_far = [0.0, *accumulate(used)]
    profile = _Profile()
    tests: list[_BackTest] = []
    for now, (kind, amount) in enumerate(zip(hours.kinds, used, strict=False)):
        if now >= _LEARN_HOURS and (len(used) - now) % _BACK_TEST_EVERY_HOURS == 0:
            tests.extend(_tests_at(now, used, so_far, profile.rates(), hours))
        profile.learn(kind, amount)
    errors: dict[float, list[float]] = defaultdict(list)
    for test in tests:
        if test.hours == 24:
            errors[test.half_life].append(abs(test.foretold - test.used) / max(test.foretold, test.used))
    best = min(errors, key=lambda half_life: mean(errors[half_life]))
    return [test for test in tests if test.half_life == best]


def _tests_at(
    now: int, used: Sequence[float], so_far: Sequence[float], rates: dict[bool, list[float]], hours: _Hours
) -> Iterator[_BackTest]:
    ahead = min(_BACK_TESTED_HOURS[-1], len(used) - now)
    profile = [rates[weekend][hour] for weekend, hour in hours.kinds[: now + ahead]]
    expected = [0.0, *accumulate(profile[now:])]
    for half_life in _HALF_LIVES:
        level = _level(used[:now], profile[:now], half_life)
        for length in _BACK_TESTED_HOURS:
            if length <= ahead:
                yield _BackTest(half_life, length, level * expected[length], so_far[now + length] - so_far[now])


def _day_ahead_error(tests: Sequence[_BackTest]) -> float:
    return median(test.error for test in tests if test.hours == 24)


class _Ahead:
    """The burn of the hours to come and how far off it may be.

    The variance of what some hours use has two parts: that of single calls, in proportion to their number, and that of
    the level, in proportion to its square; the latter as the back-tests found it for that many hours.
    """

    def __init__(self, used: Sequence[float], hours: _Hours, tests: Sequence[_BackTest], now: datetime) -> None:
        profile = _Profile()
        for kind, amount in zip(hours.kinds, used, strict=False):
            profile.learn(kind, amount)
        by_kind = profile.rates()
        rates = [by_kind[weekend][hour] for weekend, hour in hours.kinds]
        past, ahead = rates[: len(used)], rates[len(used) :]
        level = _level(used, past, tests[0].half_life)
        self.expected = [level * rate for rate in ahead]
        self._scatter = _scatter(used, past)
        self._spreads = _spreads(tests, self._scatter)
        self._now = now.astimezone(UTC)

    def reaches(self, left: float, z: float, end: datetime) -> datetime | None:
        """Return when `left` is used up if use is `z` standard deviations from what is expected; `None` after `end`."""
        if left <= 0:
            return self._now
        before = 0.0
        for start, length, burnt in self._steps():
            after = max(before, self._quantile(burnt, (start + length - self._now) / _HOUR, z))
            if after >= left:
                moment = start + length * ((left - before) / (after - before))
                return moment.replace(microsecond=0) if moment < end else None
            if start >= end:
                return None
            before = after
        return None

    def _steps(self) -> Iterator[tuple[datetime, timedelta, float]]:
        """Yield the rest of this hour, then hour after hour, each with all that is expected to be used by its end."""
        start, burnt = self._now, 0.0
        for rate in self.expected:
            length = _hour_of(start) + _HOUR - start
            burnt += rate * (length / _HOUR)
            yield start, length, burnt
            start += length

    def _quantile(self, burnt: float, hours: float, z: float) -> float:
        """Return what is used if it is `z` deviations from `burnt`, by a gamma distribution (Wilson and Hilferty)."""
        if z == 0 or burnt <= 0:
            return burnt
        ninth = (self._scatter / burnt + self._spread(hours)) / 9
        return burnt * max(0.0, 1 - ninth + z * math.sqrt(ninth)) ** 3

    def _spread(self, hours: float) -> float:
        """Return the level's relative variance over some hours: between back-tested lengths by a straight line."""
        shortest, longest = min(self._spreads), max(self._spreads)
        if hours <= shortest:
            return self._spreads[shortest]
        for (short, low), (long, high) in pairwise(sorted(self._spreads.items())):
            if hours <= long:
                return low + (high - low) * (hours - short) / (long - short)
        return self._spreads[longest] * hours / longest


def _scatter(used: Sequence[float], rates: Sequence[float]) -> float:
    """Return how much hours vary about the level of their time: 1 if calls come by themselves, more if in bursts."""
    kept = 0.5 ** (1 / _HALF_LIVES[0])
    seen = expected = _PRIOR_HOURS * sum(used) / len(used)
    squares = total = 0.0
    for amount, rate in zip(used, rates, strict=True):
        foretold = rate * seen / expected
        squares += (amount - foretold) ** 2
        total += foretold
        seen, expected = seen * kept + amount, expected * kept + rate
    return squares / total


def _spreads(tests: Sequence[_BackTest], scatter: float) -> dict[int, float]:
    """Return, by hours foretold, the relative variance that the scatter of single hours does not explain."""
    found: dict[int, list[float]] = defaultdict(list)
    for test in tests:
        if test.foretold > 0:
            off = (test.used - test.foretold) ** 2 - scatter * test.foretold
            found[test.hours].append(off / test.foretold**2)
    return {hours: max(0.0, mean(of)) for hours, of in found.items() if len(of) >= _FEWEST_BACK_TESTS}
