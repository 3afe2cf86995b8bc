"""Signing in and out over HTTP: the cookie, what it says, who is kept waiting, and one's own password."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from argon2 import PasswordHasher
from served import ACME, SUPER, Served, serving
from sqlalchemy import select

from sluiceway.errors import BadSetting
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.settings import load_settings
from sluiceway.store.engine import Store
from sluiceway.store.schema import activity, login_attempts, users
from sluiceway.tenancy.passwords import hashed, is_outdated, is_password
from sluiceway.tenancy.sign_in import let_in_by_link, make_link
from sluiceway.tenancy.users import disable_user, set_password_hash

AGENT = f"agent@{ACME}"
EMAIL = "agent@acme.example"
PASSWORD = "seven grey herons"
ANOTHER = "nine quiet harbours"
HASH = hashed(PASSWORD, EMAIL)
WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@pytest.fixture
def home(served: Served) -> Served:
    """The service, whose agent has a password."""
    keep(served, HASH)
    return served


def keep(served: Served, password_hash: str, who: str = AGENT) -> None:
    with served.store.change() as connection:
        user, now = served.users[who], served.store.clock.now()
        set_password_hash(connection, user, password_hash, by="test", now=now)


def sign_in(served: Served, password: str = PASSWORD, email: str = EMAIL, **more: Any) -> requests.Response:
    return served.post("/session", {"email": email, "password": password}, None, **more)


def held(answer: requests.Response) -> dict[str, Any]:
    """What a browser brings from then on: its cookie, and the token that a page of ours knows."""
    token = answer.json().get("csrf_token") or ""
    return {"cookies": dict(answer.cookies), "headers": {"X-CSRF-Token": token}}


def column(served: Served, query: Any) -> list[Any]:
    with served.store.read() as connection:
        return list(connection.execute(query).scalars())


def test_the_right_password_begins_a_session_that_says_who_one_is(home: Served) -> None:
    answer = sign_in(home, email=f" {EMAIL.upper()}")
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert (said["email"], said["role"], said["tenant_id"], said["has_password"]) == (EMAIL, "agent", ACME, True)
    assert "enrich" in said["permissions"]
    assert "manage_users" not in said["permissions"]
    assert home.get("/session", None, **held(answer)).json() == said


def test_a_login_is_recorded_as_an_activity(home: Served) -> None:
    sign_in(home)
    query = select(activity).where(activity.c.action == "login")
    with home.store.read() as connection:
        rows = [(row.tenant_id, row.user_id) for row in connection.execute(query)]
    assert rows == [(ACME, home.users[AGENT].id)]


def test_the_cookie_is_for_us_alone(home: Served) -> None:
    cookie = sign_in(home).headers["Set-Cookie"].lower()
    assert cookie.startswith("sluiceway_session=")
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/" in cookie
    assert "domain" not in cookie
    assert "secure" not in cookie, "people reach it over plain http"


def test_the_cookie_is_secure_where_people_come_over_https(store: Store, sandbox: SandboxProcess) -> None:
    with serving(store, sandbox, public_url="https://people.acme.example") as served:
        keep(served, HASH)
        answer = sign_in(served)
        assert "secure" in answer.headers["Set-Cookie"].lower()
        assert "max-age" in answer.headers["Strict-Transport-Security"]


def test_a_change_needs_the_sessions_token(home: Served) -> None:
    browser = held(sign_in(home))
    asked = {"name": "planted"}
    assert home.post("/keys", asked, None, cookies=browser["cookies"]).status_code == 403
    other = {"X-CSRF-Token": held(sign_in(home))["headers"]["X-CSRF-Token"]}
    assert home.post("/keys", asked, None, cookies=browser["cookies"], headers=other).status_code == 403
    assert home.post("/keys", asked, None, **browser).status_code == 201


def test_signing_in_ends_the_session_the_browser_had_and_signing_out_the_last(home: Served) -> None:
    first = held(sign_in(home))
    elsewhere = held(sign_in(home))
    second = held(sign_in(home, cookies=first["cookies"]))
    assert first["cookies"] != second["cookies"]
    assert home.get("/session", None, **first).status_code == 401
    gone = home.ask("DELETE", "/session", None, **second)
    assert gone.status_code == 204
    assert 'sluiceway_session=""' in gone.headers["Set-Cookie"]
    assert home.get("/session", None, **second).status_code == 401
    assert home.get("/session", None, **elsewhere).status_code == 200


def test_a_key_says_who_it_acts_for_and_has_no_session(home: Served) -> None:
    said = home.get("/session", AGENT).json()
    assert (said["email"], said["csrf_token"], said["sandbox_only"]) == (EMAIL, None, False)
    assert said["key_id"]
    assert home.ask("DELETE", "/session", AGENT).status_code == 403
    assert home.ask("PUT", "/session/password", AGENT, json={"new": ANOTHER}).status_code == 403


def test_nobody_is_nobody(served: Served) -> None:
    assert served.get("/session", None).status_code == 401
    assert served.get("/session", None, cookies={"sluiceway_session": "made up"}).status_code == 401


# Who is refused.


def test_whoever_is_refused_is_told_the_same(home: Served) -> None:
    disabled = home.users[f"assistant@{ACME}"]
    keep(home, HASH, f"assistant@{ACME}")
    with home.store.change() as connection:
        disable_user(connection, disabled, by="test", now=home.store.clock.now())
    tries = [(EMAIL, "wrong"), ("nobody@acme.example", PASSWORD), (disabled.email, PASSWORD), ("root@example.com", "")]
    answers = [sign_in(home, password, email) for email, password in tries]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert not any(answer.cookies for answer in answers)


def test_after_some_failures_one_waits_and_is_told_how_long(home: Served) -> None:
    for _ in range(5):
        assert sign_in(home, "wrong").status_code == 401
    answer = sign_in(home)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 2
    for _ in range(5):
        sign_in(home, "wrong", "nobody@acme.example")
    unknown = sign_in(home, email="nobody@acme.example")
    assert (unknown.status_code, unknown.json()["title"]) == (429, answer.json()["title"])


def addresses(served: Served) -> int:
    """From how many addresses somebody has failed."""
    return len(column(served, select(login_attempts.c.name).where(login_attempts.c.kind == "address")))


def test_what_strangers_say_of_their_address_is_not_believed(home: Served) -> None:
    for number in range(3):
        sign_in(home, "wrong", headers={"X-Forwarded-For": f"192.0.2.{number}"})
    assert addresses(home) == 1


def test_a_proxy_of_ours_is_believed_about_whom_it_forwards_for(store: Store, sandbox: SandboxProcess) -> None:
    with serving(store, sandbox, trusted_proxies=["127.0.0.0/8"]) as served:
        for said in ("192.0.2.1", "192.0.2.2", "made up, 192.0.2.2", "198.51.100.9, 192.0.2.1"):
            sign_in(served, "wrong", f"{said}@acme.example", headers={"X-Forwarded-For": said})
        assert addresses(served) == 2
        sign_in(served, "wrong", "one@acme.example", headers={"X-Forwarded-For": "not an address"})
        assert addresses(served) == 3, "the proxy's own"


def test_a_proxy_that_is_no_address_is_refused_with_the_settings() -> None:
    with pytest.raises(BadSetting, match="trusted_proxies"):
        load_settings(trusted_proxies=["proxy.acme.example"])


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8080"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_another_sites_page_cannot_sign_anybody_in(home: Served, headers: dict[str, str]) -> None:
    answer = sign_in(home, headers=headers)
    assert answer.status_code == 403
    assert not answer.cookies


def test_our_own_pages_can(home: Served) -> None:
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": home.url}, {"Origin": "http://127.0.0.1:8080"}):
        assert sign_in(home, headers=headers).status_code == 201


@pytest.mark.parametrize("email", ["", "\ud800", "\x00", "a" * 320, "' OR 1=1 --"])
@pytest.mark.parametrize("password", ["", "\ud800", "\x00", "a" * 1000])
def test_odd_texts_are_only_wrong(served: Served, email: str, password: str) -> None:
    assert sign_in(served, password, email).status_code in (401, 422, 429)


def test_a_weakly_hashed_password_is_hashed_again_when_it_is_used(served: Served) -> None:
    keep(served, WEAK)
    browser = held(sign_in(served))
    (kept,) = column(served, select(users.c.password_hash).where(users.c.email == EMAIL))
    assert not is_outdated(kept)
    assert is_password(PASSWORD, kept)
    assert served.get("/session", None, **browser).status_code == 200, "and nobody is signed out by it"


# One's own password.


@pytest.fixture
def browser(home: Served) -> dict[str, Any]:
    """A browser in which the agent is signed in."""
    return held(sign_in(home))


def choose(served: Served, browser: dict[str, Any], new: str, old: str | None = None) -> requests.Response:
    return served.ask("PUT", "/session/password", None, json={"new": new, "old": old}, **browser)


def test_another_password_ends_all_other_sessions(home: Served, browser: dict[str, Any]) -> None:
    elsewhere = held(sign_in(home))
    answer = choose(home, browser, ANOTHER, PASSWORD)
    assert answer.status_code == 200, answer.text
    assert home.get("/session", None, **held(answer)).status_code == 200
    assert {home.get("/session", None, **old).status_code for old in (browser, elsewhere)} == {401}
    assert sign_in(home, PASSWORD).status_code == 401
    assert sign_in(home, ANOTHER).status_code == 201


def test_it_needs_the_old_one_and_guessing_that_is_slow_too(home: Served, browser: dict[str, Any]) -> None:
    assert choose(home, browser, ANOTHER).status_code == 403
    codes = [choose(home, browser, ANOTHER, "wrong").status_code for _ in range(5)]
    assert codes == [403, 403, 403, 403, 429]
    assert sign_in(home, ANOTHER).status_code == 429


def test_one_that_is_easy_to_guess_is_refused_without_being_repeated(home: Served, browser: dict[str, Any]) -> None:
    for new in ("short", EMAIL, "a" * 257):
        answer = choose(home, browser, new, PASSWORD)
        assert answer.status_code == 422
        assert new not in answer.text.replace("password needs", "")
    assert sign_in(home, PASSWORD).status_code == 201


def test_who_has_none_yet_needs_no_old_one(served: Served) -> None:
    with served.store.change() as connection:
        now, user = served.store.clock.now(), served.users[SUPER]
        made = let_in_by_link(connection, make_link(connection, user, by="test", now=now), now)
    assert made is not None
    cookies, token = {"sluiceway_session": made.token}, made.session.csrf_token
    answer = choose(served, {"cookies": cookies, "headers": {"X-CSRF-Token": token}}, ANOTHER)
    assert answer.status_code == 200
    assert sign_in(served, ANOTHER, "root@example.com").status_code == 201


# What every answer carries.


@pytest.mark.parametrize("path", ["/session", "/prospects/none", "/api/openapi.json", "/nowhere", "/sign-in"])
def test_every_answer_says_what_a_browser_may_do_with_it(served: Served, path: str) -> None:
    headers = served.get(path, None).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] in ("no-referrer", "same-origin")
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in headers
