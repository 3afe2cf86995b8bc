"""The judge: the ledger in a store against the sandbox's own meter, and against itself.

It shares no code with what it judges: it reads the store with SQL of its own. Per provider, whatever happened:

    billed + free <= requests received <= billed + free + unknown
    billed <= billed by the meter <= billed + unknown
    repeated requests <= unknown

An attempt that is still open counts as unknown; after a run has ended there may be none. Without faults the unknown
are zero, which makes these equalities, and money is equal too.

Daily totals, rollups and the windows of limits are folds of the attempts at every moment. Counters in Redis show the
totals once a run has ended; until then they may be behind and are never ahead.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from redis import Redis

PAID = ("apollo", "contactout", "exa", "claude")
ANSWERED = ("complete", "no_data", "cached")
OPEN = ("pending", "running", "waiting")

Meter = dict[str, dict[str, Any]]
"""The columns of `GET /_meter`, by provider."""


@dataclass(frozen=True)
class Spent:
    """One provider's attempts by charge, and what the billed ones cost in milli-credits and micro-dollars."""

    attempts: int = 0
    billed: int = 0
    free: int = 0
    unknown: int = 0
    not_sent: int = 0
    open: int = 0
    credits: int = 0
    usd_micros: int = 0

    @property
    def doubtful(self) -> int:
        """Attempts of which nobody knows whether they were counted."""
        return self.unknown + self.open


@dataclass(frozen=True)
class Verdict:
    """What the judge found, for whatever else a test wants to hold."""

    spent: dict[str, Spent]
    statuses: dict[str, Counter[str]]

    @property
    def unknown(self) -> int:
        """Attempts of unknown charge, over all providers."""
        return sum(spent.unknown for spent in self.spent.values())

    @property
    def doubtful(self) -> int:
        """Attempts that are unknown, or open and may turn out to be."""
        return sum(spent.doubtful for spent in self.spent.values())

    @property
    def attempts(self) -> int:
        """All attempts, over all providers."""
        return sum(spent.attempts for spent in self.spent.values())


class Ledger:
    """A store as a crash left it: a copy is opened, because opening the store itself would already mend it."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory()))
        for path in (self._store, self._store.with_name(f"{self._store.name}-wal")):
            if path.exists():
                shutil.copy(path, folder)
        self._connection = self._opened.enter_context(closing(sqlite3.connect(folder / self._store.name)))
        self._connection.row_factory = sqlite3.Row
        if self.has_tables:
            # attempts are found by day and id in the store; here they are looked up by id alone
            self._connection.execute("CREATE INDEX attempts_by_id ON attempts (id)")
            self._connection.execute("CREATE INDEX attempts_by_begin ON attempts (provider, begun_at)")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._opened.close()

    @property
    def has_tables(self) -> bool:
        """Whether the process lived long enough to create the store."""
        return bool(self.rows("SELECT 1 FROM sqlite_schema WHERE name = 'attempts'"))

    def rows(self, query: str, **bound: Any) -> list[sqlite3.Row]:
        """Run a query."""
        return self._connection.execute(query, bound).fetchall()

    def one(self, query: str) -> Any:
        """Run a query that has one answer."""
        return self._connection.execute(query).fetchone()[0]

    def spent(self) -> dict[str, Spent]:
        """Fold the attempts by provider."""
        query = (
            "SELECT provider, count(*) AS attempts, total(charge = 'billed') AS billed, total(charge = 'free') AS free,"
            " total(charge = 'unknown') AS unknown, total(charge = 'not_sent') AS not_sent,"
            " total(finished_at IS NULL) AS open, total(milli_credits) AS credits, total(usd_micros) AS usd_micros"
            " FROM attempts GROUP BY provider"
        )
        names = [field.name for field in fields(Spent)]
        return {row["provider"]: Spent(*(int(row[name]) for name in names)) for row in self.rows(query)}

    def statuses(self) -> dict[str, Counter[str]]:
        """Count the last source result of every prospect, by source."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for row in self.rows("SELECT source, status, max(id) FROM source_results GROUP BY prospect_id, source"):
            counts[row["source"]][row["status"]] += 1
        return dict(counts)


