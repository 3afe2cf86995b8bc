"""Every count and sum of every answer is what brute force over the rows finds, before and after a mending."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import brute
import pytest
from bench.ledger_world import NOW
from brute import Rows, all_rows, spoil
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from sluiceway.admin.answer import Window, last_days
from sluiceway.admin.dashboard import dashboard
from sluiceway.admin.errors import Wanted, attempts_of, error_feed, errors
from sluiceway.admin.funnel import funnel
from sluiceway.admin.health import health
from sluiceway.admin.quota import quotas
from sluiceway.admin.tenants import tenants_activity, users_activity
from sluiceway.admin.usage import OPEN, By, Which, attempts_behind, usage
from sluiceway.outcome import FAILURES, ChargeKind, read_statuses
from sluiceway.rollups.errors import normal_message
from sluiceway.store.engine import Store
from sluiceway.tenancy.scope import Scope
from sluiceway.usage.reconcile import fix, reconcile

EVERYBODY = Scope(None)
TENANTS = [f"tenant-{number:03}" for number in range(9)]
DAYS = st.integers(1, 20)
SOME_TENANT = st.none() | st.sampled_from(TENANTS)


class Seen:
    """One consistent state of a world: its answers, and its rows."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rows: Rows = all_rows(connection)


@pytest.fixture(scope="session", params=["as folded", "mended"])
def seen(request: pytest.FixtureRequest, world: Store) -> Iterator[Seen]:
    """The world as its sums were folded, and with its sums spoilt and then mended by `reconcile --fix`."""
    with world.writing.connect() as connection:
        if request.param == "mended":
            spoil(connection, random.Random(7))
            assert reconcile(connection, NOW).drifts
            fix(connection, reconcile(connection, NOW))
        yield Seen(connection)
        connection.rollback()


def days_of(days: int) -> set[str]:
    return set(last_days(NOW, days).days())


def test_nothing_drifts(seen: Seen) -> None:
    found = reconcile(seen.connection, NOW)
    assert [drift for line in found.drifting for drift in line.drifts if drift.where != "meter"] == []
    assert found.figures == []


# dashboard


@settings(max_examples=10, deadline=None)
@given(days=DAYS)
def test_the_dashboard(seen: Seen, days: int) -> None:
    found, rows, within = dashboard(seen.connection, EVERYBODY, NOW, days), seen.rows, days_of(days)
    people = rows["prospects"]
    bought = [p for p in people if p["fields"] != "{}"]
    assert (found.coverage.prospects, found.coverage.covered) == (len(people), len(bought))
    for day in found.coverage.series:
        assert day.prospects == sum(p["created_at"][:10] <= day.day for p in people)
        assert day.covered == sum(p["covered_at"][:10] <= day.day for p in bought)
    statuses = Counter(r["status"] for r in brute.closed(rows, within))
    assert found.pipeline.results == statuses.total()
    assert found.pipeline.failed == sum(statuses[status] for status in FAILURES)
    assert (found.pipeline.success.value, found.pipeline.hit.value) == brute.rates(statuses)
    assert sum(day.results for day in found.pipeline.series) == found.pipeline.results
    for pipeline in found.pipeline.series:
        of_day = Counter(r["status"] for r in brute.closed(rows, {pipeline.day}))
        assert (pipeline.success.value, pipeline.hit.value) == brute.rates(of_day)
    for burn in found.burn:
        mine = [a for a in brute.finished(rows, within) if a["charge"] == "billed" and a["provider"] == burn.provider]
        assert burn.usd_micros == brute.money(mine)[0]
        assert burn.milli_credits == sum(a["milli_credits"] or 0 for a in mine)
        outside = [e["calls"] for e in rows["external_usage"] if e["provider"] == burn.provider and e["day"] in within]
        assert burn.calls == sum(day.calls for day in burn.series) == len(mine) + sum(outside)
    active = {day.day: day.users for day in found.users.series}
    for day in within:
        assert active[day] == len({(e["tenant_id"], e["user_id"]) for e in brute.done(rows, {day})})


def test_the_average_is_of_the_seven_days_before_today(seen: Seen) -> None:
    found = dashboard(seen.connection, EVERYBODY, NOW, 8)
    assert found.users.average.value == sum(day.users for day in found.users.series[:-1]) / 7


