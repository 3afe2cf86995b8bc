"""Every route there is, tried by everybody who should not get in: nothing leaks, not even whether something exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from eventually import eventually
from people import with_people
from served import ACME, BELOW, GLOBEX, Served, serving
from sqlalchemy import select

from sluiceway.sandbox.process import SandboxProcess
from sluiceway.store.engine import open_store
from sluiceway.store.schema import api_keys, attempts, runs, source_results
from sluiceway.tenancy.keys import KeyKind, issue_key, revoke_key
from sluiceway.tenancy.roles import ALLOWED, Permission

PLANTED = "Xanthippe-Planted"
NOBODYS = "00000000000000000000000000000000"


class Operation(NamedTuple):
    """One method of one path, and what it takes to be let in (`None`: nothing, or only to be somebody)."""

    method: str
    path: str
    permission: Permission | None
    is_open: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, _one_sandbox: SandboxProcess) -> Iterator[Served]:
    """A service in which one tenant has everything there is to have."""
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('routes') / 'ledger.db'}")
    with serving(store, _one_sandbox) as served:
        yield served
    store.close()


@pytest.fixture(scope="module")
def operations(served: Served) -> list[Operation]:
    """Everything the OpenAPI document lists."""
    return [
        Operation(method.upper(), path, _permission(described), not described.get("security"))
        for path, methods in served.app.openapi()["paths"].items()
        for method, described in methods.items()
    ]


def _permission(described: Any) -> Permission | None:
    named = {role for scheme in described.get("security", ()) for roles in scheme.values() for role in roles}
    assert len(named) <= 1
    return next(map(Permission, named), None)


@pytest.fixture(scope="module")
def held(served: Served) -> dict[str, str]:
    """Ids of what the tenant has, by the names that paths give them."""
    return _everything(served)


def _everything(served: Served) -> dict[str, str]:
    prospects = with_people(served, 3)
    admin = f"tenant_admin@{ACME}"
    made = served.post("/batches", {"prospects": prospects, "name": PLANTED}, admin).json()
    eventually(lambda: served.get(f"/batches/{made['id']}", admin).json()["finished_at"])
    webhook = served.post("/webhooks", {"url": f"https://203.0.114.7/{PLANTED}"}, admin).json()["webhook"]
    with served.store.read() as connection:

        def one(column: Any, *where: Any) -> str:
            found: str = connection.execute(select(column).where(*where).limit(1)).scalar_one()
            return found

        return {
            "prospect_id": prospects[0],
            "batch_id": made["id"],
            "run_id": one(runs.c.id, runs.c.batch_id == made["id"]),
            "result_id": one(source_results.c.id),
            "attempt_id": one(attempts.c.id),
            "user_id": served.users[f"agent@{ACME}"].id,
            "key_id": one(api_keys.c.id, api_keys.c.tenant_id == ACME),
            "tenant_id": ACME,
            "quota_id": "apollo/requests/day",
            "webhook_id": webhook["id"],
        }


NAMES = {"provider": "apollo"}
"""What paths name that is nobody's."""


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: {**ids, **NAMES}[found[1]], path)


def test_every_operation_has_a_name_that_reads_as_one(served: Served) -> None:
    described = [each for methods in served.app.openapi()["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in described]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"search|[a-z]+(_[a-z]+)+", name) or "_api_" in name] == []


def test_every_operation_and_all_it_may_be_asked_with_is_described(served: Served) -> None:
    for path, methods in served.app.openapi()["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            asked = [each for each in operation.get("parameters", []) if each["in"] == "query"]
            assert [each["name"] for each in asked if not each.get("description")] == [], (method, path)


def test_every_route_but_the_open_ones_is_somebodys(operations: list[Operation]) -> None:
    assert {str(operation) for operation in operations if operation.is_open} == OPEN
    assert {str(operation) for operation in operations if not operation.permission} - OPEN == ANYBODYS


OPEN = {"POST /api/v1/session"}
"""What answers whoever asks."""

ANYBODYS = {"GET /api/v1/session", "DELETE /api/v1/session", "PUT /api/v1/session/password"}
"""What answers anybody who has shown who they are, about themselves."""


def test_nobody_is_let_in(served: Served, operations: list[Operation], held: dict[str, str]) -> None:
    for operation in operations:
        if not operation.is_open:
            answer = served.ask(operation.method, filled(operation.path, held), None)
            assert answer.status_code == 401, operation
            assert PLANTED not in answer.text


def test_a_revoked_key_is_nobody(served: Served, operations: list[Operation], held: dict[str, str]) -> None:
    now = served.store.clock.now()
    with served.store.change() as connection:
        issued = issue_key(connection, served.users[f"tenant_admin@{ACME}"], KeyKind.LIVE, by="test", now=now)
        revoke_key(connection, issued.key.id, by="test", now=now)
    for operation in operations:
        if not operation.is_open:
            headers = {"Authorization": f"Bearer {issued.text}"}
            answer = served.ask(operation.method, filled(operation.path, held), None, headers=headers)
            assert answer.status_code == 401, operation


@pytest.mark.parametrize("role", BELOW)
def test_a_role_is_refused_exactly_what_it_may_not(
    served: Served, operations: list[Operation], held: dict[str, str], role: str
) -> None:
    theirs = {**held, **dict.fromkeys(held, NOBODYS)}  # so that what is allowed changes nothing
    for operation in operations:
        if operation.permission is None:
            continue
        answer = served.ask(operation.method, filled(operation.path, theirs), f"{role}@{ACME}")
        refused = role not in ALLOWED[operation.permission]
        assert (answer.status_code == 403) == refused, (operation, answer.status_code, answer.text)


@pytest.mark.parametrize("role", BELOW)
def test_another_tenant_cannot_tell_what_exists(
    served: Served, operations: list[Operation], held: dict[str, str], role: str
) -> None:
    nobodys = dict.fromkeys(held, NOBODYS)
    for operation in operations:
        who = f"{role}@{GLOBEX}"
        real = served.ask(operation.method, filled(operation.path, held), who)
        made_up = served.ask(operation.method, filled(operation.path, nobodys), who)
        assert PLANTED not in real.text, operation
        if not operation.is_open and "{" in operation.path:
            assert real.status_code == made_up.status_code, operation
            assert without_ids(real.text, held) == without_ids(made_up.text, nobodys), operation


def without_ids(text: str, ids: dict[str, str]) -> str:
    """An answer without the ids that were asked about, nor the moment."""
    for value in ids.values():
        text = text.replace(value, "…")
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "…", text)


@pytest.mark.parametrize("role", BELOW)
def test_nobody_names_another_tenant(
    served: Served, operations: list[Operation], held: dict[str, str], role: str
) -> None:
    for operation in operations:
        if operation.permission is None:
            continue
        path = filled(operation.path, dict.fromkeys(held, NOBODYS))
        for tenant in (ACME, "never-heard-of"):
            answer = served.ask(operation.method, f"{path}?tenant={tenant}", f"{role}@{GLOBEX}")
            assert answer.status_code == 403, operation
