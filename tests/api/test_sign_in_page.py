"""The pages on which people sign in: they work without scripts, and nothing on them can be used by another site."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import requests
from served import ACME, SUPER, Served
from sqlalchemy import func, select

from sluiceway.store.schema import activity, sessions
from sluiceway.tenancy.passwords import hashed
from sluiceway.tenancy.sign_in import make_link
from sluiceway.tenancy.users import set_password_hash

AGENT = f"agent@{ACME}"
EMAIL = "agent@acme.example"
PASSWORD = "seven grey herons"
ANOTHER = "nine quiet harbours"


class Form(HTMLParser):
    """The forms of a page: where each goes, and with which fields."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self._fields: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            assert said["method"] == "post"
            self._fields = self.forms.setdefault(said["action"], {})
        if tag == "input":
            self._fields[said["name"]] = said.get("value", "")


class Browser:
    """Somebody's browser: it keeps cookies, follows redirects, and says which page sent a form."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.session = requests.Session()

    def open(self, path: str) -> requests.Response:
        return self.session.get(self.served.url + path, timeout=60)

    def send(self, page: requests.Response, action: str, **filled: str) -> requests.Response:
        fields = Form(page.text).forms[action]
        assert filled.keys() <= fields.keys()
        headers = {"Sec-Fetch-Site": "same-origin", "Origin": self.served.url}
        return self.session.post(self.served.url + action, {**fields, **filled}, headers=headers, timeout=60)


@pytest.fixture
def browser(served: Served) -> Browser:
    """A browser in which nobody is signed in."""
    return Browser(served)


def link_of(served: Served, who: str = AGENT) -> str:
    """Make a link for somebody; returns its path."""
    with served.store.change() as connection:
        return f"/sign-in/{make_link(connection, served.users[who], by='test', now=served.store.clock.now())}"


def has_password(served: Served, who: str = AGENT) -> None:
    user = served.users[who]
    with served.store.change() as connection:
        kept = hashed(PASSWORD, user.email)
        set_password_hash(connection, user, kept, by="test", now=served.store.clock.now())


def sessions_there(served: Served) -> int:
    with served.store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(sessions)).scalar_one())


def signed_in(browser: Browser, who: str = AGENT) -> requests.Response:
    """Come in by a link."""
    link = link_of(browser.served, who)
    return browser.send(browser.open(link), link)


def test_a_link_is_used_up_by_its_button_and_not_by_opening_it(browser: Browser) -> None:
    link = link_of(browser.served)
    for _ in range(3):
        assert browser.open(link).status_code == 200
    assert sessions_there(browser.served) == 0
    page = browser.send(browser.open(link), link)
    assert page.status_code == 200
    assert f"You are {EMAIL}, agent, in tenant {ACME}." in page.text
    assert sessions_there(browser.served) == 1
    again = Browser(browser.served)
    gone = again.send(again.open(link), link)
    assert gone.status_code == 410
    assert "does not hold" in gone.text
    assert not gone.cookies


def test_a_login_by_link_is_recorded_with_its_tenant(browser: Browser) -> None:
    signed_in(browser)
    signed_in(browser, SUPER)
    with browser.served.store.read() as connection:
        tenants = connection.execute(select(activity.c.tenant_id).where(activity.c.action == "login")).scalars()
        assert sorted(tenants) == ["", ACME]


def test_whatever_is_no_link_says_the_same(browser: Browser) -> None:
    used = link_of(browser.served)
    browser.send(browser.open(used), used)
    old = link_of(browser.served)
    link_of(browser.served)
    answers = []
    for link in (used, old, "/sign-in/made-up"):
        other = Browser(browser.served)
        answers.append(other.send(other.open(link), link))
    assert {answer.status_code for answer in answers} == {410}
    assert len({answer.text for answer in answers}) == 1


def test_who_comes_by_a_link_may_choose_a_password_and_sign_in_with_it(browser: Browser) -> None:
    elsewhere = Browser(browser.served)
    signed_in(elsewhere)
    chosen = browser.send(signed_in(browser), "/sign-in/password", new=PASSWORD)
    assert chosen.status_code == 200
    assert chosen.url.endswith("/sign-in/welcome")
    assert "Choose another password" in chosen.text
    assert elsewhere.open("/sign-in/welcome").url.endswith("/sign-in"), "other sessions have ended"
    other = Browser(browser.served)
    welcome = other.send(other.open("/sign-in"), "/sign-in", email=EMAIL, password=PASSWORD)
    assert EMAIL in welcome.text
    assert sessions_there(browser.served) == 2


def test_who_forgot_the_password_needs_a_link_and_only_the_one_just_used_stands_in_for_it(browser: Browser) -> None:
    has_password(browser.served)
    page = signed_in(browser)
    assert "old" not in Form(page.text).forms["/sign-in/password"]
    easy = browser.send(page, "/sign-in/password", new="short")
    assert easy.status_code == 422
    assert "12 to 256 characters" in easy.text
    assert browser.send(easy, "/sign-in/password", new=ANOTHER).status_code == 200
    later = browser.open("/sign-in/welcome")
    assert "old" in Form(later.text).forms["/sign-in/password"]
    again = browser.send(page, "/sign-in/password", csrf_token=token_on(later), new=PASSWORD)
    assert again.status_code == 422, "the link has been void since"
    assert browser.send(later, "/sign-in/password", old="wrong", new=PASSWORD).status_code == 422
    assert browser.send(later, "/sign-in/password", old=ANOTHER, new=PASSWORD).status_code == 200


def token_on(page: requests.Response) -> str:
    return Form(page.text).forms["/sign-in/out"]["csrf_token"]


def test_a_wrong_password_says_one_sentence_and_too_many_say_when(browser: Browser) -> None:
    has_password(browser.served)
    page = browser.open("/sign-in")
    said = {browser.send(page, "/sign-in", email=email, password="wrong").status_code for email in (EMAIL, "x@y.z")}
    assert said == {401}
    for _ in range(4):
        wrong = browser.send(page, "/sign-in", email=EMAIL, password="wrong")
        assert "do not go together" in wrong.text
    waits = browser.send(page, "/sign-in", email=EMAIL, password=PASSWORD)
    assert waits.status_code == 429
    assert int(waits.headers["Retry-After"]) >= 1


def test_signing_out_ends_the_session(browser: Browser) -> None:
    out = browser.send(signed_in(browser), "/sign-in/out")
    assert out.url.endswith("/sign-in")
    assert sessions_there(browser.served) == 0
    assert not browser.session.cookies


def test_a_form_needs_the_sessions_token(browser: Browser) -> None:
    page = signed_in(browser)
    for action, filled in (("/sign-in/password", {"new": PASSWORD}), ("/sign-in/out", {})):
        assert browser.send(page, action, csrf_token="0" * 64, **filled).status_code == 403
    assert sessions_there(browser.served) == 1


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_another_sites_form_signs_nobody_in(served: Served, headers: dict[str, str]) -> None:
    has_password(served)
    link = link_of(served)
    filled = {"email": EMAIL, "password": PASSWORD}
    for path in (link, "/sign-in"):
        answer = requests.post(served.url + path, filled, headers=headers, timeout=60)
        assert answer.status_code == 403
        assert not answer.cookies
    assert requests.post(served.url + link, {}, timeout=60).status_code == 200, "the link was not used up"


def test_pages_have_no_scripts_and_load_and_frame_nothing(browser: Browser) -> None:
    for page in (browser.open("/sign-in"), browser.open(link_of(browser.served)), signed_in(browser)):
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script|\son\w+=|javascript:|\bsrc=|style=", page.text)


def test_what_is_typed_is_shown_as_text(browser: Browser) -> None:
    planted = '"><script>alert(1)</script>'
    page = browser.send(browser.open("/sign-in"), "/sign-in", email=planted, password="x")
    assert "<script" not in page.text
    assert Form(page.text).forms["/sign-in"]["email"] == planted
    assert "<script" not in browser.open(f"/sign-in/{requests.utils.quote(planted, safe='')}").text


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"a" * 20_000, 413), (b"&".join([b"a=1"] * 50), 422), (b"\xff\xfe", 422), (b"", 401), (b"email=%00%ff", 401)],
)
def test_what_is_no_form_of_ours_is_refused(served: Served, body: bytes, status: int) -> None:
    assert requests.post(f"{served.url}/sign-in", body, timeout=60).status_code == status