def judge(
    store: Path,
    meter: Meter,
    *,
    faultless: bool = False,
    ended: bool = True,
    stopped: tuple[str, ...] = (),
    refreshes: int = 0,
    usage: Mapping[str, Mapping[str, int]] | None = None,
    redis: Redis | None = None,
) -> Verdict:
    """Hold the ledger against the meter and against itself; raises `AssertionError` where they do not agree.

    `faultless`: nothing was lost, so nothing may be unknown. `ended` False: the process died, and attempts and runs
    may be open. `stopped` names sources that wait for somebody to mend them. `refreshes` is how often everything was
    bought anew. `usage` is what `sluiceway usage --json` says. `redis` is where the counters are, if anywhere.
    """
    with Ledger(store) as ledger:
        if not ledger.has_tables:
            assert not any(column["requests"] for column in meter.values()), "asked before there was a ledger"
            return Verdict({}, {})
        if redis is not None:
            _counters_show_totals(redis, ledger, behind=not ended)
        spent = ledger.spent()
        for provider, column in meter.items():
            _agree(provider, spent.get(provider, Spent()), column, faultless=faultless)
            if not refreshes:
                _repeated(provider, spent.get(provider, Spent()), column)
        assert spent.keys() <= meter.keys()
        _sums_are_folds(ledger)
        _limits_are_folds(ledger)
        _nothing_bought_twice(ledger, 1 + refreshes)
        _rows_hold_together(ledger)
        if ended:
            _everything_ended(ledger, spent, stopped)
            _prospects_are_folds(ledger)
        if usage is not None:
            _usage_says_so(usage, spent)
        return Verdict(spent, ledger.statuses())


def _agree(provider: str, spent: Spent, column: dict[str, Any], *, faultless: bool) -> None:
    """Hold one provider's attempts against its meter."""
    known, doubtful = spent.billed + spent.free, spent.doubtful
    told = f"{provider}: ledger {spent}, meter {column}"
    assert known <= column["requests"] <= known + doubtful, told
    assert spent.billed <= column["billed"] <= spent.billed + doubtful, told
    assert spent.credits <= column["credits"], told
    assert spent.usd_micros <= column["usd_micros"], told
    if faultless:
        assert doubtful == 0, told
        assert (spent.credits, spent.usd_micros) == (column["credits"], column["usd_micros"]), told


def _repeated(provider: str, spent: Spent, column: dict[str, Any]) -> None:
    assert column["repeated_requests"] <= spent.doubtful, f"{provider}: ledger {spent}, meter {column}"


def _sums_are_folds(ledger: Ledger) -> None:
    """Fold the attempts anew and compare with the rollup and with the daily totals."""
    sums = (
        "count(*) AS attempts, total(charge = 'billed') AS billed, total(charge = 'free') AS free,"
        " total(charge = 'unknown') AS unknown, total(charge = 'not_sent') AS not_sent,"
        " total(milli_credits) AS milli_credits, total(usd_micros) AS usd_micros,"
        " total(charge = 'billed' AND usd_micros IS NULL) AS unpriced, total(latency_us) AS latency_us"
    )
    key = "day, hour, provider, source, coalesce(tenant_id, '')"
    folded = ledger.rows(
        f"SELECT day, hour, provider, source, coalesce(tenant_id, '') AS tenant_id, {sums} FROM attempts"
        f" WHERE finished_at IS NOT NULL GROUP BY {key} ORDER BY {key}"
    )
    kept = ledger.rows("SELECT * FROM usage_hours ORDER BY day, hour, provider, source, tenant_id")
    assert [dict(row) for row in kept] == [dict(row) for row in folded]

    totals = {row["name"]: row for row in ledger.rows("SELECT * FROM daily_totals")}
    counted = ledger.rows(
        "SELECT 'api_usage:' || provider || ':' || day AS name, count(*) AS billed,"
        " total(milli_credits) AS milli_credits, total(usd_micros) AS usd_micros"
        " FROM attempts WHERE charge = 'billed' AND credential_id = 'platform' GROUP BY provider, day"
    )
    assert totals.keys() == {row["name"] for row in counted}
    for row in counted:
        total = totals[row["name"]]
        assert {name: total[name] for name in row.keys()} == dict(row)  # noqa: SIM118 - a Row iterates its values
        assert total["version"] >= 1


def _counters_show_totals(redis: Redis, ledger: Ledger, *, behind: bool) -> None:
    """Check that Redis has the totals' counters, each with its expiry, and no others."""
    columns = "billed + tracked + imported AS calls, milli_credits, usd_micros"
    totals = {row["name"]: row for row in ledger.rows(f"SELECT name, day, {columns} FROM daily_totals")}
    assert set(redis.scan_iter("api_usage:*", 1000)) <= totals.keys()
    for name, total in totals.items():
        money = {f"{{{name}}}:{what}": total[what] for what in ("milli_credits", "usd_micros")}
        for key, should_be in {name: total["calls"], **money}.items():
            shown = int(redis.get(key) or 0)
            assert shown <= should_be if behind else shown == should_be, f"{key}: {shown} instead of {should_be}"
            if shown:
                end = datetime.fromisoformat(total["day"]).replace(tzinfo=UTC) + timedelta(days=91)
                assert abs(time.time() + redis.ttl(key) - end.timestamp()) < 2, f"{key} does not expire in time"


