"""What each role may do, written a second time."""

from __future__ import annotations

from itertools import product

import pytest

from sluiceway.errors import NotAllowed
from sluiceway.store.schema import users
from sluiceway.tenancy.caller import Principal
from sluiceway.tenancy.roles import ALLOWED, Permission, Role, allows

TABLE = """
                      super_admin  tenant_admin  agent  assistant
read_prospects             x            x          x        x
read_usage                 x            x          x        x
write_prospects            x            x          x        .
search                     x            x          x        .
enrich                     x            x          x        .
export                     x            x          x        .
book_usage                 x            x          x        .
own_keys                   x            x          x        .
delete_prospects           x            x          .        .
manage_suppressions        x            x          .        .
manage_webhooks            x            x          .        .
read_activity              x            x          .        .
manage_users               x            x          .        .
manage_credentials         x            x          .        .
read_audit                 x            x          .        .
manage_tenants             x            .          .        .
operate                    x            .          .        .
"""
HEAD, *LINES = [line.split() for line in TABLE.strip().splitlines()]
WRITTEN = {(role, line[0]): mark == "x" for line in LINES for role, mark in zip(HEAD, line[1:], strict=True)}


def test_the_table_names_every_role_and_permission() -> None:
    assert WRITTEN.keys() == {(role.value, each.value) for role, each in product(Role, Permission)}
    assert ALLOWED.keys() == set(Permission)


@pytest.mark.parametrize(("role", "permission"), list(product(Role, Permission)))
def test_each_role_may_do_what_the_table_says_and_nothing_else(role: Role, permission: Permission) -> None:
    principal = Principal("u", None if role is Role.SUPER_ADMIN else "acme", role)
    assert allows(role, permission) == principal.may(permission) == WRITTEN[role.value, permission.value]
    if principal.may(permission):
        principal.must(permission)
    else:
        with pytest.raises(NotAllowed, match=f"the role {role} may not"):
            principal.must(permission)


def test_the_store_knows_the_same_roles() -> None:
    rule = next(str(check.sqltext) for check in users.constraints if getattr(check, "name", "") == "users_role")  # type: ignore[attr-defined]
    assert all(f"'{role}'" in rule for role in Role)
    assert rule.count("'") == 2 * len(Role)
