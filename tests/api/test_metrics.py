"""What is told to whoever watches: true figures, few series, nobody's name, and to operators only."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from people import with_people
from prometheus_client.parser import text_string_to_metric_families
from served import Served, running, serving
from sqlalchemy import func, insert, select

from builders import a_booking, a_quota, limited, rows, today, write
from redis_server import RedisServer
from sluiceway.cli.options import sandbox_target
from sluiceway.pipeline.measured import Measures
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.settings import load_settings
from sluiceway.store.engine import Store
from sluiceway.store.schema import alarms, attempts, deliveries, duration_days, meter_days, provider_hours
from sluiceway.tenancy.keys import KeyKind, issue_key

RULES = Path(__file__).parents[2] / "docs" / "alert-rules.yaml"
Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(served: Served) -> Scraped:
    """Every sample of a scrape, by its name and labels."""
    answer = served.get("/metrics", who=None)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def sums(found: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, by: str) -> dict[str, float]:
    """What a metric's samples add up to, by one of their labels."""
    added: dict[str, float] = {}
    for (sample, labels), value in found.items():
        if sample == name:
            key = dict(labels)[by]
            added[key] = added.get(key, 0.0) + value
    return added


def enriched(served: Served, count: int) -> None:
    """Enrich some people, and wait for the end."""
    answer = served.post("/batches", {"prospects": with_people(served, count)})
    assert answer.status_code == 202, answer.text
    address = answer.headers["Location"]
    give_up = time.monotonic() + 60
    while served.get(address).json()["state"] != "finished":
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_calls_and_money_are_the_ledgers(served: Served, store: Store) -> None:
    enriched(served, 4)
    found = scraped(served)
    a = attempts.c
    with store.read() as connection:
        query = select(a.provider, a.source, a.charge, func.count()).group_by(a.provider, a.source, a.charge)
        counted = {(p, s, charge): n for p, s, charge, n in connection.execute(query)}
        money = connection.execute(select(func.sum(a.usd_micros), func.sum(a.milli_credits))).one()
    for (provider, source, charge), count in counted.items():
        labels = frozenset({("provider", provider), ("source", source), ("charge", charge)})
        assert found["sluiceway_calls_total", labels] == count
    assert sum(sums(found, "sluiceway_calls_total", "charge").values()) == sum(counted.values())
    assert sum(sums(found, "sluiceway_dollars_total", "provider").values()) == pytest.approx(money[0] / 1e6)
    assert sum(sums(found, "sluiceway_credits_total", "provider").values()) == pytest.approx(money[1] / 1e3)


def test_durations_are_a_whole_histogram(served: Served, store: Store) -> None:
    enriched(served, 3)
    found = scraped(served)
    timed: dict[str, int] = {}
    for row in rows(store, duration_days):
        timed[row["source"]] = timed.get(row["source"], 0) + row["attempts"]
    assert timed
    assert sums(found, "sluiceway_attempt_seconds_count", "source") == timed
    for source in timed:
        buckets = sorted(
            (float(dict(labels)["le"]), value)
            for (name, labels), value in found.items()
            if name == "sluiceway_attempt_seconds_bucket" and ("source", source) in labels
        )
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1] == (float("inf"), timed[source])
        assert buckets[0][0] == 0.001


def test_figures_are_the_same_after_a_restart(served: Served, store: Store, sandbox: SandboxProcess) -> None:
    enriched(served, 2)
    before = {key: value for key, value in scraped(served).items() if key[0].startswith(KEPT)}
    assert before
    settings = load_settings(database_url=store.url, meter_every_s=0)
    with running(served, settings, sandbox_target(sandbox.url)):
        after = {key: value for key, value in scraped(served).items() if key[0].startswith(KEPT)}
    assert after == before


KEPT = ("sluiceway_calls", "sluiceway_credits", "sluiceway_dollars", "sluiceway_attempt", "sluiceway_source_results")


