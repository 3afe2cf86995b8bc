"""Tenants, their own keys for providers, and the audit, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from served import ACME, GLOBEX, SUPER, Served

AGENT, ADMIN = f"agent@{ACME}", f"tenant_admin@{ACME}"
KEY = "a-key-of-acmes-own"


def items(served: Served, path: str, who: str) -> list[dict[str, Any]]:
    answer = served.get(path, who)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


# Tenants.


def test_a_super_admin_makes_tenants_and_keeps_them_out(served: Served) -> None:
    made = served.post("/tenants", {"id": "initech", "name": "Initech"}, SUPER)
    assert (made.status_code, made.json()["name"]) == (201, "Initech")
    assert [tenant["id"] for tenant in items(served, "/tenants", SUPER)] == [ACME, "default", GLOBEX, "initech"]
    assert served.post("/tenants", {"id": "initech"}, SUPER).status_code == 422
    assert served.post(f"/tenants/{ACME}/disable", None, SUPER).json()["disabled_at"]
    assert served.get("/session", AGENT).status_code == 401
    assert served.get("/session", f"agent@{GLOBEX}").status_code == 200
    assert served.post(f"/tenants/{ACME}/enable", None, SUPER).json()["disabled_at"] is None
    assert served.get("/session", AGENT).status_code == 200


def test_tenants_come_in_pages(served: Served) -> None:
    first = served.get("/tenants?limit=2", SUPER).json()
    second = served.get(f"/tenants?limit=2&cursor={first['next_cursor']}", SUPER).json()
    assert [tenant["id"] for tenant in first["items"] + second["items"]] == [ACME, "default", GLOBEX]


def test_tenants_are_nobody_elses_business(served: Served) -> None:
    for who in (ADMIN, AGENT, f"assistant@{ACME}"):
        assert served.get("/tenants", who).status_code == 403
        assert served.post("/tenants", {"id": "x"}, who).status_code == 403
        for tenant in (ACME, GLOBEX, "nowhere"):
            assert served.post(f"/tenants/{tenant}/disable", None, who).status_code == 403
    assert served.post("/tenants/nowhere/disable", None, SUPER).status_code == 404


# A tenant's own keys for providers.


def set_key(served: Served, who: str = ADMIN, provider: str = "apollo", **more: Any) -> Any:
    return served.ask("PUT", f"/credentials/{provider}", who, json={"value": KEY}, **more)


def test_a_tenants_own_key_is_kept_and_never_shown(served: Served) -> None:
    kept = set_key(served)
    assert kept.status_code == 200, kept.text
    listed = served.get("/credentials", ADMIN)
    assert listed.json() == [kept.json()]
    assert (kept.json()["tenant_id"], kept.json()["provider"]) == (ACME, "apollo")
    assert KEY not in kept.text + listed.text + served.get("/audit", ADMIN).text
    assert served.get("/credentials", f"tenant_admin@{GLOBEX}").json() == []
    assert served.get(f"/credentials?tenant={ACME}", SUPER).json() == listed.json()
    assert served.get("/credentials", SUPER).status_code == 422


def test_it_can_be_taken_away_again(served: Served) -> None:
    set_key(served)
    assert served.ask("DELETE", "/credentials/apollo", f"tenant_admin@{GLOBEX}").status_code == 404
    assert served.ask("DELETE", "/credentials/apollo", ADMIN).json()["revoked_at"]
    assert served.ask("DELETE", "/credentials/apollo", ADMIN).status_code == 404
    assert served.get("/credentials", ADMIN).json() == []


@pytest.mark.parametrize(("provider", "value"), [("nobody", KEY), ("edgar", KEY), ("apollo", ""), ("apollo", "a b")])
def test_what_cannot_be_a_providers_key_is_refused_without_being_repeated(
    served: Served, provider: str, value: str
) -> None:
    answer = served.ask("PUT", f"/credentials/{provider}", ADMIN, json={"value": value})
    assert answer.status_code == 422
    assert not value or value not in answer.text


def test_only_admins_know_of_them(served: Served) -> None:
    assert served.get("/credentials", AGENT).status_code == 403
    assert set_key(served, AGENT).status_code == 403
    assert served.ask("DELETE", "/credentials/apollo", AGENT).status_code == 403


# The audit.


def test_the_audit_shows_a_tenant_its_own_entries_newest_first(served: Served) -> None:
    served.post(f"/users/{served.users[AGENT].id}/disable", None, ADMIN)
    served.post(f"/users/{served.users[f'agent@{GLOBEX}'].id}/disable", None, f"tenant_admin@{GLOBEX}")
    entries = items(served, "/audit", ADMIN)
    assert entries[0]["action"] == "user.disable"
    assert entries[0]["target"] == f"user:{served.users[AGENT].id}"
    assert {entry["tenant_id"] for entry in entries} == {ACME}
    assert {entry["tenant_id"] for entry in items(served, "/audit", SUPER)} == {ACME, GLOBEX, None}
    assert served.get("/audit", f"assistant@{ACME}").status_code == 403


def test_the_audit_comes_in_pages(served: Served) -> None:
    whole = [entry["id"] for entry in items(served, "/audit", ADMIN)]
    found: list[str] = []
    path = "/audit?limit=3"
    while True:
        page = served.get(path, ADMIN).json()
        found += [entry["id"] for entry in page["items"]]
        if page["next_cursor"] is None:
            break
        path = f"/audit?limit=3&cursor={page['next_cursor']}"
    assert found == whole == sorted(whole, reverse=True)
    assert len(whole) == 7
