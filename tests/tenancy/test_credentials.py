"""Tenants' own keys for providers are sealed: they come back whole, and nobody finds them in the store."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from tenancy_builders import NOW, a_tenant, after, do, look

from builders import rows
from sluiceway.errors import BadInput, BadSetting
from sluiceway.store.engine import Store
from sluiceway.store.schema import audit, provider_credentials
from sluiceway.store.secret import SecretKey, key_file, secret_key
from sluiceway.tenancy.credentials import (
    Credential,
    OpenCredential,
    all_credentials,
    credentials_version,
    opened_credentials,
    set_credential,
    unset_credential,
)
from sluiceway.tenancy.seal import seal, unseal

KEY = SecretKey("k" * 32)
OTHER = SecretKey("o" * 32)
VALUE = "apollo-key-of-acme-0123456789"


def kept(store: Store, value: str = VALUE, tenant: str = "acme", key: SecretKey = KEY, at=NOW) -> Credential:  # type: ignore[no-untyped-def]
    made: Credential = do(store, set_credential, tenant, "apollo", value, key, by="cli:ines", now=at)
    return made


def opened(store: Store, key: SecretKey = KEY) -> list[OpenCredential]:
    found: list[OpenCredential] = look(store, opened_credentials, lambda: key)
    return found


def bytes_of_store(folder: Path) -> bytes:
    """Everything that is in the store's files, whatever it means."""
    return b"".join(path.read_bytes() for path in folder.glob("ledger.db*") if path.is_file())


@pytest.fixture(autouse=True)
def _tenants(store: Store) -> None:
    for tenant in ("acme", "quell"):
        a_tenant(store, tenant)


# Sealing.


@given(st.text(), st.text())
def test_what_is_sealed_comes_back_and_is_not_seen(value: str, place: str) -> None:
    value, place = value.encode("utf-8", "ignore").decode(), place.encode("utf-8", "ignore").decode()
    sealed = seal(KEY, value, place)
    assert unseal(KEY, sealed, place) == value
    assert len(value) < 8 or value not in sealed
    assert seal(KEY, value, place) != sealed


@given(st.data())
def test_a_sealed_value_that_was_changed_does_not_open(data: st.DataObject) -> None:
    sealed = seal(KEY, VALUE, "here")
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = sealed[:at] + data.draw(st.sampled_from("AZaz09+/=:é")) + sealed[at + 1 :]
    if changed != sealed:
        with pytest.raises(BadSetting, match="does not open"):
            unseal(KEY, changed, "here")


def test_a_sealed_value_opens_only_with_its_key_and_at_its_place() -> None:
    sealed = seal(KEY, VALUE, "here")
    for key, place in ((OTHER, "here"), (KEY, "there")):
        with pytest.raises(BadSetting) as refused:
            unseal(key, sealed, place)
        assert VALUE not in str(refused.value)


# Keeping.


def test_a_key_comes_back_whole_and_is_nowhere_in_the_store(store: Store, tmp_path: Path) -> None:
    made = kept(store)
    assert opened(store) == [OpenCredential(made.id, "acme", "apollo", VALUE)]
    held = bytes_of_store(tmp_path)
    assert made.digest.encode() in held
    assert VALUE.encode() not in held


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_key_round_trips_and_never_appears(store: Store, tmp_path: Path, value: str) -> None:
    assume(value.encode() not in bytes_of_store(tmp_path))  # as the name of a table would be
    made = kept(store, value)
    assert OpenCredential(made.id, "acme", "apollo", value) in opened(store)
    assert value.encode() not in bytes_of_store(tmp_path)


@pytest.mark.parametrize("value", ["", "two words", "line\nbreak", "tab\t", "clé", "x" * 1001])
def test_what_cannot_be_a_key_is_refused(store: Store, value: str) -> None:
    with pytest.raises(BadInput, match="cannot be a provider's key"):
        kept(store, value)


