"""The answers for operators over HTTP, what operators change there, and that nobody else gets in."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import brute
import pytest
from bench.ledger_world import Size, fill
from served import ACME, BELOW, SUPER, TENANTS, Served, serving
from sqlalchemy import update

from builders import a_finish, an_attempt, rows, write
from sluiceway.outcome import FAILURES, UNKNOWN_CHARGE
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.store.engine import open_store
from sluiceway.store.schema import activity, attempts, breakers, pauses, quotas
from sluiceway.tenancy.tenants import know_tenants
from sluiceway.usage.ledger import Attempt, Begin
from sluiceway.usage.reconcile import fix, reconcile

ANSWERS = [
    "/api/admin/dashboard",
    "/api/admin/tenants/activity",
    "/api/admin/enrichment/health",
    "/api/admin/quota",
    "/api/admin/funnel",
    "/api/admin/errors",
    "/api/admin/errors/groups",
    "/api/admin/usage",
    "/api/admin/attempts",
]
CHANGES = {
    ("PUT", "/api/admin/quotas"): {"provider": "apollo", "limit": 5},
    ("DELETE", "/api/admin/quotas/apollo/requests/day"): None,
    ("GET", "/api/admin/pauses"): None,
    ("POST", "/api/admin/pauses"): {"what": "all"},
    ("DELETE", "/api/admin/pauses?what=all"): None,
    ("POST", "/api/admin/attempts/x/resolve"): {"became": "free", "note": "not there"},
    ("GET", "/api/admin/audit"): None,
    ("GET", "/api/admin/errors/x"): None,
}
ROUTES = [*(("GET", path) for path in ANSWERS), *CHANGES]


@pytest.fixture(scope="module", params=["as folded", "mended"])
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _one_sandbox: SandboxProcess
) -> Iterator[Served]:
    """The service on some days of seven tenants, up to now: as folded, or with sums that were spoilt and mended."""
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('world') / 'ledger.db'}")
    fill(store, Size(900, tenants=7, days=4), datetime.now(UTC))
    with store.change() as connection:
        know_tenants(connection, [f"tenant-{number:03}" for number in range(7)], store.clock.stamp())
        if request.param == "mended":
            brute.spoil(connection, random.Random(7))
            fix(connection, reconcile(connection, store.clock.now()))
    with serving(store, _one_sandbox) as served:
        yield served
    store.close()


def said(served: Served, path: str, who: str | None = SUPER, status: int = 200, **more: Any) -> Any:
    answer = served.ask(more.pop("method", "GET"), path, who, **more)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


# Who gets in.


@pytest.mark.parametrize("who", [f"{role}@{ACME}" for role in BELOW])
def test_nobody_below_a_super_admin_gets_in(full: Served, who: str) -> None:
    for method, path in ROUTES:
        answer = full.ask(method, path, who, json=CHANGES.get((method, path)))
        assert answer.status_code == 403, (method, path, answer.text)
        for tenant in (*TENANTS, "nobody's"):
            narrowed = f"{path}{'&' if '?' in path else '?'}tenant={tenant}"
            assert full.ask(method, narrowed, who, json=CHANGES.get((method, path))).status_code == 403


def test_who_does_not_say_who_they_are_does_not_get_in(full: Served) -> None:
    for method, path in ROUTES:
        assert full.ask(method, path, None, json=CHANGES.get((method, path))).status_code == 401


def test_every_route_below_admin_is_tried_here(full: Served) -> None:
    paths = said(full, "/api/openapi.json", None)["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item if "/api/admin" in path}
    tried = {
        (method, path.partition("?")[0].replace("/apollo/requests/day", "/{quota_id}")
         .replace("attempts/x", "attempts/{attempt_id}").replace("errors/x", "errors/{result_id}"))
        for method, path in ROUTES
    }  # fmt: skip
    assert tried == described


# The answers.


@pytest.mark.parametrize("path", ANSWERS)
def test_every_answer_says_its_window_freshness_and_source(full: Served, path: str) -> None:
    for narrowed in ("", "?tenant=tenant-000"):
        about = said(full, path + narrowed)["about"]
        assert about["window"]["until"] == f"{datetime.now(UTC):%Y-%m-%d}"
        assert about["source"]
        assert datetime.fromisoformat(about["as_of"]).tzinfo


@pytest.mark.parametrize("path", [path for path in ANSWERS if "tenants" not in path])
def test_a_tenant_there_is_none_of_is_not_there(full: Served, path: str) -> None:
    assert "no tenant" in said(full, f"{path}?tenant=nobody", status=404)["detail"]


class World:
    """The rows behind the answers, and the days they are of."""

    def __init__(self, served: Served, found: Any) -> None:
        with served.store.read() as connection:
            self.rows = brute.all_rows(connection)
        window = found["about"]["window"]
        self.within = {f"{day:%Y-%m-%d}" for day in _days(window["since"], window["until"])}


def _days(since: str, until: str) -> Iterator[datetime]:
    first, last = datetime.fromisoformat(since), datetime.fromisoformat(until)
    yield from (datetime.fromordinal(day) for day in range(first.toordinal(), last.toordinal() + 1))


@pytest.mark.parametrize("tenant", [None, "tenant-001"])
def test_counts_and_sums_are_those_of_the_rows(full: Served, tenant: str | None) -> None:
    narrowed = "" if tenant is None else f"?tenant={tenant}"
    board, tunnel = said(full, "/api/admin/dashboard" + narrowed), said(full, "/api/admin/funnel" + narrowed)
    world = World(full, board)
    ended = [r for r in brute.closed(world.rows, world.within) if tenant in (None, r["tenant_id"])]
    assert board["pipeline"]["results"] == len(ended)
    assert board["pipeline"]["failed"] == sum(r["status"] in FAILURES for r in ended)
    assert board["coverage"]["prospects"] == sum(tenant in (None, p["tenant_id"]) for p in world.rows["prospects"])
    for stage in tunnel["stages"]:
        did = brute.done(world.rows, world.within, tenant)
        assert stage["events"] == sum(e["action"] == stage["action"] for e in did)
        if stage["prospects"]["value"] is not None:
            assert stage["prospects"]["value"] == brute.distinct(world.rows, world.within, stage["action"], tenant)
    mine = [a for a in brute.finished(world.rows, world.within) if tenant in (None, a["tenant_id"])]
    assert (tunnel["usd_micros"], tunnel["unpriced"]) == brute.money(mine)
    assert (tunnel["usd_micros_unviewed"], tunnel["unpriced_unviewed"]) == brute.unviewed(
        world.rows, world.within, tenant
    )


@pytest.mark.parametrize("tenant", [None, "tenant-001"])
def test_outcomes_and_durations_are_those_of_the_rows(full: Served, tenant: str | None) -> None:
    found = said(full, "/api/admin/enrichment/health" + ("" if tenant is None else f"?tenant={tenant}"))
    world = World(full, found)
    ended = [r for r in brute.closed(world.rows, world.within) if tenant in (None, r["tenant_id"])]
    took = [a for a in brute.finished(world.rows, world.within) if tenant in (None, a["tenant_id"])]
    for one in (*found["days"], *found["sources"]):
        mine = [r for r in ended if r["source"] == one["source"] and one["day"] in (None, r["closed_at"][:10])]
        assert Counter(one["outcomes"]) == Counter(r["status"] for r in mine)
        known = [a for a in took if a["source"] == one["source"] and one["day"] in (None, a["day"])]
        latencies = [a["latency_us"] for a in known if a["latency_us"] is not None]
        for share, name in ((0.5, "p50_us"), (0.95, "p95_us")):
            assert one[name]["value"] == brute.bucket_bound(latencies, share)
            assert (one[name]["value"] is None) == (one[name]["reason"] is not None)


def test_a_source_says_whether_its_breaker_is_open(full: Served) -> None:
    with full.store.change() as connection:
        connection.execute(update(breakers).where(breakers.c.provider == "exa").values(state="open"))
    states = {one["source"]: one["breaker"] for one in said(full, "/api/admin/enrichment/health")["sources"]}
    others = dict.fromkeys(("apollo", "contactout", "edgar", "claude"), "closed")
    assert states == {**others, "exa": "open"}
    assert {day["breaker"] for day in said(full, "/api/admin/enrichment/health")["days"]} == {None}


def test_a_tenant_stands_beside_all_of_them_and_its_users_are_told_on_request(full: Served) -> None:
    everybody = said(full, "/api/admin/tenants/activity?users=true")
    assert {one["tenant_id"] for one in everybody["tenants"]} >= {"tenant-000", ACME, "default"}
    assert {one["standing"] for one in everybody["tenants"] if one["tenant_id"] == ACME} == {"new"}
    for one in everybody["tenants"]:
        assert sum(user["actions"] for user in one["by_user"]) == one["actions"]
    (alone,) = said(full, "/api/admin/tenants/activity?tenant=tenant-000")["tenants"]
    beside = next(one for one in everybody["tenants"] if one["tenant_id"] == "tenant-000")
    assert alone == {**beside, "by_user": None}


@pytest.mark.parametrize("group_by", ["provider,day", "tenant,charge", "hour", "user,trigger", "key", "batch,provider"])
def test_usage_by_any_two_things_is_that_of_the_rows(full: Served, group_by: str) -> None:
    path = f"/api/admin/usage?group_by={group_by}&limit=7"
    found = first = said(full, path)
    got = list(first["items"])
    while found["next_cursor"]:
        found = said(full, f"{path}&cursor={found['next_cursor']}")
        got += found["items"]
        assert found["total"] == first["total"]
    world = World(full, first)
    expected = brute.usage(world.rows, world.within, group_by.split(","), {})
    assert {tuple(row["keys"]): row["counted"]["attempts"] for row in got} == {
        keys: sums["attempts"] for keys, sums in expected.items()
    }
    for name in ("attempts", "billed", "free", "unknown", "not_sent", "open", "milli_credits", "usd_micros"):
        assert first["total"][name] == sum(row["counted"][name] for row in got)
        assert first["total"][name] == sum(sums[name] for sums in expected.values())


def test_what_cannot_be_told_apart_is_refused_with_the_reason(full: Served) -> None:
    for asked, why in {
        "group_by=colour": "'colour' is not one of",
        "group_by=day,tenant,user": "one or two of",
        "group_by=hour,user": "at most 2 days",
        "from=2026-13-40": "are not two days",
        "to=0001-01-02": "is no day",
        "from=2020-01-01&to=2026-01-01": "400 days",
        "cursor=nonsense": "no cursor",
    }.items():
        assert why in said(full, f"/api/admin/usage?{asked}", status=422)["detail"]


def test_the_rows_behind_a_figure_come_page_by_page_and_as_one_stream(full: Served) -> None:
    path = "/api/admin/attempts?provider=apollo&charge=billed"
    found = said(full, f"{path}&limit=200")
    got = list(found["items"])
    while found["next_cursor"]:
        found = said(full, f"{path}&limit=200&cursor={found['next_cursor']}")
        got += found["items"]
    world = World(full, found)
    mine = [a for a in world.rows["attempts"] if (a["provider"], a["charge"]) == ("apollo", "billed")]
    assert [a["id"] for a in got] == sorted((a["id"] for a in mine), reverse=True)
    (row,) = said(full, "/api/admin/usage?provider=apollo&charge=billed")["items"]
    assert row["counted"]["billed"] == len(got)
    for asked in ({"headers": {"Accept": "text/csv"}}, {"params": {"format": "csv"}}):
        answer = full.get(path, SUPER, **asked)
        assert answer.headers["content-type"].startswith("text/csv")
        assert [line["id"] for line in csv.DictReader(answer.text.splitlines())] == [a["id"] for a in got]


def test_the_rows_can_be_told_by_source_and_hour(full: Served) -> None:
    found = said(full, "/api/admin/attempts?source=exa&hour=12&limit=200")
    assert {(a["source"], a["hour"]) for a in found["items"]} <= {("exa", 12)}


# What failed.


def test_failures_come_newest_first_page_by_page(full: Served) -> None:
    found = said(full, "/api/admin/errors?limit=20")
    got = list(found["items"])
    while found["next_cursor"]:
        assert found["old"] == [], "when they were is not known, so they come last"
        found = said(full, f"/api/admin/errors?limit=20&cursor={found['next_cursor']}")
        got += found["items"]
    world = World(full, found)
    failed = [r for r in brute.closed(world.rows, world.within) if r["status"] in FAILURES]
    newest = sorted(failed, key=lambda r: (r["closed_at"], r["id"]), reverse=True)
    assert [error["id"] for error in got] == [r["id"] for r in newest]
    assert {(one["at"], one["error"]) for one in found["old"]} == {(None, None)}


def test_failures_are_narrowed_and_grouped_alike(full: Served) -> None:
    for asked in ("source=exa", "class=timed_out", "text=upstream", "tenant=tenant-000", "source=exa&class=failed"):
        groups = said(full, f"/api/admin/errors/groups?{asked}")
        count = 0
        for group in groups["groups"]:
            page = said(full, f"/api/admin/errors?{asked}&group={group['fingerprint']}&limit=200")
            assert len(page["items"]) == group["results"]
            assert {error["source"] for error in page["items"]} == {group["source"]}
            count += group["results"]
        assert groups["results"] == count


def test_failures_of_days_that_are_over_are_those_days_alone(full: Served) -> None:
    window = said(full, "/api/admin/dashboard?days=3")["about"]["window"]
    asked = f"from={window['since']}&to={window['since']}"
    groups, page = said(full, f"/api/admin/errors/groups?{asked}"), said(full, f"/api/admin/errors?{asked}&limit=200")
    assert {error["closed_at"][:10] for error in page["items"]} == {window["since"]}
    assert groups["results"] == len(page["items"])


def test_a_failure_opens_to_its_attempts(full: Served) -> None:
    world = World(full, said(full, "/api/admin/errors"))
    for error in said(full, "/api/admin/errors?limit=10")["items"]:
        one = said(full, f"/api/admin/errors/{error['id']}")
        assert one["error"] == error
        mine = [a["id"] for a in world.rows["attempts"] if a["source_result_id"] == error["id"]]
        assert sorted(a["id"] for a in one["attempts"]) == sorted(mine)
        other = next(t for t in ("tenant-000", "tenant-001") if t != error["tenant_id"])
        said(full, f"/api/admin/errors/{error['id']}?tenant={other}", status=404)
    assert "no failed source result" in said(full, "/api/admin/errors/nothing", status=404)["detail"]


# What operators change.


def changed(served: Served, method: str, path: str, asked: Any = None, status: int = 200) -> Any:
    return said(served, f"/api/admin{path}", status=status, method=method, **({"json": asked} if asked else {}))


def latest(served: Served) -> dict[str, Any]:
    entry: dict[str, Any] = said(served, "/api/admin/audit?limit=1")["items"][0]
    return entry


def test_a_limit_is_set_and_taken_away_and_both_are_known(served: Served) -> None:
    asked = {"provider": "apollo", "limit": 12.5, "unit": "usd", "per": "day", "tenant": ACME}
    quota = changed(served, "PUT", "/quotas", asked)
    assert (quota["id"], quota["amount"], quota["shown"]) == (
        "apollo/usd/day/acme", 12_500_000, "$12.50 per day for tenant acme",
    )  # fmt: skip
    actor = f"user:{served.users[SUPER].id}"
    assert latest(served) | {"id": "", "at": ""} == {
        "id": "", "at": "", "actor": actor, "action": "quota.set", "tenant_id": ACME,
        "target": "quota:apollo/usd/day/acme", "detail": "$12.50 per day for tenant acme",
    }  # fmt: skip
    (shown,) = said(served, "/api/admin/quota")["providers"][0]["limits"]
    assert shown["id"] == quota["id"]
    changed(served, "DELETE", f"/quotas/{quota['id']}", status=204)
    assert rows(served.store, quotas) == []
    assert latest(served)["action"] == "quota.unset"
    did = [event for event in rows(served.store, activity) if event["action"] == "quota_changed"]
    assert {(event["tenant_id"], event["user_id"]) for event in did} == {(ACME, served.users[SUPER].id)}
    assert len(did) == 2
    assert "no limit" in changed(served, "DELETE", f"/quotas/{quota['id']}", status=404)["detail"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"provider": "nobody", "limit": 1}, 422),
        ({"provider": "apollo", "limit": 1, "tenant": "nobody"}, 404),
        ({"provider": "apollo", "limit": 0.5}, 422),
        ({"provider": "apollo", "limit": -1}, 422),
        ({"provider": "apollo", "limit": 1, "per": "cycle"}, 422),
        ({"provider": "apollo", "limit": 1, "per": "in_flight", "unit": "usd"}, 422),
        ({"provider": "apollo", "limit": 1, "colour": "blue"}, 422),
    ],
)
def test_what_cannot_be_a_limit_is_refused(served: Served, asked: dict[str, Any], status: int) -> None:
    assert changed(served, "PUT", "/quotas", asked, status)["detail"]
    assert rows(served.store, quotas) == []


@pytest.mark.parametrize(("what", "name"), [("all", ""), ("provider", "exa"), ("tenant", ACME)])
def test_what_is_paused_goes_on_when_it_is_resumed(served: Served, what: str, name: str) -> None:
    stopped = changed(served, "POST", "/pauses", {"what": what, "name": name, "reason": "a look"}, 201)
    assert changed(served, "GET", "/pauses")["items"] == [stopped]
    entry = latest(served)
    assert (entry["action"], entry["target"], entry["detail"]) == ("pause", f"{what}:{name}", "a look")
    changed(served, "DELETE", f"/pauses?what={what}&name={name}", status=204)
    assert rows(served.store, pauses) == []
    assert latest(served)["action"] == "resume"
    assert "is not paused" in changed(served, "DELETE", f"/pauses?what={what}&name={name}", status=404)["detail"]


@pytest.mark.parametrize(
    ("what", "name", "status"),
    [("tenant", "nobody", 404), ("provider", "nobody", 422), ("batch", "nothing", 422), ("all", "x", 422)],
)
def test_a_pause_of_what_there_is_none_of_is_refused(served: Served, what: str, name: str, status: int) -> None:
    assert changed(served, "POST", "/pauses", {"what": what, "name": name}, status)["detail"]
    assert rows(served.store, pauses) == []


def lost(served: Served) -> Attempt:
    """A call whose answer was lost."""
    attempt = an_attempt(tenant_id=ACME, reserved_milli_credits=1000, reserved_usd_micros=26_000)
    write(served.store, Begin(attempt), a_finish(attempt, UNKNOWN_CHARGE, http_status=None, result="timed_out"))
    return attempt


@pytest.mark.parametrize(
    ("asked", "charge", "usd"),
    [
        ({"became": "billed", "note": "on the invoice"}, "billed", 26_000),
        ({"became": "billed", "note": "on the invoice", "usd": 0.5, "credits": 2}, "billed", 500_000),
        ({"became": "free", "note": "not on their page"}, "free", 0),
    ],
)
def test_what_became_of_a_lost_call_is_written_down_once(
    served: Served, asked: dict[str, Any], charge: str, usd: int
) -> None:
    path = f"/attempts/{lost(served).id}/resolve"
    found = changed(served, "POST", path, asked)
    assert (found["became"], found["usd_micros"]) == (charge, usd)
    (row,) = rows(served.store, attempts)
    assert (row["charge"], row["usd_micros"]) == (charge, usd)
    assert latest(served)["action"] == "attempt.resolve"
    assert f"was found {charge} already" in changed(served, "POST", path, asked, 409)["detail"]


def test_a_call_that_is_not_lost_cannot_be_resolved(served: Served) -> None:
    attempt = lost(served)
    free = {"became": "free", "note": "not there"}
    changed(served, "POST", f"/attempts/{attempt.id[:12]}/resolve", free, 404)
    changed(served, "POST", f"/attempts/{attempt.id}/resolve?tenant=globex", free, 404)
    changed(served, "POST", f"/attempts/{attempt.id}/resolve", {**free, "usd": 1}, 422)
    changed(served, "POST", f"/attempts/{attempt.id}/resolve", {"became": "free", "note": " "}, 422)
    assert [row["charge"] for row in rows(served.store, attempts)] == ["unknown"]


def test_the_audit_comes_page_by_page_and_can_be_narrowed(served: Served) -> None:
    whole = said(served, "/api/admin/audit?limit=200")
    assert whole["next_cursor"] is None
    got, found = [], said(served, "/api/admin/audit?limit=3")
    while True:
        got += found["items"]
        if found["next_cursor"] is None:
            break
        found = said(served, f"/api/admin/audit?limit=3&cursor={found['next_cursor']}")
    assert got == whole["items"]
    narrowed = said(served, f"/api/admin/audit?tenant={ACME}")["items"]
    assert narrowed == [entry for entry in got if entry["tenant_id"] == ACME]
