"""API keys over HTTP: making, listing, revoking one's own; and what an admin may do with others'."""

from __future__ import annotations

from typing import Any

import pytest
from served import ACME, GLOBEX, SUPER, Served
from sqlalchemy import select

from sluiceway.store.schema import activity, audit

AGENT, ADMIN, ASSISTANT = f"agent@{ACME}", f"tenant_admin@{ACME}", f"assistant@{ACME}"


def made(served: Served, who: str = AGENT, **asked: Any) -> dict[str, Any]:
    answer = served.post("/keys", {"name": "the CRM", **asked}, who)
    assert answer.status_code == 201, answer.text
    said: dict[str, Any] = answer.json()
    return said


def works(served: Served, text: str) -> bool:
    return served.get("/session", None, headers={"Authorization": f"Bearer {text}"}).status_code == 200


def listed(served: Served, who: str = AGENT, path: str = "/keys") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = served.get(path, who).json()["items"]
    return items


def test_a_key_is_shown_once_and_works_until_it_is_revoked(served: Served) -> None:
    said = made(served)
    key, text = said["key"], said["text"]
    assert text.startswith("slw_live_")
    assert works(served, text)
    shown = served.get("/keys")
    assert text not in shown.text
    assert shown.json()["items"][0]["prefix"] == text[:17]
    for _ in range(2):
        answer = served.ask("DELETE", f"/keys/{key['id']}")
        assert answer.status_code == 200
        assert answer.json()["revoked_at"]
        assert not works(served, text)


def test_making_and_revoking_are_recorded_once(served: Served) -> None:
    key = made(served)["key"]
    for _ in range(2):
        served.ask("DELETE", f"/keys/{key['id']}")
    with served.store.read() as connection:
        a = activity.c
        query = select(a.action, a.tenant_id, a.user_id).where(a.target == key["id"])
        user = served.users[AGENT].id
        assert connection.execute(query.order_by(a.id)).all() == [
            ("key_created", ACME, user),
            ("key_revoked", ACME, user),
        ]
        acts = select(audit.c.action, audit.c.actor).where(audit.c.target == f"key:{key['id']}").order_by(audit.c.id)
        assert connection.execute(acts).all() == [("key.add", f"user:{user}"), ("key.revoke", f"user:{user}")]


def test_one_sees_ones_own_keys_and_an_admin_those_of_the_tenant(served: Served) -> None:
    key = made(served)["key"]
    assert {each["user_id"] for each in listed(served)} == {served.users[AGENT].id}
    assert key["id"] not in {each["id"] for each in listed(served, ADMIN)}
    assert key["id"] in {each["id"] for each in listed(served, ADMIN, "/keys?everyone=true")}
    assert {each["tenant_id"] for each in listed(served, ADMIN, "/keys?everyone=true")} == {ACME}
    assert {each["tenant_id"] for each in listed(served, SUPER, "/keys?everyone=true")} == {ACME, GLOBEX, None}
    assert served.get("/keys?everyone=true", AGENT).status_code == 403


def test_keys_come_in_pages(served: Served) -> None:
    ids = [made(served, name=str(number))["key"]["id"] for number in range(4)]
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = served.get(f"/keys?limit=2{cursor and f'&cursor={cursor}'}").json()
        found += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
    assert found[:4] == ids[::-1]
    assert len(found) == 5


def test_what_is_anothers_is_not_there_and_who_only_reads_has_no_keys(served: Served) -> None:
    theirs = made(served, ADMIN)["key"]["id"]
    elsewhere = made(served, f"agent@{GLOBEX}")["key"]["id"]
    for who, key in ((AGENT, theirs), (AGENT, elsewhere), (ADMIN, elsewhere), (AGENT, "made-up")):
        answer = served.ask("DELETE", f"/keys/{key}", who)
        assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no API key '{key}'")
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("DELETE", f"/keys/{theirs}")):
        assert served.ask(method, path, ASSISTANT, **({"json": {}} if method == "POST" else {})).status_code == 403


def test_an_admin_makes_and_revokes_keys_of_the_tenants_users_only(served: Served) -> None:
    user = served.users[AGENT].id
    said = made(served, ADMIN, user_id=user)
    assert said["key"]["user_id"] == user
    assert served.get("/session", None, headers={"X-API-Key": said["text"]}).json()["role"] == "agent"
    assert served.ask("DELETE", f"/keys/{said['key']['id']}", ADMIN).status_code == 200
    for who, whom, status in (
        (AGENT, ADMIN, 403),
        (ADMIN, f"agent@{GLOBEX}", 404),
        (ADMIN, SUPER, 404),
        (f"tenant_admin@{GLOBEX}", AGENT, 404),
    ):
        assert served.post("/keys", {"user_id": served.users[whom].id}, who).status_code == status


def test_a_super_admin_has_keys_that_are_no_tenants(served: Served) -> None:
    assert made(served, SUPER)["key"]["tenant_id"] is None


@pytest.mark.parametrize("asked", [{"kind": "root"}, {"name": "a" * 201}, {"name": None}, {"extra": 1}, []])
def test_what_cannot_be_a_key_is_refused(served: Served, asked: Any) -> None:
    assert served.post("/keys", asked).status_code == 422


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{", b"null", b""])
def test_a_body_that_cannot_be_read_is_refused_like_any_other(served: Served, body: bytes) -> None:
    answer = served.ask("POST", "/keys", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
