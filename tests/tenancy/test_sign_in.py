"""Signing in: with a password, slowly for who guesses; by a link, once; and how long it lasts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenancy_builders import NOW, a_tenant, a_user, after, do, look

from builders import row, rows
from sluiceway.errors import BadInput
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import audit, login_attempts, sessions, sign_in_links, users
from sluiceway.tenancy.caller import Uses, authenticate_session
from sluiceway.tenancy.passwords import check, hashed, is_outdated, is_password
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.sessions import IDLE, LONGEST, NewSession, Session, end_session, session_of
from sluiceway.tenancy.sign_in import (
    FIRST_ADMIN,
    Claim,
    Wait,
    claim,
    first_link,
    let_in,
    let_in_by_link,
    link_url,
    make_link,
    renewed_hash,
)
from sluiceway.tenancy.throttle import PATIENCE, Kind, shared_address
from sluiceway.tenancy.users import User, disable_user, set_password_hash, set_role

PASSWORD = "seven grey herons"
HASH = hashed(PASSWORD, "ines@acme.example")
HERE, THERE = "192.0.2.7", "192.0.2.8"


@pytest.fixture
def ines(store: Store) -> User:
    """An agent of acme with a password."""
    a_tenant(store)
    user = a_user(store)
    do(store, set_password_hash, user, HASH, by="system", now=NOW)
    return user


def tries(store: Store, password: str, *, email: str = "ines@acme.example", address: str = HERE, at=NOW, former=None):  # type: ignore[no-untyped-def]
    """Try to sign in, in the three steps; returns the session, `None`, or how long to wait."""
    heard = do(store, claim, email, address, at)
    if isinstance(heard, Wait) or not heard.is_proven_by(password):
        return heard if isinstance(heard, Wait) else None
    return do(store, let_in, heard, at, former=former)


def test_the_right_password_begins_a_session(store: Store, ines: User) -> None:
    begun = tries(store, PASSWORD, email=" Ines@ACME.example")
    assert isinstance(begun, NewSession)
    principal = look(store, authenticate_session, begun.token, after(minutes=1))
    assert (principal.user_id, principal.tenant_id, principal.role) == (ines.id, "acme", Role.AGENT)
    assert principal.session == begun.session
    assert not principal.sandbox_only
    last = rows(store, audit)[-1]
    assert (last["actor"], last["action"], last["detail"]) == (f"user:{ines.id}", "user.sign-in", "password")
    assert row(store, users)["last_sign_in_at"] == "2026-03-04T05:06:07.000Z"


def test_anything_else_does_not(store: Store, ines: User) -> None:
    assert tries(store, "seven grey heron") is None
    assert tries(store, "") is None
    assert tries(store, PASSWORD * 100, address=THERE) is None
    assert rows(store, sessions) == []


def test_who_has_no_password_is_disabled_or_unknown_is_refused_alike(store: Store, ines: User) -> None:
    a_user(store, "tomas@acme.example")
    do(store, disable_user, ines, by="system", now=NOW)
    for email in ("ines@acme.example", "tomas@acme.example", "nobody@acme.example"):
        assert tries(store, PASSWORD, email=email) is None


def test_refusing_takes_as_long_for_who_does_not_exist(store: Store, ines: User) -> None:
    def fastest(email: str) -> float:
        heard = do(store, claim, email, HERE, NOW)
        assert isinstance(heard, Claim)
        times = []
        for _ in range(3):
            began = perf_counter()
            heard.is_proven_by("a wrong password")
            times.append(perf_counter() - began)
        return min(times)

    fastest("nobody@acme.example")  # which makes the hash to compare with
    known, unknown = fastest("ines@acme.example"), fastest("nobody@acme.example")
    assert 0.3 < unknown / known < 3


def test_a_user_disabled_between_the_steps_is_not_let_in(store: Store, ines: User) -> None:
    heard = do(store, claim, ines.email, HERE, NOW)
    assert heard.is_proven_by(PASSWORD)
    do(store, disable_user, ines, by="system", now=NOW)
    assert do(store, let_in, heard, NOW) is None


# Throttling.


def test_after_some_failures_the_account_waits_twice_as_long_each_time(store: Store, ines: User) -> None:
    now, waits = NOW, []
    for number in range(5 + 12):
        heard = do(store, claim, ines.email, f"192.0.2.{number}", now)
        while isinstance(heard, Wait):
            waits.append(heard.seconds)
            assert do(
                store, claim, ines.email, f"192.0.2.{number}", now + timedelta(seconds=heard.seconds - 0.5)
            ) == Wait(0.5)
            now += timedelta(seconds=heard.seconds)
            heard = do(store, claim, ines.email, f"192.0.2.{number}", now)
        assert isinstance(heard, Claim)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_while_it_waits_not_even_the_right_password_is_looked_at(store: Store, ines: User) -> None:
    for _ in range(5):
        assert tries(store, "a wrong password") is None
    assert tries(store, PASSWORD) == Wait(1.0)
    assert isinstance(tries(store, PASSWORD, at=after(seconds=1)), NewSession)
    assert isinstance(tries(store, PASSWORD, at=after(seconds=1)), NewSession), "and its failures are forgotten"


def test_a_restart_forgives_nothing(store: Store, ines: User, store_url: str) -> None:
    for _ in range(5):
        do(store, claim, ines.email, HERE, NOW)
    again = open_store(store_url)
    assert do(again, claim, ines.email, THERE, NOW) == Wait(1.0)
    again.close()


def test_unknown_accounts_wait_like_known_ones(store: Store) -> None:
    for _ in range(5):
        assert isinstance(do(store, claim, "nobody@acme.example", HERE, NOW), Claim)
    assert do(store, claim, "Nobody@acme.example", THERE, NOW) == Wait(1.0)


def test_an_address_that_tries_many_accounts_waits(store: Store) -> None:
    for number in range(20):
        assert isinstance(do(store, claim, f"a{number}@acme.example", HERE, NOW), Claim)
    assert do(store, claim, "another@acme.example", HERE, NOW) == Wait(1.0)
    assert isinstance(do(store, claim, "another@acme.example", THERE, NOW), Claim)


def test_signing_in_does_not_clear_what_an_address_tried_at_others(store: Store, ines: User) -> None:
    for number in range(19):
        do(store, claim, f"a{number}@acme.example", HERE, NOW)
    assert isinstance(tries(store, PASSWORD), NewSession)
    do(store, claim, "one@acme.example", HERE, NOW)
    assert isinstance(do(store, claim, "another@acme.example", HERE, NOW), Wait)


def test_failures_are_forgotten_after_a_day(store: Store, ines: User) -> None:
    for _ in range(5):
        do(store, claim, ines.email, HERE, NOW)
    assert isinstance(do(store, claim, ines.email, HERE, after(hours=25)), Claim)
    assert {each["failures"] for each in rows(store, login_attempts)} == {1}


def test_who_tried_is_kept_only_as_hashes(store: Store, tmp_path: Path) -> None:
    do(store, claim, "not-an-email-but-a-password", HERE, NOW)
    held = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*") if path.is_file())
    assert b"not-an-email-but-a-password" not in held
    assert HERE.encode() not in held


@pytest.mark.parametrize(
    ("address", "shared"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("unix", "unix"),
    ],
)
def test_a_household_is_one_address(address: str, shared: str) -> None:
    assert shared_address(address) == shared


@given(st.sampled_from(Kind), st.integers(0, 200))
def test_waits_never_get_shorter_and_have_an_end(kind: Kind, failures: int) -> None:
    patience = PATIENCE[kind]
    assert patience.wait_s(failures) <= patience.wait_s(failures + 1) <= patience.longest_s
    assert (patience.wait_s(failures) == 0) == (failures < patience.free)


# Sessions.


def begun(store: Store, user: User, at=NOW, former: str | None = None) -> NewSession:  # type: ignore[no-untyped-def]
    made: NewSession = do(store, let_in_by_link, do(store, make_link, user, by="system", now=at), at, former=former)
    return made


def test_signing_in_ends_the_session_the_browser_had(store: Store, ines: User) -> None:
    first = begun(store, ines)
    elsewhere = begun(store, ines)
    second = tries(store, PASSWORD, former=first.token)
    assert first.token != second.token
    assert look(store, session_of, first.token, NOW) is None
    assert look(store, session_of, second.token, NOW) == second.session
    assert look(store, session_of, elsewhere.token, NOW) is not None


def test_a_session_ends_without_use_and_at_the_latest_after_a_week(store: Store, ines: User) -> None:
    made, now = begun(store, ines), NOW
    uses = Uses(lambda work: do(store, work), lambda: now)
    while now + IDLE / 2 < NOW + LONGEST:
        now += IDLE / 2
        principal = look(store, authenticate_session, made.token, now)
        assert principal is not None
        uses.note(principal)
    assert look(store, authenticate_session, made.token, NOW + LONGEST) is None
    unused = begun(store, ines)
    assert look(store, session_of, unused.token, NOW + IDLE - timedelta(seconds=1)) is not None
    assert look(store, session_of, unused.token, NOW + IDLE) is None


def test_sessions_that_are_over_do_not_pile_up(store: Store, ines: User) -> None:
    begun(store, ines)
    begun(store, ines, at=after(days=2))
    assert len(rows(store, sessions)) == 1


def test_signing_out_another_password_another_role_and_disabling_end_sessions(store: Store, ines: User) -> None:
    one = begun(store, ines)
    do(store, end_session, one.token)
    assert look(store, session_of, one.token, NOW) is None
    for change in (
        lambda: do(store, set_password_hash, ines, HASH, by="system", now=NOW),
        lambda: do(store, set_role, ines, Role.TENANT_ADMIN, "acme", by="system", now=NOW),
        lambda: do(store, disable_user, ines, by="system", now=NOW),
    ):
        made = begun(store, ines)
        link = do(store, make_link, ines, by="system", now=NOW)
        change()
        assert look(store, authenticate_session, made.token, NOW) is None
        assert do(store, let_in_by_link, link, NOW) is None


def test_the_cookie_is_nowhere_in_the_store(store: Store, ines: User, tmp_path: Path) -> None:
    made = begun(store, ines)
    held = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*") if path.is_file())
    assert made.token.encode() not in held
    assert made.session.csrf_token.encode() not in held


def test_a_csrf_token_is_of_one_session(store: Store, ines: User) -> None:
    one, other = begun(store, ines), begun(store, ines)
    assert one.session.accepts(look(store, session_of, one.token, NOW).csrf_token)
    assert not one.session.accepts(other.session.csrf_token)
    assert not one.session.accepts("")
    assert not one.session.accepts("é\ud800")


@given(st.text())
def test_no_other_text_is_a_csrf_token(said: str) -> None:
    token = "0" * 64
    assert Session("s", "u", token, "").accepts(said) == (said == token)


# Links.


def test_a_link_signs_in_once(store: Store, ines: User) -> None:
    token = do(store, make_link, ines, by="cli:ines", now=NOW)
    assert do(store, let_in_by_link, f"{token}x", NOW) is None
    assert isinstance(do(store, let_in_by_link, token, after(minutes=59)), NewSession)
    assert do(store, let_in_by_link, token, after(minutes=59)) is None


def test_a_link_is_void_after_an_hour_and_when_there_is_a_newer_one(store: Store, ines: User) -> None:
    old = do(store, make_link, ines, by="cli:ines", now=NOW)
    assert do(store, let_in_by_link, old, after(minutes=60)) is None
    do(store, make_link, ines, by="cli:ines", now=NOW)
    assert do(store, let_in_by_link, old, NOW) is None
    assert len(rows(store, sign_in_links)) == 1


def test_a_link_is_shown_as_an_address() -> None:
    assert link_url("https://sluiceway.example/", "abc") == "https://sluiceway.example/sign-in/abc"


def test_the_first_super_admin_gets_in_by_a_link_and_has_no_default_password(store: Store) -> None:
    first = do(store, first_link, NOW)
    assert first.email == FIRST_ADMIN
    again = do(store, first_link, after(hours=30))
    assert len(rows(store, users)) == 1, "nobody came, so the same user gets another link"
    assert do(store, let_in_by_link, first.token, after(hours=30)) is None
    made = do(store, let_in_by_link, again.token, after(hours=31))
    principal = look(store, authenticate_session, made.token, after(hours=31))
    assert (principal.role, principal.tenant_id) == (Role.SUPER_ADMIN, None)
    assert row(store, users)["password_hash"] is None
    assert do(store, first_link, after(hours=32)) is None


def test_no_first_link_once_a_super_admin_has_a_password(store: Store) -> None:
    root = a_user(store, "root@sluiceway.example", Role.SUPER_ADMIN)
    assert do(store, first_link, NOW).email == "root@sluiceway.example"
    do(store, set_password_hash, root, HASH, by="system", now=NOW)
    assert do(store, first_link, NOW) is None


# Passwords.


@pytest.mark.parametrize(
    "password",
    ["", "eleven char", "a" * 257, "ines@acme.example", "INES@acme.EXAMPLE", "acme.example", "ines12345678"],
)
def test_a_password_that_is_easy_to_guess_is_refused_without_being_repeated(password: str) -> None:
    with pytest.raises(BadInput) as refused:
        check(password, "ines@acme.example")
    assert not password or password not in str(refused.value)


@pytest.mark.parametrize("password", ["a" * 12, "a" * 256, PASSWORD, "ines likes long walks", "пароль из слов"])
def test_any_other_long_one_is_taken(password: str) -> None:
    check(password, "ines@acme.example")


def test_a_password_is_the_same_however_it_was_typed() -> None:
    assert is_password("caf\u00e9 caf\u00e9 caf\u00e9", hashed("cafe\u0301 cafe\u0301 cafe\u0301", "x@y.example"))


def test_a_password_hashed_with_weaker_parameters_is_hashed_again() -> None:
    weak = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$8OzBNHjhvFYIG0HYdEGIxA"
    assert is_outdated(weak)
    assert not is_outdated(HASH)
    heard = Claim("ines@acme.example", HERE, "u", weak)
    renewed = renewed_hash(heard, PASSWORD)
    assert renewed is not None
    assert is_password(PASSWORD, renewed)
    assert renewed_hash(Claim("ines@acme.example", HERE, "u", HASH), PASSWORD) is None


def test_what_is_kept_that_is_no_hash_lets_nobody_in() -> None:
    assert not is_password(PASSWORD, "not a hash")
    assert not is_password(PASSWORD, None)