def test_no_label_names_a_tenant_a_user_a_batch_or_a_person(served: Served) -> None:
    enriched(served, 1)
    limited(served.store, a_quota(100, tenant_id="acme"))
    served.get("/prospects/somebody-in-particular")
    served.get("/no/such/place/ines@harbourline.example")
    text = served.get("/metrics", who=None).text
    labels = {
        name
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for name in sample.labels
    }  # fmt: skip
    assert labels == {
        "provider", "source", "charge", "status", "le", "state", "credentials", "cause", "version", "route", "method",
        "kind",
    } | ({"limit", "unit", "per", "meter", "receiver"} & labels)  # fmt: skip
    for private in ("acme", "globex", "somebody", "ines@", *(user.id for user in served.users.values())):
        assert private not in text


def test_requests_are_counted_by_the_routes_template(served: Served) -> None:
    for number in range(3):
        served.get(f"/prospects/nobody-{number}")
    served.get("/nowhere/at/all")
    served.ask("BREW", "/prospects/nobody")
    found = scraped(served)
    name = "sluiceway_http_requests_total"
    route = frozenset({("route", "/api/v1/prospects/{prospect_id}"), ("method", "GET"), ("status", "404")})
    assert found[name, route] == 3
    assert found[name, frozenset({("route", "(none)"), ("method", "GET"), ("status", "404")})] == 1
    assert sums(found, name, "method")["other"] == 1
    assert found["sluiceway_http_request_seconds_count", frozenset(item for item in route if item[0] != "status")] == 3


# Who may read it.

FROM_ELSEWHERE = {"X-Forwarded-For": "203.0.113.7"}


def test_from_beyond_this_machine_only_operators_read_it(store: Store, sandbox: SandboxProcess) -> None:
    with serving(store, sandbox, metrics_token="a-token-for-the-scraper") as served:
        assert served.get("/metrics", who=None, headers=FROM_ELSEWHERE).status_code == 401
        assert served.get("/metrics", who="tenant_admin@acme", headers=FROM_ELSEWHERE).status_code == 403
        assert served.get("/metrics", who="super", headers=FROM_ELSEWHERE).status_code == 200
        for token, status in (("a-token-for-the-scraper", 200), ("another", 401)):
            headers = {**FROM_ELSEWHERE, "Authorization": f"Bearer {token}"}
            assert served.get("/metrics", who=None, headers=headers).status_code == status


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_what_came_through_a_proxy_on_this_machine_is_not_from_this_machine(served: Served, header: str) -> None:
    assert served.get("/metrics", who=None, headers={header: "127.0.0.1"}).status_code == 401


def test_behind_https_a_request_that_looks_direct_may_have_come_through_a_silent_proxy(
    store: Store, sandbox: SandboxProcess
) -> None:
    with serving(store, sandbox, public_url="https://people.example.com") as served:
        assert served.get("/metrics", who=None).status_code == 401
        assert served.get("/metrics", who="super").status_code == 200


def test_no_token_opens_nothing_where_none_is_set(served: Served) -> None:
    headers = {**FROM_ELSEWHERE, "Authorization": "Bearer "}
    assert served.get("/metrics", who=None, headers=headers).status_code == 401


def test_a_super_admins_test_key_reaches_only_the_sandbox_and_so_no_figures(served: Served, store: Store) -> None:
    with store.change() as connection:
        issued = issue_key(connection, served.users["super"], KeyKind.TEST, by="test", now=store.clock.now())
    headers = {**FROM_ELSEWHERE, "Authorization": f"Bearer {issued.text}"}
    assert served.get("/metrics", who=None, headers=headers).status_code == 401


# The example rules.


def test_every_metric_of_the_example_rules_is_there(
    store: Store, sandbox: SandboxProcess, redis_server: RedisServer
) -> None:
    limited(store, a_quota(1000))
    write(store, a_booking(3, day=today()))
    with store.writing.begin() as connection:
        connection.execute(insert(meter_days).values(COMPARED))
        connection.execute(insert(alarms).values(kind="drift", subject="apollo", window="w", said="s", raised_at=NOW))
        connection.execute(insert(deliveries), [DUE, GIVEN_UP])
    with serving(store, sandbox, redis_url=redis_server.url) as served:
        enriched(served, 1)
        there = {name for name, _ in scraped(served)}
    named = set(re.findall(r"\bsluiceway_\w+", "".join(_expressions())))
    assert len(named) >= 8
    assert named <= there