# What an attempt uses of a limit, and what of it is reserved for a call still open, by the limit's unit.
_REQUESTS = ("coalesce(charge, '') != 'not_sent'", "finished_at IS NULL")
_SPENT = (
    "coalesce(CASE WHEN finished_at IS NULL OR charge = 'unknown' THEN reserved_{0}"
    " WHEN charge = 'billed' THEN coalesce({0}, reserved_{0}) END, 0)"
)
_HELD = "coalesce(CASE WHEN finished_at IS NULL THEN reserved_{0} END, 0)"
_COLUMN = {"credits": "milli_credits", "usd": "usd_micros"}


def _limits_are_folds(ledger: Ledger) -> None:
    """Fold every window of the limits that are set from the attempts; hard ones are kept, and no attempt escapes.

    (Those that a pace implies are known to the processes with that pace alone.)
    """
    held: dict[str, list[sqlite3.Row]] = defaultdict(list)
    for row in ledger.rows("SELECT * FROM limit_windows ORDER BY limit_id, opens_at"):
        held[row["limit_id"]].append(row)
    for quota in ledger.rows("SELECT * FROM quotas"):
        limit = quota["id"]
        for window in held[limit]:
            folded = _use_of(ledger, limit, window["opens_at"], window["closes_at"])
            assert (window["used"], window["pending"]) == folded, f"{limit} from {window['opens_at']}: {folded}"
            assert not quota["hard"] or window["used"] <= quota["amount"], f"{limit} is overdrawn: {window['used']}"
        everything, _ = _use_of(ledger, limit, quota["set_at"], "9999")
        assert everything <= sum(window["used"] for window in held[limit]), f"attempts escaped {limit}"


def _use_of(ledger: Ledger, limit: str, since: str, until: str) -> tuple[int, int]:
    """Return what a stretch of time used of a limit, and what of it is reserved for open calls."""
    provider, unit, clock, tenant = (*limit.split("/"), None)[:4]
    used, pending = _REQUESTS if unit == "requests" else [each.format(_COLUMN[str(unit)]) for each in (_SPENT, _HELD)]
    within = "finished_at IS NULL" if clock == "in_flight" else "begun_at >= :since AND begun_at < :until"
    query = (
        f"SELECT total({used}), total({pending}) FROM attempts WHERE provider = :provider AND"
        f" credential_id = 'platform' AND {within} AND (:tenant IS NULL OR tenant_id = :tenant)"
    )
    (row,) = ledger.rows(query, provider=provider, since=since, until=until, tenant=tenant)
    return int(row[0]), int(row[1])


def _nothing_bought_twice(ledger: Ledger, times: int) -> None:
    """Check by the ledger alone that a paid request is billed once, and follows an unknown one at most once."""
    query = (
        "SELECT provider, prospect_id, request_key, total(charge = 'billed') AS billed,"
        " total(charge = 'unknown' OR charge IS NULL) AS doubtful FROM attempts WHERE prospect_id IS NOT NULL"
        " GROUP BY provider, prospect_id, request_key"
    )
    for row in ledger.rows(query):
        assert row["billed"] <= times, dict(row)
        if row["provider"] in PAID:
            assert row["doubtful"] <= 2 * times, dict(row)
            assert row["billed"] + row["doubtful"] <= 2 * times, dict(row)


def _rows_hold_together(ledger: Ledger) -> None:
    """Check what rows of different tables say about each other."""
    nothing: dict[str, str] = {
        "billed about somebody who was not erased, and what it said is not kept": "SELECT id FROM attempts WHERE"
        " charge = 'billed' AND prospect_id IN (SELECT id FROM prospects)"
        " AND id NOT IN (SELECT attempt_id FROM answers)",
        "bought from a paid source, and no attempt paid for it": "SELECT r.id FROM source_results r LEFT JOIN attempts"
        f" a ON a.id = r.attempt_id WHERE r.status IN ('complete', 'no_data') AND r.source IN {PAID}"
        " AND coalesce(a.charge, '') NOT IN ('billed', 'free')",
        "complete, and its attempt was not billed": "SELECT r.id FROM source_results r JOIN attempts a"
        f" ON a.id = r.attempt_id WHERE r.status = 'complete' AND r.source IN {PAID} AND a.charge != 'billed'",
        "cached from what is no purchase": "SELECT r.id FROM source_results r LEFT JOIN source_results f"
        " ON f.id = r.cached_from AND f.prospect_id = r.prospect_id AND f.source = r.source"
        " WHERE r.status = 'cached' AND coalesce(f.status, '') NOT IN ('complete', 'no_data')",
        "closed without a reason": "SELECT id FROM source_results WHERE error IS NULL AND closed_at IS NOT NULL"
        " AND status NOT IN ('complete', 'no_data', 'cached')",
        "closed with an open status, or open with a final one": "SELECT id FROM source_results"
        f" WHERE (closed_at IS NULL) != (status IN {OPEN})",
        "its run is closed and it is open": "SELECT r.id FROM source_results r JOIN runs ON runs.id = r.run_id"
        " WHERE r.closed_at IS NULL AND runs.closed_at IS NOT NULL",
        "of a result that is not there": "SELECT id FROM attempts WHERE source_result_id IS NOT NULL"
        " AND source_result_id NOT IN (SELECT id FROM source_results)",
        "unknown, and yet it has a price": "SELECT id FROM attempts WHERE charge = 'unknown' AND"
        " (usd_micros IS NOT NULL OR milli_credits IS NOT NULL)",
    }
    for what, query in nothing.items():
        found = ledger.rows(query)
        assert not found, f"{len(found)} {what}: {[tuple(row) for row in found[:5]]}"