# tenants


@settings(max_examples=10, deadline=None)
@given(days=DAYS)
def test_what_tenants_and_their_users_did(seen: Seen, days: int) -> None:
    found, rows, within = tenants_activity(seen.connection, EVERYBODY, NOW, days, ["quiet"]), seen.rows, days_of(days)
    assert {tenant.tenant_id for tenant in found.tenants} == {*TENANTS, "quiet"}
    for tenant in found.tenants:
        did = brute.done(rows, within, tenant.tenant_id)
        counts = Counter(e["action"] for e in did)
        assert tenant.users == len({e["user_id"] for e in did})
        assert tenant.actions == len(did)
        assert (tenant.searches, tenant.views, tenant.enrichments, tenant.exports) == tuple(
            counts[name] for name in ("search_executed", "profile_viewed", "profile_enriched", "csv_exported")
        )
        mine = [a for a in brute.finished(rows, within) if a["tenant_id"] == tenant.tenant_id]
        assert (tenant.usd_micros, tenant.unpriced) == brute.money(mine)
        ever = [e["at"] for e in rows["activity"] if e["tenant_id"] == tenant.tenant_id]
        assert tenant.last_active == (max(ever) if ever else None)
        users = users_activity(seen.connection, EVERYBODY, NOW, tenant.tenant_id, days).users
        assert sum(user.actions for user in users) == tenant.actions
        for user in users:
            assert user.actions == sum(e["user_id"] == user.user_id for e in did)
    assert [t.standing for t in found.tenants if t.tenant_id == "quiet"] == ["new"]


# health


@settings(max_examples=20, deadline=None)
@given(days=DAYS, tenant=SOME_TENANT)
def test_how_sources_are_doing(seen: Seen, days: int, tenant: str | None) -> None:
    found, rows, within = health(seen.connection, Scope(tenant), NOW, days), seen.rows, days_of(days)
    ended = [r for r in brute.closed(rows, within) if tenant in (None, r["tenant_id"])]
    took = [a for a in brute.finished(rows, within) if a["latency_us"] is not None and tenant in (None, a["tenant_id"])]
    assert sum(sum(day.outcomes.values()) for day in found.days) == len(ended)
    assert sum(day.attempts for day in found.days) == sum(source.attempts for source in found.sources) == len(took)
    for one in (*found.days, *found.sources):
        statuses = Counter(
            r["status"] for r in ended if r["source"] == one.source and one.day in (None, r["closed_at"][:10])
        )
        assert Counter(one.outcomes) == statuses
        assert (one.success.value, one.hit.value) == brute.rates(statuses)
        latencies = [a["latency_us"] for a in took if a["source"] == one.source and one.day in (None, a["day"])]
        assert one.attempts == len(latencies)
        assert one.p50_us.value == brute.bucket_bound(latencies, 0.5)
        assert one.p95_us.value == brute.bucket_bound(latencies, 0.95)
    assert [(b.provider, b.state) for b in found.breakers] == [("exa", "open")]


# quota


def test_what_is_left_of_limits(seen: Seen) -> None:
    found = {provider.provider: provider for provider in quotas(seen.connection, EVERYBODY, NOW, 10).providers}
    today = [a for a in seen.rows["attempts"] if a["day"] == f"{NOW:%Y-%m-%d}" and a["charge"] != "not_sent"]
    (limit,) = (one for one in found["apollo"].limits if one.shown == "20,000 requests per day")
    assert limit.used == sum(a["provider"] == "apollo" for a in today)
    assert limit.left == 20_000 - limit.used
    for name, provider in found.items():
        for day in provider.history:
            billed = [a for a in brute.finished(seen.rows, {day.day}) if a["charge"] == "billed"]
            outside = [e["calls"] for e in seen.rows["external_usage"] if (e["provider"], e["day"]) == (name, day.day)]
            assert day.calls == sum(a["provider"] == name for a in billed) + sum(outside)
    (meter,) = found["apollo"].meters
    assert (meter.used, meter.amount, meter.remaining) == (900, 20_000, 19_100)
    if meter.days:  # mended: what was compared then is kept
        assert (meter.outside.value, meter.drift.value) == (sum(d.outside for d in meter.days), 0)
    else:
        assert (meter.outside.value, meter.outside.reason) == (
            None,
            "its readings were not compared with our attempts on these days",
        )