NOW = f"{today()}T00:00:00.000Z"
COMPARED = {
    "provider": "apollo", "credential_id": "platform", "meter": "credits", "day": today(), "unit": "credits",
    "since": NOW, "until": NOW, "theirs": 5, "ours_least": 7, "ours_most": 7, "outside": 0, "missing": 2,
}  # fmt: skip
DUE = {"id": "1", "receiver": "alert", "receiver_id": "a", "event": "drift", "target": "apollo", "created_at": NOW,
       "next_at": NOW}  # fmt: skip
GIVEN_UP = {**DUE, "id": "2", "next_at": None}


def _expressions() -> list[str]:
    """The expressions of the example rules: what follows `expr:`, on its line or indented below it."""
    found, inside = [], False
    for line in RULES.read_text(encoding="utf-8").splitlines():
        if (key := re.match(r"\s+(?:- )?(\w+):", line)) is not None:
            inside = key[1] == "expr"
        if inside:
            found.append(line)
    return found


def test_the_figures_of_what_is_left_and_due_are_told(served: Served, store: Store) -> None:
    limited(store, a_quota(1000))
    with store.writing.begin() as connection:
        connection.execute(insert(meter_days).values(COMPARED))
        connection.execute(insert(deliveries), [DUE, GIVEN_UP])
    enriched(served, 2)
    found = scraped(served)
    asked = sums(found, "sluiceway_calls_total", "provider")["apollo"]
    assert sums(found, "sluiceway_quota_used", "provider") == {"apollo": asked}
    assert sums(found, "sluiceway_quota_limit", "provider") == {"apollo": 1000}
    assert sums(found, "sluiceway_meter_missing_today", "meter") == {"credits": 2}
    assert sums(found, "sluiceway_deliveries_due", "receiver") == {"alert": 1}
    assert sums(found, "sluiceway_deliveries_failed", "receiver") == {"alert": 1}
    assert sums(found, "sluiceway_breakers_open", "provider")["apollo"] == 0
    assert "sluiceway_counters_behind" not in {name for name, _ in found}, "there is no Redis"


# How long it takes.


PROVIDERS = ("apollo", "contactout", "exa", "edgar", "claude")


def test_a_scrape_does_not_get_slower_with_the_years(store: Store) -> None:
    days = [(date(2023, 1, 1) + timedelta(number)).isoformat() for number in range(300)]
    with store.writing.begin() as connection:
        connection.execute(insert(provider_hours), [row for day in days for row in _hours_of(day)])
    measures, now = Measures(), store.clock.now()
    with store.read() as connection:
        first = measures.read(connection, now)
        began = time.perf_counter()
        again = measures.read(connection, now)
        took_s = time.perf_counter() - began
    print(f"a scrape reads for {took_s * 1000:.1f} ms")
    assert again.spent == first.spent
    assert [each.billed for each in again.spent] == [300 * 24 * 4 * 3] * 5
    assert took_s < 0.05


def _hours_of(day: str) -> Iterator[dict[str, Any]]:
    for hour, provider, trigger in product(range(24), PROVIDERS, ("api", "console", "file", "meter")):
        key = {"day": day, "hour": hour, "provider": provider, "source": provider, "trigger": trigger}
        yield {**key, "attempts": 5, "billed": 3, "free": 2}


def test_what_ends_later_is_added_to_what_was_read_before(store: Store) -> None:
    measures, now = Measures(), store.clock.now()
    long_ago = next(_hours_of("2023-01-01"))
    with store.writing.begin() as connection:
        connection.execute(insert(provider_hours).values(long_ago))
    with store.read() as connection:
        assert [each.billed for each in measures.read(connection, now).spent] == [3]
    with store.writing.begin() as connection:
        connection.execute(insert(provider_hours).values({**long_ago, "day": today(), "billed": 4}))
    with store.read() as connection:
        assert [each.billed for each in measures.read(connection, now).spent] == [7]
