"""A key lets in whoever holds all of it, for as long as it holds; and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenancy_builders import NOW, a_tenant, a_user, after, do, look

from builders import row, rows
from sluiceway.errors import BadInput
from sluiceway.store.engine import Store
from sluiceway.store.schema import api_keys, audit
from sluiceway.tenancy.caller import Principal, Uses, authenticate_key
from sluiceway.tenancy.keys import IssuedKey, KeyKind, all_keys, is_well_formed, issue_key, new_key_text, revoke_key
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.tenants import disable_tenant, enable_tenant
from sluiceway.tenancy.users import disable_user, enable_user, user_of

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def issued(store: Store) -> IssuedKey:
    """A live key of an agent of acme."""
    a_tenant(store)
    made: IssuedKey = do(store, issue_key, a_user(store), KeyKind.LIVE, "the CRM", by="cli:ines", now=NOW)
    return made


def let_in(store: Store, text: str) -> Principal | None:
    found: Principal | None = look(store, authenticate_key, text)
    return found


def test_a_key_acts_for_its_user(store: Store, issued: IssuedKey) -> None:
    user = look(store, user_of, "ines@acme.example")
    assert let_in(store, issued.text) == Principal(user.id, "acme", Role.AGENT, issued.key.id)
    assert user.id in issued.key.user_id


def test_a_key_of_a_super_admin_belongs_to_no_tenant(store: Store) -> None:
    root = a_user(store, "root@sluiceway.example", Role.SUPER_ADMIN)
    text = do(store, issue_key, root, KeyKind.LIVE, by="system", now=NOW).text
    assert let_in(store, text) == Principal(root.id, None, Role.SUPER_ADMIN, row(store, api_keys)["id"])


def test_a_test_key_reaches_only_the_sandbox(store: Store, issued: IssuedKey) -> None:
    text = do(store, issue_key, look(store, user_of, "ines@acme.example"), KeyKind.TEST, by="system", now=NOW).text
    assert text.startswith("slw_test_")
    principal, live = let_in(store, text), let_in(store, issued.text)
    assert principal is not None
    assert live is not None
    assert (principal.sandbox_only, live.sandbox_only) == (True, False)


def test_the_key_is_nowhere_in_the_store(store: Store, issued: IssuedKey, tmp_path: Path) -> None:
    held = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*") if path.is_file())
    assert issued.key.prefix.encode() in held
    assert issued.text.encode() not in held
    assert issued.text[len(issued.key.prefix) :].encode() not in held
    assert len(issued.key.prefix) == len("slw_live_") + 8


def test_making_and_revoking_is_written_down_without_the_key(store: Store, issued: IssuedKey) -> None:
    do(store, revoke_key, issued.key.prefix, by="cli:tomas", now=after(days=1))
    do(store, revoke_key, issued.key.id, by="cli:tomas", now=after(days=2))
    done = [(entry["actor"], entry["action"], entry["tenant_id"]) for entry in rows(store, audit)]
    assert done[-2:] == [("cli:ines", "key.add", "acme"), ("cli:tomas", "key.revoke", "acme")]
    assert not any(issued.text in str(entry) for entry in rows(store, audit))


def test_a_revoked_key_lets_nobody_in_and_is_still_listed(store: Store, issued: IssuedKey) -> None:
    do(store, revoke_key, issued.key.prefix, by="cli:ines", now=after(days=1))
    assert let_in(store, issued.text) is None
    assert [key.revoked_at for key in look(store, all_keys, tenant_id="acme")] == ["2026-03-05T05:06:07.000Z"]
    assert look(store, all_keys, tenant_id="default") == []


def test_a_key_that_nobody_has_is_not_revoked(store: Store, issued: IssuedKey) -> None:
    with pytest.raises(BadInput, match="no key is named 'slw_live_nothere'"):
        do(store, revoke_key, "slw_live_nothere", by="cli:ines", now=NOW)


def test_a_key_lets_in_only_while_its_user_and_tenant_are_let_in(store: Store, issued: IssuedKey) -> None:
    user = look(store, user_of, "ines@acme.example")
    for shut, opened, what in ((disable_user, enable_user, user), (disable_tenant, enable_tenant, "acme")):
        changed = do(store, shut, what, by="system", now=NOW)
        assert let_in(store, issued.text) is None
        do(store, opened, changed if what is user else what, by="system", now=NOW)
        assert let_in(store, issued.text) is not None


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_mangled_key_lets_nobody_in(store: Store, data: st.DataObject) -> None:
    if not rows(store, api_keys):
        a_tenant(store)
        for kind in KeyKind:
            STASH[kind] = do(store, issue_key, a_user(store, f"{kind}@acme.example"), kind, by="system", now=NOW).text
    text = STASH[data.draw(st.sampled_from(list(KeyKind)))]
    mangled = data.draw(st.sampled_from(MANGLINGS))(text, data)
    assert (let_in(store, mangled) is not None) == (mangled in STASH.values())


STASH: dict[KeyKind, str] = {}


def swapped(text: str, data: st.DataObject) -> str:
    at = data.draw(st.integers(0, len(text) - 2))
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def replaced(text: str, data: st.DataObject) -> str:
    at = data.draw(st.integers(0, len(text) - 1))
    return text[:at] + data.draw(st.sampled_from(LETTERS + "_- é\n")) + text[at + 1 :]


def cut(text: str, data: st.DataObject) -> str:
    return text[data.draw(st.integers(0, 4)) : len(text) - data.draw(st.integers(0, 8))]


def lengthened(text: str, data: st.DataObject) -> str:
    return text + data.draw(st.text(max_size=3))


def with_a_right_checksum(text: str, data: st.DataObject) -> str:
    """Another key altogether: well formed, and with the same visible beginning."""
    other = new_key_text(KeyKind.LIVE if "live" in text else KeyKind.TEST)
    return other if data.draw(st.booleans()) else text[:17] + other[17:]


def anything(text: str, data: st.DataObject) -> str:
    return data.draw(st.text())


MANGLINGS: list[Callable[[str, Any], str]] = [swapped, replaced, cut, lengthened, with_a_right_checksum, anything]


@given(st.integers(0, 57), st.sampled_from(LETTERS))
def test_a_mistyped_letter_is_told_without_asking_the_store(at: int, letter: str) -> None:
    text = new_key_text(KeyKind.LIVE)
    assert is_well_formed(text)
    assert len(text) == 58
    mistyped = text[:at] + letter + text[at + 1 :]
    assert is_well_formed(mistyped) == (mistyped == text)


# When it was last used.


class Moments:
    """A clock that is set, and a writer that does what it is given at once."""

    def __init__(self, store: Store) -> None:
        self.now: datetime = NOW
        self.posted = 0
        self._store = store

    def post(self, work: Callable[[Any], Any]) -> None:
        self.posted += 1
        do(self._store, work)


def test_use_is_noted_at_most_once_a_minute(store: Store, issued: IssuedKey) -> None:
    moments = Moments(store)
    uses, principal = Uses(moments.post, lambda: moments.now), let_in(store, issued.text)
    assert principal is not None
    for seconds in (0, 1, 59.9, 60, 100, 119.9, 121):
        moments.now = after(seconds=seconds)
        uses.note(principal)
    assert moments.posted == 3
    assert row(store, api_keys)["last_used_at"] == "2026-03-04T05:08:08.000Z"


def test_two_processes_write_a_use_once_a_minute_between_them(store: Store, issued: IssuedKey) -> None:
    moments = Moments(store)
    principal = let_in(store, issued.text)
    assert principal is not None
    for seconds in (0, 30):
        moments.now = after(seconds=seconds)
        Uses(moments.post, lambda: moments.now).note(principal)
    assert row(store, api_keys)["last_used_at"] == "2026-03-04T05:06:07.000Z"