# funnel


@settings(max_examples=20, deadline=None)
@given(days=DAYS, tenant=SOME_TENANT)
def test_the_funnel(seen: Seen, days: int, tenant: str | None) -> None:
    found, rows, within = funnel(seen.connection, Scope(tenant), NOW, days), seen.rows, days_of(days)
    for stage in found.stages:
        assert stage.events == sum(e["action"] == stage.action for e in brute.done(rows, within, tenant))
        if stage.action == "search_executed":
            assert stage.prospects.value is None
        else:
            assert stage.prospects.value == brute.distinct(rows, within, stage.action, tenant)
    mine = [a for a in brute.finished(rows, within) if tenant in (None, a["tenant_id"])]
    assert (found.usd_micros, found.unpriced) == brute.money(mine)
    assert (found.usd_micros_unviewed, found.unpriced_unviewed) == brute.unviewed(rows, within, tenant)
    taken = brute.distinct(rows, within, "csv_exported", tenant)
    assert found.usd_micros_per_exported.value == (found.usd_micros / taken if taken else None)


# errors

WANTED = st.builds(
    Wanted,
    tenant=SOME_TENANT,
    source=st.none() | st.sampled_from(["apollo", "exa", "nobody"]),
    status=st.none() | st.sampled_from(["failed", "timed_out", "unknown"]),
    text=st.none() | st.sampled_from(["HTTP", "upstream", "100%", "is in no source"]),
)


