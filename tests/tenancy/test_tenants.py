"""Tenants are there from the start, by command, or with the files that name them."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command as alembic
from alembic.config import Config
from sqlalchemy import create_engine, text
from tenancy_builders import NOW, a_tenant, a_user, do, look

from builders import AT, rows, somebody
from sluiceway.errors import BadInput
from sluiceway.pipeline.batch import Asked, InputRow, open_batch, take_in
from sluiceway.store import engine
from sluiceway.store.engine import Store
from sluiceway.store.schema import api_keys, audit, tenants
from sluiceway.tenancy.keys import KeyKind, issue_key
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.tenants import add_tenant, all_tenants, disable_tenant, enable_tenant
from sluiceway.tenancy.users import add_user, all_users, set_role, user_of


def ids(store: Store) -> list[str]:
    return [tenant.id for tenant in look(store, all_tenants)]


def test_the_default_tenant_is_there_from_the_start(store: Store) -> None:
    assert ids(store) == ["default"]


def test_a_tenant_that_a_file_names_gets_a_row(store: Store) -> None:
    asked = Asked("acme", "people.csv", "d", {}, "file", False)
    batch = do(store, open_batch, asked, AT)
    whose = ["acme", "Quell Holdings", "acme", "default"]
    do(store, take_in, batch.id, [InputRow(n, tenant, somebody(n)) for n, tenant in enumerate(whose)], AT)
    do(store, take_in, batch.id, [InputRow(9, "Quell Holdings", somebody(9))], AT)
    assert ids(store) == ["Quell Holdings", "acme", "default"]


def test_an_older_stores_tenants_get_rows_when_it_is_migrated(tmp_path: Path) -> None:
    older = create_engine(f"sqlite:///{tmp_path / 'older.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    with older.begin() as connection:
        config.attributes["connection"] = connection
        alembic.upgrade(config, "0002")
        for number, tenant in enumerate(("acme", "acme", "quell")):
            values = {"id": f"p{number}", "tenant": tenant, "key": f"k{number}"}
            connection.execute(
                text(
                    "INSERT INTO prospects (id, tenant_id, identity_key, person, created_at)"
                    " VALUES (:id, :tenant, :key, '{}', '2026-01-01T00:00:00.000Z')"
                ),
                values,
            )
    older.dispose()
    store = engine.open_store(f"sqlite:///{tmp_path / 'older.db'}")
    assert ids(store) == ["acme", "default", "quell"]
    store.close()


@pytest.mark.parametrize("tenant_id", ["", " acme", "acme\n", "a" * 201, "default", "*", "a/b"])
def test_what_cannot_be_a_tenant_or_is_one_already_is_refused(store: Store, tenant_id: str) -> None:
    with pytest.raises(BadInput):
        do(store, add_tenant, tenant_id, by="system", now=NOW)
    assert ids(store) == ["default"]


def test_disabling_twice_is_once_and_written_down_once(store: Store) -> None:
    a_tenant(store)
    for change in (disable_tenant, disable_tenant, enable_tenant, enable_tenant):
        do(store, change, "acme", by="cli:ines", now=NOW)
    done = [(entry["actor"], entry["action"], entry["target"]) for entry in rows(store, audit)]
    assert done == [
        ("system", "tenant.add", "tenant:acme"),
        ("cli:ines", "tenant.disable", "tenant:acme"),
        ("cli:ines", "tenant.enable", "tenant:acme"),
    ]
    assert {row["id"]: row["disabled_at"] for row in rows(store, tenants)} == {"acme": None, "default": None}


# Users.


def test_an_e_mail_is_one_user_however_it_is_written(store: Store) -> None:
    a_tenant(store)
    user = a_user(store, "Ines@Acme.example ")
    assert user.email == "ines@acme.example"
    assert look(store, user_of, "INES@acme.example") == user
    with pytest.raises(BadInput, match=r"there is a user ines@acme\.example already"):
        a_user(store, "ines@ACME.example", Role.SUPER_ADMIN)
    with pytest.raises(BadInput, match="is no e-mail"):
        a_user(store, "ines")


def test_only_a_super_admin_is_without_a_tenant(store: Store) -> None:
    a_tenant(store)
    for role in Role:
        wrong = "acme" if role is Role.SUPER_ADMIN else None
        with pytest.raises(BadInput, match="tenant"):
            do(store, add_user, f"{role}@acme.example", role, wrong, by="system", now=NOW)
    with pytest.raises(BadInput, match="there is no tenant 'nobody'"):
        a_user(store, tenant="nobody")
    assert look(store, all_users) == []


def test_another_tenant_revokes_the_keys_and_another_role_does_not(store: Store) -> None:
    a_tenant(store)
    user = a_user(store)
    do(store, issue_key, user, KeyKind.LIVE, by="system", now=NOW)
    changed = do(store, set_role, user, Role.ASSISTANT, "acme", by="system", now=NOW)
    assert (changed.role, changed.tenant_id) == (Role.ASSISTANT, "acme")
    assert [key["revoked_at"] for key in rows(store, api_keys)] == [None]
    do(store, set_role, changed, Role.SUPER_ADMIN, None, by="system", now=NOW)
    assert None not in [key["revoked_at"] for key in rows(store, api_keys)]
    assert look(store, user_of, user.email).tenant_id is None
