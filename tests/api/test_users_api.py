"""Users over HTTP: who may let whom in, as what, and who stays out."""

from __future__ import annotations

from typing import Any

import pytest
from served import ACME, BELOW, GLOBEX, SUPER, Served
from sqlalchemy import select

from sluiceway.store.schema import activity, audit

AGENT, ADMIN, ASSISTANT = f"agent@{ACME}", f"tenant_admin@{ACME}", f"assistant@{ACME}"
STRANGER = f"tenant_admin@{GLOBEX}"


def user_id(served: Served, who: str) -> str:
    return served.users[who].id


def role(served: Served, whose: str, by: str, **asked: Any) -> Any:
    return served.ask("PUT", f"/users/{user_id(served, whose)}/role", by, json=asked)


def emails(served: Served, who: str, path: str = "/users") -> list[str]:
    return [user["email"] for user in served.get(path, who).json()["items"]]


def test_an_admin_sees_the_tenants_users_and_a_super_admin_all(served: Served) -> None:
    theirs = sorted(f"{role}@acme.example" for role in BELOW)
    assert emails(served, ADMIN) == theirs
    assert emails(served, SUPER, f"/users?tenant={ACME}") == theirs
    assert len(emails(served, SUPER)) == 2 * len(BELOW) + 1
    assert "password_hash" not in served.get("/users", ADMIN).text


def test_users_come_in_pages(served: Served) -> None:
    first = served.get("/users?limit=4", SUPER).json()
    second = served.get(f"/users?limit=4&cursor={first['next_cursor']}", SUPER).json()
    found = [user["email"] for user in first["items"] + second["items"]]
    assert found == sorted(user.email for user in served.users.values())
    assert second["next_cursor"] is None


def test_an_admin_makes_users_of_the_tenant_who_come_in_by_a_link(served: Served) -> None:
    made = served.post("/users", {"email": "Tomas@acme.example", "role": "agent"}, ADMIN)
    assert made.status_code == 201, made.text
    assert (made.json()["tenant_id"], made.json()["email"]) == (ACME, "tomas@acme.example")
    link = served.post(f"/users/{made.json()['id']}/sign-in-link", None, ADMIN)
    assert link.status_code == 201
    assert link.json()["url"].startswith("http://127.0.0.1:8080/sign-in/")
    token = link.json()["url"].rpartition("/")[2]
    page = served.ask("POST", f"/sign-in/{token}", None)
    assert "tomas@acme.example" in page.text


def test_changes_of_users_are_recorded_with_who_made_them(served: Served) -> None:
    target = user_id(served, AGENT)
    role(served, AGENT, ADMIN, role="assistant")
    served.post(f"/users/{target}/disable", None, ADMIN)
    by = user_id(served, ADMIN)
    with served.store.read() as connection:
        a, events = audit.c, activity.c
        acts = select(a.action).where(a.target == f"user:{target}", a.actor == f"user:{by}").order_by(a.id)
        assert connection.execute(acts).scalars().all() == ["user.set-role", "user.disable"]
        query = select(events.action, events.tenant_id, events.user_id).where(events.target == target)
        assert connection.execute(query).all() == [("user_changed", ACME, by)] * 2


def test_a_user_who_is_kept_out_is_out_at_once_and_may_be_let_in_again(served: Served) -> None:
    path = f"/users/{user_id(served, AGENT)}"
    assert served.post(f"{path}/disable", None, ADMIN).json()["disabled_at"]
    assert served.get("/session", AGENT).status_code == 401
    assert served.post(f"{path}/sign-in-link", None, ADMIN).status_code == 409
    assert served.post(f"{path}/enable", None, ADMIN).json()["disabled_at"] is None
    assert served.get("/session", AGENT).status_code == 200


def test_only_who_operates_the_platform_makes_others_who_do(served: Served) -> None:
    assert served.post("/users", {"email": "x@acme.example", "role": "super_admin"}, ADMIN).status_code == 403
    assert role(served, AGENT, ADMIN, role="super_admin").status_code == 403
    made = served.post("/users", {"email": "second@example.com", "role": "super_admin"}, SUPER)
    assert (made.status_code, made.json()["tenant_id"]) == (201, None)


def test_a_super_admin_says_for_which_tenant_a_user_is(served: Served) -> None:
    asked = {"email": "x@acme.example", "role": "agent"}
    assert served.post("/users", asked, SUPER).status_code == 422
    assert served.post("/users?tenant=nowhere", asked, SUPER).status_code == 404
    assert served.post(f"/users?tenant={ACME}", {**asked, "role": "super_admin"}, SUPER).status_code == 422
    assert served.post(f"/users?tenant={ACME}", asked, SUPER).json()["tenant_id"] == ACME


def test_only_a_super_admin_moves_users_between_tenants_and_their_keys_end(served: Served) -> None:
    assert role(served, AGENT, ADMIN, role="agent", tenant_id=GLOBEX).status_code == 403
    moved = role(served, AGENT, SUPER, role="agent", tenant_id=GLOBEX)
    assert (moved.status_code, moved.json()["tenant_id"]) == (200, GLOBEX)
    assert served.get("/session", AGENT).status_code == 401
    assert role(served, ASSISTANT, SUPER, role="agent", tenant_id="nowhere").status_code == 422


def test_what_is_another_tenants_is_not_there_like_what_does_not_exist(served: Served) -> None:
    for whose in (user_id(served, AGENT), user_id(served, SUPER), "made-up"):
        for method, what, said in (
            ("PUT", "role", {"role": "agent"}),
            ("POST", "disable", None),
            ("POST", "enable", None),
            ("POST", "sign-in-link", None),
        ):
            answer = served.ask(method, f"/users/{whose}/{what}", STRANGER, json=said)
            assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no user '{whose}'")
    assert served.get(f"/users?tenant={ACME}", STRANGER).status_code == 403


@pytest.mark.parametrize("who", [AGENT, ASSISTANT])
def test_lower_roles_manage_nobody(served: Served, who: str) -> None:
    path = f"/users/{user_id(served, ASSISTANT)}"
    assert served.get("/users", who).status_code == 403
    assert served.post("/users", {"email": "x@acme.example"}, who).status_code == 403
    assert role(served, ASSISTANT, who, role="tenant_admin").status_code == 403
    assert {served.post(f"{path}/{what}", None, who).status_code for what in ("disable", "sign-in-link")} == {403}


def test_nobody_locks_the_last_super_admin_out(served: Served) -> None:
    path = f"/users/{user_id(served, SUPER)}/disable"
    refused = served.post(path, None, SUPER)
    assert (refused.status_code, "make another one first" in refused.text) == (409, True)
    assert role(served, SUPER, SUPER, role="agent", tenant_id=ACME).status_code == 409
    assert role(served, SUPER, SUPER, role="super_admin").status_code == 200, "which changes nothing"
    served.post("/users", {"email": "second@example.com", "role": "super_admin"}, SUPER)
    assert served.post(path, None, SUPER).status_code == 200


def test_an_email_that_is_taken_is_refused_whoever_has_it(served: Served) -> None:
    answers = [served.post("/users", {"email": f"agent@{tenant}.example"}, ADMIN) for tenant in (ACME, GLOBEX)]
    assert {answer.status_code for answer in answers} == {422}
    assert len({answer.json()["detail"].replace(GLOBEX, ACME) for answer in answers}) == 1
    assert served.post("/users", {"email": "no e-mail"}, ADMIN).status_code == 422