def failures(rows: Rows, within: set[str], wanted: Wanted) -> list[dict[str, Any]]:
    return [
        r for r in brute.closed(rows, within)
        if r["status"] in FAILURES
        and wanted.tenant in (None, r["tenant_id"])
        and wanted.source in (None, r["source"])
        and wanted.status in (None, r["status"])
        and (wanted.text or "").lower() in normal_message(r["error"]).lower()
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(days=DAYS, back=st.sampled_from([0, 0, 1, 5]), wanted=WANTED)
def test_groups_of_failures(seen: Seen, days: int, back: int, wanted: Wanted) -> None:
    window = last_days(NOW - timedelta(days=back), days)
    found = error_feed(seen.connection, EVERYBODY, NOW, window, wanted)
    failed = failures(seen.rows, set(window.days()), wanted)
    expected: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for r in failed:
        expected[r["source"], r["status"], normal_message(r["error"])].append(r)
    assert found.results == len(failed)
    assert {(g.source, g.status, g.message) for g in found.groups} == expected.keys()
    assert [g.last_seen for g in found.groups] == sorted((g.last_seen for g in found.groups), reverse=True)
    ever = failures(seen.rows, days_of(20), wanted)
    for group in found.groups:
        mine = expected[group.source, group.status, group.message]
        assert group.results == len(mine)
        assert group.tenants == len({r["tenant_id"] for r in mine})
        assert group.last_seen == max(r["closed_at"] for r in mine)
        alike = mine if wanted.tenant or back else [r for r in ever if r["fingerprint"] == group.fingerprint]
        assert group.first_seen == min(r["closed_at"] for r in alike)
        assert {r["fingerprint"] for r in mine} == {group.fingerprint}


@settings(max_examples=30, deadline=None)
@given(days=DAYS, wanted=WANTED, limit=st.sampled_from([1, 7, 100]))
def test_failures_newest_first_page_by_page(seen: Seen, days: int, wanted: Wanted, limit: int) -> None:
    failed = failures(seen.rows, days_of(days), wanted)
    newest = sorted(failed, key=lambda r: (r["closed_at"], r["id"]), reverse=True)[: limit * 3]
    got, before = [], None
    for _ in range(3):
        page = errors(seen.connection, EVERYBODY, NOW, last_days(NOW, days), wanted, before=before, limit=limit)
        got += page.errors
        before = page.next
        if before is None:
            break
    assert [error.id for error in got] == [r["id"] for r in newest[: len(got)]]
    assert len(got) == len(newest)


def test_a_group_opens_to_its_results_and_a_result_to_its_attempts(seen: Seen) -> None:
    for group in error_feed(seen.connection, EVERYBODY, NOW, last_days(NOW, 17)).groups[:10]:
        page = errors(seen.connection, EVERYBODY, NOW, last_days(NOW, 17), fingerprint=group.fingerprint, limit=1000)
        assert len(page.errors) == group.results
        for error in page.errors[:3]:
            mine = [a["id"] for a in seen.rows["attempts"] if a["source_result_id"] == error.id]
            assert sorted(a.id for a in attempts_of(seen.connection, EVERYBODY, error.id)) == sorted(mine)
            assert error.attempt_id is None or error.attempt_id in mine


def test_failures_of_an_earlier_system_appear_with_what_is_known(seen: Seen) -> None:
    found = error_feed(seen.connection, EVERYBODY, NOW, last_days(NOW, 3))
    old = [p for p in seen.rows["prospects"] if p["last_run_id"] is None]
    assert found.old_prospects == len(old) == 3
    assert {(o.prospect_id, o.source, o.status) for o in found.old} >= {(p["id"], "exa", "failed") for p in old}
    assert {(o.at, o.error) for o in found.old} == {(None, None)}
    assert not any(read_statuses({o.source: o.status})[o.source].status == "complete" for o in found.old)
    assert error_feed(seen.connection, EVERYBODY, NOW, last_days(NOW, 3), Wanted(tenant=TENANTS[0])).old_prospects == 1
    assert error_feed(seen.connection, EVERYBODY, NOW, last_days(NOW, 3), Wanted(source="apollo")).old == []


# usage

PAIRS = st.lists(st.sampled_from([by for by in By if by is not By.HOUR]), min_size=1, max_size=2, unique=True)
WHICH = st.fixed_dictionaries(
    {},
    optional={
        "provider": st.sampled_from(["apollo", "exa"]),
        "tenant": st.sampled_from([*TENANTS[:3], ""]),
        "user": st.sampled_from(["tenant-000-user-0", ""]),
        "trigger": st.sampled_from(["file", "api"]),
        "charge": st.sampled_from([*ChargeKind, OPEN]),
    },
)
NAMES = ("attempts", *ChargeKind, "open", "milli_credits", "usd_micros", "unpriced")


def check_usage(seen: Seen, window: Window, group_by: list[By], which: dict[str, str]) -> None:
    found = usage(seen.connection, EVERYBODY, NOW, window, group_by, Which(**which), limit=10_000)
    expected = brute.usage(seen.rows, set(window.days()), [str(by) for by in group_by], which)
    got = {row.keys: Counter({n: getattr(row.counted, n) for n in NAMES}) for row in found.rows}
    assert {key: +sums for key, sums in got.items()} == {key: +sums for key, sums in expected.items()}
    whole = sum(expected.values(), Counter())
    assert {n: getattr(found.total, n) for n in NAMES} == {n: whole[n] for n in NAMES}


@settings(max_examples=60, deadline=None)
@given(days=DAYS, back=st.integers(0, 5), group_by=PAIRS, which=WHICH)
def test_usage_by_any_two_things(seen: Seen, days: int, back: int, group_by: list[By], which: dict[str, str]) -> None:
    check_usage(seen, last_days(NOW - timedelta(days=back), days), group_by, which)


@settings(max_examples=40, deadline=None)
@given(back=st.integers(0, 5), other=st.none() | st.sampled_from([by for by in By if by is not By.HOUR]), which=WHICH)
def test_usage_by_the_hour(seen: Seen, back: int, other: By | None, which: dict[str, str]) -> None:
    check_usage(seen, last_days(NOW - timedelta(days=back), 2), [By.HOUR, *([other] if other else [])], which)


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(1, 16), by=st.sampled_from([By.DAY, By.TENANT, By.BATCH]))
def test_sums_of_days_are_the_range(seen: Seen, cut: int, by: By) -> None:
    whole = last_days(NOW, 17)
    early, late = Window(whole.since, whole.days()[cut - 1]), Window(whole.days()[cut], whole.until)
    parts = [usage(seen.connection, EVERYBODY, NOW, window, [by]).total for window in (early, late)]
    assert parts[0].plus(parts[1]) == usage(seen.connection, EVERYBODY, NOW, whole, [by]).total


