"""A store full of history: tenants, users, batches, runs, attempts and what users did, over many days, from a seed.

The rows are put straight into their tables, as consistent as the pipeline would leave them; the sums are then folded
from them. Answers for operators are measured on it, and held against brute force over it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, insert, select

from sluiceway.outcome import FAILURES, as_json, enrichment_status, timestamp
from sluiceway.store.engine import Store
from sluiceway.store.schema import (
    activity,
    attempts,
    batches,
    breakers,
    exported,
    external_usage,
    prospects,
    provider_meters,
    runs,
    source_results,
)
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota
from sluiceway.usage.reconcile import fold_if_never, rebuild_totals

SOURCES = ("apollo", "contactout", "exa", "edgar", "claude")
NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)

_STATUSES = {
    "complete": 60, "no_data": 18, "cached": 6, "skipped": 5, "failed": 4, "timed_out": 2, "rate_limited": 2,
    "quota_exceeded": 1, "unauthorized": 0.5, "unknown": 1, "circuit_open": 0.5,
}  # fmt: skip
_WITHOUT_ATTEMPT = {"cached", "skipped", "quota_exceeded", "circuit_open"}
_ERRORS = {
    "failed": (
        "HTTP 422: the request {id} has an empty field",
        "HTTP 400: no such parameter at https://api.example/v1/{id}",
        "an answer without a person after {n} bytes",
        "not grounded: {n} figures are in no source",
    ),
    "timed_out": ("HTTP 504: upstream took {n} ms", "no answer within {n} s"),
    "rate_limited": ("HTTP 429: too many requests, retry at {time}",),
    "quota_exceeded": ("{n} requests per day are used up",),
    "unauthorized": ("HTTP 401: this key is not valid (request {id})",),
    "unknown": ("asked before without a clear answer; asking again might pay a second time",),
    "circuit_open": ("its breaker is open until {time}",),
}
_PRICES = {"apollo": 26_000, "contactout": 170_000, "exa": 7_000, "edgar": 0, "claude": 9_000}
_RESULT_OF = {"no_data": "no_data", "timed_out": "timed_out", "unknown": "unknown"}
_FLUSH = 20_000


class Size(msgspec.Struct, frozen=True):
    """How large a world is. A prospect makes about five attempts."""

    attempts: int
    tenants: int = 200
    days: int = 90
    seed: int = 0


def fill(store: Store, size: Size, now: datetime = NOW) -> None:
    """Fill a new store with a world whose last day is that of `now`, and fold its sums."""
    with store.writing.begin() as connection:
        _World(connection, size, now).make()
    with store.writing.begin() as connection:
        fold_if_never(connection)
        a = attempts.c
        days = connection.execute(select(a.provider, a.day).distinct()).all()
        rebuild_totals(connection, [(row.provider, row.day) for row in days])
        _set_limits(connection, timestamp(now))


def _set_limits(connection: Connection, now: str) -> None:
    for quota in (
        Quota("apollo", Unit.REQUESTS, QuotaClock.DAY, 20_000),
        Quota("apollo", Unit.CREDITS, QuotaClock.CYCLE, 400_000_000, cycle_day=5),
        Quota("contactout", Unit.USD, QuotaClock.CYCLE, 20_000_000_000, cycle_day=1),
        Quota("exa", Unit.REQUESTS, QuotaClock.MINUTE, 500),
        Quota("claude", Unit.USD, QuotaClock.DAY, 60_000_000, hard=False),
        Quota("apollo", Unit.REQUESTS, QuotaClock.DAY, 400, tenant_id="tenant-000"),
    ):
        set_quota(connection, quota, by="the bench", now=now)


class _Rows:
    """Collects rows of one table and inserts them many at a time."""

    def __init__(self, connection: Connection, table: Table, columns: str) -> None:
        self._connection = connection
        self._names = columns.split()
        marks = ", ".join("?" * len(self._names))
        self._text = f"INSERT INTO {table.name} ({', '.join(self._names)}) VALUES ({marks})"
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *values: Any) -> None:
        self._rows.append(values)
        if len(self._rows) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._connection.connection.cursor().executemany(self._text, self._rows)
            self._rows.clear()


class _Prospect(msgspec.Struct):
    id: str
    tenant: str
    created_at: str
    fields: dict[str, Any] = {}
    statuses: dict[str, Any] = {}
    last_run: str | None = None


class _World:
    def __init__(self, connection: Connection, size: Size, now: datetime) -> None:
        self._connection = connection
        self._size = size
        self._now = now
        self._luck = random.Random(size.seed)
        self._count = 0
        self._tenants = [f"tenant-{number:03}" for number in range(size.tenants)]
        self._weights = [1 / (number + 8) for number in range(size.tenants)]
        self._users = {t: [f"{t}-user-{n}" for n in range(self._luck.randint(1, 6))] for t in self._tenants}
        self._prospects: dict[str, list[_Prospect]] = defaultdict(list)
        self._of_batch: dict[str, list[_Prospect]] = defaultdict(list)
        self._batches: dict[str, str] = {}
        self._all_batches: set[str] = set()
        self._runs = _Rows(
            connection, runs, "id tenant_id prospect_id batch_id trigger worker_id opened_at closed_at status"
        )
        self._results = _Rows(
            connection, source_results,
            "id tenant_id run_id prospect_id source subject_key status error attempt_id opened_at closed_at",
        )  # fmt: skip
        self._attempts = _Rows(
            connection, attempts,
            "day id hour provider source endpoint request_key credential_id worker_id trigger tenant_id user_id "
            "api_key_id batch_id prospect_id source_result_id begun_at deadline_at finished_at result http_status "
            "charge credits milli_credits usd_micros latency_us error",
        )  # fmt: skip
        self._activity = _Rows(connection, activity, "id day at tenant_id user_id action target")
        self._exported = _Rows(connection, exported, "prospect_id tenant_id activity_id")

    def make(self) -> None:
        """Make everything, day by day."""
        days = [self._now.date() - timedelta(days=back) for back in reversed(range(self._size.days))]
        weights = [0.3 if day.weekday() >= 5 else 1.0 for day in days]
        prospects_in_all = self._size.attempts / 4.55
        for day, weight in zip(days, weights, strict=True):
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            share = (self._now - start) / timedelta(days=1) if day == self._now.date() else 1.0
            self._day(start, min(1.0, share), round(prospects_in_all * weight * share / sum(weights)))
        self._open_ones()
        self._old_ones()
        self._around_it()
        self._store_prospects()
        for rows in (self._runs, self._results, self._attempts, self._activity, self._exported):
            rows.flush()

    def _day(self, start: datetime, share: float, count: int) -> None:
        seconds = sorted(self._luck.triangular(0, 86_400, 50_000) * share for _ in range(count))
        for second in seconds:
            self._run(self._luck.choices(self._tenants, self._weights)[0], start + timedelta(seconds=second))
        for tenant in self._tenants:
            if self._luck.random() < 0.6:
                self._visits(tenant, start, share)
        for batch_id in list(self._batches):
            if self._batches[batch_id] == f"{start:%Y-%m-%d}" and self._luck.random() < 0.6:
                self._export(batch_id, start + timedelta(seconds=86_000 * share))

    # One prospect's run.

    def _run(self, tenant: str, at: datetime) -> None:
        prospect = self._prospect(tenant, at)
        user, key, batch, trigger = self._behalf(tenant, at)
        run_id, statuses = self._id(at), []
        if batch:
            self._of_batch[batch].append(prospect)
        closed_at = at
        for source in SOURCES:
            status = self._luck.choices(list(_STATUSES), list(_STATUSES.values()))[0]
            closed_at = self._result((run_id, tenant, user, key, batch, trigger), prospect, source, status, at)
            statuses.append(status)
        prospect.last_run = run_id
        now = timestamp(closed_at)
        status = enrichment_status(statuses)
        self._runs.add(run_id, tenant, prospect.id, batch, trigger, "w", timestamp(at), now, status)
        if "complete" in statuses:
            self._activity.add(run_id, now[:10], now, tenant, user or "system", "profile_enriched", prospect.id)

    def _prospect(self, tenant: str, at: datetime) -> _Prospect:
        known = self._prospects[tenant]
        if known and self._luck.random() < 0.15:
            return self._luck.choice(known)
        prospect = _Prospect(self._id(at), tenant, timestamp(at))
        known.append(prospect)
        return prospect

    def _behalf(self, tenant: str, at: datetime) -> tuple[str | None, str | None, str | None, str]:
        user = self._luck.choice(self._users[tenant])
        drawn = self._luck.random()
        if drawn < 0.8:
            batch = f"{tenant}-batch-{at.date().toordinal() // 3}"
            self._batches[batch] = f"{at:%Y-%m-%d}"
            self._all_batches.add(batch)
            return self._users[tenant][0], None, batch, "file"
        if drawn < 0.9:
            return user, f"key-of-{user}", None, "api"
        return (user, None, None, "console") if drawn < 0.99 else (None, None, None, "refresh")

    def _result(self, whose: Sequence[Any], prospect: _Prospect, source: str, status: str, at: datetime) -> datetime:
        result_id, tenant = self._id(at), whose[1]
        error = self._error(status) if status in FAILURES else None
        closed_at, attempt_id = at, None
        if status not in _WITHOUT_ATTEMPT:
            if self._luck.random() < 0.06:
                closed_at, _ = self._attempt(whose, prospect, source, "failed", result_id, closed_at)
            closed_at, attempt_id = self._attempt(whose, prospect, source, status, result_id, closed_at)
        stamp = timestamp(closed_at)
        self._results.add(
            result_id, tenant, whose[0], prospect.id, source, "work_email|k", status, error, attempt_id,
            timestamp(at), stamp,
        )  # fmt: skip
        if status != "cached":
            prospect.statuses[source] = {"status": status, "at": stamp, **({"error": error} if error else {})}
        if status == "complete":
            prospect.fields[f"title:{source}"] = ["CFO", stamp, attempt_id, 60]
        return closed_at

    def _error(self, status: str) -> str:
        text = self._luck.choice(_ERRORS[status])
        drawn = self._luck.randrange(10, 10**6)
        return text.format(n=drawn, id=f"req_{drawn:09}abc", time=timestamp(NOW - timedelta(seconds=drawn)))

    def _attempt(
        self, whose: Sequence[Any], prospect: _Prospect, source: str, status: str, result_id: str, at: datetime
    ) -> tuple[datetime, str]:
        _, tenant, user, key, batch, trigger = whose
        took_us = min(int(self._luck.lognormvariate(12.6, 0.9)), 60_000_000)
        ended = at + timedelta(microseconds=took_us)
        charge = self._charge(status)
        credits_, usd = None, 0
        if charge == "billed":
            usd = None if source == "exa" and self._luck.random() < 0.1 else _PRICES[source]
            credits_ = 1000 if source in ("apollo", "contactout") else None
        elif charge == "unknown":
            usd = None
        attempt_id = self._id(at)
        answered = {"unknown": None, "not_sent": None}.get(charge, 200 if charge == "billed" else 429)
        self._attempts.add(
            f"{at:%Y-%m-%d}", attempt_id, at.hour, source, source, "people/match", f"{prospect.id}{source}",
            "platform", "w", trigger, tenant, user, key, batch, prospect.id, result_id, timestamp(at),
            timestamp(at + timedelta(seconds=60)), timestamp(ended), _RESULT_OF.get(status, status), answered,
            charge, '{"lead":1000}' if credits_ else None, credits_ if charge != "free" else 0, usd,
            None if charge == "not_sent" else took_us, self._error(status) if status in FAILURES else None,
        )  # fmt: skip
        return ended, attempt_id

    def _charge(self, status: str) -> str:
        match status:
            case "complete":
                return "billed"
            case "no_data":
                return "billed" if self._luck.random() < 0.4 else "free"
            case "timed_out" | "unknown":
                return "unknown"
            case _:
                return "not_sent" if self._luck.random() < 0.1 else "free"

    # What users did.

    def _visits(self, tenant: str, start: datetime, share: float) -> None:
        for user in self._users[tenant]:
            if self._luck.random() < 0.5:
                continue
            at = start + timedelta(seconds=self._luck.uniform(0, 80_000) * share)
            self._did(tenant, user, at, "login")
            for _ in range(self._luck.randint(0, 4)):
                self._did(tenant, user, at, "search_executed")
            known = self._prospects[tenant]
            for prospect in self._luck.sample(known, min(len(known), self._luck.randint(0, 6))):
                self._did(tenant, user, at, "profile_viewed", prospect.id)
            if self._luck.random() < 0.02:
                self._did(tenant, user, at, "prospect_imported", self._luck.choice(known).id if known else None)

    def _export(self, batch_id: str, at: datetime) -> None:
        of_batch = {prospect.id: prospect for prospect in self._of_batch.pop(batch_id, [])}
        del self._batches[batch_id]
        if of_batch:
            tenant = next(iter(of_batch.values())).tenant
            self._did(tenant, self._users[tenant][0], at, "csv_uploaded", batch_id)
            exported_as = self._did(tenant, self._users[tenant][0], at, "csv_exported", batch_id)
            for prospect_id in of_batch:
                self._exported.add(prospect_id, tenant, exported_as)

    def _did(self, tenant: str, user: str, at: datetime, action: str, target: str | None = None) -> str:
        event_id, stamp = self._id(at), timestamp(at)
        self._activity.add(event_id, stamp[:10], stamp, tenant, user, action, target)
        return event_id

    # What is around it.

    def _open_ones(self) -> None:
        for _ in range(20):
            at = self._now - timedelta(seconds=self._luck.uniform(0, 30))
            tenant = self._luck.choice(self._tenants)
            self._attempts.add(
                f"{at:%Y-%m-%d}", self._id(at), at.hour, "apollo", "apollo", "people/match", "k", "platform", "w",
                "console", tenant, self._users[tenant][0], None, None, None, None, timestamp(at),
                timestamp(at + timedelta(seconds=60)), *[None] * 9,
            )  # fmt: skip

    def _old_ones(self) -> None:
        """Add prospects that an earlier system enriched, of which only words are known."""
        for tenant in self._tenants[:3]:
            old = _Prospect(self._id(self._now), tenant, timestamp(self._now - timedelta(days=self._size.days)))
            old.statuses = {"apollo": "complete", "exa": "failed", "edgar": self._luck.choice(["error", "complete"])}
            self._prospects[tenant].append(old)

    def _around_it(self) -> None:
        at = timestamp(self._now - timedelta(hours=2))
        breaker = {
            "provider": "exa", "credential_id": "platform", "state": "open", "cause": "failing",
            "reason": "20 failures in a row", "credential_digest": "d", "changed_at": at, "probe_at": None, "trips": 1,
        }  # fmt: skip
        self._connection.execute(insert(breakers), [breaker])
        meters = []
        for number, back in enumerate((180, 120, 60, 5)):
            read = timestamp(self._now - timedelta(minutes=back))
            values = {
                "provider": "apollo",
                "credential_id": "platform",
                "meter": "requests per day",
                "unit": "requests",
            }
            of_then = {"id": f"m{number}", "unit": "requests", "asked_at": read, "read_at": read, "origin": "call"}
            said = {"used": number * 300, "amount": 20_000, "remaining": 20_000 - number * 300}
            meters.append(values | of_then | said)
        self._connection.execute(insert(provider_meters), meters)
        outside = [
            {"id": f"e{back}", "provider": "apollo", "day": f"{self._now - timedelta(days=back):%Y-%m-%d}",
             "kind": "tracked", "calls": 7 + back, "booked_at": at}
            for back in range(3)
        ]  # fmt: skip
        self._connection.execute(insert(external_usage), outside)

    def _store_prospects(self) -> None:
        rows = _Rows(
            self._connection, prospects,
            "id tenant_id identity_key person fields enrichment_source_status enrichment_status last_run_id created_at",
        )  # fmt: skip
        for prospect in _all(self._prospects.values()):
            said = [of["status"] if isinstance(of, dict) else of for of in prospect.statuses.values()]
            rows.add(
                prospect.id, prospect.tenant, f"email:{prospect.id}", "{}", as_json(prospect.fields),
                as_json(prospect.statuses), enrichment_status(said), prospect.last_run, prospect.created_at,
            )  # fmt: skip
        rows.flush()
        named = _Rows(
            self._connection, batches, "id tenant_id name digest options trigger refresh generation created_at"
        )
        for batch_id in sorted(self._all_batches):
            named.add(batch_id, batch_id.partition("-batch")[0], "people.csv", batch_id, "{}", "file", False, 1, "")
        named.flush()

    def _id(self, at: datetime) -> str:
        self._count += 1
        return f"{int(at.timestamp() * 1000):012x}7{self._count:019x}"


def _all(lists: Iterable[list[_Prospect]]) -> Iterable[_Prospect]:
    for one in lists:
        yield from one
