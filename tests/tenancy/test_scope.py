"""What a caller may see of the tables that tenants own."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, func, select, text

from builders import a_prospect, somebody
from sluiceway.errors import NotAllowed
from sluiceway.store.engine import Store
from sluiceway.store.schema import attempts, documents, metadata, prospects, runs
from sluiceway.tenancy.caller import Principal
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.scope import OWNED, Scope, scope_of

ROOT = Principal("u", None, Role.SUPER_ADMIN)
INES = Principal("u", "acme", Role.TENANT_ADMIN)


@pytest.fixture
def _two_tenants(store: Store) -> None:
    for number, tenant in enumerate(("acme", "acme", "quell")):
        a_prospect(store, somebody(number), tenant)


def seen(connection: Connection, scope: Scope) -> list[str]:
    mine = scope.of(prospects)
    return list(connection.execute(select(mine.c.tenant_id).order_by(mine.c.tenant_id)).scalars())


@pytest.mark.usefixtures("_two_tenants")
def test_a_tenants_people_see_their_tenant_and_a_super_admin_sees_all(store: Store) -> None:
    with store.read() as connection:
        assert seen(connection, scope_of(INES)) == ["acme", "acme"]
        assert seen(connection, scope_of(INES, "acme")) == ["acme", "acme"]
        assert seen(connection, scope_of(ROOT)) == ["acme", "acme", "quell"]
        assert seen(connection, scope_of(ROOT, "quell")) == ["quell"]
        assert seen(connection, scope_of(ROOT, "nobody")) == []


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SUPER_ADMIN])
def test_naming_another_tenant_is_refused_whether_there_is_one_or_not(role: Role) -> None:
    for tenant in ("quell", "nobody"):
        with pytest.raises(NotAllowed, match="that tenant is not yours"):
            scope_of(Principal("u", "acme", role), tenant)
    with pytest.raises(NotAllowed):
        scope_of(Principal("u", None, role))


@pytest.mark.usefixtures("_two_tenants")
def test_both_sides_of_a_join_are_scoped(store: Store) -> None:
    with store.writing.begin() as connection:
        ids = connection.execute(select(prospects.c.tenant_id, prospects.c.id)).all()
        for number, (tenant, prospect_id) in enumerate(ids):
            stray = "quell" if number == 0 else tenant  # as a bug would leave it
            connection.execute(
                runs.insert().values(
                    id=f"r{number}", tenant_id=stray, prospect_id=prospect_id, trigger="file", worker_id="w",
                    opened_at="x", closed_at="x", status="complete",
                )
            )  # fmt: skip
        scope = scope_of(INES)
        mine, theirs = scope.of(prospects), scope.of(runs)
        query = select(func.count()).select_from(mine.join(theirs, theirs.c.prospect_id == mine.c.id))
        assert connection.execute(query).scalar() == 1


def test_what_belongs_to_no_tenant_is_nobodys_but_everybodys(store: Store) -> None:
    with store.read() as connection:
        mine = scope_of(INES).of(attempts)
        assert connection.execute(select(func.count()).select_from(mine)).scalar() == 0
    with pytest.raises(ValueError, match="documents has no tenant"):
        scope_of(ROOT).of(documents)


@pytest.mark.parametrize("name", sorted(OWNED))
def test_every_owned_table_can_be_scoped(store: Store, name: str) -> None:
    mine = Scope("acme").of(metadata.tables[name])
    with store.read() as connection:
        assert connection.execute(select(mine)).all() == []


def test_the_scope_costs_no_index(store: Store) -> None:
    mine = scope_of(INES).of(prospects)
    query = select(mine.c.id).where(mine.c.identity_key == "k").order_by(mine.c.identity_key)
    with store.read() as connection:
        compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
        plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))]
    assert len(plan) == 1
    assert "(tenant_id=? AND identity_key=?)" in plan[0]