def test_rows_come_page_by_page(seen: Seen) -> None:
    window, after, got = last_days(NOW, 17), None, []
    while True:
        page = usage(seen.connection, EVERYBODY, NOW, window, [By.TENANT, By.DAY], after=after, limit=7)
        got += page.rows
        after = page.next
        if after is None:
            break
    assert got == usage(seen.connection, EVERYBODY, NOW, window, [By.TENANT, By.DAY]).rows


@settings(max_examples=25, deadline=None)
@given(days=DAYS, which=WHICH, limit=st.sampled_from([1, 30, 1000]), hour=st.none() | st.integers(9, 15))
def test_the_attempts_behind_a_figure(
    seen: Seen, days: int, which: dict[str, str], limit: int, hour: int | None
) -> None:
    window, before, got = last_days(NOW, days), None, []
    while len(got) < 40:
        page = attempts_behind(
            seen.connection, EVERYBODY, NOW, window, Which(**which), hour=hour, before=before, limit=limit
        )
        assert len(page.attempts) <= limit
        got += page.attempts
        before = page.next
        if before is None:
            break
    columns = {"tenant": "tenant_id", "user": "user_id"}
    expected = [
        a for a in seen.rows["attempts"]
        if a["day"] in days_of(days) and hour in (None, a["hour"])
        and all((a[columns.get(by, by)] or ("open" if by == "charge" else "")) == value for by, value in which.items())
    ]  # fmt: skip
    expected.sort(key=lambda a: (a["day"], a["id"]), reverse=True)
    assert [a.id for a in got] == [a["id"] for a in expected[: len(got)]]
    assert before is not None or len(got) == len(expected)


def test_an_answer_says_its_days_and_as_of_when(seen: Seen) -> None:
    found = dashboard(seen.connection, EVERYBODY, NOW, 3)
    assert found.about.window == Window("2026-11-22", "2026-11-24")
    assert datetime.fromisoformat(found.about.as_of) == NOW


@settings(max_examples=12, deadline=None)
@given(tenant=st.sampled_from(TENANTS), days=DAYS, group_by=PAIRS, which=WHICH, wanted=WANTED)
def test_in_a_tenants_scope_every_answer_is_that_tenants_alone(
    seen: Seen, tenant: str, days: int, group_by: list[By], which: dict[str, str], wanted: Wanted
) -> None:
    scope, c = Scope(tenant), seen.connection
    theirs = {
        name: [row for row in rows if row.get("tenant_id") == tenant] for name, rows in seen.rows.items()
    }  # fmt: skip
    within = days_of(days)
    board = dashboard(c, scope, NOW, days)
    assert board.coverage.prospects == len(theirs["prospects"])
    assert board.pipeline.results == len(brute.closed(theirs, within))
    assert sum(burn.usd_micros for burn in board.burn) == brute.money(brute.finished(theirs, within))[0]
    today = brute.done(theirs, {f"{NOW:%Y-%m-%d}"})
    assert board.users.today == len({e["user_id"] for e in today})
    assert {one.tenant_id for one in tenants_activity(c, scope, NOW, days).tenants} <= {tenant}
    other = next(one for one in TENANTS if one != tenant)
    assert users_activity(c, scope, NOW, other, days).users == []
    limits = [limit for provider in quotas(c, scope, NOW).providers for limit in provider.limits]
    assert {limit.tenant_id for limit in limits} <= {tenant}
    failed = failures(theirs, within, wanted)
    assert error_feed(c, scope, NOW, last_days(NOW, days), wanted).results == len(failed)
    page = errors(c, scope, NOW, last_days(NOW, days), wanted, limit=1000).errors
    assert {error.id for error in page} == {r["id"] for r in failed}
    expected = brute.usage(theirs, within, [str(by) for by in group_by], which)
    found = usage(c, scope, NOW, last_days(NOW, days), group_by, Which(**which), limit=10_000)
    assert {row.keys: row.counted.attempts for row in found.rows} == {k: v["attempts"] for k, v in expected.items()}
    behind = attempts_behind(c, scope, NOW, last_days(NOW, days), Which(**which))
    assert {a.tenant_id for a in behind.attempts} <= {tenant}
    assert attempts_of(c, scope, next(r["id"] for r in seen.rows["source_results"] if r["tenant_id"] != tenant)) == []
