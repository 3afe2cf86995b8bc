"""What a tenant may know of its own usage and limits, and calls that other code reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from served import ACME, GLOBEX, SUPER, Served

from builders import A_CREDIT, a_finish, an_attempt, rows, write
from sluiceway.outcome import FREE
from sluiceway.store.schema import daily_totals, external_usage
from sluiceway.store.secret import SecretKey
from sluiceway.tenancy.credentials import set_credential
from sluiceway.usage.ledger import Begin
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota

TODAY = f"{datetime.now(UTC):%Y-%m-%d}"


def a_report(**changed: Any) -> dict[str, Any]:
    return {"provider": "apollo", "calls": 25, "id": "nightly", **changed}


def called(served: Served, tenant: str = ACME, **changed: Any) -> None:
    """A billed call to Apollo, today."""
    attempt = an_attempt(tenant_id=tenant, day=TODAY, begun_at=served.store.clock.stamp(), **changed)
    write(served.store, Begin(attempt), a_finish(attempt, A_CREDIT))


def own_credential(served: Served, tenant: str = ACME) -> str:
    """A tenant's own key for Apollo; returns its id."""
    key, now = SecretKey("k" * 32), served.store.clock.now()
    with served.store.change() as connection:
        return set_credential(connection, tenant, "apollo", f"{tenant}-key", key, by="test", now=now).id


def days_back(days: int) -> str:
    return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}"


# Reporting.


def test_a_report_counts_once_and_says_whether_it_was_there(served: Served) -> None:
    first = served.post("/usage", a_report(note="the nightly job"))
    again = served.post("/usage", a_report(calls=999, provider="exa"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json() | {"booked_at": ""} == {
        "id": "nightly", "provider": "apollo", "day": TODAY, "calls": 25, "note": "the nightly job", "booked_at": "",
    }  # fmt: skip
    (total,) = rows(served.store, daily_totals)
    assert (total["provider"], total["tracked"], total["billed"]) == ("apollo", 25, 0)


def test_the_same_id_of_another_tenant_is_another_report(served: Served) -> None:
    served.post("/usage", a_report())
    theirs = served.post("/usage", a_report(calls=3), f"agent@{GLOBEX}")
    assert (theirs.status_code, theirs.json()["calls"]) == (201, 3)
    sly = served.post("/usage", a_report(calls=4, id=f"{len(ACME)}:{ACME}:nightly"), f"agent@{GLOBEX}")
    assert sly.status_code == 201
    assert {(row["tenant_id"], row["calls"]) for row in rows(served.store, external_usage)} == {
        (ACME, 25), (GLOBEX, 3), (GLOBEX, 4),
    }  # fmt: skip


@pytest.mark.parametrize("back", [0, 1, 90])
def test_a_report_is_of_the_day_it_says(served: Served, back: int) -> None:
    assert served.post("/usage", a_report(day=days_back(back))).json()["day"] == days_back(back)


@pytest.mark.parametrize(
    "asked",
    [
        a_report(day=days_back(91)),
        a_report(day=days_back(-1)),
        a_report(day="yesterday"),
        a_report(provider="nobody"),
        a_report(calls=0),
        a_report(calls=10**9 + 1),
        a_report(id=""),
        a_report(kind="imported"),
        {"provider": "apollo", "calls": 1},
    ],
)
def test_what_cannot_be_booked_is_refused_and_nothing_is_counted(served: Served, asked: dict[str, Any]) -> None:
    answer = served.post("/usage", asked)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert rows(served.store, external_usage) == []


def test_an_assistant_reports_nothing_and_an_operator_says_for_whom(served: Served) -> None:
    assert served.post("/usage", a_report(), f"assistant@{ACME}").status_code == 403
    assert served.post("/usage", a_report(), None).status_code == 401
    assert "for which tenant" in served.post("/usage", a_report(), SUPER).json()["detail"]
    assert served.post(f"/usage?tenant={ACME}", a_report(), SUPER).status_code == 201
    assert served.post("/usage", a_report()).status_code == 200


# One's own usage.


def test_usage_is_ones_own_by_provider_and_day(served: Served) -> None:
    called(served)
    called(served)
    called(served, GLOBEX)
    served.post("/usage", a_report(provider="exa", calls=7))
    found = served.get("/usage?days=7").json()
    assert found["about"]["window"] == {"since": days_back(6), "until": TODAY}
    apollo, exa = sorted(found["rows"], key=lambda row: row["provider"])
    assert (apollo["provider"], apollo["day"], apollo["reported"]) == ("apollo", TODAY, 0)
    assert (apollo["counted"]["billed"], apollo["counted"]["usd_micros"]) == (2, 52_000)
    assert (exa["counted"]["attempts"], exa["reported"]) == (0, 7)
    assert (found["total"]["billed"], found["reported"]) == (2, 7)
    assert served.get("/usage", f"agent@{GLOBEX}").json()["total"]["billed"] == 1


def test_what_own_credentials_paid_for_is_told_apart(served: Served) -> None:
    called(served)
    called(served, credential_id=(own := own_credential(served)))
    attempt = an_attempt(tenant_id=ACME, day=TODAY, credential_id=own)
    write(served.store, Begin(attempt), a_finish(attempt, FREE))
    called(served, GLOBEX, credential_id=own_credential(served, GLOBEX))
    (row,) = served.get("/usage").json()["rows"]
    assert row["counted"]["billed"] == 2
    assert row["own"] == {"billed": 1, "milli_credits": 1000, "usd_micros": 26_000, "unpriced": 0}


# Limits.


def limit(served: Served, amount: int, tenant: str | None = None, provider: str = "apollo") -> None:
    with served.store.change() as connection:
        quota = Quota(provider, Unit.REQUESTS, QuotaClock.DAY, amount, tenant)
        set_quota(connection, quota, by="Ines", now=served.store.clock.stamp())


def test_limits_that_hold_are_told_and_what_others_use_is_not(served: Served) -> None:
    called(served)
    called(served, GLOBEX)
    limit(served, 2)
    limit(served, 5, ACME)
    limit(served, 9, GLOBEX)
    found = served.get("/usage/limits", f"assistant@{ACME}").json()
    shared, own = found["limits"]
    assert (shared["shared"], shared["used"], shared["left"], shared["used_up"]) == (True, None, None, True)
    assert (own["shared"], own["used"], own["left"], own["used_up"]) == (False, 1, 4, False)
    assert own["shown"] == "5 requests per day for tenant acme"
    assert GLOBEX not in served.get("/usage/limits").text


def test_no_limit_holds_for_ones_own_credential(served: Served) -> None:
    limit(served, 2)
    limit(served, 3, provider="exa")
    own_credential(served)
    found = served.get("/usage/limits").json()
    assert found["own"] == ["apollo"]
    assert [one["provider"] for one in found["limits"]] == ["exa"]


@pytest.mark.parametrize("path", ["/usage", "/usage/limits"])
def test_another_tenants_usage_is_nobody_elses_business(served: Served, path: str) -> None:
    assert served.get(path, None).status_code == 401
    assert served.get(f"{path}?tenant={GLOBEX}").status_code == 403
    assert served.get(f"{path}?tenant=nobody").status_code == 403
    assert served.get(path, SUPER).status_code == 422
    assert served.get(f"{path}?tenant={GLOBEX}", SUPER).status_code == 200