def test_another_key_is_another_credential_and_the_one_before_is_forgotten(store: Store) -> None:
    first, second = kept(store), kept(store, "another-key", at=after(days=1))
    assert first.id != second.id
    assert [each.value for each in opened(store)] == ["another-key"]
    was = next(row for row in rows(store, provider_credentials) if row["id"] == first.id)
    assert (was["revoked_at"], was["sealed"]) == ("2026-03-05T05:06:07.000Z", "")
    assert look(store, all_credentials) == [second]
    assert len(look(store, all_credentials, with_revoked=True)) == 2


def test_the_same_key_again_is_the_same_credential_sealed_anew(store: Store) -> None:
    first = kept(store)
    with pytest.raises(BadSetting):
        opened(store, OTHER)
    assert kept(store, key=OTHER) == first
    assert [each.id for each in opened(store, OTHER)] == [first.id]


def test_tenants_have_keys_of_their_own(store: Store) -> None:
    kept(store)
    kept(store, "a-key-of-quell", "quell")
    do(store, unset_credential, "acme", "apollo", by="cli:ines", now=NOW)
    assert [(each.tenant_id, each.value) for each in opened(store)] == [("quell", "a-key-of-quell")]
    with pytest.raises(BadInput, match="tenant 'acme' has no key of its own for apollo"):
        do(store, unset_credential, "acme", "apollo", by="cli:ines", now=NOW)
    with pytest.raises(BadInput, match="there is no tenant 'nobody'"):
        kept(store, tenant="nobody")


def test_a_key_moved_to_another_tenants_row_does_not_open(store: Store) -> None:
    kept(store)
    do(store, lambda connection: connection.execute(update(provider_credentials).values(tenant_id="quell")))
    with pytest.raises(BadSetting, match="does not open"):
        opened(store)


def test_every_change_is_counted_and_written_down_without_the_key(store: Store) -> None:
    assert look(store, credentials_version) == 0
    kept(store)
    kept(store)
    do(store, unset_credential, "acme", "apollo", by="cli:ines", now=NOW)
    assert look(store, credentials_version) == 3
    written = rows(store, audit)[-3:]
    assert [entry["action"] for entry in written] == ["credential.set", "credential.set", "credential.unset"]
    assert VALUE not in str(written)


def test_without_any_key_no_secret_key_is_needed(store: Store) -> None:
    def missing() -> SecretKey:
        raise AssertionError("nobody needs it")

    assert look(store, opened_credentials, missing) == []


# The secret key.


def test_the_key_file_is_made_once_and_is_its_owners_alone(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="is gone"):
        secret_key("", store.url)
    with ThreadPoolExecutor(8) as pool:
        keys = {key.derived("x") for key in pool.map(lambda _: secret_key("", store.url, make=True), range(8))}
    assert len(keys) == 1
    assert secret_key("", store.url).derived("x") in keys
    path = key_file(tmp_path / "ledger.db")
    assert not [left for left in tmp_path.iterdir() if left.name.startswith(".")]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        with pytest.raises(BadSetting, match="chmod 600"):
            secret_key("", store.url)


def test_a_damaged_key_file_is_told(store: Store, tmp_path: Path) -> None:
    secret_key("", store.url, make=True)
    key_file(tmp_path / "ledger.db").write_text("short")
    with pytest.raises(BadSetting, match="damaged"):
        secret_key("", store.url, make=True)


def test_a_set_key_wins_and_makes_no_file(store: Store, tmp_path: Path) -> None:
    assert secret_key("k" * 32, store.url, make=True).derived("x") == KEY.derived("x")
    assert not key_file(tmp_path / "ledger.db").exists()
    with pytest.raises(BadSetting, match="at least 32"):
        secret_key("short", store.url)


def test_a_store_on_a_server_needs_the_setting() -> None:
    with pytest.raises(BadSetting, match="needs SLUICEWAY_SECRET_KEY"):
        secret_key("", "postgresql://localhost/people", make=True)
    assert secret_key("k" * 32, "postgresql://localhost/people").derived("x") == KEY.derived("x")


@given(st.text(min_size=1), st.text(min_size=1))
def test_each_purpose_has_a_key_of_its_own(one: str, other: str) -> None:
    one, other = one.encode("utf-8", "ignore").decode(), other.encode("utf-8", "ignore").decode()
    assert (KEY.derived(one) == KEY.derived(other)) == (one == other)
    assert KEY.derived(one) != OTHER.derived(one)