def _everything_ended(ledger: Ledger, spent: dict[str, Spent], stopped: tuple[str, ...]) -> None:
    """Check that nothing is open, unless it waits for a stopped source."""
    assert {name: each.open for name, each in spent.items() if each.open} == {}
    open_results = ledger.rows("SELECT source, status FROM source_results WHERE closed_at IS NULL")
    if not stopped:
        assert [tuple(row) for row in open_results] == []
        assert ledger.one("SELECT count(*) FROM runs WHERE closed_at IS NULL") == 0
        assert ledger.one("SELECT count(*) FROM batches WHERE finished_at IS NULL") == 0
        missing = "SELECT count(*) FROM batch_rows WHERE prospect_id NOT IN (SELECT prospect_id FROM runs)"
        assert ledger.one(missing) == 0, "somebody in the file has no run"
    else:
        assert {row["source"] for row in open_results if row["status"] == "waiting"} <= set(stopped)
    several = ledger.rows("SELECT count(*) FROM source_results GROUP BY run_id")
    assert len({row[0] for row in several}) <= 1, "some runs have more source results than others"


def _prospects_are_folds(ledger: Ledger) -> None:
    """Derive every prospect's statuses from its source results, and compare."""
    derived: dict[str, dict[str, set[str]]] = defaultdict(dict)
    query = (
        "SELECT prospect_id, source, status, attempt_id IS NULL AS unasked FROM source_results"
        " WHERE closed_at IS NOT NULL ORDER BY closed_at, id"
    )
    for row in ledger.rows(query):
        if row["status"] == "cached":
            continue  # what is stored stays the purchase's
        said_before = derived[row["prospect_id"]].get(row["source"], set())
        # that somebody is not asked a third time may leave alone how the second time ended
        not_again = row["status"] == "unknown" and row["unasked"]
        derived[row["prospect_id"]][row["source"]] = {row["status"]} | (said_before if not_again else set())
    waiting = {row[0] for row in ledger.rows("SELECT prospect_id FROM runs WHERE closed_at IS NULL")}
    for row in ledger.rows("SELECT id, enrichment_source_status, enrichment_status FROM prospects"):
        stored = json.loads(row["enrichment_source_status"])
        assert all(set(status) - {"error"} == {"status", "at"} for status in stored.values()), stored
        said = {source: status["status"] for source, status in stored.items()}
        assert said.keys() == derived[row["id"]].keys(), f"prospect {row['id']}"
        for source, may_be in derived[row["id"]].items():
            assert said[source] in may_be, f"prospect {row['id']}: {source} is {said[source]}, not {may_be}"
        if row["id"] not in waiting:
            assert row["enrichment_status"] == _in_one_word(said.values()), f"prospect {row['id']}: {said}"


def _in_one_word(statuses: Any) -> str:
    said = [status for status in statuses if status != "skipped"]
    if not said:
        return "none"
    if all(status in ANSWERED for status in said):
        return "complete" if "complete" in said else "no_data"
    return "partial" if any(status in ANSWERED for status in said) else "failed"


def _usage_says_so(usage: Mapping[str, Mapping[str, int]], spent: dict[str, Spent]) -> None:
    names = [field.name for field in fields(Spent)]
    said = {provider: Spent(*(of[name] for name in names)) for provider, of in usage.items()}
    assert said == spent


def each_bill(meter: Meter) -> Iterator[tuple[str, int]]:
    """Yield what each paid provider has billed so far, in calls."""
    for provider in PAID:
        yield provider, meter[provider]["billed"]
